"""What lies in a folder of HumanML3D or KIT-ML as their authors write it: splits, captions with times, statistics.

    HumanML3D/
      new_joint_vecs/000000.npy   features (T, 263), not normalized; M000000.npy is the mirror image
      new_joints/000000.npy       joints (T, 22, 3), the same motion, not read for training
      texts/000000.txt            a line a caption: caption#tokens#start#end, seconds, 0 and 0 for the whole motion
      train.txt val.txt test.txt  names, a line each; all.txt has all of them
      Mean.npy Std.npy            (263,) each

KIT-ML has the same folders with 251 features and 21 joints in millimeters. The layout is that of Guo et al.,
Generating Diverse and Natural 3D Human Motions from Text, CVPR 2022.
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
# Statistics of the published sets are those of all splits, which come this near those of training alone.
_DRIFT = 0.1
_GROUPS = ("turning", "root velocity", "root height", "joint positions", "rotations", "joint velocities", "contacts")
UNION_FILES = {"all.txt": ("train", "validation", "test"), "train_val.txt": ("train", "validation")}


class TimedCaption(NamedTuple):
    """A line of a file in `texts`.

    Attributes:
        text: the caption.
        start, end: seconds; 0 and 0 mean the whole motion.
        line: its number in the file, from 1.
    """

    text: str
    start: float
    end: float
    line: int

    @property
    def whole(self) -> bool:
        """Whether it describes the whole motion."""
        return self.start == 0.0 and self.end == 0.0


@dataclass(frozen=True)
class FieldSet:
    """One of the field's data sets.

    Attributes:
        name: what `load_motion_dataset` calls it, and `source` of its rows.
        skeleton: its joints, features and frame rate.
        min_frames: shorter motions, and shorter parts of them, are left out by everybody.
        max_frames: so are motions and parts of this many frames and more.
    """

    name: str
    skeleton: Skeleton
    min_frames: int
    max_frames: int = 200

    def keeps(self, num_frames: int) -> bool:
        """Whether motions and parts of this length take part."""
        return self.min_frames <= num_frames < self.max_frames

    def frames(self, caption: TimedCaption, num_frames: int) -> slice:
        """Which of a motion's frames a caption describes, as in the authors' loader."""
        if caption.whole:
            return slice(0, num_frames)
        start, end = (int(seconds * self.skeleton.default_fps) for seconds in (caption.start, caption.end))
        return slice(start, min(end, num_frames))

    def used(self, captions: Sequence[TimedCaption], num_frames: int) -> list[TimedCaption]:
        """The captions of a motion that are learned from: none of a motion or a part of another length is."""
        if not self.keeps(num_frames):
            return []
        parts = ((caption, self.frames(caption, num_frames)) for caption in captions)
        return [caption for caption, part in parts if self.keeps(part.stop - part.start)]


HUMANML3D = FieldSet("humanml3d", HUMANML3D_22, min_frames=40)
KIT_ML = FieldSet("kit-ml", KIT_21, min_frames=24)
FIELD_SETS = {field_set.name: field_set for field_set in (HUMANML3D, KIT_ML)}


def is_field_layout(folder: Path) -> bool:
    """Whether a folder is laid out as HumanML3D and KIT-ML are."""
    return (folder / MOTIONS).is_dir()


def motions_in(folder: Path) -> dict[str, Path]:
    """The files of `new_joint_vecs` by the names of their motions, sorted."""
    return {path.stem: path for path in sorted((folder / MOTIONS).glob("*.npy"))}


def find_field_set(folder: Path) -> FieldSet | None:
    """Which data set a folder of this layout holds, by the first motion that tells; `None` if none does."""
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
    """A .npy file, whose values are not read yet.

    Raises:
        OSError: there is no such file.
        ValueError: it is another file, a damaged one, or holds objects.
    """
    try:
        array: np.ndarray = open_memmap(path, mode="r")
    except (ValueError, TokenError) as error:  # the latter where NumPy tries to mend a header
        raise ValueError(f"{path}: not a NumPy file ({error})") from error
    return array


def is_mirrored(name: str) -> bool:
    """Whether a motion is a mirror image, by its name: an M before the number."""
    return name.startswith("M")


def read_captions(path: Path) -> tuple[list[TimedCaption], list[str]]:
    """Captions of a file in `texts`, in its order, and what is wrong with its other lines.

    Times that are no numbers ("nan") count as 0, as in the authors' loader.

    Raises:
        ValueError: it cannot be read, or is not text in UTF-8.
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
    return TimedCaption(text, start, end, number)


def read_names(path: Path) -> list[str]:
    """Names listed in a split file, in its order.

    Raises:
        ValueError: it cannot be read, is not text in UTF-8, or a line is no file name.
    """
    names = [line.strip() for line in read_lines(path) if line.strip()]
    for name in names:
        if Path(name).name != name:
            raise ValueError(f"{path}: expected names as in {MOTIONS}, found {name!r}")
    return names


def read_splits(folder: Path) -> dict[str, list[str]]:
    """Names per split, for the split files that are there.

    Raises:
        FileNotFoundError: none is.
    """
    found = {split: folder / name for split, name in SPLIT_FILES.items() if (folder / name).is_file()}
    if not found:
        raise FileNotFoundError(
            f"{folder}: expected the published split files {', '.join(SPLIT_FILES.values())}, found none"
        )
    return {split: read_names(path) for split, path in found.items()}


def read_statistics(folder: Path, skeleton: Skeleton) -> tuple[np.ndarray, np.ndarray]:
    """What `Mean.npy` and `Std.npy` hold, (D,) each; errors as for `read_statistic`."""
    return read_statistic(folder / MEAN, skeleton), read_statistic(folder / STD, skeleton)


def read_statistic(path: Path, skeleton: Skeleton) -> np.ndarray:
    """What one of `Mean.npy` and `Std.npy` holds, (D,).

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds no D finite numbers, or a deviation that is not positive.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    array = np.array(_open_array(path))
    if array.shape != (skeleton.feature_dim,) or array.dtype.kind not in "fiu":
        raise ValueError(f"{path}: expected {skeleton.feature_dim} numbers, found {array.dtype} {array.shape}")
    if not np.isfinite(array).all() or (path.name == STD and array.min() <= 0):
        raise ValueError(f"{path}: holds values that are not finite{' or not positive' * (path.name == STD)}")
    return array


def statistics_drift(
    stored: tuple[np.ndarray, np.ndarray], computed: tuple[np.ndarray, np.ndarray]
) -> list[tuple[str, str]]:
    """Where stored statistics differ from those of the training split by more than a tenth of a deviation.

    Args:
        stored: mean and std as in the files, (D,) each.
        computed: mean and std of the training split. Groups of features that never change are passed over.

    Returns:
        File name and what is wrong with it, once for each group of features.
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
