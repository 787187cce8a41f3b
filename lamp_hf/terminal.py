"""Text of other people's making, shown so that a terminal only shows it."""

import re

__all__ = ["shown", "shown_json"]

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


def shown_json(text: str) -> str:
    """The same for JSON, which means what it meant before."""
    return _HARMFUL.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
