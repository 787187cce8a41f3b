"""One function that loads a motion dataset from wherever it is."""

import os
from pathlib import Path
from typing import Any

import datasets
from datasets import Dataset, DatasetDict

from lamp_hf.data.bandai_namco import load_bandai_namco
from lamp_hf.data.motionfolder import METADATA_NAMES, find_tables, load_motionfolder
from lamp_hf.data.schema import motion_features

_NEEDED_COLUMNS = ("id", "motion", "captions", "fps", "num_frames")
_CHOICES = (
    '"bandai-namco" with path=<archive or clone>, a folder with ' + " or ".join(METADATA_NAMES) + ", "
    "a folder written by save_to_disk, or the id of a dataset on the Hub (owner/name)"
)


def load_motion_dataset(name_or_path: str | os.PathLike[str], **options: Any) -> DatasetDict:
    """Load a motion dataset.

    Args:
        name_or_path: one of

            * `"bandai-namco"`, with `path=`: see `load_bandai_namco`;
            * a folder with `metadata.jsonl` or `metadata.csv`: see `load_motionfolder`;
            * a folder written by `DatasetDict.save_to_disk` (or `Dataset.save_to_disk`, which gives `train`);
            * the id of a dataset on the Hub.
        options: keyword arguments of that loader; for the Hub, those of `datasets.load_dataset`.

    Returns:
        Splits with the columns of `motion_features`.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: the name is none of the above, or the dataset found has other columns.
    """
    if name_or_path == "bandai-namco":
        if options.get("path") is None:
            raise ValueError(
                '"bandai-namco" needs path= (--data in `lamp-hf train`), the archive or a clone of the repository'
            )
        return load_bandai_namco(**options)
    folder = Path(name_or_path)
    if folder.is_dir():
        if find_tables(folder):
            return load_motionfolder(folder, **options)
        if (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file():
            return _checked(datasets.load_from_disk(str(folder), **options), str(folder))
        raise ValueError(f"{folder}: no motion dataset; expected {_CHOICES}")
    if folder.is_absolute() or len(folder.parts) != 2 or folder.parts[0] in (".", ".."):
        raise FileNotFoundError(f"{name_or_path}: no such dataset; expected {_CHOICES}")
    return _checked(datasets.load_dataset(str(name_or_path), **options), str(name_or_path))


def dataset_name(path: str | os.PathLike[str]) -> str | None:
    """Name by which [`load_motion_dataset`] knows what lies at a path, or `None`: then the path is its name."""
    path = Path(path)
    if path.is_file() and ".tar" in path.suffixes:
        return "bandai-namco"
    if any(path.glob("dataset/Bandai-Namco-Research-Motiondataset-*")):
        return "bandai-namco"
    return None


def _checked(loaded: Any, name: str) -> DatasetDict:
    """Refuse datasets of another schema, by the names of the columns."""
    if isinstance(loaded, Dataset):
        loaded = DatasetDict(train=loaded)
    for split, dataset in loaded.items():
        missing = [column for column in _NEEDED_COLUMNS if column not in dataset.column_names]
        if missing:
            raise ValueError(
                f"{name}, split {split}: column {missing[0]} is missing; "
                f"found {', '.join(dataset.column_names)}, expected {', '.join(motion_features())}"
            )
    return loaded
