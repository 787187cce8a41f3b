"""Build a mannequin: a closed, smooth body with skinning weights for any skeleton of the package.

The body starts as a coarse cage of rings around the bones: a trunk of 12 columns from the hips to the top of the head,
and limbs of 8 columns that start at its openings. The cage carries skinning weights as well as positions, and one
step of Catmull-Clark subdivision (Catmull and Clark, Computer-Aided Design 10(6), 1978) smooths both.

The cage is built in a relaxed pose, with lowered arms and the head and the feet as people hold them, and then moved to
the rest pose of the skeleton, a T-pose. So linear blend skinning bends the shoulders half as far as from a T-pose.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import pairwise

import numpy as np

from lamp_hf.motion import rotations
from lamp_hf.motion.kinematics import forward_kinematics
from lamp_hf.motion.skeleton import HUMANML3D_22, Skeleton

__all__ = ["SIDES", "Mannequin", "Stance", "build_mannequin", "find_stance", "fit_mannequin", "world_rotations"]

SIDES = ("center", "left", "right")

# Lengths are in meters for a body with legs of this length from hip to ankle; other bodies are scaled.
_LEG_M = 0.82
_ARM_SPREAD, _LEG_SPREAD = np.radians([48.0, 6.0])  # of the relaxed pose, from the T-pose
_SPINE_BLEND_M = 0.06  # half the height over which the weights change from one spine joint to the next
_STEEPEST_FOOT, _LOWEST_HEAD = np.radians([50.0, 50.0])
_HIGHEST_ANKLE_M = 0.12  # above the floor; a body that stands higher floats
_MAX_INFLUENCES = 4
_STANCE_FRAMES = 2000  # enough to measure how a body stands


@dataclass(frozen=True)
class Stance:
    """How a standing body holds the parts whose direction a skeleton does not determine.

    Attributes:
        head: radians by which the bone from neck to head leans forward from the chest's axis while the head is level.
        foot: radians by which the bone from ankle to toe points down while the sole is level.
        sole: meters from the toe joint down to the floor.
    """

    head: float
    foot: float
    sole: float


DEFAULT_STANCE = Stance(head=0.0, foot=0.41, sole=0.0)  # the default body stands level in its rest pose


@dataclass(frozen=True, eq=False)
class Mannequin:
    """A skinned mesh in the rest pose of a skeleton.

    Attributes:
        positions: (V, 3) float32, meters.
        normals: (V, 3) float32, unit vectors.
        joints: (V, 4) uint8, the joints that move each vertex.
        weights: (V, 4) uint8, in 255ths, largest first; each row sums to 255.
        triangles: (F, 3) uint16, counterclockwise as seen from outside; each edge has two triangles.
        sides: (F,) uint8, index into `SIDES` of each triangle's color: hands and feet have the color of their side.
        rest: (J, 3), joints in the rest pose.
    """

    positions: np.ndarray
    normals: np.ndarray
    joints: np.ndarray
    weights: np.ndarray
    triangles: np.ndarray
    sides: np.ndarray
    rest: np.ndarray

    @cached_property
    def outline(self) -> "Mannequin":
        """A few vertices of the mesh that reach as far as the whole in every direction and pose, without triangles."""
        # The outermost vertices that each joint moves, in many directions.
        steps = np.arange(-1, 2)
        ways = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(-1, 3)
        found: set[int] = set()
        for joint in range(len(self.rest)):
            moved = np.flatnonzero(self.joints[:, 0] == joint)
            if len(moved):
                found.update(moved[np.argmax(self.positions[moved] @ ways.T, axis=0)].tolist())
        chosen = sorted(found)
        kept = {name: getattr(self, name)[chosen] for name in ("positions", "normals", "joints", "weights")}
        return replace(self, triangles=self.triangles[:0], sides=self.sides[:0], **kept)

    def pose(self, joints: np.ndarray, turns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Move the mesh with its joints, by linear blend skinning.

        Args:
            joints: (J, 3), meters, positions of the joints.
            turns: (J, 4), unit quaternions (w, x, y, z), rotations of the joints from the rest pose in world space.

        Returns:
            Positions (V, 3), meters, and unit normals (V, 3), float32.
        """
        matrices = _moves(self.rest, joints, turns).astype(np.float32)
        blended = np.einsum("vk,vkij->vij", self.weights.astype(np.float32) / 255.0, matrices[self.joints])
        places = np.einsum("vij,vj->vi", blended[:, :, :3], self.positions) + blended[:, :, 3]
        normals = np.einsum("vij,vj->vi", blended[:, :, :3], self.normals)
        return places, normals / np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-9)


