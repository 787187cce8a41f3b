"""Limits for every motion and text: damaged files and mistaken requests are refused before they cost time or memory."""

import numbers
from typing import Any

from lamp_hf.motion.errors import MotionFormatError

MIN_FPS, MAX_FPS = 1.0, 1000.0
MAX_FRAMES = 1_000_000  # almost 14 hours at 20 fps
MAX_VALUES = 40_000_000  # values in one array of a file
MAX_TEXT = 10_000  # characters
MAX_GENERATED_FRAMES = 400_000  # five and a half hours at 20 fps
MAX_CLIP_FRAMES = 196  # longest clip of HumanML3D: models generate at most this in one piece, and evaluations read it
MAX_SIDE_BY_SIDE = 12  # motions in one player
LARGEST_M = 1e4  # a joint farther away than 10 km comes from damaged values


def check_fps(fps: object, what: str = "fps") -> float:
    """Check a frame rate and return it as a float.

    Raises:
        MotionFormatError: the frame rate is not a number from `MIN_FPS` to `MAX_FPS`.
    """
    if isinstance(fps, bool) or not isinstance(fps, numbers.Real) or not MIN_FPS <= float(fps) <= MAX_FPS:
        raise MotionFormatError(
            f"expected {what} from {MIN_FPS:g} to {MAX_FPS:g} frames per second, got {what}={fps!r} "
            "(a frame time in seconds is 1 / fps)"
        )
    return float(fps)


def check_text(text: str, what: str = "text") -> str:
    """Check the length of a caption and return it.

    Raises:
        MotionFormatError: the caption has more than `MAX_TEXT` characters.
    """
    if len(text) > MAX_TEXT:
        raise MotionFormatError(f"expected {what} of at most {MAX_TEXT} characters, got {len(text)} (shorten it)")
    return text


def check_prompt(value: Any, name: str = "text") -> str:
    """Check the description of a motion to generate and return it.

    Raises:
        TypeError: the description is not a string.
        ValueError: the description is empty or has more than `MAX_TEXT` characters.
    """
    if not isinstance(value, str):
        raise TypeError(f"{name} contains {value!r:.200}, a {type(value).__name__}; expected strings")
    if not value.strip():
        raise ValueError(f'{name} is empty; describe the motion, for example "a person walks"')
    if len(value) > MAX_TEXT:
        raise ValueError(
            f"{name} has {len(value):,} characters, {value[:40]!r} …; at most {MAX_TEXT:,} are allowed. For a long "
            "motion, pass several short sentences as a storyboard"
        )
    return value
