"""Inputs of all pipelines: streams and keyword arguments."""

import difflib
import itertools
from collections.abc import Collection, Iterator
from typing import Any

__all__ = ["in_batches", "is_stream", "refuse_unknown"]


def is_stream(value: Any) -> bool:
    """Return whether a value is a generator or a dataset, whose items are processed when requested."""
    if isinstance(value, str | bytes | list | tuple | dict | set) or hasattr(value, "shape"):
        return False
    return hasattr(value, "__iter__") or (hasattr(value, "__getitem__") and hasattr(value, "__len__"))


def in_batches(stream: Any, size: int) -> Iterator[list[Any]]:
    """Yield lists of `size` items of a stream, reading no more than requested."""
    # A `KeyDataset` and other datasets of torch are read by index.
    by_index = not hasattr(stream, "__iter__")
    iterator = (stream[index] for index in range(len(stream))) if by_index else iter(stream)
    while batch := list(itertools.islice(iterator, size)):
        yield batch


def refuse_unknown(name: str, given: Collection[str], known: Collection[str]) -> None:
    """Check that all arguments are known.

    Raises:
        TypeError: An argument is unknown; the message suggests the nearest known one.
    """
    for argument in sorted(set(given) - set(known)):
        nearest = difflib.get_close_matches(argument, known, n=1)
        hint = f"did you mean {nearest[0]}?" if nearest else f"use one of {', '.join(known)}"
        raise TypeError(f"{name} got an unexpected keyword argument {argument!r}; {hint}")
