"""Read motions from glTF 2.0: GLB and glTF files with an animated skeleton, and VRM animations (VRMA)."""

import json
import logging
import os
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lamp_hf.motion import rotations
from lamp_hf.motion.errors import MotionFormatError
from lamp_hf.motion.formats.detection import check_unit_and_up_axis, detect
from lamp_hf.motion.formats.rigs import Hierarchy, JointSource, depth_first, resolve_mapping
from lamp_hf.motion.limits import LARGEST_M, MAX_FRAMES, check_fps
from lamp_hf.motion.motion import Motion

__all__ = ["read_gltf"]

logger = logging.getLogger(__name__)

_MAX_BYTES = 512 * 2**20
_MAX_NODES = 20_000
_MAX_JSON = 64 * 2**20
_CHUNK_FRAMES = 2048
_SAMPLE_POSES = 48
_RATES = (30.0, 24.0, 60.0, 25.0, 20.0, 50.0, 48.0, 120.0, 100.0, 90.0, 240.0, 12.0, 12.5, 15.0, 10.0)
_TYPES = {5120: "i1", 5121: "u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_LARGEST_INTEGER = {5120: 127.0, 5121: 255.0, 5122: 32767.0, 5123: 65535.0}
_COLUMNS = {"SCALAR": 1, "VEC3": 3, "VEC4": 4, "MAT4": 16}
_LISTED = 8  # maximum number of animation names in a message
_COMPRESSED = ("EXT_meshopt_compression", "KHR_meshopt_compression")


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
    file = _File(path)
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


class Curve:
    """Animated property of a node: keys and their interpolation."""

    def __init__(self, node: int, kind: str, times: np.ndarray, values: np.ndarray, interpolation: str) -> None:
        self.node, self.kind, self.times = node, kind, times
        self.interpolation = interpolation
        self.tangents = None
        if interpolation == "CUBICSPLINE":
            values = values.reshape(len(times), 3, -1)
            self.tangents = values[:, 0], values[:, 2]
            values = values[:, 1]
        self.values = values

    def at(self, times: np.ndarray) -> np.ndarray:
        """Return the values (T, C) at times (T,)."""
        if len(self.times) == 1:
            return np.repeat(self.values, len(times), axis=0)
        after = np.clip(np.searchsorted(self.times, times, side="right"), 1, len(self.times) - 1)
        before = after - 1
        gap = np.maximum(self.times[after] - self.times[before], 1e-9)
        share = np.clip((times - self.times[before]) / gap, 0.0, 1.0)
        low, high = self.values[before], self.values[after]
        if self.interpolation == "STEP":
            # Key times are float32, so a key that belongs to a frame may be slightly late.
            return np.where((share > 0.99)[:, None], high, low)
        if self.tangents is not None:
            t, d = share[:, None], gap[:, None]
            out, into = self.tangents[1][before], self.tangents[0][after]
            return np.asarray(
                (2 * t**3 - 3 * t**2 + 1) * low
                + (t**3 - 2 * t**2 + t) * d * out
                + (-2 * t**3 + 3 * t**2) * high
                + (t**3 - t**2) * d * into
            )
        if self.kind == "rotation":
            return rotations.slerp(low, high, share)
        return np.asarray(low + (high - low) * share[:, None])


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


class _File:
    """Nodes, animations and arrays of a glTF file."""

    def __init__(self, path: Path) -> None:
        import pygltflib

        self._path = path
        self.name = path.name
        if path.stat().st_size > _MAX_BYTES:
            raise MotionFormatError(f"{self.name}: {path.stat().st_size} bytes; at most {_MAX_BYTES} are allowed")
        binary = _check_container(path)
        try:  # select the loader by content; the library's `load` uses the suffix
            library = pygltflib.GLTF2()
            self.gltf: pygltflib.GLTF2 = library.load_binary(str(path)) if binary else library.load_json(str(path))
            if self.gltf is None:
                raise ValueError("it is empty")
            self._check_nodes()
        except MotionFormatError:
            raise
        except Exception as error:  # the library raises many types for damaged JSON
            raise MotionFormatError(f"{self.name}: not a readable glTF file ({error})") from error
        self._buffers: dict[int, bytes] = {}

    def _check_nodes(self) -> None:
        nodes = self.gltf.nodes or []
        if not nodes or len(nodes) > _MAX_NODES:
            raise MotionFormatError(f"{self.name}: expected 1 to {_MAX_NODES} nodes, found {len(nodes)}")
        self.parents = [-1] * len(nodes)
        for index, node in enumerate(nodes):
            for child in node.children or []:
                if not 0 <= child < len(nodes) or self.parents[child] >= 0 or child == index:
                    raise MotionFormatError(f"{self.name}: node {index} has an invalid child {child}")
                self.parents[child] = index
        self.order = depth_first(self.parents)
        if len(self.order) < len(nodes):
            raise MotionFormatError(f"{self.name}: the nodes form a cycle")

    # ---- contents of the file -----------------------------------------------------------------------------

    def choose_animation(self, wanted: str | int | None) -> Any:
        """Return the animation with a name or an index."""
        animations = self.gltf.animations or []
        if not animations:
            raise MotionFormatError(
                f"{self.name}: the file does not contain an animation (only a figure? export it with its animation)"
            )
        titles = [animation.name or f"animation {index}" for index, animation in enumerate(animations)]
        listed = ", ".join(map(repr, titles[:_LISTED])) + (
            f" and {len(titles) - _LISTED} more" if len(titles) > _LISTED else ""
        )
        if wanted is None:
            if len(animations) > 1:
                logger.warning(
                    "%s: %d animations; using the first, %r (choose with animation= in Motion.load: %s)",
                    *(self.name, len(animations), titles[0], listed),
                )
            return animations[0]
        if isinstance(wanted, int) and not isinstance(wanted, bool) and 0 <= wanted < len(animations):
            return animations[wanted]
        if wanted in titles:
            return animations[titles.index(str(wanted))]
        raise MotionFormatError(f"{self.name}: no animation {wanted!r}; the file contains {listed}")

    def channels(self, animation: Any) -> list[Curve]:
        """Return the curves that move nodes."""
        curves = []
        try:
            for channel in animation.channels:
                kind, node = channel.target.path, channel.target.node
                if node is None or kind not in ("translation", "rotation", "scale"):
                    continue
                sampler = animation.samplers[channel.sampler]
                times = self._array(sampler.input, "SCALAR")[:, 0]
                values = self._array(sampler.output, "VEC4" if kind == "rotation" else "VEC3")
                interpolation = sampler.interpolation or "LINEAR"
                if interpolation not in ("LINEAR", "STEP", "CUBICSPLINE"):
                    raise MotionFormatError(f"{self.name}: interpolation {interpolation!r} is not supported")
                expected = len(times) * (3 if interpolation == "CUBICSPLINE" else 1)
                if not len(times) or len(values) != expected or not 0 <= node < len(self.parents):
                    raise MotionFormatError(
                        f"{self.name}: {len(times)} keys with {len(values)} values for node {node} (damaged?)"
                    )
                if not np.isfinite(times).all() or (np.diff(times) < 0).any() or not np.isfinite(values).all():
                    raise MotionFormatError(f"{self.name}: keys of node {node} are out of order or not finite")
                if kind == "rotation":
                    values = values[:, [3, 0, 1, 2]]  # glTF has w last
                curves.append(Curve(node, kind, times, values, interpolation))
        except MotionFormatError:
            raise
        except (TypeError, AttributeError, IndexError, ValueError, KeyError) as error:
            raise MotionFormatError(f"{self.name}: the animation is damaged ({error})") from error
        if not curves:
            raise MotionFormatError(f"{self.name}: the animation does not move any node (only morph targets?)")
        return curves

    def joints(self) -> tuple[list[int], list[str]]:
        """Return candidate joints, parents first, and their names: human bones, joints of skins, or all nodes."""
        nodes = self.gltf.nodes
        names = {index: str(node.name or f"node {index}") for index, node in enumerate(nodes)}
        bones = self._human_bones()
        joints: set[int] = set(bones)
        if not joints:
            for skin in self.gltf.skins or []:
                joints.update(joint for joint in skin.joints or [] if 0 <= joint < len(nodes))
        if not joints:
            joints = set(range(len(nodes)))
        names.update(bones)
        chosen = [index for index in self.order if index in joints]
        return chosen, [names[index] for index in chosen]

    def _human_bones(self) -> dict[int, str]:
        """Return Unity's names of the nodes that a VRM (0 or 1) or VRMA file declares as human bones."""
        extensions = self.gltf.extensions or {}
        bones: dict[int, str] = {}
        try:
            for key in ("VRMC_vrm_animation", "VRMC_vrm"):
                for bone, value in extensions.get(key, {}).get("humanoid", {}).get("humanBones", {}).items():
                    bones[int(value["node"])] = bone[:1].upper() + bone[1:]
            for value in extensions.get("VRM", {}).get("humanoid", {}).get("humanBones", []):
                bones[int(value["node"])] = value["bone"][:1].upper() + value["bone"][1:]
        except (TypeError, AttributeError, KeyError, ValueError) as error:
            raise MotionFormatError(
                f"{self.name}: the human bones of the VRM extension are damaged ({error})"
            ) from error
        if any(not 0 <= node < len(self.parents) for node in bones):
            raise MotionFormatError(f"{self.name}: a human bone of the VRM extension is not an existing node")
        return bones

    def parents_within(self, joints: Sequence[int]) -> list[int]:
        """Return, for each joint, the index of its closest ancestor among the joints; -1 if there is none."""
        place = {joint: index for index, joint in enumerate(joints)}
        result = []
        for joint in joints:
            parent = self.parents[joint]
            while parent >= 0 and parent not in place:
                parent = self.parents[parent]
            result.append(place.get(parent, -1))
        return result

    # ---- positions ----------------------------------------------------------------------------------------

    def positions(self, joints: Sequence[int], curves: Sequence[Curve], times: np.ndarray) -> np.ndarray:
        """Compute world positions (T, len(joints), 3) of nodes at times (T,)."""
        needed: set[int] = set()
        for joint in joints:
            while joint >= 0 and joint not in needed:
                needed.add(joint)
                joint = self.parents[joint]
        moved: dict[int, dict[str, np.ndarray]] = {}
        for curve in curves:
            if curve.node in needed:
                moved.setdefault(curve.node, {})[curve.kind] = curve.at(times)
        world: dict[int, np.ndarray] = {}
        for index in self.order:
            if index in needed:
                local = self._local(index, moved.get(index, {}))
                parent = self.parents[index]
                world[index] = local if parent < 0 else np.matmul(world[parent], local)
        shape = (len(times), 3)
        return np.stack([np.broadcast_to(world[joint][..., :3, 3], shape) for joint in joints], axis=1)

    def _local(self, index: int, moved: Mapping[str, np.ndarray]) -> np.ndarray:
        """Compute local matrices (T, 4, 4), or (4, 4) for a node that is not animated."""
        node = self.gltf.nodes[index]
        try:
            shift = np.asarray(node.translation or (0.0, 0.0, 0.0), dtype=np.float64)
            x, y, z, w = node.rotation or (0.0, 0.0, 0.0, 1.0)
            turn = np.asarray((w, x, y, z), dtype=np.float64)
            size = np.asarray(node.scale or (1.0, 1.0, 1.0), dtype=np.float64)
            if node.matrix is not None:
                matrix = np.asarray(node.matrix, dtype=np.float64).reshape(4, 4).T
                if not moved:
                    return matrix
                # glTF does not allow animated matrices; programs that write them expect readers to decompose them.
                shift, size = matrix[:3, 3], np.linalg.norm(matrix[:3, :3], axis=0)
                turn = rotations.from_matrix(matrix[:3, :3] / np.maximum(size, 1e-12))
            shift, turn, size = (
                moved.get(kind, value) for kind, value in (("translation", shift), ("rotation", turn), ("scale", size))
            )
            frames = max((len(values) for values in moved.values()), default=0)
            local = np.zeros((*((frames,) if frames else ()), 4, 4))
            turned = rotations.to_matrix(rotations.normalize(turn, fallback=(1.0, 0.0, 0.0, 0.0)))
            local[..., :3, :3] = turned * size[..., None, :]
            local[..., :3, 3] = shift
            local[..., 3, 3] = 1.0
        except (TypeError, ValueError) as error:
            raise MotionFormatError(f"{self.name}: node {index} is damaged ({error})") from error
        return local

    # ---- arrays -------------------------------------------------------------------------------------------

    def _array(self, index: int, shape: str) -> np.ndarray:
        """Read the values (N, columns) of an accessor as float64."""
        if not isinstance(index, int) or not 0 <= index < len(self.gltf.accessors):
            raise MotionFormatError(f"{self.name}: there is no accessor {index!r}")
        accessor = self.gltf.accessors[index]
        where = f"{self.name}: accessor {index}"
        if accessor.type != shape or accessor.componentType not in _TYPES:
            raise MotionFormatError(f"{where}: expected numbers of type {shape}, found {accessor.type}")
        if accessor.sparse is not None or accessor.bufferView is None:
            raise MotionFormatError(f"{where}: sparse arrays are not supported (export the file without them)")
        view = self.gltf.bufferViews[accessor.bufferView]
        if any(extension in (view.extensions or {}) for extension in _COMPRESSED):
            raise MotionFormatError(
                f"{where}: compressed arrays are not supported (gltf-transform copy IN OUT decompresses them)"
            )
        dtype = np.dtype(_TYPES[accessor.componentType])
        columns = _COLUMNS[shape]
        stride = view.byteStride or dtype.itemsize * columns
        count, start = accessor.count, (view.byteOffset or 0) + (accessor.byteOffset or 0)
        data = self._buffer(view.buffer)
        if not (0 < count <= 50_000_000 and start >= 0 and stride >= dtype.itemsize * columns):
            raise MotionFormatError(f"{where}: {count} values are missing (damaged?)")
        if start + (count - 1) * stride + dtype.itemsize * columns > len(data):
            raise MotionFormatError(f"{where}: its values extend beyond the end of the file (truncated?)")
        with np.errstate(invalid="ignore"):  # callers refuse damaged numbers
            values = np.ndarray((count, columns), dtype, data, start, (stride, dtype.itemsize)).astype(np.float64)
        if accessor.normalized and accessor.componentType in _LARGEST_INTEGER:
            values = np.maximum(values / _LARGEST_INTEGER[accessor.componentType], -1.0)
        return values

    def _buffer(self, index: int) -> bytes:
        if index not in self._buffers:
            buffer = self.gltf.buffers[index]
            if buffer.uri is None:
                data = self.gltf.binary_blob() or b""
            elif buffer.uri.startswith("data:"):
                data = self.gltf.get_data_from_buffer_uri(buffer.uri)
            else:
                beside = (self._path.parent / buffer.uri).resolve()
                if beside.parent != self._path.parent.resolve() or not beside.is_file():
                    raise MotionFormatError(f"{self.name}: its buffer {buffer.uri[:80]!r} is not in the same folder")
                if beside.stat().st_size > _MAX_BYTES:
                    raise MotionFormatError(f"{self.name}: its buffer {buffer.uri[:80]!r} is too large")
                data = beside.read_bytes()
            self._buffers[index] = bytes(data)
        return self._buffers[index]


def _check_container(path: Path) -> bool:
    """Check that a file is glTF before a library reads it, and return whether it is binary."""
    with path.open("rb") as file:
        head = file.read(20)
        if head[:4] == b"glTF":
            if len(head) < 20:
                raise MotionFormatError(f"{path.name}: not a readable glTF file (truncated)")
            version, _, size, kind = struct.unpack("<III4s", head[4:20])
            if version != 2 or kind != b"JSON" or size > _MAX_JSON:
                raise MotionFormatError(f"{path.name}: expected binary glTF 2.0, found version {version}")
            text = file.read(size)
            if len(text) < size:
                raise MotionFormatError(f"{path.name}: not a readable glTF file (truncated)")
        else:
            text = head + file.read(_MAX_JSON)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MotionFormatError(f"{path.name}: not a readable glTF file ({error})") from error
    if not isinstance(content, dict) or "asset" not in content:
        raise MotionFormatError(f"{path.name}: not a glTF file (it has no 'asset')")
    return head[:4] == b"glTF"
