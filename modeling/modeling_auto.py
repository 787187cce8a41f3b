"""Auto classes for tasks with several models."""

from typing import Any

from transformers import AutoConfig, AutoModel

from lamp_hf.checkpoints.files import CheckpointError, checked_name

from .configuration_lamp import LampConfig, LampTextToMotionConfig, LampWithLanguageModelConfig
from .modeling_lamp_decoder_captioning import LampDecoderForMotionCaptioning
from .modeling_lamp_language_model_captioning import HUB_ARGUMENTS, LampWithLanguageModelForMotionCaptioning

__all__ = ["AutoModelForMotionCaptioning"]


class AutoModelForMotionCaptioning(AutoModel):
    """Auto class for captioning: LaMP's own decoder, or a language model prompted by LaMP.

    `AutoModelForMotionCaptioning.from_pretrained(…)` returns a [`LampDecoderForMotionCaptioning`] for checkpoints of
    LaMP and of text-to-motion, and a [`LampWithLanguageModelForMotionCaptioning`] for its own checkpoints.
    """

    _model_mapping: Any = {
        LampConfig: LampDecoderForMotionCaptioning,
        LampTextToMotionConfig: LampDecoderForMotionCaptioning,
        LampWithLanguageModelConfig: LampWithLanguageModelForMotionCaptioning,
    }

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *model_args: Any, **kwargs: Any) -> Any:
        """Load a captioner; see `AutoModel.from_pretrained` of transformers for the arguments.

        Raises:
            CheckpointError: The checkpoint does not contain a captioner.
        """
        source = checked_name(pretrained_model_name_or_path, kwargs)
        # Otherwise, transformers asks whether to run code of the checkpoint.
        kwargs = {"trust_remote_code": False, **kwargs}
        found = {name: kwargs[name] for name in HUB_ARGUMENTS if kwargs.get(name) is not None}
        config = kwargs.get("config") or AutoConfig.from_pretrained(
            source, trust_remote_code=kwargs["trust_remote_code"], **found
        )
        if type(config) not in cls._model_mapping:
            wanted = " or ".join(repr(known.model_type) for known in cls._model_mapping)
            raise CheckpointError(
                f"{pretrained_model_name_or_path} contains a {config.model_type!r} model, but {wanted} is needed; use "
                "another checkpoint"
            )
        return super().from_pretrained(source, *model_args, **kwargs)
