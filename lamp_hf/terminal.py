"""What a terminal is given: text of other people's making, made harmless, and log lines beside progress bars."""

import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import parent_process

__all__ = ["counted", "logs_on_stderr", "quiet_readers", "shown", "shown_json"]

# Control characters, those that turn the direction of writing, and bytes of names that are not text. They could
# clear the screen, forge lines, or not be written at all.
_HARMFUL = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_HARMFUL_BUT_LINES = re.compile(_HARMFUL.pattern.replace("\x00-\x1f", "\x00-\x08\x0b-\x1f"))


def shown(text: object, *, lines: bool = False) -> str:
    r"""Text with `\x1b` in place of an escape character, and likewise for all that a terminal would obey.

    Args:
        text: Such as a file's name or a caption.
        lines: Keep line breaks and tabs.
    """
    return (_HARMFUL_BUT_LINES if lines else _HARMFUL).sub(_escape, str(text))


def counted(number: int, noun: str) -> str:
    """A number and what it counts, as in "1 error" and "2 errors"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def shown_json(text: str) -> str:
    """The same for JSON, which means what it meant before."""
    return _HARMFUL.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


class _Lines(logging.Handler):
    """Writes log records to stderr, above a progress bar that is being drawn there."""

    def emit(self, record: logging.LogRecord) -> None:
        line = shown(self.format(record), lines=True)
        tqdm = sys.modules.get("tqdm")  # without it there is no bar
        if tqdm is None or parent_process() is not None:  # a worker's copy of the bar is not the one on the screen
            print(line, file=sys.stderr)
        else:
            tqdm.tqdm.write(line, file=sys.stderr)


@contextmanager
def logs_on_stderr() -> Iterator[None]:
    """Show what the library logs: warnings, and what it detected in files. Afterwards all is as it was."""
    handler = _Lines()
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    logger, readers = logging.getLogger("lamp_hf"), logging.getLogger("lamp_hf.motion")
    before = logger.handlers, logger.level, readers.level
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.handlers = before[0]
        logger.setLevel(before[1])
        readers.setLevel(before[2])


def quiet_readers() -> None:
    """Show only warnings about motion files from now on: details of each would hide them where there are many."""
    logging.getLogger("lamp_hf.motion").setLevel(logging.WARNING)
