"""Hide motion tokens in training, by the recipe of BERT and a cosine schedule (LaMP, section 3.3)."""

import math
from dataclasses import dataclass

import torch

from .distributed import uniform_rows
from .motion_quantizers import IGNORED_CODE

__all__ = ["MaskingDraws", "mask_codes"]

# Of the tokens to predict, this share shows a random code, and of the others this share shows the mask (T5).
RANDOM_SHARE = 0.1
MASK_SHARE = 0.88


@dataclass
class MaskingDraws:
    """Random numbers that hide tokens in training, uniform in [0, 1) but for `codes`.

    Args:
        time: Decides how many tokens of a clip are predicted, `(B,)`.
        order: The tokens with the lowest numbers are, `(B, n)`.
        replace: Below `RANDOM_SHARE`, a token to predict shows a random code, `(B, n)`.
        hide: Below `MASK_SHARE`, another one shows the mask, else itself, `(B, n)`.
        codes: Random codes, `(B, n)`.
        depth: With several codebooks, decides which of those after the first is predicted, `(B,)`.
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
        """Draw numbers for codes `(B, n)` by [`uniform_rows`]; the generator is on the device of the codes."""
        rows, length = motion_codes.shape
        time, order, replace, hide, codes, depth = (
            uniform_rows(rows, columns, motion_codes.device, generator)
            for columns in (1, length, length, length, length, 1)
        )
        return cls(time[:, 0], order, replace, hide, (codes * num_codes).long(), depth[:, 0])


def mask_codes(motion_codes: torch.Tensor, draws: MaskingDraws, num_codes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Hide tokens by the recipe of BERT and a cosine schedule (T5).

    The number of tokens to predict depends on the clip's own length, not on the longest of the batch as in the
    released code: padding changes nothing.

    Args:
        motion_codes: `(B, n)`, negative on padding.
        draws: Random numbers.
        num_codes: Codes of the tokenizer. The mask's id is `num_codes`, the padding's `num_codes + 1`.

    Returns:
        Token ids to show `(B, n)`, and the codes to predict, -100 elsewhere, `(B, n)`.
    """
    real = motion_codes >= 0
    share = torch.cos(draws.time * math.pi / 2)
    count = (real.sum(-1) * share).round().clamp(min=1)
    order = draws.order.masked_fill(~real, torch.inf)
    guessed = (order.argsort(-1).argsort(-1) < count[:, None]) & real
    random = guessed & (draws.replace < RANDOM_SHARE)
    hidden = guessed & ~random & (draws.hide < MASK_SHARE)
    ids = motion_codes.masked_fill(~real, num_codes + 1)
    ids = torch.where(random, draws.codes, ids).masked_fill(hidden, num_codes)
    return ids, motion_codes.masked_fill(~guessed, IGNORED_CODE)
