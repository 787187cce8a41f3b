"""Read a take of the CMU database from any of its public BVH conversions as features, at its true speed."""

import re
from pathlib import Path
from typing import Any

import numpy as np

from lamp_hf.data.cmu.facts import CLAIMED_FPS
from lamp_hf.data.cmu.faults import Fault, bridge_faults, find_faults
from lamp_hf.motion.errors import MotionFormatError
from lamp_hf.motion.features import joints_to_features, mirror_joints
from lamp_hf.motion.formats.bvh import read_bvh
from lamp_hf.motion.skeleton import HUMANML3D_22

MIN_SECONDS = 1.0  # minimum length of a take, and of a segment
# Faults are searched for at about this rate, so that one threshold suits files with 24 and 120 frames per second.
_LOOK_FPS = 24.0
_T_POSE_SPREAD = 0.96  # minimum distance between the wrists, relative to the length of both arms
_T_POSE_DROP_M = 0.15  # maximum height difference between a wrist and its shoulder
_T_POSE_JUMP_M_PER_S = 25.0  # speed of a joint that jumps from the T-pose at the origin to the first frame of motion

_ARMS = (
    *(("left", part) for part in ("wrist", "elbow", "shoulder")),
    *(("right", part) for part in ("shoulder", "elbow", "wrist")),
)


class UnusableTakeError(MotionFormatError):
    """Error for a readable file without usable motion."""


def read_take(path: Path, capture_fps: float) -> tuple[np.ndarray, float]:
    """Read the joints of a take without the T-pose that conversions put before it.

    Args:
        path: A BVH file. Public conversions specify 120 frames per second for every take, so this rate is corrected;
            other rates are used as they are.
        capture_fps: Frames per second at which the take was captured.

    Returns:
        Joints `(T, 22, 3)` in meters, and frames per second, from 12 to 48.

    Raises:
        UnusableTakeError: The take is too short.
        MotionFormatError: The file cannot be read.
    """
    motion = read_bvh(path, up_axis="y")  # true for all conversions; it cannot be detected if nobody stands
    joints, fps = motion.joints, motion.fps
    if starts_with_t_pose(joints, fps):
        joints = joints[1:]
    if fps > CLAIMED_FPS / 2 + 1:
        fps *= capture_fps / CLAIMED_FPS
    stride = max(1, int(fps / _LOOK_FPS + 0.01))
    joints, fps = joints[::stride], fps / stride
    if len(joints) / fps < MIN_SECONDS:
        raise UnusableTakeError(
            f"{path.name}: too short, {len(joints)} frames at {fps:g} fps; expected at least {MIN_SECONDS:g} s"
        )
    return joints, fps


def starts_with_t_pose(joints: np.ndarray, fps: float) -> bool:
    """Return whether the first frame is the T-pose that conversions put before the motion.

    Args:
        joints: `(T, 22, 3)`, meters.
        fps: Frame rate that the file specifies.
    """
    first = joints[0]
    index = HUMANML3D_22.joint_names.index
    arms = [index(f"{side}_{part}") for side, part in _ARMS]
    length = float(np.linalg.norm(np.diff(first[arms], axis=0), axis=-1).sum())
    spread = float(np.linalg.norm(first[arms[0]] - first[arms[-1]]))
    drop = max(abs(float(first[index(f"{s}_wrist"), 1] - first[index(f"{s}_shoulder"), 1])) for s in ("left", "right"))
    if spread > _T_POSE_SPREAD * length and drop < _T_POSE_DROP_M:
        return True
    # The arms of the first pose differ between conversions, but all put it at the origin, away from the motion.
    return len(joints) > 1 and float(np.linalg.norm(joints[1] - first, axis=-1).max()) * fps > _T_POSE_JUMP_M_PER_S


