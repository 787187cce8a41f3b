"""The public names of lamp_hf, listed once: type checkers and `__init__.py` read them from the imports below."""

# ruff: noqa: I001 (one block per module)
from lamp_hf.checkpoints.embedded import embedded_checkpoint as embedded_checkpoint
from lamp_hf.data import load_motion_dataset as load_motion_dataset
from lamp_hf.modeling import (
    AutoModelForMotionCaptioning as AutoModelForMotionCaptioning,
    GloveTokenizer as GloveTokenizer,
    LampConfig as LampConfig,
    LampDecoderForMotionCaptioning as LampDecoderForMotionCaptioning,
    LampFeatureExtractor as LampFeatureExtractor,
    LampForMotionTextRetrieval as LampForMotionTextRetrieval,
    LampForPreTraining as LampForPreTraining,
    LampForTextToMotion as LampForTextToMotion,
    LampModel as LampModel,
    LampProcessor as LampProcessor,
    LampTextToMotionConfig as LampTextToMotionConfig,
    LampWithLanguageModelConfig as LampWithLanguageModelConfig,
    LampWithLanguageModelForMotionCaptioning as LampWithLanguageModelForMotionCaptioning,
    MaskedMotionGenerationConfig as MaskedMotionGenerationConfig,
    MotionLengthEstimatorConfig as MotionLengthEstimatorConfig,
    MotionLengthEstimatorModel as MotionLengthEstimatorModel,
    MotionTextEvaluatorConfig as MotionTextEvaluatorConfig,
    MotionTextEvaluatorModel as MotionTextEvaluatorModel,
    MotionVQVAEConfig as MotionVQVAEConfig,
    MotionVQVAEModel as MotionVQVAEModel,
)
from lamp_hf.motion.errors import MotionFormatError as MotionFormatError
from lamp_hf.motion.motion import Motion as Motion
from lamp_hf.motion.retarget import Character as Character
from lamp_hf.motion.skeleton import (
    HUMANML3D_22 as HUMANML3D_22,
    KIT_21 as KIT_21,
    Skeleton as Skeleton,
)
from lamp_hf.pipelines import (
    MotionCaptioningPipeline as MotionCaptioningPipeline,
    MotionRetrievalPipeline as MotionRetrievalPipeline,
    TextToMotionPipeline as TextToMotionPipeline,
)
from lamp_hf.retrieval import MotionIndex as MotionIndex

__version__: str
