"""Convert joint positions to HumanML3D-263 and KIT-251 features, and back.

Guo et al., Generating Diverse and Natural 3D Human Motions from Text, CVPR 2022, define the format. A frame consists of

    0             rotation about Y to the next frame, half angle in radians, negative to the left
    1:3           velocity of the root along x and z, per frame, in the heading of the next frame
    3             height of the root
    4:3J+1        positions of joints 1.. relative to the root's projection on the floor, in the heading of the frame
    3J+1:9J-5     6D rotations of joints 1..; they swing bones from the rest pose and contain no twist
    9J-5:12J-5    velocities of all joints, per frame, in the heading of the frame
    12J-5:12J-1   contact of left ankle, left toe, right ankle, right toe with the floor

All functions accept any leading batch dimensions, compute in float64 and return float32. Joints are in meters; features
are in the skeleton's own unit (meters, or millimeters for KIT-ML).
"""

import math

import numpy as np
from numpy.typing import ArrayLike

from lamp_hf.motion import rotations
from lamp_hf.motion.skeleton import HUMANML3D_22, Skeleton

_SMOOTHING_SIGMA = 20.0  # frames, at any frame rate
_SMOOTHING_RADIUS = 80
_CHUNK_FRAMES = 4096


def joints_to_features(
    joints: ArrayLike,
    skeleton: Skeleton = HUMANML3D_22,
    *,
    retarget: bool = True,
    bone_lengths: ArrayLike | None = None,
    reference_heading_wrap: bool = False,
) -> np.ndarray:
    """Compute the features of clips.

    Args:
        joints: (..., T, J, 3), meters, Y up, at least two frames.
        skeleton: skeleton of the joints.
        retarget: whether to first give the body the bone lengths of the data set.
        bone_lengths: (J,), meters; defaults to the skeleton's.
        reference_heading_wrap: whether to turn the wrong way when the heading crosses -Z, as the reference code does.
            `features_to_joints` then recovers a wrong heading from that frame on.

    Returns:
        (..., T-1, D), float32, not normalized.

    Raises:
        ValueError: the joints have the wrong shape, or bone lengths are needed but unknown.
    """
    joints = _check(joints, (skeleton.num_joints, 3), "joints", min_frames=2)
    joints = _normalize(joints, skeleton, retarget, bone_lengths)
    joints /= skeleton.unit
    num_frames = joints.shape[-3]
    angles = _smooth_heading(joints, skeleton)  # they rotate each frame's heading to +Z
    half_turns = np.diff(angles, axis=-1) / 2.0
    if reference_heading_wrap:
        half_turns = np.arcsin(np.sin(half_turns))
    else:
        half_turns -= np.pi * np.round(half_turns / np.pi)

    features = np.empty((*joints.shape[:-3], num_frames - 1, skeleton.feature_dim), dtype=np.float32)
    features[..., 0] = half_turns
    for start in range(0, num_frames - 1, _CHUNK_FRAMES):  # in chunks, to limit memory
        stop = min(start + _CHUNK_FRAMES, num_frames - 1)
        part = joints[..., start : stop + 1, :, :]
        _fill_features(features[..., start:stop, 1:], part, angles[..., start : stop + 1], skeleton)
    return features


def _fill_features(features: np.ndarray, joints: np.ndarray, angles: np.ndarray, skeleton: Skeleton) -> None:
    """Fill in all features but the first, (..., T-1, D-1), from joints (..., T, J, 3) and headings (..., T)."""
    num_joints = skeleton.num_joints
    cosine, sine = np.cos(angles), np.sin(angles)
    steps = np.diff(joints, axis=-3)
    root_steps = _turn(steps[..., 0, :], cosine[..., 1:], sine[..., 1:])
    features[..., 0] = root_steps[..., 0]
    features[..., 1] = root_steps[..., 2]
    features[..., 2] = joints[..., :-1, 0, 1]

    now, cosine, sine = joints[..., :-1, :, :], cosine[..., :-1, None], sine[..., :-1, None]
    places = now[..., 1:, :] - now[..., :1, :] * np.array([1.0, 0.0, 1.0])
    parts = np.split(features, [3, 3 * num_joints, 9 * num_joints - 6, 12 * num_joints - 6], axis=-1)
    _, ric, rot, velocity, contact = parts
    ric[...] = _flat(_turn(places, cosine, sine))
    rot[...] = _flat(_local_rotations_6d(now, angles[..., :-1], skeleton))
    velocity[...] = _flat(_turn(steps, cosine, sine))
    contact[...] = _contacts(steps, skeleton)


