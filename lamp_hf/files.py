"""Write files and folders atomically: each is complete or absent. Compute the hash of a file."""

import errno
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def file_digest(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path next to `path`, and move it to `path` when the block succeeds.

    No process ever sees a half-written file, and a failure leaves an existing file unchanged. The temporary path
    keeps the suffix because some libraries choose the format by it.

    Args:
        path: Destination of the file. Its folder must exist.

    Yields:
        The path to write to.

    Raises:
        FileNotFoundError: The folder does not exist.
        OSError: Writing failed; the error names `path`.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path}: the folder {path.parent} does not exist; create it first")
    temporary = path.with_name(f".{path.stem[:100]}.{secrets.token_hex(6)}{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise _naming(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def _naming(path: Path, error: OSError) -> OSError:
    """Return a write error that names the file; the system's own error for a full disk does not."""
    full = error.errno is None and str(error).endswith("written")  # NumPy's "7062 requested and 992 written"
    number = errno.ENOSPC if full else error.errno
    if number is None:
        return error
    return OSError(number, os.strerror(number), str(path))


@contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield an empty folder next to `path`, and move it to `path` when the block succeeds.

    An existing folder is replaced as a whole, and a failure leaves it unchanged. If the process is killed, the old or
    the new folder still exists, possibly under a hidden name.

    Args:
        path: Destination of the folder.

    Yields:
        The folder to fill.
    """
    path = Path(path).resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    token = secrets.token_hex(6)
    partial, old = (path.with_name(f".{path.name}.{token}.{state}") for state in ("partial", "old"))
    partial.mkdir()
    try:
        yield partial
        if path.exists():
            path.rename(old)
        partial.rename(path)
    except BaseException:
        if old.exists() and not path.exists():
            old.rename(path)
        raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
