"""Randomized trees that recognize actions from hand-designed statistics of a motion."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from lamp_hf.data.cmu.measures import SIDES, Measures
from lamp_hf.motion.limits import MAX_CLIP_FRAMES
from lamp_hf.motion.skeleton import HUMANML3D_22

from .body_series import FPS, body_poses, mirrored_joints

__all__ = ["StatisticsTreesProbe", "motion_statistics"]

_NAMES = HUMANML3D_22.joint_names
_SEEN = [_NAMES.index(name) for name in ("pelvis", "spine3", "head")] + [
    _NAMES.index(f"{side}_{part}") for side in SIDES for part in ("knee", "ankle", "foot", "elbow", "wrist")
]
_POSTURES = ("standing", "bending", "crouching", "sitting", "kneeling", "all fours", "lying", "upside down")
_EVENTS = ("step", "jump", "kick", "reach")
_LAGS_S = (0.3, 0.5, 0.7, 1.0, 1.4)


def motion_statistics(joints: np.ndarray) -> np.ndarray:
    """Compute statistics of a motion over its whole duration.

    Args:
        joints: `(T, 22, 3)`, meters, Y up, 20 fps. Frames after the first 196 are ignored.

    Returns:
        `(F,)`, float32: positions and speeds of 13 joints; how the body leans, bends, travels and turns; its postures;
        numbers of steps, jumps, kicks and reaches; and the periodicity of the pose.
    """
    joints = np.asarray(joints[:MAX_CLIP_FRAMES], dtype=np.float64)
    measures = Measures(joints, FPS)
    seconds = len(joints) / FPS
    poses, heading = body_poses(measures.joints)
    seen = poses[:, _SEEN]
    speed = np.linalg.norm(np.diff(seen, axis=0, prepend=seen[:1]), axis=-1) * FPS
    turned = np.degrees(heading - heading[0])
    curves = np.column_stack(
        [
            seen.reshape(len(seen), -1),
            speed,
            measures.travel,
            measures.speed,
            measures.lean,
            *(measures.knee(side) for side in SIDES),
            *(measures.foot_height(side) for side in SIDES),
            *(measures.wrist_above(side, "head") for side in SIDES),
            measures.hands_apart,
            np.gradient(turned, 1 / FPS) if len(turned) > 1 else turned,
        ]
    )
    path = joints[-1, 0, ::2] - joints[0, 0, ::2]
    events = measures.events
    counts = [sum(event.kind == kind for event in events) for kind in _EVENTS]
    sizes = [max((event.size for event in events if event.kind == kind), default=0.0) for kind in _EVENTS]
    airborne = sum(last - first + 1 for first, last in measures.flights) / len(joints)
    parts = [
        curves.mean(0),
        curves.std(0),
        np.percentile(curves, (2, 25, 75, 98), axis=0).ravel(),
        [float((measures.posture == name).mean()) for name in _POSTURES],
        counts,
        np.array(counts) / seconds,
        sizes,
        [seconds, airborne, turned[-1], turned.max(), turned.min(), np.abs(np.diff(turned)).sum()],
        [np.hypot(*path), measures.speed.mean() * seconds],
        _repetition(seen),
    ]
    return np.concatenate([np.asarray(part, dtype=np.float32) for part in parts])


def _repetition(seen: np.ndarray) -> list[float]:
    """Compute the autocorrelation of the pose at a few time lags; 1 means that the pose repeats exactly."""
    flat = seen.reshape(len(seen), -1)
    flat = flat - flat.mean(0)
    energy = float((flat**2).sum()) + 1e-9
    found = []
    for lag in (round(seconds * FPS) for seconds in _LAGS_S):
        same = float((flat[lag:] * flat[:-lag]).sum()) if lag < len(flat) else 0.0
        found.append(same / energy * len(flat) / max(1, len(flat) - lag))
    return found


class StatisticsTreesProbe:
    """Extremely randomized trees over [`motion_statistics`], trained on clips and their mirror images.

    Training is deterministic. Given the statistics, it takes only seconds, so the trees are not saved.

    Args:
        trees: Number of trees.
        seed: Seed of the trees.

    Raises:
        ModuleNotFoundError: scikit-learn is missing.
    """

    kind = "statistics trees"

    def __init__(self, *, trees: int = 300, seed: int = 0):
        try:
            from sklearn.ensemble import ExtraTreesClassifier
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError("probes need scikit-learn: pip install 'lamp_hf[evaluate]'") from error
        self._trees: Any = ExtraTreesClassifier(
            trees, max_features=0.1, min_samples_leaf=2, class_weight="balanced_subsample", bootstrap=True,
            random_state=seed,
        )  # fmt: skip
        self.classes: list[str] = []

    def fit(self, clips: Sequence[np.ndarray], labels: Sequence[str]) -> "StatisticsTreesProbe":
        """Train the trees on joints `(T, 22, 3)` of clips at 20 fps and their labels."""
        both = [motion_statistics(version) for clip in clips for version in (clip, mirrored_joints(clip))]
        return self.fit_statistics(np.stack(both), [label for label in labels for _ in range(2)])

    def fit_statistics(self, statistics: np.ndarray, labels: Sequence[str]) -> "StatisticsTreesProbe":
        """Train the trees on the statistics `(N, F)` of clips and their labels."""
        self._trees.fit(statistics, list(labels))
        self.classes = [str(label) for label in self._trees.classes_]
        return self

    def probabilities(self, clips: Sequence[np.ndarray]) -> np.ndarray:
        """Return the probabilities `(N, C)` of the classes, in the order of `classes`."""
        if not len(clips):
            return np.zeros((0, len(self.classes)))
        return np.asarray(self._trees.predict_proba(np.stack([motion_statistics(clip) for clip in clips])))
