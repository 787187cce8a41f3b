"""Recipes: YAML files that hold everything a training run depends on."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

__all__ = ["RECIPES_FOLDER", "Recipe", "load_recipe", "recipe_names", "recipe_of", "refuse_unknown"]

RECIPES_FOLDER = Path(__file__).resolve().parent / "recipes"


class _Loader(yaml.SafeLoader):
    """Reads `1e-4` as the number that it is in YAML 1.2; PyYAML takes it for a string."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


@dataclass
class Recipe:
    """Settings of one training stage.

    Args:
        stage: `"motion-vqvae"`, `"lamp"`, `"text-to-motion"`, `"language-model"`, `"captioning"` or
            `"evaluator"`.
        data: Arguments of [`lamp_hf.data.load_motion_dataset`]; `name` is the set or a folder.
        base: Checkpoint of the stage before (or of the same stage, to go on from).
        tokenizer: Of the stage text-to-motion, a motion tokenizer in place of the base's, with the same encoder.
        rehearsal: `{num_motions, share}`: motions of the base's own, for texts that it knows, which make up that share
            of all draws, lest it forget them; see [`rehearse`]. Text-to-motion learns of them how likely the base
            holds each code.
        lora: `{rank, alpha}` of an adapter that learns in place of the masked transformer.
        text_encoder: BERT-like encoder from which a new LaMP starts, or the words of an evaluator without a base: a
            folder, a Hub id, or `package:NAME` for one that an installed Python package carries.
        text_learning_rate: Learning rate of what starts from `text_encoder`, lest it forget its language; `None`: that
            of the trainer.
        learning_rate_drops: `{step: factor}`: from each of these steps on, every learning rate is so many times what
            the trainer's schedule says.
        text_vocabulary: `"ascii"` keeps only the word pieces of plain ASCII text, `"full"` all.
        model: Values of the model's configuration that differ from the paper's.
        generation: How the finished text-to-motion model decodes unless told otherwise; see
            [`MaskedMotionGenerationConfig`].
        sampling: How training clips are drawn; see [`ClipDraws`].
        samples: What is drawn at every evaluation, into `samples/` of the run: sentences, for which a text-to-motion
            model makes motions, or ids of validation clips, which a motion tokenizer reconstructs.
        trainer: Arguments of `transformers.TrainingArguments`.
        seed: Seeds weights, clip draws and dropout.
    """

    stage: str
    data: dict[str, Any] = field(default_factory=dict)
    base: str | None = None
    tokenizer: str | None = None
    rehearsal: dict[str, Any] = field(default_factory=dict)
    lora: dict[str, Any] = field(default_factory=dict)
    text_encoder: str | None = None
    text_learning_rate: float | None = None
    learning_rate_drops: dict[int, float] = field(default_factory=dict)
    text_vocabulary: str = "full"
    model: dict[str, Any] = field(default_factory=dict)
    generation: dict[str, Any] = field(default_factory=dict)
    sampling: dict[str, Any] = field(default_factory=dict)
    samples: list[str] = field(default_factory=list)
    trainer: dict[str, Any] = field(default_factory=dict)
    seed: int = 0

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if item.default_factory is dict and not isinstance(value, dict):
                raise ValueError(f"{item.name}={value!r} is not a section with keys of its own")
        if not isinstance(self.seed, int) or self.seed < 0:
            raise ValueError(f"seed={self.seed!r} is not a whole number of at least 0")
        refuse_unknown("rehearsal", self.rehearsal, ("num_motions", "share"))
        refuse_unknown("lora", self.lora, ("rank", "alpha"))
        share, rank = self.rehearsal.get("share", 0.5), self.lora.get("rank", 1)
        if not (isinstance(share, int | float) and 0 < share < 1):
            raise ValueError(f"rehearsal.share={share} is not between 0 and 1")
        if not (isinstance(rank, int) and rank >= 1):
            raise ValueError(f"lora.rank={rank} is not a whole number of at least 1")

    def to_dict(self) -> dict[str, Any]:
        """The recipe as plain values, as it is written beside the trained model."""
        return asdict(self)


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe and apply overrides.

    Args:
        path: YAML file, or the name of a recipe of the package as [`recipe_names`] has it: `"bandai-namco/lamp"`. A
            file in the current directory comes first.
        overrides: As for [`recipe_of`].

    Raises:
        FileNotFoundError: There is no such file, and no recipe of the package has this name.
        ValueError: The file is no recipe, has a key that no recipe has, or an override is wrong.
    """
    values = yaml.load(_find(path).read_text(encoding="utf-8"), _Loader)
    if not isinstance(values, dict) or "stage" not in values:
        raise ValueError(f"{path} is not a recipe: expected a mapping with the key `stage`")
    return recipe_of(values, overrides, str(path))


def recipe_names() -> list[str]:
    """Names of the recipes of the package, such as `"bandai-namco/lamp"`."""
    return sorted(
        path.relative_to(RECIPES_FOLDER).with_suffix("").as_posix() for path in RECIPES_FOLDER.rglob("*.yaml")
    )


def _find(path: str | Path) -> Path:
    """The file of a recipe that is given by its path or its name."""
    if Path(path).exists():
        return Path(path)
    name = Path(path).as_posix()
    if name in recipe_names():
        return RECIPES_FOLDER / f"{name}.yaml"
    near = get_close_matches(name, recipe_names(), 1)
    meant = f"did you mean {near[0]}?" if near else f"the package has {', '.join(recipe_names())}"
    raise FileNotFoundError(f"{path}: no such file, and not the name of a recipe of this package; {meant}")


def recipe_of(values: dict[str, Any], overrides: Sequence[str], name: str) -> Recipe:
    """A recipe of its values.

    Args:
        values: By key; overrides are written into it.
        overrides: `key=value` or `section.key=value`; values are read as YAML.
        name: Of the recipe, for messages.

    Raises:
        ValueError: A key that no recipe has, a value that makes no sense, or an override without `=`.
    """
    for override in overrides:
        key_path, separator, text = override.partition("=")
        if not separator:
            raise ValueError(f"override {override!r} is not of the form key=value or section.key=value")
        target = values
        *sections, key = key_path.strip().split(".")
        for section in sections:
            target = target.setdefault(section, {})
            if not isinstance(target, dict):
                raise ValueError(f"override {override!r}: {section} is not a section with keys of its own")
        target[key] = yaml.load(text, _Loader)
    known = {item.name for item in fields(Recipe)}
    if strangers := sorted(set(values) - known):
        raise ValueError(f"{name} has unknown keys {', '.join(strangers)}; known: {', '.join(sorted(known))}")
    return Recipe(**values)


def refuse_unknown(section: str, values: Mapping[str, Any], known: Iterable[str]) -> None:
    """Refuse keys of a recipe's section that nothing would read.

    Raises:
        ValueError: It names the first of them, and what may have been meant.
    """
    known = sorted(known)
    if strangers := [key for key in values if key not in known]:
        like = get_close_matches(strangers[0], known, 1)
        meant = f"did you mean {like[0]}?" if like else f"known: {', '.join(known)}"
        raise ValueError(f"the recipe's {section} section has the unknown key {strangers[0]} ({meant})")
