"""Plant feet: keep a foot that stands on the floor in place, so that it does not slide.

A motion decoder, or a network that predicts velocities, places the foot in each frame independently, and a standing
foot slides by a few centimeters. `Motion.plant_feet` removes this, as games do and as Kovar et al. describe (Footskate
Cleanup for Motion Capture Editing, SCA 2002):

1. *Contacts.* Heel and toe are handled separately. A point is in contact with the floor while it is low and slow, with
   hysteresis, so that noise does not split a contact. If the motion has contact labels (features of HumanML3D), a point
   that is labeled as moving is not in contact. A slow foot in the air is not low, and a foot that travels farther than
   20 cm while it is slow slides on purpose; neither is changed. Hands are never changed.
2. *Targets.* During a contact, the point stays at one position on the floor. Its height changes by at most 1 cm, so the
   foot still rolls from heel to toe. Before and after a contact, the correction fades over 0.2 s to avoid jumps.
3. *Legs.* Two-bone inverse kinematics moves knee and foot. Thigh and shank keep the length that they have in the frame,
   the foot gets its median length, and the knee bends forward. If a leg is too short for its target, the whole body
   follows smoothly, by less than 2 cm.

Generated motions are written with planted feet to files for animation and viewing; `plant_feet=False`
(`--no-plant-feet`) keeps the motion unchanged. Features, NPY and NPZ files always contain the unchanged motion.
"""

import weakref
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lamp_hf.motion import rotations
from lamp_hf.motion.kinematics import export_kinematics, forward_kinematics, inverse_kinematics
from lamp_hf.motion.skeleton import HUMANML3D_22, Skeleton

if TYPE_CHECKING:
    from lamp_hf.motion.motion import Motion

__all__ = ["find_plants", "plant_joints", "planted_kinematics", "planted_motion"]

# Lengths in meters are for a leg of 0.82 m and are scaled to the body.
_LEG_M = 0.82
_LOW_M = (0.02, 0.04)  # heel and toe above their own lowest position; a heel that rises more rolls over the toe
_HIGHEST_M = (0.15, 0.11)  # heel and toe above the floor
_SLOW = (0.25, 0.5)  # m/s: a contact begins below the first and ends above the second
_STILL = (0.1, 0.2)  # the same, for a point that travels too far while it is slow
_TRAVEL_M = 0.2  # a point that travels farther slides on purpose
_SPEED_WINDOW_S = 0.1
_SHORTEST_S = 0.1
_BLEND_S = 0.2
_STRETCH = 0.998  # minimum reach as a fraction of the leg's length
_LIFT_M = 0.01  # how much the toe's height may change
_HIPS_M = 0.018
_HIPS_WINDOW_S = 0.15
_LABEL = 0.5


class _Leg(NamedTuple):
    """Joints of a leg: hip, knee, ankle, all descendants of the ankle, and the two points that touch the floor."""

    hip: int
    knee: int
    ankle: int
    foot: tuple[int, ...]
    heel: int
    toe: int


def _legs(skeleton: Skeleton) -> list[_Leg]:
    legs = []
    for heel, toe in (skeleton.contact_joints[:2], skeleton.contact_joints[2:]):
        chain = next(chain for chain in skeleton.chains if toe in chain)
        legs.append(_Leg(chain[1], chain[2], chain[3], chain[4:], heel, toe))
    return legs


def _size(joints: np.ndarray, skeleton: Skeleton) -> float:
    """Return the size of a body (T, J, 3) relative to HumanML3D's."""
    lengths = [
        np.linalg.norm(joints[:, below] - joints[:, above], axis=-1)
        for leg in _legs(skeleton)
        for above, below in ((leg.hip, leg.knee), (leg.knee, leg.ankle))
    ]
    size = float(np.median(np.sum(lengths, axis=0))) / 2.0 / _LEG_M
    return size if size > 1e-6 else 1.0  # all joints in one place


