"""What an evaluation leaves behind: numbers with all that they depend on, and tables of numbers that may be compared.

A record is one run of a protocol on one model. Records that differ in anything but the model never share a table.
"""

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lamp_hf.files import atomic_path

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = [
    "Estimate",
    "EvaluationRecord",
    "Protocol",
    "UnlikeRecordsError",
    "comparison",
    "joined_results",
    "results_of",
    "weights_digest",
    "without_records",
    "write_to_card",
]

_FORMAT = 1
Row = Mapping[str, "Estimate"]


class UnlikeRecordsError(ValueError):
    """Records that come from different protocols, evaluators or data."""


@dataclass(frozen=True)
class Estimate:
    """A number over repeats.

    Args:
        value: Mean of the repeats.
        interval: Half the width of its 95 % confidence interval; `None` where nothing was repeated.
    """

    value: float
    interval: float | None = None

    @classmethod
    def of(cls, values: Sequence[float]) -> "Estimate":
        """Mean and interval of repeats: 1.96 standard errors, as the field reports it (Guo et al., 2022)."""
        mean = float(np.mean(values))
        if len(values) < 2:
            return cls(mean)
        return cls(mean, float(1.96 * np.std(values) / len(values) ** 0.5))

    @classmethod
    def of_rows(cls, repeats: Sequence[Mapping[str, float]]) -> dict[str, "Estimate"]:
        """Mean and interval of every metric over repeats that name the same ones."""
        return {name: cls.of([scores[name] for scores in repeats]) for name in repeats[0]}

    def __format__(self, spec: str) -> str:
        spec = spec or ".3f"
        text = format(self.value, spec)
        return text if self.interval is None else f"{text} ± {format(self.interval, spec)}"


@dataclass(frozen=True)
class Protocol:
    """How numbers were measured: what two records must have in common to be compared.

    Args:
        task: `"reconstruction"`, `"text-to-motion"`, `"retrieval"` or `"captioning"`.
        name: Of the protocol within its task.
        version: Raised whenever the protocol's numbers change.
        evaluator: Checkpoint of the model that judges; `None` where none does.
        evaluator_hash: Of its weights.
        dataset: Name of the data set.
        dataset_hash: Of the ids and captions that took part.
        split: Of it.
        n: Clips.
        repeats: How many times everything that is random was drawn anew.
        seed: Of the first repeat.
        settings: What else decides on the numbers, such as the size of pools.
    """

    task: str
    name: str
    version: int
    evaluator: str | None
    evaluator_hash: str | None
    dataset: str
    dataset_hash: str
    split: str
    n: int
    repeats: int
    seed: int
    settings: Mapping[str, str | int | float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class EvaluationRecord:
    """One run of a protocol.

    Args:
        model: Name of the checkpoint that was evaluated.
        model_hash: Of its weights.
        lamp_hf: Version of the package.
        protocol: How.
        rows: Metrics by name, of the model, and of its variants if it was tried in several ways.
        references: The same of what the model is seen beside: ground truth and chance.
    """

    model: str
    model_hash: str
    lamp_hf: str
    protocol: Protocol
    rows: Mapping[str, Row]
    references: Mapping[str, Row]

    def save(self, path: str | Path) -> None:
        """Write as JSON."""
        text = json.dumps({"format": _FORMAT, **asdict(self)}, indent=2) + "\n"
        with atomic_path(Path(path)) as unfinished:
            unfinished.write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> "EvaluationRecord":
        """Read what [`save`] wrote.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: The file is not a record.
        """
        return cls.from_json(Path(path).read_text(encoding="utf-8"), path)

    @classmethod
    def from_json(cls, text: str, path: str | Path) -> "EvaluationRecord":
        """Parse the content of a file that [`save`] wrote.

        Args:
            text: The content.
            path: Where it comes from, for the error.

        Raises:
            ValueError: The text is not a record.
        """
        try:
            values = json.loads(text)
            if (found := values.pop("format")) != _FORMAT:
                raise ValueError(f"its format is {found}, this version reads {_FORMAT}")
            values["protocol"] = Protocol(**values["protocol"])
            for part in ("rows", "references"):
                values[part] = {
                    row: {metric: Estimate(**estimate) for metric, estimate in metrics.items()}
                    for row, metrics in values[part].items()
                }
            return cls(**values)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"{path} is not an evaluation record: {error}") from error


