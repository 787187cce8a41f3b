"""The motion tokenizer: a 1-D convolutional VQ-VAE with one token for four frames (after T2M-GPT, section 3.1)."""

from dataclasses import dataclass
from typing import Self, cast

import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional as F
from transformers import initialization as init
from transformers.utils.generic import ModelOutput

from .checkpoints import LampBaseModel
from .configuration_lamp import MotionVQVAEConfig
from .distributed import gather_rows, global_mean, num_processes

__all__ = ["MotionVQVAEModel", "MotionVQVAEOutput", "length_mask"]

IGNORED_CODE = -100  # marks padding among motion codes, as in every Hugging Face label tensor


def length_mask(lengths: torch.Tensor, size: int) -> torch.Tensor:
    """Boolean mask `(B, size)`, true on the first `lengths[b]` positions of row b."""
    return torch.arange(size, device=lengths.device)[None, :] < lengths[:, None]


@dataclass
class MotionVQVAEOutput(ModelOutput):
    """Result of [`MotionVQVAEModel`].

    Args:
        loss: Weighted sum of the losses below, `()`.
        reconstruction_loss: Smooth-L1 over all features of real frames, `()`.
        position_loss: Smooth-L1 over the joint-position features, `()`.
        velocity_loss: Smooth-L1 over frame-to-frame differences, `()`.
        trajectory_loss: Smooth-L1 over running sums of the root's turn and steps, `()`.
        commitment_loss: Mean squared distance of latents to their codes, `()`.
        perplexity: Exponential of the entropy of code use in this batch, `()`.
        reconstruction: Normalised features `(B, 4 n, motion_dim)`, zero on padding.
        codes: Token ids `(B, n)`, -100 on padding.
    """

    loss: torch.Tensor | None = None
    reconstruction_loss: torch.Tensor | None = None
    position_loss: torch.Tensor | None = None
    velocity_loss: torch.Tensor | None = None
    trajectory_loss: torch.Tensor | None = None
    commitment_loss: torch.Tensor | None = None
    perplexity: torch.Tensor | None = None
    reconstruction: torch.Tensor | None = None
    codes: torch.Tensor | None = None


class MotionVQVAEResidualBlock(nn.Module):
    """ReLU, dilated convolution, ReLU, pointwise convolution, dropout, and the input added."""

    def __init__(self, config: MotionVQVAEConfig, dilation: int):
        super().__init__()
        width = config.hidden_size
        self.conv1 = nn.Conv1d(width, width, 3, padding=dilation, dilation=dilation)
        self.conv2 = nn.Conv1d(width, width, 1)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, hidden: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        residual = self.dropout(self.conv2(F.relu(self.conv1(F.relu(hidden)))))
        return masked(hidden + residual, mask)


def mean_error(errors: torch.Tensor, joint: bool) -> torch.Tensor:
    """Mean of errors; `joint`: over those of all processes, see [`global_mean`]."""
    return global_mean(errors.sum(), errors.numel()) if joint else errors.mean()


