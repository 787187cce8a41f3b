"""What the stages have in common: the data set, its statistics, and the clips in memory."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from datasets import Dataset, DatasetDict
from transformers import PreTrainedConfig, PreTrainedModel, TrainingArguments

from lamp_hf.data import load_motion_dataset
from lamp_hf.data.schema import with_numpy_motion
from lamp_hf.data.splits import with_validation
from lamp_hf.modeling.modeling_lamp_text_to_motion import LampForTextToMotion
from lamp_hf.modeling.processing_lamp import LampProcessor
from lamp_hf.motion.motion import Motion
from lamp_hf.training.recipe import Recipe, refuse_unknown

from .draws import ClipDraws, balanced_weights
from .rehearsal import RehearsedMotion, rehearse

__all__ = ["Stage", "shown_labels"]


def shown_labels(dataset: Dataset) -> list[str]:
    """What each clip shows: content and style where the set has labels, else its first caption."""
    return [
        f"{content}/{style}" if content else captions[0]["text"]
        for content, style, captions in zip(dataset["content"], dataset["style"], dataset["captions"], strict=True)
    ]


class Stage(ABC):
    """One training stage: subclasses say which model, which examples, and how to judge it.

    Attributes:
        config_class: Of the model: what a recipe's model section may hold.
        sampling: What its sampling section may hold.
        model: The model to train.
        processor: Saved beside the model: a feature extractor, or a processor with the tokenizer.
        train_dataset: The run's draws.
        learning_rates: Learning rates of parameters that do not learn at the trainer's.
        rehearsed, eval_rehearsed: Motions that the base made of what it knows, to train on and to be judged on; none
            unless the recipe asks for them and the stage can.
    """

    config_class: ClassVar[type[PreTrainedConfig]]
    sampling: ClassVar[tuple[str, ...]] = ("balance",)
    model: PreTrainedModel
    processor: Any
    train_dataset: ClipDraws
    learning_rates: dict[torch.nn.Parameter, float]

    def __init__(self, recipe: Recipe, arguments: TrainingArguments):
        self.check(recipe)
        self.recipe = recipe
        self.arguments = arguments
        data = dict(recipe.data)
        self.dataset: DatasetDict = with_validation(load_motion_dataset(data.pop("name"), **data))
        self.train_clips = self._clips("train")
        self.eval_clips = self._clips("validation")
        self.learning_rates = {}
        self.rehearsed: list[RehearsedMotion] = []
        self.eval_rehearsed: list[RehearsedMotion] = []
        self.build()
        if recipe.samples:
            self.check_samples(recipe.samples)
        if recipe.rehearsal.get("num_motions") and not self.rehearsed:
            raise ValueError(
                f"the stage {recipe.stage} has nothing to rehearse here: leave rehearsal out of the recipe"
            )
        batch_size = (
            arguments.per_device_train_batch_size * arguments.gradient_accumulation_steps * arguments.world_size
        )
        self.train_dataset = ClipDraws(
            self._draw,
            self._weights(),
            num_draws=arguments.max_steps * batch_size,
            seed=recipe.seed,
            size=self.size if recipe.sampling.get("group_by_length") else None,
            batch_size=batch_size,
        )

    @classmethod
    def check(cls, recipe: Recipe) -> None:
        """Refuse what nothing of this stage would read.

        Raises:
            ValueError: The model or the sampling section has a key that is not known.
        """
        known = {item.name for item in fields(cls.config_class)} | {"attn_implementation"}  # type: ignore[arg-type]
        refuse_unknown("model", recipe.model, known)
        refuse_unknown("sampling", recipe.sampling, cls.sampling)

    def _clips(self, split: str) -> list[np.ndarray]:
        """Unnormalized features of every clip of a split."""
        if split not in self.dataset:
            raise ValueError(f"the data set has no split {split!r}; found: {', '.join(self.dataset)}")
        if not len(self.dataset[split]):
            raise ValueError(f"the split {split!r} of the data set has no clips")
        clips = []
        for row in with_numpy_motion(self.dataset[split]):
            clips.append(np.asarray(row["motion"], dtype=np.float32))
            if not np.isfinite(clips[-1]).all():
                raise ValueError(
                    f"the clip {row['id']} holds values that are not finite (NaN or infinity): take it out of the data "
                    "set (`lamp-hf data check` finds all of them)"
                )
            if timed := [caption for caption in row["captions"] if caption["end"]]:
                raise ValueError(
                    f"the clip {row['id']} has a caption of a part of it, from {timed[0]['start']:g} to "
                    f"{timed[0]['end']:g} s: make the part a clip of its own (folders with metadata.jsonl do so)"
                )
        return clips

    def rehearse(self, model: LampForTextToMotion, processor: LampProcessor) -> None:
        """Have the base do what it knows, if the recipe asks for it."""
        if count := int(self.recipe.rehearsal.get("num_motions", 0)):
            self.rehearsed, self.eval_rehearsed = rehearse(model, processor, num_motions=count, seed=self.recipe.seed)

    def _weights(self) -> np.ndarray:
        """Probability of each clip, and after the clips of each rehearsed motion."""
        balance = float(self.recipe.sampling.get("balance", 0.0))
        weights = balanced_weights(shown_labels(self.dataset["train"]), balance)
        if not self.rehearsed:
            return weights
        share = float(self.recipe.rehearsal.get("share", 0.5))
        rehearsed = np.full(len(self.rehearsed), share / len(self.rehearsed))
        return np.concatenate([(1 - share) * weights, rehearsed])

    def _draw(self, number: int, rng: np.random.Generator) -> dict[str, Any]:
        clips = len(self.train_clips)
        return (
            self.example(number, rng) if number < clips else self.rehearsed_example(self.rehearsed[number - clips], rng)
        )

    @property
    def device(self) -> torch.device:
        """Where the model is trained."""
        return self.arguments.device

    @abstractmethod
    def build(self) -> None:
        """Set `model` and `processor`; prepare what the examples need."""

    @abstractmethod
    def example(self, clip: int, rng: np.random.Generator) -> dict[str, Any]:
        """One training example of a clip."""

    def rehearsed_example(self, motion: RehearsedMotion, rng: np.random.Generator) -> dict[str, Any]:
        """One training example of a rehearsed motion, as [`example`] makes it of a clip."""
        raise NotImplementedError

    def size(self, example: dict[str, Any]) -> int:
        """Length of an example, for batches of similar length (`sampling.group_by_length`)."""
        raise NotImplementedError

    @abstractmethod
    def collate(self, examples: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Keyword arguments of the model's forward."""

    def complete(self, batch: dict[str, Any]) -> dict[str, Any]:
        """A training batch, on its device, with what only a model can tell."""
        return batch

    @abstractmethod
    def evaluate(self, model: PreTrainedModel) -> dict[str, float]:
        """Metrics on the validation split."""

    def name_of(self, number: int) -> str:
        """What a message calls a clip, or a rehearsed motion, by its number among the draws."""
        clips = len(self.train_clips)
        if number < clips:
            return str(self.dataset["train"][number]["id"])
        return f"a rehearsed motion ({self.rehearsed[number - clips].text!r})"

    def check_samples(self, wanted: list[str]) -> None:
        """Refuse samples that this stage cannot give, before training.

        Raises:
            ValueError: It gives none, or does not know one of them.
        """
        raise ValueError(f"the stage {self.recipe.stage} has no motions to show: leave samples out of the recipe")

    def samples(self, model: PreTrainedModel) -> Iterator[Motion]:
        """Motions that show what the model can do so far, with what was asked for as their text."""
        raise NotImplementedError

    def finish(self, output_dir: Path) -> None:  # noqa: B027 (few stages have anything left to do)
        """What is left to do with the trained model, or to write beside it, before it is saved."""
