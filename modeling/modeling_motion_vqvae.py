"""The motion tokenizer: a 1-D convolutional VQ-VAE with one token for four frames (after T2M-GPT, section 3.1)."""

from dataclasses import dataclass
from typing import Any, Self, cast

import torch
from torch import nn
from torch.nn import functional as F
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.utils.generic import ModelOutput
from transformers.utils.output_capturing import capture_outputs

from .base_lamp import LampBaseModel
from .configuration_lamp import MotionVQVAEConfig
from .distributed import mean_error
from .motion_quantizers import IGNORED_CODE, CodebookQuantizer, motion_quantizer

__all__ = ["MotionVQVAECodes", "MotionVQVAEModel", "MotionVQVAEOutput", "length_mask"]


def length_mask(lengths: torch.Tensor, size: int) -> torch.Tensor:
    """Boolean mask `(B, size)`, true on the first `lengths[b]` positions of row b."""
    return torch.arange(size, device=lengths.device)[None, :] < lengths[:, None]


@dataclass
class MotionVQVAECodes(ModelOutput):
    """Result of [`MotionVQVAEModel.encode`].

    Args:
        codes: Token ids `(B, n)`, or `(B, n, num_quantizers)` with several codebooks; -100 on padding.
    """

    codes: torch.Tensor


@dataclass
class MotionVQVAEOutput(ModelOutput):
    """Result of [`MotionVQVAEModel`].

    Args:
        loss: Weighted sum of the losses below, `()`.
        reconstruction_loss: Smooth-L1 over all features of real frames, `()`.
        position_loss: Smooth-L1 over the joint-position features, `()`.
        velocity_loss: Smooth-L1 over frame-to-frame differences, `()`.
        trajectory_loss: Smooth-L1 over running sums of the root's turn and steps, `()`.
        commitment_loss: Mean squared distance of latents to their codes, `()`; zero with `scalar_levels`.
        perplexity: Exponential of the entropy of code use in this batch, `()`; mean over codebooks.
        reconstruction: Normalized features `(B, 4 n, motion_dim)`, zero on padding.
        codes: Token ids `(B, n)`, or `(B, n, num_quantizers)` with several codebooks; -100 on padding, and where
            `quantizer_dropout` left a codebook out.
        hidden_states: With `output_hidden_states`, what each residual block gives, before them what the first one is
            given: `(B, hidden_size, frames or fewer)`, encoder first.
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
    hidden_states: tuple[torch.Tensor, ...] | None = None


class MotionVQVAEConvolution(nn.Conv1d):
    """A 1-D convolution, computed as a 2-D one on memory in which a frame's channels lie together.

    Processors have their fastest kernels for that: a training step takes 8 % less time, reconstruction 25 %.
    """

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        rows = hidden[:, :, None].contiguous(memory_format=torch.channels_last)
        stride, padding, dilation = self.stride[0], int(self.padding[0]), self.dilation[0]
        weight = self.weight[:, :, None]
        return F.conv2d(rows, weight, self.bias, (1, stride), (0, padding), (1, dilation))[:, :, 0]


class MotionVQVAEResidualBlock(GradientCheckpointingLayer):
    """ReLU, dilated convolution, ReLU, pointwise convolution, dropout, and the input added."""

    def __init__(self, config: MotionVQVAEConfig, dilation: int):
        super().__init__()
        width = config.hidden_size
        self.conv1 = MotionVQVAEConvolution(width, width, 3, padding=dilation, dilation=dilation)
        self.conv2 = MotionVQVAEConvolution(width, width, 1)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, hidden: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        residual = self.dropout(self.conv2(F.relu(self.conv1(F.relu(hidden)))))
        return masked(hidden + residual, mask)


def masked(hidden: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Set padding of channels-first `hidden` to zero, which is what a convolution sees beyond a clip's end."""
    return hidden if mask is None else hidden * mask[:, None, :].to(hidden.dtype)


