"""Terminal output: escapes untrusted text and prints log lines next to progress bars."""

import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import parent_process

__all__ = ["counted", "logs_on_stderr", "quiet_readers", "shown", "shown_json"]

# Control characters, characters that change the writing direction, and undecodable bytes of file names. They could
# clear the screen, forge lines, or make printing fail.
_HARMFUL = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_HARMFUL_BUT_LINES = re.compile(_HARMFUL.pattern.replace("\x00-\x1f", "\x00-\x08\x0b-\x1f"))


def shown(text: object, *, lines: bool = False) -> str:
    r"""Return text in which every character that a terminal could act on is escaped, such as `\x1b`.

    Args:
        text: Text from a file or a user, such as a file name or a caption.
        lines: Keep line breaks and tabs.
    """
    return (_HARMFUL_BUT_LINES if lines else _HARMFUL).sub(_escape, str(text))


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, such as "1 error" or "2 errors"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def shown_json(text: str) -> str:
    """Escape JSON text like [`shown`] does, without changing its meaning."""
    return _HARMFUL.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


class _Lines(logging.Handler):
    """Writes log records to stderr, above an active progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        line = shown(self.format(record), lines=True)
        tqdm = sys.modules.get("tqdm")  # not imported: no progress bar is shown
        if tqdm is None or parent_process() is not None:  # a worker process has only a copy of the bar
            print(line, file=sys.stderr)
        else:
            tqdm.tqdm.write(line, file=sys.stderr)


@contextmanager
def logs_on_stderr() -> Iterator[None]:
    """Print the library's log messages, INFO and above, to stderr inside the block; restore the loggers afterwards."""
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
    """Show only warnings about motion files from now on. Details of every file would hide them."""
    logging.getLogger("lamp_hf.motion").setLevel(logging.WARNING)
