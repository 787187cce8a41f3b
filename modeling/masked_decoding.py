"""Iterated masked decoding of motion tokens: the loop, its random draws and the windows it runs on.

A window is a part of a token sequence. Some of its tokens are decoded; the others are given and visible to the model.
Nothing here needs a model: the loop takes a function that predicts logits.
"""

import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from .configuration_generation_lamp import MaskedMotionGenerationConfig


@dataclass
class Window:
    """A part of a sequence and the tokens to decode in it.

    Args:
        sequence: Token ids of the whole sequence, `(N,)`, on the CPU. Decoded ids are written into it. With a residual
            tokenizer, they are the codes of the first codebook.
        start: First token of the window.
        editable: Mask of its n tokens, `(n,)`, true on tokens to decode.
        generator: Generator of the noise.
        conditions: Conditions of the K texts, `(K, H)`.
        unconditional: Condition that guidance steers away from, `(H,)`: the empty condition or the condition of a
            negative text.
        weights: Weight of each text for each token, `(K, n)`; `None` with one text.
        residuals: Codes of the other codebooks for the whole sequence, `(N, num_quantizers - 1)`; `None` if there are
            none.
    """

    sequence: torch.Tensor
    start: int
    editable: torch.Tensor
    generator: torch.Generator
    conditions: torch.Tensor
    unconditional: torch.Tensor
    weights: torch.Tensor | None = None
    residuals: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.editable)

    @property
    def tokens(self) -> torch.Tensor:
        """Token ids of the window, `(n,)`; a view of `sequence`."""
        return self.sequence[self.start : self.start + len(self)]

    @property
    def residual_tokens(self) -> torch.Tensor:
        """Codes of the other codebooks in the window, `(n, num_quantizers - 1)`; a view of `residuals`."""
        if self.residuals is None:
            return self.tokens.new_empty(len(self), 0)
        return self.residuals[self.start : self.start + len(self)]


Predict = Callable[[list[Window], float], list[torch.Tensor]]
PredictResiduals = Callable[[list[Window], float, int], list[torch.Tensor]]


def draw_uniform(generator: torch.Generator, shape: tuple[int, ...]) -> torch.Tensor:
    """Draw numbers in [0, 1) on the CPU."""
    return torch.rand(shape, generator=generator)


def draw_gumbel(generator: torch.Generator, shape: tuple[int, ...]) -> torch.Tensor:
    """Draw Gumbel noise; the argmax of log probabilities plus this noise is a sample from them."""
    uniform = draw_uniform(generator, shape)
    return -(-uniform.clamp(min=1e-20).log()).clamp(min=1e-20).log()


def keep_likely(logits: torch.Tensor, top_k: int, top_p: float | None) -> torch.Tensor:
    """Set logits `(n, V)` outside the `top_k` largest and outside the nucleus of `top_p` to minus infinity."""
    values, codes = logits.topk(min(top_k, logits.shape[-1]), dim=-1)
    if top_p is not None:
        shares = logits.softmax(-1).gather(-1, codes)
        # A code is in the nucleus if more likely codes do not fill it; the most likely code always is.
        values = values.masked_fill(shares.cumsum(-1) - shares >= top_p, -torch.inf)
    return torch.full_like(logits, -torch.inf).scatter(-1, codes, values)


