"""Load a folder of motion files with a table of captions, like the imagefolder of `datasets`.

    my_mocap/
      metadata.jsonl      {"file_name": "walk.bvh", "text": "a person walks"}
      walk.bvh            {"file_name": "wave.npz", "text": ["someone waves", "a person waves hello"]}
      wave.npz            {"file_name": "long.bvh", "text": "a person bows", "start": 2.0, "end": 4.5}

The table is `metadata.jsonl` or `metadata.csv` with the columns `file_name` and `text`. Optional columns are `start`
and `end` (seconds; without them the text describes the whole clip), and the labels `content` and `style`. A file with
several captions may have several lines. A part of a file that has its own caption becomes a separate clip, as in
HumanML3D. Subfolders `train`, `validation` (or `val`) and `test` become splits. Each of them has its own table, or the
folder above has one table for all of them.
"""

import csv
import hashlib
import json
import logging
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from datasets import DatasetDict

from lamp_hf.data.conversion import (
    CONVERSION_VERSION,
    ClipCache,
    cached_dataset,
    default_cache_dir,
    open_clips,
    refuse_failures,
)
from lamp_hf.data.schema import MIRRORED, motion_features
from lamp_hf.data.text_files import read_lines
from lamp_hf.motion.files import READERS
from lamp_hf.motion.inputs import find_motion_files, problem_of
from lamp_hf.motion.skeleton import skeleton_for_feature_dim
from lamp_hf.motion.text import swap_sides

logger = logging.getLogger(__name__)

METADATA_NAMES = ("metadata.jsonl", "metadata.csv")
_LAYOUT_VERSION = 2  # increase it whenever a change alters the rows
_SPLIT_FOLDERS = {"train": "train", "validation": "validation", "val": "validation", "test": "test"}
_COLUMNS = {"file_name", "text", "start", "end", "content", "style"}
TIME_TOLERANCE_S = 0.1  # a caption may end this much after the last frame
MIN_FRAMES = 4  # shortest part that a caption may describe: one motion token


@dataclass(frozen=True)
class _Caption:
    text: str
    start: float
    end: float
    content: str
    style: str
    where: str = field(repr=False)

    def frames(self, num_frames: int, fps: float) -> slice:
        """Return the frames of a clip's features that the caption describes."""
        if not self.end:
            return slice(0, num_frames)
        return slice(round(self.start * fps), min(round(self.end * fps), num_frames))

    def problem(self, clip: str, num_frames: int, fps: float) -> str:
        """Return what is wrong with the caption's times for a clip; empty if they are valid."""
        duration = (num_frames + 1) / fps
        if max(self.start, self.end) > duration + TIME_TOLERANCE_S:
            return f"the caption describes {self.start:g} to {self.end:g} s, but {clip} lasts {duration:.2f} s"
        part = self.frames(num_frames, fps)
        if part.stop - part.start < MIN_FRAMES:
            return (
                f"the caption describes {part.stop - part.start} frames of {clip} at {fps:g} fps, which is too short: "
                f"expected at least {MIN_FRAMES}"
            )
        return ""


@dataclass
class FolderClip:
    """Motion file of a folder, with its lines in the tables.

    Attributes:
        path: The file.
        captions: Captions of the file.
        problem: Why the file cannot be opened, with the line that names it; empty if it can.
    """

    path: Path
    captions: list[_Caption] = field(default_factory=list)
    problem: str = ""


@dataclass(frozen=True)
class _Row:
    clip: str
    digest: str
    captions: tuple[_Caption, ...]
    mirrored: bool

    @property
    def id(self) -> str:
        start, end = self.captions[0].start, self.captions[0].end
        return self.clip + (f"@{start:g}-{end:g}s" if end else "") + (MIRRORED if self.mirrored else "")