def features_to_joints(features: ArrayLike, skeleton: Skeleton = HUMANML3D_22) -> np.ndarray:
    """Recover joint positions from features 0 to 3J+1: the root's path and the joints' positions relative to it.

    Args:
        features: (..., T, D), not normalized.
        skeleton: skeleton of the features.

    Returns:
        (..., T, J, 3), float32, meters; the root starts above the origin.

    Raises:
        ValueError: the features have the wrong shape.
    """
    features = _check(features, (skeleton.feature_dim,), "features", min_frames=1)
    half_turns = features[..., :-1, 0]
    angles = np.zeros(features.shape[:-1])
    np.cumsum(2.0 * half_turns, axis=-1, out=angles[..., 1:])
    cosine, sine = np.cos(angles), -np.sin(angles)  # from the heading to the world: the inverse rotation

    joints = np.zeros((*features.shape[:-1], skeleton.num_joints, 3))
    steps = np.zeros((*features.shape[:-1], 3))
    steps[..., 1:, 0] = features[..., :-1, 1]
    steps[..., 1:, 2] = features[..., :-1, 2]
    joints[..., 0, :] = np.cumsum(_turn(steps, cosine, sine), axis=-2)
    places = features[..., 4 : 3 * skeleton.num_joints + 1]
    places = places.reshape(*features.shape[:-1], skeleton.num_joints - 1, 3)
    joints[..., 1:, :] = _turn(places, cosine[..., None], sine[..., None]) + joints[..., :1, :]
    joints[..., 0, 1] = features[..., 3]
    return (joints * skeleton.unit).astype(np.float32)


def normalize_joints(
    joints: ArrayLike,
    skeleton: Skeleton = HUMANML3D_22,
    *,
    retarget: bool = True,
    bone_lengths: ArrayLike | None = None,
) -> np.ndarray:
    """Move, turn and rescale clips to the body, position and heading that features describe.

    The body gets the bone lengths of the data set, its lowest joint touches the floor y = 0, and in the first frame it
    stands above the origin and faces +Z.

    Args:
        joints: (..., T, J, 3), meters, Y up.
        skeleton: skeleton of the joints.
        retarget: whether to change bone lengths.
        bone_lengths: (J,), meters; defaults to the skeleton's.

    Returns:
        (..., T, J, 3), float32, meters.

    Raises:
        ValueError: the joints have the wrong shape, or bone lengths are needed but unknown.
    """
    joints = _check(joints, (skeleton.num_joints, 3), "joints", min_frames=1)
    return _normalize(joints, skeleton, retarget, bone_lengths).astype(np.float32)


def mirror_joints(joints: ArrayLike, skeleton: Skeleton = HUMANML3D_22) -> np.ndarray:
    """Swap left and right of joints (..., J, 3) by reflection across the plane x = 0; return float32."""
    joints = np.asarray(joints, dtype=np.float32)
    return joints[..., skeleton.mirror_permutation, :] * np.array([-1.0, 1.0, 1.0], dtype=np.float32)


def mirror_features(features: ArrayLike, skeleton: Skeleton = HUMANML3D_22) -> np.ndarray:
    """Swap left and right of features (..., T, D) without converting them to joints; return float32."""
    features = _check(features, (skeleton.feature_dim,), "features", min_frames=1, dtype=np.float32)
    num_joints = skeleton.num_joints
    swap = skeleton.mirror_permutation
    mirrored = features.copy()
    mirrored[..., :2] *= -1.0
    contacts = list(skeleton.contact_joints)
    blocks = [
        (4, swap[1:] - 1, (-1, 1, 1)),
        (3 * num_joints + 1, swap[1:] - 1, (1, -1, -1, -1, 1, 1)),  # columns of M·R·M with M = diag(-1, 1, 1)
        (9 * num_joints - 5, swap, (-1, 1, 1)),
        (12 * num_joints - 5, np.array([contacts.index(swap[joint]) for joint in contacts]), (1,)),
    ]
    for start, order, signs in blocks:
        stop = start + len(order) * len(signs)
        block = features[..., start:stop].reshape(*features.shape[:-1], len(order), len(signs))
        mirrored[..., start:stop] = _flat(block[..., order, :] * np.array(signs, dtype=np.float32))
    return mirrored


