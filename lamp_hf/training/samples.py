"""Motions to look at while a model is trained: drawn at every evaluation, and without a trace in the training."""

import logging
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

if TYPE_CHECKING:
    from lamp_hf.training.stages.base import Stage

__all__ = ["SampleCallback"]

logger = logging.getLogger(__name__)

SIZE_PIXELS = 256


class SampleCallback(TrainerCallback):
    """Draws what a stage's [`Stage.samples`] gives, as GIFs in `samples/step-000500/`.

    A drawing that fails is a warning: hours of training are not lost for it.
    """

    def __init__(self, stage: "Stage", folder: Path):
        self.stage = stage
        self.folder = folder

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if not state.is_world_process_zero:
            return
        model = kwargs["model"]
        was_training = model.training
        with _random_state_kept():
            try:
                model.eval()
                self._draw(self.folder / f"step-{state.global_step:06d}", model)
            except Exception as error:
                logger.warning("No samples at step %d: %s: %s", state.global_step, type(error).__name__, error)
            finally:
                model.train(was_training)

    def _draw(self, folder: Path, model: Any) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for number, motion in enumerate(self.stage.samples(model)):
            motion.save(
                folder / f"{number}.gif",
                size=SIZE_PIXELS,
                fps=min(motion.fps, 20.0),
                caption=motion.text,
                plant_feet=False,
            )


@contextmanager
def _random_state_kept() -> Iterator[None]:
    """Whatever draws random numbers inside, the training goes on with those it would have had."""
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        yield
    random.setstate(python)
    np.random.set_state(numpy)
