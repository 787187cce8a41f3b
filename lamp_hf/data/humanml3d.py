"""Load HumanML3D and KIT-ML from folders written by their authors' scripts; see `lamp_hf.data.field_layout`."""

import hashlib
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, DatasetDict

from lamp_hf.data.conversion import (
    CONVERSION_VERSION,
    ClipCache,
    cached_dataset,
    default_cache_dir,
    open_clips,
    refuse_failures,
)
from lamp_hf.data.field_layout import (
    HUMANML3D,
    KIT_ML,
    MOTIONS,
    SPLIT_FILES,
    TEXTS,
    FieldSet,
    TimedCaption,
    find_field_set,
    is_field_layout,
    is_mirrored,
    read_captions,
    read_splits,
    read_statistics,
    statistics_drift,
)
from lamp_hf.data.schema import dataset_statistics, motion_features
from lamp_hf.files import atomic_path

logger = logging.getLogger(__name__)

_LAYOUT_VERSION = 2  # increase it whenever a change alters the rows


@dataclass(frozen=True)
class _Row:
    """Row of the dataset to build: a whole motion, or the part that a caption with times describes."""

    id: str
    clip: str
    digest: str
    part: slice
    captions: tuple[tuple[str, str], ...]  # text and annotation


def is_humanml3d(path: Path) -> bool:
    """Return whether a folder contains HumanML3D."""
    return is_field_layout(path) and find_field_set(path) is HUMANML3D


def is_kit_ml(path: Path) -> bool:
    """Return whether a folder contains KIT-ML."""
    return is_field_layout(path) and find_field_set(path) is KIT_ML