def masked(hidden: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Set padding of channels-first `hidden` to zero, which is what a convolution sees beyond a clip's end."""
    return hidden if mask is None else hidden * mask[:, None, :].to(hidden.dtype)


def residual_stack(config: MotionVQVAEConfig) -> nn.ModuleList:
    """Residual blocks with the largest dilation first, in encoder and decoder alike (V3)."""
    dilations = [config.dilation_growth_rate**i for i in reversed(range(config.num_residual_layers))]
    return nn.ModuleList(MotionVQVAEResidualBlock(config, dilation) for dilation in dilations)


class MotionVQVAEEncoder(nn.Module):
    """Features `(B, T, motion_dim)` to latents `(B, T // 4, code_dim)`."""

    def __init__(self, config: MotionVQVAEConfig):
        super().__init__()
        width = config.hidden_size
        self.conv_in = nn.Conv1d(config.motion_dim, width, 3, padding=1)
        self.downsample = nn.ModuleList(
            nn.Conv1d(width, width, 4, stride=2, padding=1) for _ in range(config.num_downsampling_layers)
        )
        self.blocks = nn.ModuleList(residual_stack(config) for _ in range(config.num_downsampling_layers))
        self.conv_out = nn.Conv1d(width, config.code_dim, 3, padding=1)

    def forward(self, motion_values: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        """Encode; `lengths` `(B,)` counts the real frames of each clip."""
        hidden = motion_values.transpose(1, 2)
        mask = None if lengths is None else length_mask(lengths, hidden.shape[-1])
        hidden = masked(F.relu(self.conv_in(masked(hidden, mask))), mask)
        for downsample, blocks in zip(self.downsample, self.blocks, strict=True):
            hidden = downsample(hidden)
            if lengths is not None:
                lengths = lengths // 2
                mask = length_mask(lengths, hidden.shape[-1])
            hidden = masked(hidden, mask)
            for block in cast(nn.ModuleList, blocks):
                hidden = block(hidden, mask)
        return masked(self.conv_out(hidden), mask).transpose(1, 2)


class MotionVQVAEDecoder(nn.Module):
    """Latents `(B, n, code_dim)` to features `(B, 4 n, motion_dim)`."""

    def __init__(self, config: MotionVQVAEConfig):
        super().__init__()
        width = config.hidden_size
        self.conv_in = nn.Conv1d(config.code_dim, width, 3, padding=1)
        self.blocks = nn.ModuleList(residual_stack(config) for _ in range(config.num_downsampling_layers))
        self.upsample = nn.ModuleList(
            nn.Conv1d(width, width, 3, padding=1) for _ in range(config.num_downsampling_layers)
        )
        self.conv_hidden = nn.Conv1d(width, width, 3, padding=1)
        self.conv_out = nn.Conv1d(width, config.motion_dim, 3, padding=1)

    def forward(self, latents: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        """Decode; `lengths` `(B,)` counts the real tokens of each clip."""
        hidden = latents.transpose(1, 2)
        mask = None if lengths is None else length_mask(lengths, hidden.shape[-1])
        hidden = masked(F.relu(self.conv_in(masked(hidden, mask))), mask)
        for blocks, upsample in zip(self.blocks, self.upsample, strict=True):
            for block in cast(nn.ModuleList, blocks):
                hidden = block(hidden, mask)
            hidden = hidden.repeat_interleave(2, dim=-1)
            mask = None if mask is None else mask.repeat_interleave(2, dim=-1)
            hidden = masked(upsample(hidden), mask)
        hidden = masked(F.relu(self.conv_hidden(hidden)), mask)
        return masked(self.conv_out(hidden), mask).transpose(1, 2)


class MotionVQVAEQuantizer(nn.Module):
    """Codebook learned by exponential moving averages, with dead codes replaced (V1, V4).

    All of its state is in persistent buffers, so that a run resumes, and a checkpoint trains on, exactly. The sum of
    the rows that a code was given, which the released code keeps too, is its vector times its count.
    """

    def __init__(self, config: MotionVQVAEConfig):
        super().__init__()
        self.config = config
        self.register_buffer("codebook", torch.zeros(config.num_codes, config.code_dim))
        self.register_buffer("code_count", torch.ones(config.num_codes))
        self.register_buffer("initialized", torch.zeros((), dtype=torch.bool))
        # Codes that stay what they are, while the others learn something new; part of a training, not of a model.
        self.register_buffer("settled", torch.zeros(config.num_codes, dtype=torch.bool), persistent=False)
        self.codebook: torch.Tensor
        self.code_count: torch.Tensor
        self.initialized: torch.Tensor
        self.settled: torch.Tensor

    def nearest(self, rows: torch.Tensor) -> torch.Tensor:
        """Index of the nearest code for rows `(..., code_dim)`."""
        codebook = self.codebook.to(rows.dtype)
        with torch.autocast(rows.device.type, enabled=False):  # in bfloat16, neighbours are taken for each other
            distances = codebook.pow(2).sum(-1) - 2 * rows @ codebook.T
        return distances.argmin(-1)

    def candidate_rows(self, rows: torch.Tensor) -> torch.Tensor:
        """Draw `num_codes` rows of the joint batch at random, with a little noise where the batch has too few."""
        rows, _ = gather_rows(rows)
        num_codes, num_rows = self.config.num_codes, rows.shape[0]
        order = torch.randperm(num_rows, device=rows.device)
        if num_rows < num_codes:
            order = order.repeat(-(-num_codes // num_rows))
            noise = torch.randn(num_codes, rows.shape[1], device=rows.device, dtype=rows.dtype)
            candidates = rows[order[:num_codes]] + noise * (0.01 / rows.shape[1] ** 0.5)
        else:
            candidates = rows[order[:num_codes]]
        if num_processes() > 1:  # dropout may have put the processes out of step
            dist.broadcast(candidates, 0)
        return candidates

    @torch.no_grad()
    def update(self, rows: torch.Tensor, codes: torch.Tensor) -> None:
        """One step of the moving averages from rows `(N, code_dim)` and the codes `(N,)` they were given."""
        mu = self.config.ema_decay
        one_hot = F.one_hot(codes, self.config.num_codes).to(rows.dtype)
        with torch.autocast(rows.device.type, enabled=False):
            batch_sum, batch_count = one_hot.T @ rows, one_hot.sum(0)
        candidates = self.candidate_rows(rows)
        if num_processes() > 1:  # the statistics are those of the joint batch
            dist.all_reduce(batch_sum)
            dist.all_reduce(batch_count)
        code_sum = mu * self.code_count[:, None] * self.codebook + (1 - mu) * batch_sum
        self.code_count.mul_(mu).add_(batch_count, alpha=1 - mu)
        self.codebook.copy_(torch.where(self.settled[:, None], self.codebook, code_sum / self.code_count[:, None]))
        dead = (self.code_count < self.config.code_reset_threshold) & ~self.settled
        self.codebook[dead] = candidates[dead]
        # A count of one gives a replaced code time to find rows of its own. Were the old statistics kept, as in the
        # released code, it would be drawn anew at every step, and what it gathers would be a mean of everything.
        self.code_count[dead] = 1

    @torch.no_grad()
    def initialize(self, rows: torch.Tensor) -> None:
        """Fill the codebook from the first training batch."""
        self.codebook.copy_(self.candidate_rows(rows))
        self.code_count.fill_(1)
        self.initialized.fill_(True)

    def forward(
        self, latents: torch.Tensor, mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Quantise latents `(B, n, code_dim)` where `mask` `(B, n)` is true.

        Returns:
            Straight-through quantised latents, codes with -100 on padding, commitment loss, perplexity.
        """
        rows = latents[mask].float()
        if self.training and not self.initialized:
            self.initialize(rows.detach())
        codes = self.nearest(rows)
        quantized_rows = self.codebook[codes]
        # Order of the released code (V4): quantise with the old codebook, then move it.
        if self.training:
            self.update(rows.detach(), codes)
        commitment_loss = mean_error((rows - quantized_rows).pow(2), joint=self.training)
        quantized = torch.zeros_like(latents)
        quantized[mask] = (rows + (quantized_rows - rows).detach()).to(latents.dtype)
        share = F.one_hot(codes, self.config.num_codes).float().mean(0)
        perplexity = torch.exp(-(share * torch.log(share + 1e-7)).sum())
        all_codes = torch.full(mask.shape, IGNORED_CODE, dtype=torch.long, device=latents.device)
        all_codes[mask] = codes
        return quantized, all_codes, commitment_loss, perplexity


class MotionVQVAEModel(LampBaseModel):
    """Turns motion into tokens and back.

    Padding is masked in every convolution: a clip gives the same tokens and the same reconstruction alone and in
    any batch.
    """

    config: MotionVQVAEConfig
    config_class = MotionVQVAEConfig
    base_model_prefix = "motion_vqvae"
    main_input_name = "motion_values"
    input_modalities = "motion"
    _supports_sdpa = True  # it has no attention; a model around it that has may use any

    def __init__(self, config: MotionVQVAEConfig):
        super().__init__(config)
        self.encoder = MotionVQVAEEncoder(config)
        self.quantizer = MotionVQVAEQuantizer(config)
        self.decoder = MotionVQVAEDecoder(config)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Conv1d):
            # The convolutions' customary start, as in the released code.
            init.kaiming_uniform_(module.weight, a=5**0.5)
            bound = (module.in_channels * module.kernel_size[0]) ** -0.5
            if module.bias is not None:
                init.uniform_(module.bias, -bound, bound)
        elif isinstance(module, MotionVQVAEQuantizer):
            init.normal_(module.codebook, std=module.config.code_dim**-0.5)
            init.ones_(module.code_count)
            init.zeros_(module.initialized)
            init.zeros_(module.settled)

    def train(self, mode: bool = True) -> Self:
        """Set training mode; with `config.freeze_encoder` and `freeze_tokens`, what they name stays as it is."""
        super().train(mode)
        frozen: list[nn.Module] = [self.encoder] if self.config.freeze_encoder or self.config.freeze_tokens else []
        if self.config.freeze_tokens:
            frozen.append(self.quantizer)
        for module in frozen:
            module.requires_grad_(False)
            module.eval()
        return self

    def _lengths(self, motion_values: torch.Tensor, motion_attention_mask: torch.Tensor | None) -> torch.Tensor:
        batch, frames, dim = motion_values.shape
        if dim != self.config.motion_dim:
            raise ValueError(
                f"motion_values has {dim} numbers a frame, this tokenizer was built for {self.config.motion_dim} "
                "(263: HumanML3D, 22 joints; 251: KIT-ML, 21 joints)"
            )
        if motion_attention_mask is None:
            lengths = torch.full((batch,), frames, device=motion_values.device)
        else:
            lengths = motion_attention_mask.long().sum(-1)
        shortest = int(lengths.min())
        if shortest < self.config.frames_per_token:
            raise ValueError(
                f"a clip of {shortest} frames is shorter than one token ({self.config.frames_per_token} frames)"
            )
        return lengths

    def encode(
        self, motion_values: torch.Tensor, motion_attention_mask: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Latents before quantisation.

        Args:
            motion_values: Normalised features `(B, T, motion_dim)`.
            motion_attention_mask: `(B, T)`, 1 on real frames, padding on the right; `None`: all real.

        Returns:
            Latents `(B, T // 4, code_dim)`, zero on padding, and their boolean mask `(B, T // 4)`.

        Raises:
            ValueError: Wrong number of features, or a clip shorter than one token.
        """
        lengths = self._lengths(motion_values, motion_attention_mask)
        latents = self.encoder(motion_values, lengths)
        return latents, length_mask(lengths // self.config.frames_per_token, latents.shape[1])

    def get_codes(self, motion_values: torch.Tensor, motion_attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        """Token ids `(B, T // 4)` of motions, -100 on padding; arguments as in [`encode`]."""
        latents, mask = self.encode(motion_values, motion_attention_mask)
        return self.quantizer.nearest(latents).masked_fill(~mask, IGNORED_CODE)

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        """Motions of token ids.

        Args:
            codes: `(B, n)`, negative on padding, which is on the right.

        Returns:
            Normalised features `(B, 4 n, motion_dim)`, zero on padding.
        """
        mask = codes >= 0
        latents = self.quantizer.codebook[codes.clamp(min=0)].to(self.dtype)
        return self.decoder(latents, mask.sum(-1))

    def forward(
        self,
        motion_values: torch.Tensor,
        motion_attention_mask: torch.Tensor | None = None,
        return_dict: bool | None = None,
    ) -> MotionVQVAEOutput | tuple:
        """Reconstruct motions and compute the losses over real frames; arguments as in [`encode`]."""
        latents, mask = self.encode(motion_values, motion_attention_mask)
        quantized, codes, commitment_loss, perplexity = self.quantizer(latents, mask)
        lengths = mask.sum(-1)
        reconstruction = self.decoder(quantized, lengths)
        frames = length_mask(lengths * self.config.frames_per_token, reconstruction.shape[1])
        target = motion_values[:, : reconstruction.shape[1]]

        positions = slice(4, 4 + 3 * (self.config.num_joints - 1))
        joint = self.training
        errors = F.smooth_l1_loss(reconstruction[frames], target[frames], reduction="none")
        reconstruction_loss, position_loss = mean_error(errors, joint), mean_error(errors[..., positions], joint)
        steps = frames[:, 1:]
        velocity_loss = mean_error(
            F.smooth_l1_loss(reconstruction.diff(dim=1)[steps], target.diff(dim=1)[steps], reduction="none"), joint
        )
        turn_and_steps = slice(0, 3)
        real = frames[..., None]
        path, real_path = (
            (motion[..., turn_and_steps].float() * real).cumsum(1)[frames] for motion in (reconstruction, target)
        )
        trajectory_loss = mean_error(F.smooth_l1_loss(path, real_path, reduction="none"), joint)
        config = self.config
        loss = (
            config.reconstruction_loss_weight * reconstruction_loss
            + config.position_loss_weight * position_loss
            + config.velocity_loss_weight * velocity_loss
            + config.trajectory_loss_weight * trajectory_loss
            + config.commitment_loss_weight * commitment_loss
        )
        output = MotionVQVAEOutput(
            loss=loss,
            reconstruction_loss=reconstruction_loss.detach(),
            position_loss=position_loss.detach(),
            velocity_loss=velocity_loss.detach(),
            trajectory_loss=trajectory_loss.detach(),
            commitment_loss=commitment_loss.detach(),
            perplexity=perplexity,
            reconstruction=reconstruction,
            codes=codes,
        )
        return output if return_dict is not False else output.to_tuple()
