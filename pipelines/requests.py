"""What a call of a pipeline asks for, motion by motion, and the checks of single values."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from lamp_hf.motion.motion import Motion

__all__ = ["MAX_CHARACTERS", "MotionRequest", "checked_number", "checked_text", "num_frames_of", "per_text"]

MAX_CHARACTERS = 10_000  # of a text; no caption comes near it, and a file read by mistake goes far beyond
MAX_FRAMES = 400_000  # of a motion: five and a half hours at 20 fps
MAX_MOTIONS = 1_000  # of a text; all of a call lie in memory


@dataclass(frozen=True)
class MotionRequest:
    """One motion to be made.

    Args:
        text: What the person does.
        seed: Decides the motion among those that the text allows.
        num_frames: Length; `None` leaves it to the model.
        negative: What the motion shall not show.
        motion: A motion to be changed.
        spans: Frames of it that may change, each from the first up to, and without, the last.
        familiarity: How well the model knows the text.
    """

    text: str
    seed: int
    num_frames: int | None = None
    negative: str | None = None
    motion: Motion | None = None
    spans: tuple[tuple[int, int], ...] = ()
    familiarity: float | None = None


def checked_text(value: Any, name: str = "text") -> str:
    """A text that says something.

    Raises:
        TypeError: It is not a string.
        ValueError: It is empty or longer than any caption.
    """
    if not isinstance(value, str):
        raise TypeError(f"{name} holds {value!r:.200}, a {type(value).__name__}; expected strings")
    if not value.strip():
        raise ValueError(f'{name} is empty; say what the person does, as in "a person walks"')
    if len(value) > MAX_CHARACTERS:
        raise ValueError(
            f"{name} has {len(value):,} characters, {value[:40]!r} …; at most {MAX_CHARACTERS:,} are read. For a long "
            "motion give several short sentences to storyboard()"
        )
    return value


def per_text(name: str, value: Any, count: int, kind: type) -> list[Any]:
    """One value for each of `count` texts, from one for all or a list."""
    if value is None:
        return [None] * count
    values = list(value) if isinstance(value, list | tuple) else [value] * count
    if len(values) != count:
        raise ValueError(f"{name} has {len(values)} values for {count} texts; give one for each, or one for all")
    if kind in (int, float):
        return [checked_number(name, item, whole=kind is int) for item in values]
    for item in values:
        if not isinstance(item, kind):
            raise TypeError(f"{name} holds a {type(item).__name__}; expected {kind.__name__}")
    return values


def checked_number(name: str, value: Any, *, whole: bool = False) -> Any:
    """A finite number that is not negative; NumPy's are welcome."""
    if isinstance(value, np.generic):
        value = value.item()
    expected = "a whole number" if whole else "a number"
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
        raise TypeError(f"{name}={value!r} is a {type(value).__name__}; expected {expected}")
    if not 0 <= value < math.inf:
        raise ValueError(f"{name}={value} is not {expected} of at least 0")
    return value


def num_frames_of(name: str, value: Any, fps: float, shortest: int) -> int:
    """Frames of a length in seconds, or in frames if `fps` is 1."""
    if checked_number(name, value) * fps > MAX_FRAMES:
        raise ValueError(f"{name}={value:g} is {value * fps:g} frames; the longest motion has {MAX_FRAMES:,}")
    frames = round(value * fps)
    if frames < shortest:
        raise ValueError(f"{name}={value} is {frames} frames; the shortest motion has {shortest}")
    return frames
