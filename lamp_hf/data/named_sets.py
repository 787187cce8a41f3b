"""Table of the named datasets."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets import DatasetDict

from lamp_hf.data.bandai_namco.grammar import CaptionGrammar
from lamp_hf.data.bandai_namco.loader import bandai_namco_grammar, is_bandai_namco, load_bandai_namco
from lamp_hf.data.cmu.doctor import check_cmu
from lamp_hf.data.cmu.loader import is_cmu_set, load_cmu_mocap
from lamp_hf.data.humanml3d import is_humanml3d, is_kit_ml, load_humanml3d, load_kit_ml
from lamp_hf.data.report import DataReport

__all__ = ["NAMED_SETS", "NamedSet", "dataset_name"]


@dataclass(frozen=True)
class NamedSet:
    """Dataset with a loader of its own.

    Attributes:
        load: Loads the dataset; called with a path, `skip_bad`, `num_proc`, `cache_dir` and `progress`.
        place: Short description of the path.
        path: Description of the path for error messages.
        recognize: Returns whether a path contains the dataset, by its files.
        check: Checks every file and returns a report; called with the path and `progress`. Without it, `check_data`
            chooses the check by the layout of the folder.
        grammar: Returns the caption grammar of a dataset with labels; called with the path, `captions` and
            `split_dir`.
        recorded: Options of `load` that leave out clips derived from others, so that every clip has a file.
    """

    load: Callable[..., DatasetDict]
    place: str
    path: str
    recognize: Callable[[Path], bool]
    check: Callable[..., DataReport] | None = None
    grammar: Callable[..., CaptionGrammar] | None = None
    recorded: Mapping[str, Any] = field(default_factory=dict)


NAMED_SETS = {
    "bandai-namco": NamedSet(
        load_bandai_namco,
        "archive or clone",
        "the archive or a clone of the repository",
        is_bandai_namco,
        grammar=bandai_namco_grammar,
        recorded={"mirror": False},
    ),
    "cmu-mocap": NamedSet(
        load_cmu_mocap,
        "archive or clone",
        "an archive or a folder of BVH files such as 01/01_01.bvh",
        is_cmu_set,
        check=check_cmu,
    ),
    "humanml3d": NamedSet(load_humanml3d, "folder", "the folder with new_joint_vecs and texts", is_humanml3d),
    "kit-ml": NamedSet(load_kit_ml, "folder", "the folder with new_joint_vecs and texts", is_kit_ml),
}


def dataset_name(path: str | os.PathLike[str]) -> str | None:
    """Return the name of the dataset at a path, recognized by its files, or `None` if there is none with a name."""
    # Bandai-Namco, the first one, is checked last because it accepts every archive.
    return next((name for name, each in reversed(NAMED_SETS.items()) if each.recognize(Path(path))), None)
