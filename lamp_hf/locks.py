"""Lock a folder so that only one process works in it."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

__all__ = ["folder_lock"]

logger = logging.getLogger(__name__)

_WARN_AFTER_S = 2.0


@contextmanager
def folder_lock(folder: str | os.PathLike[str], *, busy: str, wait: bool) -> Iterator[None]:
    """Hold the lock of a folder for the duration of the block.

    The operating system releases the lock when the process ends, even if it is killed. Some cluster file systems do
    not support locks; there the function logs a warning and continues without one.

    Args:
        folder: The folder, which must exist.
        busy: Message to show while another process or thread holds the lock.
        wait: Wait for the lock and log that message; otherwise raise it.

    Raises:
        BlockingIOError: Another process or thread holds the lock, and `wait` is false.
    """
    lock = FileLock(Path(folder) / ".lock")
    try:
        try:
            lock.acquire(timeout=_WARN_AFTER_S if wait else 0)
        except Timeout:
            if not wait:
                raise BlockingIOError(busy) from None
            logger.warning("%s; waiting for it", busy)
            lock.acquire()
    except NotImplementedError:
        logger.warning("%s: this file system does not support locks; do not let another process write there", folder)
        yield
        return
    try:
        yield
    finally:
        lock.release()
