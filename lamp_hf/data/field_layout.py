"""Layout of a HumanML3D or KIT-ML folder as published: motions, captions with times, splits, statistics.

    HumanML3D/
      new_joint_vecs/000000.npy   features (T, 263), not normalized; M000000.npy is the mirror image
      new_joints/000000.npy       joints (T, 22, 3), the same motion, not read for training
      texts/000000.txt            one caption per line: caption#tokens#start#end, seconds, 0 and 0 for the whole motion
      train.txt val.txt test.txt  one name per line; all.txt lists all of them
      Mean.npy Std.npy            (263,) each

KIT-ML has the same folders with 251 features and 21 joints in millimeters. Source: Guo et al., Generating Diverse and
Natural 3D Human Motions from Text, CVPR 2022.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import NamedTuple

import numpy as np
from numpy.lib.format import open_memmap

from lamp_hf.data.schema import feature_groups
from lamp_hf.data.text_files import read_lines
from lamp_hf.motion.skeleton import HUMANML3D_22, KIT_21, Skeleton

MOTIONS, JOINTS, TEXTS = "new_joint_vecs", "new_joints", "texts"
MEAN, STD = "Mean.npy", "Std.npy"
SPLIT_FILES = {"train": "train.txt", "validation": "val.txt", "test": "test.txt"}
# Largest accepted difference, in deviations. The published statistics include all splits, so they differ slightly from
# those of the training split.
_DRIFT = 0.1
_GROUPS = ("turning", "root velocity", "root height", "joint positions", "rotations", "joint velocities", "contacts")
UNION_FILES = {"all.txt": ("train", "validation", "test"), "train_val.txt": ("train", "validation")}


class TimedCaption(NamedTuple):
    """Line of a file in `texts`.

    Attributes:
        text: The caption.
        start, end: Seconds; 0 and 0 mean the whole motion.
        line: Line number in the file, from 1.
        tokens: Words with their parts of speech, such as `a/DET person/NOUN walk/VERB`.
    """

    text: str
    start: float
    end: float
    line: int
    tokens: str = ""

    @property
    def whole(self) -> bool:
        """Whether the caption describes the whole motion."""
        return self.start == 0.0 and self.end == 0.0


@dataclass(frozen=True)
class FieldSet:
    """One of the datasets with this layout.

    Attributes:
        name: Name in `load_motion_dataset`, and `source` of its rows.
        skeleton: Joints, features and frame rate.
        min_frames, max_frames: Published work uses motions and parts with `min_frames <= length < max_frames`.
    """

    name: str
    skeleton: Skeleton
    min_frames: int
    max_frames: int = 200

    def keeps(self, num_frames: int) -> bool:
        """Return whether motions and parts of this length are used."""
        return self.min_frames <= num_frames < self.max_frames

    def frames(self, caption: TimedCaption, num_frames: int) -> slice:
        """Return the frames of a motion that a caption describes, as in the authors' loader."""
        if caption.whole:
            return slice(0, num_frames)
        start, end = (int(seconds * self.skeleton.default_fps) for seconds in (caption.start, caption.end))
        return slice(start, min(end, num_frames))

    def used(self, captions: Sequence[TimedCaption], num_frames: int) -> list[TimedCaption]:
        """Return the captions of a motion that are used: [`keeps`] accepts the motion and the described part."""
        if not self.keeps(num_frames):
            return []
        parts = ((caption, self.frames(caption, num_frames)) for caption in captions)
        return [caption for caption, part in parts if self.keeps(part.stop - part.start)]


HUMANML3D = FieldSet("humanml3d", HUMANML3D_22, min_frames=40)
KIT_ML = FieldSet("kit-ml", KIT_21, min_frames=24)
FIELD_SETS = {field_set.name: field_set for field_set in (HUMANML3D, KIT_ML)}


def is_field_layout(folder: Path) -> bool:
    """Return whether a folder has the layout of HumanML3D and KIT-ML."""
    return (folder / MOTIONS).is_dir()


def motions_in(folder: Path) -> dict[str, Path]:
    """Return the files of `new_joint_vecs` by motion name, sorted."""
    return {path.stem: path for path in sorted((folder / MOTIONS).glob("*.npy"))}


def find_field_set(folder: Path) -> FieldSet | None:
    """Return the dataset in a folder of this layout, recognized by its first readable motion, or `None`."""
    by_dim = {field_set.skeleton.feature_dim: field_set for field_set in FIELD_SETS.values()}
    for path in motions_in(folder).values():
        try:
            shape = _open_array(path).shape
        except (ValueError, OSError):
            continue
        if len(shape) == 2 and shape[1] in by_dim:
            return by_dim[shape[1]]
    return None