def take_features(path: Path, mirror: bool, options: dict[str, Any]) -> list[np.ndarray]:
    """Compute the features of a take for `ClipCache`. Broken spans are NaN.

    Args:
        path: The BVH file, named by the take's number.
        mirror: Whether to return the mirror image too.
        options: `{"capture_fps": ...}`, the true rates of the takes that were not captured at 120 frames per second.

    Returns:
        Features `(T, 263)` at 20 frames per second, as recorded and, if `mirror`, mirrored. A take that is too short or
        broken throughout becomes a single frame of NaN.

    Raises:
        MotionFormatError: The file cannot be read.
    """
    try:
        joints, sound = clean_joints(path, options["capture_fps"].get(take_of(path), CLAIMED_FPS))
    except UnusableTakeError:
        return [np.full((1, HUMANML3D_22.feature_dim), np.nan, dtype=np.float32)] * (1 + mirror)
    features = [joints_to_features(joints)]
    if mirror:
        features.append(joints_to_features(mirror_joints(joints)))
    for array in features:
        array[~sound] = np.nan
    return features


def clean_joints(path: Path, capture_fps: float) -> tuple[np.ndarray, np.ndarray]:
    """Read the joints of a take at 20 frames per second and interpolate over broken spans.

    Returns:
        Joints `(T, 22, 3)` in meters, and `(T - 1,)` bool: whether each frame of their features is sound.

    Raises:
        UnusableTakeError: The take is too short or broken throughout.
        MotionFormatError: The file cannot be read.
    """
    joints, fps = read_take(path, capture_fps)
    faults = find_faults(joints, fps)
    joints = resample_smoothly(bridge_faults(joints, faults), fps, HUMANML3D_22.default_fps)
    sound = sound_frames(len(joints) - 1, faults, fps)
    if not sound.any():
        raise UnusableTakeError(f"{path.name}: broken throughout ({faults[0].describe(fps)}); leave it out")
    return joints, sound


def sound_frames(num_frames: int, faults: list[Fault], fps: float) -> np.ndarray:
    """Return whether each frame at 20 frames per second is outside all faults, `(num_frames,)` bool.

    Args:
        num_frames: Number of frames of features.
        faults: Faults of the take.
        fps: Frame rate of the frame numbers in `faults`.
    """
    sound = np.ones(num_frames, dtype=bool)
    scale = HUMANML3D_22.default_fps / fps
    for fault in faults:
        if fault.mendable:
            continue
        # A frame of features contains the velocity to the next frame, so the frame before a fault is bad too.
        sound[max(0, int(np.floor(fault.start * scale)) - 1) : int(np.ceil(fault.stop * scale)) + 1] = False
    return sound


_TAKE = re.compile(r"(\d{1,3})_(\d{1,3})(?:\.bvh)?", re.IGNORECASE)


def take_of(path: str | Path) -> str | None:
    """Return the take number in a file name, such as "01_01", or `None` if there is none."""
    match = _TAKE.fullmatch(Path(path).name)
    return f"{int(match[1]):02d}_{int(match[2]):02d}" if match else None


def resample_smoothly(joints: np.ndarray, source_fps: float, target_fps: float) -> np.ndarray:
    """Change the frame rate by cubic (Catmull-Rom) interpolation.

    The takes have 24 or 12 frames per second here; linear interpolation would cut the corners of swings.

    Args:
        joints: `(T, J, 3)`.
        source_fps: Frames per second of `joints`.
        target_fps: Frames per second of the result.

    Returns:
        `(floor((T - 1) · target_fps / source_fps) + 1, J, 3)` float32; frame 0 is frame 0 of `joints`.
    """
    last = len(joints) - 1
    places = np.arange(int(last * target_fps / source_fps * (1.0 + 1e-5) + 1e-9) + 1) * (source_fps / target_fps)
    places = np.minimum(places, last)
    index = np.minimum(places.astype(int), max(last - 1, 0))
    t = (places - index)[:, None, None]
    before, here, there, after = (joints[np.clip(index + step, 0, last)].astype(np.float64) for step in (-1, 0, 1, 2))
    curve = here + 0.5 * t * (
        there
        - before
        + t * (2.0 * before - 5.0 * here + 4.0 * there - after + t * (3.0 * (here - there) + after - before))
    )
    return curve.astype(np.float32)
