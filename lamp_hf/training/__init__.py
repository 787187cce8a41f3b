"""Training: one recipe a stage on `transformers.Trainer`, with Accelerate beneath."""

from .recipe import Recipe, load_recipe
from .run import STAGES, train

__all__ = ["STAGES", "Recipe", "load_recipe", "train"]
