"""Per-frame input features of the probes, and mirror images of motions."""

import numpy as np

from lamp_hf.motion.features import facing_angles
from lamp_hf.motion.limits import MAX_CLIP_FRAMES
from lamp_hf.motion.skeleton import HUMANML3D_22

__all__ = ["FPS", "body_poses", "body_series", "mirrored_joints"]

FPS = 20.0
_NAMES = HUMANML3D_22.joint_names
_SWAPPED = [
    _NAMES.index(name.replace("left_", "?").replace("right_", "left_").replace("?", "right_")) for name in _NAMES
]


def mirrored_joints(joints: np.ndarray) -> np.ndarray:
    """Mirror joints `(T, 22, 3)` at the plane X = 0: left becomes right."""
    return joints[:, _SWAPPED] * np.array([-1.0, 1.0, 1.0], dtype=joints.dtype)


def body_poses(joints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Express joints in the coordinate system of the body.

    Args:
        joints: `(T, 22, 3)`, meters, Y up.

    Returns:
        Poses `(T, 22, 3)`, meters to the left, up and forward from the floor point below the pelvis, and the heading
        `(T,)`, radians, which increases when the body turns left.
    """
    joints = np.asarray(joints, dtype=np.float64)
    heading = np.unwrap(facing_angles(joints))
    relative = joints - joints[:, :1] * np.array([1.0, 0.0, 1.0])
    cosine, sine = np.cos(heading)[:, None], np.sin(heading)[:, None]
    x, z = relative[..., 0], relative[..., 2]
    return np.stack([cosine * x - sine * z, relative[..., 1], sine * x + cosine * z], axis=-1), heading


def body_series(joints: np.ndarray) -> np.ndarray:
    """Compute poses, joint velocities and root velocities of a motion at every other frame.

    Args:
        joints: `(T, 22, 3)`, meters, Y up, 20 fps. Frames after the first 196 are ignored.

    Returns:
        `(ceil(T / 2), 135)`, float32: 66 numbers of the pose in body coordinates, 66 of its change per second, the
        root's speed to the left and forward, and its turning speed.
    """
    joints = np.asarray(joints[:MAX_CLIP_FRAMES], dtype=np.float64)
    poses, heading = body_poses(joints)
    if len(joints) > 1:
        change = np.gradient(poses, 1 / FPS, axis=0)
        course = np.gradient(joints[:, 0, ::2], 1 / FPS, axis=0)
        turn = np.gradient(heading, 1 / FPS)
    else:
        change, course, turn = np.zeros_like(poses), np.zeros((1, 2)), np.zeros(1)
    cosine, sine = np.cos(heading), np.sin(heading)
    left = course[:, 0] * cosine - course[:, 1] * sine
    forward = course[:, 0] * sine + course[:, 1] * cosine
    frames = len(joints)
    parts = [poses.reshape(frames, -1), change.reshape(frames, -1), left[:, None], forward[:, None], turn[:, None]]
    return np.concatenate(parts, axis=-1)[::2].astype(np.float32)
