"""Read the small text files of datasets."""

from pathlib import Path

__all__ = ["read_lines"]


def read_lines(path: Path) -> list[str]:
    """Return the lines of a UTF-8 text file, with or without a byte order mark.

    Raises:
        ValueError: The file cannot be read or is not UTF-8 text; the message begins with the path.
    """
    try:
        with path.open(encoding="utf-8-sig") as lines:
            return [line.removesuffix("\n") for line in lines]
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text ({error}); save it in that encoding") from error
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from error
