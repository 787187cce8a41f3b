"""Read and write BVH, the motion capture format that Blender, Unity and MotionBuilder exchange."""

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lamp_hf.files import atomic_path
from lamp_hf.motion import rotations
from lamp_hf.motion.errors import MotionFormatError
from lamp_hf.motion.feet import planted_kinematics
from lamp_hf.motion.formats.bvh_parser import BvhClip, parse_bvh
from lamp_hf.motion.formats.detection import METERS_PER_UNIT, Detection, check_unit_and_up_axis, detect
from lamp_hf.motion.formats.rigs import (
    LAMP_HF_JOINT_NAMES,
    Hierarchy,
    JointSource,
    RigMapping,
    depth_first,
    resolve_mapping,
)
from lamp_hf.motion.kinematics import forward_kinematics
from lamp_hf.motion.limits import MAX_FPS, MIN_FPS
from lamp_hf.motion.motion import Motion
from lamp_hf.motion.skeleton import HUMANML3D_22

logger = logging.getLogger(__name__)

_CHUNK_FRAMES = 4096
_SAMPLE_POSES = 48  # frames from which shape, size and orientation are detected
_CMU_JOINT = "LHipJoint"  # only the rig of the CMU database has this joint
_LARGEST_M = 1e4  # a joint farther away than 10 km comes from damaged values


@dataclass(frozen=True)
class BvhReadReport:
    """Detected or given properties of a BVH file.

    Attributes:
        rig: name of the rig, "mapping" if the caller mapped every joint, or a description of how it was recognized.
        recognized_by: "list", "names", "shape" or "mapping"; see `lamp_hf.motion.formats.rigs.RigMapping`.
        sources: for each of the 22 joints, the joints of the file from which it is computed.
        fps: frames per second.
        unit: key of `METERS_PER_UNIT`.
        up_axis: one of `lamp_hf.motion.formats.detection.UP_AXES`.
        up_axis_share: mean share of the vector from ankles to neck along the up axis; near 1 if upright.
        num_frames: number of frames.
        detection: unit, up axis and handedness with their evidence.
        warnings: descriptions of repairs and guesses.
    """

    rig: str
    recognized_by: str
    sources: Mapping[str, tuple[str, ...]]
    fps: float
    unit: str
    up_axis: str
    up_axis_share: float
    num_frames: int
    detection: Detection
    warnings: tuple[str, ...]


def read_bvh(
    path: str | os.PathLike[str],
    *,
    mapping: Mapping[str, JointSource] | None = None,
    fps: float | None = None,
    unit: str | None = None,
    up_axis: str | None = None,
    strict: bool = False,
) -> Motion:
    """Read a BVH file of a person with any rig.

    Options that are not passed are detected and logged at level INFO. Guesses and repairs are logged at WARNING.

    Args:
        path: the file.
        mapping: sources of HumanML3D joints by name, such as {"left_hip": "LeftThigh", "spine2": {"Spine": 0.4,
            "Chest": 0.6}}; see `lamp_hf.motion.formats.rigs.resolve_mapping`.
        fps: frames per second; overrides the file's frame time.
        unit: unit of the file's positions: "m", "dm", "cm", "mm", "inch", "foot" or "cmu".
        up_axis: "x", "-x", "y", "-y", "z" or "-z".
        strict: refuse files that need a repair or a doubtful guess.

    Returns:
        A motion of the 22 joints of HumanML3D in meters, Y up, at the file's frame rate.

    Raises:
        FileNotFoundError: the file does not exist.
        MotionFormatError: the file is damaged or too large, or its rig, unit or size cannot be determined.
    """
    return read_bvh_with_report(path, mapping=mapping, fps=fps, unit=unit, up_axis=up_axis, strict=strict)[0]


