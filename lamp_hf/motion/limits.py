"""Bounds that hold for every motion, whatever its file: they stop damage before it costs memory."""

import numbers

from lamp_hf.motion.errors import MotionFormatError

MIN_FPS, MAX_FPS = 1.0, 1000.0
MAX_FRAMES = 1_000_000  # almost 14 hours at 20 fps
MAX_VALUES = 40_000_000  # numbers in one array of a file
MAX_TEXT = 10_000  # characters
LARGEST_M = 1e4  # a joint farther away than 10 km is damage, not motion


def check_fps(fps: object, what: str = "fps") -> float:
    """Return a frame rate as a float.

    Raises:
        MotionFormatError: it is not a number from `MIN_FPS` to `MAX_FPS`.
    """
    if isinstance(fps, bool) or not isinstance(fps, numbers.Real) or not MIN_FPS <= float(fps) <= MAX_FPS:
        raise MotionFormatError(
            f"expected {what} from {MIN_FPS:g} to {MAX_FPS:g} frames per second, got {what}={fps!r} "
            "(a frame time in seconds is 1 / fps)"
        )
    return float(fps)


def check_text(text: str, what: str = "text") -> str:
    """Return a caption.

    Raises:
        MotionFormatError: it has more than `MAX_TEXT` characters.
    """
    if len(text) > MAX_TEXT:
        raise MotionFormatError(f"expected {what} of at most {MAX_TEXT} characters, got {len(text)} (shorten it)")
    return text
