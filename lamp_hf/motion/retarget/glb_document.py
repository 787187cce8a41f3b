"""`GlbDocument`: a binary glTF file to which arrays and animations are added while all its bytes stay as they are."""

import base64
import json
import struct
from typing import Any

import numpy as np

__all__ = ["GlbDocument"]

_JSON, _BIN = 0x4E4F534A, 0x004E4942
_FLOAT, _UINT16, _UINT8 = 5126, 5123, 5121
_COMPONENTS = {"float32": _FLOAT, "uint16": _UINT16, "uint8": _UINT8}


class GlbDocument:
    """Content of a GLB file: its JSON and its binary chunk.

    Args:
        data: the file; a new file without nodes if it is empty.
    """

    def __init__(self, data: bytes = b"") -> None:
        self.json: dict[str, Any] = {"asset": {"version": "2.0", "generator": "lamp_hf"}}
        self._binary = b""
        self._others: list[bytes] = []
        self._added = bytearray()
        position = 12
        while position + 8 <= len(data):
            length, kind = struct.unpack_from("<II", data, position)
            content = data[position + 8 : position + 8 + length]
            if kind == _JSON:
                self.json = json.loads(content)
            elif kind == _BIN:
                self._binary = content
            else:
                self._others.append(data[position : position + 8 + length])
            position += 8 + length
        buffers = self.json.get("buffers", [])
        self._own = bool(buffers) and "uri" not in buffers[0]
        # The buffer of the file may be shorter than its chunk, which is padded.
        self._start = min(buffers[0].get("byteLength", 0), len(self._binary)) if self._own else 0

    def add_array(self, values: np.ndarray, shape: str, *, target: int | None = None, bounds: bool = False) -> int:
        """Store an array (N,) or (N, components) and return the index of its accessor."""
        self._pad()
        data = values.tobytes()
        view: dict[str, Any] = {"buffer": self._buffer(), "byteOffset": self._offset(), "byteLength": len(data)}
        if target is not None:
            view["target"] = target
        self._added += data
        views = self.json.setdefault("bufferViews", [])
        views.append(view)
        accessor: dict[str, Any] = {
            "bufferView": len(views) - 1,
            "componentType": _COMPONENTS[values.dtype.name],
            "count": len(values),
            "type": shape,
        }
        if bounds:
            columns = values.reshape(len(values), -1)
            accessor |= {"min": columns.min(axis=0).tolist(), "max": columns.max(axis=0).tolist()}
        accessors = self.json.setdefault("accessors", [])
        accessors.append(accessor)
        return len(accessors) - 1

    def add_animation(self, name: str, times: np.ndarray, curves: list[tuple[int, str, np.ndarray]]) -> None:
        """Add an animation with linear keys.

        Args:
            name: its name.
            times: (T,), seconds, float32.
            curves: node, "translation" or "rotation", and values: (T, 3), or unit quaternions (T, 4) (w, x, y, z).
        """
        keys = self.add_array(times, "SCALAR", bounds=True)
        samplers: list[dict[str, Any]] = []
        channels: list[dict[str, Any]] = []
        for node, path, values in curves:
            stored = (values[:, [1, 2, 3, 0]] if path == "rotation" else values).astype(np.float32)
            output = self.add_array(stored, "VEC4" if path == "rotation" else "VEC3")
            channels.append({"sampler": len(samplers), "target": {"node": node, "path": path}})
            samplers.append({"input": keys, "output": output, "interpolation": "LINEAR"})
        animation = {"name": name, "channels": channels, "samplers": samplers}
        self.json.setdefault("animations", []).append(animation)

    def to_bytes(self) -> bytes:
        """Return the file."""
        binary = self._binary
        if self._added:
            self._pad()
            buffers = self.json.setdefault("buffers", [])
            if self._own or not buffers:
                binary = self._kept() + bytes(self._added)
                if not buffers:
                    buffers.append({})
                buffers[0]["byteLength"] = len(binary)
            else:  # the first buffer is outside the file, so that the file cannot have a binary chunk
                text = base64.b64encode(self._added).decode("ascii")
                uri = f"data:application/octet-stream;base64,{text}"
                buffers.append({"byteLength": len(self._added), "uri": uri})
        content = json.dumps(self.json, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
        chunks = [_chunk(_JSON, content, b" ")]
        if binary:
            chunks.append(_chunk(_BIN, binary, b"\0"))
        body = b"".join([*chunks, *self._others])
        return struct.pack("<4sII", b"glTF", 2, 12 + len(body)) + body

    def _kept(self) -> bytes:
        """Return the bytes of the file's own buffer, with zeros up to where added arrays begin."""
        kept = self._binary[: self._start]
        return kept + bytes(-self._start % 4)

    def _offset(self) -> int:
        outside = self._buffer() > 0
        return len(self._added) + (0 if outside else self._start + -self._start % 4)

    def _buffer(self) -> int:
        buffers = self.json.get("buffers", [])
        return 0 if self._own or not buffers else len(buffers)

    def _pad(self) -> None:
        self._added += bytes(-len(self._added) % 4)


def _chunk(kind: int, content: bytes, filler: bytes) -> bytes:
    content += filler * (-len(content) % 4)
    return struct.pack("<II", len(content), kind) + content