def resample_joints(joints: ArrayLike, source_fps: float, target_fps: float) -> np.ndarray:
    """Change the frame rate of clips by linear interpolation.

    Args:
        joints: (..., T, J, 3), any unit.
        source_fps: frames per second of `joints`.
        target_fps: frames per second of the result.

    Returns:
        (..., floor((T-1)·target_fps/source_fps) + 1, J, 3), float32. Frame 0 is frame 0 of `joints`.

    Raises:
        ValueError: a rate is not positive and finite.
    """
    for rate in (source_fps, target_fps):
        if not (math.isfinite(rate) and rate > 0):
            raise ValueError(f"expected frame rates greater than 0, got {source_fps} and {target_fps}")
    joints = np.asarray(joints, dtype=np.float64)
    last = joints.shape[-3] - 1
    # Files round frame times ("0.033333"); without this tolerance, the last frame would be lost.
    num_frames = math.floor(last * target_fps / source_fps * (1.0 + 1e-5) + 1e-9) + 1
    places = np.minimum(np.arange(num_frames) * (source_fps / target_fps), last)
    before = np.minimum(places.astype(np.intp), max(last - 1, 0))
    after = np.minimum(before + 1, last)
    share = (places - before)[:, None, None]
    resampled = joints[..., before, :, :] * (1.0 - share) + joints[..., after, :, :] * share
    return np.asarray(resampled, dtype=np.float32)


def facing_angles(joints: ArrayLike, skeleton: Skeleton = HUMANML3D_22) -> np.ndarray:
    """Compute the direction in which the body faces in each frame.

    Args:
        joints: (..., J, 3), Y up.
        skeleton: skeleton of the joints.

    Returns:
        (...), radians from +Z, positive to the body's left (+X), in [-π, π]; 0 if hips and shoulders do not define one.
    """
    joints = np.asarray(joints, dtype=np.float64)
    right_hip, left_hip, right_shoulder, left_shoulder = skeleton.facing_joints
    across = joints[..., right_hip, :] - joints[..., left_hip, :]
    across = across + joints[..., right_shoulder, :] - joints[..., left_shoulder, :]
    return np.arctan2(across[..., 2], -across[..., 0]) * (np.abs(across[..., ::2]).max(axis=-1) > 0)


def _check(
    array: ArrayLike, last_dims: tuple[int, ...], what: str, *, min_frames: int, dtype: type = np.float64
) -> np.ndarray:
    array = np.asarray(array, dtype=dtype)
    frames_axis = -1 - len(last_dims)
    if array.ndim < 1 + len(last_dims) or array.shape[frames_axis + 1 :] != last_dims:
        expected = ", ".join(["T", *map(str, last_dims)])
        raise ValueError(f"expected {what} of shape (..., {expected}), got {array.shape}")
    if array.shape[frames_axis] < min_frames:
        raise ValueError(f"expected {what} of at least {min_frames} frames, got {array.shape[frames_axis]}")
    return array


def _flat(array: np.ndarray) -> np.ndarray:
    return array.reshape(*array.shape[:-2], -1)


def _turn(vectors: np.ndarray, cosine: np.ndarray, sine: np.ndarray) -> np.ndarray:
    """Rotate vectors (..., 3) about Y by angles given as cosine and sine (...)."""
    x, z = vectors[..., 0], vectors[..., 2]
    turned = np.empty(vectors.shape)
    turned[..., 0] = cosine * x + sine * z
    turned[..., 1] = vectors[..., 1]
    turned[..., 2] = cosine * z - sine * x
    return turned


def _normalize(joints: np.ndarray, skeleton: Skeleton, retarget: bool, bone_lengths: ArrayLike | None) -> np.ndarray:
    if retarget:
        joints = _retarget(joints, skeleton, bone_lengths)
    elif bone_lengths is not None:
        raise ValueError("bone_lengths: not used with retarget=False; leave them out")
    origin = joints[..., :1, :1, :].copy()
    origin[..., 0, 0, 1] = joints[..., 1].min(axis=(-2, -1))
    joints = np.subtract(joints, origin, out=joints if retarget else None)  # a retargeted body is already a copy
    angle = -facing_angles(joints[..., 0, :, :], skeleton)[..., None, None]
    return _turn(joints, np.cos(angle), np.sin(angle))