def read_bvh_with_report(
    path: str | os.PathLike[str],
    *,
    mapping: Mapping[str, JointSource] | None = None,
    fps: float | None = None,
    unit: str | None = None,
    up_axis: str | None = None,
    strict: bool = False,
) -> tuple[Motion, BvhReadReport]:
    """Read a BVH file like `read_bvh`, and also return what was detected."""
    name = Path(path).name
    check_unit_and_up_axis(unit, up_axis, name)
    if fps is not None and not MIN_FPS <= fps <= MAX_FPS:
        raise MotionFormatError(f"{name}: expected fps from {MIN_FPS:g} to {MAX_FPS:g}, got {fps}")
    clip = parse_bvh(path, fps=fps, strict=strict)
    with np.errstate(over="ignore", invalid="ignore"):
        poses = clip.positions(range(len(clip.joint_names)), slice(0, None, max(1, clip.num_frames // _SAMPLE_POSES)))
        if not np.isfinite(poses).all():
            raise MotionFormatError(f"{name}: joint positions are not finite (damaged values?)")
        hierarchy = Hierarchy(clip.joint_names, clip.parents, poses, clip.rest_positions())
        rig = resolve_mapping(hierarchy, mapping, file_name=name, strict=strict)
        sources = list(rig.sources)
        detection = detect(
            np.matmul(rig.weights, poses[:, sources]),
            rest=None
            if hierarchy.rest_positions is None
            else np.matmul(rig.weights, hierarchy.rest_positions[sources]),
            unit=unit,
            up_axis=up_axis,
            usual_unit=None if hierarchy.find(_CMU_JOINT) is None else "cmu",
            file_name=name,
            strict=strict,
        )
        joints = _map_frames(clip, rig, detection.meters_per_unit)
    bad = ~(np.abs(joints) < _LARGEST_M).all(axis=(1, 2))
    if bad.any():
        raise MotionFormatError(
            f"{name}: frame {int(np.argmax(bad)) + 1} has a joint more than {_LARGEST_M:g} m away (damaged values?)"
        )
    report = BvhReadReport(
        rig=rig.rig,
        recognized_by=rig.recognized_by,
        sources=rig.source_names(clip.joint_names),
        fps=clip.fps,
        unit=detection.unit,
        up_axis=detection.up_axis,
        up_axis_share=detection.up_axis_share,
        num_frames=clip.num_frames,
        detection=detection,
        warnings=(*clip.warnings, *rig.guesses, *detection.doubts),
    )
    logger.info("%s: rig %s, %d frames at %g fps, %s", name, report.rig, report.num_frames, report.fps, detection)
    return Motion(joints=detection.turn(joints), fps=report.fps, name=Path(path).stem), report


def _map_frames(clip: BvhClip, rig: RigMapping, meters_per_unit: float) -> np.ndarray:
    """Compute joints (T, 22, 3) in meters, in chunks to limit memory."""
    joints = np.empty((clip.num_frames, len(rig.weights), 3), dtype=np.float32)
    for start in range(0, clip.num_frames, _CHUNK_FRAMES):
        frames = slice(start, start + _CHUNK_FRAMES)
        joints[frames] = rig.apply(clip.positions(rig.sources, frames), meters_per_unit)
    return joints


@dataclass(frozen=True)
class BvhWriteReport:
    """Accuracy of a BVH file, whose bone lengths are constant, and its import settings.

    Attributes:
        mean_error_m: mean distance between the file's joints and the motion's, meters.
        max_error_m: largest distance between the file's joints and the motion's, meters.
        unit: unit of the file's positions.
        import_settings: how to import the file in Blender.
    """

    mean_error_m: float
    max_error_m: float
    unit: str
    import_settings: str


def write_bvh(
    motion: Motion,
    path: str | os.PathLike[str],
    *,
    unit: str = "cm",
    own_body: bool | None = None,
    plant_feet: bool | None = None,
) -> BvhWriteReport:
    """Write a motion as BVH: a T-pose with constant bone lengths, and rotations from inverse kinematics.

    Joints have Mixamo's names, which tools for Blender and Unity support. All joints rotate in the order Z, X, Y, since
    some readers apply the order of the first joint to all. How to import the file is logged at level INFO.

    Args:
        motion: the motion.
        path: file to write; it appears only when complete.
        unit: unit of positions: "cm" (usual), "m", "mm" or "inch".
        own_body: whether bones keep the lengths that they have in the motion. Otherwise the file has the body of
            `lamp_hf.motion.kinematics.default_body`; since all such files share it, actions can be exchanged between
            armatures. Defaults to the motion's `own_body`: `True` if it was read from a file, `False` if generated.
        plant_feet: whether to keep feet that stand on the floor in place, see `Motion.plant_feet`. Defaults to `True`
            if the motion was generated, `False` if it was read from a file (`own_body`) or its feet are final.

    Returns:
        The distances between the file's joints and the motion's, after retargeting and foot planting.
    """
    if unit not in METERS_PER_UNIT:
        raise ValueError(f"expected unit among {', '.join(METERS_PER_UNIT)}, got {unit!r}")
    skeleton = motion.skeleton
    names = LAMP_HF_JOINT_NAMES if skeleton == HUMANML3D_22 else skeleton.joint_names
    order = depth_first(skeleton.parents)
    scale = 1.0 / METERS_PER_UNIT[unit]
    local, root, offsets, wanted = planted_kinematics(motion, own_body=own_body, plant_feet=plant_feet)
    error_sum = error_max = 0.0
    row_format = " ".join(["%.5f"] * (3 + 3 * len(order))) + "\n"
    before: np.ndarray | None = None
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8", newline="\n") as stream:
        stream.write("HIERARCHY\n")
        stream.writelines(hierarchy_lines(names, skeleton.parents, offsets * scale, scale))
        stream.write(f"MOTION\nFrames: {len(root)}\nFrame Time: {1.0 / motion.fps:.8f}\n")
        for start in range(0, len(root), _CHUNK_FRAMES):  # in chunks, to limit memory
            part = slice(start, start + _CHUNK_FRAMES)
            made = forward_kinematics(local[part], root[part], offsets, skeleton.parents)
            errors = np.linalg.norm(made - wanted[part], axis=-1)
            error_sum += float(errors.sum())
            error_max = max(error_max, float(errors.max()))
            angles = continuous_euler_degrees(local[part][:, order], "zxy", before)
            before = angles[-1]
            values = np.concatenate([root[part] * scale, angles.reshape(len(angles), -1)], axis=1)
            stream.writelines(row_format % tuple(row) for row in (np.round(values, 5) + 0.0).tolist())
    settings = f"in Blender import it with Scale {METERS_PER_UNIT[unit]:g} and 'Update Scene FPS'"
    logger.info("%s: %s at %g fps; %s", Path(path).name, _UNIT_WORDS.get(unit, unit), motion.fps, settings)
    return BvhWriteReport(error_sum / (len(root) * len(order)), error_max, unit, settings)


_UNIT_WORDS = {
    "cm": "centimeters",
    "m": "meters",
    "mm": "millimeters",
    "inch": "inches",
    "dm": "decimeters",
    "foot": "feet",
}


def hierarchy_lines(
    names: Sequence[str], parents: Sequence[int], offsets: np.ndarray, units_per_meter: float
) -> Iterator[str]:
    """Yield the lines of the hierarchy, each joint followed by its subtree."""
    order = depth_first(parents)
    depth = [0] * len(parents)
    for k, joint in enumerate(order):
        parent = parents[joint]
        depth[joint] = depth[parent] + 1 if parent >= 0 else 0
        indent = "\t" * depth[joint]
        yield f"{indent}{'ROOT' if parent < 0 else 'JOINT'} {names[joint]}\n{indent}{{\n"
        yield f"{indent}\tOFFSET {_vector(offsets[joint])}\n"
        positions = "Xposition Yposition Zposition " if parent < 0 else ""
        yield f"{indent}\tCHANNELS {6 if parent < 0 else 3} {positions}Zrotation Xrotation Yrotation\n"
        if joint not in parents:
            end = _end_offset(names[joint], offsets[joint], units_per_meter)
            yield f"{indent}\tEnd Site\n{indent}\t{{\n{indent}\t\tOFFSET {_vector(end)}\n{indent}\t}}\n"
        next_depth = depth[parents[order[k + 1]]] + 1 if k + 1 < len(order) else 0
        for closed in range(depth[joint], next_depth - 1, -1):
            yield "\t" * closed + "}\n"


def _end_offset(name: str, offset: np.ndarray, units_per_meter: float) -> np.ndarray:
    """Return the end of a bone without children (hand, toe, top of the head), half as long as the bone before."""
    length = float(np.linalg.norm(offset))
    if length == 0.0:  # Blender cannot handle bones of length zero
        return np.array([0.0, 0.01 * units_per_meter, 0.0])
    flat = offset * [1.0, 0.0, 1.0]
    if "toe" in name.lower() and np.linalg.norm(flat) > 0.0:
        offset = flat * (length / np.linalg.norm(flat))  # toes are parallel to the floor, at any slope of the foot
    return offset / 2.0


def _vector(values: np.ndarray) -> str:
    return " ".join(f"{value:.6f}" for value in np.round(values, 6) + 0.0)


def continuous_euler_degrees(quaternions: np.ndarray, order: str, before: np.ndarray | None = None) -> np.ndarray:
    """Convert rotations (T, J, 4) to angles (T, J, 3) in degrees, continuous over time; `order` as in `to_euler`.

    Each rotation corresponds to two sets of angles, up to full turns. Each frame gets the set closest to the previous
    frame: a knee that bends past 90 degrees continues to 95 instead of flipping all three angles. `before` contains the
    angles (J, 3) of the frame before the first.
    """
    first = np.degrees(rotations.to_euler(quaternions, order))
    second = first * [1.0, -1.0, 1.0] + 180.0
    result = first.copy()
    for frame in range(len(result)):
        if frame:
            before = result[frame - 1]
        elif before is None:
            continue
        steps = [(angles[frame] - before + 180.0) % 360.0 - 180.0 for angles in (first, second)]
        shorter = np.abs(steps[0]).sum(axis=-1) <= np.abs(steps[1]).sum(axis=-1)
        result[frame] = before + np.where(shorter[..., None], steps[0], steps[1])
    return result
