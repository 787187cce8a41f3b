"""Load the CMU motion capture database as one dataset."""

import hashlib
import logging
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from datasets import DatasetDict

from lamp_hf.data.archives import (
    archive_clips,
    first_file_in,
    remember_clips,
    remembered_clips,
    until_all_found,
)
from lamp_hf.data.cmu.facts import CLAIMED_FPS, TakeFacts, facts_beside, packaged_facts
from lamp_hf.data.cmu.segments import (
    Segment,
    described_segments,
    fitted_frames,
    packaged_segments,
    read_segments,
)
from lamp_hf.data.cmu.takes import take_features, take_of
from lamp_hf.data.conversion import (
    CONVERSION_VERSION,
    ClipCache,
    ClipFile,
    cached_dataset,
    default_cache_dir,
    open_clips,
    refuse_failures,
)
from lamp_hf.data.motionfolder import find_tables
from lamp_hf.data.schema import MIRRORED, motion_features
from lamp_hf.files import file_digest
from lamp_hf.motion.errors import MotionFormatError
from lamp_hf.motion.skeleton import HUMANML3D_22
from lamp_hf.motion.text import swap_sides

logger = logging.getLogger(__name__)

SOURCE = "cmu-mocap"
_LAYOUT_VERSION = 1  # increase it whenever a change alters the rows
_FPS = HUMANML3D_22.default_fps


@dataclass(frozen=True)
class _Take:
    """Take that becomes one or more rows."""

    facts: TakeFacts
    file_name: str
    digest: str
    segments: tuple[Segment, ...]  # empty if the database's own description is the caption


