"""One process at a time in a folder."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

__all__ = ["folder_lock"]

logger = logging.getLogger(__name__)

_SAID_AFTER_S = 2.0


@contextmanager
def folder_lock(folder: str | os.PathLike[str], *, busy: str, wait: bool) -> Iterator[None]:
    """Hold the lock of a folder, which the system takes back when the process ends, however it ends.

    A file system that has no locks, as some of clusters, is a warning: the work is worth more than the lock.

    Args:
        folder: The folder, which must exist.
        busy: What to say while another process holds the lock, or another thread of this one.
        wait: Wait for it, and say so; else refuse.

    Raises:
        BlockingIOError: Another holds it, and `wait` is false.
    """
    lock = FileLock(Path(folder) / ".lock")
    try:
        try:
            lock.acquire(timeout=_SAID_AFTER_S if wait else 0)
        except Timeout:
            if not wait:
                raise BlockingIOError(busy) from None
            logger.warning("%s; waiting for it", busy)
            lock.acquire()
    except NotImplementedError:
        logger.warning("%s: this file system has no locks; nothing else may write there meanwhile", folder)
        yield
        return
    try:
        yield
    finally:
        lock.release()
