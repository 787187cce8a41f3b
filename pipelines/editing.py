"""Puts what a model made into a motion, and leaves the rest of it alone."""

from collections.abc import Sequence

import numpy as np

from lamp_hf.motion.motion import Motion

__all__ = ["editable", "paste"]

FADE_FRAMES = 8  # two tokens; over one alone joints still jump a little


def editable(motion: Motion) -> Motion:
    """A motion with features for each of its frames, so that an edit keeps its length.

    Features tell how the body moves to the next frame. Joints `(T, J, 3)` thus have `T - 1` of them; here the body
    stands still after the last frame.
    """
    if not motion.made_of_joints:
        return motion
    held = Motion(joints=np.concatenate([motion.joints, motion.joints[-1:]]), fps=motion.fps, skeleton=motion.skeleton)
    return Motion(features=held.features, fps=motion.fps, skeleton=motion.skeleton, text=motion.text)


def paste(
    original: np.ndarray, made: np.ndarray, spans: Sequence[tuple[int, int]], fade: int = FADE_FRAMES
) -> np.ndarray:
    """Put made frames into a motion.

    A tokenizer gives back no motion exactly. By what it misses in the frames beside a span, the span's
    first and last frames are shifted, less with each frame, so that there is no jump. Contact labels are
    taken as they are.

    Args:
        original: Features `(T, D)`.
        made: Features `(T, D)` of the same motion as the model gives it.
        spans: First frame, and the one after the last, of what is taken from `made`; they do not touch.
        fade: Over how many frames the shift fades.

    Returns:
        Features `(T, D)`, outside the spans the very bits of `original`.
    """
    result = original.copy()
    movement = slice(None, -4)
    for first, last in spans:
        result[first:last] = made[first:last]
        reach = min(fade, last - first)
        weights = np.linspace(1, 0, reach + 2, dtype=np.float32)[1:-1, None]
        if first > 0:
            miss = original[first - 1, movement] - made[first - 1, movement]
            result[first : first + reach, movement] += weights * miss
        if last < len(original):
            miss = original[last, movement] - made[last, movement]
            result[last - reach : last, movement] += weights[::-1] * miss
    return result
