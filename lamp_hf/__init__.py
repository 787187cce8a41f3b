"""Language-motion pretraining (LaMP) for the Hugging Face Hub.

`import lamp_hf` registers the models, processors and pipelines with transformers but does not load them: each
name is imported on first use.
"""

import importlib as _importlib
import os as _os
from typing import TYPE_CHECKING

_here = _os.path.dirname(_os.path.abspath(__file__))
if not _os.path.isdir(_os.path.join(_here, "modeling")):  # a checkout without symlinks
    __path__.append(_os.path.dirname(_here))

from lamp_hf.registration import register_when_transformers_is_imported as _register  # noqa: E402
from lamp_hf.version import __version__  # noqa: E402, F401

if TYPE_CHECKING:
    from lamp_hf.checkpoints.embedded import embedded_checkpoint
    from lamp_hf.data import load_motion_dataset
    from lamp_hf.modeling import (
        AutoModelForMotionCaptioning,
        LampCaptioningConfig,
        LampConfig,
        LampFeatureExtractor,
        LampForMotionCaptioning,
        LampForMotionTextRetrieval,
        LampForMotionToText,
        LampForPreTraining,
        LampForTextToMotion,
        LampModel,
        LampProcessor,
        LampTextToMotionConfig,
        MaskedMotionGenerationConfig,
        MotionLengthEstimatorConfig,
        MotionLengthEstimatorModel,
        MotionTextEvaluatorConfig,
        MotionTextEvaluatorModel,
        MotionVQVAEConfig,
        MotionVQVAEModel,
    )
    from lamp_hf.motion.errors import MotionFormatError
    from lamp_hf.motion.motion import Motion
    from lamp_hf.motion.retarget import Character
    from lamp_hf.motion.skeleton import HUMANML3D_22, KIT_21, Skeleton
    from lamp_hf.pipelines import MotionCaptioningPipeline, MotionRetrievalPipeline, TextToMotionPipeline
    from lamp_hf.retrieval import MotionIndex

_HOMES = {
    "AutoModelForMotionCaptioning": "lamp_hf.modeling",
    "Character": "lamp_hf.motion.retarget",
    "HUMANML3D_22": "lamp_hf.motion.skeleton",
    "KIT_21": "lamp_hf.motion.skeleton",
    "LampCaptioningConfig": "lamp_hf.modeling",
    "LampConfig": "lamp_hf.modeling",
    "LampFeatureExtractor": "lamp_hf.modeling",
    "LampForMotionCaptioning": "lamp_hf.modeling",
    "LampForMotionTextRetrieval": "lamp_hf.modeling",
    "LampForMotionToText": "lamp_hf.modeling",
    "LampForPreTraining": "lamp_hf.modeling",
    "LampForTextToMotion": "lamp_hf.modeling",
    "LampModel": "lamp_hf.modeling",
    "LampProcessor": "lamp_hf.modeling",
    "LampTextToMotionConfig": "lamp_hf.modeling",
    "MaskedMotionGenerationConfig": "lamp_hf.modeling",
    "Motion": "lamp_hf.motion.motion",
    "MotionCaptioningPipeline": "lamp_hf.pipelines",
    "MotionFormatError": "lamp_hf.motion.errors",
    "MotionIndex": "lamp_hf.retrieval",
    "MotionLengthEstimatorConfig": "lamp_hf.modeling",
    "MotionLengthEstimatorModel": "lamp_hf.modeling",
    "MotionRetrievalPipeline": "lamp_hf.pipelines",
    "MotionTextEvaluatorConfig": "lamp_hf.modeling",
    "MotionTextEvaluatorModel": "lamp_hf.modeling",
    "MotionVQVAEConfig": "lamp_hf.modeling",
    "MotionVQVAEModel": "lamp_hf.modeling",
    "Skeleton": "lamp_hf.motion.skeleton",
    "TextToMotionPipeline": "lamp_hf.pipelines",
    "embedded_checkpoint": "lamp_hf.checkpoints.embedded",
    "load_motion_dataset": "lamp_hf.data",
}

__all__ = [
    "HUMANML3D_22",
    "KIT_21",
    "AutoModelForMotionCaptioning",
    "Character",
    "LampCaptioningConfig",
    "LampConfig",
    "LampFeatureExtractor",
    "LampForMotionCaptioning",
    "LampForMotionTextRetrieval",
    "LampForMotionToText",
    "LampForPreTraining",
    "LampForTextToMotion",
    "LampModel",
    "LampProcessor",
    "LampTextToMotionConfig",
    "MaskedMotionGenerationConfig",
    "Motion",
    "MotionCaptioningPipeline",
    "MotionFormatError",
    "MotionIndex",
    "MotionLengthEstimatorConfig",
    "MotionLengthEstimatorModel",
    "MotionRetrievalPipeline",
    "MotionTextEvaluatorConfig",
    "MotionTextEvaluatorModel",
    "MotionVQVAEConfig",
    "MotionVQVAEModel",
    "Skeleton",
    "TextToMotionPipeline",
    "embedded_checkpoint",
    "load_motion_dataset",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(_importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


_register()
