"""What the pipelines warn of, as categories of Python's `warnings`."""

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
    """The motion may not be what was asked for."""


class UnfamiliarTextWarning(TextToMotionWarning):
    """A text is far from all that the model was trained on."""


class SeveralActionsWarning(TextToMotionWarning):
    """A text names several actions, of which a motion shows one as a rule."""


class CutTextWarning(TextToMotionWarning):
    """A text is longer than the model reads."""


class EditWarning(TextToMotionWarning):
    """A span to be edited ends after the motion does."""


def warn(category: type[TextToMotionWarning], message: str) -> None:
    """Warn whoever called a pipeline: the first caller outside of this folder."""
    level, frame = 2, inspect.currentframe()
    frame = None if frame is None else frame.f_back
    while frame is not None and frame.f_code.co_filename.startswith(_FOLDER):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


@contextmanager
def for_measurement() -> Iterator[None]:
    """Do not warn of texts that the model does not know or shows in part: how it does on those is what is measured."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnfamiliarTextWarning)
        warnings.simplefilter("ignore", SeveralActionsWarning)
        yield
