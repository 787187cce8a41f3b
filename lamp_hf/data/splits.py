"""A validation split for data sets that come without one."""

import hashlib
import logging
from collections import defaultdict

from datasets import DatasetDict

from lamp_hf.data.schema import recording_of

__all__ = ["with_validation"]

logger = logging.getLogger(__name__)

_SHARE = 0.1


def with_validation(dataset: DatasetDict) -> DatasetDict:
    """The data set with a split `validation`: its own, or a tenth of the recordings, of every content alike.

    Which ones they are depends on their ids alone: it is the same in every call, and one more clip changes little.
    Mirror images of clips that leave the training split leave the data set; all parts of a recording go together.

    Raises:
        ValueError: There is no split `train`, or there are fewer than two recordings to split.
    """
    if "train" not in dataset:
        raise ValueError(f"training needs a split train; found: {', '.join(dataset)}")
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
        raise ValueError("training needs clips to learn from and others to be judged on; there is only one recording")
    chosen: set[str] = set()
    for group in groups.values():
        group.sort(key=lambda recording: hashlib.sha256(recording.encode()).hexdigest())
        chosen |= set(group[: round(_SHARE * len(group))])
    if not chosen:  # none of the groups is large enough: the recording that comes first in the largest one
        chosen = {max(groups.values(), key=len)[0]}
    held_out = [row for row, mirrored in enumerate(train["mirrored"]) if not mirrored and recordings[row] in chosen]
    rest = [row for row, recording in enumerate(recordings) if recording not in chosen]
    logger.info(
        "no validation split: %d of the %d recordings are held out of training, as %s",
        *(len(chosen), len(grouped), min(chosen)),
    )
    return DatasetDict({**dataset, "train": train.select(rest), "validation": train.select(held_out)})
