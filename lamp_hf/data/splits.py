"""Create a validation split for datasets without one."""

import hashlib
import logging
from collections import defaultdict

from datasets import DatasetDict

from lamp_hf.data.schema import recording_of

__all__ = ["with_validation"]

logger = logging.getLogger(__name__)

_SHARE = 0.1


def with_validation(dataset: DatasetDict) -> DatasetDict:
    """Return the dataset with a `validation` split: its own, or one tenth of the recordings of each content.

    The choice depends only on the ids, so it is the same in every call, and an additional clip changes little. All
    parts of a recording stay together. Mirror images of the chosen clips are removed from the dataset.

    Raises:
        ValueError: There is no `train` split, or it has fewer than two recordings.
    """
    if "train" not in dataset:
        raise ValueError(f"dataset: there is no train split, found {', '.join(dataset)}; training needs one")
    if "validation" in dataset:
        return dataset
    train = dataset["train"]
    groups: dict[str, list[str]] = defaultdict(list)
    recordings = [recording_of(clip) for clip in train["id"]]
    grouped: set[str] = set()
    for recording, content in zip(recordings, train["content"], strict=True):
        if recording not in grouped:
            groups[content].append(recording)
            grouped.add(recording)
    if len(grouped) < 2:
        raise ValueError(
            "dataset: training needs at least two recordings (one for validation), found one; add another one"
        )
    chosen: set[str] = set()
    for group in groups.values():
        group.sort(key=lambda recording: hashlib.sha256(recording.encode()).hexdigest())
        chosen |= set(group[: round(_SHARE * len(group))])
    if not chosen:  # no group has enough recordings: take the first one of the largest group
        chosen = {max(groups.values(), key=len)[0]}
    held_out = [row for row, mirrored in enumerate(train["mirrored"]) if not mirrored and recordings[row] in chosen]
    rest = [row for row, recording in enumerate(recordings) if recording not in chosen]
    logger.info(
        "no validation split: %d of the %d recordings are used for validation, such as %s",
        *(len(chosen), len(grouped), min(chosen)),
    )
    return DatasetDict({**dataset, "train": train.select(rest), "validation": train.select(held_out)})
