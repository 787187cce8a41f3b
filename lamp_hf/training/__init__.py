"""Training: one recipe per stage, run by `transformers.Trainer` with Accelerate; fine-tuning in one call."""

from typing import TYPE_CHECKING, Any

from .recipe import Recipe, load_recipe
from .run import train
from .stages import STAGES

if TYPE_CHECKING:
    from .fine_tuning import FineTuning, fine_tune

__all__ = ["STAGES", "FineTuning", "Recipe", "fine_tune", "load_recipe", "train"]


def __getattr__(name: str) -> Any:
    if name in ("FineTuning", "fine_tune"):  # imported lazily: it also needs evaluation and publishing
        from . import fine_tuning

        return getattr(fine_tuning, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
