"""Detect the unit, up axis and handedness of joints, and convert them to meters with Y up."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lamp_hf.motion.errors import MotionFormatError
from lamp_hf.motion.skeleton import HUMANML3D_22, Skeleton

__all__ = [
    "METERS_PER_UNIT",
    "UP_AXES",
    "Detection",
    "UnitReading",
    "check_unit_and_up_axis",
    "detect",
    "read_units",
    "standardize",
]

logger = logging.getLogger(__name__)

METERS_PER_UNIT: Mapping[str, float] = {
    "m": 1.0,
    "dm": 0.1,
    "cm": 0.01,
    "mm": 0.001,
    "inch": 0.0254,
    "foot": 0.3048,
    "cmu": 0.0254 / 0.45,  # the CMU database and cgspeed's conversions
}

# For each possible up axis: the source axes of x, y and z, and their signs. All are proper rotations.
_TURNS: Mapping[str, tuple[tuple[int, int, int], tuple[float, float, float]]] = {
    "y": ((0, 1, 2), (1.0, 1.0, 1.0)),
    "z": ((0, 2, 1), (1.0, 1.0, -1.0)),
    "x": ((1, 0, 2), (-1.0, 1.0, 1.0)),
    "-y": ((0, 1, 2), (1.0, -1.0, -1.0)),
    "-z": ((0, 2, 1), (1.0, -1.0, 1.0)),
    "-x": ((1, 0, 2), (1.0, -1.0, 1.0)),
}
UP_AXES = tuple(_TURNS)

_ADULT_LEG_M = 0.83
_LEG_RANGE_M = (0.3, 1.6)  # from hip to ankle, for a toddler and a giant
_ADULT_RANGE_M = (0.6, 1.1)
# For each unit: the widths over which a leg shorter or longer than an adult's becomes implausible (in natural
# logarithms), and a cost for rare units. Children and giants are rarest in CMU's unit because it recorded adults.
_UNIT_READINGS: Mapping[str, tuple[float, float, float]] = {
    "m": (0.35, 0.25, 0.0),
    "cm": (0.35, 0.25, 0.0),
    "mm": (0.35, 0.25, 0.0),
    "cmu": (0.15, 0.15, 0.5),
    "inch": (0.35, 0.20, 1.9),
    "dm": (0.35, 0.18, 1.5),
    "foot": (0.35, 0.20, 1.5),
}
_STANDS = 0.7  # minimum share of the vector from ankles to neck along an axis for a standing body
_STANDS_SURELY = 0.85
_CLIMBS = 2.0  # leg lengths; a body seldom moves this far up or down in a clip
_FACES = 0.25  # below this mean cosine between feet and facing, handedness is undetermined
_SAMPLE_FRAMES = 200


@dataclass(frozen=True)
class UnitReading:
    """A possible unit of a file, with the body size that it implies.

    Attributes:
        unit: key of `METERS_PER_UNIT`.
        leg_m: length from hip to ankle in meters if the file uses this unit.
        cost: implausibility; 0 is an adult in a common unit.
    """

    unit: str
    leg_m: float
    cost: float

    def __str__(self) -> str:
        return f"{self.unit} (leg {self.leg_m:.2f} m)"


@dataclass(frozen=True)
class Detection:
    """Detected or given coordinate conventions of a motion.

    Attributes:
        unit: key of `METERS_PER_UNIT`.
        leg_m: mean length of the legs from hip to ankle, meters.
        unit_readings: plausible units, best first; empty if the unit was given.
        up_axis: one of `UP_AXES`.
        up_axis_share: mean share (-1 to 1) of the vector from ankles to neck that lies along the up axis.
        facing: mean cosine (-1 to 1) between the direction of the feet and the front direction that left and right
            imply. If negative, the data are mirrored; NaN if it cannot be determined.
        mirrored: whether left and right contradict the direction of the feet.
        doubts: sentences about readings that may be wrong.
    """

    unit: str
    leg_m: float
    unit_readings: tuple[UnitReading, ...]
    up_axis: str
    up_axis_share: float
    facing: float
    mirrored: bool
    doubts: tuple[str, ...] = ()

    @property
    def meters_per_unit(self) -> float:
        """Meters per unit of the file."""
        return METERS_PER_UNIT[self.unit]

    def turn(self, positions: np.ndarray) -> np.ndarray:
        """Rotate positions or directions (..., 3) so that the up axis becomes Y."""
        if self.up_axis == "y":
            return positions
        axes, signs = _TURNS[self.up_axis]
        return positions[..., list(axes)] * np.asarray(signs, dtype=positions.dtype)

    def __str__(self) -> str:
        return f"unit {self.unit} (legs {self.leg_m:.2f} m), {self.up_axis} up"


def standardize(
    joints: np.ndarray,
    *,
    skeleton: Skeleton = HUMANML3D_22,
    unit: str | None = None,
    up_axis: str | None = None,
    file_name: str = "motion",
    strict: bool = False,
) -> tuple[np.ndarray, Detection]:
    """Convert joints of unknown unit and orientation to meters with Y up.

    Detected values are logged at level INFO, doubts at WARNING.

    Args:
        joints: (T, J, 3), finite, in any unit.
        skeleton: skeleton of the joints.
        unit: key of `METERS_PER_UNIT`; detected by default.
        up_axis: one of `UP_AXES`; detected by default.
        file_name: file name for messages.
        strict: refuse doubtful readings.

    Returns:
        (T, J, 3) float32 in meters, Y up, and the detection.

    Raises:
        MotionFormatError: the body does not have human size in any unit, an argument is unknown, a joint is not
            finite, or a reading is doubtful and `strict` is set.

    Example:

    ```python
    >>> import numpy as np
    >>> from lamp_hf.motion.formats.detection import standardize
    >>> from lamp_hf.motion.skeleton import HUMANML3D_22
    >>> body = HUMANML3D_22.rest_offsets.copy()
    >>> for joint in range(1, 22):
    ...     body[joint] += body[HUMANML3D_22.parents[joint]]
    >>> joints, detection = standardize(1000 * body[None, :, [0, 2, 1]] * [1, -1, 1])
    >>> detection.unit, detection.up_axis, bool(np.allclose(joints, body, atol=1e-5))
    ('mm', 'z', True)

    ```
    """
    joints = np.asarray(joints)
    finite = np.isfinite(joints).all(axis=(1, 2))
    if not finite.all():
        raise MotionFormatError(f"{file_name}: frame {int(np.argmin(finite)) + 1} has a joint that is not finite")
    detection = detect(joints, skeleton=skeleton, unit=unit, up_axis=up_axis, file_name=file_name, strict=strict)
    logger.info("%s: %s", file_name, detection)
    meters = detection.turn(joints.astype(np.float64) * detection.meters_per_unit)
    return meters.astype(np.float32), detection


def check_unit_and_up_axis(unit: str | None, up_axis: str | None, file_name: str) -> None:
    """Check a unit and an up axis.

    Raises:
        MotionFormatError: one of them is unknown.
    """
    if unit is not None and unit not in METERS_PER_UNIT:
        raise MotionFormatError(f"{file_name}: expected unit among {', '.join(METERS_PER_UNIT)}, got {unit!r}")
    if up_axis is not None and up_axis not in UP_AXES:
        raise MotionFormatError(f"{file_name}: expected up_axis among {', '.join(UP_AXES)}, got {up_axis!r}")


def detect(
    joints: np.ndarray,
    *,
    rest: np.ndarray | None = None,
    skeleton: Skeleton = HUMANML3D_22,
    unit: str | None = None,
    up_axis: str | None = None,
    usual_unit: str | None = None,
    file_name: str = "motion",
    strict: bool = False,
) -> Detection:
    """Detect unit, up axis and handedness, and log doubts at level WARNING.

    Args:
        joints: (T, J, 3), finite, in any unit.
        rest: (J, 3) the same joints in the rest pose, if the file has one.
        skeleton: skeleton of the joints.
        unit, up_axis: values to use instead of detecting them.
        usual_unit: usual unit of this file format; it is not doubted if it gives an adult.
        file_name: file name for messages.
        strict: refuse doubtful readings.

    Raises:
        MotionFormatError: as for `standardize`.
    """
    check_unit_and_up_axis(unit, up_axis, file_name)
    joints = np.asarray(joints, dtype=np.float64)[:: max(1, len(joints) // _SAMPLE_FRAMES)]
    body = _Body(joints, skeleton)
    doubts: list[str] = []
    readings: list[UnitReading] = []
    if unit is None:
        readings = read_units(body.leg, usual_unit)
        if not readings:
            raise MotionFormatError(
                f"{file_name}: the legs measure {body.leg:.4g} from hip to ankle, which is not a human size in any of "
                f"{', '.join(METERS_PER_UNIT)} (check the rig, or pass unit=)"
            )
        unit = readings[0].unit
        sure = unit == usual_unit and _ADULT_RANGE_M[0] <= readings[0].leg_m <= _ADULT_RANGE_M[1]
        if readings[1:] and not sure:
            others = " or ".join(map(str, readings[1:]))
            doubts.append(f"taking the unit as {readings[0]}; it could be {others} (pass unit= or --unit if wrong)")
    shares = body.up_shares()
    if up_axis is None:
        up_axis, doubt = _choose_up_axis(body, shares, rest, skeleton)
        if doubt:
            doubts.append(doubt + f"; taking {up_axis} as up (pass up_axis= or --up-axis if wrong)")
    facing = body.facing(up_axis)
    mirrored = facing < -_FACES
    if mirrored:
        doubts.append(
            "left and right contradict the direction of the feet (left-handed coordinates, or swapped names; cosine "
            f"{facing:.2f}); the joints are used as they are named"
        )
    if strict and doubts:
        raise MotionFormatError(f"{file_name}: {doubts[0]}")
    for doubt in doubts:
        logger.warning("%s: %s", file_name, doubt)
    return Detection(
        unit=unit,
        leg_m=body.leg * METERS_PER_UNIT[unit],
        unit_readings=tuple(readings),
        up_axis=up_axis,
        up_axis_share=shares[up_axis],
        facing=facing,
        mirrored=bool(mirrored),
        doubts=tuple(doubts),
    )


def read_units(leg: float, usual_unit: str | None = None) -> list[UnitReading]:
    """Return the units in which a leg has human length, most plausible first.

    For an adult in meters, centimeters or millimeters, only one unit is plausible. For children, giants, and most
    bodies in the other units, there are several.

    Args:
        leg: length from hip over knee to ankle in the file's unit.
        usual_unit: usual unit of this file format, which comes first if it gives an adult.
    """
    readings = []
    for unit, (below, above, rarity) in _UNIT_READINGS.items():
        length = leg * METERS_PER_UNIT[unit]
        if _LEG_RANGE_M[0] <= length <= _LEG_RANGE_M[1]:
            distance = float(np.log(length / _ADULT_LEG_M))
            cost = (distance / (below if distance < 0 else above)) ** 2 + rarity
            if unit == usual_unit and _ADULT_RANGE_M[0] <= length <= _ADULT_RANGE_M[1]:
                cost = 0.0
            readings.append(UnitReading(unit, length, cost))
    return sorted(readings, key=lambda reading: reading.cost)


class _Body:
    """Landmarks of a body over time, from which its size and orientation are detected."""

    def __init__(self, joints: np.ndarray, skeleton: Skeleton) -> None:
        index = {name: k for k, name in enumerate(skeleton.joint_names)}
        toe = "toe" if "left_toe" in index else "foot"

        def at(name: str) -> np.ndarray:
            return joints[:, index[name]]

        self.joints = joints
        self.hips = at("left_hip"), at("right_hip")
        self.knees = at("left_knee"), at("right_knee")
        self.ankles = at("left_ankle"), at("right_ankle")
        self.toes = at(f"left_{toe}"), at(f"right_{toe}")
        self.neck = at("neck")
        bones = [
            np.linalg.norm(knee - hip, axis=-1) + np.linalg.norm(ankle - knee, axis=-1)
            for hip, knee, ankle in zip(self.hips, self.knees, self.ankles, strict=True)
        ]
        self.leg = float(np.median(np.mean(bones, axis=0)))

    def up_shares(self) -> dict[str, float]:
        """Return, for each axis, the mean share of the vector from ankles to neck that lies along it."""
        way = self.neck - (self.ankles[0] + self.ankles[1]) / 2
        shares = np.mean(way / np.maximum(np.linalg.norm(way, axis=-1, keepdims=True), 1e-12), axis=0)
        return {axis: float(_along(shares, axis)) for axis in UP_AXES}

    def facing(self, up_axis: str) -> float:
        """Return the mean cosine between the direction of the feet and the front direction that left and right imply.

        NaN if it cannot be determined.
        """
        up = np.zeros(3)
        up["xyz".index(up_axis[-1])] = -1.0 if up_axis[0] == "-" else 1.0
        front = _unit(np.cross(self.hips[0] - self.hips[1], up))
        cosines = []
        for ankle, toe in zip(self.ankles, self.toes, strict=True):
            foot = toe - ankle
            foot = foot - np.sum(foot * up, axis=-1, keepdims=True) * up
            long_enough = np.linalg.norm(foot, axis=-1) > 0.05 * self.leg
            cosines.append(np.sum(_unit(foot) * front, axis=-1)[long_enough])
        known = np.concatenate(cosines)
        return float(np.mean(known)) if len(known) else float("nan")

    def climb(self, up_axis: str) -> float:
        """Return the vertical range of the hips over the clip, in leg lengths."""
        return float(np.ptp(_along(self.hips[0] + self.hips[1], up_axis))) / 2.0 / max(self.leg, 1e-12)

    def stands_on_floor(self, up_axis: str, below: float = 0.2) -> bool:
        """Return whether the lowest joint of the clip is near zero, relative to the leg length."""
        return bool(-below * self.leg < _along(self.joints, up_axis).min() < 0.3 * self.leg)

    def is_upright(self) -> bool:
        """Return whether the legs extend in line with the trunk, as for a standing person."""
        hips = (self.hips[0] + self.hips[1]) / 2
        legs = _unit((self.ankles[0] + self.ankles[1]) / 2 - hips)
        return bool(np.mean(np.sum(_unit(self.neck - hips) * legs, axis=-1)) < -0.8)


def _choose_up_axis(
    body: _Body, shares: Mapping[str, float], rest: np.ndarray | None, skeleton: Skeleton
) -> tuple[str, str]:
    """Return the up axis and a doubt about it, or an empty string."""
    best = max(shares, key=shares.__getitem__)
    share = shares[best]
    at_rest = _rest_axis(rest, skeleton)
    if share < _STANDS:
        if at_rest is not None and at_rest != "y":
            return at_rest, f"the body does not stand (best axis {best}, share {share:.2f}), but its rest pose does"
        return "y", f"the body does not stand (best axis {best}, share {share:.2f})"
    if best == "y":
        if at_rest == "y":
            return best, ""
        if body.stands_on_floor("z", below=0.04) and not body.stands_on_floor("y"):
            return best, f"the body stands along y ({share:.2f}), or it lies on a floor with Z up"
        if body.climb("y") > _CLIMBS:
            return (
                best,
                f"the body moves by {body.climb('y'):.1f} leg lengths along y: up or down, or forward if another axis "
                "is up",
            )
        if at_rest is not None:
            return best, f"the body in motion stands along y ({share:.2f}), but its rest pose along {at_rest}"
        return best, ""
    if at_rest not in (None, best):
        if share < _STANDS_SURELY:
            return (
                str(at_rest),
                f"the rest pose stands along {at_rest}, but the body in motion along {best} ({share:.2f})",
            )
        return best, f"the body in motion stands along {best} ({share:.2f}), but its rest pose along {at_rest}"
    if share < _STANDS_SURELY:
        floors = body.stands_on_floor("y"), body.stands_on_floor(best)
        # A person who falls or crawls with Y up may lie along any axis for most of a clip.
        taken = "y" if floors == (True, False) or (best != "z" and floors != (False, True)) else best
        return taken, f"the body stands along {best} with a share of only {share:.2f}"
    if at_rest is None and not body.stands_on_floor(best):
        return best, f"the body stands along {best} ({share:.2f}), or it lies on a floor with Y up"
    if best != "z":
        return best, f"the body stands along {best} (share {share:.2f}), which is unusual"
    if body.climb(best) > _CLIMBS:
        return (
            best,
            f"the body moves by {body.climb(best):.1f} leg lengths along {best}: up or down, or it crawls with Y up",
        )
    return best, ""


def _rest_axis(rest: np.ndarray | None, skeleton: Skeleton) -> str | None:
    """Return the axis along which a rest pose stands; None if it does not stand, as in LAFAN1's files."""
    if rest is None:
        return None
    body = _Body(np.asarray(rest, dtype=np.float64)[None], skeleton)
    shares = body.up_shares()
    best = max(shares, key=shares.__getitem__)
    return best if shares[best] > _STANDS_SURELY and body.is_upright() else None


def _along(values: np.ndarray, axis: str) -> np.ndarray:
    sign = -1.0 if axis[0] == "-" else 1.0
    return sign * values[..., "xyz".index(axis[-1])]


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
