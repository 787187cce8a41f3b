"""Masking of motion tokens in training, as in BERT and with a cosine schedule (LaMP, section 3.3)."""

import math
from dataclasses import dataclass

import torch

from .distributed import uniform_rows
from .motion_quantizers import IGNORED_CODE

__all__ = ["MaskingDraws", "mask_codes"]

# Share of the tokens to predict that get a random code, and share of the others that get the mask (T5).
RANDOM_SHARE = 0.1
MASK_SHARE = 0.88


@dataclass
class MaskingDraws:
    """Random numbers that decide which tokens are masked; uniform in [0, 1), except `codes`.

    Args:
        time: Decides how many tokens of a clip are predicted, `(B,)`.
        order: Decides which tokens are predicted, those with the lowest numbers, `(B, n)`.
        replace: Below `RANDOM_SHARE`, a token to predict is replaced by a random code, `(B, n)`.
        hide: Below `MASK_SHARE`, another token to predict is replaced by the mask; otherwise it is kept, `(B, n)`.
        codes: Random codes, `(B, n)`.
        depth: With several codebooks, decides which codebook after the first is predicted, `(B,)`.
    """

    time: torch.Tensor
    order: torch.Tensor
    replace: torch.Tensor
    hide: torch.Tensor
    codes: torch.Tensor
    depth: torch.Tensor | None = None

    @classmethod
    def draw(
        cls, motion_codes: torch.Tensor, num_codes: int, generator: torch.Generator | None = None
    ) -> "MaskingDraws":
        """Draw numbers for codes `(B, n)`; the generator is on the device of the codes."""
        rows, length = motion_codes.shape
        time, order, replace, hide, codes, depth = (
            uniform_rows(rows, columns, motion_codes.device, generator)
            for columns in (1, length, length, length, length, 1)
        )
        return cls(time[:, 0], order, replace, hide, (codes * num_codes).long(), depth[:, 0])


def mask_codes(motion_codes: torch.Tensor, draws: MaskingDraws, num_codes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Mask tokens as in BERT, with a cosine schedule (T5).

    The number of tokens to predict depends on the length of the clip, not on the longest clip of the batch as in the
    released code, so padding does not change it.

    Args:
        motion_codes: Codes, `(B, n)`, negative on padding.
        draws: Random numbers.
        num_codes: Number of codes of the tokenizer. The mask has the id `num_codes`, padding has `num_codes + 1`.

    Returns:
        Token ids for the model, `(B, n)`, and the codes to predict, `(B, n)`, -100 on other tokens.
    """
    real = motion_codes >= 0
    share = torch.cos(draws.time * math.pi / 2)
    count = (real.sum(-1) * share).round().clamp(min=1)
    order = draws.order.masked_fill(~real, torch.inf)
    predicted = (order.argsort(-1).argsort(-1) < count[:, None]) & real
    random = predicted & (draws.replace < RANDOM_SHARE)
    hidden = predicted & ~random & (draws.hide < MASK_SHARE)
    ids = motion_codes.masked_fill(~real, num_codes + 1)
    ids = torch.where(random, draws.codes, ids).masked_fill(hidden, num_codes)
    return ids, motion_codes.masked_fill(~predicted, IGNORED_CODE)