def load_cmu_mocap(
    path: str | os.PathLike[str],
    *,
    captions: str | os.PathLike[str] | None = None,
    names: Collection[str] | None = None,
    mirror: bool = True,
    skip_bad: bool = False,
    num_proc: int | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> DatasetDict:
    """Load takes of the CMU Graphics Lab motion capture database as HumanML3D features at 20 fps, with captions.

    All public BVH conversions of the database work (for MotionBuilder, for 3ds Max, for Daz, or plain). They specify
    120 frames per second for every take; takes captured at 60 are slowed down to their true speed. The T-pose before
    the motion is removed, and spans with marker swaps or pops are not used. A motion that the database contains under
    two numbers is loaded once. Each segment that has captions becomes a row. If your own `takes.csv` describes a take
    without captions, its sound stretches become rows, with that description as their caption.

    The first call converts the takes and caches the result; later calls take a second.

    Args:
        path: A tar archive of BVH files, or a folder with them at any depth, named by their takes (`01/01_01.bvh`). A
            `takes.csv` in this folder, or next to the archive, adds facts about takes that this package does not have.
            Its columns are take, capture_fps, split and, optionally, description.
        captions: A file with one line per segment, `{"take": ..., "start": ..., "end": ..., "captions": [...]}`, in
            seconds. Defaults to the captions of this package. "rewordings" selects the package's other captions of 416
            segments, which were written independently to measure how a model handles other wordings.
        names: Load only these takes.
        mirror: Add the mirror image of every training row as `<id>-mirrored`, with left and right swapped.
        skip_bad: Skip files that cannot be read, with a warning, instead of raising an error. Takes that are too short
            or broken throughout are always skipped with a warning.
        num_proc: Number of processes for the conversion. Defaults to all cores.
        cache_dir: Folder of the cache. Defaults to $LAMP_HF_CACHE or ~/.cache/lamp_hf.
        progress: Show progress bars.

    Returns:
        Splits `train` and `validation`, and `test` if a `takes.csv` lists it, with the columns of `motion_features`;
        `content` is the database's description of the take. Takes without a split are not included.

    Raises:
        FileNotFoundError: The archive, the folder or the file of captions does not exist.
        MotionFormatError: The archive is damaged or does not contain takes, or a take cannot be read.
        ValueError: Takes of `names` are missing, no take can be used, or a line of a table is invalid.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(
            f"{path}: no such archive or folder; expected BVH files of the CMU database, such as 01/01_01.bvh"
        )
    facts = facts_beside(path if path.is_dir() else path.parent)
    if captions is None or captions == "rewordings":
        captioned = packaged_segments(captions or "captions")
    else:
        captioned = read_segments(Path(captions))
    slower = {take: fact.capture_fps for take, fact in facts.items() if fact.capture_fps != CLAIMED_FPS}
    cache = ClipCache(
        Path(cache_dir) if cache_dir is not None else default_cache_dir(),
        mirror,
        {"capture_fps": slower},
        take_features,
    )
    wanted = None if names is None else frozenset(names)
    files = _convert_all(path, cache, wanted, skip_bad=skip_bad, num_proc=num_proc, progress=progress)
    splits = _takes_by_split(path, files, facts, captioned)
    key = hashlib.sha256(repr((_LAYOUT_VERSION, CONVERSION_VERSION, mirror, slower, splits)).encode()).hexdigest()
    makers: dict[str, Callable[[], Iterator[dict[str, Any]]]] = {
        split: partial(_make_rows, takes, cache, mirror and split == "train") for split, takes in splits.items()
    }
    return cached_dataset(cache.cache_dir, key, motion_features(), makers, progress=progress)


def is_cmu_set(path: Path) -> bool:
    """Return whether a folder or archive is a copy of the database: its BVH files are in folders named by subject.

    A folder with a table of captions is a motion folder of the user, not a copy.
    """
    if path.is_file():
        first = first_file_in(path, ".bvh") if ".tar" in path.suffixes else None
        return first is not None and is_cmu_file(Path(first))
    if not path.is_dir() or find_tables(path):
        return False
    return any(is_cmu_file(file) for file in islice((f for f in path.rglob("*") if f.suffix.lower() == ".bvh"), 1))


def is_cmu_file(path: Path) -> bool:
    """Return whether a path ends like those of the database: `01/01_01.bvh` or `001/01_01.bvh`."""
    take = take_of(path)
    folder = path.parent.name
    return take is not None and folder.isdigit() and int(folder) == int(take.split("_")[0])


# ---- which files -------------------------------------------------------------------------------------------


def _convert_all(
    path: Path,
    cache: ClipCache,
    wanted: frozenset[str] | None,
    *,
    skip_bad: bool,
    num_proc: int | None,
    progress: bool,
) -> dict[str, tuple[str, str]]:
    """Convert all takes that are not in the cache; return the file name and digest of each take."""
    index_path = None
    if path.is_file():
        index_path = cache.cache_dir / "archives" / f"{file_digest(path)}-cmu.json"
        known = {take: (name, digest) for take, (name, digest) in remembered_clips(index_path).items()}
        if known:
            chosen = {take: file for take, file in known.items() if wanted is None or take in wanted}
            if all(cache.has(name, digest) for name, digest in chosen.values()):
                return _all_found(chosen, wanted, path)
    unopened: dict[str, str] = {}
    clips, total = take_files(path, unopened, wanted)
    file_names: dict[str, str] = {}

    def noted() -> Iterator[ClipFile]:
        for clip in clips:
            file_names[clip.clip] = clip.file_name
            yield clip

    digests, failures = cache.convert(noted(), num_proc=num_proc, progress=progress, total=total)
    failures |= unopened
    refuse_failures(failures, path, skip_bad=skip_bad)
    if not digests and not failures and wanted is None:
        raise MotionFormatError(f"{path}: no takes found; expected BVH files named by take, such as 01/01_01.bvh")
    files = {take: (file_names[take], digest) for take, digest in digests.items()}
    if index_path is not None and wanted is None and not failures:
        remember_clips(index_path, files)
    return _all_found({**files, **dict.fromkeys(failures, ("", ""))}, wanted, path, without=failures)


def take_files(
    path: Path, unopened: dict[str, str], wanted: frozenset[str] | None = None
) -> tuple[Iterator[ClipFile], int | None]:
    """Return the BVH files of takes in an archive or folder, and their number, which is `None` for an archive.

    Args:
        path: The archive or folder.
        unopened: Receives the reason for each file that cannot be opened.
        wanted: Takes to read. Defaults to all.

    Raises:
        ValueError: There are two files of one take.
    """
    if path.is_file():
        return until_all_found(archive_clips(path, partial(_wanted_take, wanted)), wanted), None
    paths: dict[str, Path] = {}
    for file in sorted(file for file in path.rglob("*") if file.suffix.lower() == ".bvh"):
        if (take := _wanted_take(wanted, file)) is not None:
            if take in paths:
                raise ValueError(f"{path}: take {take} has two files, {paths[take]} and {file}; keep one of them")
            paths[take] = file
    return open_clips(paths, unopened), len(paths)


def _wanted_take(wanted: frozenset[str] | None, file: Path) -> str | None:
    take = take_of(file) if file.suffix.lower() == ".bvh" else None
    return take if wanted is None or take in wanted else None


def _all_found(
    files: dict[str, tuple[str, str]],
    wanted: frozenset[str] | None,
    path: Path,
    without: Collection[str] = (),
) -> dict[str, tuple[str, str]]:
    """Return the files in the order of their takes.

    Raises:
        ValueError: A wanted take is missing.
    """
    if wanted is not None and (missing := sorted(wanted - set(files))):
        raise ValueError(f"{path}: {len(missing)} of the takes in names are missing, such as {missing[0]}")
    return {take: files[take] for take in sorted(files, key=_number) if take not in without}


def _number(take: str) -> tuple[int, ...]:
    return tuple(map(int, take.split("_")))


def _takes_by_split(
    path: Path, files: Mapping[str, tuple[str, str]], facts: Mapping[str, TakeFacts], captioned: tuple[Segment, ...]
) -> dict[str, list[_Take]]:
    """Return the takes of each split with their segments, and log those that are not used and why."""
    segments: dict[str, list[Segment]] = {}
    for segment in captioned:
        segments.setdefault(segment.take, []).append(segment)
    originals = {take: facts[take].copy_of or take for take in files if take in facts}
    splits: dict[str, list[_Take]] = {"train": [], "validation": []}
    left_out: dict[str, list[str]] = {}
    seen: dict[str, str] = {}
    packaged = packaged_facts()
    for take, (file_name, digest) in files.items():
        original = originals.get(take, take)
        known = facts.get(original, TakeFacts(take))
        if original != take and original in files:
            left_out.setdefault("they are copies of other takes", []).append(take)
        elif digest in seen:
            left_out.setdefault("their files are identical to those of other takes", []).append(take)
        elif not known.split:
            left_out.setdefault("they belong to no split", []).append(take)
        elif captioned and original not in segments and not (known.description and known != packaged.get(original)):
            left_out.setdefault("they have no captions", []).append(take)
        else:
            chosen = _Take(known, file_name, digest, tuple(segments.get(original, ())))
            splits.setdefault(known.split, []).append(chosen)
        seen.setdefault(digest, take)
    for reason, takes in left_out.items():
        logger.info("%s: skipped %d takes because %s: %s", path, len(takes), reason, ", ".join(takes))
    if not any(splits.values()):
        raise ValueError(
            f"{path}: none of the {len(files)} takes can be used ({next(iter(left_out), 'no file was read')}); list "
            "them in a takes.csv with their capture_fps, split and description"
        )
    return splits


# ---- rows --------------------------------------------------------------------------------------------------


def _make_rows(takes: list[_Take], cache: ClipCache, with_mirrored: bool) -> Iterator[dict[str, Any]]:
    for take in takes:
        recorded = cache.read(take.file_name, take.digest)
        sound = ~(recorded != recorded).any(axis=1)  # broken frames are NaN
        if not sound.any():
            logger.warning("%s: skipped, too short or broken throughout", take.facts.take)
            continue
        mirrored = cache.read(take.file_name, take.digest, mirrored=True) if with_mirrored else None
        for segment in take.segments or described_segments(take.facts, sound, _FPS):
            frames = fitted_frames(segment, sound, _FPS)
            if isinstance(frames, str):
                logger.warning("%s: skipped, %s", segment.id, frames)
                continue
            yield _row(take.facts, segment, recorded[frames], mirrored=False)
            if mirrored is not None:
                yield _row(take.facts, segment, mirrored[frames], mirrored=True)


def _row(facts: TakeFacts, segment: Segment, motion: Any, *, mirrored: bool) -> dict[str, Any]:
    said = swap_sides if mirrored else str
    return {
        "id": segment.id + (MIRRORED if mirrored else ""),
        "motion": motion,
        "captions": [{"text": said(text), "start": 0.0, "end": 0.0} for text in segment.captions],
        "source": SOURCE,
        "fps": _FPS,
        "num_frames": len(motion),
        "content": said(facts.description),
        "style": "",
        "mirrored": mirrored,
    }
