"""A validation split for data sets that come without one."""

import hashlib
import logging
from collections import defaultdict

from datasets import DatasetDict

__all__ = ["with_validation"]

logger = logging.getLogger(__name__)

_SHARE = 0.1
_MIRRORED = "-mirrored"


def with_validation(dataset: DatasetDict) -> DatasetDict:
    """The data set with a split `validation`: its own, or a tenth of the training clips, of every content alike.

    Which clips they are depends on their ids alone: it is the same in every call, and one more clip changes little.
    Mirror images of clips that leave the training split leave the data set.

    Raises:
        ValueError: There are fewer than two clips to split.
    """
    if "validation" in dataset or "train" not in dataset:
        return dataset
    train = dataset["train"]
    groups: dict[str, list[str]] = defaultdict(list)
    for clip, content, mirrored in zip(train["id"], train["content"], train["mirrored"], strict=True):
        if not mirrored:
            groups[content].append(clip)
    total = sum(map(len, groups.values()))
    if total < 2:
        raise ValueError("training needs clips to learn from and others to be judged on; there is only one clip")
    chosen: set[str] = set()
    for clips in groups.values():
        clips.sort(key=lambda clip: hashlib.sha256(clip.encode()).hexdigest())
        chosen |= set(clips[: round(_SHARE * len(clips))])
    if not chosen:  # none of the groups is large enough: the clip that comes first in the largest one
        chosen = {max(groups.values(), key=len)[0]}
    ids = train["id"]
    held_out = [row for row, clip in enumerate(ids) if clip in chosen]
    rest = [row for row, clip in enumerate(ids) if clip.removesuffix(_MIRRORED) not in chosen]
    logger.info(
        "no validation split: %d of the %d clips are held out of training, as %s",
        *(len(held_out), total, ids[held_out[0]]),
    )
    return DatasetDict({**dataset, "train": train.select(rest), "validation": train.select(held_out)})