def load_motionfolder(
    path: str | os.PathLike[str],
    *,
    reader_options: dict[str, Any] | None = None,
    mirror: bool = False,
    skip_bad: bool = False,
    num_proc: int | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> DatasetDict:
    """Load a folder of motion files with captions as HumanML3D features.

    Every file is converted once and cached by its content. If you add a file to the folder, only that one is converted.

    Args:
        path: The folder.
        reader_options: Passed to `as_motion` for every file, such as `{"fps": 30.0}`.
        mirror: Add the mirror image of every training clip as `<id>-mirrored`, with "left" and "right" swapped in the
            captions.
        skip_bad: Skip files that cannot be read, with a warning, instead of raising an error.
        num_proc: Number of processes for the conversion. Defaults to all cores.
        cache_dir: Folder of the cache. Defaults to $LAMP_HF_CACHE or ~/.cache/lamp_hf.
        progress: Show progress bars.

    Returns:
        The splits of the folder, or only `train`, with the columns of `motion_features`. The `id` of a clip is its path
        in the folder; the times of a part are appended, such as `long.bvh@2-4.5s`.

    Raises:
        FileNotFoundError: The folder or its table is missing.
        MotionFormatError: A motion cannot be read.
        ValueError: A line of the table is invalid; the message names the line.
    """
    root = Path(path)
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder")
    clips = read_tables(root)
    _warn_of_files_without_captions(root, clips)
    cache = ClipCache(Path(cache_dir) if cache_dir is not None else default_cache_dir(), mirror, reader_options or {})
    failures = {name: clip.problem for name, clip in clips.items() if clip.problem}
    sources = open_clips({name: clip.path for name, clip in clips.items() if not clip.problem}, failures)
    digests, unreadable = cache.convert(sources, num_proc=num_proc, progress=progress, total=len(clips))
    refuse_failures(failures | unreadable, root, skip_bad=skip_bad)
    feature_dim = _common_feature_dim(root, clips, digests, cache)
    splits: dict[str, list[_Row]] = {}
    for name in clips:
        if name in digests:
            split = split_of(name)
            rows = _rows_of(name, clips[name], digests[name], mirror and split == "train")
            splits.setdefault(split, []).extend(rows)
    key = hashlib.sha256(
        repr((_LAYOUT_VERSION, CONVERSION_VERSION, cache.options_key, root.name, splits)).encode()
    ).hexdigest()
    makers: dict[str, Callable[[], Iterator[dict[str, Any]]]] = {
        split: partial(_make_rows, rows, cache, root.name) for split, rows in splits.items()
    }
    return cached_dataset(cache.cache_dir, key, motion_features(feature_dim), makers, progress=progress)


def find_tables(root: Path) -> list[Path]:
    """Return the tables of a folder and of its split subfolders.

    Raises:
        ValueError: A folder has two tables.
    """
    folders = [root, *(root / name for name in _SPLIT_FOLDERS)]
    tables = []
    for folder in folders:
        found = [folder / name for name in METADATA_NAMES if (folder / name).is_file()]
        if len(found) > 1:
            raise ValueError(f"{folder}: expected {' or '.join(METADATA_NAMES)}, found both; remove one of them")
        tables += found
    return tables


def read_tables(root: Path, on_error: Callable[[ValueError], None] | None = None) -> dict[str, FolderClip]:
    """Read the tables of a folder; return its clips by their path in the folder, in the order of the tables.

    The clips include files that cannot be opened, with their problem.

    Args:
        root: The folder.
        on_error: Called with the error of each invalid line or table, which is then skipped. By default, the first
            error is raised.

    Raises:
        FileNotFoundError: There is no table.
        ValueError: A line is invalid, or the table is empty.
    """

    def fail(error: ValueError) -> None:
        if on_error is None:
            raise error
        on_error(error)

    tables = find_tables(root)
    if not tables:
        raise FileNotFoundError(
            f"{root}: expected {' or '.join(METADATA_NAMES)} with the columns file_name and text; found neither"
        )
    clips: dict[str, FolderClip] = {}
    for table in tables:
        try:
            rows = list(_jsonl_rows(table) if table.suffix == ".jsonl" else _csv_rows(table))
        except ValueError as error:
            fail(error)
            continue
        ignored: set[str] = set()
        for where, read in rows:
            try:
                row = read()
                ignored |= set(row) - _COLUMNS
                _add_row(clips, root, table.parent, where, row)
            except ValueError as error:
                fail(error)
        if ignored:
            logger.info("%s: columns %s are not used", table, ", ".join(sorted(ignored)))
    if not clips and on_error is None:
        raise ValueError(f"{root}: the table of captions has no lines; add one for each motion file")
    return clips


_ReadRow = Callable[[], dict[str, Any]]


def _jsonl_rows(table: Path) -> Iterator[tuple[str, _ReadRow]]:
    """Yield the location of each row and a function that reads it or raises ValueError."""
    for number, line in enumerate(read_lines(table), start=1):
        if line.strip():
            where = f"{table} line {number}"
            yield where, partial(_jsonl_row, where, line)


def _jsonl_row(where: str, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where}: not valid JSON: {error}") from error
    if not isinstance(row, dict):
        raise ValueError(f'{where}: expected an object like {{"file_name": ..., "text": ...}}')
    return row


def _csv_rows(table: Path) -> Iterator[tuple[str, _ReadRow]]:
    reader = csv.DictReader(f"{line}\n" for line in read_lines(table))
    try:
        for row in reader:
            where = f"{table} line {reader.line_num}"
            yield where, partial(_csv_row, where, row, len(reader.fieldnames or []))
    except csv.Error as error:
        raise ValueError(f"{table} line {reader.line_num}: {error} (an unclosed quote?)") from error


def _csv_row(where: str, row: dict[str, Any], num_columns: int) -> dict[str, Any]:
    if None in row or None in row.values():
        raise ValueError(
            f"{where}: expected {num_columns} values, as in the header; put a text that contains a comma in quotes"
        )
    return {column: value for column, value in row.items() if value != ""}


def _add_row(clips: dict[str, FolderClip], root: Path, folder: Path, where: str, row: dict[str, Any]) -> None:
    file_name = row.get("file_name")
    if not isinstance(file_name, str) or not file_name:
        raise ValueError(f"{where}: expected a file_name, found the columns {', '.join(row) or 'none'}")
    relative = PurePosixPath(file_name.replace("\\", "/"))
    if relative.is_absolute() or ".." in relative.parts:
        raise ValueError(f"{where}: expected a file_name inside {folder}, found {file_name!r}")
    path = folder / relative
    if path.suffix.lower() not in READERS:
        raise ValueError(f"{where}: expected a {', '.join(READERS)} file, found {file_name!r}")
    text = row.get("text")
    texts = [text] if isinstance(text, str) else text
    if not isinstance(texts, list) or not texts or not all(isinstance(t, str) and t.strip() for t in texts):
        raise ValueError(f"{where}: expected a text or a list of texts for {file_name}, found {text!r}")
    start, end = _seconds(row, "start", where), _seconds(row, "end", where)
    if (start, end) != (0.0, 0.0) and not start < end:
        raise ValueError(f"{where}: expected start before end, found {start:g} and {end:g} seconds")
    name = path.relative_to(root).as_posix()
    if name not in clips:
        problem = problem_of(path)
        if problem == "no such file":
            problem = f"does not exist in {folder}"
        clips[name] = FolderClip(path, problem=f"{where}: {file_name} {problem}" if problem else "")
    clip = clips[name]
    content, style = str(row.get("content", "")), str(row.get("style", ""))
    clip.captions += [_Caption(t.strip(), start, end, content, style, where) for t in texts]


def _seconds(row: dict[str, Any], column: str, where: str) -> float:
    value = row.get(column)
    if value is None:
        return 0.0
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds >= 0):
        raise ValueError(f"{where}: expected {column} in seconds, 0 or more, found {value!r}")
    return seconds


