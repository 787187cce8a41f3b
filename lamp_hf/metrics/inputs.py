"""What metrics take: motions in any form, embeddings in any array, captions."""

from typing import Any

import numpy as np

from lamp_hf.motion.inputs import as_motion

__all__ = ["as_array", "as_captions", "as_motion", "as_references", "paired"]


def paired(predictions: Any, references: Any, what: str = "references") -> None:
    """Check that there are as many of one as of the other.

    Raises:
        ValueError: One is missing or longer.
    """
    if predictions is None or references is None:
        raise ValueError(f"{'predictions' if predictions is None else what} are missing; this metric compares pairs")
    if len(predictions) != len(references):
        raise ValueError(f"{len(predictions)} predictions for {len(references)} {what}; give one for each")


def as_array(values: Any) -> np.ndarray:
    """float32 array of an array, a tensor on any device, or a list of either."""
    if hasattr(values, "detach"):
        return values.detach().float().cpu().numpy()
    if isinstance(values, list | tuple) and values and hasattr(values[0], "detach"):
        values = [value.detach().float().cpu().numpy() for value in values]
    return np.asarray(values, dtype=np.float32)


def as_captions(texts: Any) -> list[str]:
    """Sentences, checked to be some.

    Raises:
        TypeError: Something is no sentence.
    """
    for text in texts:
        if not isinstance(text, str):
            raise TypeError(f"expected a sentence, got a {type(text).__name__}")
    return list(texts)


def as_references(references: Any) -> list[list[str]]:
    """References of each caption, of which single ones need no list.

    Raises:
        TypeError: Something is no sentence.
        ValueError: A caption has no reference with words in it.
    """
    groups = [as_captions([texts] if isinstance(texts, str) else texts) for texts in references]
    for number, texts in enumerate(groups):
        if not texts or not all(text.strip() for text in texts):
            raise ValueError(f"reference {number} is {texts}: expected one sentence or more, none of them empty")
    return groups