def world_rotations(local: np.ndarray, parents: Sequence[int]) -> np.ndarray:
    """Combine rotations relative to the parent (..., J, 4) into rotations in world space (..., J, 4)."""
    world = np.array(local, dtype=np.float64)
    for joint, parent in enumerate(parents):
        if parent >= 0:
            world[..., joint, :] = rotations.multiply(world[..., parent, :], local[..., joint, :])
    return world


def find_stance(joints: np.ndarray, turns: np.ndarray, skeleton: Skeleton, floor: float) -> Stance:
    """Measure how a body holds its head and feet.

    Args:
        joints: (T, J, 3), meters, Y up.
        turns: (T, J, 4), rotations of the joints from the T-pose in world space.
        skeleton: skeleton of the joints.
        floor: height of the floor, meters.
    """
    parts = _Parts.of(skeleton)
    way = joints[:, parts.head] - joints[:, parts.neck]
    seen = rotations.rotate(rotations.conjugate(turns[:, skeleton.parents[parts.neck]]), way)
    lean = float(np.median(np.arctan2(seen[:, 2], np.maximum(seen[:, 1], 1e-6))))
    heels, toes = (joints[:, [leg[at] for leg in parts.legs]] for at in (-2, -1))
    low = np.maximum(heels, toes)[..., 1]
    planted = low <= np.quantile(low, 0.1) + 0.01
    drop = (heels - toes)[planted]
    slope = float(np.median(np.arctan2(drop[:, 1], np.hypot(drop[:, 0], drop[:, 2]))))
    rise = max(float(np.median(drop[:, 1])), 0.0)
    return Stance(
        head=float(np.clip(lean, -_LOWEST_HEAD, _LOWEST_HEAD)),
        foot=float(np.clip(slope, 0.0, _STEEPEST_FOOT)),
        sole=float(np.clip(np.median(toes[..., 1][planted]) - floor, 0.0, max(_HIGHEST_ANKLE_M - rise, 0.02))),
    )