def residual_stack(config: MotionVQVAEConfig) -> nn.ModuleList:
    """Residual blocks with the largest dilation first, in encoder and decoder alike (V3)."""
    dilations = [config.dilation_growth_rate**i for i in reversed(range(config.num_residual_layers))]
    return nn.ModuleList(MotionVQVAEResidualBlock(config, dilation) for dilation in dilations)


def refuse_short(lengths: torch.Tensor, frames_per_token: int) -> None:
    """Refuse clips that are shorter than one token.

    Compiled and exported models take it for granted: to read a length would break their graph.
    """
    if not torch.compiler.is_compiling() and (shortest := int(lengths.min())) < frames_per_token:
        raise ValueError(f"a clip of {shortest} frames is shorter than one token ({frames_per_token} frames)")


class MotionVQVAEEncoder(nn.Module):
    """Features `(B, T, motion_dim)` to latents `(B, T // 4, code_dim)`."""

    def __init__(self, config: MotionVQVAEConfig):
        super().__init__()
        width = config.hidden_size
        self.conv_in = MotionVQVAEConvolution(config.motion_dim, width, 3, padding=1)
        self.downsample = nn.ModuleList(
            MotionVQVAEConvolution(width, width, 4, stride=2, padding=1) for _ in range(config.num_downsampling_layers)
        )
        self.blocks = nn.ModuleList(residual_stack(config) for _ in range(config.num_downsampling_layers))
        self.conv_out = MotionVQVAEConvolution(width, config.code_dim, 3, padding=1)

    def forward(self, motion_values: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        """Encode, in the type of the weights; `lengths` `(B,)` counts the real frames of each clip."""
        hidden = motion_values.to(self.conv_in.weight.dtype).transpose(1, 2)
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
        self.conv_in = MotionVQVAEConvolution(config.code_dim, width, 3, padding=1)
        self.blocks = nn.ModuleList(residual_stack(config) for _ in range(config.num_downsampling_layers))
        self.upsample = nn.ModuleList(
            MotionVQVAEConvolution(width, width, 3, padding=1) for _ in range(config.num_downsampling_layers)
        )
        self.conv_hidden = MotionVQVAEConvolution(width, width, 3, padding=1)
        self.conv_out = MotionVQVAEConvolution(width, config.motion_dim, 3, padding=1)

    def forward(self, latents: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        """Decode; `lengths` `(B,)` counts the real tokens of each clip."""
        hidden = latents.transpose(1, 2)
        mask = None if lengths is None else length_mask(lengths, hidden.shape[-1])
        hidden = masked(F.relu(self.conv_in(masked(hidden, mask))), mask)
        for blocks, upsample in zip(self.blocks, self.upsample, strict=True):
            for block in cast(nn.ModuleList, blocks):
                hidden = block(hidden, mask)
            hidden = hidden.transpose(1, 2).repeat_interleave(2, dim=1).transpose(1, 2)  # channels stay together
            mask = None if mask is None else mask.repeat_interleave(2, dim=-1)
            hidden = masked(upsample(hidden), mask)
        hidden = masked(F.relu(self.conv_hidden(hidden)), mask)
        return masked(self.conv_out(hidden), mask).transpose(1, 2)


class MotionVQVAEModel(LampBaseModel):
    """Turns motion into tokens and back.

    `decode(encode(motion).codes)` gives the motion back, nearly. Padding is masked in every convolution: a clip gives
    the same tokens and the same reconstruction alone and in any batch.

    A model that is loaded in half precision keeps what decides on the tokens, encoder and codebook, in float32:
    rounded, they would turn every 25th token into another one.
    """

    config: MotionVQVAEConfig
    config_class = MotionVQVAEConfig
    base_model_prefix = "motion_vqvae"
    main_input_name = "motion_values"
    input_modalities = "motion"
    supports_gradient_checkpointing = True
    accepts_loss_kwargs = False
    _supports_sdpa = True  # it has no attention; a model around it that has may use any
    _no_split_modules = [
        "MotionVQVAEEncoder",
        "CodebookQuantizer",
        "ResidualQuantizer",
        "FiniteScalarQuantizer",
        "MotionVQVAEDecoder",
    ]
    # Of the encoder and the quantizer. The names also hold where this model, or its encoder, is part of another one.
    _keep_in_fp32_modules_strict = [
        "encoder.conv_in",
        "encoder.downsample",
        "encoder.blocks",
        "encoder.conv_out",
        "quantizer.*codebook",
        "quantizer.*code_count",
        "quantizer.project",
    ]
    _can_record_outputs = {"hidden_states": MotionVQVAEResidualBlock}

    def __init__(self, config: MotionVQVAEConfig):
        super().__init__(config)
        self.encoder = MotionVQVAEEncoder(config)
        self.quantizer = motion_quantizer(config)
        self.decoder = MotionVQVAEDecoder(config)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Conv1d | nn.Linear):
            # The customary start of convolutions, as in the released code.
            init.kaiming_uniform_(module.weight, a=5**0.5)
            bound = module.weight[0].numel() ** -0.5
            if module.bias is not None:
                init.uniform_(module.bias, -bound, bound)
        elif isinstance(module, CodebookQuantizer):
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
                f"motion_values has {dim} numbers per frame, this tokenizer was built for {self.config.motion_dim} "
                "(263: HumanML3D, 22 joints; 251: KIT-ML, 21 joints)"
            )
        if motion_attention_mask is None:
            lengths = torch.full((batch,), frames, device=motion_values.device)
        else:
            lengths = motion_attention_mask.long().sum(-1)
        refuse_short(lengths, self.config.frames_per_token)
        return lengths

    def get_latents(
        self, motion_values: torch.Tensor, motion_attention_mask: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What motions are before they are quantized; arguments as in [`encode`].

        Returns:
            Latents `(B, T // 4, code_dim)`, zero on padding, and their boolean mask `(B, T // 4)`.

        Raises:
            ValueError: Wrong number of features, or a clip shorter than one token.
        """
        lengths = self._lengths(motion_values, motion_attention_mask)
        latents = self.encoder(motion_values, lengths)
        return latents, length_mask(lengths // self.config.frames_per_token, latents.shape[1])

    def encode(
        self, motion_values: torch.Tensor, motion_attention_mask: torch.Tensor | None = None
    ) -> MotionVQVAECodes:
        """Motions as token ids; [`decode`] is the inverse.

        Args:
            motion_values: Normalized features `(B, T, motion_dim)`.
            motion_attention_mask: `(B, T)`, 1 on real frames, padding on the right; `None`: all real.

        Returns:
            `codes` `(B, T // 4)`: one for four frames, -100 on padding. With `num_quantizers` above 1,
            `(B, T // 4, num_quantizers)`, the coarsest first. Up to three frames at the end of a clip, too few for a
            token, are dropped.

        Raises:
            ValueError: Wrong number of features, or a clip shorter than one token.

        Example:

        ```python
        >>> import torch
        >>> from lamp_hf import LampForTextToMotion

        >>> tokenizer = LampForTextToMotion.from_pretrained("lamp-small").lamp.motion_vqvae
        >>> codes = tokenizer.encode(torch.zeros(1, 40, 263)).codes
        >>> codes.shape
        torch.Size([1, 10])
        >>> tokenizer.decode(codes).shape
        torch.Size([1, 40, 263])

        ```
        """
        latents, mask = self.get_latents(motion_values, motion_attention_mask)
        return MotionVQVAECodes(codes=self._with_padding(self.quantizer.nearest(latents), mask))

    def _with_padding(self, codes: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Codes with -100 where `mask` `(B, n)` is false."""
        return codes.masked_fill(~(mask if codes.ndim == mask.ndim else mask[..., None]), IGNORED_CODE)

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        """Motions of token ids, the inverse of [`encode`].

        Args:
            codes: `(B, n)`, negative on padding, which is on the right. With `num_quantizers` above 1, `(B, n, k)`:
                the codes of the first k codebooks, of which fewer than all give a coarser motion.

        Returns:
            Normalized features `(B, 4 n, motion_dim)`, zero on padding.

        Raises:
            ValueError: The codes are not of this tokenizer's shape.
        """
        layers = self.config.num_quantizers
        if layers == 1 and codes.ndim != 2:
            raise ValueError(f"codes {tuple(codes.shape)} must be (B, n): this tokenizer has one code a token")
        if layers > 1 and (codes.ndim != 3 or not 1 <= codes.shape[-1] <= layers):
            raise ValueError(
                f"codes {tuple(codes.shape)} must be (B, n, k) with k from 1 to {layers}: this tokenizer has "
                f"num_quantizers={layers}"
            )
        mask = (codes if layers == 1 else codes[..., 0]) >= 0
        latents = self.quantizer.lookup(codes.clamp(min=0)).to(self.dtype)
        return self.decoder(latents, mask.sum(-1))

    @capture_outputs
    def forward(
        self,
        motion_values: torch.Tensor,
        motion_attention_mask: torch.Tensor | None = None,
        return_loss: bool = True,
        output_hidden_states: bool | None = None,
    ) -> MotionVQVAEOutput:
        """Reconstruct motions; arguments as in [`encode`].

        Args:
            return_loss: Compute the losses over real frames.
            output_hidden_states: Return `hidden_states` too.

        Example:

        ```python
        >>> import torch
        >>> from lamp_hf import LampForTextToMotion

        >>> tokenizer = LampForTextToMotion.from_pretrained("lamp-small").lamp.motion_vqvae
        >>> output = tokenizer(torch.zeros(1, 40, 263))
        >>> output.reconstruction.shape, output.codes.shape
        (torch.Size([1, 40, 263]), torch.Size([1, 10]))

        ```
        """
        latents, mask = self.get_latents(motion_values, motion_attention_mask)
        quantized = self.quantizer(latents, mask)
        lengths = mask.sum(-1)
        reconstruction = self.decoder(quantized.latents.to(self.dtype), lengths)
        losses: dict[str, torch.Tensor] = {}
        loss = None
        if return_loss:
            frames = length_mask(lengths * self.config.frames_per_token, reconstruction.shape[1])
            target = motion_values[:, : reconstruction.shape[1]].to(reconstruction.dtype)
            losses = self._losses(reconstruction, target, frames) | {"commitment": quantized.commitment_loss}
            weighted = [getattr(self.config, f"{name}_loss_weight") * each for name, each in losses.items()]
            loss = torch.stack(weighted).sum()
        return MotionVQVAEOutput(
            loss=loss,
            **cast(dict[str, Any], {f"{name}_loss": each.detach() for name, each in losses.items()}),
            perplexity=quantized.perplexity,
            reconstruction=reconstruction,
            codes=quantized.codes,
        )

    def _losses(
        self, reconstruction: torch.Tensor, target: torch.Tensor, frames: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Losses of features `(B, T, motion_dim)` over real `frames` `(B, T)`, by name."""
        joint = self.training
        errors = F.smooth_l1_loss(reconstruction, target, reduction="none")
        positions = slice(4, 4 + 3 * (self.config.num_joints - 1))
        steps = F.smooth_l1_loss(reconstruction.diff(dim=1), target.diff(dim=1), reduction="none")
        turn_and_steps = slice(0, 3)
        path, real_path = (
            (motion[..., turn_and_steps].float() * frames[..., None]).cumsum(1) for motion in (reconstruction, target)
        )
        return {
            "reconstruction": mean_error(errors, frames, joint),
            "position": mean_error(errors[..., positions], frames, joint),
            "velocity": mean_error(steps, frames[:, 1:], joint),
            "trajectory": mean_error(F.smooth_l1_loss(path, real_path, reduction="none"), frames, joint),
        }
