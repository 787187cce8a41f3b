"""One function that loads a motion dataset from wherever it is."""

import os
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from datasets import Dataset, DatasetDict, IterableDataset, IterableDatasetDict
from datasets.exceptions import DatasetNotFoundError

from lamp_hf.data.bandai_namco import load_bandai_namco
from lamp_hf.data.field_layout import FIELD_SETS, MEAN, is_field_layout
from lamp_hf.data.humanml3d import load_humanml3d, load_kit_ml
from lamp_hf.data.motionfolder import METADATA_NAMES, find_tables, load_motionfolder
from lamp_hf.data.schema import motion_features
from lamp_hf.hub_errors import missing_on_hub

_NEEDED_COLUMNS = ("id", "motion", "captions", "fps", "num_frames")
NAMED_SETS = {
    "bandai-namco": (load_bandai_namco, "the archive or a clone of the repository"),
    "humanml3d": (load_humanml3d, "the folder with new_joint_vecs and texts"),
    "kit-ml": (load_kit_ml, "the folder with new_joint_vecs and texts"),
}
_CHOICES = (
    '"bandai-namco" with path=<archive or clone>, "humanml3d" or "kit-ml" with path=<folder>, '
    f"a folder with {' or '.join(METADATA_NAMES)}, "
    "a folder written by save_to_disk, or the id of a dataset on the Hub (owner/name)"
)


def load_motion_dataset(name_or_path: str | os.PathLike[str], **options: Any) -> DatasetDict:
    """Load a motion dataset.

    Args:
        name_or_path: one of

            * `"bandai-namco"`, with `path=`: see `load_bandai_namco`;
            * `"humanml3d"` or `"kit-ml"`, with `path=`: see `load_humanml3d` and `load_kit_ml`;
            * a folder with `metadata.jsonl` or `metadata.csv`: see `load_motionfolder`;
            * a folder written by `DatasetDict.save_to_disk` (or `Dataset.save_to_disk`, which gives `train`);
            * the id of a dataset on the Hub.
        options: keyword arguments of that loader; for the Hub, those of `datasets.load_dataset`, such as
            `streaming=True`: then the splits are read row by row as they are iterated over, and nothing is kept.
            Training needs a dataset that is not streamed, for it draws clips in any order.

    Returns:
        Splits with the columns of `motion_features`. A single split, if `split=` asks for one, is `train`.

    Raises:
        FileNotFoundError: there is no such folder.
        HubError: there is no such dataset on the Hub, or it is private.
        ValueError: the name is none of the above, or the dataset found has other columns.
    """
    if isinstance(name_or_path, str) and name_or_path in NAMED_SETS:
        loader, what = NAMED_SETS[name_or_path]
        if options.get("path") is None:
            raise ValueError(f'"{name_or_path}" needs path= (--data in `lamp-hf train`), {what}')
        return loader(**options)
    folder = Path(name_or_path)
    if folder.is_dir():
        if find_tables(folder):
            return load_motionfolder(folder, **options)
        if (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file():
            return checked_dataset(datasets.load_from_disk(str(folder), **options), str(folder))
        if is_field_layout(folder):
            raise ValueError(f'{folder}: give the name of this set, "humanml3d" or "kit-ml", and path={folder}')
        raise ValueError(f"{folder}: no motion dataset; expected {_CHOICES}")
    if folder.is_absolute() or len(folder.parts) != 2 or folder.parts[0] in (".", ".."):
        raise FileNotFoundError(f"{name_or_path}: no such dataset; expected {_CHOICES}")
    try:
        loaded = datasets.load_dataset(str(name_or_path), **options)
    except DatasetNotFoundError as error:
        raise missing_on_hub(str(name_or_path)) from error
    return checked_dataset(loaded, str(name_or_path))


def dataset_name(path: str | os.PathLike[str]) -> str | None:
    """Name by which [`load_motion_dataset`] knows what lies at a path, or `None`: then the path is its name."""
    path = Path(path)
    if path.is_file() and ".tar" in path.suffixes:
        return "bandai-namco"
    if any(path.glob("dataset/Bandai-Namco-Research-Motiondataset-*")):
        return "bandai-namco"
    if is_field_layout(path):
        mean = np.load(path / MEAN, allow_pickle=False) if (path / MEAN).is_file() else np.empty(0)
        return next((name for name, each in FIELD_SETS.items() if each.skeleton.feature_dim == len(mean)), None)
    return None


def checked_dataset(loaded: Any, name: str) -> Any:
    """The splits of a dataset of motions; one of another schema is refused by the names of the columns."""
    if isinstance(loaded, Dataset):
        loaded = DatasetDict(train=loaded)
    elif isinstance(loaded, IterableDataset):
        loaded = IterableDatasetDict(train=loaded)
    for split, dataset in loaded.items():
        columns = dataset.column_names or []  # streamed files that do not say their columns
        missing = [column for column in _NEEDED_COLUMNS if column not in columns]
        if missing:
            raise ValueError(
                f"{name}, split {split}: column {missing[0]} is missing; "
                f"found {', '.join(columns) or 'none'}, expected {', '.join(motion_features())}"
            )
    return loaded
