"""The model that a checkpoint is made for, where a task has several."""

from typing import Any

from transformers import AutoConfig, AutoModel

from lamp_hf.checkpoints.files import CheckpointError, checked_name

from .configuration_lamp import LampCaptioningConfig, LampConfig, LampTextToMotionConfig
from .modeling_lamp_captioning import HUB_ARGUMENTS, LampForMotionCaptioning
from .modeling_lamp_motion_to_text import LampForMotionToText

__all__ = ["AutoModelForMotionCaptioning"]


class AutoModelForMotionCaptioning(AutoModel):
    """What captions motions: LaMP itself, or a language model that it tells of them.

    `AutoModelForMotionCaptioning.from_pretrained(…)` gives a [`LampForMotionToText`] for checkpoints of LaMP and of
    text-to-motion, and a [`LampForMotionCaptioning`] for its own.
    """

    _model_mapping: Any = {
        LampConfig: LampForMotionToText,
        LampTextToMotionConfig: LampForMotionToText,
        LampCaptioningConfig: LampForMotionCaptioning,
    }

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *model_args: Any, **kwargs: Any) -> Any:
        """As for any auto class of transformers.

        Raises:
            CheckpointError: The checkpoint holds no captioner.
        """
        source = checked_name(pretrained_model_name_or_path, kwargs)
        kwargs = {"trust_remote_code": False, **kwargs}  # else transformers asks whether to run a checkpoint's code
        found = {name: kwargs[name] for name in HUB_ARGUMENTS if kwargs.get(name) is not None}
        config = kwargs.get("config") or AutoConfig.from_pretrained(
            source, trust_remote_code=kwargs["trust_remote_code"], **found
        )
        if type(config) not in cls._model_mapping:
            wanted = " or ".join(repr(known.model_type) for known in cls._model_mapping)
            raise CheckpointError(
                f"{pretrained_model_name_or_path} holds a {config.model_type!r} model where {wanted} is needed; name "
                "another checkpoint"
            )
        return super().from_pretrained(source, *model_args, **kwargs)