def split_of(clip: str) -> str:
    """Return the split of a clip, given by the first folder of its path."""
    return _SPLIT_FOLDERS.get(clip.split("/")[0], "train")


def _warn_of_files_without_captions(root: Path, clips: dict[str, FolderClip]) -> None:
    present = {path.relative_to(root).as_posix() for path in find_motion_files(root).files}
    if forgotten := sorted(present - set(clips)):
        logger.warning("%s: skipped %d files without captions, such as %s", root, len(forgotten), forgotten[0])


def _common_feature_dim(root: Path, clips: dict[str, FolderClip], digests: dict[str, str], cache: ClipCache) -> int:
    """Return the number of features, which must be the same in all clips, and check the times of the captions."""
    found: dict[int, str] = {}
    for name, digest in digests.items():
        num_frames, feature_dim = cache.read(clips[name].path.name, digest).shape
        found.setdefault(feature_dim, name)
        fps = skeleton_for_feature_dim(feature_dim).default_fps
        for caption in clips[name].captions:
            if problem := caption.problem(name, num_frames, fps):
                raise ValueError(f"{caption.where}: {problem}")
    if len(found) > 1:
        examples = ", ".join(f"{dim} in {name}" for dim, name in sorted(found.items()))
        raise ValueError(
            f"{root}: motions have different numbers of features ({examples}); keep only those of one skeleton"
        )
    if not found:
        raise ValueError(
            f"{root}: none of the {len(clips)} motions can be read; run `lamp-hf data check {root}` for details"
        )
    return next(iter(found))


def _rows_of(name: str, clip: FolderClip, digest: str, with_mirrored: bool) -> Iterator[_Row]:
    """Yield a row for each part of a clip that has captions. The whole clip counts as a part."""
    parts: dict[tuple[float, float], list[_Caption]] = {}
    for caption in clip.captions:
        parts.setdefault((caption.start, caption.end), []).append(caption)
    for captions in parts.values():
        for mirrored in (False, True) if with_mirrored else (False,):
            yield _Row(name, digest, tuple(captions), mirrored)


def _make_rows(rows: list[_Row], cache: ClipCache, source: str) -> Iterator[dict[str, Any]]:
    for row in rows:
        motion = cache.read(row.clip, row.digest, mirrored=row.mirrored)
        skeleton = skeleton_for_feature_dim(motion.shape[1])
        motion = motion[row.captions[0].frames(len(motion), skeleton.default_fps)]
        swapped = swap_sides if row.mirrored else str
        yield {
            "id": row.id,
            "motion": motion,
            "captions": [{"text": swapped(caption.text), "start": 0.0, "end": 0.0} for caption in row.captions],
            "source": source,
            "fps": skeleton.default_fps,
            "num_frames": len(motion),
            "content": swapped(_last([caption.content for caption in row.captions])),
            "style": _last([caption.style for caption in row.captions]),
            "mirrored": row.mirrored,
        }


def _last(labels: list[str]) -> str:
    """Return the last label that is not empty."""
    return next(filter(None, reversed(labels)), "")
