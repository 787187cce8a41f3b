"""Publish any folder that lamp_hf knows."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lamp_hf import metrics
from lamp_hf.checkpoints.embedded import resolve_checkpoint
from lamp_hf.checkpoints.files import CONFIG_FILES, WEIGHT_FILES
from lamp_hf.hub.upload import Target

from .checkpoint import UNFINISHED_RUN, any_in, push_checkpoint
from .data_set import push_dataset
from .metric import push_metric
from .model_card import local_card

__all__ = ["publish"]


def publish(
    folder: str | Path,
    repo_id: str,
    *,
    private: bool | None = None,
    license: str | None = None,
    sample: str | None = None,
    parts: Mapping[str, str] | None = None,
    token: str | None = None,
) -> str:
    """Push a folder: a checkpoint or a finished run, a motion index, a metric, or a data set.

    Args:
        folder: The folder, or the name of an embedded checkpoint or of a metric of lamp_hf.
        repo_id: `owner/name`, or `name` for a repository of your own. Indexes and data sets become dataset
            repositories, metrics become spaces.
        private, license, token: See [`push_checkpoint`].
        sample, parts: See [`push_checkpoint`]; for checkpoints only.

    Returns:
        URL of the repository.

    Raises:
        FileNotFoundError: The folder does not exist.
        HubError: The Hub refuses, or the upload did not finish.
    """
    path = Path(folder)
    common: dict[str, Any] = {"private": private, "token": token}
    if (path / "index.json").is_file():
        from lamp_hf.retrieval import MotionIndex

        return MotionIndex.open(path).push_to_hub(repo_id, license=license, **common)
    if (path / f"{path.name}.py").is_file() or (str(folder) in metrics.NAMES and not path.is_dir()):
        return push_metric(folder, repo_id, **common)
    if path.is_dir() and not any_in(path, (*CONFIG_FILES, *WEIGHT_FILES, *UNFINISHED_RUN)):
        from lamp_hf.data import load_motion_dataset

        Target(
            repo_id, repo_type="dataset", **common
        )  # check the permission to push before thousands of files are read
        return push_dataset(load_motion_dataset(path), repo_id, license=license, card=local_card(str(path)), **common)
    if not Path(local := resolve_checkpoint(str(folder))).is_dir():
        raise FileNotFoundError(f"{folder}: this folder does not exist; check the path")
    return push_checkpoint(local, repo_id, license=license, sample=sample, parts=parts, **common)
