"""Sweeps: one evaluation for each combination of generation settings, in one record."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import yaml

from lamp_hf.modeling.configuration_generation_lamp import MaskedMotionGenerationConfig

from .records import EvaluationRecord

__all__ = ["joined_sweep", "sweep_settings", "variant_name"]


def sweep_settings(sweeps: Sequence[str]) -> list[dict[str, Any]]:
    """Return the generation settings of each evaluation of a sweep.

    Args:
        sweeps: `name=value,value`, with names of [`MaskedMotionGenerationConfig`]. Several make all combinations.

    Returns:
        One dictionary for each combination; one empty dictionary without sweeps.

    Raises:
        ValueError: A sweep is not of this form, a name is unknown or repeated, or a value is invalid or repeated.
    """
    known = [name for name in MaskedMotionGenerationConfig.fields if name != "seed"]
    values: dict[str, list[Any]] = {}
    for sweep in sweeps:
        name, separator, listed = sweep.partition("=")
        if not separator or not listed:
            raise ValueError(f"sweep {sweep!r} is not of the form name=value,value; an example is guidance_scale=1,2,4")
        if name not in known:
            raise ValueError(f"sweep {sweep!r}: unknown setting {name!r}; choose from {', '.join(known)}")
        if name in values:
            raise ValueError(f"sweep {sweep!r}: {name} is given twice; list all its values once")
        values[name] = [yaml.safe_load(value) for value in listed.split(",")]
        if len(set(values[name])) < len(values[name]):
            raise ValueError(f"sweep {sweep!r}: a value is given twice; list each value once")
        for value in values[name]:
            MaskedMotionGenerationConfig(**{name: value}).validate()
    return [dict(zip(values, chosen, strict=True)) for chosen in product(*values.values())]


def variant_name(name: str, settings: dict[str, Any]) -> str:
    """Return the name of a model with settings in a table, such as `lamp-small guidance_scale=2`."""
    return " ".join([name, *(f"{key}={value}" for key, value in settings.items())])


def joined_sweep(name: str, records: Sequence[EvaluationRecord]) -> EvaluationRecord:
    """Join the records of one protocol, one for each combination, into one record of the model.

    Args:
        name: Name of the model.
        records: Records whose rows are named by [`variant_name`]. The reference rows are those of the first.
    """
    rows = {row: metrics for record in records for row, metrics in record.rows.items()}
    return replace(records[0], model=name, rows=rows)