def find_plants(
    joints: np.ndarray, fps: float, skeleton: Skeleton = HUMANML3D_22, *, labels: np.ndarray | None = None
) -> np.ndarray:
    """Find the points of the feet that stand on the floor and should stay in place.

    Args:
        joints: (T, J, 3), meters, Y up.
        fps: frames per second.
        skeleton: skeleton of the joints.
        labels: (T, 4), contact features, 1 where a point does not move; a point that is labeled as moving is not
            planted. KIT-ML's labels are ignored because they label everything above 3 mm/s as moving.

    Returns:
        (T, 4), boolean, in the order of `skeleton.contact_joints`: left heel, left toe, right heel, right toe.
    """
    points = np.asarray(joints, dtype=np.float64)[:, list(skeleton.contact_joints)]
    size = _size(np.asarray(joints, dtype=np.float64), skeleton)
    height = points[..., 1] - np.asarray(joints)[..., 1].min()
    ceiling = np.minimum(height.min(axis=0) + np.tile(_LOW_M, 2) * size, np.tile(_HIGHEST_M, 2) * size)
    allowed = height < ceiling
    if labels is not None and np.sqrt(skeleton.contact_threshold) * skeleton.unit * fps > _SLOW[1]:
        allowed &= labels > _LABEL
    speed = _speeds(points, fps) / size
    shortest, blend = max(1, round(_SHORTEST_S * fps)), max(1, round(_BLEND_S * fps))
    plants = np.zeros(speed.shape, dtype=bool)
    for point in range(speed.shape[1]):
        where = points[:, point, ::2] / size
        slow = _hysteresis(speed[:, point], *_SLOW, allowed[:, point])
        still = _hysteresis(speed[:, point], *_STILL, allowed[:, point])
        plants[:, point] = _staying(slow, where, shortest) | _staying(_cut(still, where, blend), where, shortest)
    # A short gap in the contact of heel or toe is noise if the other point is planted throughout.
    for point in range(speed.shape[1]):
        other = plants[:, point ^ 1]
        for start, stop in zip(*_runs(~plants[:, point]), strict=True):
            if start > 0 and stop < len(plants) and stop - start <= blend and other[start:stop].all():
                where = points[start - 1 : stop + 1, point, ::2] / size
                plants[start:stop, point] = _travel(where) <= _TRAVEL_M / 4.0
    return plants


def _speeds(points: np.ndarray, fps: float) -> np.ndarray:
    """Compute horizontal speeds (T, P) of points (T, P, 3), m/s, over 0.1 s to suppress noise."""
    frames = np.arange(len(points))
    reach = max(1, round(_SPEED_WINDOW_S * fps / 2.0))
    before, after = np.maximum(frames - reach, 0), np.minimum(frames + reach, len(points) - 1)
    way = np.linalg.norm(points[after][..., ::2] - points[before][..., ::2], axis=-1)
    return way * fps / np.maximum(after - before, 1)[:, None]


def _hysteresis(speed: np.ndarray, begin: float, end: float, allowed: np.ndarray) -> np.ndarray:
    """Mark runs (T,) of allowed frames slower than `end` that contain a frame slower than `begin`."""
    slow = allowed & (speed < end)
    starts, stops = _runs(slow)
    good = np.zeros(len(speed), dtype=bool)
    for start, stop in zip(starts, stops, strict=True):
        good[start:stop] = speed[start:stop].min() < begin
    return good