def comparison(records: Sequence[EvaluationRecord]) -> dict[str, Row]:
    """Rows of one table: what the records' models are seen beside, then each model.

    Raises:
        UnlikeRecordsError: The records were not measured alike.
        ValueError: There are none, or two of one model.
    """
    if not records:
        raise ValueError("no records to compare")
    first = records[0]
    rows: dict[str, Row] = dict(first.references)
    for record in records:
        for item in fields(Protocol):
            ours, theirs = getattr(first.protocol, item.name), getattr(record.protocol, item.name)
            if ours != theirs:
                raise UnlikeRecordsError(
                    f"{first.model} and {record.model} cannot share a table: their records differ in {item.name}, "
                    f"{ours!r} and {theirs!r}"
                )
        if twice := rows.keys() & record.rows.keys():
            raise ValueError(f"two records have a row {twice.pop()!r}; give one record of each model")
        rows |= record.rows
    return rows


def write_to_card(card: str | Path, record: EvaluationRecord) -> None:
    """Put the model's numbers into the `model-index` of its card, in place of those of the same protocol.

    Args:
        card: `README.md` of the checkpoint; it must exist.
        record: Of that checkpoint.
    """
    from huggingface_hub import metadata_load, metadata_save

    header = metadata_load(card) or {}
    header["model-index"] = joined_results(header.get("model-index"), results_of(record))
    with atomic_path(Path(card)) as unfinished:
        shutil.copyfile(card, unfinished)
        metadata_save(unfinished, header)


def results_of(record: EvaluationRecord) -> list[dict[str, Any]]:
    """The `model-index` of a record alone."""
    from huggingface_hub import EvalResult
    from huggingface_hub.repocard_data import eval_results_to_model_index

    protocol = record.protocol
    arguments: dict[str, Any] = {"n": protocol.n, "repeats": protocol.repeats, "seed": protocol.seed}
    arguments |= protocol.settings
    if protocol.evaluator:
        arguments |= {"evaluator": protocol.evaluator, "evaluator_hash": protocol.evaluator_hash}
    results = []
    for row, metrics in record.rows.items():
        variant = "" if row == record.model else f", {row.removeprefix(record.model).strip()}"
        results += [
            EvalResult(
                task_type=protocol.task,
                dataset_type=protocol.dataset,
                dataset_name=protocol.dataset,
                dataset_config=f"{protocol.task}, {protocol.name} (version {protocol.version})",
                dataset_split=protocol.split,
                dataset_args=arguments,
                metric_type=metric,
                metric_name=metric + variant,
                metric_value=round(estimate.value, 6),
                metric_args=None if estimate.interval is None else {"interval_95": round(estimate.interval, 6)},
            )
            for metric, estimate in metrics.items()
        ]
    return eval_results_to_model_index(record.model, results)


def joined_results(index: Any, added: Any) -> list[dict[str, Any]]:
    """A `model-index` with the records' results of another one, in place of its own of the same protocols.

    Args:
        index: Of a card; what in it comes from no record stays as it is.
        added: Its results that come from records go under the name of the model whose records are there already.
    """
    new = [result for model in _models(added) for result in _results(model) if _protocol_of(result)]
    replaced = {_protocol_of(result) for result in new}
    place = next((model.get("name") for model in _models(index) if any(map(_protocol_of, _results(model)))), None)
    place = place or next((model.get("name") for model in _models(added)), None)
    joined = _only(index, lambda result: _protocol_of(result) not in replaced)
    if new and not (models := [model for model in joined if model.get("name") == place]):
        joined.append({"name": place, "results": new})
    elif new:
        models[0]["results"] = [*_results(models[0]), *new]
    return joined


def without_records(index: Any) -> list[dict[str, Any]]:
    """A `model-index` without the results that come from records."""
    return _only(index, lambda result: _protocol_of(result) is None)


def _only(index: Any, wanted: Callable[[Any], bool]) -> list[dict[str, Any]]:
    kept = []
    for model in _models(index):
        results = [result for result in _results(model) if wanted(result)]
        if results or not _results(model):
            kept.append({**model, "results": results} if results else model)
    return kept


def _models(index: Any) -> list[dict[str, Any]]:
    return [model for model in index or [] if isinstance(model, dict)]


def _results(model: Mapping[str, Any]) -> list[Any]:
    return list(model.get("results") or [])


def _protocol_of(result: Any) -> tuple[str, str] | None:
    """Protocol and split of a result that comes from a record."""
    data = (result.get("dataset") if isinstance(result, dict) else None) or {}
    config = str(data.get("config"))
    return (config, str(data.get("split"))) if re.fullmatch(r".+, .+ \(version \d+\)", config) else None


def weights_digest(model: "PreTrainedModel") -> str:
    """SHA-256 of a model's weights as float32, whatever files they come from."""
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().to("cpu", torch.float32).contiguous().numpy().data)
    return digest.hexdigest()
