"""Motion tokenizer: a 1-D convolutional VQ-VAE with one token per four frames (after T2M-GPT, section 3.1)."""

from dataclasses import dataclass
from typing import Any, Self, cast

import torch
from torch import nn
from torch.nn import functional as F
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.utils.generic import ModelOutput
from transformers.utils.output_capturing import capture_outputs

from lamp_hf.motion.skeleton import skeleton_for_feature_dim

from .base_lamp import LampBaseModel
from .configuration_lamp import MotionVQVAEConfig
from .distributed import global_mean, mean_error
from .motion_quantizers import IGNORED_CODE, CodebookQuantizer, first_codes, motion_quantizer

__all__ = ["MotionVQVAECodes", "MotionVQVAEModel", "MotionVQVAEOutput", "length_mask"]


def length_mask(lengths: torch.Tensor, size: int) -> torch.Tensor:
    """Return a boolean mask `(B, size)`, true on the first `lengths[b]` positions of row b."""
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
        trajectory_loss: Smooth-L1 over running sums of the root's rotation and steps, `()`.
        foot_loss: Mean distance per frame by which feet in contact with the floor slide, `()`; `None` without
            `motion_std`.
        commitment_loss: Mean squared distance between latents and their codes, `()`; zero with `scalar_levels`.
        perplexity: Exponential of the entropy of code usage in this batch, `()`; mean over codebooks.
        reconstruction: Normalized features `(B, 4 n, motion_dim)`, zero on padding.
        codes: Token ids `(B, n)`, or `(B, n, num_quantizers)` with several codebooks; -100 on padding and on
            codebooks dropped by `quantizer_dropout`.
        hidden_states: With `output_hidden_states`, the input of the first residual block and the output of each one,
            `(B, hidden_size, frames or fewer)`, encoder first.
    """

    loss: torch.Tensor | None = None
    reconstruction_loss: torch.Tensor | None = None
    position_loss: torch.Tensor | None = None
    velocity_loss: torch.Tensor | None = None
    trajectory_loss: torch.Tensor | None = None
    foot_loss: torch.Tensor | None = None
    commitment_loss: torch.Tensor | None = None
    perplexity: torch.Tensor | None = None
    reconstruction: torch.Tensor | None = None
    codes: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None


class MotionVQVAEConvolution(nn.Conv1d):
    """1-D convolution, computed as a 2-D convolution in channels-last memory.

    Processors have faster kernels for this: a training step takes 8 % less time, reconstruction 25 % less.
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
    """Set padding of `hidden` `(B, C, T)` to zero, as if the clip ended there."""
    return hidden if mask is None else hidden * mask[:, None, :].to(hidden.dtype)


def residual_stack(config: MotionVQVAEConfig) -> nn.ModuleList:
    """Create residual blocks with the largest dilation first, in encoder and decoder alike (V3)."""
    dilations = [config.dilation_growth_rate**i for i in reversed(range(config.num_residual_layers))]
    return nn.ModuleList(MotionVQVAEResidualBlock(config, dilation) for dilation in dilations)


def refuse_short(lengths: torch.Tensor, frames_per_token: int) -> None:
    """Check that no clip is shorter than one token.

    Compiled and exported models skip this check, because reading a length would break their graph.

    Raises:
        ValueError: A clip is shorter than one token.
    """
    if not torch.compiler.is_compiling() and (shortest := int(lengths.min())) < frames_per_token:
        raise ValueError(
            f"a clip of {shortest} frames is shorter than one token ({frames_per_token} frames); use longer clips"
        )


class MotionVQVAEEncoder(nn.Module):
    """Encodes features `(B, T, motion_dim)` into latents `(B, T // 4, code_dim)`."""

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
        """Encode, in the type of the weights; `lengths` `(B,)` is the number of real frames of each clip."""
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
    """Decodes latents `(B, n, code_dim)` into features `(B, 4 n, motion_dim)`."""

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
        """Decode; `lengths` `(B,)` is the number of real tokens of each clip."""
        hidden = latents.transpose(1, 2)
        mask = None if lengths is None else length_mask(lengths, hidden.shape[-1])
        hidden = masked(F.relu(self.conv_in(masked(hidden, mask))), mask)
        for blocks, upsample in zip(self.blocks, self.upsample, strict=True):
            for block in cast(nn.ModuleList, blocks):
                hidden = block(hidden, mask)
            hidden = hidden.transpose(1, 2).repeat_interleave(2, dim=1).transpose(1, 2)  # keeps channels-last memory
            mask = None if mask is None else mask.repeat_interleave(2, dim=-1)
            hidden = masked(upsample(hidden), mask)
        hidden = masked(F.relu(self.conv_hidden(hidden)), mask)
        return masked(self.conv_out(hidden), mask).transpose(1, 2)


