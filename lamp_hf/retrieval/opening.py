"""Open the index that a name, folder or dataset refers to; build or update it where needed."""

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
    """Open an index, or index motions in the cache and open that index.

    A damaged index in the cache is rebuilt.

    Args:
        index: One of: an index, its folder, or its Hub id; or motions to index in the cache, where the index is kept
            up to date: a folder of motion files, a folder that `save_to_disk` wrote, a dataset, or the Hub id of a
            motion dataset.
        encoder: Encodes queries and motions that are not indexed yet.
        skip_bad, num_proc, cache_dir, reader_options: See [`FolderSource`].
        progress: Show progress bars.

    Raises:
        FileNotFoundError: Nothing with that name exists.
        IndexMismatchError: The index was made with another checkpoint.
        MotionIndexError: The index is damaged or has another format version.
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
            if made.complete:  # the path depends on the rows, so they have not changed
                return made
        return build_index(path, source, encoder, progress=progress)
    except MotionIndexError as error:
        logger.warning("rebuilding a cached index: %s", error)
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
    """Create the index in a folder, or bring the existing one up to date.

    Args:
        path: Folder of the index.
        source: Motions to add.
        encoder: The checkpoint that encodes them.
        vectors_per_motion: See [`MotionIndex.create`]. An existing index must have been made with the same value.
        progress: Show progress bars.

    Raises:
        MotionIndexError: The existing index was made with another `vectors_per_motion`, or is damaged.
    """
    index = None
    if not is_index(path):
        try:
            index = MotionIndex.create(path, encoder, vectors_per_motion=vectors_per_motion)
        except FileExistsError:
            if not is_index(path):  # otherwise another process has just created it
                raise
    if index is None:
        index = MotionIndex.open(path)
        if vectors_per_motion not in (None, index.vectors_per_motion):
            raise MotionIndexError(
                f"{path}: the index was made with vectors_per_motion={index.vectors_per_motion}, not "
                f"{vectors_per_motion}; make a new index in another folder"
            )
    index.add(source, encoder, progress=progress)
    return index


def cached_index_path(
    source: Source, encoder: MotionTextEncoder, cache_dir: str | os.PathLike[str] | None = None
) -> Path:
    """Return the path of the cached index for a source and a checkpoint.

    The path of a folder's index does not depend on its files, so the index can be updated. That of a dataset's index
    depends on the rows.
    """
    name = hashlib.sha256(f"{FORMAT} {source.identity} {encoder.fingerprint}".encode()).hexdigest()[:32]
    return Path(cache_dir or default_cache_dir()) / "indexes" / name


def _is_index_on_hub(name: str) -> bool:
    """Return whether a dataset repository, on the Hub or in its local cache, contains an index."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    if not may_be_on_hub(name):
        return False
    try:
        hf_hub_download(name, "index.json", repo_type="dataset")
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError):
        return False
    return True
