"""The model that a checkpoint is made for, where a task has several."""

from typing import Any

from transformers.models.auto.auto_factory import _BaseAutoModelClass

from .configuration_lamp import LampCaptioningConfig, LampConfig, LampTextToMotionConfig
from .modeling_lamp_captioning import LampForMotionCaptioning
from .modeling_lamp_motion_to_text import LampForMotionToText

__all__ = ["AutoModelForMotionCaptioning"]


class AutoModelForMotionCaptioning(_BaseAutoModelClass):
    """What captions motions: LaMP itself, or a language model that it tells of them.

    `AutoModelForMotionCaptioning.from_pretrained(…)` gives a [`LampForMotionToText`] for checkpoints of LaMP and of
    text-to-motion, and a [`LampForMotionCaptioning`] for its own.
    """

    _model_mapping: Any = {
        LampConfig: LampForMotionToText,
        LampTextToMotionConfig: LampForMotionToText,
        LampCaptioningConfig: LampForMotionCaptioning,
    }
