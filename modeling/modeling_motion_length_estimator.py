"""Estimator of the length of a motion from features of its text; the released code takes it from MoMask."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from transformers.utils.generic import ModelOutput, can_return_tuple

from .base_lamp import LampBaseModel
from .configuration_lamp import MotionLengthEstimatorConfig

__all__ = ["MotionLengthEstimator", "MotionLengthEstimatorModel", "MotionLengthEstimatorOutput"]


class MotionLengthEstimator(nn.Module):
    """Classifier of the number of motion tokens for a condition, from 1 token.

    Args:
        input_size: Size of a condition.
        hidden_sizes: Widths of the hidden layers.
        max_tokens: Largest number of tokens.
        dropout: Dropout rate after each hidden layer.
    """

    def __init__(self, input_size: int, hidden_sizes: Sequence[int], max_tokens: int, dropout: float):
        super().__init__()
        layers: list[nn.Module] = []
        for width in hidden_sizes:
            layers += [nn.Linear(input_size, width), nn.LayerNorm(width), nn.LeakyReLU(0.2)]
            layers.append(nn.Dropout(dropout))
            input_size = width
        self.layers = nn.Sequential(*layers)
        self.classifier = nn.Linear(input_size, max_tokens)

    def forward(self, condition: torch.Tensor) -> torch.Tensor:
        """Return the logits `(B, max_tokens)` of 1, 2, … tokens for conditions `(B, input_size)`."""
        return self.classifier(self.layers(condition))

    def num_tokens(self, condition: torch.Tensor) -> torch.Tensor:
        """Return the median `(B,)` of the predicted distribution, which is more stable than its mode."""
        shares = self(condition).float().softmax(-1).cumsum(-1)
        return (shares < 0.5).sum(-1).clamp(max=shares.shape[-1] - 1) + 1


@dataclass
class MotionLengthEstimatorOutput(ModelOutput):
    """Result of [`MotionLengthEstimatorModel`].

    Args:
        logits: Logits of 1, 2, … tokens, `(B, max_motion_tokens)`.
        num_tokens: Median of the predicted distribution, `(B,)`.
        num_frames: Number of frames of these tokens, `(B,)`.
    """

    logits: torch.Tensor | None = None
    num_tokens: torch.Tensor | None = None
    num_frames: torch.Tensor | None = None


class MotionLengthEstimatorModel(LampBaseModel):
    """Estimates the number of motion tokens for a text from the features of another model.

    A [`LampForTextToMotion`] trained with lamp_hf has its own estimator on the features of LaMP. The released estimator
    reads the 512 features of CLIP's text encoder, `text_embeds` of
    `CLIPTextModelWithProjection.from_pretrained(config.text_encoder_name)`. The released code samples a number, which
    may be 0; this model returns the median, at least 1.
    """

    config: MotionLengthEstimatorConfig
    config_class = MotionLengthEstimatorConfig
    base_model_prefix = "motion_length_estimator"
    main_input_name = "text_features"
    input_modalities = ["text"]
    _supports_sdpa = True  # no attention here; a model that contains this one may use any

    def __init__(self, config: MotionLengthEstimatorConfig):
        super().__init__(config)
        self.length_estimator = MotionLengthEstimator(
            config.input_size, config.hidden_sizes, config.max_motion_tokens, float(config.dropout)
        )
        self.post_init()

    @can_return_tuple
    def forward(self, text_features: torch.Tensor) -> MotionLengthEstimatorOutput:
        """Estimate the lengths of motions.

        Args:
            text_features: Features of the texts, `(B, input_size)`.

        Raises:
            ValueError: The features have another size.

        Example:

        ```python
        >>> import torch
        >>> from lamp_hf import MotionLengthEstimatorConfig, MotionLengthEstimatorModel

        >>> estimator = MotionLengthEstimatorModel(MotionLengthEstimatorConfig()).eval()
        >>> output = estimator(torch.zeros(2, 512))
        >>> output.num_tokens.shape, bool((output.num_frames == 4 * output.num_tokens).all())
        (torch.Size([2]), True)

        ```
        """
        if text_features.shape[-1] != self.config.input_size:
            raise ValueError(
                f"text_features have {text_features.shape[-1]} numbers, expected {self.config.input_size}; use "
                f"features of {self.config.text_encoder_name}"
            )
        text_features = text_features.to(self.dtype)
        num_tokens = self.length_estimator.num_tokens(text_features)
        return MotionLengthEstimatorOutput(
            logits=self.length_estimator(text_features),
            num_tokens=num_tokens,
            num_frames=num_tokens * self.config.frames_per_token,
        )
