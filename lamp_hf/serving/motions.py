"""Motions in requests and responses: JSON in, JSON or files out."""

import base64
import binascii
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lamp_hf.motion.files import EXACT_FORMATS, READERS
from lamp_hf.motion.inputs import as_motion
from lamp_hf.motion.motion import Motion

from .limits import Limits

__all__ = ["ADJUSTMENTS", "MOTION", "OUTPUT", "READ", "MotionFile", "Output", "read_motion", "read_motion_file"]

# A .gltf file refers to other files, which a request cannot contain.
READ = tuple(suffix.removeprefix(".") for suffix in READERS if suffix != ".gltf")
FILES = {"bvh": "text/plain; charset=utf-8", "glb": "model/gltf-binary", "npz": "application/octet-stream"}
ARRAYS = ("positions", "features")
READING = ("fps", "unit", "up_axis", "mapping")
# Keys of `Motion.to_dict` that are not needed to read a motion.
IGNORED = ("skeleton", "joint_names", "parents", "text", "name", "rotations", "root_positions", "offsets")

MOTION = {
    "title": "Motion",
    "type": "object",
    "description": "A motion file (`content` and `format`), or an array of `positions` or `features`.",
    "properties": {
        "content": {"type": "string", "contentEncoding": "base64", "description": "A motion file in Base64."},
        "format": {"type": "string", "enum": list(READ), "description": "Format of `content`."},
        "positions": {
            "type": "array",
            "items": {"type": "array", "items": {"type": "array", "items": {"type": "number"}}},
            "description": "Positions of the joints (frames, joints, 3), in meters, Y up.",
        },
        "features": {
            "type": "array",
            "items": {"type": "array", "items": {"type": "number"}},
            "description": "Features (frames, 263 or 251), not normalized.",
        },
        "fps": {"type": "number", "description": "Frame rate; overrides that of a file."},
        "unit": {"type": "string", "description": "Unit of the positions; detected in files by default."},
        "up_axis": {"type": "string", "description": "Up axis of the positions; detected in files by default."},
        "mapping": {"type": "object", "description": "Names of joints in a file with an unknown rig."},
    },
}
# The switches of `Motion.adjust`.
ADJUSTMENTS: dict[str, dict[str, Any]] = {
    "fps": {"type": "number", "minimum": 1, "maximum": 240, "description": "Frame rate of the motion."},
    "mirror": {"type": "boolean", "description": "Swap left and right."},
    "loop": {"type": "boolean", "description": "Make a seamless loop."},
    "in_place": {"type": "boolean", "description": "Keep the body in one place."},
    "origin": {"type": "boolean", "description": "Start at the origin, facing +Z."},
    "plant_feet": {
        "type": "boolean",
        "description": "Keep feet that stand on the floor from sliding. Defaults to true for BVH and GLB files, loops "
        "and motions in place.",
    },
}
OUTPUT: dict[str, dict[str, Any]] = {
    "format": {
        "type": "string",
        "enum": ["json", *FILES],
        "default": "json",
        "description": "Format of the motions. The response to a request for one motion is the file itself.",
    },
    "rotations": {
        "type": "boolean",
        "default": False,
        "description": "Add local rotations, root positions and bone offsets to JSON.",
    },
    **ADJUSTMENTS,
}


def read_motion(value: Any, limits: Limits) -> Motion:
    """Read a motion of a request, in the form of `MOTION`.

    Raises:
        TypeError: A value has the wrong type.
        ValueError: The motion cannot be read, or it is longer than `limits.max_seconds`.
    """
    if not isinstance(value, Mapping):
        raise TypeError(
            f"a motion is a {type(value).__name__}; expected an object with content and format, positions, or features"
        )
    if unknown := sorted(map(str, value.keys() - {"content", "format", *ARRAYS, *READING, *IGNORED})):
        known = ", ".join(("content", "format", *ARRAYS, *READING))
        raise ValueError(f"a motion has the unknown key {unknown[0]!r}; use {known}")
    given = [name for name in ("content", *ARRAYS) if value.get(name) is not None]
    if len(given) != 1:
        raise ValueError(f"a motion has {' and '.join(given) or 'no values'}; give content, positions or features")
    options = {name: value[name] for name in READING if value.get(name) is not None}
    if given == ["content"]:
        return _read_content(value, limits, options)
    return _of_allowed_length(as_motion(_array(given[0], value[given[0]]), **options), limits)


