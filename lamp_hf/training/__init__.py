"""Training: one recipe a stage on `transformers.Trainer`, with Accelerate beneath; fine-tuning in one call."""

from .fine_tuning import FineTuning, fine_tune
from .recipe import Recipe, load_recipe
from .run import STAGES, train

__all__ = ["STAGES", "FineTuning", "Recipe", "fine_tune", "load_recipe", "train"]
