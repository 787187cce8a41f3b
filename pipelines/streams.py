"""What all pipelines share in what they take: streams of inputs, and arguments by name."""

import difflib
import itertools
from collections.abc import Collection, Iterator
from typing import Any

__all__ = ["in_batches", "is_stream", "refuse_unknown"]


def is_stream(value: Any) -> bool:
    """Whether a value is a generator or a dataset, whose items are answered one by one as they are asked for."""
    if isinstance(value, str | bytes | list | tuple | dict | set) or hasattr(value, "shape"):
        return False
    return hasattr(value, "__iter__") or (hasattr(value, "__getitem__") and hasattr(value, "__len__"))


def in_batches(stream: Any, size: int) -> Iterator[list[Any]]:
    """Items of a stream, so many at a time; no more of it is read than what is asked for."""
    # A `KeyDataset` and other datasets of torch are read by number.
    by_number = not hasattr(stream, "__iter__")
    iterator = (stream[index] for index in range(len(stream))) if by_number else iter(stream)
    while batch := list(itertools.islice(iterator, size)):
        yield batch


def refuse_unknown(name: str, given: Collection[str], known: Collection[str]) -> None:
    """Refuse arguments that nothing takes.

    Raises:
        TypeError: One is unknown; the message names the nearest that is known.
    """
    for argument in sorted(set(given) - set(known)):
        nearest = difflib.get_close_matches(argument, known, n=1)
        hint = f"did you mean {nearest[0]}?" if nearest else f"known are {', '.join(known)}"
        raise TypeError(f"{name} got an unexpected keyword argument {argument!r}; {hint}")
