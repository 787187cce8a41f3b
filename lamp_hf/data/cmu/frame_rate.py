"""Check by physics whether a motion plays at its true speed: by falling bodies and by walking people."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from lamp_hf.motion.features import facing_angles, normalize_joints
from lamp_hf.motion.skeleton import HUMANML3D_22

GRAVITY = 9.81
WALK_RATIO = 0.0065  # step length in meters / steps per minute: nearly constant over speeds (Sekiya et al., 1996)
# Ranges that are measured at twice and at half the true rate. Slower falls are not flights: people swim or hang.
_FALLS_TWICE, _FALLS_HALF = (2.2, 7.0), (0.15, 0.4)
_WALKS_TWICE, _WALKS_HALF = (0.25, 0.5), (2.0, 4.0)
_BODY = {
    "pelvis": 3.0,
    "spine3": 4.0,
    "head": 1.0,
    "left_knee": 1.5,
    "right_knee": 1.5,
    "left_elbow": 0.5,
    "right_elbow": 0.5,
}
_OFF_FLOOR_M = 0.07
_MIN_FLIGHT_FRAMES = 5
_MIN_ARC_M = 0.03
_MIN_WALK_S = 1.0


@dataclass(frozen=True)
class SpeedEvidence:
    """Evidence from falls and steps about the assumed frame rate of a motion.

    Attributes:
        free_fall: Downward acceleration in flight divided by gravity, median over the flights; `None` without flights.
        walk_ratio: Step length per cadence, relative to `WALK_RATIO`; `None` without steady walking.
    """

    free_fall: float | None
    walk_ratio: float | None

    @property
    def factor(self) -> float | None:
        """Factor by which the motion seems to play too fast, 2.0 or 0.5; `None` without such evidence.

        Flights decide if there are any, otherwise steps.
        """
        if self.free_fall is not None:
            return _factor(self.free_fall, _FALLS_TWICE, _FALLS_HALF)
        if self.walk_ratio is not None:
            return _factor(self.walk_ratio, _WALKS_TWICE, _WALKS_HALF)
        return None

    def __str__(self) -> str:
        parts = []
        if self.free_fall is not None:
            parts.append(f"falls at {self.free_fall * GRAVITY:.1f} m/s² (expected {GRAVITY:.1f})")
        if self.walk_ratio is not None:
            parts.append(f"a walk ratio of {self.walk_ratio * WALK_RATIO:.4f} (expected {WALK_RATIO:.4f})")
        return " and ".join(parts) or "no flights and no steady walk"


def _factor(value: float, twice: tuple[float, float], half: tuple[float, float]) -> float | None:
    if twice[0] < value < twice[1]:
        return 2.0
    return 0.5 if half[0] < value < half[1] else None


def speed_evidence(joints: np.ndarray, fps: float) -> SpeedEvidence:
    """Measure falls and steps.

    Args:
        joints: `(T, 22, 3)`, meters.
        fps: Assumed frames per second.
    """
    joints = np.asarray(normalize_joints(joints), dtype=np.float64)
    falls = _falls(joints, fps)
    return SpeedEvidence(float(np.median(falls)) if falls else None, _walk_ratio(joints, fps))


def _falls(joints: np.ndarray, fps: float) -> list[float]:
    """Return downward acceleration / gravity for each clear flight: up, over the top, and down again."""
    index = HUMANML3D_22.joint_names.index
    feet = joints[:, [index(f"{side}_{part}") for side in ("left", "right") for part in ("ankle", "foot")], 1]
    off = (feet - np.percentile(feet, 5, axis=0)).min(axis=1) > _OFF_FLOOR_M
    weights = np.array(list(_BODY.values())) / sum(_BODY.values())
    height = joints[:, [index(name) for name in _BODY], 1] @ weights
    falls = []
    edges = np.flatnonzero(np.diff(np.concatenate([[False], off, [False]]).astype(np.int8))).reshape(-1, 2)
    for start, stop in edges:
        if stop - start < _MIN_FLIGHT_FRAMES:
            continue
        times, heights = np.arange(stop - start) / fps, height[start:stop]
        curve = np.polynomial.Polynomial.fit(times, heights, 2).convert()
        residual = heights - curve(times)
        spread = float(((heights - heights.mean()) ** 2).sum())
        acceleration = -2.0 * float(curve.coef[2]) if len(curve.coef) > 2 else 0.0
        arc = acceleration * float(times[-1]) ** 2 / 8.0
        over_the_top = 0 < int(heights.argmax()) < len(heights) - 1
        if over_the_top and arc > _MIN_ARC_M and float((residual**2).sum()) < 0.03 * spread:
            falls.append(acceleration / GRAVITY)
    return falls


def _walk_ratio(joints: np.ndarray, fps: float) -> float | None:
    """Return the walk ratio of the steady forward walking in a motion, relative to `WALK_RATIO`; `None` without any.

    A step is half a period of the distance by which the left ankle is ahead of the right one.
    """
    index = HUMANML3D_22.joint_names.index
    heading = facing_angles(joints)
    ahead = np.stack([np.sin(heading), np.cos(heading)], axis=-1)
    apart = joints[:, index("left_ankle")] - joints[:, index("right_ankle")]
    swing = (apart[:, ::2] * ahead).sum(axis=-1)
    frames = np.flatnonzero(np.sign(swing[1:]) != np.sign(swing[:-1]))
    crossings = [float(k + swing[k] / (swing[k] - swing[k + 1])) for k in frames]
    if len(crossings) < 4:
        return None
    pelvis, upright = joints[:, 0], np.median(joints[:, 0, 1]) > 0.75
    ratios, seconds = [], 0.0
    for before, after in pairwise(crossings):
        first, last = round(before), round(after)
        reach = float(np.abs(swing[first : last + 1]).max())
        way = pelvis[last, ::2] - pelvis[first, ::2]
        step = float(way @ ahead[(first + last) // 2])
        # In a regular step, the body moves about as far as the feet are apart.
        if last - first >= 3 and reach > 0.2 and 0.6 * reach < step < 2.2 * reach:
            ratios.append(step / (60.0 * fps / (after - before)))
            seconds += (after - before) / fps
    if not upright or len(ratios) < 4 or seconds < _MIN_WALK_S:
        return None
    return float(np.median(ratios)) / WALK_RATIO
