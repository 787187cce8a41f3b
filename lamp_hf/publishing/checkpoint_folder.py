"""A checkpoint folder, read once."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from lamp_hf.checkpoints.embedded import portable_name
from lamp_hf.checkpoints.files import INDEX_FILE, explained
from lamp_hf.hub.upload import CARD, matches

from .model_kinds import KINDS, OTHER, Kind

if TYPE_CHECKING:
    from lamp_hf.evaluation.records import EvaluationRecord

__all__ = ["CONVERSION_FILE", "HISTORY", "RECORDS", "WEIGHTS", "CheckpointFolder"]

WEIGHTS = ("*.safetensors", "*.safetensors.index.json")
CONVERSION_FILE = "conversion.json"
# Text files that say where the weights come from.
HISTORY = ("recipe.yaml", "training.json", "fine-tuning.json", CONVERSION_FILE, "adapter/adapter_config.json")
RECORDS = "evaluations/*.json"
# The text files that describing and publishing a checkpoint needs.
READ = (
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    INDEX_FILE,
    CARD,
    *HISTORY,
    RECORDS,
)


@dataclass(frozen=True)
class CheckpointFolder:
    """The content of a checkpoint folder, or of the folder of a finished run, at one moment.

    [`read`] opens each text file once. The properties parse the texts and open nothing.

    Args:
        path: The folder.
        files: Path of each file, by its name relative to the folder, such as `"evaluations/retrieval.json"`.
        texts: Content of the text files that describe the checkpoint, by the same names.
    """

    path: Path
    files: Mapping[str, Path]
    texts: Mapping[str, str]

    @classmethod
    def read(cls, path: str | Path) -> "CheckpointFolder":
        """Read a folder as `save_pretrained`, a training run or a conversion leaves it.

        Raises:
            CheckpointError: A file is damaged.
        """
        path = Path(path)
        files = {file.relative_to(path).as_posix(): file for file in sorted(path.rglob("*")) if file.is_file()}
        with explained(path, (), {}):
            texts = {name: file.read_text(encoding="utf-8") for name, file in files.items() if matches(name, READ)}
        return cls(path, files, texts)

    def with_texts(self, texts: Mapping[str, str]) -> "CheckpointFolder":
        """Return the same checkpoint with text files added or replaced; the folder does not change."""
        return replace(self, texts={**self.texts, **texts})

    def values(self, name: str) -> dict[str, Any]:
        """Return the content of a JSON or YAML file, empty if there is no such file."""
        if name not in self.texts:
            return {}
        parse = yaml.safe_load if name.endswith(".yaml") else json.loads
        return parse(self.texts[name]) or {}

    @cached_property
    def config(self) -> dict[str, Any]:
        """The model's configuration."""
        return self.values("config.json")

    @cached_property
    def generation_config(self) -> dict[str, Any]:
        """The generation settings."""
        return self.values("generation_config.json")

    @cached_property
    def processor(self) -> dict[str, Any]:
        """The processor's settings."""
        return self.values("processor_config.json")

    @cached_property
    def extractor(self) -> dict[str, Any]:
        """The feature extractor's settings, from its own file or from the processor's."""
        settings: dict[str, Any] = self.values("preprocessor_config.json")
        return settings or self.processor.get("feature_extractor", self.processor)

    @cached_property
    def recipe(self) -> dict[str, Any]:
        """The training recipe."""
        return self.values("recipe.yaml")

    @cached_property
    def training(self) -> dict[str, Any]:
        """The training history: final metrics and log."""
        return self.values("training.json")

    @cached_property
    def fine_tuning(self) -> dict[str, Any]:
        """The fine-tuning report: scores before and after."""
        return self.values("fine-tuning.json")

    @cached_property
    def conversion(self) -> dict[str, Any]:
        """The conversion record: source files and assumed settings."""
        return self.values(CONVERSION_FILE)

    @cached_property
    def records(self) -> list["EvaluationRecord"]:
        """The evaluation records.

        Raises:
            ValueError: A file in `evaluations/` is not a record.
        """
        from lamp_hf.evaluation.records import EvaluationRecord

        names = sorted(name for name in self.texts if matches(name, (RECORDS,)))
        return [EvaluationRecord.from_json(self.texts[name], self.path / name) for name in names]

    @property
    def card(self) -> str | None:
        """The text of the model card, if there is one."""
        return self.texts.get(CARD)

    @property
    def weights(self) -> list[Path]:
        """The weight files."""
        return [path for name, path in self.files.items() if matches(name, ("*.safetensors",))]

    @property
    def kind(self) -> Kind:
        """The text that model cards share, by the model type in the configuration."""
        return KINDS.get(self.config["model_type"], OTHER)

    @property
    def bases(self) -> list[str]:
        """Names of the checkpoints that this one was made from, by its recipe and its configuration."""
        names = [self.recipe.get("base"), self.config.get("lamp_name"), self.config.get("language_model_name")]
        return list(dict.fromkeys(portable_name(str(name)) for name in names if name))

    @property
    def datasets(self) -> list[str]:
        """Names of the data sets that this checkpoint was trained on, by its recipe."""
        name = self.recipe.get("data", {}).get("name")
        return [str(name)] if name else []
