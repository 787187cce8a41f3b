"""Where the motions of an index come from: a folder of motion files, or a motion dataset."""

import hashlib
import logging
import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from datasets import Dataset, DatasetDict, concatenate_datasets

from lamp_hf.data.conversion import ClipCache, ClipFile, default_cache_dir, refuse_failures
from lamp_hf.data.loading import NAMED_SETS, load_motion_dataset
from lamp_hf.data.motionfolder import find_tables, read_tables
from lamp_hf.data.schema import with_numpy_motion
from lamp_hf.motion.files import READERS
from lamp_hf.motion.motion import Motion

__all__ = ["Clip", "DatasetSource", "FolderSource", "Source", "find_source"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Clip:
    """A motion to be indexed.

    Attributes:
        id: Unique in its source.
        file: Path in the source's folder, empty where there is no file.
        captions: What is said about it, without repetition.
        digest: SHA-256 of the file or of the features, with the captions.
        motion: Features `(T, D)`, not normalised.
    """

    id: str
    file: str
    captions: tuple[str, ...]
    digest: str
    motion: np.ndarray


class Source(Protocol):
    """Gives motions to an index.

    Attributes:
        name: What the index knows it by.
        root: Folder of the files; `None` where there are none.
        identity: What tells it from other sources: a folder's path, a dataset's fingerprint.
    """

    name: str
    root: Path | None
    identity: str

    def __len__(self) -> int:
        """Number of motions, whether new to the index or not."""

    def ids(self) -> Collection[str] | None:
        """All ids, where a motion that is not among them shall leave the index; else `None`."""

    def clips(self, known: Collection[tuple[str, str]], chunk_size: int) -> Iterator[list[Clip | None]]:
        """All motions in chunks; in place of one whose id and digest are known, and of a bad one, `None`."""


class FolderSource:
    """A folder of motion files, with or without a table of captions (see `load_motionfolder`).

    A file without a line in the table has no captions, unless it is an NPZ file that holds its own. Files are
    converted once and kept in the cache by their content.

    Args:
        root: The folder; its sub-folders are searched too.
        reader_options: Passed to `Motion.load` for every file, as `{"fps": 30.0}`.
        skip_bad: Leave out files that cannot be read, with a warning, instead of refusing the folder.
        num_proc: Number of processes for the conversion, all cores by default.
        cache_dir: Folder of the cache, by default $LAMP_HF_CACHE or ~/.cache/lamp_hf.

    Raises:
        FileNotFoundError: There is no such folder, or it has no motion files.
        ValueError: A line of the table is wrong.
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
        self.name = self.identity = str(self._root)
        self.skip_bad = skip_bad
        self.num_proc = num_proc
        self.cache = ClipCache(
            Path(cache_dir or default_cache_dir()), mirror=False, reader_options=reader_options or {}
        )
        self.files = sorted(
            path.relative_to(self._root).as_posix()
            for path in self._root.rglob("*")
            if path.suffix.lower() in READERS and not path.name.startswith(".")
        )
        if not self.files:
            raise FileNotFoundError(f"{root}: no motion files ({' '.join(READERS)}) in this folder")
        self.captions: dict[str, tuple[str, ...]] = {}
        if find_tables(self._root):
            for name, clip in read_tables(self._root).items():
                self.captions[name] = tuple(dict.fromkeys(caption.text for caption in clip.captions))

    def __len__(self) -> int:
        return len(self.files)

    def ids(self) -> Collection[str] | None:
        """The files of the folder."""
        return self.files

    def clips(self, known: Collection[tuple[str, str]], chunk_size: int) -> Iterator[list[Clip | None]]:
        """See [`Source`].

        Raises:
            MotionFormatError: Files cannot be read, and `skip_bad` is False.
        """
        for start in range(0, len(self.files), chunk_size):
            names = self.files[start : start + chunk_size]
            digests = {name: self._digest(name) for name in names}
            new = [name for name in names if (name, digests[name]) not in known]
            sources = (ClipFile(name, Path(name).name, (self._root / name).read_bytes()) for name in new)
            contents, failures = self.cache.convert(sources, num_proc=self.num_proc, progress=False, total=len(new))
            refuse_failures(failures, self._root, skip_bad=self.skip_bad)
            chunk: list[Clip | None] = [None] * len(names)
            for k, name in enumerate(names):
                if name in contents:
                    motion = self.cache.read(name, contents[name])
                    chunk[k] = Clip(name, name, self._captions(name), digests[name], motion)
            yield chunk

    def _digest(self, name: str) -> str:
        content = hashlib.sha256((self._root / name).read_bytes())
        content.update(repr((self.captions.get(name), sorted(self.cache.reader_options.items()))).encode())
        return content.hexdigest()

    def _captions(self, name: str) -> tuple[str, ...]:
        if name in self.captions or Path(name).suffix.lower() != ".npz":
            return self.captions.get(name, ())
        text = Motion.load(self._root / name).text
        return (text,) if text else ()


class DatasetSource:
    """A motion dataset, with the columns `id`, `motion` and `captions` as [`motion_features`] has them.

    Args:
        dataset: All splits of a `DatasetDict` are taken.
        name: What the index shall know it by.

    Raises:
        ValueError: A column is missing.
    """

    def __init__(self, dataset: Dataset | DatasetDict, name: str = "dataset"):
        splits = list(dataset.values()) if isinstance(dataset, DatasetDict) else [dataset]
        for split in splits:
            if missing := [column for column in ("id", "motion", "captions") if column not in split.column_names]:
                raise ValueError(
                    f"column {missing[0]} is missing; found {', '.join(split.column_names)}, expected those of "
                    "lamp_hf.data.motion_features()"
                )
        filled = [split for split in splits if len(split)]
        if not filled:
            raise ValueError(f"{name} has no motions")
        self.dataset = with_numpy_motion(concatenate_datasets(filled).select_columns(["id", "motion", "captions"]))
        self.name = name
        self.root: Path | None = None
        self.identity = self.dataset._fingerprint

    def __len__(self) -> int:
        return len(self.dataset)

    def ids(self) -> Collection[str] | None:
        """`None`: another split of a set may have been indexed under the same name."""
        return None

    def clips(self, known: Collection[tuple[str, str]], chunk_size: int) -> Iterator[list[Clip | None]]:
        """See [`Source`]."""
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
    **options: Any,
) -> Source:
    """The motions of a folder of motion files, a folder that `save_to_disk` wrote, a dataset, or one known by name.

    Args:
        source: A folder, a dataset, or what [`load_motion_dataset`] takes.
        skip_bad, num_proc, cache_dir: As in [`FolderSource`].
        options: Of [`load_motion_dataset`], such as `path` for `"bandai-namco"` and the other known names.

    Raises:
        FileNotFoundError: It is none of them.
        ValueError: A dataset with other columns.
    """
    if isinstance(source, Dataset | DatasetDict):
        return DatasetSource(source)
    folder = Path(source)
    saved = any((folder / name).is_file() for name in ("dataset_dict.json", "state.json"))
    if folder.is_dir() and not saved:
        return FolderSource(folder, skip_bad=skip_bad, num_proc=num_proc, cache_dir=cache_dir)
    if not folder.exists() and str(source) not in NAMED_SETS and len(folder.parts) != 2:
        raise FileNotFoundError(
            f"{source}: no such folder; expected a folder of motion files, the folder of an index, a folder written by "
            "save_to_disk, or a Hub id (owner/name)"
        )
    if str(source) in NAMED_SETS:
        options = {"skip_bad": skip_bad, "num_proc": num_proc, "cache_dir": cache_dir, **options}
    if str(source) == "bandai-namco":
        # A mirror image is another clip to train on, but none that anyone could open.
        options = {"mirror": False, **options}
    return DatasetSource(load_motion_dataset(source, **options), str(folder.resolve() if saved else source))
