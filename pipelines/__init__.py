"""Pipelines of lamp_hf; imported as `lamp_hf.pipelines`."""

# Imported first for the reason given in lamp_hf/modeling/__init__.py.
import transformers  # noqa: F401

from .motion_captioning import MotionCaptioningPipeline
from .motion_retrieval import MotionRetrievalPipeline
from .text_to_motion import TextToMotionPipeline

__all__ = ["MotionCaptioningPipeline", "MotionRetrievalPipeline", "TextToMotionPipeline"]
