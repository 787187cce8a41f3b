"""Pastes generated frames into a motion and keeps all other frames."""

from collections.abc import Sequence

import numpy as np

from lamp_hf.motion.motion import Motion

__all__ = ["editable", "paste"]

FADE_FRAMES = 8  # two tokens; with one, joints still jump a little


def editable(motion: Motion) -> Motion:
    """Return a motion with features for each frame, so that an edit keeps its length.

    Features describe the movement to the next frame, so joints `(T, J, 3)` give features of `T - 1` frames. Here the
    last frame is repeated to give `T`.
    """
    if not motion.made_of_joints:
        return motion
    held = Motion(joints=np.concatenate([motion.joints, motion.joints[-1:]]), fps=motion.fps, skeleton=motion.skeleton)
    return Motion(features=held.features, fps=motion.fps, skeleton=motion.skeleton, text=motion.text)


def paste(
    original: np.ndarray, made: np.ndarray, spans: Sequence[tuple[int, int]], fade: int = FADE_FRAMES
) -> np.ndarray:
    """Paste generated frames into a motion.

    A tokenizer does not reconstruct a motion exactly. To avoid jumps, the first and last frames of a span are shifted
    by the reconstruction error of the frames next to the span; the shift fades with each frame. Contact labels are not
    shifted.

    Args:
        original: Features of the motion, `(T, D)`.
        made: Features of the whole motion from the model, `(T, D)`.
        spans: First frame and frame after the last of each span to take from `made`; spans must not touch.
        fade: Number of frames over which the shift fades.

    Returns:
        Features `(T, D)`; outside the spans they are bitwise equal to `original`.
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
