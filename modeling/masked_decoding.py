"""The loop that decodes windows of motion tokens by iterated masking, its random draws and its plans.

A window is a stretch of a token sequence. Some of its tokens are predicted; the model sees the others and keeps them.
Nothing here needs a model: a function that predicts logits is passed in.
"""

import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from .configuration_generation_lamp import MaskedMotionGenerationConfig


@dataclass
class Window:
    """A stretch of a sequence, and what is to be decided in it.

    Args:
        sequence: Token ids of the whole sequence, `(N,)`, on the CPU; the decided ones are written into it. With a
            residual tokenizer, those of the first codebook.
        start: First token of the stretch.
        editable: Which of its n tokens are to be decided, `(n,)`.
        generator: Draws the noise.
        conditions: What the K texts said, `(K, H)`.
        unconditional: What guidance leads away from, `(H,)`: the empty condition or that of a negative text.
        weights: Share of each text in each token, `(K, n)`; `None` with one text.
        residuals: Token ids of the other codebooks for the whole sequence, `(N, num_quantizers - 1)`; `None` if there
            are none.
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
        """The stretch itself."""
        return self.sequence[self.start : self.start + len(self)]

    @property
    def residual_tokens(self) -> torch.Tensor:
        """Its codes of the other codebooks, `(n, num_quantizers - 1)`."""
        if self.residuals is None:
            return self.tokens.new_empty(len(self), 0)
        return self.residuals[self.start : self.start + len(self)]


Predict = Callable[[list[Window], float], list[torch.Tensor]]
PredictResiduals = Callable[[list[Window], float, int], list[torch.Tensor]]


def draw_uniform(generator: torch.Generator, shape: tuple[int, ...]) -> torch.Tensor:
    """Numbers in [0, 1), on the CPU."""
    return torch.rand(shape, generator=generator)


def draw_gumbel(generator: torch.Generator, shape: tuple[int, ...]) -> torch.Tensor:
    """Gumbel noise: added to log probabilities, it makes the largest a draw from them."""
    uniform = draw_uniform(generator, shape)
    return -(-uniform.clamp(min=1e-20).log()).clamp(min=1e-20).log()


def likeliest(logits: torch.Tensor, top_k: int, top_p: float | None) -> torch.Tensor:
    """Logits `(n, V)`, minus infinity outside the `top_k` likeliest and outside the nucleus of `top_p`."""
    values, codes = logits.topk(min(top_k, logits.shape[-1]), dim=-1)
    if top_p is not None:
        shares = logits.softmax(-1).gather(-1, codes)
        # A code is in the nucleus if those before it do not fill it; the first always is.
        values = values.masked_fill(shares.cumsum(-1) - shares >= top_p, -torch.inf)
    return torch.full_like(logits, -torch.inf).scatter(-1, codes, values)


def draw_codes(
    logits: torch.Tensor, config: MaskedMotionGenerationConfig, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """One code for each row of `logits` `(n, V)`, and the probability of that code before any filter (T5)."""
    top_k = math.ceil(0.1 * logits.shape[-1]) if config.top_k is None else config.top_k
    allowed = likeliest(logits, top_k, config.top_p)
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
    """Decide the editable tokens of windows, in step; they must not share any.

    All start masked. In every step all masked tokens are guessed, and the least sure of them are masked
    again: fewer each time, by a cosine schedule that leaves one for the last step.

    Args:
        windows: What to decide.
        predict: Guided logits `(n, num_codes)` of each window's tokens as they stand, on the CPU.
        config: How.
        mask_id: Id of the mask token.
        on_step: Called after every step.
    """
    shares = torch.cos(torch.linspace(0, 1, config.num_inference_steps) * math.pi * 0.5)
    sureness = [torch.zeros(len(window)).masked_fill(~window.editable, torch.inf) for window in windows]
    for share in shares:
        masks = []
        for window, sure in zip(windows, sureness, strict=True):
            count = (share * window.editable.sum()).round().clamp(min=1)
            masked = (sure.argsort(stable=True).argsort() < count) & window.editable
            window.tokens[masked] = mask_id
            masks.append(masked)
        for index, logits in enumerate(predict(windows, config.guidance_scale)):
            window, masked = windows[index], masks[index]
            codes, probabilities = draw_codes(logits, config, window.generator)
            window.tokens[masked] = codes[masked]
            sure = probabilities
            if config.remasking_noise:
                noise = draw_gumbel(window.generator, tuple(sure.shape))
                sure = sure.clamp(min=1e-20).log() + config.remasking_noise * share * noise
            sureness[index] = sure.masked_fill(~masked, torch.inf)
        if on_step is not None:
            on_step()


def decode_residuals(
    windows: list[Window],
    predict: PredictResiduals,
    config: MaskedMotionGenerationConfig,
    on_step: Callable[[], None] | None = None,
) -> None:
    """Decide the codes of all codebooks after the first, of the editable tokens of windows.

    Args:
        windows: What to decide; the first codes are decided.
        predict: Guided logits `(n, num_codes)` of each window's codes of a codebook, from those of the codebooks before
            it, on the CPU.
        config: How.
        on_step: Called after every codebook.
    """
    for codebook in range(1, windows[0].residual_tokens.shape[-1] + 1):
        for window, logits in zip(windows, predict(windows, config.guidance_scale, codebook), strict=True):
            codes, _ = draw_codes(logits, config, window.generator)
            window.residual_tokens[window.editable, codebook - 1] = codes[window.editable]
        if on_step is not None:
            on_step()


def plan_windows(editable: torch.Tensor, max_tokens: int) -> list[tuple[int, int, torch.Tensor]]:
    """Cover what is to be decided by windows of at most `max_tokens`, to be decoded one after the other.

    A window has what it decides in its middle, as far as the sequence allows. Where that is too long, the
    next window sees the last third of a window before it goes on.

    Args:
        editable: `(n,)`.
        max_tokens: Longest window.

    Returns:
        For each window its start, its end and what it decides, `(end - start,)`.
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
    """Stretch around the seam between parts `seam` and `seam + 1` of a sequence.

    Args:
        lengths: Tokens of all parts.
        seam: Which seam.
        reach: How many tokens are decided again on each side; half of a part at most, so that stretches never
            meet.
        max_tokens: Longest stretch.

    Returns:
        Its first token, its end, and the first and the end of what is decided again.
    """
    total, at = sum(lengths), sum(lengths[: seam + 1])
    reach = min(reach, max_tokens // 2)
    first, end = at - min(reach, lengths[seam] // 2), at + min(reach, lengths[seam + 1] // 2)
    start = max(0, min(at - max_tokens // 2, total - max_tokens))
    return start, min(start + max_tokens, total), first, end


def equal_passes(sizes: Sequence[Hashable], rows: int) -> Iterator[list[int]]:
    """Indices of items of one size, `rows` at a time; the last ones of a size are filled up with repeats."""
    groups: dict[Hashable, list[int]] = {}
    for index, size in enumerate(sizes):
        groups.setdefault(size, []).append(index)
    for group in groups.values():
        for start in range(0, len(group), rows):
            indices = group[start : start + rows]
            yield indices + indices[:1] * (rows - len(indices))


def part_generator(seed: int, part: int) -> torch.Generator:
    """Noise of one part of a motion; the first part's is that of the seed itself."""
    if part:
        seed = int(np.random.SeedSequence([seed, part]).generate_state(1, np.uint64)[0] >> np.uint64(1))
    return torch.Generator().manual_seed(seed)


def draw_seed() -> int:
    """A seed from torch's own generator, so that `transformers.set_seed` also fixes calls without one."""
    return int(torch.randint(2**31, ()))