class MotionVQVAEModel(LampBaseModel):
    """Motion tokenizer: encodes motions into tokens and decodes tokens into motions.

    `decode(encode(motion).codes)` reconstructs the motion approximately. Padding is masked in every convolution, so a
    clip has the same tokens and the same reconstruction alone and in any batch.

    A model loaded in half precision keeps the encoder and the codebook in float32, because rounding them would change
    every 25th token.
    """

    config: MotionVQVAEConfig
    config_class = MotionVQVAEConfig
    base_model_prefix = "motion_vqvae"
    main_input_name = "motion_values"
    input_modalities = "motion"
    supports_gradient_checkpointing = True
    accepts_loss_kwargs = False
    _supports_sdpa = True  # no attention here; a model that contains this one may use any
    _no_split_modules = [
        "MotionVQVAEEncoder",
        "CodebookQuantizer",
        "ResidualQuantizer",
        "FiniteScalarQuantizer",
        "MotionVQVAEDecoder",
    ]
    # Encoder and quantizer. The names also match if this model, or its encoder, is part of another model.
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
            # PyTorch's default initialization of convolutions, as in the released code.
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
        """Set training mode; parts named by `config.freeze_encoder` and `config.freeze_tokens` stay frozen."""
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
        """Return the latents of motions before quantization; for arguments see [`encode`].

        Returns:
            Latents `(B, T // 4, code_dim)`, zero on padding, and their boolean mask `(B, T // 4)`.

        Raises:
            ValueError: The number of features is wrong, or a clip is shorter than one token.
        """
        lengths = self._lengths(motion_values, motion_attention_mask)
        latents = self.encoder(motion_values, lengths)
        return latents, length_mask(lengths // self.config.frames_per_token, latents.shape[1])

    def encode(
        self, motion_values: torch.Tensor, motion_attention_mask: torch.Tensor | None = None
    ) -> MotionVQVAECodes:
        """Encode motions into token ids; [`decode`] is the inverse.

        Args:
            motion_values: Normalized features `(B, T, motion_dim)`.
            motion_attention_mask: `(B, T)`, 1 on real frames, padding on the right; `None` if all are real.

        Returns:
            An output with `codes` `(B, T // 4)`, one code per four frames, -100 on padding; with `num_quantizers` above
            1, `(B, T // 4, num_quantizers)`, the coarsest code first. Up to three frames at the end of a clip, too few
            for a token, are dropped.

        Raises:
            ValueError: The number of features is wrong, or a clip is shorter than one token.

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
        return MotionVQVAECodes(codes=self.codes_of(latents, mask))

    def codes_of(self, latents: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return the codes of latents from [`get_latents`], with -100 where `mask` `(B, n)` is false."""
        codes = self.quantizer.nearest(latents)
        return codes.masked_fill(~(mask if codes.ndim == mask.ndim else mask[..., None]), IGNORED_CODE)

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        """Decode token ids into motions; the inverse of [`encode`].

        Args:
            codes: Token ids, `(B, n)`, negative on padding, which is on the right. With `num_quantizers` above 1, the
                codes of the first k codebooks, `(B, n, k)`; fewer codebooks give a coarser motion.

        Returns:
            Normalized features `(B, 4 n, motion_dim)`, zero on padding.

        Raises:
            ValueError: The shape does not fit this tokenizer.
        """
        layers = self.config.num_quantizers
        if layers == 1 and codes.ndim != 2:
            raise ValueError(f"codes {tuple(codes.shape)} must be (B, n): this tokenizer has one code per token")
        if layers > 1 and (codes.ndim != 3 or not 1 <= codes.shape[-1] <= layers):
            raise ValueError(
                f"codes {tuple(codes.shape)} must be (B, n, k) with k from 1 to {layers}: this tokenizer has "
                f"num_quantizers={layers}"
            )
        mask = first_codes(codes) >= 0
        latents = self.quantizer.lookup(codes.clamp(min=0) if layers == 1 else codes).to(self.dtype)
        return self.decoder(latents, mask.sum(-1))

    @capture_outputs
    def forward(
        self,
        motion_values: torch.Tensor,
        motion_attention_mask: torch.Tensor | None = None,
        motion_std: torch.Tensor | None = None,
        return_loss: bool = True,
        output_hidden_states: bool | None = None,
    ) -> MotionVQVAEOutput:
        """Reconstruct motions and compute the losses.

        Args:
            motion_values, motion_attention_mask: Motions; see [`encode`].
            motion_std: Standard deviations by which the features were divided, `(motion_dim,)`, for the foot loss.
            return_loss: Whether to compute the losses, over real frames.
            output_hidden_states: Whether to return `hidden_states`.

        Raises:
            ValueError: `motion_std` is missing in training with `config.foot_loss_weight`.

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
            if motion_std is not None:
                losses["foot"] = self._foot_loss(reconstruction, target, frames, motion_std)
            elif self.training and self.config.foot_loss_weight:
                raise ValueError(
                    f"foot_loss_weight={self.config.foot_loss_weight} needs distances; give motion_std, the "
                    "standard deviations of the features"
                )
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
        """Return the losses of features `(B, T, motion_dim)` over real `frames` `(B, T)`, by name."""
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

    def _foot_loss(
        self, reconstruction: torch.Tensor, target: torch.Tensor, frames: torch.Tensor, std: torch.Tensor
    ) -> torch.Tensor:
        """Return the mean distance per frame by which feet in contact with the floor slide more than in `target`.

        The distance is the error of the root's step plus the change in the error of the foot's position relative to the
        root. The rotation of the root within one frame is neglected.
        """
        skeleton = skeleton_for_feature_dim(self.config.motion_dim)
        error = (reconstruction.float() - target.float()) * std.float()
        positions = [4 + 3 * (joint - 1) + axis for joint in skeleton.contact_joints for axis in range(3)]
        feet = error[..., positions].unflatten(-1, (-1, 3))
        step = F.pad(error[:, :-1, 1:3], (0, 1))[..., [0, 2, 1]]  # along x and z; the height is in the positions
        slide = (feet.diff(dim=1) + step[:, :, None]).square().sum(-1).add(1e-12).sqrt()
        contacts = (target[:, :-1, -len(skeleton.contact_joints) :] > 0) & frames[:, 1:, None]  # 0 is their mean
        total, count = (slide * contacts).sum(), contacts.sum()
        return global_mean(total, count) if self.training else total / count.clamp(min=1)
