"""Checks and conversions of the metrics' inputs: motions, embeddings and captions."""

from typing import Any

import numpy as np

from lamp_hf.motion.inputs import as_motion

__all__ = ["as_array", "as_captions", "as_motion", "as_references", "paired"]


def paired(predictions: Any, references: Any, what: str = "references") -> None:
    """Check that predictions and references have the same length.

    Raises:
        ValueError: One of them is missing, or their lengths differ.
    """
    if predictions is None or references is None:
        raise ValueError(f"{'predictions' if predictions is None else what} are missing; this metric compares pairs")
    if len(predictions) != len(references):
        raise ValueError(f"{len(predictions)} predictions for {len(references)} {what}; pass one for each")


def as_array(values: Any) -> np.ndarray:
    """Convert an array, a tensor on any device, or a list of either to a float32 array."""
    if hasattr(values, "detach"):
        return values.detach().float().cpu().numpy()
    if isinstance(values, list | tuple) and values and hasattr(values[0], "detach"):
        values = [value.detach().float().cpu().numpy() for value in values]
    return np.asarray(values, dtype=np.float32)


def as_captions(texts: Any) -> list[str]:
    """Check that all items are strings and return them as a list.

    Raises:
        TypeError: An item is not a string.
    """
    for text in texts:
        if not isinstance(text, str):
            raise TypeError(f"expected a sentence, got a {type(text).__name__}")
    return list(texts)


def as_references(references: Any) -> list[list[str]]:
    """Return the list of references of each caption; a single reference may be given as a string.

    Raises:
        TypeError: A reference is not a string.
        ValueError: A caption has no reference, or an empty one.
    """
    groups = [as_captions([texts] if isinstance(texts, str) else texts) for texts in references]
    for number, texts in enumerate(groups):
        if not texts or not all(text.strip() for text in texts):
            raise ValueError(f"reference {number} is {texts}: expected at least one sentence, and no empty ones")
    return groups
