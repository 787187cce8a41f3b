"""Convert any motion input to a `Motion`, and find the motion files of a folder. All callers share this module."""

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from lamp_hf.motion.files import READERS, UNREAD
from lamp_hf.motion.formats.arrays import motion_of_array
from lamp_hf.motion.motion import Motion

__all__ = ["MotionFiles", "MotionInput", "as_motion", "failure", "find_motion_files", "no_motion_files", "problem_of"]

MotionInput: TypeAlias = Motion | str | os.PathLike[str] | ArrayLike


def as_motion(
    value: Any,
    *,
    mapping: Mapping[str, Any] | None = None,
    fps: float | None = None,
    unit: str | None = None,
    up_axis: str | None = None,
    strict: bool = False,
) -> Motion:
    """Convert a motion, a path, an array or a tensor to a [`Motion`].

    For files, options that are not passed are detected; see [`Motion.load`].

    Args:
        value: A [`Motion`], which is returned unchanged; the path of a motion file; or an array or tensor of joints
            `(T, J, 3)`, by default in meters with Y up, or of features `(T, D)`.
        mapping: Joints of the file for the joints of the skeleton.
        fps: Frames per second; overrides the file's. For arrays, defaults to the frame rate of the skeleton's data set.
        unit: Unit of positions: `m`, `dm`, `cm`, `mm`, `inch`, `foot` or `cmu`.
        up_axis: `x`, `-x`, `y`, `-y`, `z` or `-z`.
        strict: Refuse files that can only be read with a warning.

    Raises:
        FileNotFoundError: The file does not exist.
        MotionFormatError: The file or the array does not contain a motion.
        TypeError: The value is not a motion, a path, an array or a tensor.
        ValueError: Reading options are passed with a `Motion`, or `mapping` is passed with an array.
    """
    given: dict[str, Any] = {"mapping": mapping, "fps": fps, "unit": unit, "up_axis": up_axis, "strict": strict or None}
    options = {name: option for name, option in given.items() if option is not None}
    if isinstance(value, Motion):
        if options:
            raise ValueError(
                f"{', '.join(options)}: these options are for files and arrays, not for a Motion; leave them out"
            )
        return value
    if isinstance(value, str | os.PathLike):
        path = Path(value)
        if problem := problem_of(path):
            raise (FileNotFoundError if not os.path.lexists(path) else OSError)(f"{path}: {problem}")
        return Motion.load(path, **options)
    if hasattr(value, "detach"):  # a tensor, on any device
        value = value.detach().float().cpu().numpy()
    if not isinstance(value, np.ndarray | list | tuple):
        raise TypeError(f"{type(value).__name__}: not a motion; pass a Motion, a path or an array")
    if mapping is not None:
        raise ValueError("mapping: this option is for files, since arrays do not name their joints; leave it out")
    # Nothing is guessed about arrays: the program that computed them knows their unit and axes.
    options = {"unit": "m", "up_axis": "y", **options}
    return motion_of_array(np.asarray(value, np.float32), Path("a motion"), **options)


class MotionFiles(NamedTuple):
    """Result of [`find_motion_files`].

    Attributes:
        files: Paths of motion files, sorted.
        problems: Paths of motion files and folders that cannot be read, with the reason.
    """

    files: list[Path]
    problems: dict[Path, str]


def find_motion_files(folder: str | os.PathLike[str]) -> MotionFiles:
    """Find the motion files of a folder and its subfolders, without opening any of them.

    Hidden files and folders, such as the `._walk.bvh` of macOS, are skipped. Links to files are followed, links to
    folders are not.
    """
    files: list[Path] = []
    problems: dict[Path, str] = {}

    def note(error: OSError) -> None:
        problems[Path(error.filename or folder)] = f"cannot be opened ({error.strerror})"

    for parent, folders, names in os.walk(folder, onerror=note):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in (*folders, *names):
            path = Path(parent, name)
            if path.suffix.lower() not in READERS or name.startswith("."):
                continue
            if problem := problem_of(path):
                problems[path] = problem
            else:
                files.append(path)
    return MotionFiles(sorted(files), dict(sorted(problems.items())))


def no_motion_files(folder: str | os.PathLike[str]) -> str:
    """Return a message that a folder has no motion files, and how to convert the files that it has."""
    message = f"{os.fspath(folder)} has no motion files ({' '.join(READERS)})"
    others = (path for path in sorted(Path(folder).rglob("*")) if path.suffix.lower() in UNREAD)
    if (other := next(others, None)) is not None:
        message += f"; {other.suffix} files must be converted first: `lamp-hf info {other}` says how"
    return message


def problem_of(path: Path) -> str:
    """Return why a path is not a readable regular file, or an empty string if it is one.

    Reading from a pipe or a device could block forever or never end.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return f"links to {os.readlink(path)}, which does not exist" if path.is_symlink() else "no such file"
    except (OSError, ValueError) as error:  # ValueError: an invalid file name
        return f"cannot be opened ({getattr(error, 'strerror', None) or error})"
    if stat.S_ISDIR(mode):
        return "is a folder, not a motion file"
    if not stat.S_ISREG(mode):
        return "is a pipe or a device, not a motion file"
    try:
        path.name.encode()
    except UnicodeEncodeError:
        return "its name is not valid UTF-8; rename it"
    return ""


def failure(path: str | os.PathLike[str], error: Exception) -> str:
    """Describe in one line, which begins with the path, why a file could not be read.

    Args:
        path: The path that the user passed; errors only contain the file name.
        error: The error that was raised.
    """
    name = os.fspath(path)
    if isinstance(error, OSError) and error.strerror:
        return f"{name}: {error.strerror}"
    message = " ".join(str(error).split())
    if not isinstance(error, ValueError | OSError):
        message = f"{type(error).__name__}: {message}"
    for start in (name, Path(name).name):
        rest = message.removeprefix(start)
        if rest != message and rest[:1] in (":", " ", ","):
            return name + rest
    return f"{name}: {message}"
