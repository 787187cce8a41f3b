"""`Landmarks`: the points of a body that retargeting compares, of a motion or of a character's rest pose."""

from typing import NamedTuple

import numpy as np

from lamp_hf.motion import rotations
from lamp_hf.motion.retarget.anatomy import SIDES
from lamp_hf.motion.retarget.frames import basis, twist_about
from lamp_hf.motion.skeleton import Skeleton

__all__ = ["Landmarks", "leg_length", "of_joints"]

_UPRIGHT = 0.95  # cosine between trunk and vertical in the frames that show how the hips are inclined at rest
_LARGEST_TILT = np.radians(20.0)


class Landmarks(NamedTuple):
    """Positions (T, 3) in canonical coordinates; of a pair, (2, T, 3), left first.

    `collars` is None for skeletons without collars.
    """

    pelvis: np.ndarray
    middle: np.ndarray
    neck: np.ndarray
    head: np.ndarray
    hips: np.ndarray
    knees: np.ndarray
    ankles: np.ndarray
    toes: np.ndarray
    shoulders: np.ndarray
    elbows: np.ndarray
    wrists: np.ndarray
    collars: np.ndarray | None

    @property
    def between_hips(self) -> np.ndarray:
        """Midpoint (T, 3) of the hips."""
        return self.hips.mean(axis=0)

    def scaled(self, factor: float) -> "Landmarks":
        """Return the landmarks with all positions multiplied by a factor."""
        others = {name: getattr(self, name) * factor for name in self._fields if name != "collars"}
        return Landmarks(**others, collars=None if self.collars is None else self.collars * factor)

    def trunk(self) -> np.ndarray:
        """Return unit directions (T, 3) from the hips to the neck."""
        return rotations.normalize(self.neck - self.between_hips, (0.0, 1.0, 0.0))

    def across_chest(self) -> np.ndarray:
        """Return vectors (T, 3) from the right to the left of the chest."""
        across = self.shoulders[0] - self.shoulders[1]
        return across if self.collars is None else across + self.collars[0] - self.collars[1]

    def at_rest(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the orientations (T, 4) of hips and chest in a rest pose, in which both are in line with the trunk."""
        trunk = self.trunk()
        hips, chest = (basis(across, trunk) for across in (self.hips[0] - self.hips[1], self.across_chest()))
        return rotations.from_matrix(hips), rotations.from_matrix(chest)

    def in_motion(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the orientations (T, 4) of hips and chest in a motion.

        The joints above the hips and below the neck incline differently in every rig, because they lie on a curved
        spine. Their inclination relative to the trunk in upright frames is taken as the one at rest.
        """
        up = self.pelvis - self.between_hips
        width = np.median(np.linalg.norm(self.hips[0] - self.hips[1], axis=-1))
        if np.median(np.linalg.norm(up, axis=-1)) < 0.15 * width:  # a root on the line between the hips
            up = self.middle - self.between_hips
        hips = basis(self.hips[0] - self.hips[1], up)
        chest = basis(self.across_chest(), self.neck - self.middle)
        return self._uninclined(hips), self._uninclined(chest)

    def _uninclined(self, axes: np.ndarray) -> np.ndarray:
        """Return orientations (T, 4) without their usual inclination to the trunk."""
        trunk = self.trunk()
        upright = trunk[:, 1] > _UPRIGHT
        if not upright.any():
            return rotations.from_matrix(axes)
        local = np.einsum("tji,tj->ti", axes[upright], trunk[upright])
        tilt = float(np.median(np.arctan2(local[:, 2], local[:, 1])))
        tilt = float(np.clip(tilt, -_LARGEST_TILT, _LARGEST_TILT))
        turn = twist_about(np.array([1.0, 0.0, 0.0]), np.asarray(tilt))
        return rotations.multiply(rotations.from_matrix(axes), turn)


def of_joints(joints: np.ndarray, skeleton: Skeleton) -> Landmarks:
    """Return the landmarks of joints (T, J, 3) of HumanML3D's or KIT-ML's skeleton."""
    joints = np.asarray(joints, dtype=np.float64)
    index = {name: number for number, name in enumerate(skeleton.joint_names)}

    def one(*names: str) -> np.ndarray:
        return np.asarray(joints[:, next(index[name] for name in names if name in index)])

    def pair(*parts: str) -> np.ndarray:
        return np.stack([one(*(f"{side}_{part}" for part in parts)) for side in SIDES])

    return Landmarks(
        pelvis=one("pelvis", "root"),
        middle=one("spine2") if "pelvis" in index else one("spine1"),
        neck=one("neck"),
        head=one("head"),
        hips=pair("hip"),
        knees=pair("knee"),
        ankles=pair("ankle"),
        toes=pair("toe", "foot"),
        shoulders=pair("shoulder"),
        elbows=pair("elbow"),
        wrists=pair("wrist"),
        collars=pair("collar") if "left_collar" in index else None,
    )


def leg_length(points: Landmarks) -> float:
    """Return the mean length of both legs, from hip over knee to ankle."""
    bones = np.linalg.norm(points.knees - points.hips, axis=-1) + np.linalg.norm(points.ankles - points.knees, axis=-1)
    return float(np.mean(np.median(bones, axis=-1)))
