"""Read and write BVH, the motion capture format that Blender, Unity and MotionBuilder exchange."""

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lamp_hf.motion.bvh_parser import MAX_FPS, MIN_FPS, BvhClip, parse_bvh
from lamp_hf.motion.errors import MotionFormatError
from lamp_hf.motion.motion import Motion
from lamp_hf.motion.rigs import (
    METRES_PER_UNIT,
    Hierarchy,
    JointSource,
    RigMapping,
    detect_unit,
    detect_up_axis,
    resolve_mapping,
)

logger = logging.getLogger(__name__)

_CHUNK_FRAMES = 4096
_LARGEST_M = 1e4  # a joint farther away than 10 km is damage, not motion


@dataclass(frozen=True)
class BvhReadReport:
    """What `read_bvh` found out about a file, or was told.

    Attributes:
        rig: name of the rig, or "mapping" where the caller gave every joint.
        fps: frames per second.
        unit: key of `METRES_PER_UNIT`.
        up_axis: "y" or "z".
        up_axis_share: how much of the way from ankles to neck lies along the up axis; near 1 for an upright body.
        num_frames: number of frames.
    """

    rig: str
    fps: float
    unit: str
    up_axis: str
    up_axis_share: float
    num_frames: int


def read_bvh(
    path: str | os.PathLike[str],
    *,
    mapping: Mapping[str, JointSource] | None = None,
    fps: float | None = None,
    unit: str | None = None,
    up_axis: str | None = None,
) -> Motion:
    """Read a BVH file of a known rig, or of any rig with a mapping.

    What is not given is detected and reported to the log at level INFO, doubtful guesses at WARNING.

    Args:
        path: the file.
        mapping: sources of HumanML3D joints by name, as {"left_hip": "LeftThigh", "spine2": {"Spine": 0.4,
            "Chest": 0.6}}; see `lamp_hf.motion.rigs.resolve_mapping`.
        fps: frames per second, in place of the file's.
        unit: unit of the file's positions: "m", "cm", "mm", "inch" or "cmu".
        up_axis: "y" or "z".

    Returns:
        A motion of the 22 joints of HumanML3D in metres, Y up, at the file's frame rate.

    Raises:
        FileNotFoundError: there is no such file.
        MotionFormatError: the file is damaged or too large, or its rig, unit or size cannot be made out.
    """
    return read_bvh_with_report(path, mapping=mapping, fps=fps, unit=unit, up_axis=up_axis)[0]


def read_bvh_with_report(
    path: str | os.PathLike[str],
    *,
    mapping: Mapping[str, JointSource] | None = None,
    fps: float | None = None,
    unit: str | None = None,
    up_axis: str | None = None,
) -> tuple[Motion, BvhReadReport]:
    """Read a BVH file as `read_bvh` does, and say what was detected."""
    name = Path(path).name
    if unit is not None and unit not in METRES_PER_UNIT:
        raise MotionFormatError(
            f"{name}: expected unit to be one of {', '.join(METRES_PER_UNIT)}, got {unit!r}"
        )
    if up_axis not in (None, "y", "z"):
        raise MotionFormatError(f"{name}: expected up_axis to be 'y' or 'z', got {up_axis!r}")
    if fps is not None and not MIN_FPS <= fps <= MAX_FPS:
        raise MotionFormatError(f"{name}: expected fps from {MIN_FPS:g} to {MAX_FPS:g}, got {fps}")
    clip = parse_bvh(path)
    with np.errstate(over="ignore", invalid="ignore"):
        first = clip.positions(range(len(clip.joint_names)), slice(0, 1))[0]
        if not np.isfinite(first).all():
            raise MotionFormatError(f"{name}: joint positions of the first frame are not finite")
        rig = resolve_mapping(Hierarchy(clip.joint_names, clip.parents, first), mapping, file_name=name)
        if unit is None:
            unit = detect_unit(np.matmul(rig.weights, first[list(rig.sources)]))
            if unit is None:
                raise MotionFormatError(
                    f"{name}: the legs have human length in none of {', '.join(METRES_PER_UNIT)} "
                    "(check the rig, or pass unit=)"
                )
        joints = _map_frames(clip, rig, METRES_PER_UNIT[unit])
    bad = ~(np.abs(joints) < _LARGEST_M).all(axis=(1, 2))
    if bad.any():
        raise MotionFormatError(
            f"{name}: frame {int(np.argmax(bad)) + 1} has a joint more than {_LARGEST_M:g} m away (damaged values?)"
        )
    detected_axis, share = detect_up_axis(joints[:: max(1, len(joints) // 200)])
    if up_axis is None:
        up_axis = detected_axis
        if share < 0.7:
            logger.warning(
                "%s: the body does not stand; taking %s as up (pass up_axis= if wrong)", name, up_axis
            )
    if up_axis == "z":
        joints = np.stack([joints[..., 0], joints[..., 2], -joints[..., 1]], axis=-1)
    report = BvhReadReport(rig.rig, fps or clip.fps, unit, up_axis, share, clip.num_frames)
    logger.info(
        "%s: rig %s, %d frames at %g fps, unit %s, %s up",
        *(name, report.rig, report.num_frames, report.fps, report.unit, report.up_axis),
    )
    return Motion(joints=joints, fps=report.fps, name=Path(path).stem), report


def _map_frames(clip: BvhClip, rig: RigMapping, metres_per_unit: float) -> np.ndarray:
    """Joints (T, 22, 3) in metres; long files go in pieces to spare memory."""
    joints = np.empty((clip.num_frames, len(rig.weights), 3), dtype=np.float32)
    for start in range(0, clip.num_frames, _CHUNK_FRAMES):
        frames = slice(start, start + _CHUNK_FRAMES)
        joints[frames] = rig.apply(clip.positions(rig.sources, frames), metres_per_unit)
    return joints
