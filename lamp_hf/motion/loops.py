"""Make seamless loops: the last frames of a motion lead into its first frame.

The last frame of a loop shows the pose of the first frame, as players and game engines expect it, and the body moves in
both frames with the same velocity. `Motion.loop` creates a loop in two steps:

1. *Cut.* A walk that starts with the left foot should not end with the right foot. Of all pairs of frames near the two
   ends, choose the pair with the most similar poses and velocities, as Kovar et al. choose transitions (Motion Graphs,
   SIGGRAPH 2002). At most half of the frames are dropped, and dropped frames count against a pair.
2. *Blend.* The remaining difference of pose and velocity is added to the last frames with a smooth weight, over 0.3 s
   or more if the difference is large. Bones keep their lengths.

If the body travels or turns, the next repetition continues where the last one ended (root motion). If it only drifts a
little, the drift is removed, so that all repetitions are in the same place.
"""

import math

import numpy as np

from lamp_hf.motion import rotations
from lamp_hf.motion.features import facing_angles
from lamp_hf.motion.skeleton import HUMANML3D_22, Skeleton

__all__ = ["SHORTEST_LOOP", "loop_joints", "turn_about_up"]

SHORTEST_LOOP = 4  # frames
_DRIFT_M = 0.2  # a body that ends closer to its start stays in place
_DRIFT_RADIANS = math.radians(20.0)
_SEARCH_S = 4.0  # longest part at each end that may be dropped
_CANDIDATES = 200  # largest number of frames to compare at each end
_VELOCITY_S = 0.1  # weight of a difference in velocity: 1 m/s counts as much as 10 cm
_DROPPED_M_PER_S = 0.02  # weight of a dropped second
_BLEND_S = (0.3, 1.0)
_BLEND_SPEED = 1.0  # m/s: a larger difference is blended over a longer time


def loop_joints(
    joints: np.ndarray, fps: float, skeleton: Skeleton = HUMANML3D_22, *, root_motion: bool | None = None
) -> np.ndarray:
    """Turn a clip into a loop.

    Args:
        joints: (T, J, 3), meters, Y up, at least `SHORTEST_LOOP` frames.
        fps: frames per second.
        skeleton: skeleton of the joints.
        root_motion: whether a repetition continues where the last one ended. Defaults to whether the body ends more
            than 20 cm away from its start or turned by more than 20 degrees.

    Returns:
        (N, J, 3), float64, T / 2 <= N <= T. The last frame is the first one, moved and turned on the floor with root
        motion, else the first one itself.
    """
    joints = np.asarray(joints, dtype=np.float64)
    first, last = _best_cut(joints, fps, skeleton)
    joints = joints[first : last + 1].copy()
    start, end = (float(angle) for angle in facing_angles(joints[[0, -1]], skeleton))
    turn = math.remainder(end - start, 2.0 * math.pi)
    way = joints[-1, 0] - joints[0, 0]
    if root_motion is None:
        root_motion = math.hypot(way[0], way[2]) > _DRIFT_M or abs(turn) > _DRIFT_RADIANS
    if not root_motion:
        joints = _without_drift(joints, turn)
        turn = 0.0
    # The first two frames as the next repetition shows them.
    place, following = (joints[-1:, :1] if root_motion else joints[:1, :1]) * [1.0, 0.0, 1.0], joints[:2].copy()
    following -= joints[:1, :1] * [1.0, 0.0, 1.0]
    following = turn_about_up(following, turn) + place
    return _lead_into(joints, following, fps, skeleton)


def turn_about_up(joints: np.ndarray, angles: np.ndarray | float) -> np.ndarray:
    """Turn positions (T, J, 3) about the Y axis by angles (T,) in radians, positive from +Z to +X."""
    angles = np.broadcast_to(np.asarray(angles, dtype=np.float64), (len(joints),))
    return rotations.rotate(rotations.about_axis("y", angles)[:, None], joints)


