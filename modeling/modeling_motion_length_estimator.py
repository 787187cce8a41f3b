"""How long a motion is, told from features of its text: the estimator that the released code takes from MoMask."""

from dataclasses import dataclass

import torch
from transformers.utils.generic import ModelOutput, can_return_tuple

from .base_lamp import LampBaseModel
from .configuration_lamp import MotionLengthEstimatorConfig
from .modeling_lamp_text_to_motion import MotionLengthEstimator

__all__ = ["MotionLengthEstimatorModel", "MotionLengthEstimatorOutput"]


@dataclass
class MotionLengthEstimatorOutput(ModelOutput):
    """Result of [`MotionLengthEstimatorModel`].

    Args:
        logits: Of 1, 2, … tokens, `(B, max_motion_tokens)`.
        num_tokens: Median of the predicted distribution, `(B,)`.
        num_frames: What so many tokens stand for, `(B,)`.
    """

    logits: torch.Tensor | None = None
    num_tokens: torch.Tensor | None = None
    num_frames: torch.Tensor | None = None


class MotionLengthEstimatorModel(LampBaseModel):
    """The number of motion tokens that suits a text, from features that another model gives.

    A [`LampForTextToMotion`] trained here has an estimator of its own on LaMP's features. The released one reads the
    512 numbers of CLIP's text encoder: `CLIPTextModelWithProjection.from_pretrained(config.text_encoder_name)` gives
    them as `text_embeds`. The released code draws a number and may draw 0; the answer here is the median, from 1.
    """

    config: MotionLengthEstimatorConfig
    config_class = MotionLengthEstimatorConfig
    base_model_prefix = "motion_length_estimator"
    main_input_name = "text_features"
    input_modalities = ["text"]
    _supports_sdpa = True  # it has no attention; a model around it that has may use any

    def __init__(self, config: MotionLengthEstimatorConfig):
        super().__init__(config)
        self.length_estimator = MotionLengthEstimator(
            config.input_size, config.hidden_sizes, config.max_motion_tokens, float(config.dropout)
        )
        self.post_init()

    @can_return_tuple
    def forward(self, text_features: torch.Tensor) -> MotionLengthEstimatorOutput:
        """Lengths of motions for text features `(B, input_size)`.

        Raises:
            ValueError: Features of another size.

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
                f"text_features hold {text_features.shape[-1]} numbers, expected {self.config.input_size}, those of "
                f"{self.config.text_encoder_name}"
            )
        text_features = text_features.to(self.dtype)
        num_tokens = self.length_estimator.num_tokens(text_features)
        return MotionLengthEstimatorOutput(
            logits=self.length_estimator(text_features),
            num_tokens=num_tokens,
            num_frames=num_tokens * self.config.frames_per_token,
        )
