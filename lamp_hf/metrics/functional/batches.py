"""Batches of what models are given."""

__all__ = ["batch_starts"]


def batch_starts(count: int, batch_size: int) -> range:
    """Where the batches of `count` things start.

    Raises:
        ValueError: `batch_size` is not a whole number of at least 1.
    """
    if not isinstance(batch_size, int) or isinstance(batch_size, bool) or batch_size < 1:
        raise ValueError(f"batch_size={batch_size!r}: expected a whole number of at least 1")
    return range(0, count, batch_size)
