"""Open a glTF 2.0 file (GLB, glTF, VRM or VRMA): its nodes, human bones, animations and arrays."""

import base64
import json
import logging
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lamp_hf.motion import rotations
from lamp_hf.motion.errors import MotionFormatError
from lamp_hf.motion.formats.hierarchy import depth_first

__all__ = ["Curve", "GltfFile"]

logger = logging.getLogger(__name__)

_MAX_BYTES = 512 * 2**20
_MAX_NODES = 20_000
_MAX_JSON = 64 * 2**20
_TYPES = {5120: "i1", 5121: "u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_LARGEST_INTEGER = {5120: 127.0, 5121: 255.0, 5122: 32767.0, 5123: 65535.0}
_COLUMNS = {"SCALAR": 1, "VEC3": 3, "VEC4": 4, "MAT4": 16}
_LISTED = 8  # maximum number of animation names in a message
_COMPRESSED = ("EXT_meshopt_compression", "KHR_meshopt_compression")


class _Record(dict[str, Any]):
    """A JSON object whose values are attributes too; a missing one is None."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self.get(name)


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


class GltfFile:
    """Nodes, animations and arrays of a glTF file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.name = path.name
        if path.stat().st_size > _MAX_BYTES:
            raise MotionFormatError(f"{self.name}: {path.stat().st_size} bytes; at most {_MAX_BYTES} are allowed")
        content, self._binary = _open_container(path)
        self.gltf = _Record(content)
        self._check_lists()
        self._check_nodes()
        self._buffers: dict[int, bytes] = {}

    def _check_lists(self) -> None:
        for kind in ("nodes", "skins", "meshes", "animations", "accessors", "bufferViews", "buffers"):
            values = self.gltf.setdefault(kind, [])
            if not isinstance(values, list) or not all(isinstance(value, _Record) for value in values):
                raise MotionFormatError(f"{self.name}: not a readable glTF file ({kind} is not a list of objects)")
        lists = [node.children or [] for node in self.gltf.nodes] + [skin.joints or [] for skin in self.gltf.skins]
        if not all(isinstance(one, list) and all(isinstance(number, int) for number in one) for one in lists):
            raise MotionFormatError(f"{self.name}: not a readable glTF file (children or joints are not numbers)")

    def _check_nodes(self) -> None:
        nodes = self.gltf.nodes
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
        animations = self.gltf.animations
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
                times = self.array(sampler.input, "SCALAR")[:, 0]
                values = self.array(sampler.output, "VEC4" if kind == "rotation" else "VEC3")
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
        bones = self.human_bones()
        joints: set[int] = set(bones)
        if not joints:
            for skin in self.gltf.skins:
                joints.update(joint for joint in skin.joints or [] if 0 <= joint < len(nodes))
        if not joints:
            joints = set(range(len(nodes)))
        names.update(bones)
        chosen = [index for index in self.order if index in joints]
        return chosen, [names[index] for index in chosen]

    def human_bones(self) -> dict[int, str]:
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
                local = self.local(index, moved.get(index, {}))
                parent = self.parents[index]
                world[index] = local if parent < 0 else np.matmul(world[parent], local)
        shape = (len(times), 3)
        return np.stack([np.broadcast_to(world[joint][..., :3, 3], shape) for joint in joints], axis=1)

    def local(self, index: int, moved: Mapping[str, np.ndarray]) -> np.ndarray:
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

    def array(self, index: int, shape: str) -> np.ndarray:
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
                data = self._binary
            elif buffer.uri.startswith("data:"):
                data = base64.b64decode(buffer.uri.partition(",")[2])
            else:
                beside = (self._path.parent / buffer.uri).resolve()
                if beside.parent != self._path.parent.resolve() or not beside.is_file():
                    raise MotionFormatError(f"{self.name}: its buffer {buffer.uri[:80]!r} is not in the same folder")
                if beside.stat().st_size > _MAX_BYTES:
                    raise MotionFormatError(f"{self.name}: its buffer {buffer.uri[:80]!r} is too large")
                data = beside.read_bytes()
            self._buffers[index] = bytes(data)
        return self._buffers[index]


def _open_container(path: Path) -> tuple[dict[str, Any], bytes]:
    """Return the JSON of a glTF file, whose objects are records, and its binary chunk, empty if there is none."""
    binary = b""
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
            chunk = file.read(8)
            if len(chunk) == 8 and chunk[4:] == b"BIN\0":
                binary = file.read(struct.unpack("<I", chunk[:4])[0])
        else:
            text = head + file.read(_MAX_JSON)
    try:
        content = json.loads(text, object_hook=_Record)
    except (ValueError, RecursionError) as error:
        raise MotionFormatError(f"{path.name}: not a readable glTF file ({error})") from error
    if not isinstance(content, dict) or "asset" not in content:
        raise MotionFormatError(f"{path.name}: not a glTF file (it has no 'asset')")
    return content, binary
