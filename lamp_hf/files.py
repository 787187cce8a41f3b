"""Put files and folders in place whole or not at all."""

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path beside `path`, which takes the place of `path` when the block ends well.

    Nobody ever sees a half-written file, and an existing one survives a failure. The temporary path keeps the
    suffix, from which some libraries choose a format.

    Args:
        path: where the file shall be. Its folder must exist.

    Yields:
        The path to write to.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path}: the folder {path.parent} does not exist")
    temporary = path.with_name(f".{path.stem[:100]}.{secrets.token_hex(6)}{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise _naming(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def _naming(path: Path, error: OSError) -> OSError:
    """The error of writing a file, which names the file, as that of a full disk does not by itself."""
    full = error.errno is None and str(error).endswith("written")  # NumPy's "7062 requested and 992 written"
    number = errno.ENOSPC if full else error.errno
    if number is None:
        return error
    return OSError(number, os.strerror(number), str(path))


@contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give an empty folder beside `path`, which takes the place of `path` when the block ends well.

    An earlier folder is replaced whole, and survives a failure; if the process is killed, it or the new one is there,
    perhaps under a hidden name.

    Args:
        path: where the folder shall be.

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
