"""Sample motions rendered at every evaluation, without any effect on the training."""

import logging
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from lamp_hf.motion.motion import Motion

from .sharding import is_sharded

if TYPE_CHECKING:
    from lamp_hf.training.stages.base import Stage

__all__ = ["SampleCallback"]

logger = logging.getLogger(__name__)

SIZE_PIXELS = 256


class SampleCallback(TrainerCallback):
    """Renders the motions of [`Stage.samples`] as GIFs in `samples/step-000500/`.

    If rendering fails, a warning is logged and training continues.
    """

    def __init__(self, stage: "Stage", folder: Path):
        self.stage = stage
        self.folder = folder

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        model = kwargs["model"]
        if not (state.is_world_process_zero or is_sharded(model)):
            return
        was_training = model.training
        with _preserved_random_state():
            try:
                model.eval()
                motions = list(self.stage.samples(model))  # with a sharded model, in all processes
                if state.is_world_process_zero:
                    self._draw(self.folder / f"step-{state.global_step:06d}", motions)
            except Exception as error:
                logger.warning("No samples at step %d: %s: %s", state.global_step, type(error).__name__, error)
            finally:
                model.train(was_training)

    def _draw(self, folder: Path, motions: list[Motion]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for number, motion in enumerate(motions):
            motion.save(
                folder / f"{number}.gif",
                size=SIZE_PIXELS,
                fps=min(motion.fps, 20.0),
                caption=motion.text,
                plant_feet=False,
            )


@contextmanager
def _preserved_random_state() -> Iterator[None]:
    """Restore the random states of Python, NumPy and PyTorch on exit."""
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        yield
    random.setstate(python)
    np.random.set_state(numpy)
