"""Schema of all motion datasets of this package, and feature statistics for training."""

import re
from itertools import pairwise
from typing import Any

import numpy as np
from datasets import Array2D, Dataset, Features, List, Value

from lamp_hf.motion.skeleton import HUMANML3D_22

MIRRORED = "-mirrored"  # suffix of a mirror image's id; HumanML3D and KIT-ML put an M before the number instead
_PART = re.compile(r"(@[\d.e+-]+s|-line\d+)$")  # suffix of a part's id: its times, or its line in these two datasets
_FIELD_MIRRORED = re.compile(r"^M(?=\d+$)")


def recording_of(row_id: str) -> str:
    """Return the id of the recording that a row is a part or a mirror image of; otherwise the row's own id."""
    return _FIELD_MIRRORED.sub("", _PART.sub("", row_id.removesuffix(MIRRORED)))


def motion_features(feature_dim: int = HUMANML3D_22.feature_dim, *, annotated: bool = False) -> Features:
    """Return the columns of a motion dataset.

    * `id`: unique name of the clip; `recording_of` returns the same id for all parts and mirror images of a recording.
    * `motion`: `(T, feature_dim)` float32, features as in `Motion.features`, not normalized.
    * `captions`: list of `{text, start, end}`; start and end in seconds, 0 and 0 mean the whole clip.
    * `source`: name of the dataset that the clip comes from.
    * `fps`: frames per second of `motion`.
    * `num_frames`: T.
    * `content`, `style`: labels; empty if the dataset does not have them.
    * `mirrored`: whether left and right of the recording are swapped in `motion`, `captions` and `content`.
    * `tokens`, only if `annotated`: the annotation of each caption, words with their parts of speech in the form
      `a/DET person/NOUN walk/VERB`; empty if the data set has none for this caption.

    Args:
        feature_dim: Number of features: 263 for HumanML3D, 251 for KIT-ML.
        annotated: Whether the data set annotates its captions, as HumanML3D and KIT-ML do.
    """
    annotation = {"tokens": List(Value("string"))} if annotated else {}
    return Features(
        {
            "id": Value("string"),
            "motion": Array2D((None, feature_dim), "float32"),
            "captions": List({"text": Value("string"), "start": Value("float32"), "end": Value("float32")}),
            "source": Value("string"),
            "fps": Value("float32"),
            "num_frames": Value("int32"),
            "content": Value("string"),
            "style": Value("string"),
            "mirrored": Value("bool"),
            **annotation,
        }
    )


def with_numpy_motion(dataset: Dataset) -> Dataset:
    """Return the dataset with a format that reads `motion` as a NumPy array and the other columns as Python values.

    Reading rows in batches is about five times as fast as without a format.
    """
    return dataset.with_format("numpy", columns=["motion"], output_all_columns=True)


def feature_groups(feature_dim: int) -> list[slice]:
    """Return the features of each group: turning, velocity, height, positions, rotations, joint velocities, contacts.

    Raises:
        ValueError: `feature_dim` is not 12 J - 1 for a number of joints J.
    """
    joints, rest = divmod(feature_dim + 1, 12)
    if rest or joints < 2:
        raise ValueError(f"feature_dim={feature_dim}: expected 12 J - 1 for J joints, such as 263 or 251")
    edges = np.cumsum([0, 1, 2, 1, 3 * (joints - 1), 6 * (joints - 1), 3 * joints, 4]).tolist()
    return [slice(start, stop) for start, stop in pairwise(edges)]


class FeatureStatistics:
    """Accumulates the mean and standard deviation of features."""

    def __init__(self) -> None:
        self.count = 0
        self._total: Any = 0.0
        self._squares: Any = 0.0

    def add(self, frames: np.ndarray) -> None:
        """Add frames `(T, D)`."""
        frames = frames.astype(np.float64)
        self.count += len(frames)
        self._total = self._total + frames.sum(axis=0)
        self._squares = self._squares + np.square(frames).sum(axis=0)

    def mean_and_std(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the mean and the standard deviation, `(D,)` float32 each.

        The deviation is averaged within each group of `feature_groups`.

        Raises:
            ValueError: There were no frames.
        """
        if self.count == 0:
            raise ValueError("dataset: cannot compute statistics without motions; pass a dataset with motions")
        mean = self._total / self.count
        std = np.sqrt(np.maximum(self._squares / self.count - np.square(mean), 0.0))
        for group in feature_groups(len(mean)):
            std[group] = std[group].mean()
        return mean.astype(np.float32), std.astype(np.float32)


def training_statistics(dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Compute the mean and standard deviation of the features over all frames, for the feature extractor.

    The mean is computed per feature. The deviation is averaged within each group of `feature_groups`, as in HumanML3D,
    which preserves the relative size of the features of a group.

    Args:
        dataset: The training split, including the mirrored clips if training uses them.

    Returns:
        Mean and standard deviation, `(D,)` float32 each.

    Raises:
        ValueError: The dataset is empty, or the features of a group are constant.
    """
    mean, std = dataset_statistics(dataset).mean_and_std()
    for group in feature_groups(len(mean)):
        if std[group.start] == 0.0:
            raise ValueError(
                f"dataset: features {group.start} to {group.stop - 1} have the same value in every frame; "
                "add more varied motions, so that features can be normalized"
            )
    return mean, std


def dataset_statistics(dataset: Dataset) -> FeatureStatistics:
    """Compute the statistics of the features over all frames of a dataset."""
    statistics = FeatureStatistics()
    for batch in dataset.with_format("numpy", columns=["motion"]).iter(batch_size=64):
        statistics.add(np.concatenate(list(batch["motion"])))
    return statistics
