"""The files of the studio: uploads in, downloads out. Files exist only while they are read or written."""

import re
import secrets
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lamp_hf.motion.motion import Motion
from lamp_hf.motion.retarget import Character
from lamp_hf.motion.retarget.character import CHARACTER_SUFFIXES
from lamp_hf.motion.retarget.presets import PRESETS
from lamp_hf.serving.limits import Limits
from lamp_hf.serving.motions import READ, read_motion_file

__all__ = [
    "CHARACTERS",
    "FORMATS",
    "MOTIONS",
    "RIGS",
    "file_name",
    "read_character",
    "read_upload",
    "write_figure",
    "write_motion",
]

# Suffixes of uploads.
MOTIONS = tuple(f".{suffix}" for suffix in READ)
CHARACTERS = CHARACTER_SUFFIXES
# Formats of downloads, and their MIME types.
FORMATS: Mapping[str, str] = {
    "bvh": "text/plain",
    "glb": "model/gltf-binary",
    "vrma": "model/gltf-binary",
    "npz": "application/octet-stream",
    "mp4": "video/mp4",
}
# Rigs without a file that motions can be retargeted onto.
RIGS = tuple(PRESETS)
_OF_CHARACTERS = ("bvh", "glb", "vrma")
_LONGEST_NAME = 60


def read_upload(path: Path, limits: Limits) -> Motion:
    """Read the motion of an upload, and delete the file.

    Raises:
        FileNotFoundError: The file was already deleted.
        ValueError: See [`read_motion_file`].
    """
    try:
        return read_motion_file(path, limits)
    finally:
        path.unlink(missing_ok=True)


def read_character(path: Path, limits: Limits) -> Character:
    """Read the character of an upload, and delete the file.

    Raises:
        FileNotFoundError: The file was already deleted.
        ValueError: The file is too large or does not contain a person.
    """
    try:
        if (size := path.stat().st_size) > limits.max_bytes:
            raise ValueError(f"{path.name} has {size:,} bytes; this server reads at most {limits.max_bytes:,}")
        return Character.load(path)
    finally:
        path.unlink(missing_ok=True)


def file_name(motion: Motion, suffix: str) -> str:
    """Return the name of a download: the words of the caption."""
    words = re.findall(r"\w+", (motion.text or motion.name or "motion").lower()) or ["motion"]
    return f"{'-'.join(words)[:_LONGEST_NAME].rstrip('-')}.{suffix}"


def write_motion(
    motion: Motion,
    suffix: str,
    *,
    character: Character | None = None,
    progress: Callable[[int, int], None] | None = None,
    **adjust: Any,
) -> bytes:
    """Return a file with a motion.

    Args:
        motion: The motion.
        suffix: A format of `FORMATS`.
        character: Character for BVH, GLB and VRMA files. By default, BVH and GLB files have the skeleton of the motion,
            and VRMA files that of an average person.
        progress: Called with the number of frames done and of all frames of a video.
        adjust: Keyword arguments of [`Motion.adjust`].

    Raises:
        MotionFormatError: The character cannot be saved in this format.
        ValueError: The format is unknown, or the motion cannot be adjusted.
    """
    if suffix not in FORMATS:
        raise ValueError(f"format {suffix!r} is unknown; choose one of {', '.join(FORMATS)}")
    motion = motion.adjust(**adjust)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"motion.{suffix}")
        if character is None and suffix == "vrma":
            character = Character.of_rig("vrm")
        if character is not None and suffix in _OF_CHARACTERS:
            if suffix == "vrma" and not character.human_bones:
                character = Character.of_rig("vrm")  # a VRM animation fits every VRM character, but no other rig
            motion.on(character).save(path)
        else:
            options: dict[str, Any] = {"progress": progress} if suffix == "mp4" else {}
            motion.save(path, **options)
        return path.read_bytes()


def write_figure(motion: Motion, character: Character, folder: Path) -> Path | None:
    """Write a GLB file that shows a motion on a character, with a name that cannot be guessed.

    Returns:
        The file; `None` if the character is a skeleton without a figure.
    """
    if character.skin is None:
        return None
    path = folder / f"character-{secrets.token_urlsafe(16)}.glb"
    motion.on(character).save(path)
    return path
