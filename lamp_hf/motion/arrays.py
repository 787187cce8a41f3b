"""Motions as NumPy files: `.npy` holds joints or features alone, `.npz` also frame rate, skeleton and caption."""

import math
import os
import zipfile
import zlib
from pathlib import Path
from tokenize import TokenError
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.lib import format as npy_format

from lamp_hf.motion.errors import MotionFormatError
from lamp_hf.motion.files import atomic_path
from lamp_hf.motion.skeleton import SKELETONS, Skeleton

if TYPE_CHECKING:
    from lamp_hf.motion.motion import Motion

__all__ = ["motion_of_array", "read_npy", "read_npz", "write_npy", "write_npz"]

_MAX_VALUES = 40_000_000  # as for BVH: hours of motion
_MAX_TEXT = 10_000


def write_npy(motion: "Motion", path: str | os.PathLike[str], *, view: str = "joints") -> None:
    """Write one array.

    Args:
        motion: what to write.
        path: the file.
        view: "joints", (T, J, 3) metres, or "features", (T, D).
    """
    if view not in ("joints", "features"):
        raise ValueError(f"view={view!r} is unknown; choose 'joints' or 'features'")
    with atomic_path(path) as temporary:
        np.save(temporary, getattr(motion, view), allow_pickle=False)


def write_npz(motion: "Motion", path: str | os.PathLike[str]) -> None:
    """Write all of a motion, so that reading it back gives an equal one."""
    made_of = "joints" if motion.made_of_joints else "features"
    values: dict[str, Any] = {
        made_of: getattr(motion, made_of),
        "fps": motion.fps,
        "skeleton": motion.skeleton.name,
    }
    if motion.text is not None:
        values["text"] = motion.text
    with atomic_path(path) as temporary:
        np.savez_compressed(temporary, allow_pickle=False, **values)


def read_npy(path: str | os.PathLike[str], *, fps: float | None = None) -> "Motion":
    """Read joints (T, J, 3), metres, or features (T, D); which they are is told by the shape.

    Args:
        path: the file.
        fps: frames per second, which such a file does not say; by default that of the skeleton's data set.

    Raises:
        MotionFormatError: the file is damaged, too large, no array of numbers, or has another shape.
    """
    path = Path(path)
    with path.open("rb") as file:
        array = _read_array(file, path.name)
    return motion_of_array(array, path, fps=fps)


def read_npz(path: str | os.PathLike[str], *, fps: float | None = None) -> "Motion":
    """Read what `write_npz` writes, or any archive with an array `joints` or `features`.

    Args:
        path: the file.
        fps: frames per second, in place of the file's own.

    Raises:
        MotionFormatError: as for `read_npy`, or the archive holds neither array.
    """
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.removesuffix(".npy") for name in archive.namelist()}
            view = next((name for name in ("features", "joints") if name in names), None)
            if view is None:
                found = ", ".join(sorted(names)[:10]) or "nothing"
                raise MotionFormatError(f"{path.name}: expected an array 'joints' or 'features', found {found}")
            arrays = {}
            for name in {view, "fps", "skeleton", "text"} & names:
                with archive.open(f"{name}.npy") as file:
                    arrays[name] = _read_array(file, f"{path.name}: {name}")
    except (
        zipfile.BadZipFile,
        zipfile.LargeZipFile,
        zlib.error,
        EOFError,
        OSError,
        RuntimeError,
        NotImplementedError,
    ) as error:
        raise MotionFormatError(f"{path.name}: not a readable .npz archive ({error})") from error
    skeleton = _scalar(arrays, "skeleton", str, path)
    if skeleton is not None and skeleton not in SKELETONS:
        raise MotionFormatError(f"{path.name}: unknown skeleton {skeleton!r}; known: {', '.join(SKELETONS)}")
    return motion_of_array(
        arrays[view],
        path,
        fps=fps if fps is not None else _scalar(arrays, "fps", float, path),
        skeleton=None if skeleton is None else SKELETONS[skeleton],
        text=_scalar(arrays, "text", str, path),
    )


def _scalar(arrays: dict[str, np.ndarray], name: str, kind: type, path: Path) -> Any:
    if name not in arrays:
        return None
    array = arrays[name]
    good = array.ndim == 0 and (array.dtype.kind == "U") == (kind is str)
    if not good:
        raise MotionFormatError(
            f"{path.name}: expected {name!r} to be one {kind.__name__}, found {array.dtype} of shape {array.shape}"
        )
    return kind(array.item())


def _read_array(file: IO[bytes], what: str) -> np.ndarray:
    """Read one array; its header is checked before memory is taken for its values."""
    try:
        version = npy_format.read_magic(file)
        if version == (1, 0):
            shape, fortran, dtype = npy_format.read_array_header_1_0(file)
        elif version == (2, 0):
            shape, fortran, dtype = npy_format.read_array_header_2_0(file)
        else:
            raise MotionFormatError(f"{what}: NumPy format {version} is not supported")
    except (ValueError, EOFError, TokenError) as error:  # the latter where NumPy tries to mend a header
        raise MotionFormatError(f"{what}: not a NumPy file ({error})") from error
    if dtype.kind not in "fiuU":
        raise MotionFormatError(f"{what}: expected numbers, found the type {dtype} (objects are never loaded)")
    size = math.prod(shape)
    if size > _MAX_VALUES or dtype.itemsize > 4 * _MAX_TEXT:
        raise MotionFormatError(f"{what}: {size} values of {dtype} are more than any motion has")
    data = file.read(size * dtype.itemsize + 1)
    if len(data) < size * dtype.itemsize:
        raise MotionFormatError(
            f"{what}: expected {size * dtype.itemsize} bytes of values, found {len(data)} (file truncated?)"
        )
    return np.frombuffer(data, dtype=dtype, count=size).reshape(shape, order="F" if fortran else "C")


def motion_of_array(
    array: np.ndarray,
    path: Path,
    *,
    fps: float | None = None,
    skeleton: Skeleton | None = None,
    text: str | None = None,
) -> "Motion":
    """A motion of joints (T, J, 3), metres, or features (T, D); the shape tells which, and of which skeleton.

    Args:
        array: the values.
        path: where they come from, for the motion's name and for errors.
        fps: frames per second; by default that of the skeleton's data set.
        skeleton: the only one to be considered.
        text: caption.

    Raises:
        MotionFormatError: another shape, or values that make no motion.
    """
    from lamp_hf.motion.motion import Motion

    known = SKELETONS.values() if skeleton is None else [skeleton]
    for candidate in known:
        view = {(candidate.num_joints, 3): "joints", (candidate.feature_dim,): "features"}.get(array.shape[1:])
        if array.ndim >= 2 and view is not None:
            try:
                return Motion(
                    **{view: array},
                    fps=candidate.default_fps if fps is None else fps,
                    skeleton=candidate,
                    text=text,
                    name=path.stem,
                )
            except MotionFormatError as error:
                raise MotionFormatError(f"{path.name}: {error}") from error
    expected = " or ".join(f"(T, {s.num_joints}, 3), (T, {s.feature_dim})" for s in known)
    raise MotionFormatError(f"{path.name}: expected an array of shape {expected}, found {array.shape}")
