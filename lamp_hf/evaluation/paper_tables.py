"""Tables of a paper as files: published figures, and the commands that measure the same here."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from lamp_hf.files import atomic_path

from .records import Estimate, EvaluationRecord

__all__ = ["PaperTable", "TableRow", "TableTraining", "load_table"]

RUNS = "{runs}"  # in a table file, the folder of the trainings
DONE = "command.json"  # the command that wrote the records of a row, written after them


@dataclass(frozen=True)
class TableTraining:
    """A training that a row needs.

    Args:
        recipe: File or name of the recipe.
        stage: Stage of the recipe.
        output: Name of the run. Rows with the same name share it.
        overrides: Changes of the recipe, such as `model.text_condition=clip`. `{runs}` is the folder of the runs.
    """

    recipe: str
    stage: str
    output: str
    overrides: tuple[str, ...] = ()


@dataclass(frozen=True)
class TableRow:
    """A row of a table.

    Args:
        name: Name of the model.
        published: Published value of each metric.
        checkpoint: Checkpoint to evaluate, or `None` for a row with published figures only. `{runs}` is the folder of
            the runs.
        train: Trainings that make the checkpoint, in their order.
        evaluate: Command of `lamp-hf evaluate`.
        data: Name of the data set, which is also its path unless the user gives another one.
        options: Options of the command.
    """

    name: str
    published: Mapping[str, float] = field(default_factory=dict)
    checkpoint: str | None = None
    train: tuple[TableTraining, ...] = ()
    evaluate: str = ""
    data: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)

    def trainings(self, folder: Path, paths: Mapping[str, str]) -> list[tuple[Path, list[str]]]:
        """Return the folder and the command of each training, without `lamp-hf`."""
        runs, found = folder / "runs", []
        for training in self.train:
            output = runs / training.output
            overrides = [override.replace(RUNS, str(runs)) for override in training.overrides]
            command = ["train", training.stage, "--config", training.recipe, "--output", str(output)]
            found.append((output, [*command, "--data", paths.get(self.data, self.data), *overrides]))
        return found

    def evaluation(self, folder: Path, paths: Mapping[str, str], options: Mapping[str, Any]) -> list[str]:
        """Return the command that evaluates the checkpoint, without `lamp-hf`.

        Args:
            folder: Folder of the reproduction.
            paths: Path of each data set, if it is not its name.
            options: Options that override those of the table.
        """
        assert self.checkpoint is not None
        runs = str(folder / "runs")
        command = ["evaluate", self.evaluate, self.checkpoint.replace(RUNS, runs)]
        command += [
            "--data",
            paths.get(self.data, self.data),
            "--name",
            self.name,
            "--output",
            str(self.records(folder)),
        ]
        for name, value in {**self.options, **options}.items():
            flag = f"--{name.replace('_', '-')}"
            for each in value if isinstance(value, list) else [value]:
                command += [flag] if each is True else [flag, str(each).replace(RUNS, runs)]
        return command

    def records(self, folder: Path) -> Path:
        """Return the folder of the records."""
        return folder / "records" / self.name.replace("/", "--").replace(" ", "-")

    def is_measured(self, folder: Path, command: Sequence[str]) -> bool:
        """Return whether a command has written the records of this row.

        Raises:
            FileExistsError: Another command has written them.
        """
        path = self.records(folder) / DONE
        if not path.is_file():
            return False
        if (earlier := json.loads(path.read_text(encoding="utf-8"))) != list(command):
            raise FileExistsError(
                f"{path.parent} was measured by another command, lamp-hf {' '.join(earlier)}; use the same options, "
                "delete it, or choose another --output"
            )
        return True

    def mark_measured(self, folder: Path, command: Sequence[str]) -> None:
        """Note that a command has written the records of this row."""
        with atomic_path(self.records(folder) / DONE) as unfinished:
            unfinished.write_text(json.dumps(list(command)), encoding="utf-8")

    def measured(self, folder: Path) -> dict[str, Estimate]:
        """Return the measured value of each metric, from the first row of each record; empty if nothing is measured."""
        found: dict[str, Estimate] = {}
        if (self.records(folder) / DONE).is_file():
            for path in sorted(self.records(folder).glob("*-*.json")):
                found |= next(iter(EvaluationRecord.load(path).rows.values()))
        return found


@dataclass(frozen=True)
class PaperTable:
    """A table of a paper.

    Args:
        title: Title of the table.
        source: The publication and the number of the table.
        metrics: Metrics to show, by their names in records.
        rows: The rows.
    """

    title: str
    source: str
    metrics: tuple[str, ...]
    rows: tuple[TableRow, ...]

    def shown(self, folder: Path) -> list[tuple[str, str, dict[str, str]]]:
        """Return the lines of the table: name, `published` or `measured`, and the metrics as text."""
        lines = []
        for row in self.rows:
            if row.published:
                lines.append((row.name, "published", {name: f"{value:g}" for name, value in row.published.items()}))
            if row.checkpoint is not None:
                measured = row.measured(folder)
                lines.append(
                    (row.name, "measured", {name: f"{measured[name]:.3f}" for name in self.metrics if name in measured})
                )
        return lines


def load_table(path: Path) -> PaperTable:
    """Read the file of a table.

    Its keys are `title`, `source`, `metrics`, `defaults` (keys that rows leave out) and `rows`; see [`TableRow`] and
    [`TableTraining`]. `options` of a row are added to those of `defaults`.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A key is missing or unknown, or a row cannot be measured as it is described.
    """
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(values, dict) or not values.get("rows"):
        raise ValueError(f"{path} is not a table: it must be a mapping with the key `rows`")
    _refuse_unknown(path, values, ("title", "source", "metrics", "defaults", "rows"))
    defaults = values.get("defaults") or {}
    rows = tuple(_row(path, {**defaults, **row}, defaults.get("options") or {}) for row in values["rows"])
    names = [row.name for row in rows]
    if len(set(names)) < len(names):
        raise ValueError(f"{path} has several rows of the same name; give each its own")
    return PaperTable(str(values["title"]), str(values["source"]), tuple(values["metrics"]), rows)


def _row(path: Path, values: dict[str, Any], options: Mapping[str, Any]) -> TableRow:
    _refuse_unknown(path, values, [item.name for item in fields(TableRow)])
    if not values.get("name"):
        raise ValueError(f"{path} has a row without a name; add the key `name`")
    trainings = []
    for training in values.get("train") or ():
        _refuse_unknown(path, training, [item.name for item in fields(TableTraining)])
        trainings.append(TableTraining(**{**training, "overrides": tuple(training.get("overrides") or ())}))
    row = TableRow(**{**values, "train": tuple(trainings), "options": {**options, **(values.get("options") or {})}})
    if row.checkpoint is not None and not (row.evaluate and row.data):
        raise ValueError(
            f"{path}: the row {row.name!r} has a checkpoint, but not the keys `evaluate` and `data`; add them"
        )
    if row.checkpoint is None and not row.published:
        raise ValueError(f"{path}: the row {row.name!r} has neither `published` figures nor a `checkpoint`; add one")
    return row


def _refuse_unknown(path: Path, values: Mapping[str, Any], known: Sequence[str]) -> None:
    if unknown := [key for key in values if key not in known]:
        raise ValueError(f"{path} has the unknown key {unknown[0]!r}; known: {', '.join(known)}")
