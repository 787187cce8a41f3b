"""Split model inputs into batches."""

from collections.abc import Iterator, Sequence

__all__ = ["batch_starts", "batches_by_length"]


def batch_starts(count: int, batch_size: int) -> range:
    """Return the index at which each batch of `count` items starts.

    Raises:
        ValueError: `batch_size` is not a whole number of at least 1.
    """
    if not isinstance(batch_size, int) or isinstance(batch_size, bool) or batch_size < 1:
        raise ValueError(f"batch_size={batch_size!r}: expected a whole number of at least 1")
    return range(0, count, batch_size)


def batches_by_length(lengths: Sequence[int], batch_size: int) -> Iterator[list[int]]:
    """Yield batches of item indices, sorted by length to reduce padding.

    Args:
        lengths: Length of each item.
        batch_size: Items per batch.
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    for start in batch_starts(len(order), batch_size):
        yield order[start : start + batch_size]
