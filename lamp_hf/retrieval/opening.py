"""Whatever names an index or motions to be indexed, as an index that is up to date."""

import hashlib
import logging
import os
from pathlib import Path
from typing import Any, TypeAlias

from datasets import Dataset, DatasetDict

from lamp_hf.data.conversion import default_cache_dir

from .encoder import MotionTextEncoder
from .index import FORMAT, MotionIndex, MotionIndexError, discard_index, is_index
from .sources import FolderSource, Source, find_source, may_be_on_hub

__all__ = ["IndexInput", "build_index", "cached_index_path", "open_index"]

logger = logging.getLogger(__name__)

IndexInput: TypeAlias = MotionIndex | Dataset | DatasetDict | str | os.PathLike[str]


def open_index(
    index: IndexInput,
    encoder: MotionTextEncoder,
    *,
    skip_bad: bool = True,
    num_proc: int | None = None,
    progress: bool = True,
    cache_dir: str | os.PathLike[str] | None = None,
    reader_options: dict[str, Any] | None = None,
) -> MotionIndex:
    """The index that something names.

    One in the cache that is damaged is made again.

    Args:
        index: An index or its folder; a folder of motion files, a folder that `save_to_disk` wrote, or a dataset,
            which are indexed in the cache and kept up to date there; or the id of an index or of a motion dataset
            on the Hub.
        encoder: Makes the vectors of queries, and those of motions that are not indexed yet.
        skip_bad, num_proc, cache_dir, reader_options: As in [`FolderSource`].
        progress: Show progress bars.

    Raises:
        FileNotFoundError: There is nothing of that name.
        IndexMismatchError: The index was made with another checkpoint.
        MotionIndexError: The index is damaged, or of another version.
    """
    if isinstance(index, str | os.PathLike):
        if is_index(index):
            index = MotionIndex.open(index)
        elif not Path(index).exists() and _is_index_on_hub(str(index)):
            index = MotionIndex.from_hub(str(index))
    if isinstance(index, MotionIndex):
        index.check(encoder)
        return index
    source = find_source(
        index, skip_bad=skip_bad, num_proc=num_proc, cache_dir=cache_dir, reader_options=reader_options
    )
    path = cached_index_path(source, encoder, cache_dir)
    try:
        if not isinstance(source, FolderSource) and is_index(path):
            made = MotionIndex.open(path)
            if made.complete:  # of these very rows: the path tells
                return made
        return build_index(path, source, encoder, progress=progress)
    except MotionIndexError as error:
        logger.warning("%s; it lies in the cache and is made again now", error)
        discard_index(path)
        return build_index(path, source, encoder, progress=progress)


def build_index(
    path: str | os.PathLike[str],
    source: Source,
    encoder: MotionTextEncoder,
    *,
    vectors_per_motion: int | None = None,
    progress: bool = True,
) -> MotionIndex:
    """An index in a folder, made or brought up to date.

    Args:
        path: Folder of the index.
        source: Its motions, or more of them.
        encoder: The checkpoint.
        vectors_per_motion: Of a new index, see [`MotionIndex.create`]; one that is there must have been made so.
        progress: Show progress bars.

    Raises:
        MotionIndexError: The index that is there was made with other vectors.
    """
    index = None
    if not is_index(path):
        try:
            index = MotionIndex.create(path, encoder, vectors_per_motion=vectors_per_motion)
        except FileExistsError:
            if not is_index(path):  # else another process was faster
                raise
    if index is None:
        index = MotionIndex.open(path)
        if vectors_per_motion not in (None, index.vectors_per_motion):
            raise MotionIndexError(
                f"the index {path} was made with vectors_per_motion={index.vectors_per_motion}, not "
                f"{vectors_per_motion}; make another one"
            )
    index.add(source, encoder, progress=progress)
    return index


def cached_index_path(
    source: Source, encoder: MotionTextEncoder, cache_dir: str | os.PathLike[str] | None = None
) -> Path:
    """Where the cache has the index of a folder, whatever it holds by now, or of a dataset's rows as they are.

    Another checkpoint has its own.
    """
    name = hashlib.sha256(f"{FORMAT} {source.identity} {encoder.fingerprint}".encode()).hexdigest()[:32]
    return Path(cache_dir or default_cache_dir()) / "indexes" / name


def _is_index_on_hub(name: str) -> bool:
    """Whether a dataset repository, online or in the cache of the Hub, holds an index."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    if not may_be_on_hub(name):
        return False
    try:
        hf_hub_download(name, "index.json", repo_type="dataset")
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError):
        return False
    return True
