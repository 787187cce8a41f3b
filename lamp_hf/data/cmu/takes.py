"""Read one take of the CMU database from any of its public BVH conversions, at its true speed, as features."""

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

MIN_SECONDS = 1.0  # of a take, and of what is cut out of one
_LOOK_FPS = 24.0  # faults are sought at about this rate: one threshold serves files of 24 and of 120 frames a second
_T_POSE_SPREAD = 0.96  # distance of the wrists, as a share of the arms' length
_T_POSE_DROP_M = 0.15  # a wrist may hang this much below or above its shoulder
_T_POSE_JUMP_M_PER_S = 25.0  # from the T-pose at the origin to the first frame of the motion, by some joint

_ARMS = (
    *(("left", part) for part in ("wrist", "elbow", "shoulder")),
    *(("right", part) for part in ("shoulder", "elbow", "wrist")),
)


class UnusableTakeError(MotionFormatError):
    """A file that can be read and holds no motion to learn from."""


def read_take(path: Path, capture_fps: float) -> tuple[np.ndarray, float]:
    """Read the joints of a take without the T-pose that conversions put before it.

    Args:
        path: a BVH file: a public conversion, which claims 120 frames a second whatever is true, or one of another
            rate, which is believed.
        capture_fps: frames per second at which the take was captured.

    Returns:
        joints (T, 22, 3) in meters, and frames per second, from 12 to 48.

    Raises:
        UnusableTakeError: the take is too short.
        MotionFormatError: the file cannot be read.
    """
    motion = read_bvh(path, up_axis="y")  # in all conversions, also of takes in which nobody stands
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
    """Whether the first frame of joints (T, 22, 3) is the T-pose that conversions put before the motion.

    Args:
        joints: (T, 22, 3), meters.
        fps: what the file claims.
    """
    first = joints[0]
    index = HUMANML3D_22.joint_names.index
    arms = [index(f"{side}_{part}") for side, part in _ARMS]
    length = float(np.linalg.norm(np.diff(first[arms], axis=0), axis=-1).sum())
    spread = float(np.linalg.norm(first[arms[0]] - first[arms[-1]]))
    drop = max(abs(float(first[index(f"{s}_wrist"), 1] - first[index(f"{s}_shoulder"), 1])) for s in ("left", "right"))
    if spread > _T_POSE_SPREAD * length and drop < _T_POSE_DROP_M:
        return True
    # Conversions disagree about the arms of the first pose, but all put it at the origin, away from the motion.
    return len(joints) > 1 and float(np.linalg.norm(joints[1] - first, axis=-1).max()) * fps > _T_POSE_JUMP_M_PER_S


def take_features(path: Path, mirror: bool, options: dict[str, Any]) -> list[np.ndarray]:
    """Features of a take, for `ClipCache`: broken spans are NaN.

    Args:
        path: the BVH file, named by the take's number.
        mirror: whether to give the mirror image too.
        options: `capture_fps`: takes that were not captured at 120 frames a second, with their true rates.

    Returns:
        Features (T, 263) at 20 frames a second, as recorded and, where asked for, mirrored; a single frame of NaN for
        a take that is too short or broken from end to end.

    Raises:
        MotionFormatError: the file cannot be read.
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
    """Joints of a take at 20 frames a second, its broken spans bridged.

    Returns:
        joints (T, 22, 3) in meters, and (T - 1,) bool: whether a frame of their features is sound.

    Raises:
        UnusableTakeError: the take is too short or broken from end to end.
        MotionFormatError: the file cannot be read.
    """
    joints, fps = read_take(path, capture_fps)
    faults = find_faults(joints, fps)
    joints = resample_smoothly(bridge_faults(joints, faults), fps, HUMANML3D_22.default_fps)
    sound = sound_frames(len(joints) - 1, faults, fps)
    if not sound.any():
        raise UnusableTakeError(f"{path.name}: broken from end to end ({faults[0].describe(fps)})")
    return joints, sound


def sound_frames(num_frames: int, faults: list[Fault], fps: float) -> np.ndarray:
    """Which of so many frames at 20 frames a second lie outside the faults, found at `fps`; (num_frames,) bool."""
    sound = np.ones(num_frames, dtype=bool)
    scale = HUMANML3D_22.default_fps / fps
    for fault in faults:
        if fault.mendable:
            continue
        # A frame of features holds the velocity to the next one, so the frame before is spoiled too.
        sound[max(0, int(np.floor(fault.start * scale)) - 1) : int(np.ceil(fault.stop * scale)) + 1] = False
    return sound


_TAKE = re.compile(r"(\d{1,3})_(\d{1,3})(?:\.bvh)?", re.IGNORECASE)


def take_of(path: str | Path) -> str | None:
    """Number of the take that a file holds by its name, such as "01_01"; None if it is not named by one."""
    match = _TAKE.fullmatch(Path(path).name)
    return f"{int(match[1]):02d}_{int(match[2]):02d}" if match else None


def resample_smoothly(joints: np.ndarray, source_fps: float, target_fps: float) -> np.ndarray:
    """Change the frame rate with cubic (Catmull-Rom) curves through the frames.

    The takes come at 24 frames a second, some at 12: straight lines between these would cut the corners of swings.

    Args:
        joints: (T, J, 3).
        source_fps: frames per second of `joints`.
        target_fps: frames per second wanted.

    Returns:
        (floor((T - 1) · target_fps / source_fps) + 1, J, 3) float32; frame 0 is frame 0 of `joints`.
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
