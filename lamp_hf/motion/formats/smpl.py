"""Compute joints of a mean body from SMPL, SMPL-H and SMPL-X pose parameters, as AMASS, GVHMR and others store them.

No body model is needed or loaded. The first 22 joints of all three models have HumanML3D's hierarchy (Loper et al.,
SMPL, 2015; Romero et al., 2017; Pavlakos et al., 2019). The bone lengths are from HumanML3D's skeleton, which comes
from an SMPL-H body, and the bone directions are from SMPL's mean body, both averaged over left and right. The shape
parameters (betas) would require the licensed model and are ignored, so all bodies have mean proportions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lamp_hf.motion import rotations
from lamp_hf.motion.errors import MotionFormatError
from lamp_hf.motion.kinematics import forward_kinematics
from lamp_hf.motion.skeleton import HUMANML3D_22, rest_pose_offsets

__all__ = ["FPS_NAMES", "PoseNames", "find_poses", "pose_joints"]

FPS_NAMES = ("fps", "mocap_framerate", "mocap_frame_rate", "framerate", "frame_rate")

_NUM_BODY = HUMANML3D_22.num_joints
# Values per frame in the `poses` of each model: three for every joint, including the hands.
_MODELS = {66: "the body of SMPL-H or SMPL-X", 72: "SMPL", 156: "SMPL-H", 159: "SMPL-X", 165: "SMPL-X"}
# Position of the pelvis, in meters, if `trans` is zero: for SMPL and SMPL-H, from the neutral mean body (see `_BONES`);
# for SMPL-X, approximate. Other bodies differ by a few centimeters, so a clip may be that far above or below the floor.
_PELVIS_M = {"SMPL": (0.0, -0.223, 0.028), "SMPL-H": (0.0, -0.223, 0.028), "SMPL-X": (0.0, -0.351, 0.012)}

_WHOLE = ("poses", "smpl_poses", "pose", "fullpose")
_ROOT = ("global_orient", "root_orient", "root_pose")
_BODY = ("body_pose", "pose_body")
_MOVE = ("trans", "transl", "translation", "smpl_trans", "root_trans")
_SCALING = ("smpl_scaling", "scaling")  # AIST++ multiplies `trans` by this


@dataclass(frozen=True)
class PoseNames:
    """Names of the arrays in an archive that contain pose parameters.

    Attributes:
        poses: all rotations, or None if root and body are separate.
        root: rotations of the root.
        body: rotations of the other joints.
        trans: translation of the root, if present.
        scaling: factor by which `trans` is multiplied, if present.
    """

    poses: str | None
    root: str | None
    body: str | None
    trans: str | None
    scaling: str | None = None

    @property
    def names(self) -> list[str]:
        """Names that are not None."""
        return [name for name in (self.poses, self.root, self.body, self.trans, self.scaling) if name is not None]


def find_poses(names: Sequence[str]) -> PoseNames | None:
    """Find pose parameters among the names in an archive; return None if there are none.

    Names may have a prefix, such as GVHMR's "smpl_params_global.body_pose". World-space parameters take precedence over
    parameters in camera space.
    """
    prefixes = sorted({_split(name)[0] for name in names}, key=lambda prefix: ("global" not in prefix, prefix))
    for prefix in prefixes:
        ends = {_split(name)[1]: name for name in names if _split(name)[0] == prefix}

        def first(choices: tuple[str, ...], ends: Mapping[str, str] = ends) -> str | None:
            return next((ends[choice] for choice in choices if choice in ends), None)

        poses, root, body = first(_WHOLE), first(_ROOT), first(_BODY)
        if root is not None and body is not None:
            return PoseNames(None, root, body, first(_MOVE), first(_SCALING))
        if poses is not None:
            return PoseNames(poses, None, None, first(_MOVE), first(_SCALING))
    return None


def _split(name: str) -> tuple[str, str]:
    end = name.replace("/", ".").replace(":", ".").rpartition(".")[2]
    return name[: len(name) - len(end)], end


def pose_joints(
    found: PoseNames, arrays: Mapping[str, np.ndarray], file_name: str
) -> tuple[np.ndarray, str, list[str]]:
    """Compute the joints of a mean body.

    Args:
        found: names of the pose parameters.
        arrays: the archive's arrays. Rotations are axis-angle (T, 3K), (T, K, 3), or matrices (T, K, 3, 3).
        file_name: file name for messages.

    Returns:
        Joints (T, 22, 3), meters, in the axes of the file; the name of the model; and notes on how it was read.

    Raises:
        MotionFormatError: shapes are wrong or do not match.
    """
    if found.poses is not None:
        turns = _rotations(arrays[found.poses], f"{file_name}: {found.poses}")
        count = turns.shape[1]
        model = _MODELS.get(3 * count)
        if model is None:
            raise MotionFormatError(
                f"{file_name}: expected {found.poses!r} of shape (frames, 72) for SMPL, 156 for SMPL-H or 165 for "
                f"SMPL-X, found {arrays[found.poses].shape}"
            )
    else:
        assert found.root is not None
        assert found.body is not None
        parts = [np.asarray(arrays[name]) for name in (found.root, found.body)]
        if all(part.ndim == 3 and len(part) == 1 for part in parts) and parts[1].shape[-1] in (63, 69):
            parts = [part[0] for part in parts]  # (1, T, 3) and (1, T, 63), a batch of one
        root = _rotations(parts[0], f"{file_name}: {found.root}")
        body = _rotations(parts[1], f"{file_name}: {found.body}")
        if root.shape[1] != 1 or body.shape[1] not in (21, 23) or len(root) != len(body):
            raise MotionFormatError(
                f"{file_name}: expected {found.root!r} of shape (frames, 3) and {found.body!r} of shape (frames, 63) "
                f"or (frames, 69), found {arrays[found.root].shape} and {arrays[found.body].shape}"
            )
        turns = np.concatenate([root, body], axis=1)
        model = "SMPL" if body.shape[1] == 23 else "SMPL-X"
    notes = [f"poses of {model} on a body of mean proportions (betas are not used)"]
    trans = np.zeros((len(turns), 3))
    if found.trans is None:
        notes.append("no 'trans': the body stays in place")
    else:
        trans = np.asarray(arrays[found.trans], dtype=np.float64)
        if trans.shape[:1] == (1,) and trans.ndim == 3:
            trans = trans[0]
        scaling = np.asarray(1.0 if found.scaling is None else arrays[found.scaling], dtype=np.float64)
        if scaling.size != 1 or not 1e-3 <= float(scaling.reshape(-1)[0]) <= 1e4:
            raise MotionFormatError(
                f"{file_name}: expected {found.scaling!r} to be one number above 0, found {scaling}"
            )
        trans = trans / float(scaling.reshape(-1)[0])
        if trans.shape != (len(turns), 3):
            raise MotionFormatError(
                f"{file_name}: expected {found.trans!r} of shape ({len(turns)}, 3), as many frames as the poses have, "
                f"found {trans.shape}"
            )
    pelvis = np.array(next((place for name, place in _PELVIS_M.items() if name == model), _PELVIS_M["SMPL-H"]))
    joints = forward_kinematics(
        turns[:, :_NUM_BODY], trans + pelvis, rest_pose_offsets(HUMANML3D_22), HUMANML3D_22.parents
    )
    return joints, model, notes


def _rotations(values: np.ndarray, what: str) -> np.ndarray:
    """Convert axis-angle vectors or matrices of any common shape to quaternions (T, K, 4)."""
    values = np.asarray(values, dtype=np.float64)
    if not np.isfinite(values).all():
        raise MotionFormatError(f"{what}: contains values that are not finite")
    matrices = values.ndim >= 3 and values.shape[-2:] == (3, 3) and (values.ndim >= 4 or values.shape[0] > 1)
    if matrices and values.ndim == 3:  # (T, 3, 3): the root alone
        return rotations.from_matrix(values)[:, None]
    if matrices and values.ndim in (4, 5):
        if values.ndim == 5 and len(values) == 1:
            values = values[0]
        if values.ndim == 4:
            return rotations.from_matrix(values)
    else:
        if values.ndim == 4 and len(values) == 1:
            values = values[0]
        if values.ndim == 3 and values.shape[-1] != 3 and len(values) == 1:
            values = values[0]
        if values.ndim == 2 and values.shape[1] % 3 == 0 and values.shape[1] > 0:
            values = values.reshape(len(values), values.shape[1] // 3, 3)
        if values.ndim == 3 and values.shape[-1] == 3:
            return rotations.from_vector(values)
    raise MotionFormatError(
        f"{what}: expected axis-angle rotations of shape (frames, 3 x joints) or (frames, joints, 3), or matrices of "
        f"shape (frames, joints, 3, 3), found {values.shape}"
    )
