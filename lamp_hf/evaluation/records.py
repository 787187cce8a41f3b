"""What an evaluation leaves behind: numbers with all that they depend on, and tables of numbers that may be compared.

A record is one run of a protocol on one model. Records that differ in anything but the model never share a table.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from lamp_hf.motion.files import atomic_path

__all__ = ["Estimate", "EvaluationRecord", "Protocol", "UnlikeRecordsError", "comparison", "write_to_card"]

_FORMAT = 1


class UnlikeRecordsError(ValueError):
    """Records that come from different protocols, evaluators or data."""


@dataclass(frozen=True)
class Estimate:
    """A number over repeats.

    Args:
        value: Mean of the repeats.
        interval: Half the width of its 95 % confidence interval; `None` after a single repeat.
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
        split: Of it.
        n: Clips.
        repeats: How many times everything that is random was drawn anew.
        seed: Of the first repeat.
    """

    task: str
    name: str
    version: int
    evaluator: str | None
    evaluator_hash: str | None
    dataset: str
    split: str
    n: int
    repeats: int
    seed: int


@dataclass(frozen=True)
class EvaluationRecord:
    """One run of a protocol.

    Args:
        model: Name of the checkpoint that was evaluated.
        model_hash: Of its weights.
        lamp_hf: Version of the package.
        protocol: How.
        rows: For `model` and for what it is seen beside (ground truth, chance), the metrics by name.
    """

    model: str
    model_hash: str
    lamp_hf: str
    protocol: Protocol
    rows: Mapping[str, Mapping[str, Estimate]]

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
            ValueError: It holds no record.
        """
        try:
            values = json.loads(Path(path).read_text(encoding="utf-8"))
            if (found := values.pop("format")) != _FORMAT:
                raise ValueError(f"its format is {found}, this version reads {_FORMAT}")
            values["protocol"] = Protocol(**values["protocol"])
            values["rows"] = {
                row: {metric: Estimate(**estimate) for metric, estimate in metrics.items()}
                for row, metrics in values["rows"].items()
            }
            return cls(**values)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"{path} is no evaluation record: {error}") from error


def comparison(records: Sequence[EvaluationRecord]) -> dict[str, dict[str, Estimate]]:
    """Rows of one table: what the records' models are seen beside, then each model.

    Raises:
        UnlikeRecordsError: The records were not measured alike.
        ValueError: There are none, or two of one model.
    """
    if not records:
        raise ValueError("no records to compare")
    first = records[0]
    for other in records[1:]:
        for item in fields(Protocol):
            ours, theirs = getattr(first.protocol, item.name), getattr(other.protocol, item.name)
            if ours != theirs:
                raise UnlikeRecordsError(
                    f"{first.model} and {other.model} cannot share a table: their records differ in {item.name}, "
                    f"{ours!r} and {theirs!r}"
                )
    names = [record.model for record in records]
    if len(set(names)) < len(names):
        raise ValueError(f"two records are of one model: {', '.join(names)}")
    rows = {row: dict(metrics) for row, metrics in first.rows.items() if row not in names}
    return rows | {record.model: dict(record.rows[record.model]) for record in records}


def write_to_card(card: str | Path, record: EvaluationRecord) -> None:
    """Put the model's numbers into the `model-index` of its card, in place of those of the same protocol.

    Args:
        card: `README.md` of the checkpoint; it must exist.
        record: Of that checkpoint.
    """
    from huggingface_hub import EvalResult, ModelCard

    protocol = record.protocol
    name = f"{protocol.task}/{protocol.name} (version {protocol.version})"
    arguments: dict[str, Any] = {
        key: value for key, value in asdict(protocol).items() if value is not None and key in ("n", "repeats", "seed")
    }
    arguments |= {"evaluator": protocol.evaluator} if protocol.evaluator else {}
    loaded = ModelCard.load(card)
    kept = [result for result in loaded.data.eval_results or [] if result.metric_config != name]
    loaded.data.eval_results = kept + [
        EvalResult(
            task_type=protocol.task,
            dataset_type=protocol.dataset,
            dataset_name=protocol.dataset,
            dataset_split=protocol.split,
            metric_type=metric,
            metric_name=metric,
            metric_value=round(estimate.value, 6),
            metric_config=name,
            metric_args=arguments if estimate.interval is None else {**arguments, "interval_95": estimate.interval},
        )
        for metric, estimate in record.rows[record.model].items()
    ]
    loaded.data.model_name = loaded.data.model_name or record.model
    with atomic_path(Path(card)) as unfinished:
        unfinished.write_text(str(loaded), encoding="utf-8")