def read_motion_file(path: Path, limits: Limits, **options: Any) -> Motion:
    """Read the file of a user.

    Args:
        path: The file.
        limits: Limits of the server.
        options: Arguments of [`as_motion`].

    Raises:
        ValueError: The file has an unknown suffix, is too large, cannot be read, or its motion is longer than
            `limits.max_seconds`.
    """
    suffix = path.suffix.lower().removeprefix(".")
    if suffix not in READ:
        raise ValueError(f"{path.name} is not a motion file that this server reads; send one of {', '.join(READ)}")
    if (size := path.stat().st_size) > limits.max_bytes:
        raise ValueError(f"{path.name} has {size:,} bytes; this server reads at most {limits.max_bytes:,}")
    return _of_allowed_length(as_motion(path, **options), limits)


def _of_allowed_length(motion: Motion, limits: Limits) -> Motion:
    if motion.duration > limits.max_seconds:
        raise ValueError(
            f"a motion lasts {motion.duration:g} s; this server reads at most {limits.max_seconds:g} s, so cut it"
        )
    return motion


def _array(name: str, values: Any) -> np.ndarray:
    try:
        array = np.asarray(values, dtype=np.float32)
    except (TypeError, ValueError):
        raise ValueError(f"{name} is not an array of numbers; give lists of equal lengths") from None
    if array.ndim != (3 if name == "positions" else 2):
        shape = "(frames, joints, 3)" if name == "positions" else "(frames, features)"
        raise ValueError(f"{name} has the shape {array.shape}; expected {shape}")
    return array


def _read_content(value: Mapping[str, Any], limits: Limits, options: dict[str, Any]) -> Motion:
    suffix = value.get("format")
    if suffix not in READ:
        raise ValueError(f"format={suffix!r} of a motion is unknown; choose one of {', '.join(READ)}")
    try:
        content = base64.b64decode(value["content"], validate=True)
    except (TypeError, ValueError, binascii.Error):
        raise ValueError("content of a motion is not Base64; encode the bytes of the file") from None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"motion.{suffix}")
        path.write_bytes(content)
        return read_motion_file(path, limits, **options)


@dataclass(frozen=True)
class MotionFile:
    """A file of a response.

    Attributes:
        format: `"bvh"`, `"glb"` or `"npz"`.
        content: Its bytes.
    """

    format: str
    content: bytes

    @property
    def media_type(self) -> str:
        """Its MIME type."""
        return FILES[self.format]

    def to_dict(self) -> dict[str, str]:
        """Return `format` and `content`, in Base64, which a request can contain again."""
        return {"format": self.format, "content": base64.b64encode(self.content).decode()}


@dataclass(frozen=True)
class Output:
    """Form in which a request wants motions.

    Attributes:
        format: `"json"`, or a format of `MotionFile`.
        rotations: Whether JSON contains rotations.
        adjust: Keyword arguments of `Motion.adjust`.
    """

    format: str
    rotations: bool
    adjust: Mapping[str, Any]

    @classmethod
    def read(cls, parameters: Mapping[str, Any]) -> "Output":
        """Take the parameters of `OUTPUT` from checked parameters."""
        adjust = {name: parameters[name] for name in ADJUSTMENTS if name in parameters}
        return cls(parameters.get("format", "json"), parameters.get("rotations", False), adjust)

    def write(self, motion: Motion) -> dict[str, Any] | MotionFile:
        """Return a motion as JSON or as a file.

        Raises:
            ValueError: The motion cannot be adjusted, for example because it is too short for a loop.
        """
        motion = motion.adjust(**self.adjust)
        exact = self.format == "json" or f".{self.format}" in EXACT_FORMATS
        plant_feet = None if motion.final_feet else self.adjust.get("plant_feet")
        if exact and plant_feet:
            motion = motion.plant_feet()
        if self.format == "json":
            return motion.to_dict(rotations=self.rotations)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, f"motion.{self.format}")
            motion.save(path, **({} if exact else {"plant_feet": plant_feet}))
            return MotionFile(self.format, path.read_bytes())
