"""Training stages, one module each. A stage is imported only when a recipe names it."""

import importlib

from .base import Stage

__all__ = ["STAGES", "stage_class"]

# Module and class of each stage, by its name in recipes.
STAGES = {
    "motion-vqvae": ("motion_vqvae", "MotionVQVAEStage"),
    "lamp": ("lamp", "LampStage"),
    "text-to-motion": ("text_to_motion", "TextToMotionStage"),
    "language-model": ("language_model", "LanguageModelStage"),
    "captioning": ("captioning", "CaptioningStage"),
    "evaluator": ("evaluator", "EvaluatorStage"),
}


def stage_class(name: str) -> type[Stage]:
    """Return the class of a stage.

    Raises:
        ValueError: There is no such stage.
    """
    if name not in STAGES:
        raise ValueError(f"unknown stage {name!r}; choose one of {', '.join(STAGES)}")
    module, class_name = STAGES[name]
    stage: type[Stage] = getattr(importlib.import_module(f"{__name__}.{module}"), class_name)
    return stage
