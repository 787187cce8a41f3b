"""Linear probes that recognize the action or the style of a motion from joint positions.

They are trained on real clips. In motions generated for the same labels, a probe should recognize as many labels as in
real validation clips.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from lamp_hf.motion.features import facing_angles
from lamp_hf.motion.limits import MAX_CLIP_FRAMES
from lamp_hf.motion.skeleton import HUMANML3D_22

__all__ = ["MotionProbe", "flipped", "probe_features"]

_BINS = 16
# Lower limit of the scale (meters, radians, meters per second), so that features that hardly vary in the real clips,
# such as the position of the hips relative to the pelvis, are not amplified.
_SMALLEST_SCALE = 0.1


def probe_features(joints: np.ndarray) -> np.ndarray:
    """Compute the probes' input features of a clip.

    Args:
        joints: `(T, 22, 3)`, meters, Y up, facing +Z at the first frame, 20 fps. Only the first 196 frames are used.

    Returns:
        `(F,)`, float32: pose in body coordinates, path and heading at 16 moments evenly spread over the clip; mean,
        standard deviation and speed of every joint; and the clip's length.
    """
    joints = np.asarray(joints[:MAX_CLIP_FRAMES], dtype=np.float64)
    heading = np.unwrap(facing_angles(joints))
    root = joints[:, 0]
    cosine, sine = np.cos(heading)[:, None], np.sin(heading)[:, None]
    relative = joints - root[:, None] * np.array([1.0, 0.0, 1.0])
    x, z = relative[..., 0], relative[..., 2]
    poses = np.stack([cosine * x - sine * z, relative[..., 1], sine * x + cosine * z], axis=-1)
    path = root - root[:1] * np.array([1.0, 0.0, 1.0])
    course = np.concatenate([path, np.stack([heading - heading[0], np.sin(heading), np.cos(heading)], -1)], axis=-1)
    series = np.concatenate([poses.reshape(len(joints), -1), course], axis=-1)

    moments = np.linspace(0, len(series) - 1, _BINS)
    low = np.floor(moments).astype(int)
    high = np.minimum(low + 1, len(series) - 1)
    share = (moments - low)[:, None]
    sampled = series[low] * (1 - share) + series[high] * share
    steps = np.diff(poses, axis=0) * 20.0 if len(poses) > 1 else np.zeros_like(poses)
    speed = np.linalg.norm(steps, axis=-1)
    travel = np.linalg.norm(np.diff(root[:, ::2], axis=0), axis=-1) * 20.0 if len(root) > 1 else np.zeros(1)
    parts = [
        sampled.ravel(),
        poses.mean(0).ravel(),
        poses.std(0).ravel(),
        speed.mean(0),
        speed.max(0),
        [travel.mean(), travel.max(), heading[-1] - heading[0], np.log(len(joints))],
    ]
    return np.concatenate([np.asarray(part, dtype=np.float32) for part in parts])


class MotionProbe:
    """A linear classifier of labels over [`probe_features`], with balanced class weights.

    Args:
        regularization: Inverse strength of the penalty.

    Raises:
        ModuleNotFoundError: scikit-learn is missing.
    """

    def __init__(self, regularization: float = 0.01):
        try:
            from sklearn.linear_model import LogisticRegression
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError("probes need scikit-learn: pip install 'lamp_hf[evaluate]'") from error
        self._classifier: Any = LogisticRegression(C=regularization, class_weight="balanced", max_iter=500)

    def fit(self, clips: Sequence[np.ndarray], labels: Sequence[str]) -> "MotionProbe":
        """Train the probe on joints `(T, 22, 3)` of clips and their labels."""
        features = np.stack([probe_features(clip) for clip in clips])
        self._mean = features.mean(0)
        self._scale = np.maximum(features.std(0), _SMALLEST_SCALE)
        self._classifier.fit((features - self._mean) / self._scale, list(labels))
        return self

    def predict(self, clips: Sequence[np.ndarray]) -> list[str]:
        """Predict the label of each clip."""
        features = np.stack([probe_features(clip) for clip in clips])
        return [str(label) for label in self._classifier.predict((features - self._mean) / self._scale)]

    def accuracy(self, clips: Sequence[np.ndarray], labels: Sequence[str]) -> float:
        """Return the share of clips whose label is recognized."""
        hits = [found == label for found, label in zip(self.predict(clips), labels, strict=True)]
        return float(np.mean(hits))


_ARM_SIDES = {  # which arm an action moves
    "bye": "right",
    "guide": "right",
    "respond": "left",
    "wave-left-hand": "left",
    "raise-up-left-hand": "left",
    "wave-right-hand": "right",
    "raise-up-right-hand": "right",
}


def flipped(joints: np.ndarray, content: str) -> bool | None:
    """Return whether a motion shows its action on the wrong side.

    Args:
        joints: `(T, 22, 3)`, meters, facing +Z at the first frame.
        content: The requested label.

    Returns:
        For actions of one arm: whether the other wrist is raised more. For turns: whether the body turns the other way.
        For diagonal walks: whether the path leads to the other side. `None` for actions without a side.
    """
    names = HUMANML3D_22.joint_names
    if content in _ARM_SIDES:
        rise = {
            side: float(
                (joints[:, names.index(f"{side}_wrist")] - joints[:, names.index(f"{side}_shoulder")])[:, 1].mean()
            )
            for side in ("left", "right")
        }
        return max(rise, key=rise.__getitem__) != _ARM_SIDES[content]
    if content.startswith("walk-turn-"):
        heading = np.unwrap(facing_angles(joints))
        return bool((heading[-1] - heading[0] > 0) != content.endswith("left"))
    if content in ("walk-left", "walk-right"):
        return bool((joints[-1, 0, 0] - joints[0, 0, 0] > 0) != content.endswith("left"))
    return None
