"""Read the small text files of data sets, whichever editor wrote them."""

from pathlib import Path

__all__ = ["read_lines"]


def read_lines(path: Path) -> list[str]:
    """Lines of a text file in UTF-8, with or without the mark that some editors put at its beginning.

    Raises:
        ValueError: it cannot be read, or is no text in UTF-8; the message begins with the path.
    """
    try:
        with path.open(encoding="utf-8-sig") as lines:
            return [line.removesuffix("\n") for line in lines]
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not text in UTF-8 ({error}); save it in that encoding") from error
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from error