def _best_cut(joints: np.ndarray, fps: float, skeleton: Skeleton) -> tuple[int, int]:
    """Return the first and the last frame of the part that loops best."""
    total = len(joints)
    reach = min(total // 2, round(_SEARCH_S * fps))
    if total < 2 * SHORTEST_LOOP or reach < 1:
        return 0, total - 1
    step = math.ceil(reach / _CANDIDATES)
    heads, tails = np.arange(0, reach + 1, step), np.arange(total - 1, total - 2 - reach, -step)
    local = turn_about_up(joints - joints[:, :1] * [1.0, 0.0, 1.0], -facing_angles(joints, skeleton))
    # Velocities in the heading of the frame, so that the speed of the body counts too.
    speed = np.gradient(joints, axis=0) * fps
    speed = turn_about_up(speed, -facing_angles(joints, skeleton)) * _VELOCITY_S
    scale = 1.0 / math.sqrt(joints.shape[1])
    poses = np.concatenate([local.reshape(total, -1), speed.reshape(total, -1)], axis=1) * scale
    squares = np.sum(poses**2, axis=1)
    distance = squares[heads][:, None] + squares[tails] - 2.0 * poses[heads] @ poses[tails].T
    dropped = heads[:, None] + (total - 1 - tails)
    cost = np.sqrt(np.maximum(distance, 0.0)) + _DROPPED_M_PER_S * dropped / fps
    cost[(dropped > total // 2) | (total - dropped < SHORTEST_LOOP)] = np.inf
    head, tail = np.unravel_index(int(np.argmin(cost)), cost.shape)
    return int(heads[head]), int(tails[tail])


def _without_drift(joints: np.ndarray, turn: float) -> np.ndarray:
    """Return the clip (T, J, 3) with its way and its turn on the floor removed, evenly over the clip."""
    share = np.linspace(0.0, 1.0, len(joints))
    root = joints[:, :1] * [1.0, 0.0, 1.0]
    drift = share[:, None, None] * (root[-1:] - root[:1])
    return turn_about_up(joints - root, -turn * share) + root - drift


def _lead_into(joints: np.ndarray, following: np.ndarray, fps: float, skeleton: Skeleton) -> np.ndarray:
    """Change the last frames of a clip (T, J, 3) so that they end in the frames `following` (2, J, 3)."""
    missing = following[0] - joints[-1]
    velocity = (following[1] - following[0]) - (joints[-1] - joints[-2])
    seconds = float(np.clip(np.linalg.norm(missing, axis=-1).max() / _BLEND_SPEED, *_BLEND_S))
    length = max(2, min(round(seconds * fps), len(joints) // 2))
    # The weights are such that the last two frames get the pose and the velocity exactly.
    time = np.append(np.arange(1, length) / (length - 1), 1.0)
    rising = time**2 * (3.0 - 2.0 * time)
    bending = (time**3 - time**2) * (length - 1) - rising
    bending[-1] = 0.0
    blended = joints[-length:] + rising[:, None, None] * missing + bending[:, None, None] * velocity
    result = joints.copy()
    result[-length:] = _with_lengths(blended, joints[-length:], following[0], rising, skeleton)
    result[-1] = following[0]
    return result


def _with_lengths(
    blended: np.ndarray, joints: np.ndarray, target: np.ndarray, share: np.ndarray, skeleton: Skeleton
) -> np.ndarray:
    """Give blended joints (T, J, 3) the bone lengths of `joints` (T, J, 3), changing to those of `target` (J, 3)."""
    parents = np.asarray(skeleton.parents)

    def bones(places: np.ndarray) -> np.ndarray:
        return places - places[..., parents, :]

    lengths, ending = (np.linalg.norm(bones(places), axis=-1, keepdims=True) for places in (joints, target))
    lengths = lengths + share[:, None, None] * (ending - lengths)
    ways = rotations.normalize(bones(blended), bones(joints))
    result = blended.copy()
    for joint, parent in enumerate(parents):
        if parent >= 0:
            result[:, joint] = result[:, parent] + ways[:, joint] * lengths[:, joint]
    return result