def _open_array(path: Path) -> np.ndarray:
    """Memory-map a .npy file.

    Raises:
        OSError: The file does not exist.
        ValueError: The file is not a NumPy file, is damaged, or contains objects.
    """
    try:
        array: np.ndarray = open_memmap(path, mode="r")
    except (ValueError, TokenError) as error:  # NumPy raises TokenError when it tries to repair a header
        raise ValueError(f"{path}: not a NumPy file ({error})") from error
    return array


def is_mirrored(name: str) -> bool:
    """Return whether a motion is a mirror image: its name has an M before the number."""
    return name.startswith("M")


def read_captions(path: Path) -> tuple[list[TimedCaption], list[str]]:
    """Read the captions of a file in `texts`, in order, and describe the problems of its invalid lines.

    A time of "nan" counts as 0, as in the authors' loader.

    Raises:
        ValueError: The file cannot be read or is not UTF-8 text.
    """
    captions, problems = [], []
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip():
            continue
        try:
            captions.append(_parse(line, number))
        except ValueError as error:
            problems.append(f"line {number}: {error}")
    return captions, problems


def _parse(line: str, number: int) -> TimedCaption:
    parts = line.strip().split("#")
    if len(parts) != 4:
        raise ValueError(f"expected caption#tokens#start#end, found {len(parts)} parts in {line.strip()[:80]!r}")
    text = parts[0].strip()
    if not text:
        raise ValueError("the caption is empty")
    try:
        start, end = (0.0 if math.isnan(seconds) else seconds for seconds in map(float, parts[2:]))
    except ValueError:
        raise ValueError(f"expected start and end in seconds, found {parts[2]!r} and {parts[3]!r}") from None
    if (start, end) != (0.0, 0.0) and not 0.0 <= start < end < math.inf:
        raise ValueError(f"expected 0 ≤ start < end, found {start:g} and {end:g} seconds")
    return TimedCaption(text, start, end, number, parts[1].strip())


def read_names(path: Path) -> list[str]:
    """Read the names in a split file, in order.

    Raises:
        ValueError: The file cannot be read, is not UTF-8 text, or a line is not a file name.
    """
    names = [line.strip() for line in read_lines(path) if line.strip()]
    for name in names:
        if Path(name).name != name:
            raise ValueError(f"{path}: expected the names of files in {MOTIONS}, found {name!r}")
    return names


def read_splits(folder: Path) -> dict[str, list[str]]:
    """Read the names of each split that has a split file.

    Raises:
        FileNotFoundError: There are no split files.
    """
    found = {split: folder / name for split, name in SPLIT_FILES.items() if (folder / name).is_file()}
    if not found:
        raise FileNotFoundError(
            f"{folder}: expected the published split files {', '.join(SPLIT_FILES.values())}, found none"
        )
    return {split: read_names(path) for split, path in found.items()}


def read_statistics(folder: Path, skeleton: Skeleton) -> tuple[np.ndarray, np.ndarray]:
    """Read `Mean.npy` and `Std.npy`, `(D,)` each; raises the errors of `read_statistic`."""
    return read_statistic(folder / MEAN, skeleton), read_statistic(folder / STD, skeleton)


def read_statistic(path: Path, skeleton: Skeleton) -> np.ndarray:
    """Read `Mean.npy` or `Std.npy`, `(D,)`.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file does not contain D finite numbers, or a deviation is not positive.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    array = np.array(_open_array(path))
    if array.shape != (skeleton.feature_dim,) or array.dtype.kind not in "fiu":
        raise ValueError(f"{path}: expected {skeleton.feature_dim} numbers, found {array.dtype} {array.shape}")
    if not np.isfinite(array).all() or (path.name == STD and array.min() <= 0):
        raise ValueError(f"{path}: contains values that are not finite{' or not positive' * (path.name == STD)}")
    return array


def statistics_drift(
    stored: tuple[np.ndarray, np.ndarray], computed: tuple[np.ndarray, np.ndarray]
) -> list[tuple[str, str]]:
    """Find feature groups whose stored mean or deviation differs by more than 10 % of the training split's deviation.

    Args:
        stored: Mean and standard deviation in the files, `(D,)` each.
        computed: Mean and standard deviation of the training split. Groups of constant features are skipped.

    Returns:
        File name and description of each difference.
    """
    found = []
    for group, title in zip(feature_groups(len(computed[0])), _GROUPS, strict=True):
        deviation = computed[1][group]
        if deviation[0] == 0.0:
            continue
        shift = float(np.abs((stored[0][group] - computed[0][group]) / deviation).max())
        if shift > _DRIFT:
            found.append((MEAN, f"{title}: {shift:.2f} deviations from the mean of the training split"))
        ratios = stored[1][group] / deviation
        ratio = float(ratios[np.argmax(np.abs(np.log(ratios)))])
        if abs(ratio - 1) > _DRIFT:
            found.append((STD, f"{title}: {ratio:.2f} times the deviation of the training split"))
    return found
