"""Fine-tuning in one call: checks, training, scores and model card."""

from .report import FineTuning
from .tune import fine_tune

__all__ = ["FineTuning", "fine_tune"]
