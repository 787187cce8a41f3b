"""Load a motion dataset by name, from a path, or from the Hub."""

import os
from itertools import groupby
from pathlib import Path
from typing import Any

import datasets
from datasets import Dataset, DatasetDict, IterableDataset, IterableDatasetDict
from datasets.exceptions import DatasetNotFoundError

from lamp_hf.data.motionfolder import METADATA_NAMES, find_tables, load_motionfolder
from lamp_hf.data.named_sets import NAMED_SETS, dataset_name
from lamp_hf.data.schema import motion_features
from lamp_hf.hub.errors import missing_on_hub

_NEEDED_COLUMNS = ("id", "motion", "captions", "fps", "num_frames")
_CHOICES = (
    ", ".join(
        " or ".join(f'"{name}"' for name in names) + f" with path=<{place}>"
        for place, names in groupby(NAMED_SETS, lambda name: NAMED_SETS[name].place)
    )
    + f", such a path alone, a folder with {' or '.join(METADATA_NAMES)}, "
    "a folder written by save_to_disk, or the Hub id of a dataset (owner/name)"
)


def load_motion_dataset(
    name_or_path: str | os.PathLike[str],
    *,
    path: str | os.PathLike[str] | None = None,
    skip_bad: bool = False,
    cache_dir: str | os.PathLike[str] | None = None,
    **options: Any,
) -> DatasetDict:
    """Load a motion dataset.

    Args:
        name_or_path: One of:

            * `"bandai-namco"`, with `path=`: see `load_bandai_namco`;
            * `"cmu-mocap"`, with `path=`: see `load_cmu_mocap`;
            * `"humanml3d"` or `"kit-ml"`, with `path=`: see `load_humanml3d` and `load_kit_ml`;
            * the path of one of these alone, if its files can be recognized, see `dataset_name`;
            * a folder with `metadata.jsonl` or `metadata.csv`: see `load_motionfolder`;
            * a folder written by `DatasetDict.save_to_disk` or `Dataset.save_to_disk` (loaded as `train`);
            * the Hub id of a dataset.
        path: Path of a named dataset: the files as published by its authors, or a copy written by `save_to_disk`.
        skip_bad: Skip files that cannot be read, with a warning, instead of raising an error. It has no effect on
            copies and on Hub datasets, which contain converted motions.
        cache_dir: Folder of the cache for converted files, or for downloads of `datasets` from the Hub.
        options: Keyword arguments of the loader; for the Hub, those of `datasets.load_dataset`, such as
            `streaming=True`, which reads rows during iteration and stores nothing. Training needs a dataset that is
            not streamed because it draws clips in random order.

    Returns:
        Splits with the columns of `motion_features`. If `split=` selects a single split, it is named `train`.

    Raises:
        FileNotFoundError: The folder does not exist.
        HubError: The dataset does not exist on the Hub or is private.
        ValueError: The name is none of the above, or the dataset has other columns.
    """
    known = str(name_or_path) if name_or_path in NAMED_SETS else None
    if known and path is None:
        raise ValueError(
            f'"{known}": path is missing; pass path= (--data in `lamp-hf train`) with {NAMED_SETS[known].path}'
        )
    if not known and path is not None:
        raise ValueError(f"{name_or_path}: path={path} is only for the names {', '.join(NAMED_SETS)}; leave it out")
    folder = Path(name_or_path if path is None else path)
    if (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file():
        return checked_dataset(datasets.load_from_disk(str(folder), **options), str(folder))
    reading: dict[str, Any] = {"skip_bad": skip_bad, "cache_dir": cache_dir, **options}
    if known := known or dataset_name(folder):
        return NAMED_SETS[known].load(folder, **reading)
    if folder.is_dir():
        if find_tables(folder):
            return load_motionfolder(folder, **reading)
        raise ValueError(f"{folder}: not a motion dataset; expected {_CHOICES}")
    if folder.is_absolute() or len(folder.parts) != 2 or folder.parts[0] in (".", ".."):
        raise FileNotFoundError(f"{name_or_path}: no such dataset; expected {_CHOICES}")
    try:
        loaded = datasets.load_dataset(str(name_or_path), cache_dir=cache_dir, **options)
    except DatasetNotFoundError as error:
        raise missing_on_hub(str(name_or_path)) from error
    return checked_dataset(loaded, str(name_or_path))


def checked_dataset(loaded: Any, name: str) -> Any:
    """Return the splits of a motion dataset.

    Raises:
        ValueError: A column is missing.
    """
    if isinstance(loaded, Dataset):
        loaded = DatasetDict(train=loaded)
    elif isinstance(loaded, IterableDataset):
        loaded = IterableDatasetDict(train=loaded)
    for split, dataset in loaded.items():
        columns = dataset.column_names or []  # the columns of streamed files may be unknown
        missing = [column for column in _NEEDED_COLUMNS if column not in columns]
        if missing:
            raise ValueError(
                f"{name}, split {split}: column {missing[0]} is missing; "
                f"found {', '.join(columns) or 'none'}, expected {', '.join(motion_features())}"
            )
    return loaded
