"""`Character`: the skeleton of a user's figure, read from a GLB, VRM or BVH file or made for a well-known rig."""

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from lamp_hf.motion import rotations
from lamp_hf.motion.errors import MotionFormatError
from lamp_hf.motion.formats.detection import METERS_PER_UNIT, read_units
from lamp_hf.motion.formats.hierarchy import Hierarchy
from lamp_hf.motion.formats.rigs import JointSource, RigMapping, resolve_mapping
from lamp_hf.motion.retarget.anatomy import Anatomy, find_anatomy
from lamp_hf.motion.retarget.landmarks import Landmarks, of_joints
from lamp_hf.motion.skeleton import HUMANML3D_22

__all__ = ["CHARACTER_SUFFIXES", "Character", "Skin"]

logger = logging.getLogger(__name__)

CHARACTER_SUFFIXES = (".glb", ".vrm", ".bvh")
_DEEPEST_SKIN = 0.25  # leg lengths; skin farther below the lowest joint is a prop, not a sole


@dataclass(frozen=True)
class Skin:
    """Points of a character's skin in its rest pose.

    Attributes:
        points: (V, 3), in the file's coordinates.
        joints: (V, K), the joints that move each point.
        weights: (V, K), their weights, which add up to 1.
    """

    points: np.ndarray
    joints: np.ndarray
    weights: np.ndarray


@dataclass(frozen=True)
class Character:
    """The skeleton of a figure that motions are retargeted onto.

    Use [`Character.load`] for a file and [`Character.of_rig`] for a rig without a file.

    Attributes:
        name: Name of the character.
        joint_names: (N,), names of all joints, parents before their children.
        parents: (N,), index of the parent, -1 for a root.
        rest_positions: (N, 3), positions in the rest pose, in the file's unit and axes.
        rest_axes: (N, 3, 3), orientations in the rest pose; reflections if the file mirrors a joint.
        local_rotations: (N, 4), rotations relative to the parents in the rest pose.
        anatomy: The joints that move the body.
        landmarks: (22, 3), HumanML3D's joints in the rest pose, in the file's unit and axes.
        axes: (3, 3), from the file's axes to left, up and front of the character.
        floor: Height of the floor in the rest pose, along the up axis.
        skin: The skin, if the file has one.
        human_bones: Joints by the name of their human bone, for VRM files.
        candidates: Joints that may belong to a body, without helper nodes above them.
        kind: Format of the file: `glb`, `vrm` or `bvh`.
        path: The file; None for a rig without a file.
        source: What the writer of this format needs.
    """

    name: str
    joint_names: tuple[str, ...]
    parents: tuple[int, ...]
    rest_positions: np.ndarray
    rest_axes: np.ndarray
    local_rotations: np.ndarray
    anatomy: Anatomy
    landmarks: np.ndarray
    axes: np.ndarray
    floor: float
    skin: Skin | None = None
    human_bones: Mapping[str, int] = field(default_factory=dict)
    candidates: tuple[int, ...] = ()
    kind: str = "glb"
    path: Path | None = None
    source: Any = None

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, mapping: Mapping[str, JointSource] | None = None) -> "Character":
        """Load a character from a .glb, .vrm or .bvh file.

        Args:
            path: The file. Its joints are recognized by the human bones of VRM, by their names, or by their shape.
            mapping: Joints of the file for joints of HumanML3D, such as `{"left_hip": "LeftThigh"}`, for a rig that is
                not recognized.

        Raises:
            FileNotFoundError: The file does not exist.
            MotionFormatError: The file is damaged, or does not contain the joints of a person.
        """
        path = Path(path)
        suffix = path.suffix.lower()
        if suffix not in CHARACTER_SUFFIXES:
            raise MotionFormatError(
                f"{path.name}: a character is a {', '.join(CHARACTER_SUFFIXES)} file, found the suffix {suffix!r}; "
                "export the character as GLB"
            )
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file")
        if suffix == ".bvh":
            from lamp_hf.motion.retarget.bvh import load_bvh

            return load_bvh(path, mapping)
        from lamp_hf.motion.retarget.glb import load_glb

        return load_glb(path, mapping)

    @classmethod
    def of_rig(cls, rig: str) -> "Character":
        """Make a character of average proportions with the joint names of a well-known rig.

        Args:
            rig: `mixamo`, `unreal`, `unity`, `vrm`, `rigify` or `smpl`.

        Raises:
            ValueError: The rig is unknown.
        """
        from lamp_hf.motion.retarget.presets import make_character

        return make_character(rig)

    @classmethod
    def find(cls, value: str | os.PathLike[str]) -> "Character":
        """Return the character of a rig's name, or else of a file.

        Raises:
            FileNotFoundError: The file does not exist.
            MotionFormatError: The file does not contain the joints of a person, or the value is neither.
        """
        from lamp_hf.motion.retarget.presets import PRESETS

        return cls.of_rig(value) if isinstance(value, str) and value in PRESETS else cls.load(value)

    @property
    def canonical_rest(self) -> np.ndarray:
        """Positions (N, 3) in the rest pose: x to the left, y up from the floor, z to the front."""
        return np.asarray(self.rest_positions @ self.axes.T - [0.0, self.floor, 0.0])

    def in_file(self, points: np.ndarray) -> np.ndarray:
        """Return points (..., 3) of these coordinates in the coordinates of the file."""
        return np.asarray((points + np.array([0.0, self.floor, 0.0])) @ self.axes)

    def rest_landmarks(self) -> Landmarks:
        """Return the landmarks of the rest pose, one frame, in canonical coordinates."""
        points = self.landmarks @ self.axes.T - [0.0, self.floor, 0.0]
        return of_joints(points[None], HUMANML3D_22)

    def with_source(self, source: Any, path: Path | None = None) -> "Character":
        """Return the character with its file and what the writer of its format needs."""
        return replace(self, source=source, path=path)

    def closure(self, joints: Iterable[int]) -> list[int]:
        """Return joints with all their ancestors, parents first."""
        needed: set[int] = set()
        for joint in joints:
            while joint >= 0 and joint not in needed:
                needed.add(joint)
                joint = self.parents[joint]
        return sorted(needed)


