"""Models, configurations and processors of lamp_hf; imported as `lamp_hf.modeling`."""

# Imported first: importing transformers registers lamp_hf with it, which imports the modules of this folder. If one of
# them imported transformers first, the registration would find that module half imported.
import transformers  # noqa: F401

from .configuration_generation_lamp import MaskedMotionGenerationConfig
from .configuration_lamp import (
    LampConfig,
    LampTextToMotionConfig,
    LampWithLanguageModelConfig,
    MotionLengthEstimatorConfig,
    MotionTextEvaluatorConfig,
    MotionVQVAEConfig,
)
from .feature_extraction_lamp import LampFeatureExtractor
from .modeling_auto import AutoModelForMotionCaptioning
from .modeling_lamp import LampModel
from .modeling_lamp_decoder_captioning import LampDecoderForMotionCaptioning
from .modeling_lamp_language_model_captioning import LampWithLanguageModelForMotionCaptioning
from .modeling_lamp_motion_text_retrieval import LampForMotionTextRetrieval
from .modeling_lamp_pretraining import LampForPreTraining
from .modeling_lamp_text_to_motion import LampForTextToMotion
from .modeling_motion_length_estimator import MotionLengthEstimatorModel
from .modeling_motion_text_evaluator import MotionTextEvaluatorModel
from .modeling_motion_vqvae import MotionVQVAEModel
from .processing_lamp import LampProcessor
from .tokenization_glove import GloveTokenizer

__all__ = [
    "AutoModelForMotionCaptioning",
    "GloveTokenizer",
    "LampConfig",
    "LampDecoderForMotionCaptioning",
    "LampFeatureExtractor",
    "LampForMotionTextRetrieval",
    "LampForPreTraining",
    "LampForTextToMotion",
    "LampModel",
    "LampProcessor",
    "LampTextToMotionConfig",
    "LampWithLanguageModelConfig",
    "LampWithLanguageModelForMotionCaptioning",
    "MaskedMotionGenerationConfig",
    "MotionLengthEstimatorConfig",
    "MotionLengthEstimatorModel",
    "MotionTextEvaluatorConfig",
    "MotionTextEvaluatorModel",
    "MotionVQVAEConfig",
    "MotionVQVAEModel",
]
