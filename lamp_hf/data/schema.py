"""The one schema every motion dataset of this package has, and the statistics training needs of it."""

import re
from itertools import pairwise
from typing import Any

import numpy as np
from datasets import Array2D, Dataset, Features, List, Value

from lamp_hf.motion.skeleton import HUMANML3D_22

MIRRORED = "-mirrored"  # ends the id of a mirror image, but in HumanML3D and KIT-ML, where an M before the number does
_PART = re.compile(r"(@[\d.e+-]+s|-line\d+)$")  # of a part: in motionfolders its times, in these two its line
_FIELD_MIRRORED = re.compile(r"^M(?=\d+$)")


def recording_of(row_id: str) -> str:
    """What a row was cut out of, or is the mirror image of, by its `id`; its own id if it is neither."""
    return _FIELD_MIRRORED.sub("", _PART.sub("", row_id.removesuffix(MIRRORED)))


def motion_features(feature_dim: int = HUMANML3D_22.feature_dim) -> Features:
    """Columns of a motion dataset.

    * `id`: unique name of the clip; `recording_of` it is the same for all parts and mirror images of a recording.
    * `motion`: (T, feature_dim) float32, features as `Motion.features` gives them, not normalized.
    * `captions`: list of `{text, start, end}`; start and end in seconds, 0 and 0 mean the whole clip.
    * `source`: name of the set the clip comes from.
    * `fps`: frames per second of `motion`.
    * `num_frames`: T.
    * `content`, `style`: labels, empty where the set has none.
    * `mirrored`: whether left and right of the recording are swapped, in `motion`, `captions` and `content`.

    Args:
        feature_dim: 263 for HumanML3D, 251 for KIT-ML.
    """
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
        }
    )


def with_numpy_motion(dataset: Dataset) -> Dataset:
    """The same dataset, giving `motion` as a NumPy array and everything else as plain Python values.

    This is the fast way to read rows, about five times as fast in batches as without a format.
    """
    return dataset.with_format("numpy", columns=["motion"], output_all_columns=True)


def feature_groups(feature_dim: int) -> list[slice]:
    """Columns of like kind: turning, velocity, height, positions, rotations, joint velocities, contacts.

    Raises:
        ValueError: `feature_dim` is not 12 J - 1 for a number of joints J.
    """
    joints, rest = divmod(feature_dim + 1, 12)
    if rest or joints < 2:
        raise ValueError(f"expected a feature dimension of 12 J - 1 (263, 251), got {feature_dim}")
    edges = np.cumsum([0, 1, 2, 1, 3 * (joints - 1), 6 * (joints - 1), 3 * joints, 4]).tolist()
    return [slice(start, stop) for start, stop in pairwise(edges)]


class FeatureStatistics:
    """Mean and standard deviation of features that come piece by piece."""

    def __init__(self) -> None:
        self.count = 0
        self._total: Any = 0.0
        self._squares: Any = 0.0

    def add(self, frames: np.ndarray) -> None:
        """Take in frames (T, D)."""
        frames = frames.astype(np.float64)
        self.count += len(frames)
        self._total = self._total + frames.sum(axis=0)
        self._squares = self._squares + np.square(frames).sum(axis=0)

    def mean_and_std(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and deviation, (D,) float32 each, the deviation averaged inside each group of `feature_groups`.

        Raises:
            ValueError: there were no frames.
        """
        if self.count == 0:
            raise ValueError("cannot compute statistics of a dataset without motions")
        mean = self._total / self.count
        std = np.sqrt(np.maximum(self._squares / self.count - np.square(mean), 0.0))
        for group in feature_groups(len(mean)):
            std[group] = std[group].mean()
        return mean.astype(np.float32), std.astype(np.float32)


def training_statistics(dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the features over all frames, for the feature extractor.

    The mean is taken per feature; the deviation is then averaged inside each group of `feature_groups`, so
    that the features of a group keep their relative size, as HumanML3D has it.

    Args:
        dataset: the training split, mirrored clips included where training uses them.

    Returns:
        mean and std, (D,) float32 each.

    Raises:
        ValueError: the dataset is empty, or a feature group never changes.
    """
    mean, std = dataset_statistics(dataset).mean_and_std()
    for group in feature_groups(len(mean)):
        if std[group.start] == 0.0:
            raise ValueError(
                f"features {group.start} to {group.stop - 1} have the same value in every frame; "
                "normalizing needs more varied motions"
            )
    return mean, std


def dataset_statistics(dataset: Dataset) -> FeatureStatistics:
    """Statistics of the features over all frames of a dataset."""
    statistics = FeatureStatistics()
    for batch in dataset.with_format("numpy", columns=["motion"]).iter(batch_size=64):
        statistics.add(np.concatenate(list(batch["motion"])))
    return statistics
