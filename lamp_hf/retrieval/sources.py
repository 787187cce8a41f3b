"""Sources of the motions in an index: a folder of motion files or a motion dataset."""

import hashlib
import logging
import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from datasets import Dataset, DatasetDict, concatenate_datasets

from lamp_hf.data.conversion import ClipCache, default_cache_dir, open_clips, refuse_failures
from lamp_hf.data.loading import load_motion_dataset
from lamp_hf.data.motionfolder import find_tables, read_tables
from lamp_hf.data.named_sets import NAMED_SETS
from lamp_hf.data.schema import with_numpy_motion
from lamp_hf.files import file_digest
from lamp_hf.motion.inputs import as_motion, failure, find_motion_files, no_motion_files

__all__ = ["Clip", "DatasetSource", "FolderSource", "Source", "find_source", "may_be_on_hub"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Clip:
    """Motion to be indexed.

    Attributes:
        id: Identifier, unique in its source.
        file: Path relative to the source's folder; empty if there is no file.
        captions: Captions of the motion, without duplicates.
        digest: SHA-256 of the file or the features, with the captions.
        motion: Features `(T, D)`, not normalized.
    """

    id: str
    file: str
    captions: tuple[str, ...]
    digest: str
    motion: np.ndarray


class Source(Protocol):
    """Protocol of a source of motions.

    Attributes:
        name: Name of the source in the index.
        root: Folder of the files; `None` if there are none.
        identity: Unique key of the source: the path of a folder or the fingerprint of a dataset.
    """

    name: str
    root: Path | None
    identity: str

    def __len__(self) -> int:
        """Number of motions, including those that the index contains already."""

    def ids(self) -> Collection[str] | None:
        """Return all ids if the index should drop motions that are not among them, otherwise `None`."""

    def clips(
        self, known: Collection[tuple[str, str]], chunk_size: int, *, progress: bool = False
    ) -> Iterator[list[Clip | None]]:
        """Yield all motions in chunks.

        A motion whose `(id, digest)` is in `known`, and one that cannot be read, is `None`.
        """


class FolderSource:
    """Folder of motion files, with or without a table of captions (see `load_motionfolder`).

    A file without a line in the table has no captions, unless it is an NPZ file that contains its own. Files are
    converted once; the cache stores the result by file content.

    Args:
        root: The folder. Its subfolders are searched too.
        reader_options: Passed to `as_motion` for every file, such as `{"fps": 30.0}`.
        skip_bad: Skip files that cannot be read, with a warning, instead of raising an error.
        num_proc: Number of processes for the conversion. Defaults to all cores.
        cache_dir: Folder of the cache. Defaults to $LAMP_HF_CACHE or ~/.cache/lamp_hf.

    Raises:
        FileNotFoundError: The folder does not exist or does not contain motion files.
        ValueError: A line of the table is invalid.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        reader_options: dict[str, Any] | None = None,
        skip_bad: bool = False,
        num_proc: int | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
    ):
        self.root: Path | None = Path(root).resolve()
        if not self.root.is_dir():
            raise FileNotFoundError(f"{root}: no such folder")
        self._root = self.root
        self.skip_bad = skip_bad
        self.num_proc = num_proc
        self.cache = ClipCache(
            Path(cache_dir or default_cache_dir()), mirror=False, reader_options=reader_options or {}
        )
        self.name = str(self._root)
        self.identity = f"{self._root} {self.cache.options_key}" if reader_options else self.name
        found = find_motion_files(self._root)
        if not any(found):
            raise FileNotFoundError(no_motion_files(root))
        self.files = [path.relative_to(self._root).as_posix() for path in found.files]
        problems = {path.relative_to(self._root).as_posix(): problem for path, problem in found.problems.items()}
        self._problems = {name: f"{name}: {problem}" for name, problem in problems.items()}
        self._left_out: frozenset[str] = frozenset()
        self.captions: dict[str, tuple[str, ...]] = {}
        if find_tables(self._root):
            for name, clip in read_tables(self._root).items():
                self.captions[name] = tuple(dict.fromkeys(caption.text for caption in clip.captions))
                if clip.problem:
                    self._problems[name] = clip.problem

    def __len__(self) -> int:
        return len(self.files)

    def ids(self) -> Collection[str] | None:
        """Return the files of the folder, without those that could not be read."""
        return [name for name in self.files if name not in self._left_out]

    def clips(
        self, known: Collection[tuple[str, str]], chunk_size: int, *, progress: bool = False
    ) -> Iterator[list[Clip | None]]:
        """Yield all motions in chunks, see [`Source`].

        All files are converted before the first chunk, so one error names every file that cannot be read.

        Raises:
            MotionFormatError: Files cannot be read, and `skip_bad` is False.
        """
        failures = dict(self._problems)
        digests: dict[str, str] = {}
        for name in self.files:
            try:
                digests[name] = self._digest(name, file_digest(self._root / name))
            except OSError as error:
                failures[name] = failure(name, error)
        new = {name: self._root / name for name, digest in digests.items() if (name, digest) not in known}
        contents, unreadable = self.cache.convert(
            open_clips(new, failures), num_proc=self.num_proc, progress=progress and bool(new), total=len(new)
        )
        failures |= unreadable
        refuse_failures(failures, self._root, skip_bad=self.skip_bad)
        self._left_out = frozenset(failures)
        for start in range(0, len(self.files), chunk_size):
            yield [
                self._clip(name, contents[name]) if name in contents else None
                for name in self.files[start : start + chunk_size]
            ]

    def _clip(self, name: str, content: str) -> Clip:
        motion = self.cache.read(name, content)
        return Clip(name, name, self._captions(name), self._digest(name, content), motion)

    def _digest(self, name: str, content: str) -> str:
        parts = (content, self.captions.get(name), self.cache.options_key)
        return hashlib.sha256(repr(parts).encode()).hexdigest()

    def _captions(self, name: str) -> tuple[str, ...]:
        if name in self.captions or Path(name).suffix.lower() != ".npz":
            return self.captions.get(name, ())
        text = as_motion(self._root / name, **self.cache.reader_options).text
        return (text,) if text else ()


class DatasetSource:
    """Motion dataset with the columns `id`, `motion` and `captions` of [`motion_features`].

    Args:
        dataset: The dataset. All splits of a `DatasetDict` are used.
        name: Name of the source in the index.

    Raises:
        ValueError: A column is missing, or there are no motions.
    """

    def __init__(self, dataset: Dataset | DatasetDict, name: str = "dataset"):
        splits = list(dataset.values()) if isinstance(dataset, DatasetDict) else [dataset]
        for split in splits:
            if missing := [column for column in ("id", "motion", "captions") if column not in split.column_names]:
                raise ValueError(
                    f"{name}: column {missing[0]} is missing; found {', '.join(split.column_names)}, expected the "
                    "columns of lamp_hf.data.motion_features()"
                )
        filled = [split for split in splits if len(split)]
        if not filled:
            raise ValueError(f"{name}: the dataset is empty; pass one with motions")
        self.dataset = with_numpy_motion(concatenate_datasets(filled).select_columns(["id", "motion", "captions"]))
        self.name = name
        self.root: Path | None = None
        self.identity = self.dataset._fingerprint

    def __len__(self) -> int:
        return len(self.dataset)

    def ids(self) -> Collection[str] | None:
        """Return `None`: the index may contain another split of the dataset under the same name."""
        return None

    def clips(
        self, known: Collection[tuple[str, str]], chunk_size: int, *, progress: bool = False
    ) -> Iterator[list[Clip | None]]:
        """Yield all motions in chunks, see [`Source`]."""
        for rows in self.dataset.iter(batch_size=chunk_size):
            chunk: list[Clip | None] = []
            for name, motion, captions in zip(rows["id"], rows["motion"], rows["captions"], strict=True):
                motion = np.ascontiguousarray(motion, np.float32)
                texts = _texts(captions)
                digest = hashlib.sha256(motion.data)
                digest.update(repr(texts).encode())
                new = (name, digest.hexdigest()) not in known
                chunk.append(Clip(name, "", texts, digest.hexdigest(), motion) if new else None)
            yield chunk


def _texts(captions: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(caption["text"] for caption in captions))


def find_source(
    source: str | os.PathLike[str] | Dataset | DatasetDict,
    *,
    skip_bad: bool = False,
    num_proc: int | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    reader_options: dict[str, Any] | None = None,
    **options: Any,
) -> Source:
    """Return the source for a folder of motion files, a folder that `save_to_disk` wrote, or a dataset.

    Args:
        source: A folder, a dataset, or a name that [`load_motion_dataset`] accepts.
        skip_bad, num_proc, cache_dir, reader_options: See [`FolderSource`].
        options: Passed to [`load_motion_dataset`], such as `path` for `"bandai-namco"` and the other named datasets.

    Raises:
        FileNotFoundError: `source` is none of these.
        ValueError: The dataset has other columns, or `reader_options` are given for anything but a folder of motion
            files.
    """
    if isinstance(source, Dataset | DatasetDict):
        _refuse_reading(reader_options)
        return DatasetSource(source)
    folder = Path(source)
    saved = any((folder / name).is_file() for name in ("dataset_dict.json", "state.json"))
    if folder.is_dir() and not saved:
        return FolderSource(
            folder, reader_options=reader_options, skip_bad=skip_bad, num_proc=num_proc, cache_dir=cache_dir
        )
    _refuse_reading(reader_options)
    if not folder.exists() and str(source) not in NAMED_SETS and not may_be_on_hub(source):
        raise FileNotFoundError(
            f"{source}: no such folder; expected a folder of motion files, the folder of an index, a folder "
            "written by save_to_disk, or a Hub id (owner/name)"
        )
    if (named := NAMED_SETS.get(str(source))) is not None:
        # `named.recorded` leaves out mirror images: they are useful for training, but there is no file to open.
        reading = {"skip_bad": skip_bad, "num_proc": num_proc, "cache_dir": cache_dir}
        options = {**reading, **named.recorded, **options}
    return DatasetSource(load_motion_dataset(source, **options), str(folder.resolve() if saved else source))


def may_be_on_hub(name: str | os.PathLike[str]) -> bool:
    """Return whether a name looks like a Hub id `owner/name` rather than a mistyped local path."""
    parts = Path(name).parts
    return len(parts) == 2 and not parts[0].startswith((".", "/", "~")) and not Path(parts[0]).exists()


def _refuse_reading(reader_options: dict[str, Any] | None) -> None:
    if reader_options:
        raise ValueError(
            f"{', '.join(reader_options)}: only for folders of motion files; this dataset has already been converted"
        )
