"""Read motion files one by one from tar archives, and remember what an archive contains."""

import json
import lzma
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
    """Yield files of a tar archive with any compression. Nothing is unpacked to disk; links and folders are skipped.

    Args:
        path: The archive.
        clip_of: Returns the clip name for the path of a file, or `None` to skip the file.

    Raises:
        MotionFormatError: The archive is damaged, or contains a file that is too large.
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
                        f"{path}: {member.name} is too large ({member.size} bytes); expected at most {MAX_FILE_BYTES}"
                    )
                stream = archive.extractfile(member)
                assert stream is not None  # a regular file
                yield ClipFile(clip, name.name, stream.read())
    except (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError) as error:
        raise MotionFormatError(f"{path}: damaged or truncated archive ({error}); download it again") from error


def until_all_found(clips: Iterator[ClipFile], wanted: frozenset[str] | None) -> Iterator[ClipFile]:
    """Yield clips until all wanted ones have been found; then the rest of an archive is not unpacked."""
    remaining = None if wanted is None else set(wanted)
    for clip in clips:
        yield clip
        if remaining is not None:
            remaining.discard(clip.clip)
            if not remaining:
                return


def remembered_clips(path: Path) -> dict[str, Any]:
    """Read what `remember_clips` wrote about an archive; return an empty dict if the file is missing or damaged."""
    try:
        clips = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return clips if isinstance(clips, dict) else {}


def remember_clips(path: Path, clips: Mapping[str, Any]) -> None:
    """Write the list of clips in an archive, because unpacking it takes longer than loading the finished dataset."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as unfinished:
        unfinished.write_text(json.dumps(clips), encoding="utf-8")


def first_file_in(path: Path, suffix: str) -> str | None:
    """Return the path of the first file with a suffix in a tar archive; `None` if there is none or no archive."""
    try:
        with tarfile.open(path, "r|*") as archive:
            return next((m.name for m in archive if m.isreg() and m.name.lower().endswith(suffix)), None)
    except (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, OSError):
        return None