def load_humanml3d(
    path: str | os.PathLike[str],
    *,
    skip_bad: bool = False,
    num_proc: int | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> DatasetDict:
    """Load HumanML3D: 263 features, 22 joints, 20 frames per second.

    The rows are those that the authors' loader uses for training and evaluation. A motion of 40 to 199 frames is one
    row, with the captions that describe all of it. A caption with times adds a row with the part that it describes, if
    this part also has 40 to 199 frames; its id is `<name>-line<n>`, where n is the line of the caption. The split files
    decide which mirror images (`M000000`) are included. `Mean.npy` and `Std.npy` are not used, because training
    computes the statistics of its own split; a warning is logged if they differ from these.

    Every file is checked once and cached by its content, so an interrupted call can be repeated and later calls are
    fast.

    Args:
        path: The folder with `new_joint_vecs`, `texts` and the split files.
        skip_bad: Skip motions and captions that are missing or cannot be read, with a warning, instead of raising an
            error. The authors' loader skips them silently.
        num_proc: Number of processes that read motions. Defaults to all cores.
        cache_dir: Folder of the cache. Defaults to $LAMP_HF_CACHE or ~/.cache/lamp_hf.
        progress: Show progress bars.

    Returns:
        Splits `train`, `validation` and `test` with the columns of `motion_features(annotated=True)`. A split is
        missing if its file (`train.txt`, `val.txt`, `test.txt`) is.

    Raises:
        FileNotFoundError: The folder, its motions or its split files are missing.
        MotionFormatError: A motion or a text is missing or cannot be read (see `lamp-hf data check`).
        ValueError: The folder contains another dataset, a motion is in two splits, or no motion can be used.
    """
    return _load(HUMANML3D, Path(path), skip_bad, num_proc, cache_dir, progress)


def load_kit_ml(
    path: str | os.PathLike[str],
    *,
    skip_bad: bool = False,
    num_proc: int | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> DatasetDict:
    """Load KIT-ML: 251 features, 21 joints, 12.5 frames per second, motions of 24 to 199 frames.

    Everything else is as in `load_humanml3d`. Caption times are converted to frames at 12.5 frames per second.
    """
    return _load(KIT_ML, Path(path), skip_bad, num_proc, cache_dir, progress)


def _load(
    field_set: FieldSet,
    root: Path,
    skip_bad: bool,
    num_proc: int | None,
    cache_dir: str | os.PathLike[str] | None,
    progress: bool,
) -> DatasetDict:
    if not is_field_layout(root):
        missing = f"the folder {MOTIONS} in it" if root.is_dir() else "a folder"
        raise FileNotFoundError(f"{root}: expected {missing}, as the authors of {field_set.name} publish it; not found")
    found = find_field_set(root)
    if found is not None and found is not field_set:
        raise ValueError(
            f"{root / MOTIONS}: {found.skeleton.feature_dim} features per frame belong to {found.name}, not to "
            f'{field_set.name}; load it as "{found.name}"'
        )
    splits = read_splits(root)
    _refuse_overlap(root, splits)
    names = list(dict.fromkeys(name for listed in splits.values() for name in listed))
    captions, failures = _read_texts(root, names)
    cache = ClipCache(Path(cache_dir) if cache_dir is not None else default_cache_dir(), mirror=False)
    files = open_clips({name: _motion_path(root, name) for name in captions}, failures)
    digests, unreadable = cache.convert(files, num_proc=num_proc, progress=progress, total=len(captions))
    failures |= unreadable
    shapes = {name: cache.shape(f"{name}.npy", digest) for name, digest in digests.items()}
    wanted = field_set.skeleton.feature_dim
    failures |= {
        n: f"{n}.npy: expected {wanted} features, found {dim}" for n, (_, dim) in shapes.items() if dim != wanted
    }
    refuse_failures(failures, root, skip_bad=skip_bad)
    rows: dict[str, list[_Row]] = {split: [] for split in splits}
    for split, listed in splits.items():
        for name in dict.fromkeys(listed):
            if name in shapes and name not in failures:
                rows[split] += _rows_of(name, digests[name], shapes[name][0], captions[name], field_set)
    if not any(rows.values()):
        raise ValueError(
            f"{root}: none of the {len(names)} motions in the split files can be used, expected "
            f"{field_set.min_frames} to {field_set.max_frames - 1} frames; run `lamp-hf data check {root}` for details"
        )
    logger.info("%s: %s", root, ", ".join(f"{len(chosen)} rows in {split}" for split, chosen in rows.items()))
    key = hashlib.sha256(repr((_LAYOUT_VERSION, CONVERSION_VERSION, field_set.name, rows)).encode()).hexdigest()
    makers: dict[str, Callable[[], Iterator[dict[str, Any]]]] = {
        split: partial(_make_rows, chosen, cache, field_set) for split, chosen in rows.items()
    }
    loaded = cached_dataset(cache.cache_dir, key, motion_features(wanted, annotated=True), makers, progress=progress)
    if rows.get("train"):
        _warn_of_drift(root, field_set, loaded["train"], cache.cache_dir / "statistics" / f"{key}.npy")
    return loaded


def _motion_path(root: Path, name: str) -> Path:
    return root / MOTIONS / f"{name}.npy"


def _refuse_overlap(root: Path, splits: dict[str, list[str]]) -> None:
    seen: dict[str, str] = {}
    for split, names in splits.items():
        for name in names:
            if seen.setdefault(name, split) != split:
                raise ValueError(
                    f"{root}: {name} is both in {SPLIT_FILES[seen[name]]} and in {SPLIT_FILES[split]}; keep one of them"
                )


def _read_texts(root: Path, names: list[str]) -> tuple[dict[str, list[TimedCaption]], dict[str, str]]:
    """Return the captions of motions that have both files, and the problems of other motions and of single lines."""
    captions: dict[str, list[TimedCaption]] = {}
    failures: dict[str, str] = {}
    for name in names:
        path = root / TEXTS / f"{name}.txt"
        if not _motion_path(root, name).is_file():
            failures[name] = f"{_motion_path(root, name)}: no such file, though a split file lists {name}"
        elif not path.is_file():
            failures[name] = f"{path}: no such file, though a split file lists {name}"
        else:
            try:
                found, problems = read_captions(path)
            except ValueError as error:
                failures[name] = str(error)
                continue
            failures |= {f"{path.name} {problem.partition(':')[0]}": f"{path} {problem}" for problem in problems}
            if found:
                captions[name] = found
            elif not problems:
                failures[name] = f"{path}: contains no captions"
    return captions, failures


def _rows_of(
    name: str, digest: str, num_frames: int, captions: list[TimedCaption], field_set: FieldSet
) -> Iterator[_Row]:
    used = field_set.used(captions, num_frames)
    if whole := tuple((caption.text, caption.tokens) for caption in used if caption.whole):
        yield _Row(name, name, digest, slice(0, num_frames), whole)
    for caption in used:
        # As in the authors' loader, each line becomes a separate clip, even if two lines have the same times.
        if not caption.whole:
            part = field_set.frames(caption, num_frames)
            yield _Row(f"{name}-line{caption.line}", name, digest, part, ((caption.text, caption.tokens),))


def _make_rows(rows: list[_Row], cache: ClipCache, field_set: FieldSet) -> Iterator[dict[str, Any]]:
    for row in rows:
        motion = cache.read(f"{row.clip}.npy", row.digest)[row.part]
        yield {
            "id": row.id,
            "motion": motion,
            "captions": [{"text": text, "start": 0.0, "end": 0.0} for text, _ in row.captions],
            "source": field_set.name,
            "fps": field_set.skeleton.default_fps,
            "num_frames": len(motion),
            "content": "",
            "style": "",
            "mirrored": is_mirrored(row.clip),
            "tokens": [tokens for _, tokens in row.captions],
        }


def _warn_of_drift(root: Path, field_set: FieldSet, train: Dataset, kept: Path) -> None:
    """Warn if `Mean.npy` or `Std.npy` differs from the training split, whose statistics are cached."""
    try:
        stored = read_statistics(root, field_set.skeleton)
    except FileNotFoundError:
        logger.info("%s: Mean.npy or Std.npy is missing; training computes its own statistics", root)
        return
    except ValueError as error:
        logger.warning("%s (training does not use it)", error)
        return
    if not kept.is_file():
        kept.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(kept) as unfinished:
            np.save(unfinished, np.stack(dataset_statistics(train).mean_and_std()))
    mean, std = np.load(kept, allow_pickle=False)
    for name, problem in statistics_drift(stored, (mean, std)):
        logger.warning("%s: %s (training does not use it)", root / name, problem)
