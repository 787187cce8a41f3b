"""Evaluation records, and tables of comparable records.

A record contains the results of one run of a protocol on one model, with everything that affects them. Only records
with the same protocol, evaluator and data can share a table.
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
    """Error for records that cannot share a table because their protocols, evaluators or data differ."""


@dataclass(frozen=True)
class Estimate:
    """A score, averaged over repeats.

    Args:
        value: Mean of the repeats.
        interval: Half the width of the 95 % confidence interval, or `None` without repeats.
    """

    value: float
    interval: float | None = None

    @classmethod
    def of(cls, values: Sequence[float]) -> "Estimate":
        """Compute the mean and the interval, 1.96 standard errors as in Guo et al. (2022)."""
        mean = float(np.mean(values))
        if len(values) < 2:
            return cls(mean)
        return cls(mean, float(1.96 * np.std(values) / len(values) ** 0.5))

    @classmethod
    def of_rows(cls, repeats: Sequence[Mapping[str, float]]) -> dict[str, "Estimate"]:
        """Compute the mean and the interval of every metric over repeats. All repeats must have the same metrics."""
        return {name: cls.of([scores[name] for scores in repeats]) for name in repeats[0]}

    def __format__(self, spec: str) -> str:
        spec = spec or ".3f"
        text = format(self.value, spec)
        return text if self.interval is None else f"{text} ± {format(self.interval, spec)}"


@dataclass(frozen=True)
class Protocol:
    """How the scores were measured. Records must have equal protocols to be compared.

    Args:
        task: `"reconstruction"`, `"text-to-motion"`, `"editing"`, `"retrieval"` or `"captioning"`.
        name: Name of the protocol within its task.
        version: Version of the protocol, increased whenever its scores change.
        evaluator: Checkpoint of the evaluator or captioner, or `None` if the protocol does not use one.
        evaluator_hash: Hash of its weights.
        dataset: Name of the data set.
        dataset_hash: Hash of the ids and captions of the evaluated clips.
        split: Name of the split.
        n: Number of clips.
        repeats: Number of repeats with new random draws.
        seed: Seed of the first repeat.
        settings: Everything else that affects the scores, such as the pool size.
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
        model: Name of the evaluated checkpoint.
        model_hash: Hash of its weights.
        lamp_hf: Version of the package.
        protocol: How the scores were measured.
        rows: Metrics of the model, and of its variants if it was evaluated with several settings.
        references: Metrics of the reference rows, such as ground truth and chance.
    """

    model: str
    model_hash: str
    lamp_hf: str
    protocol: Protocol
    rows: Mapping[str, Row]
    references: Mapping[str, Row]

    def save(self, path: str | Path) -> None:
        """Save the record as JSON."""
        text = json.dumps({"format": _FORMAT, **asdict(self)}, indent=2) + "\n"
        with atomic_path(Path(path)) as unfinished:
            unfinished.write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> "EvaluationRecord":
        """Load a record that [`save`] wrote.

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
    """Return the rows of one table: the reference rows of the first record, then the models.

    Raises:
        UnlikeRecordsError: The records have different protocols.
        ValueError: There are no records, or two records of the same model.
    """
    if not records:
        raise ValueError("no records to compare; pass at least one")
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
            raise ValueError(f"two records have a row {twice.pop()!r}; pass one record of each model")
        rows |= record.rows
    return rows


def write_to_card(card: str | Path, record: EvaluationRecord) -> None:
    """Write the model's scores to the `model-index` of its card, replacing earlier ones of the same protocol.

    Args:
        card: `README.md` of the checkpoint; it must exist.
        record: Record of that checkpoint.
    """
    from huggingface_hub import metadata_load, metadata_save

    header = metadata_load(card) or {}
    header["model-index"] = joined_results(header.get("model-index"), results_of(record))
    with atomic_path(Path(card)) as unfinished:
        shutil.copyfile(card, unfinished)
        metadata_save(unfinished, header)


def results_of(record: EvaluationRecord) -> list[dict[str, Any]]:
    """Return the `model-index` with the scores of a record."""
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
    """Merge the results from records of one `model-index` into another, replacing those of the same protocols.

    Args:
        index: `model-index` of a card. Results that do not come from records are kept.
        added: `model-index` with the new results. They are added to the model that already has results from records,
            or else under their own model name.
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
    """Return a `model-index` without the results from records."""
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
    """Return the protocol and the split of a result from a record, or `None` for another result."""
    data = (result.get("dataset") if isinstance(result, dict) else None) or {}
    config = str(data.get("config"))
    return (config, str(data.get("split"))) if re.fullmatch(r".+, .+ \(version \d+\)", config) else None


def weights_digest(model: "PreTrainedModel") -> str:
    """Return the SHA-256 of a model's weights as float32, independent of the file format."""
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().to("cpu", torch.float32).contiguous().numpy().data)
    return digest.hexdigest()
