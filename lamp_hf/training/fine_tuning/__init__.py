"""Fine-tuning in one call: checks, training, scores, card."""

from .report import FineTuning
from .tune import fine_tune

__all__ = ["FineTuning", "fine_tune"]