def _cut(runs: np.ndarray, where: np.ndarray, gap: int) -> np.ndarray:
    """Split runs (T,) in which a point (T, 2) travels too far into parts separated by `gap` frames."""
    parts = runs.copy()
    for start, stop in zip(*_runs(runs), strict=True):
        pieces = int(np.ceil(_travel(where[start:stop]) / _TRAVEL_M))
        for cut in np.linspace(start, stop, pieces + 1)[1:-1].astype(int):
            parts[cut - gap // 2 : cut - gap // 2 + gap] = False
    return parts


def _travel(where: np.ndarray) -> float:
    """Return the extent of positions (T, 2): the diagonal of their bounding box."""
    return float(np.linalg.norm(where.max(axis=0) - where.min(axis=0)))


def _staying(runs: np.ndarray, where: np.ndarray, shortest: int) -> np.ndarray:
    """Keep the runs (T,) that last at least `shortest` frames and in which positions (T, 2) stay within `_TRAVEL_M`."""
    good = runs.copy()
    for start, stop in zip(*_runs(runs), strict=True):
        # A clip may be shorter than a contact.
        good[start:stop] = stop - start >= min(shortest, len(runs)) and _travel(where[start:stop]) <= _TRAVEL_M
    return good


def _runs(flags: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the start and stop indices of runs of true values in (T,)."""
    edges = np.diff(np.concatenate([[0], flags.astype(np.int8), [0]]))
    return np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)


def plant_joints(
    joints: np.ndarray, fps: float, skeleton: Skeleton = HUMANML3D_22, *, plants: np.ndarray | None = None
) -> np.ndarray:
    """Keep the points of the feet that stand on the floor in place.

    Args:
        joints: (T, J, 3), meters, Y up.
        fps: frames per second.
        skeleton: skeleton of the joints.
        plants: (T, 4), boolean; defaults to the result of `find_plants`.

    Returns:
        (T, J, 3), float64. Bones keep the length that they have in the frame, except the bone from heel to toe, which
        gets its median length. The heights of heels and toes change by at most 1 cm unless a leg is too short.
    """
    joints = np.asarray(joints, dtype=np.float64)
    if plants is None:
        plants = find_plants(joints, fps, skeleton)
    if not plants.any():
        return joints.copy()
    result = joints.copy()
    legs = _legs(skeleton)
    blend = max(1, round(_BLEND_S * fps))
    targets = []
    for side, leg in enumerate(legs):
        shifts = _shifts(joints, leg, plants[:, 2 * side : 2 * side + 2], blend)
        moved = _moved_foot(joints, leg, *shifts)
        result[:, leg.foot] = moved[:, 1:]
        targets.append(moved[:, 0])
    hips = _hips_shift(joints, legs, targets, fps, _size(joints, skeleton))
    feet = {joint for leg in legs for joint in leg.foot}
    rest = [joint for joint in range(skeleton.num_joints) if joint not in feet]
    result[:, rest] = joints[:, rest] + hips[:, None]
    across = joints[:, legs[0].hip] - joints[:, legs[1].hip]
    for leg, target in zip(legs, targets, strict=True):
        knee, ankle = _bend(joints, leg, result[:, leg.hip], target, across)
        result[:, leg.knee], result[:, leg.ankle] = knee, ankle
        result[:, leg.foot] += (ankle - target)[:, None]
    return result


def _shifts(
    joints: np.ndarray, leg: _Leg, plants: np.ndarray, blend: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Compute the horizontal corrections (T, 2) of heel and toe, and two weights (T, 1): both planted, only the toe.

    A point that is not planted moves along with the other point of its foot.
    """
    held, weights = [], []
    together = plants[:, 0] & plants[:, 1]
    for point, joint in enumerate((leg.heel, leg.toe)):
        own = np.zeros((len(joints), 2))
        for start, stop in zip(*_runs(plants[:, point]), strict=True):
            where = joints[start:stop, joint, ::2]
            # Prefer frames in which the whole foot stands so that the targets of heel and toe fit each other.
            both = together[start:stop]
            own[start:stop] = (where[both] if both.any() else where).mean(axis=0) - where
        shift, weight = _faded(own, plants[:, point], blend)
        held.append(shift)
        weights.append(weight[:, None])
    (heel, toe), (heel_weight, toe_weight) = held, weights
    return (
        heel_weight * heel + (1.0 - heel_weight) * toe_weight * toe,
        toe_weight * toe + (1.0 - toe_weight) * heel_weight * heel,
        heel_weight * toe_weight,
        _faded(toe, plants[:, 1] & ~plants[:, 0], blend)[1][:, None],
    )


def _faded(own: np.ndarray, planted: np.ndarray, blend: int) -> tuple[np.ndarray, np.ndarray]:
    """Extend corrections (T, 2) beyond the contacts; return them with weights (T,) that fade from 1 over `blend`."""
    frames = np.arange(len(planted))
    last = np.maximum.accumulate(np.where(planted, frames, -1))
    following = np.minimum.accumulate(np.where(planted, frames, len(frames))[::-1])[::-1]
    after = np.where(last >= 0, _smooth_step(1.0 - (frames - last) / (blend + 1.0)), 0.0)
    before = np.where(following < len(frames), _smooth_step(1.0 - (following - frames) / (blend + 1.0)), 0.0)
    total = np.where(planted, 1.0, after + before)
    mixed = after[:, None] * own[np.maximum(last, 0)] + before[:, None] * own[np.minimum(following, len(frames) - 1)]
    shift = np.where(planted[:, None], own, mixed / np.maximum(total, 1e-12)[:, None])
    return shift, np.minimum(total, 1.0)


def _smooth_step(share: np.ndarray) -> np.ndarray:
    share = np.clip(share, 0.0, 1.0)
    return share * share * (3.0 - 2.0 * share)


def _moved_foot(
    joints: np.ndarray,
    leg: _Leg,
    heel_shift: np.ndarray,
    toe_shift: np.ndarray,
    both: np.ndarray,
    toe_alone: np.ndarray,
) -> np.ndarray:
    """Move ankle and foot (T, 1 + F, 3) with the heel, and turn the foot toward the target of its toe.

    The bone from heel to toe gets its median length: decoders change its length by millimeters per frame, and one of
    its ends would slide. For the same reason, the toe keeps its height below the heel while both are planted.
    """
    heel, toe = joints[:, leg.heel], joints[:, leg.toe]
    way = (toe - heel)[:, ::2]
    flat = np.linalg.norm(way, axis=-1, keepdims=True)
    length = float(np.median(np.linalg.norm(toe - heel, axis=-1)))
    if length < 1e-6:
        return joints[:, [leg.ankle, *leg.foot]] + np.insert(heel_shift, 1, 0.0, axis=-1)[:, None]
    # A foot that points down has no direction on the floor, so it is not turned.
    wanted = way + np.clip(2.0 * flat / length - 0.5, 0.0, 1.0) * (toe_shift - heel_shift)
    direction = _unit(wanted, way)
    rise = (heel - toe)[:, 1:2] * (length / np.maximum(np.linalg.norm(toe - heel, axis=-1, keepdims=True), 1e-9))
    level = np.sqrt(np.maximum(length**2 - np.sum(wanted**2, axis=-1, keepdims=True), 0.0))
    level = np.where(rise < 0.0, -level, level)
    rise = np.clip(rise + both * np.clip(level - rise, -_LIFT_M, _LIFT_M), -length, length)
    new_flat = np.sqrt(length**2 - rise**2)
    # If the toe would sink into the floor, lift the whole foot.
    lowest = np.minimum(toe[:, 1:2], max(float(np.quantile(toe[:, 1], 0.1)), 0.0))
    lift = np.maximum(lowest - (heel[:, 1:2] - rise), 0.0)

    moved = joints[:, [leg.ankle, *leg.foot]]
    # Complex multiplication turns the foot about its heel on the floor.
    turn = np.conj(_unit(way, way) @ [1.0, 1j]) * (direction @ [1.0, 1j])
    arms = (moved[..., ::2] - heel[:, None, ::2]) @ [1.0, 1j] * turn[:, None]
    moved[..., 0] = arms.real + (heel[:, :1] + heel_shift[:, :1])
    moved[..., 2] = arms.imag + (heel[:, 2:] + heel_shift[:, 1:])
    end = [leg.ankle, *leg.foot].index(leg.toe)
    moved[:, end, 1] = heel[:, 1] - rise[:, 0]
    moved[..., 1] += lift
    moved[:, end, ::2] = heel[:, ::2] + heel_shift + direction * new_flat
    # If only the toe is planted, the whole foot moves by the toe's remaining distance from its target.
    moved[..., ::2] += (toe_alone * (toe[:, ::2] + toe_shift - moved[:, end, ::2]))[:, None]
    return moved


def _unit(vectors: np.ndarray, fallback: np.ndarray) -> np.ndarray:
    """Normalize vectors (T, 2); use `fallback`, or else the x axis, for zero vectors."""
    return rotations.normalize(vectors, rotations.normalize(fallback, [1.0, 0.0]))


def _reach(joints: np.ndarray, leg: _Leg) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the lengths (T,) of thigh and shank, and the largest distance from hip to ankle."""
    hip, knee, ankle = joints[:, leg.hip], joints[:, leg.knee], joints[:, leg.ankle]
    thigh, shank = np.linalg.norm(knee - hip, axis=-1), np.linalg.norm(ankle - knee, axis=-1)
    return thigh, shank, np.maximum(np.linalg.norm(ankle - hip, axis=-1), _STRETCH * (thigh + shank))


def _hips_shift(joints: np.ndarray, legs: list[_Leg], targets: list[np.ndarray], fps: float, size: float) -> np.ndarray:
    """Compute smooth shifts (T, 3) of the body, at most `_HIPS_M`, toward feet that its legs cannot reach."""
    shift = np.zeros((len(joints), 3))
    for _ in range(2):  # a shift for one leg may move the other target out of reach
        for leg, target in zip(legs, targets, strict=True):
            way = target - (joints[:, leg.hip] + shift)
            distance = np.linalg.norm(way, axis=-1)
            missing = np.maximum(distance - _reach(joints, leg)[2], 0.0)
            shift += way * (missing / np.maximum(distance, 1e-9))[:, None]
    if not shift.any():
        return shift
    length = np.linalg.norm(shift, axis=-1, keepdims=True)
    most = _HIPS_M * size
    shift *= np.minimum(1.0, most / np.maximum(length, 1e-9))
    return _smoothed(shift, _HIPS_WINDOW_S * fps)


def _smoothed(values: np.ndarray, sigma: float) -> np.ndarray:
    """Smooth values (T, D) over time with a Gaussian of `sigma` frames; the first and last values are repeated."""
    radius = int(np.ceil(3.0 * sigma))
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / max(sigma, 1e-9)) ** 2)
    kernel /= kernel.sum()
    padded = np.pad(values, ((radius, radius), (0, 0)), mode="edge")
    return np.stack([np.convolve(column, kernel, mode="valid") for column in padded.T], axis=-1)


def _bend(
    joints: np.ndarray, leg: _Leg, hip: np.ndarray, target: np.ndarray, across: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Solve for knee and ankle (T, 3) of a leg from `hip` to `target`, keeping bone lengths and knee direction."""
    thigh, shank, reach = _reach(joints, leg)
    old_way = joints[:, leg.ankle] - joints[:, leg.hip]
    way = target - hip
    distance = np.linalg.norm(way, axis=-1)
    near = np.abs(thigh - shank)
    new_distance = np.clip(distance, near, np.minimum(reach, thigh + shank))
    direction = rotations.normalize(way, rotations.normalize(old_way, [0.0, -1.0, 0.0]))
    along = (thigh**2 - shank**2 + new_distance**2) / (2.0 * np.maximum(new_distance, 1e-9))
    out = np.sqrt(np.maximum(thigh**2 - along**2, 0.0))[:, None]
    # The knee points in the same direction as before, turned with the leg. For a straight leg this direction is
    # undefined, so any additional bend points forward.
    old_direction = rotations.normalize(old_way, direction)
    side = _across(joints[:, leg.knee] - joints[:, leg.hip], old_direction)
    side = rotations.rotate(rotations.between(old_direction, direction), side)
    more = np.maximum(out - np.linalg.norm(side, axis=-1, keepdims=True), 0.0)
    side = _across(side + more * rotations.normalize(np.cross(direction, across)), direction)
    knee = hip + direction * along[:, None] + rotations.normalize(side) * out
    return knee, hip + direction * new_distance[:, None]


def _across(vectors: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """Return the component of vectors (T, 3) perpendicular to unit vectors (T, 3)."""
    return vectors - np.sum(vectors * direction, axis=-1, keepdims=True) * direction


def planted_motion(motion: "Motion", plant_feet: bool | None) -> "Motion":
    """Return the motion to show in pictures; by default, feet are planted if the motion was generated."""
    return motion.plant_feet() if _wanted(motion, plant_feet) else motion


def planted_kinematics(
    motion: "Motion", *, own_body: bool | None, plant_feet: bool | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Compute `export_kinematics` of a motion for a file with bones, optionally with planted feet.

    The feet are planted on the body of the file, whose legs may differ from the motion's. Only the rotations of the
    legs and the position of the root change.

    Args:
        motion: the motion.
        own_body: whether bones keep their lengths; defaults to the motion's `own_body`.
        plant_feet: whether to plant the feet; defaults to `True` if the motion was generated.

    Returns:
        Local rotations (T, J, 4), root positions (T, 3), offsets (J, 3) and the joints (T, J, 3) that they were fitted
        to, meters.
    """
    global _latest
    skeleton = motion.skeleton
    own_body = motion.own_body if own_body is None else own_body
    choices = (own_body, _wanted(motion, plant_feet))
    latest = _latest
    if latest is not None and latest[0]() is motion and latest[1] == choices:
        return latest[2]
    local, root, offsets, wanted = export_kinematics(motion.joints, skeleton, own_body=own_body)
    plants = motion.foot_plants() if choices[1] else None
    if plants is not None and plants.any():
        local, root, wanted = _plant_kinematics(motion, plants, local, root, offsets, wanted)
    result = (local, root, offsets, wanted)
    for array in result:
        array.setflags(write=False)
    if motion.num_frames <= _LATEST_FRAMES:
        _latest = (weakref.ref(motion), choices, result)
    return result


# Several files of one motion, such as a player and its downloads, share the result for short motions.
_LATEST_FRAMES = 10_000
_Kinematics = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
_latest: "tuple[weakref.ref[Motion], tuple[bool, bool], _Kinematics] | None" = None


def _plant_kinematics(
    motion: "Motion", plants: np.ndarray, local: np.ndarray, root: np.ndarray, offsets: np.ndarray, wanted: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Plant the feet of fitted joints; return the new `local`, `root` and `wanted`."""
    skeleton = motion.skeleton
    made = forward_kinematics(local, root, offsets, skeleton.parents)
    planted = plant_joints(made, motion.fps, skeleton, plants=plants)
    aimed, root, _ = inverse_kinematics(planted, skeleton, offsets=offsets)
    legs = [joint for leg in _legs(skeleton) for joint in (leg.hip, leg.knee, leg.ankle, *leg.foot)]
    local[:, legs] = aimed[:, legs]
    return local, root, wanted + (planted - made)


def _wanted(motion: "Motion", plant_feet: bool | None) -> bool:
    return not (motion.own_body or motion.final_feet) if plant_feet is None else plant_feet
