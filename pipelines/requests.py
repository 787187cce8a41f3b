"""Requests for single motions, and checks of the values of a call."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from lamp_hf.motion.limits import MAX_GENERATED_FRAMES
from lamp_hf.motion.motion import Motion

__all__ = ["MAX_MOTIONS", "MotionRequest", "checked_number", "num_frames_of", "per_text"]

MAX_MOTIONS = 1_000  # of a text; all motions of a call are kept in memory


@dataclass(frozen=True)
class MotionRequest:
    """Request for one motion.

    Args:
        text: Description of the motion.
        seed: Seed of the motion.
        num_frames: Length in frames; with `None`, the model chooses.
        negative: Text that the motion should not show.
        motion: Motion to edit.
        spans: Frames that may change, `(first, last)` without the last.
        familiarity: Score of how well the model knows the text.
    """

    text: str
    seed: int
    num_frames: int | None = None
    negative: str | None = None
    motion: Motion | None = None
    spans: tuple[tuple[int, int], ...] = ()
    familiarity: float | None = None


def per_text(name: str, value: Any, count: int, kind: type) -> list[Any]:
    """Return one value for each of `count` texts, given one value for all or a list."""
    if value is None:
        return [None] * count
    values = list(value) if isinstance(value, list | tuple) else [value] * count
    if len(values) != count:
        raise ValueError(f"{name} has {len(values)} values for {count} texts; give one for each, or one for all")
    if kind in (int, float):
        return [checked_number(name, item, whole=kind is int) for item in values]
    for item in values:
        if not isinstance(item, kind):
            raise TypeError(f"{name} contains a {type(item).__name__}; expected {kind.__name__}")
    return values


def checked_number(name: str, value: Any, *, whole: bool = False) -> Any:
    """Check that a value is a finite number of at least 0 and return it; NumPy numbers become Python numbers."""
    if isinstance(value, np.generic):
        value = value.item()
    expected = "a whole number" if whole else "a number"
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
        raise TypeError(f"{name}={value!r} is a {type(value).__name__}; expected {expected}")
    if not 0 <= value < math.inf:
        raise ValueError(f"{name}={value} is not {expected} of at least 0")
    return value


def num_frames_of(name: str, value: Any, fps: float, shortest: int) -> int:
    """Return the frames of a length in seconds, or in frames if `fps` is 1."""
    if checked_number(name, value) * fps > MAX_GENERATED_FRAMES:
        raise ValueError(f"{name}={value:g} is {value * fps:g} frames; the longest motion has {MAX_GENERATED_FRAMES:,}")
    frames = round(value * fps)
    if frames < shortest:
        raise ValueError(f"{name}={value} is {frames} frames; the shortest motion has {shortest}")
    return frames