def _retarget(joints: np.ndarray, skeleton: Skeleton, bone_lengths: ArrayLike | None) -> np.ndarray:
    if bone_lengths is None:
        bone_lengths = skeleton.bone_lengths
    if bone_lengths is None:
        raise ValueError(
            f"{skeleton.name}: the bone lengths are unknown; pass bone_lengths= in meters, or retarget=False to keep "
            "the body unchanged"
        )
    lengths = np.asarray(bone_lengths, dtype=np.float64)
    if lengths.shape != (skeleton.num_joints,):
        raise ValueError(f"expected bone_lengths of shape ({skeleton.num_joints},), got {lengths.shape}")
    parents = np.array(skeleton.parents)
    first = joints[..., 0, :, :]
    legs = np.array(skeleton.leg_joints)
    leg_length = np.linalg.norm(first[..., legs, :] - first[..., parents[legs], :], axis=-1).sum(axis=-1)
    scale = lengths[legs].sum() / np.where(leg_length > 1e-9, leg_length, lengths[legs].sum())
    rest = np.array(skeleton.rest_directions)
    retargeted = np.empty_like(joints)
    retargeted[..., 0, :] = joints[..., 0, :] * scale[..., None, None]
    for start in range(0, joints.shape[-3], _CHUNK_FRAMES):
        part = joints[..., start : start + _CHUNK_FRAMES, :, :]
        made = retargeted[..., start : start + _CHUNK_FRAMES, :, :]
        bones = part[..., 1:, :] - part[..., parents[1:], :]
        offsets = rotations.normalize(bones, fallback=rest[1:]) * lengths[1:, None]
        for joint in range(1, skeleton.num_joints):
            made[..., joint, :] = made[..., parents[joint], :] + offsets[..., joint - 1, :]
    return retargeted


def _smooth_heading(joints: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """Return the angles (..., T) about Y that turn each frame's smoothed heading to +Z; the first is 0."""
    right_hip, left_hip, right_shoulder, left_shoulder = skeleton.facing_joints
    # The reference code subtracts the hips here instead of adding them; the features of all data sets contain this.
    across = joints[..., left_hip, :] - joints[..., right_hip, :]
    across = across + joints[..., right_shoulder, :] - joints[..., left_shoulder, :]
    across = rotations.normalize(across)
    forward = np.stack([across[..., 2], -across[..., 0]], axis=-2)  # (..., 2, T)
    reach = np.arange(-_SMOOTHING_RADIUS, _SMOOTHING_RADIUS + 1)
    kernel = np.exp(-0.5 * (reach / _SMOOTHING_SIGMA) ** 2)
    kernel /= kernel.sum()
    widths = [(0, 0)] * (forward.ndim - 1) + [(_SMOOTHING_RADIUS, _SMOOTHING_RADIUS)]
    padded = np.pad(forward, widths, mode="edge")
    rows = padded.reshape(-1, padded.shape[-1])
    smooth = np.stack([np.convolve(row, kernel, mode="valid") for row in rows]).reshape(forward.shape)
    angles = np.arctan2(-smooth[..., 0, :], smooth[..., 1, :])
    angles[..., 0] = 0.0
    return angles


def _local_rotations_6d(joints: np.ndarray, angles: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """Return the rotations (..., T, J-1, 6) of the bones from the rest pose, relative to the bone before on the chain.

    The first bone of a chain is relative to the rotation of the heading, `angles` (..., T) about Y.
    """
    parents = np.array(skeleton.parents)
    bones = joints[..., 1:, :] - joints[..., parents[1:], :]
    rest = np.array(skeleton.rest_directions)
    world = np.empty((*joints.shape[:-1], 4))
    world[..., 1:, :] = rotations.between(rest[1:], rotations.normalize(bones, fallback=rest[1:]))
    world[..., 0, :] = rotations.about_axis("y", angles)
    before = world[..., skeleton.chain_predecessors[1:], :]
    return rotations.to_6d(rotations.multiply(rotations.conjugate(before), world[..., 1:, :]))


def _contacts(steps: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    steps = steps[..., list(skeleton.contact_joints), :]
    return np.sum(steps * steps, axis=-1) < skeleton.contact_threshold
