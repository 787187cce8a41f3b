"""Metrics for motions and their texts as `evaluate` modules: `lamp_hf.metrics.load("motion_fid")`.

Each folder contains one metric with its card, which `evaluate.load(path_of_the_folder)` loads as well. The formulas are
in `lamp_hf.metrics.functional`.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lamp_hf.metrics.streaming import StreamingMetric

__all__ = ["NAMES", "folder", "load"]

_HERE = Path(__file__).resolve().parent
# Every folder that contains a script of the same name.
NAMES = tuple(sorted(script.stem for script in _HERE.glob("*/*.py") if script.stem == script.parent.name))


def folder(name: str) -> Path:
    """Return the folder of a metric, for `evaluate.load`.

    Raises:
        ValueError: There is no metric of this name.
    """
    if name not in NAMES:
        raise ValueError(f"there is no metric {name!r}; choose from {', '.join(NAMES)}")
    return _HERE / name


def load(name: str, **options: Any) -> "StreamingMetric":
    """Load a metric. No download is needed.

    ```python
    >>> import numpy as np
    >>> fid = load("motion_fid")
    >>> rng = np.random.default_rng(0)
    >>> fid.add_batch(predictions=rng.normal(size=(64, 8)), references=rng.normal(size=(64, 8)))
    >>> fid.add_batch(references=rng.normal(size=(64, 8)))
    >>> sorted(fid.compute())
    ['fid', 'num_predictions', 'num_references']

    ```

    Args:
        name: One of `NAMES`.
        options: `seed`, the options that the metric's card documents, such as `captioner`, and those of
            `evaluate.load`.

    Raises:
        ValueError: There is no metric of this name.
        TypeError: The metric does not have this option.
    """
    path = folder(name)
    import evaluate

    return evaluate.load(str(path), module_type="metric", **options)
