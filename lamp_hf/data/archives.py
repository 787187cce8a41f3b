"""Motion files in tar archives and below folders, read one by one."""

import hashlib
import json
import lzma
import os
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from lamp_hf.data.conversion import ClipFile
from lamp_hf.files import atomic_path
from lamp_hf.motion.errors import MotionFormatError
from lamp_hf.motion.formats.bvh_parser import MAX_FILE_BYTES


def archive_clips(path: Path, clip_of: Callable[[Path], str | None]) -> Iterator[ClipFile]:
    """Files of a tar archive, compressed in any way. Nothing is unpacked to disk; links and folders are passed over.

    Args:
        path: the archive.
        clip_of: the name of the clip in a file of this path, or None for a file to pass over.

    Raises:
        MotionFormatError: the archive is damaged, or a file in it too large.
    """
    try:
        with tarfile.open(path, "r|*") as archive:
            for member in archive:
                name = Path(member.name)
                clip = clip_of(name) if member.isreg() else None
                if clip is None:
                    continue
                if member.size > MAX_FILE_BYTES:
                    raise MotionFormatError(
                        f"{path}: {member.name} has {member.size} bytes, more than {MAX_FILE_BYTES}"
                    )
                stream = archive.extractfile(member)
                assert stream is not None  # a regular file
                yield ClipFile(clip, name.name, stream.read())
    except (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError) as error:
        raise MotionFormatError(f"{path}: damaged or truncated archive ({error})") from error


def until_all_found(clips: Iterator[ClipFile], wanted: frozenset[str] | None) -> Iterator[ClipFile]:
    """The clips; the rest of an archive need not be unpacked when those that are wanted are there."""
    remaining = None if wanted is None else set(wanted)
    for clip in clips:
        yield clip
        if remaining is not None:
            remaining.discard(clip.clip)
            if not remaining:
                return


def remembered_clips(path: Path) -> dict[str, Any]:
    """What `remember_clips` wrote of an archive; nothing where that was not yet, or the file was damaged."""
    try:
        clips = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return clips if isinstance(clips, dict) else {}


def remember_clips(path: Path, clips: Mapping[str, Any]) -> None:
    """Write what an archive holds: unpacking it takes longer than reading the finished set."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as unfinished:
        unfinished.write_text(json.dumps(clips), encoding="utf-8")


def first_file_in(path: Path, suffix: str) -> str | None:
    """Path inside a tar archive of its first file with this suffix; None if there is none, or it is no archive."""
    try:
        with tarfile.open(path, "r|*") as archive:
            return next((m.name for m in archive if m.isreg() and m.name.lower().endswith(suffix)), None)
    except (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, OSError):
        return None


def file_digest(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
