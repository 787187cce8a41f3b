"""Warnings of the pipelines, as categories of Python's `warnings`."""

import inspect
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = [
    "CutTextWarning",
    "EditWarning",
    "SeveralActionsWarning",
    "TextToMotionWarning",
    "UnfamiliarTextWarning",
    "for_measurement",
    "warn",
]

_FOLDER = str(Path(__file__).parent)


class TextToMotionWarning(UserWarning):
    """The motion may not match the request."""


class UnfamiliarTextWarning(TextToMotionWarning):
    """A text is far from everything that the model was trained on."""


class SeveralActionsWarning(TextToMotionWarning):
    """A text names several actions, of which a motion usually shows only one."""


class CutTextWarning(TextToMotionWarning):
    """A text is too long, and its end is ignored."""


class EditWarning(TextToMotionWarning):
    """A span to edit ends after the end of the motion."""


def warn(category: type[TextToMotionWarning], message: str) -> None:
    """Warn at the line that called a pipeline: the first caller outside this folder."""
    level, frame = 2, inspect.currentframe()
    frame = None if frame is None else frame.f_back
    while frame is not None and frame.f_code.co_filename.startswith(_FOLDER):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


@contextmanager
def for_measurement() -> Iterator[None]:
    """Silence warnings about unfamiliar texts and several actions while a model is evaluated on such texts."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnfamiliarTextWarning)
        warnings.simplefilter("ignore", SeveralActionsWarning)
        yield