def fit_mannequin(
    local: np.ndarray, root: np.ndarray, offsets: np.ndarray, skeleton: Skeleton, floor: float
) -> Mannequin:
    """Build the mannequin for the body of a motion, with its stance.

    Args:
        local: (T, J, 4), rotations of the joints relative to the parent, from the T-pose.
        root: (T, 3), meters, positions of the root.
        offsets: (J, 3), meters, see `build_mannequin`.
        skeleton: skeleton of the body.
        floor: height of the floor, meters.
    """
    some = slice(None, None, -(-len(root) // _STANCE_FRAMES))
    joints = forward_kinematics(local[some], root[some], offsets, skeleton.parents)
    stance = find_stance(joints, world_rotations(local[some], skeleton.parents), skeleton, floor)
    return build_mannequin(offsets, skeleton, stance)


def build_mannequin(offsets: np.ndarray, skeleton: Skeleton = HUMANML3D_22, stance: Stance | None = None) -> Mannequin:
    """Build the mannequin of a body. The result is cached and the same on every machine.

    Args:
        offsets: (J, 3), meters, T-pose of the body: the position of each joint in its parent's frame, as returned by
            `lamp_hf.motion.kinematics.inverse_kinematics`.
        skeleton: skeleton of the body.
        stance: how the body stands; defaults to the stance of `default_body`.

    Example:

    ```python
    >>> from lamp_hf.motion.kinematics import default_body
    >>> body = build_mannequin(default_body())
    >>> bool(1.7 < body.positions[:, 1].max() < 1.85), len(body.positions) < 3000
    (True, True)

    ```
    """
    stance = stance or DEFAULT_STANCE
    rounded = tuple(np.round(np.asarray(offsets, dtype=np.float64)[1:], 4).ravel().tolist())
    held = Stance(*(round(value, 3) for value in (stance.head, stance.foot, stance.sole)))
    return _build(rounded, skeleton, held)


@lru_cache(maxsize=32)
def _build(offsets: tuple[float, ...], skeleton: Skeleton, stance: Stance) -> Mannequin:
    body = _Body(np.reshape([0.0, 0.0, 0.0, *offsets], (-1, 3)), skeleton, stance)
    cage = _Cage(skeleton.num_joints)
    _add_trunk(cage, body)
    values, quads, sides = _subdivide(cage)
    triangles = _split(values[:, :3], quads)
    weights, influences = _strongest(values[:, 3:])
    # From the relaxed pose back to the rest pose: the inverse of what skinning does.
    moves = np.einsum("vk,vkij->vij", weights / 255.0, _moves(body.rest, body.relaxed, body.turns)[influences])
    inverse = np.linalg.inv(moves[:, :, :3])
    positions = np.einsum("vij,vj->vi", inverse, values[:, :3] - moves[:, :, 3])
    normals = np.einsum("vij,vj->vi", inverse, _normals(values[:, :3], triangles))
    arrays = (
        positions.astype(np.float32),
        rotations.normalize(normals).astype(np.float32),
        influences.astype(np.uint8),
        weights.astype(np.uint8),
        triangles.astype(np.uint16),
        np.repeat(sides, 2).astype(np.uint8),
        body.rest,
    )
    for array in arrays:
        array.setflags(write=False)
    return Mannequin(*arrays)


def _moves(rest: np.ndarray, joints: np.ndarray, turns: np.ndarray) -> np.ndarray:
    """Return the matrices (J, 3, 4) that move points from the rest pose with each joint."""
    turn = rotations.to_matrix(turns)
    shift = joints - np.einsum("jab,jb->ja", turn, rest)
    return np.concatenate([turn, shift[:, :, None]], axis=-1)


# ---- the body in its relaxed pose ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Parts:
    """Joints of a skeleton by their part in the body.

    Attributes:
        spine: joints from the root to the neck.
        head: the head.
        legs: left and right: hip, knee, ankle, ..., toe.
        arms: left and right: shoulder, elbow, wrist.
    """

    spine: tuple[int, ...]
    head: int
    legs: tuple[tuple[int, ...], tuple[int, ...]]
    arms: tuple[tuple[int, ...], tuple[int, ...]]

    @property
    def neck(self) -> int:
        return self.spine[-1]

    @classmethod
    def of(cls, skeleton: Skeleton) -> "_Parts":
        def chain(top: int, end: int) -> tuple[int, ...]:
            found = [end]
            while found[-1] != top:
                found.append(skeleton.parents[found[-1]])
            return tuple(reversed(found))

        at = skeleton.joint_names.index
        right_hip, left_hip, right_shoulder, left_shoulder = skeleton.facing_joints
        head = at("head")
        return cls(
            spine=chain(0, skeleton.parents[head]),
            head=head,
            legs=(
                chain(left_hip, skeleton.contact_joints[1]),
                chain(right_hip, skeleton.contact_joints[3]),
            ),
            arms=(chain(left_shoulder, at("left_wrist")), chain(right_shoulder, at("right_wrist"))),
        )


class _Body:
    """A skeleton in the rest pose and in the relaxed pose."""

    def __init__(self, offsets: np.ndarray, skeleton: Skeleton, stance: Stance) -> None:
        self.skeleton = skeleton
        self.parts = parts = _Parts.of(skeleton)
        parents = skeleton.parents
        still = np.tile([1.0, 0.0, 0.0, 0.0], (skeleton.num_joints, 1))
        self.rest = forward_kinematics(still, np.zeros(3), offsets, parents)
        self.rest[:, 1] -= self.rest[:, 1].min()
        lengths = np.linalg.norm(offsets, axis=-1)
        leg = float(np.mean([lengths[joints[1]] + lengths[joints[2]] for joints in parts.legs]))
        self.size = max(leg, 1e-3) / _LEG_M
        local = still.copy()
        local[parts.neck] = rotations.about_axis("x", stance.head)
        for sign, joints in zip((1.0, -1.0), parts.legs, strict=True):
            local[joints[0]] = rotations.about_axis("z", sign * _LEG_SPREAD)
            foot, toe = joints[-2:]
            level = [0.0, -np.sin(stance.foot), np.cos(stance.foot)]
            local[foot] = rotations.between(self.rest[toe] - self.rest[foot], level)
        for sign, joints in zip((1.0, -1.0), parts.arms, strict=True):
            local[joints[0]] = rotations.about_axis("z", -sign * _ARM_SPREAD)
        self.turns = world_rotations(local, parents)
        self.relaxed = forward_kinematics(local, self.rest[0], offsets, parents)
        self.sole = stance.sole

    def move(self, joint: int, points: np.ndarray) -> np.ndarray:
        """Move points (..., 3) from the rest pose to the relaxed pose with one joint."""
        return rotations.rotate(self.turns[joint], points - self.rest[joint]) + self.relaxed[joint]

    def along_spine(self, height: float) -> dict[int, float]:
        """Return the weights of the spine's joints below the neck for a height in the rest pose."""
        chain = list(self.parts.spine[:-1])
        reach = _SPINE_BLEND_M * self.size
        share = (height - self.rest[chain, 1] + reach) / (2.0 * reach)
        above = np.clip(share, 0.0, 1.0)
        above = above * above * (3.0 - 2.0 * above)
        above[0] = 1.0
        return dict(zip(chain, (above - np.append(above[1:], 0.0)).tolist(), strict=True))

    def spine_depth(self, height: float) -> float:
        """Return the depth z of the spine at a height in the rest pose."""
        line = self.rest[list(self.parts.spine)]
        return float(np.interp(height, line[:, 1], line[:, 2]))


# ---- the cage --------------------------------------------------------------------------------------------------------


class _Cage:
    """A closed mesh of quads and triangles whose vertices have positions and weights."""

    def __init__(self, num_joints: int) -> None:
        self.values: list[np.ndarray] = []
        self.faces: list[tuple[int, ...]] = []
        self.sides: list[int] = []
        self._num_joints = num_joints

    def add(self, points: np.ndarray, weights: Sequence[dict[int, float]]) -> list[int]:
        """Add vertices and return their indices."""
        first = len(self.values)
        for point, influences in zip(points, weights, strict=True):
            row = np.zeros(3 + self._num_joints)
            row[:3] = point
            for joint, weight in influences.items():
                row[3 + joint] += weight
            row[3:] /= row[3:].sum()
            self.values.append(row)
        return list(range(first, len(self.values)))

    def face(self, *corners: int, side: int = 0) -> None:
        """Add a face, counterclockwise as seen from outside."""
        self.faces.append(corners)
        self.sides.append(side)

    def bridge(self, ring: list[int], following: list[int], side: int = 0, skip: Sequence[int] = ()) -> None:
        """Connect two rings; columns in `skip` stay open."""
        for column in range(len(ring)):
            if column not in skip:
                after = (column + 1) % len(ring)
                self.face(ring[column], ring[after], following[after], following[column], side=side)

    def cap(self, ring: list[int], side: int = 0, *, flipped: bool = False) -> None:
        """Close the end of a tube with strips across the ring; `flipped` if the ring runs clockwise."""
        last, middle = len(ring) - 1, len(ring) // 2
        strips: list[tuple[int, ...]] = [(ring[0], ring[1], ring[last])]
        strips += [(ring[k], ring[k + 1], ring[last - k], ring[last - k + 1]) for k in range(1, middle - 1)]
        strips.append((ring[middle - 1], ring[middle], ring[middle + 1]))
        for corners in strips:
            self.face(*(corners[::-1] if flipped else corners), side=side)


# Rings of the trunk: place, half width, depth in front of and behind the spine. Places below the chest are fractions
# of the height from the hips to the chest; places of the chest are relative to the shoulders.
_BELLY = (
    (0.03, 0.102, 0.098, 0.126),
    (0.26, 0.086, 0.104, 0.110),
    (0.50, 0.064, 0.102, 0.090),
    (0.76, 0.078, 0.116, 0.094),
)
_CHEST = ((-0.115, -0.036, 0.130, 0.110), (-0.040, -0.028, 0.122, 0.118), (0.038, -0.048, 0.082, 0.104))
# Rings of neck and head: height above the head joint, half width, depth in front of and behind the joint.
_HEAD = (
    (-0.034, 0.058, 0.052, 0.066),
    (-0.010, 0.064, 0.094, 0.078),
    (0.030, 0.074, 0.108, 0.092),
    (0.075, 0.081, 0.105, 0.104),
    (0.120, 0.078, 0.094, 0.102),
    (0.157, 0.058, 0.066, 0.074),
    (0.174, 0.028, 0.034, 0.038),
)
_COLUMNS = 12
_ANGLES = np.arange(_COLUMNS) * (2.0 * np.pi / _COLUMNS)
_ARM_COLUMNS = (2, 4)  # the arm's opening in the trunk is two columns wide and two rings high


def _ellipse(center: Sequence[float], width: float, front: float, back: float) -> np.ndarray:
    """Return a level ring (12, 3), from the front by way of the left side."""
    x, z = np.sin(_ANGLES) * width, np.cos(_ANGLES)
    z = z * np.where(z > 0.0, front, back)
    return np.stack([x, np.zeros(_COLUMNS), z], axis=-1) + center


def _add_trunk(cage: _Cage, body: _Body) -> None:
    """Add pelvis, trunk, neck and head, and the limbs at their openings."""
    parts, rest, size = body.parts, body.rest, body.size
    hips = [legs[0] for legs in parts.legs]
    shoulders = [arms[0] for arms in parts.arms]
    hip_y, shoulder_y = float(rest[hips, 1].mean()), float(rest[shoulders, 1].mean())
    hip_x, shoulder_x = (float(np.abs(rest[pair, 0] - rest[0, 0]).mean()) for pair in (hips, shoulders))
    shoulder_x = max(shoulder_x, 0.11 * size)
    chest_x = max(shoulder_x, 0.165 * size)  # narrow shoulders are those of the rig; the chest is as wide as the belly
    chest_y = max(shoulder_y + _CHEST[0][0] * size, hip_y + 0.2 * size)
    neck = body.relaxed[parts.neck]
    neck_y = float(np.clip(neck[1], shoulder_y + 0.085 * size, shoulder_y + 0.11 * size))
    rows = [(hip_y + (chest_y - hip_y) * f, hip_x + w * size, a * size, b * size) for f, w, a, b in _BELLY]
    rows += [(shoulder_y + y * size, chest_x + w * size, a * size, b * size) for y, w, a, b in _CHEST]
    rows[-1] = (rows[-1][0], shoulder_x + _CHEST[-1][1] * size, *rows[-1][2:])
    rows[-3] = (chest_y, *rows[-3][1:])
    collars = [body.skeleton.parents[joint] for joint in shoulders]

    rings = []
    for row, (height, width, front, back) in enumerate(rows):
        points = _ellipse([rest[0, 0], height, body.spine_depth(height)], width, front, back)
        weights = []
        for x in points[:, 0] - rest[0, 0]:
            influences = dict(body.along_spine(height))
            left = x > 0.0
            across = abs(float(x)) / width
            if row == 0:
                influences[hips[not left]] = 0.25 * across
            if row >= len(_BELLY):
                raised = (0.12, 0.42, 0.62)[row - len(_BELLY)] * max(0.0, across - 0.25) / 0.75
                influences = {joint: weight * (1.0 - raised) for joint, weight in influences.items()}
                influences[collars[not left]] = influences.get(collars[not left], 0.0) + 0.7 * raised
                influences[shoulders[not left]] = 0.3 * raised
            weights.append(influences)
        rings.append(cage.add(points, weights))
    chest = parts.spine[-2]
    # Trapezius, neck, and the head around its joint.
    top = rows[-1][0]
    base = np.array([rest[0, 0], neck_y, body.spine_depth(float(rest[parts.neck, 1]))])
    # Rigs put the head joint anywhere in the head; above the neck, there is always room for the chin.
    head = body.relaxed[parts.head].copy()
    head[1] = max(head[1], neck_y + 0.085 * size)
    head[2] = float(np.clip(head[2], base[2] - 0.01 * size, base[2] + 0.045 * size))
    above = [
        (base + np.array([0.0, 0.5 * (top - neck_y), 0.0]), 0.6 * shoulder_x / size, 0.064, 0.092),
        (base + np.array([0.0, 0.0, 0.006 * size]), min(0.076, 0.5 * shoulder_x / size), 0.060, 0.074),
        (0.5 * (base + head) + np.array([0.0, 0.0, -0.004 * size]), 0.062, 0.056, 0.066),
    ]
    above += [(head + np.array([0.0, y * size, 0.0]), w, a, b) for y, w, a, b in _HEAD]
    for place, (center, width, front, back) in enumerate(above):
        points = _ellipse(center, width * size, front * size, back * size)
        if place < 3:  # these rings rise toward the back
            points[:, 1] -= (points[:, 2] - center[2]) * (0.2, 0.3, 0.2)[place]
        # Rigs put the neck joint anywhere between shoulders and head, so the weights do not depend on its height.
        turned = (0.15, 0.5, 0.9, 1.0)[min(place, 3)]
        influences = {chest: 1.0 - turned, parts.neck: turned} if place < 4 else {parts.head: 1.0}
        rings.append(cage.add(points, [influences] * _COLUMNS))

    first, last = _ARM_COLUMNS
    lowest = len(_BELLY)
    opening = [*range(first, last), *range(_COLUMNS - last, _COLUMNS - first)]
    for row, (ring, following) in enumerate(pairwise(rings)):
        cage.bridge(ring, following, skip=opening if row in (lowest, lowest + 1) else ())
    cage.cap(rings[-1])

    low, middle, high = rings[lowest : lowest + 3]
    for sign, joints in zip((1, -1), parts.arms, strict=True):
        columns = [sign * column % _COLUMNS for column in (first, first + 1, last)]
        around = [low[k] for k in columns] + [middle[columns[2]]] + [high[k] for k in columns[::-1]]
        _add_arm(cage, body, [*around, middle[columns[0]]], joints, sign)
    for vertex in (middle[3], middle[9]):  # the vertices inside the openings have no face
        cage.values[vertex][:] = np.nan
    _add_legs(cage, body, rings[0], hip_y, hip_x)


# Rings of an arm: fraction of the bone, shift up and forward, half height, half depth, and weight of the bone's joint.
_UPPER_ARM = (
    (0.05, 0.002, 0.000, 0.062, 0.062, 0.62),
    (0.26, 0.000, 0.000, 0.055, 0.057, 0.94),
    (0.54, 0.000, 0.001, 0.048, 0.050, 1.0),
    (0.86, 0.000, 0.001, 0.041, 0.043, 1.0),
)
_FOREARM = (
    (0.00, 0.000, -0.003, 0.040, 0.042, 0.5),
    (0.14, 0.000, 0.000, 0.041, 0.043, 1.0),
    (0.36, 0.000, 0.000, 0.040, 0.043, 1.0),
    (0.66, 0.000, 0.000, 0.033, 0.036, 1.0),
    (0.92, 0.000, 0.000, 0.025, 0.031, 1.0),
)
# Rings of a hand: meters beyond the wrist, shift up, half height, half depth.
_HAND = (
    (0.022, 0.000, 0.021, 0.033),
    (0.055, 0.000, 0.020, 0.043),
    (0.096, -0.001, 0.018, 0.047),
    (0.136, -0.005, 0.014, 0.043),
    (0.168, -0.012, 0.011, 0.034),
    (0.184, -0.016, 0.006, 0.020),
)
_ARM_RING = np.array([[-1, 1], [-1, 0], [-1, -1], [0, -1], [1, -1], [1, 0], [1, 1], [0, 1]], dtype=np.float64)
_ARM_RING[::2] *= np.sqrt(0.5)


def _add_arm(cage: _Cage, body: _Body, ring: list[int], joints: Sequence[int], sign: int) -> None:
    """Add an arm at an opening of the trunk, whose ring starts at the armpit's front."""
    size, rest = body.size, body.rest
    shoulder, elbow, wrist = joints
    collar = body.skeleton.parents[shoulder]
    side = 1 if sign > 0 else 2

    def place(start: int, away: float, up: float, forward: float, height: float, depth: float) -> np.ndarray:
        around = _ARM_RING * [height, depth] * size + [up * size, forward * size]
        points = np.concatenate([np.full((8, 1), sign * away), around], axis=-1) + rest[start]
        return body.move(shoulder, points)

    def join(following: list[int], ring: list[int], side: int) -> None:
        if sign > 0:
            cage.bridge(ring, following, side)
        else:
            cage.bridge(following, ring, side)

    for start, end, above, rows in ((shoulder, elbow, collar, _UPPER_ARM), (elbow, wrist, shoulder, _FOREARM)):
        length = float(np.linalg.norm(rest[end] - rest[start]))
        for share, up, forward, height, depth, weight in rows:
            points = place(start, share * length, up, forward, height, depth)
            following = cage.add(points, [{start: weight, above: 1.0 - weight}] * 8)
            join(following, ring, side if start == elbow and share > 0.7 else 0)
            ring = following
    rings = [ring]
    for away, up, height, depth in _HAND:
        following = cage.add(place(wrist, away * size, up, 0.0, height, depth), [{wrist: 1.0}] * 8)
        rings.append(following)
    thumb = (7, 0) if sign > 0 else (0, 7)
    for row, (before, following) in enumerate(pairwise(rings)):
        pair = (before, following) if sign > 0 else (following, before)
        cage.bridge(*pair, side, skip=(7,) if row == 1 else ())
    cage.cap(rings[-1], side, flipped=sign < 0)
    a, b = thumb
    base = [rings[1][a], rings[1][b], rings[2][b], rings[2][a]]
    corners = np.array([cage.values[corner][:3] for corner in base])
    ahead = rotations.rotate(body.turns[shoulder], [sign * 1.0, 0.0, 0.0])
    palm = rotations.rotate(body.turns[shoulder], [0.0, -0.3, 1.0])
    for grown, step in ((0.95, 0.008 * ahead + 0.022 * palm), (0.95, 0.034 * ahead + 0.016 * palm)):
        center = corners.mean(axis=0)
        corners = center + (corners - center) * grown + step * size
        tip = cage.add(corners, [{wrist: 1.0}] * 4)
        cage.bridge(base, tip, side)
        base = tip
    cage.face(*base, side=side)


# Rings of a leg: fraction of the bone, shift outward and forward, half width, half depth, and weight of the joint.
_THIGH = (
    (0.34, 0.014, -0.003, 0.079, 0.090, 0.92),
    (0.60, 0.007, 0.002, 0.067, 0.075, 1.0),
    (0.87, 0.002, 0.004, 0.055, 0.061, 1.0),
)
_SHANK = (
    (0.00, 0.000, 0.006, 0.052, 0.057, 0.5),
    (0.13, 0.000, 0.003, 0.050, 0.055, 1.0),
    (0.32, 0.002, -0.012, 0.053, 0.060, 1.0),
    (0.58, 0.001, -0.010, 0.044, 0.050, 1.0),
    (0.82, 0.000, -0.005, 0.034, 0.039, 1.0),
)
_LEG_RING = np.array([[-1, 1], [0, 1], [1, 1], [1, 0], [1, -1], [0, -1], [-1, -1], [-1, 0]], dtype=np.float64)
_LEG_RING[::2] *= np.sqrt(0.5)


def _add_legs(cage: _Cage, body: _Body, hips: list[int], hip_y: float, hip_x: float) -> None:
    """Add both legs below the lowest ring of the trunk; they meet at the crotch."""
    size, rest, parts = body.size, body.rest, body.parts
    root = body.parts.spine[0]
    center = rest[0, 0]
    depth = body.spine_depth(hip_y)
    pair = [legs[0] for legs in parts.legs]

    def spot(x: float, y: float, z: float) -> np.ndarray:
        return np.array([center + x, hip_y + y * size, depth + z * size])

    both = {pair[0]: 0.2, pair[1]: 0.2, root: 0.6}
    front, back, crotch = cage.add(
        np.stack([spot(0.0, -0.070, 0.070), spot(0.0, -0.074, -0.088), spot(0.0, -0.094, -0.006)]), [both] * 3
    )
    outer = [
        (0.50, 0.0, -0.064, 0.094),
        (1.00, 0.062, -0.056, 0.072),
        (1.00, 0.098, -0.046, 0.000),
        (1.00, 0.066, -0.068, -0.078),
        (0.50, 0.0, -0.086, -0.112),
    ]
    for number, joints in enumerate(parts.legs):
        sign = 1 - 2 * number
        points = [spot(sign * (hip_x * a + b * size + (0.044 * size if a < 1 else 0.0)), y, z) for a, b, y, z in outer]
        ring = cage.add(np.stack(points), [{joints[0]: 0.55, root: 0.45}] * 5)
        columns = [sign * column % _COLUMNS for column in range(7)]
        above = [hips[column] for column in columns]
        below = [front, *ring, back]
        for k in range(6):
            corners = (below[k], below[k + 1], above[k + 1], above[k])
            cage.face(*(corners if sign > 0 else corners[::-1]))
        _add_leg(cage, body, [*below, crotch], joints, sign)


def _add_leg(cage: _Cage, body: _Body, ring: list[int], joints: Sequence[int], sign: int) -> None:
    """Add a leg and its foot below a ring that starts at the front of the crotch."""
    size, rest = body.size, body.rest
    hip, knee, ankle = joints[:3]
    side = 1 if sign > 0 else 2

    def join(following: list[int], ring: list[int], side: int) -> None:
        if sign > 0:
            cage.bridge(following, ring, side)
        else:
            cage.bridge(ring, following, side)

    root = body.parts.spine[0]
    for start, end, above, rows in ((hip, knee, root, _THIGH), (knee, ankle, hip, _SHANK)):
        way = rest[end] - rest[start]
        for share, out, forward, width, depth, weight in rows:
            around = np.zeros((8, 3))
            around[:, [0, 2]] = (_LEG_RING * [width, depth] + [out, forward]) * size * [sign, 1.0]
            points = body.move(hip, rest[start] + way * share + around)
            following = cage.add(points, [{start: weight, above: 1.0 - weight}] * 8)
            join(following, ring, side if start == knee and share > 0.7 else 0)
            ring = following

    foot, toe = joints[-2:]
    # The foot stands level in the relaxed pose, except that the leg spreads; its place is relative to the ankle.
    drop = body.relaxed[toe] - body.relaxed[ankle]
    spread = rotations.rotate(rotations.conjugate(body.turns[hip]), drop)
    length = max(float(np.hypot(*spread[[0, 2]])), 0.06 * size) / size
    floor = -(max(float(-spread[1]), 0.012 * size) + body.sole) / size
    # Rings of the foot: back or bottom (y, z), front or top (y, z), half width, and weight of the toes.
    sections = (
        (0.25 * floor, -0.052, 0.034, 0.046, 0.035, 0.0),
        (0.86 * floor, -0.066, 0.014, 0.062, 0.037, 0.0),
        (floor, -0.022, min(-0.006, 0.3 * floor), 0.38 * length + 0.046, 0.041, 0.0),
        (floor, 0.50 * length, 0.45 * floor, 0.72 * length + 0.030, 0.046, 0.0),
        (floor, length, floor + 0.044, length + 0.016, 0.050, 0.4),
        (floor, length + 0.042, floor + 0.033, length + 0.048, 0.045, 1.0),
        (floor + 0.004, length + 0.074, floor + 0.020, length + 0.074, 0.028, 1.0),
    )
    origin = body.relaxed[ankle]
    for bottom_y, bottom_z, top_y, top_z, width, weight in sections:
        low, high = np.array([0.0, bottom_y, bottom_z]), np.array([0.0, top_y, top_z])
        shape = _LEG_RING.copy()
        shape[4:7, 1] = -1.0  # a flat sole
        shape[[4, 6], 0] *= 1.1
        points = (low + high) / 2.0 + shape[:, 1:] * (high - low) / 2.0
        points[:, 0] += sign * shape[:, 0] * width
        moved = rotations.rotate(body.turns[hip], points * size) + origin
        influences = {foot: 1.0 - weight, toe: weight} if bottom_z > 0.0 else {foot: 1.0}
        if bottom_y == sections[0][0]:
            influences = {knee: 0.5, foot: 0.5}
        following = cage.add(moved, [influences] * 8)
        join(following, ring, side)
        ring = following
    cage.cap(ring, side, flipped=sign > 0)


# ---- from the cage to the mesh ---------------------------------------------------------------------------------------


def _subdivide(cage: _Cage) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Smooth a cage by one step of Catmull-Clark subdivision.

    Returns:
        Values (V, 3 + J): positions and weights; quads (F, 4); sides (F,).
    """
    used = np.unique([corner for face in cage.faces for corner in face])
    number = np.full(len(cage.values), -1)
    number[used] = np.arange(len(used))
    values = np.stack(cage.values)[used]
    starts = number[[corner for face in cage.faces for corner in face]]
    ends = number[[corner for face in cage.faces for corner in (*face[1:], face[0])]]
    counts = np.array([len(face) for face in cage.faces])
    owner = np.repeat(np.arange(len(counts)), counts)
    edges, edge = np.unique(np.sort(np.stack([starts, ends]), axis=0), axis=1, return_inverse=True)
    edge = edge.ravel()

    def total(rows: np.ndarray, groups: np.ndarray, size: int) -> np.ndarray:
        result = np.zeros((size, rows.shape[1]))
        np.add.at(result, groups, rows)
        return result

    faces = total(values[starts], owner, len(counts)) / counts[:, None]
    middles = values[edges].mean(axis=0)
    rims = (middles + total(faces[owner], edge, edges.shape[1]) / 2.0) / 2.0
    valence = np.bincount(starts, minlength=len(values))[:, None]
    around = total(faces[owner], starts, len(values)) / valence
    beside = total(middles, edges.ravel()[: edges.shape[1]], len(values))
    beside += total(middles, edges.ravel()[edges.shape[1] :], len(values))
    corners = (around + 2.0 * beside / valence + (valence - 3.0) * values) / valence
    first = np.cumsum(counts) - counts
    before = np.arange(len(starts)) - 1
    before[first] = first + counts - 1
    rim, face = len(values) + edge, len(values) + len(rims) + owner
    quads = np.stack([starts, rim, face, rim[before]], axis=-1)
    return np.concatenate([corners, rims, faces]), quads, np.array(cage.sides)[owner]


def _split(points: np.ndarray, quads: np.ndarray) -> np.ndarray:
    """Split quads into triangles (2F, 3) along the shorter diagonal."""
    a, b, c, d = points[quads].swapaxes(0, 1)
    straight = np.linalg.norm(c - a, axis=-1) <= np.linalg.norm(d - b, axis=-1) + 1e-9
    halves = np.where(straight[:, None], quads[:, [0, 1, 2, 0, 2, 3]], quads[:, [0, 1, 3, 1, 2, 3]])
    return halves.reshape(-1, 3)


def _normals(points: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Return unit normals (V, 3): the mean of the triangles around each vertex, weighted by their area."""
    a, b, c = points[triangles].swapaxes(0, 1)
    area = np.cross(b - a, c - a)
    normals = np.zeros_like(points)
    for corner in range(3):
        np.add.at(normals, triangles[:, corner], area)
    return rotations.normalize(normals)


def _strongest(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Keep the four largest weights of each vertex, in 255ths that sum to 255.

    Returns:
        Weights (V, 4) and joints (V, 4), largest weight first.
    """
    joints = np.argsort(-weights, axis=-1, kind="stable")[:, :_MAX_INFLUENCES]
    kept = np.take_along_axis(weights, joints, axis=-1)
    steps = np.round(255.0 * kept / kept.sum(axis=-1, keepdims=True))
    steps[:, 0] += 255.0 - steps.sum(axis=-1)
    return steps, np.where(steps > 0.0, joints, 0)