def build_character(
    name: str,
    joint_names: Sequence[str],
    parents: Sequence[int],
    rest_positions: np.ndarray,
    rest_axes: np.ndarray,
    local_rotations: np.ndarray,
    candidates: tuple[Sequence[int], Hierarchy],
    *,
    mapping: Mapping[str, JointSource] | None,
    skin: Skin | None = None,
    human_bones: Mapping[str, int] | None = None,
    kind: str = "glb",
) -> Character:
    """Recognize the body of a skeleton and return the character.

    Args:
        name, joint_names, parents, rest_positions, rest_axes, local_rotations, skin, human_bones, kind: see
            `Character`.
        candidates: the joints that may belong to the body, and their hierarchy.
        mapping: joints that the caller knows.
    """
    joints, hierarchy = candidates
    rig = resolve_mapping(hierarchy, mapping, file_name=name)
    rest = rest_positions[list(joints)]
    found = find_anatomy(hierarchy, rig, rest, name)
    anatomy = _renumbered(found, joints)
    landmarks = _landmarks(rig, rest)
    for limbs, parts in ((anatomy.legs, ("hip", "knee", "ankle")), (anatomy.arms, ("shoulder", "elbow", "wrist"))):
        for side, limb in zip(("left", "right"), limbs, strict=True):
            for part, joint in zip(parts, (limb.upper, limb.lower, limb.end), strict=True):
                landmarks[_index(f"{side}_{part}")] = rest_positions[joint]
            if limb.tip is not None:
                landmarks[_index(f"{side}_foot")] = rest_positions[limb.tip]
    axes = _body_axes(landmarks, name)
    for side, limb in zip(("left", "right"), anatomy.legs, strict=True):
        if limb.tip is None:  # a foot without toes points to the front of the body
            shank = np.linalg.norm(rest_positions[limb.end] - rest_positions[limb.lower])
            landmarks[_index(f"{side}_foot")] = rest_positions[limb.end] + axes.T @ [0.0, -0.1 * shank, 0.3 * shank]
    heights = rest_positions @ axes[1]
    floor = float(heights[list(joints)].min())
    leg = float(np.linalg.norm(rest_positions[anatomy.legs[0].upper] - rest_positions[anatomy.legs[0].end]))
    if skin is not None and len(skin.points):
        lowest = float((skin.points @ axes[1]).min())
        if lowest > floor - _DEEPEST_SKIN * leg:
            floor = lowest
    positions = np.asarray(rest_positions, dtype=np.float64)
    if kind == "bvh":  # the height of the root at rest means nothing, and the floor is at 0
        shift = -floor * axes[1]
        positions, landmarks, floor = positions + shift, landmarks + shift, 0.0
    logger.info("%s: rig %s", name, rig.rig)
    return Character(
        name=name,
        joint_names=tuple(joint_names),
        parents=tuple(parents),
        rest_positions=positions,
        rest_axes=rest_axes,
        local_rotations=local_rotations,
        anatomy=anatomy,
        landmarks=landmarks,
        axes=axes,
        floor=floor,
        skin=skin,
        human_bones=dict(human_bones or {}),
        candidates=tuple(joints),
        kind=kind,
    )


