"""One function that loads a motion dataset from wherever it is."""

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
    "a folder written by save_to_disk, or the id of a dataset on the Hub (owner/name)"
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
        name_or_path: one of

            * `"bandai-namco"`, with `path=`: see `load_bandai_namco`;
            * `"cmu-mocap"`, with `path=`: see `load_cmu_mocap`;
            * `"humanml3d"` or `"kit-ml"`, with `path=`: see `load_humanml3d` and `load_kit_ml`;
            * the path of one of these alone, where its files tell which it is, see `dataset_name`;
            * a folder with `metadata.jsonl` or `metadata.csv`: see `load_motionfolder`;
            * a folder written by `DatasetDict.save_to_disk` (or `Dataset.save_to_disk`, which gives `train`);
            * the id of a dataset on the Hub.
        path: where a set known by name lies: as its authors give it away, or a copy written by `save_to_disk`.
        skip_bad: leave out files that cannot be read, with a warning, instead of refusing the set. Of no effect on
            copies and on the Hub, where the files were read already.
        cache_dir: folder of the cache: of read files, or of what `datasets` downloads from the Hub.
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
    known = str(name_or_path) if name_or_path in NAMED_SETS else None
    if known and path is None:
        raise ValueError(f'"{known}" needs path= (--data in `lamp-hf train`), {NAMED_SETS[known].path}')
    if not known and path is not None:
        raise ValueError(f"{name_or_path}: path={path} goes with the names {', '.join(NAMED_SETS)} alone; leave it out")
    folder = Path(name_or_path if path is None else path)
    if (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file():
        return checked_dataset(datasets.load_from_disk(str(folder), **options), str(folder))
    reading: dict[str, Any] = {"skip_bad": skip_bad, "cache_dir": cache_dir, **options}
    if known := known or dataset_name(folder):
        return NAMED_SETS[known].load(folder, **reading)
    if folder.is_dir():
        if find_tables(folder):
            return load_motionfolder(folder, **reading)
        raise ValueError(f"{folder}: no motion dataset; expected {_CHOICES}")
    if folder.is_absolute() or len(folder.parts) != 2 or folder.parts[0] in (".", ".."):
        raise FileNotFoundError(f"{name_or_path}: no such dataset; expected {_CHOICES}")
    try:
        loaded = datasets.load_dataset(str(name_or_path), cache_dir=cache_dir, **options)
    except DatasetNotFoundError as error:
        raise missing_on_hub(str(name_or_path)) from error
    return checked_dataset(loaded, str(name_or_path))


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