def draw_codes(
    logits: torch.Tensor, config: MaskedMotionGenerationConfig, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sample one code per row of `logits` `(n, V)` and return the codes with their unfiltered probabilities (T5)."""
    top_k = math.ceil(0.1 * logits.shape[-1]) if config.top_k is None else config.top_k
    allowed = keep_likely(logits, top_k, config.top_p)
    if config.temperature:
        allowed = allowed / config.temperature + draw_gumbel(generator, tuple(logits.shape))
    codes = allowed.argmax(-1)
    return codes, logits.softmax(-1).gather(-1, codes[:, None]).squeeze(-1)


def decode_windows(
    windows: list[Window],
    predict: Predict,
    config: MaskedMotionGenerationConfig,
    mask_id: int,
    on_step: Callable[[], None] | None = None,
) -> None:
    """Decode the editable tokens of windows together; windows must not share editable tokens.

    All editable tokens start masked. Each step predicts all masked tokens and masks the least confident ones again. A
    cosine schedule reduces their number to one for the last step.

    Args:
        windows: Windows to decode in place.
        predict: Returns guided logits `(n, num_codes)` of the current tokens of each window, on the CPU.
        config: Generation settings.
        mask_id: Id of the mask token.
        on_step: Called after every step.
    """
    shares = torch.cos(torch.linspace(0, 1, config.num_inference_steps) * math.pi * 0.5)
    confidence = [torch.zeros(len(window)).masked_fill(~window.editable, torch.inf) for window in windows]
    for share in shares:
        masks = []
        for window, scores in zip(windows, confidence, strict=True):
            count = (share * window.editable.sum()).round().clamp(min=1)
            masked = (scores.argsort(stable=True).argsort() < count) & window.editable
            window.tokens[masked] = mask_id
            masks.append(masked)
        for index, logits in enumerate(predict(windows, config.guidance_scale)):
            window, masked = windows[index], masks[index]
            codes, probabilities = draw_codes(logits, config, window.generator)
            window.tokens[masked] = codes[masked]
            scores = probabilities
            if config.remasking_noise:
                noise = draw_gumbel(window.generator, tuple(scores.shape))
                scores = scores.clamp(min=1e-20).log() + config.remasking_noise * share * noise
            confidence[index] = scores.masked_fill(~masked, torch.inf)
        if on_step is not None:
            on_step()


def decode_residuals(
    windows: list[Window],
    predict: PredictResiduals,
    config: MaskedMotionGenerationConfig,
    on_step: Callable[[], None] | None = None,
) -> None:
    """Decode the codes of all codebooks after the first for the editable tokens of windows.

    Args:
        windows: Windows to decode in place, with the codes of the first codebook decoded.
        predict: Returns guided logits `(n, num_codes)` of one codebook for each window, given the codes of the
            codebooks before it, on the CPU.
        config: Generation settings.
        on_step: Called after every codebook.
    """
    for codebook in range(1, windows[0].residual_tokens.shape[-1] + 1):
        for window, logits in zip(windows, predict(windows, config.guidance_scale, codebook), strict=True):
            codes, _ = draw_codes(logits, config, window.generator)
            window.residual_tokens[window.editable, codebook - 1] = codes[window.editable]
        if on_step is not None:
            on_step()


def plan_windows(editable: torch.Tensor, max_tokens: int) -> list[tuple[int, int, torch.Tensor]]:
    """Cover the editable tokens with windows of at most `max_tokens`, to decode one after the other.

    The editable tokens are in the middle of a window as far as the sequence allows. If they do not fit into one window,
    the next window starts with tokens of the last one, a third of `max_tokens` at least.

    Args:
        editable: Mask of the sequence, `(N,)`, true on tokens to decode.
        max_tokens: Length of the longest window.

    Returns:
        The start, the end and the editable mask `(end - start,)` of each window.
    """
    length, pending, windows = len(editable), editable.clone(), []
    while pending.any():
        positions = pending.nonzero().flatten()
        first, last = int(positions[0]), int(positions[-1])
        context = max(max_tokens - (last + 1 - first), 2 * (max_tokens // 3))
        start = max(0, min(first - context // 2, length - max_tokens))
        end = min(start + max_tokens, length)
        windows.append((start, end, pending[start:end].clone()))
        pending[start:end] = False
    return windows


def plan_seam(lengths: Sequence[int], seam: int, reach: int, max_tokens: int) -> tuple[int, int, int, int]:
    """Plan the window around the seam between parts `seam` and `seam + 1` of a sequence.

    Args:
        lengths: Number of tokens of each part.
        seam: Index of the seam.
        reach: Number of tokens to decode again on each side, at most half of a part, so that the tokens of two seams
            never overlap.
        max_tokens: Length of the longest window.

    Returns:
        The start and the end of the window, then the start and the end of the tokens to decode again.
    """
    total, at = sum(lengths), sum(lengths[: seam + 1])
    reach = min(reach, max_tokens // 2)
    first, end = at - min(reach, lengths[seam] // 2), at + min(reach, lengths[seam + 1] // 2)
    start = max(0, min(at - max_tokens // 2, total - max_tokens))
    return start, min(start + max_tokens, total), first, end


def equal_passes(sizes: Sequence[Hashable], rows: int) -> Iterator[list[int]]:
    """Yield indices of items of equal size, `rows` at a time; the last batch of a size is filled up with repeats."""
    groups: dict[Hashable, list[int]] = {}
    for index, size in enumerate(sizes):
        groups.setdefault(size, []).append(index)
    for group in groups.values():
        for start in range(0, len(group), rows):
            indices = group[start : start + rows]
            yield indices + indices[:1] * (rows - len(indices))


def part_generator(seed: int, part: int) -> torch.Generator:
    """Return the noise generator of one part of a motion; part 0 uses the seed itself."""
    if part:
        seed = int(np.random.SeedSequence([seed, part]).generate_state(1, np.uint64)[0] >> np.uint64(1))
    return torch.Generator().manual_seed(seed)


def draw_seed() -> int:
    """Draw a seed from torch's global generator, so that `transformers.set_seed` also fixes calls without a seed."""
    return int(torch.randint(2**31, ()))