def _index(target: str) -> int:
    return HUMANML3D_22.joint_names.index(target)


def _landmarks(rig: RigMapping, rest: np.ndarray) -> np.ndarray:
    """Return HumanML3D's joints (22, 3) in the rest pose, in the file's unit."""
    placed = rig.weights @ rest[list(rig.sources)]
    leg = sum(np.linalg.norm(placed[_index(f"left_{b}")] - placed[_index(f"left_{a}")]) for a, b in _LEG)
    units = read_units(float(leg), "m")
    meters = METERS_PER_UNIT[units[0].unit] if units else 1.0
    return rig.apply(rest[None, list(rig.sources)], meters)[0] / meters


_LEG = (("hip", "knee"), ("knee", "ankle"))


def _body_axes(landmarks: np.ndarray, name: str) -> np.ndarray:
    """Return left, up and front (3, 3) of a rest pose, snapped to the file's axes if they are close."""
    points = of_joints(landmarks[None], HUMANML3D_22)
    way = points.neck[0] - points.ankles.mean(axis=0)[0]
    left = points.hips[0, 0] - points.hips[1, 0]
    if np.linalg.norm(way) < 1e-9 or np.linalg.norm(np.cross(left, way)) < 1e-9 * np.linalg.norm(way):
        raise MotionFormatError(f"{name}: the rest pose is folded up; export the character in a T-pose or an A-pose")
    up = _snapped(rotations.normalize(way))
    left = left - (left @ up) * up
    left = _snapped(rotations.normalize(left))
    left = rotations.normalize(left - (left @ up) * up)
    return np.stack([left, up, np.cross(left, up)])


def _snapped(direction: np.ndarray) -> np.ndarray:
    """Return the closest coordinate axis if it is within 25 degrees, else the direction."""
    axis = np.zeros(3)
    best = int(np.argmax(np.abs(direction)))
    axis[best] = np.sign(direction[best])
    return axis if direction @ axis > np.cos(np.radians(25.0)) else direction


def _renumbered(found: Anatomy, joints: Sequence[int]) -> Anatomy:
    """Replace the numbers of candidates by the numbers of joints."""

    def one(joint: int | None) -> int | None:
        return None if joint is None else joints[joint]

    def many(numbers: Iterable[int]) -> tuple[int, ...]:
        return tuple(joints[joint] for joint in numbers)

    def limb(part: Any) -> Any:
        return type(part)(
            upper=joints[part.upper],
            lower=joints[part.lower],
            end=joints[part.end],
            tip=one(part.tip),
            collar=one(part.collar),
            inline=many(part.inline),
            twists=tuple((joints[joint], share) for joint, share in part.twists),
        )

    return Anatomy(
        root=joints[found.root],
        pelvis=many(found.pelvis),
        spine=many(found.spine),
        neck=many(found.neck),
        head=one(found.head),
        arms=(limb(found.arms[0]), limb(found.arms[1])),
        legs=(limb(found.legs[0]), limb(found.legs[1])),
    )
