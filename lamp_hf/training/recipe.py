"""Recipes: YAML files that hold everything a training run depends on."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

__all__ = ["Recipe", "load_recipe"]


@dataclass
class Recipe:
    """Settings of one training stage.

    Args:
        stage: `"motion-vqvae"`, `"lamp"`, `"text-to-motion"`, `"language-model"`, `"captioning"` or
            `"evaluator"`.
        data: Arguments of [`lamp_hf.data.load_motion_dataset`]; `name` is the set or a folder.
        base: Checkpoint of the stage before (or of the same stage, to go on from).
        text_encoder: BERT-like encoder from which a new LaMP starts: a folder, a Hub id, or `package:NAME` for
            one that an installed Python package carries.
        text_learning_rate: Learning rate of what starts from `text_encoder`, lest it forget its language; `None`: that
            of the trainer.
        learning_rate_drops: `{step: factor}`: from each of these steps on, every learning rate is so many times what
            the trainer's schedule says.
        text_vocabulary: `"ascii"` keeps only the word pieces of plain ASCII text, `"full"` all.
        model: Values of the model's configuration that differ from the paper's.
        generation: How the finished text-to-motion model decodes unless told otherwise; see
            [`MaskedMotionGenerationConfig`].
        sampling: How training clips are drawn; see [`ClipDraws`].
        trainer: Arguments of `transformers.TrainingArguments`.
        seed: Seeds weights, clip draws and dropout.
    """

    stage: str
    data: dict[str, Any] = field(default_factory=dict)
    base: str | None = None
    text_encoder: str | None = None
    text_learning_rate: float | None = None
    learning_rate_drops: dict[int, float] = field(default_factory=dict)
    text_vocabulary: str = "full"
    model: dict[str, Any] = field(default_factory=dict)
    generation: dict[str, Any] = field(default_factory=dict)
    sampling: dict[str, Any] = field(default_factory=dict)
    trainer: dict[str, Any] = field(default_factory=dict)
    seed: int = 0

    def to_dict(self) -> dict[str, Any]:
        """The recipe as plain values, as it is written beside the trained model."""
        return asdict(self)


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe and apply overrides.

    Args:
        path: YAML file.
        overrides: `key=value` or `section.key=value`; values are read as YAML.

    Raises:
        FileNotFoundError: No such file.
        ValueError: A key that recipes do not have, or an override without `=`.
    """
    path = Path(path)
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(values, dict) or "stage" not in values:
        raise ValueError(f"{path} is no recipe: a mapping with the key `stage` is expected")
    for override in overrides:
        name, separator, text = override.partition("=")
        if not separator:
            raise ValueError(f"override {override!r} is not of the form key=value or section.key=value")
        target = values
        *sections, key = name.strip().split(".")
        for section in sections:
            target = target.setdefault(section, {})
        target[key] = yaml.safe_load(text)
    known = {item.name for item in fields(Recipe)}
    if strangers := sorted(set(values) - known):
        raise ValueError(f"{path} has unknown keys {', '.join(strangers)}; known: {', '.join(sorted(known))}")
    return Recipe(**values)
