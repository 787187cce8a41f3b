"""Read arrays from NumPy files and archives without running code, and check sizes before allocating memory.

NumPy's reader parses the header as a Python literal and decompresses whole members: damaged headers can raise any
Python error, and a few bytes can request gigabytes. This reader only accepts headers of plain arrays.
"""

import math
import os
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from lamp_hf.motion.errors import MotionFormatError
from lamp_hf.motion.limits import MAX_TEXT, MAX_VALUES

__all__ = ["Archive", "open_archive", "read_array"]

_MAGIC = b"\x93NUMPY"
_MAX_HEADER = 4096
_MAX_DIMENSIONS = 8
_MAX_MEMBERS = 10_000
_ITEM = r"\s*'(?P<key>descr|fortran_order|shape)'\s*:\s*(?P<value>'[^']*'|True|False|\([0-9L,\s]*\)|\[.*\])\s*"
_NUMBER_TYPE = re.compile(r"[<>|=]?(?:f[248]|[iu][1248]|b1|U(?P<characters>\d{1,9}))")


def read_array(file: IO[bytes], what: str, *, text: bool = False) -> np.ndarray:
    """Read one array of numbers, or of text.

    Args:
        file: an open `.npy` file or member of an archive, at its start.
        what: name of the array for messages.
        text: whether the array may contain text, at most `MAX_TEXT` characters.

    Raises:
        MotionFormatError: the array is damaged or too large, or does not contain numbers (or text, if allowed).
    """
    shape, fortran, descr = _header(file, what)
    match = _NUMBER_TYPE.fullmatch(descr)
    if match is None:
        raise MotionFormatError(f"{what}: expected numbers, found the type {descr[:60]} (objects are never loaded)")
    if match["characters"] is not None and not text:
        raise MotionFormatError(f"{what}: expected numbers, found text ({descr[:60]})")
    size = math.prod(shape)
    most = 4 * MAX_TEXT if text else MAX_VALUES
    # Each character counts as a value because NumPy stores four bytes for it.
    if size * max(1, int(match["characters"] or 1)) > (MAX_TEXT if match["characters"] else most):
        raise MotionFormatError(f"{what}: {size} values of the type {descr[:60]} are too many for a motion")
    dtype = np.dtype(descr)
    if dtype.itemsize == 0:
        return np.zeros(shape, dtype)
    num_bytes = size * dtype.itemsize
    data = file.read(num_bytes)
    if len(data) < num_bytes:
        raise MotionFormatError(f"{what}: expected {num_bytes} bytes of values, found {len(data)} (file truncated?)")
    return np.frombuffer(data, dtype=dtype).reshape(shape, order="F" if fortran else "C")


def _header(file: IO[bytes], what: str) -> tuple[tuple[int, ...], bool, str]:
    """Read shape, order and type from the header of an array without evaluating it."""
    start = file.read(8)
    if start[:6] != _MAGIC:
        pickled = start[:1] == b"\x80"
        hint = "it looks like a pickle, which is never loaded" if pickled else f"it starts with {start[:6]!r}"
        raise MotionFormatError(f"{what}: not a NumPy file ({hint})")
    if start[6:] not in (b"\x01\x00", b"\x02\x00", b"\x03\x00"):
        raise MotionFormatError(f"{what}: NumPy format {tuple(start[6:])} is not supported")
    width = 2 if start[6] == 1 else 4
    length = int.from_bytes(file.read(width), "little")
    if length > _MAX_HEADER:
        raise MotionFormatError(
            f"{what}: not a NumPy file (a header of {length} bytes; at most {_MAX_HEADER} are allowed)"
        )
    header = file.read(length).decode("latin-1").strip()
    if not (header.startswith("{") and header.endswith("}")):
        raise MotionFormatError(f"{what}: not a NumPy file (the header is damaged: {header[:60]!r})")
    values: dict[str, str] = {}
    rest = header[1:-1]
    while rest.strip(" ,\n"):
        match = re.match(_ITEM, rest)
        if match is None or match["key"] in values:
            raise MotionFormatError(f"{what}: not a NumPy file (the header is damaged at {rest.strip()[:60]!r})")
        values[match["key"]] = match["value"]
        rest = rest[match.end() :].removeprefix(",")
    if len(values) < 3:
        raise MotionFormatError(f"{what}: not a NumPy file (the header does not contain descr, fortran_order or shape)")
    dimensions = [part.strip().removesuffix("L") for part in values["shape"].strip("()").split(",") if part.strip()]
    good = all(part.isdecimal() and len(part) < 19 for part in dimensions) and len(dimensions) <= _MAX_DIMENSIONS
    if not good or values["fortran_order"] not in ("True", "False") or not values["shape"].startswith("("):
        raise MotionFormatError(f"{what}: not a NumPy file (the header is damaged: shape {values['shape'][:60]})")
    return tuple(map(int, dimensions)), values["fortran_order"] == "True", values["descr"].strip("'")


class Archive:
    """An open `.npz` archive, whose arrays are read one at a time."""

    def __init__(self, archive: zipfile.ZipFile, name: str) -> None:
        self._archive = archive
        self._name = name
        self._members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}

    @property
    def names(self) -> list[str]:
        """Return the names of the members, without their suffix."""
        return list(self._members)

    def read(self, name: str, *, text: bool = False) -> np.ndarray:
        """Read one member; see [`read_array`]."""
        info = self._members[name]
        what = f"{self._name}: {name}"
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise MotionFormatError(f"{what}: a compression that NumPy does not write ({info.compress_type})")
        with self._archive.open(info) as file:
            return read_array(file, what, text=text)


@contextmanager
def open_archive(path: str | os.PathLike[str]) -> Iterator[Archive]:
    """Open an `.npz` archive.

    Raises:
        MotionFormatError: the archive is damaged; this can also be raised when a member is read.
    """
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            if len(archive.infolist()) > _MAX_MEMBERS:
                raise MotionFormatError(
                    f"{path.name}: an archive with more than {_MAX_MEMBERS} members is not a motion"
                )
            yield Archive(archive, path.name)
    except FileNotFoundError:
        raise
    except (
        zipfile.BadZipFile,
        zipfile.LargeZipFile,
        zlib.error,
        EOFError,
        OSError,
        RuntimeError,
        NotImplementedError,
        OverflowError,
        UnicodeDecodeError,
    ) as error:
        raise MotionFormatError(f"{path.name}: not a readable .npz archive ({error})") from error
