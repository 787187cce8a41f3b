"""Read motions from glTF 2.0: GLB and glTF files with an animated skeleton, and VRM animations (VRMA)."""

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from lamp_hf.motion.errors import MotionFormatError
from lamp_hf.motion.formats.detection import check_unit_and_up_axis, detect
from lamp_hf.motion.formats.gltf_file import Curve, GltfFile
from lamp_hf.motion.formats.rigs import Hierarchy, JointSource, resolve_mapping
from lamp_hf.motion.limits import LARGEST_M, MAX_FRAMES, check_fps
from lamp_hf.motion.motion import Motion

__all__ = ["read_gltf"]

logger = logging.getLogger(__name__)

_CHUNK_FRAMES = 2048
_SAMPLE_POSES = 48
_RATES = (30.0, 24.0, 60.0, 25.0, 20.0, 50.0, 48.0, 120.0, 100.0, 90.0, 240.0, 12.0, 12.5, 15.0, 10.0)


def read_gltf(
    path: str | os.PathLike[str],
    *,
    animation: str | int | None = None,
    mapping: Mapping[str, JointSource] | None = None,
    fps: float | None = None,
    unit: str | None = None,
    up_axis: str | None = None,
    strict: bool = False,
) -> Motion:
    """Read an animation of a person with any rig from a GLB, glTF, VRM or VRMA file.

    The animation is sampled at frames of a constant rate. Linear, step and cubic spline keys are interpolated as glTF
    2.0 specifies.

    Args:
        path: the file. The buffers of a glTF file must be embedded in it or in the same folder.
        animation: name or index of the animation; defaults to the first. If there are several, they are logged.
        mapping: sources of HumanML3D joints by name, as for BVH files.
        fps: frames per second of the motion; defaults to the rate of the keys.
        unit: unit of positions, as for BVH files; detected by default. glTF requires meters, but some files differ.
        up_axis: up axis, as for BVH files; detected by default. glTF requires Y.
        strict: refuse files that can only be read with a doubtful guess.

    Returns:
        A motion of the 22 joints of HumanML3D in meters, Y up.

    Raises:
        FileNotFoundError: the file does not exist.
        MotionFormatError: the file is damaged or too large, or does not contain an animation of a person.
    """
    path = Path(path)
    name = path.name
    check_unit_and_up_axis(unit, up_axis, name)
    if fps is not None:
        try:
            check_fps(fps)
        except MotionFormatError as error:
            raise MotionFormatError(f"{name}: {error}") from error
    file = GltfFile(path)
    chosen = file.choose_animation(animation)
    channels = file.channels(chosen)
    start, end = _span(channels, name)
    if fps is None:
        fps = _rate_of_keys(channels, name)
    num_frames = max(1, round((end - start) * fps) + 1)
    if num_frames > MAX_FRAMES:
        raise MotionFormatError(
            f"{name}: {end - start:g} s at {fps:g} fps are {num_frames} frames; at most {MAX_FRAMES} are "
            "allowed (pass a lower fps=)"
        )
    times = start + np.arange(num_frames) / fps
    joints, names = file.joints()
    parents = file.parents_within(joints)
    sample = times[:: max(1, num_frames // _SAMPLE_POSES)]
    with np.errstate(all="ignore"):
        poses = file.positions(joints, channels, sample)
        rest = file.positions(joints, [], times[:1])[0]
        if not (np.isfinite(poses).all() and np.isfinite(rest).all()):
            raise MotionFormatError(f"{name}: joint positions are not finite (damaged values?)")
        hierarchy = Hierarchy(names, parents, poses, rest)
        rig = resolve_mapping(hierarchy, mapping, file_name=name, strict=strict)
        sources = list(rig.sources)
        detection = detect(
            np.matmul(rig.weights, poses[:, sources]),
            rest=np.matmul(rig.weights, rest[sources]),
            unit=unit,
            up_axis=up_axis,
            usual_unit="m",
            file_name=name,
            strict=strict,
        )
        wanted = [joints[source] for source in sources]
        result = np.empty((num_frames, len(rig.weights), 3), dtype=np.float32)
        for first in range(0, num_frames, _CHUNK_FRAMES):
            part = slice(first, first + _CHUNK_FRAMES)
            placed = rig.apply(file.positions(wanted, channels, times[part]), detection.meters_per_unit)
            result[part] = detection.turn(placed)
    bad = ~(np.abs(result) < LARGEST_M).all(axis=(1, 2))
    if bad.any():
        raise MotionFormatError(
            f"{name}: frame {int(np.argmax(bad)) + 1} has a joint more than {LARGEST_M:g} m away (damaged values?)"
        )
    logger.info("%s: rig %s, %d frames at %g fps, %s", name, rig.rig, num_frames, fps, detection)
    return Motion(joints=result, fps=fps, name=path.stem)


def _span(channels: Sequence[Curve], name: str) -> tuple[float, float]:
    start = min(float(curve.times[0]) for curve in channels)
    end = max(float(curve.times[-1]) for curve in channels)
    if not 0.0 <= end - start <= MAX_FRAMES:
        raise MotionFormatError(f"{name}: the keys range from {start:g} s to {end:g} s (damaged values?)")
    return start, end


def _rate_of_keys(channels: Sequence[Curve], name: str) -> float:
    """Find the frame rate at which all keys are on frames: from their usual interval, else a common rate, else 30."""
    densest = max(channels, key=lambda curve: len(curve.times))
    steps = np.diff(densest.times)
    steps = steps[steps > 1e-5]
    start = min(float(curve.times[0]) for curve in channels)
    keys = np.unique(np.concatenate([curve.times for curve in channels])) - start
    # A rate that is too low would lose the motion between cubic keys.
    slowest = 20.0 if any(curve.interpolation == "CUBICSPLINE" for curve in channels) else 1.0
    usual = [rate for rate in _RATES if len(steps) and abs(rate * float(np.median(steps)) - 1.0) < 0.02]
    for rate in (*usual, *_RATES):
        frames = keys * rate
        if rate >= slowest and np.abs(frames - np.round(frames)).max(initial=0.0) < 0.05:
            return rate
    if usual:
        return usual[0]
    logger.warning(
        "%s: the keys have no common frame rate; they are sampled at 30 fps (pass fps= to change this)", name
    )
    return 30.0
