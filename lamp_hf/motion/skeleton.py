"""The skeletons of HumanML3D (22 joints) and KIT-ML (21 joints), with all constants that the features need."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

Direction = tuple[float, float, float]

_LEFT: Direction = (1.0, 0.0, 0.0)
_RIGHT: Direction = (-1.0, 0.0, 0.0)
_UP: Direction = (0.0, 1.0, 0.0)
_DOWN: Direction = (0.0, -1.0, 0.0)
_FORWARD: Direction = (0.0, 0.0, 1.0)
_NONE: Direction = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Skeleton:
    """Joints of a body, their hierarchy, and the constants that define its features.

    Y is up, and a body that faces +Z has its left side at +X. Joint 0 is the root; parents precede their children.

    Attributes:
        name: name in files and messages.
        joint_names: (J,) snake_case names.
        parents: (J,) index of each joint's parent, -1 for the root.
        chains: limbs as paths of joints; the feature format defines rotations along them.
        rest_directions: (J, 3) unit direction from the parent in the rest pose of the features; zero for the root.
            In KIT-ML the *right* side is at +X, which mirrors a body that faces +Z.
        bone_lengths: (J,) distance from the parent in meters, 0 for the root, on the body that the features of the
            data set describe; None if unknown.
        mirror_pairs: pairs (left joint, right joint).
        facing_joints: right hip, left hip, right shoulder, left shoulder.
        leg_joints: joints whose summed bone lengths set the scale when a clip is retargeted.
        contact_joints: left ankle, left toe, right ankle, right toe, in the order of the contact features.
        contact_threshold: a joint is in contact if its squared displacement to the next frame, in `unit`², is smaller.
        default_fps: frame rate of the data set.
        unit: meters per unit of length in the features.
    """

    name: str
    joint_names: tuple[str, ...]
    parents: tuple[int, ...]
    chains: tuple[tuple[int, ...], ...]
    rest_directions: tuple[Direction, ...]
    bone_lengths: tuple[float, ...] | None
    mirror_pairs: tuple[tuple[int, int], ...]
    facing_joints: tuple[int, int, int, int]
    leg_joints: tuple[int, int]
    contact_joints: tuple[int, int, int, int]
    contact_threshold: float
    default_fps: float
    unit: float

    @property
    def num_joints(self) -> int:
        """Number of joints J."""
        return len(self.joint_names)

    @property
    def feature_dim(self) -> int:
        """Number of features per frame: 4 for the root, 3 + 6 per other joint, 3 velocities per joint, 4 contacts."""
        return 12 * self.num_joints - 1

    @property
    def rest_offsets(self) -> np.ndarray:
        """Offsets (J, 3) of the joints from their parents in the rest pose, meters.

        Raises:
            ValueError: the skeleton has no bone lengths.
        """
        if self.bone_lengths is None:
            raise ValueError(
                f"skeleton {self.name} has no bone lengths (set them: dataclasses.replace(skeleton, bone_lengths=...))"
            )
        return np.array(self.rest_directions) * np.array(self.bone_lengths)[:, None]

    @cached_property
    def mirror_permutation(self) -> np.ndarray:
        """Index (J,) of the joint that replaces each joint when left and right are swapped."""
        permutation = np.arange(self.num_joints)
        for left, right in self.mirror_pairs:
            permutation[[left, right]] = right, left
        permutation.setflags(write=False)
        return permutation

    @cached_property
    def chain_predecessors(self) -> np.ndarray:
        """Index (J,) of the joint before each joint on its chain, or 0 if its bone is the first of the chain."""
        predecessors = np.zeros(self.num_joints, dtype=np.intp)
        for chain in self.chains:
            for before, joint in pairwise(chain[1:]):
                predecessors[joint] = before
        predecessors.setflags(write=False)
        return predecessors

    def __repr__(self) -> str:
        return f"Skeleton({self.name!r}, {self.num_joints} joints)"


HUMANML3D_22 = Skeleton(
    name="humanml3d_22",
    joint_names=(
        *("pelvis", "left_hip", "right_hip", "spine1", "left_knee", "right_knee", "spine2"),
        *("left_ankle", "right_ankle", "spine3", "left_foot", "right_foot", "neck", "left_collar"),
        *("right_collar", "head", "left_shoulder", "right_shoulder", "left_elbow", "right_elbow"),
        *("left_wrist", "right_wrist"),
    ),
    parents=(-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19),
    chains=(
        (0, 2, 5, 8, 11),
        (0, 1, 4, 7, 10),
        (0, 3, 6, 9, 12, 15),
        (9, 14, 17, 19, 21),
        (9, 13, 16, 18, 20),
    ),
    rest_directions=(
        *(_NONE, _LEFT, _RIGHT, _UP, _DOWN, _DOWN, _UP, _DOWN, _DOWN, _UP, _FORWARD, _FORWARD, _UP),
        *(_LEFT, _RIGHT, _FORWARD, _DOWN, _DOWN, _DOWN, _DOWN, _DOWN, _DOWN),
    ),
    bone_lengths=(
        *(0.0, 0.103074, 0.109883, 0.131568, 0.393623, 0.390188, 0.143190, 0.432433, 0.425643, 0.057365),
        *(0.143382, 0.149419, 0.219360, 0.137487, 0.143383, 0.103039, 0.131614, 0.122984, 0.256840),
        *(0.263092, 0.266012, 0.269876),
    ),
    mirror_pairs=((1, 2), (4, 5), (7, 8), (10, 11), (13, 14), (16, 17), (18, 19), (20, 21)),
    facing_joints=(2, 1, 17, 16),
    leg_joints=(5, 8),
    contact_joints=(7, 10, 8, 11),
    contact_threshold=0.002,
    default_fps=20.0,
    unit=1.0,
)

KIT_21 = Skeleton(
    name="kit_21",
    joint_names=(
        *("root", "spine1", "spine2", "neck", "head", "right_shoulder", "right_elbow", "right_wrist"),
        *("left_shoulder", "left_elbow", "left_wrist", "right_hip", "right_knee", "right_ankle"),
        *("right_foot", "right_toe", "left_hip", "left_knee", "left_ankle", "left_foot", "left_toe"),
    ),
    parents=(-1, 0, 1, 2, 3, 3, 5, 6, 3, 8, 9, 0, 11, 12, 13, 14, 0, 16, 17, 18, 19),
    chains=((0, 11, 12, 13, 14, 15), (0, 16, 17, 18, 19, 20), (0, 1, 2, 3, 4), (3, 5, 6, 7), (3, 8, 9, 10)),
    rest_directions=(
        *(_NONE, _UP, _UP, _UP, _UP, (1.0, 0.0, 0.0), _DOWN, _DOWN, (-1.0, 0.0, 0.0), _DOWN, _DOWN),
        *((1.0, 0.0, 0.0), _DOWN, _DOWN, _FORWARD, _FORWARD, (-1.0, 0.0, 0.0), _DOWN, _DOWN, _FORWARD),
        _FORWARD,
    ),
    bone_lengths=None,
    mirror_pairs=((8, 5), (9, 6), (10, 7), (16, 11), (17, 12), (18, 13), (19, 14), (20, 15)),
    facing_joints=(11, 16, 5, 8),
    leg_joints=(17, 18),
    contact_joints=(19, 20, 14, 15),
    contact_threshold=0.05,
    default_fps=12.5,
    unit=0.001,
)

# Bone directions (sideways, up, forward) of the mean neutral SMPL body in its rest pose, left side. Each is the rounded
# mean of both sides in the body's public simulation model (`smpl_humanoid.xml` of PHC and ProtoMotions). The lengths
# are HumanML3D's (`bone_lengths`).
_BONES: Mapping[str, Direction] = {
    "hip": (0.60, -0.80, -0.05),
    "knee": (0.095, -0.995, -0.02),
    "ankle": (-0.04, -0.99, -0.11),
    "foot": (0.19, -0.39, 0.90),
    "spine1": (0.00, 0.97, -0.24),
    "spine2": (0.00, 1.00, 0.01),
    "spine3": (0.00, 0.90, 0.43),
    "neck": (0.00, 0.98, -0.20),
    "head": (0.00, 0.78, 0.62),
    "collar": (0.54, 0.81, -0.24),
    "shoulder": (0.94, 0.32, -0.09),
    "elbow": (0.99, -0.05, -0.105),
    "wrist": (1.00, 0.04, -0.005),
}


def rest_pose_offsets(skeleton: Skeleton = HUMANML3D_22) -> np.ndarray:
    """Return the rest pose of SMPL's mean body: a symmetric T-pose that faces +Z.

    Args:
        skeleton: HUMANML3D_22; KIT-ML's skeleton has no bone lengths.

    Returns:
        (J, 3), meters, offset of each joint from its parent.

    Raises:
        ValueError: the skeleton has no bone lengths.
    """
    lengths = np.linalg.norm(skeleton.rest_offsets, axis=-1)
    lengths = (lengths + lengths[skeleton.mirror_permutation]) / 2.0
    offsets = np.zeros((skeleton.num_joints, 3))
    for joint, name in enumerate(skeleton.joint_names[1:], 1):
        side, _, part = name.rpartition("_")
        direction = np.array(_BONES[part]) * [-1.0 if side == "right" else 1.0, 1.0, 1.0]
        offsets[joint] = direction / np.linalg.norm(direction) * lengths[joint]
    return offsets


SKELETONS: Mapping[str, Skeleton] = {skeleton.name: skeleton for skeleton in (HUMANML3D_22, KIT_21)}


def skeleton_for_feature_dim(feature_dim: int) -> Skeleton:
    """Return the skeleton with this number of features per frame: 263 or 251.

    Raises:
        ValueError: no skeleton has this number of features.
    """
    for skeleton in SKELETONS.values():
        if skeleton.feature_dim == feature_dim:
            return skeleton
    known = " or ".join(f"{s.feature_dim} ({s.name})" for s in SKELETONS.values())
    raise ValueError(f"expected {known} features per frame, got {feature_dim}")
