"""Whatever holds a motion becomes a `Motion`, and a folder's motion files are found: one reader for all callers."""

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
    """Read a motion, whatever holds it.

    What is not given is detected, see [`Motion.load`].

    Args:
        value: A [`Motion`], which is returned as it is; the path of a motion file; or an array or tensor, joints
            `(T, J, 3)`, meters and Y up if not said otherwise, or features `(T, D)`.
        mapping: Which joints of the file stand for those of the skeleton.
        fps: Frames per second, in place of the file's. An array without it has the rate of its skeleton's data set.
        unit: Of positions: `m`, `dm`, `cm`, `mm`, `inch`, `foot` or `cmu`.
        up_axis: `x`, `-x`, `y`, `-y`, `z` or `-z`.
        strict: Refuse files that can be read with a warning only.

    Raises:
        FileNotFoundError: There is no such file.
        MotionFormatError: The file or the array makes no motion.
        TypeError: The value is something else.
        ValueError: Options for reading are given with a motion that has been read.
    """
    given: dict[str, Any] = {"mapping": mapping, "fps": fps, "unit": unit, "up_axis": up_axis, "strict": strict or None}
    options = {name: option for name, option in given.items() if option is not None}
    if isinstance(value, Motion):
        if options:
            raise ValueError(f"{', '.join(options)}: for files and arrays; this motion has been read already")
        return value
    if isinstance(value, str | os.PathLike):
        path = Path(value)
        if problem := problem_of(path):
            raise (FileNotFoundError if not os.path.lexists(path) else OSError)(f"{path}: {problem}")
        return Motion.load(path, **options)
    if hasattr(value, "detach"):  # a tensor, on any device
        value = value.detach().float().cpu().numpy()
    if not isinstance(value, np.ndarray | list | tuple):
        raise TypeError(f"a {type(value).__name__} holds no motion; give a Motion, a path or an array")
    if mapping is not None:
        raise ValueError("mapping: for files, which name their joints; those of an array are told by its shape")
    # Of a program's own arrays nothing is guessed: it knows what it computes with.
    options = {"unit": "m", "up_axis": "y", **options}
    return motion_of_array(np.asarray(value, np.float32), Path("a motion"), **options)


class MotionFiles(NamedTuple):
    """What [`find_motion_files`] found.

    Attributes:
        files: Paths of motion files, sorted.
        problems: What goes by the name of a motion file, or may hold some, and cannot be read, with the reason.
    """

    files: list[Path]
    problems: dict[Path, str]


def find_motion_files(folder: str | os.PathLike[str]) -> MotionFiles:
    """Find the motion files of a folder and of its sub-folders.

    Hidden files and folders, such as the `._walk.bvh` of macOS, are passed over. Links to files are followed, links
    to folders are not. Nothing is opened.
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
    """Say that a folder has no motion files, and what it has in place of them."""
    message = f"{os.fspath(folder)} has no motion files ({' '.join(READERS)})"
    others = (path for path in sorted(Path(folder).rglob("*")) if path.suffix.lower() in UNREAD)
    if (other := next(others, None)) is not None:
        message += f"; {other.suffix} files must be converted first: `lamp-hf info {other}` says how"
    return message


def problem_of(path: Path) -> str:
    """Say why a path is not that of a file that can be read from start to end; empty if it is.

    Reading a pipe or a device would wait for ever, or never end.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return f"links to {os.readlink(path)}, which does not exist" if path.is_symlink() else "no such file"
    except (OSError, ValueError) as error:  # the latter for a name that no file can have
        return f"cannot be opened ({getattr(error, 'strerror', None) or error})"
    if stat.S_ISDIR(mode):
        return "is a folder, not a motion file"
    if not stat.S_ISREG(mode):
        return "is a pipe or a device, not a motion file"
    try:
        path.name.encode()
    except UnicodeEncodeError:
        return "its name is not text in UTF-8; rename it"
    return ""


def failure(path: str | os.PathLike[str], error: Exception) -> str:
    """One line about a file that could not be read, which begins with its path.

    Args:
        path: As the user knows it; errors name the file alone.
        error: Why not.
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
