"""Quantizers between the encoder and the decoder of the motion tokenizer.

All quantizers have four methods: `nearest` returns the codes of latents, `lookup` returns the latents of codes,
`forward` returns both and the losses of training, and `settle` freezes codes. The configuration decides which one a
tokenizer uses:

- [`CodebookQuantizer`], as in the paper: one learned codebook.
- [`ResidualQuantizer`], with `num_quantizers` above 1: several codebooks, each for the residual of those before it.
- [`FiniteScalarQuantizer`], with `scalar_levels`: a grid instead of a codebook, without dead codes.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import cast

import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional as F

from .configuration_lamp import MotionVQVAEConfig
from .distributed import gather_rows, mean_error, num_processes, uniform_rows

__all__ = [
    "IGNORED_CODE",
    "CodebookQuantizer",
    "FiniteScalarQuantizer",
    "MotionQuantizer",
    "QuantizerOutput",
    "ResidualQuantizer",
    "first_codes",
    "motion_quantizer",
]

IGNORED_CODE = -100  # marks padding among motion codes, as in every Hugging Face label tensor


def first_codes(codes: torch.Tensor) -> torch.Tensor:
    """Return the first code of each token, `(B, n)`, given codes `(B, n)` or `(B, n, num_quantizers)`."""
    return codes if codes.ndim == 2 else codes[..., 0]


@dataclass
class QuantizerOutput:
    """Result of a quantizer.

    Args:
        latents: Quantized latents, `(B, n, code_dim)`, zero on padding, with a straight-through gradient.
        codes: Codes, `(B, n)`, or `(B, n, num_quantizers)` of a [`ResidualQuantizer`]; -100 on padding.
        commitment_loss: Mean squared distance between latents and their codes, `()`; zero without a codebook.
        perplexity: Exponential of the entropy of code usage in this batch, `()`; mean over codebooks.
    """

    latents: torch.Tensor
    codes: torch.Tensor
    commitment_loss: torch.Tensor
    perplexity: torch.Tensor


class MotionQuantizer(nn.Module, ABC):
    """Base class of quantizers. They compute in float32, also under autocast."""

    @abstractmethod
    def nearest(self, latents: torch.Tensor) -> torch.Tensor:
        """Return the codes of latents `(..., code_dim)`: `(...)`, or `(..., num_quantizers)` with several codebooks."""

    @abstractmethod
    def lookup(self, codes: torch.Tensor) -> torch.Tensor:
        """Return the quantized latents `(..., code_dim)` of codes from `nearest`, none negative."""

    def lookup_first(self, codes: torch.Tensor) -> torch.Tensor:
        """Return the vectors `(..., code_dim)` of codes `(...)` of the first codebook."""
        return self.lookup(codes)

    @abstractmethod
    def forward(self, latents: torch.Tensor, mask: torch.Tensor) -> QuantizerOutput:
        """Quantize latents `(B, n, code_dim)` where `mask` `(B, n)` is true; in training mode, update the codebook."""

    @abstractmethod
    def settle(self, codes: torch.Tensor) -> None:
        """Freeze codes from `nearest`, so that training does not change their meaning."""


def _perplexity(codes: torch.Tensor, mask: torch.Tensor, num_codes: int) -> torch.Tensor:
    counts = torch.zeros(num_codes, device=codes.device)
    counts = counts.scatter_add(0, codes.flatten(), mask.flatten().float())
    share = counts / counts.sum().clamp(min=1)
    return torch.exp(-(share * torch.log(share + 1e-7)).sum())


class CodebookQuantizer(MotionQuantizer):
    """Codebook learned by exponential moving averages, with dead codes replaced (V1, V4).

    All state is in persistent buffers, so that runs resume exactly. The sum of the rows of a code, which the released
    code also stores, is its vector times its count.
    """

    def __init__(self, config: MotionVQVAEConfig):
        super().__init__()
        self.config = config
        self.register_buffer("codebook", torch.zeros(config.num_codes, config.code_dim))
        self.register_buffer("code_count", torch.ones(config.num_codes))
        self.register_buffer("initialized", torch.zeros((), dtype=torch.bool))
        # Frozen codes, while other codes are trained; part of a training run, not of a model.
        self.register_buffer("settled", torch.zeros(config.num_codes, dtype=torch.bool), persistent=False)
        self.codebook: torch.Tensor
        self.code_count: torch.Tensor
        self.initialized: torch.Tensor
        self.settled: torch.Tensor

    def nearest(self, latents: torch.Tensor) -> torch.Tensor:
        """Return the indices `(...)` of the nearest codes."""
        rows, codebook = latents.float(), self.codebook.float()
        with torch.autocast(rows.device.type, enabled=False):  # bfloat16 would confuse close codes
            distances = codebook.pow(2).sum(-1) - 2 * F.linear(rows, codebook)
        return distances.argmin(-1)

    def lookup(self, codes: torch.Tensor) -> torch.Tensor:
        """Return the vectors of codes."""
        return self.codebook[codes]

    def settle(self, codes: torch.Tensor) -> None:
        """Freeze these codes; the others are trained."""
        self.settled[codes.flatten().to(self.settled.device)] = True

    def candidate_rows(self, rows: torch.Tensor) -> torch.Tensor:
        """Draw `num_codes` random rows of the joint batch, repeated with a little noise if the batch has too few."""
        rows, _ = gather_rows(rows)
        num_codes, num_rows = self.config.num_codes, rows.shape[0]
        order = torch.randperm(num_rows, device=rows.device)
        if num_rows < num_codes:
            order = order.repeat(-(-num_codes // num_rows))
            noise = torch.randn(num_codes, rows.shape[1], device=rows.device, dtype=rows.dtype)
            candidates = rows[order[:num_codes]] + noise * (0.01 / rows.shape[1] ** 0.5)
        else:
            candidates = rows[order[:num_codes]]
        if num_processes() > 1:  # random states of processes may differ because of dropout
            dist.broadcast(candidates, 0)
        return candidates

    @torch.no_grad()
    def update(self, rows: torch.Tensor, codes: torch.Tensor) -> None:
        """Update the moving averages with rows `(N, code_dim)` and their codes `(N,)`."""
        mu = self.config.ema_decay
        batch_sum = torch.zeros_like(self.codebook, dtype=rows.dtype).index_add_(0, codes, rows)
        batch_count = torch.bincount(codes, minlength=self.config.num_codes).to(rows.dtype)
        candidates = self.candidate_rows(rows)
        if num_processes() > 1:  # statistics of the joint batch
            dist.all_reduce(batch_sum)
            dist.all_reduce(batch_count)
        code_sum = mu * self.code_count[:, None] * self.codebook + (1 - mu) * batch_sum
        self.code_count.mul_(mu).add_(batch_count, alpha=1 - mu)
        self.codebook.copy_(torch.where(self.settled[:, None], self.codebook, code_sum / self.code_count[:, None]))
        dead = (self.code_count < self.config.code_reset_threshold) & ~self.settled
        self.codebook.copy_(torch.where(dead[:, None], candidates, self.codebook))
        # A count of one gives a replaced code time to find its own rows. With the old statistics, which the released
        # code keeps, it would be replaced again at every step and converge to the mean of all rows.
        self.code_count.masked_fill_(dead, 1)

    @torch.no_grad()
    def initialize(self, rows: torch.Tensor) -> None:
        """Fill the codebook from the first training batch."""
        self.codebook.copy_(self.candidate_rows(rows))
        self.code_count.fill_(1)
        self.initialized.fill_(True)

    def forward(self, latents: torch.Tensor, mask: torch.Tensor) -> QuantizerOutput:
        states = latents.float()
        if self.training and not self.initialized:
            self.initialize(states.detach()[mask])
        codes = self.nearest(states)
        nearest = self.codebook[codes].float()
        # As in the released code (V4), quantize with the old codebook, then update it.
        if self.training:
            self.update(states.detach()[mask], codes[mask])
        return QuantizerOutput(
            latents=(states + (nearest - states).detach()).to(latents.dtype) * mask[..., None],
            codes=codes.masked_fill(~mask, IGNORED_CODE),
            commitment_loss=mean_error((states - nearest).pow(2), mask, joint=self.training),
            perplexity=_perplexity(codes, mask, self.config.num_codes),
        )


class ResidualQuantizer(MotionQuantizer):
    """Codebooks applied one after the other, each to the residual of those before it.

    After SoundStream (Zeghidour et al., 2021), which also introduced `quantizer_dropout`, and MoMask (Guo et al.,
    2024), which applied both to motion. A token has `num_quantizers` codes, the coarsest first; the first codes alone
    are a coarser token.
    """

    def __init__(self, config: MotionVQVAEConfig):
        super().__init__()
        self.config = config
        self.layers = nn.ModuleList(CodebookQuantizer(config) for _ in range(config.num_quantizers))

    def _codebooks(self) -> list[CodebookQuantizer]:
        return [cast(CodebookQuantizer, layer) for layer in self.layers]

    def nearest(self, latents: torch.Tensor) -> torch.Tensor:
        """Return the codes `(..., num_quantizers)`."""
        residual, codes = latents.float(), []
        for layer in self._codebooks():
            codes.append(layer.nearest(residual))
            residual = residual - layer.lookup(codes[-1]).float()
        return torch.stack(codes, dim=-1)

    def lookup(self, codes: torch.Tensor) -> torch.Tensor:
        """Return the sums of the vectors of codes `(..., k)` of the first k codebooks; negative codes add nothing."""
        vectors = [
            layer.lookup(codes[..., k].clamp(min=0)) * (codes[..., k, None] >= 0)
            for k, layer in enumerate(self._codebooks()[: codes.shape[-1]])
        ]
        return torch.stack(vectors).sum(0)

    def lookup_first(self, codes: torch.Tensor) -> torch.Tensor:
        """Return the vectors of codes `(...)` of the first codebook."""
        return self._codebooks()[0].lookup(codes)

    def code_vectors(self, codebooks: torch.Tensor) -> torch.Tensor:
        """Return the vectors of all codes of the codebooks with these indices `(B,)`: `(B, num_codes, code_dim)`."""
        return torch.stack([layer.codebook for layer in self._codebooks()])[codebooks]

    def settle(self, codes: torch.Tensor) -> None:
        """Freeze these codes of each codebook."""
        for k, layer in enumerate(self._codebooks()):
            layer.settle(codes[..., k])

    def _used_layers(self, mask: torch.Tensor) -> torch.Tensor:
        """Return how many codebooks each clip uses, `(B,)`; in training, some clips use only the first few."""
        total, batch = self.config.num_quantizers, len(mask)
        used = torch.full((batch,), total, device=mask.device)
        if self.training and self.config.quantizer_dropout:
            chance, amount = uniform_rows(batch, 2, mask.device).unbind(-1)
            used = torch.where(chance < self.config.quantizer_dropout, 1 + (amount * total).long(), used)
            if num_processes() == 1 or dist.get_rank() == 0:
                used[0] = total  # so that every codebook gets rows
        return used

    def forward(self, latents: torch.Tensor, mask: torch.Tensor) -> QuantizerOutput:
        states = latents.float()
        used = self._used_layers(mask)
        residual, outputs = states, []
        for k, layer in enumerate(self._codebooks()):
            outputs.append(layer(residual, mask & (used > k)[:, None]))
            residual = residual - outputs[-1].latents.detach()
        return QuantizerOutput(
            latents=(states - residual.detach()).to(latents.dtype) * mask[..., None],
            codes=torch.stack([output.codes for output in outputs], dim=-1),
            commitment_loss=torch.stack([output.commitment_loss for output in outputs]).mean(),
            perplexity=torch.stack([output.perplexity for output in outputs]).mean(),
        )


class FiniteScalarQuantizer(MotionQuantizer):
    """Rounds each of a few numbers to one of a few levels; a code is the index of a combination of levels.

    After "Finite Scalar Quantization: VQ-VAE Made Simple" (Mentzer et al., 2023). Learned projections map latents to
    these numbers and back, so that latents have the same size as with a codebook.
    """

    def __init__(self, config: MotionVQVAEConfig):
        super().__init__()
        self.levels = tuple(cast(list[int], config.scalar_levels))
        self.num_codes = config.num_codes
        self.project_in = nn.Linear(config.code_dim, len(self.levels))
        self.project_out = nn.Linear(len(self.levels), config.code_dim)

    def _bounded(self, latents: torch.Tensor) -> torch.Tensor:
        """Return numbers `(..., len(levels))` that round to levels: -2 to 2 for five levels, -4 to 3 for eight."""
        with torch.autocast(latents.device.type, enabled=False):  # rounding decides the codes
            numbers = self.project_in(latents.to(self.project_in.weight.dtype)).float()
        levels = torch.tensor(self.levels, device=numbers.device)
        half = (levels - 1) * (1 + 1e-3) / 2  # slightly more, so that tanh reaches the outermost levels
        offset = 0.5 * (levels % 2 == 0)
        return torch.tanh(numbers + torch.atanh(offset / half)) * half - offset

    def _expand(self, numbers: torch.Tensor) -> torch.Tensor:
        """Scale levels to [-1, 1] and project them to latents."""
        scaled = numbers / (torch.tensor(self.levels, device=numbers.device) // 2)
        with torch.autocast(numbers.device.type, enabled=False):
            return self.project_out(scaled.to(self.project_out.weight.dtype))

    def _codes(self, rounded: torch.Tensor) -> torch.Tensor:
        levels = torch.tensor(self.levels, device=rounded.device)
        return ((rounded.long() + levels // 2) * self._place_values(rounded.device)).sum(-1)

    def _place_values(self, device: torch.device) -> torch.Tensor:
        """Return how much one level of each number adds to the code."""
        return torch.tensor([math.prod(self.levels[:place]) for place in range(len(self.levels))], device=device)

    def nearest(self, latents: torch.Tensor) -> torch.Tensor:
        """Return the codes `(...)`."""
        return self._codes(self._bounded(latents).round())

    def lookup(self, codes: torch.Tensor) -> torch.Tensor:
        """Return the latents of codes."""
        levels = torch.tensor(self.levels, device=codes.device)
        steps = codes[..., None] // self._place_values(codes.device) % levels
        return self._expand((steps - levels // 2).float())

    def settle(self, codes: torch.Tensor) -> None:
        """Freeze the projections, which all codes share."""
        self.requires_grad_(False)

    def forward(self, latents: torch.Tensor, mask: torch.Tensor) -> QuantizerOutput:
        bounded = self._bounded(latents)
        rounded = bounded.round()
        codes = self._codes(rounded.detach())
        quantized = self._expand(bounded + (rounded - bounded).detach())
        return QuantizerOutput(
            latents=quantized.to(latents.dtype) * mask[..., None],
            codes=codes.masked_fill(~mask, IGNORED_CODE),
            commitment_loss=torch.zeros((), device=latents.device),
            perplexity=_perplexity(codes, mask, self.num_codes),
        )


def motion_quantizer(config: MotionVQVAEConfig) -> MotionQuantizer:
    """Create the quantizer of a configuration."""
    if config.scalar_levels is not None:
        return FiniteScalarQuantizer(config)
    return ResidualQuantizer(config) if config.num_quantizers > 1 else CodebookQuantizer(config)
