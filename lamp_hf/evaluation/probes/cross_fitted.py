"""Cross-fitted probes, which never score a clip from a take that they were trained on."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lamp_hf.files import atomic_path

from .body_series import mirrored_joints
from .joint_network import JointNetworkProbe
from .statistics_trees import StatisticsTreesProbe, motion_statistics

__all__ = ["CrossFittedProbes", "LabeledJoints", "take_folds"]

_VERSION = 1  # increase it whenever the same clips would result in different probes


def take_folds(takes: Sequence[str], labels: Sequence[str], count: int) -> dict[str, int]:
    """Assign takes to folds such that the clips of every label are spread over all folds.

    Args:
        takes: Take of each clip.
        labels: Label of each clip.
        count: Number of folds.

    Returns:
        The fold of each take. Takes with the rarest labels are assigned first, each to the fold that has the fewest
        clips of its labels so far.
    """
    by_take: dict[str, Counter[str]] = {}
    for take, label in zip(takes, labels, strict=True):
        by_take.setdefault(take, Counter())[label] += 1
    total = Counter(labels)
    filled: list[Counter[str]] = [Counter() for _ in range(count)]
    sizes = [0] * count
    folds = {}
    order = sorted(by_take, key=lambda take: (min(total[label] for label in by_take[take]), take))
    for take in order:
        labels_here = by_take[take]

        def crowded(fold: int, here: Counter[str] = labels_here) -> tuple[float, int]:
            return sum(number * filled[fold][label] / total[label] for label, number in here.items()), sizes[fold]

        fold = min(range(count), key=crowded)
        folds[take] = fold
        filled[fold] += labels_here
        sizes[fold] += labels_here.total()
    return folds


@dataclass(frozen=True)
class LabeledJoints:
    """Clips with their actions.

    Attributes:
        ids: Id of each clip.
        takes: Take of each clip.
        joints: Joints `(T, 22, 3)` of each clip, meters, 20 fps.
        labels: Action of each clip.
    """

    ids: list[str]
    takes: list[str]
    joints: list[np.ndarray]
    labels: list[str]

    def part(self, chosen: Sequence[int]) -> "LabeledJoints":
        """Return a subset of the clips."""
        return LabeledJoints(
            ids=[self.ids[row] for row in chosen],
            takes=[self.takes[row] for row in chosen],
            joints=[self.joints[row] for row in chosen],
            labels=[self.labels[row] for row in chosen],
        )


class CrossFittedProbes:
    """A network and trees for each fold of takes, both trained on the takes of all other folds.

    A motion from a take, or generated for one of its captions, is scored by the probes of the take's fold. Takes
    outside the training clips are also assigned to a fold. So every real, generated or retrieved motion is scored by
    probes that have not seen its take, all trained on about the same amount of data.

    Args:
        train: Training clips.
        folds: Number of folds.
        cache_dir: Folder in which the trained networks and the statistics are saved. With `None`, nothing is saved.
        seed: Seed of the probes.
        epochs: Training epochs of the networks.
        on_progress: Called before each part of the work with its name.
    """

    def __init__(
        self,
        train: LabeledJoints,
        *,
        folds: int = 3,
        cache_dir: Path | None = None,
        seed: int = 0,
        epochs: int = 24,
        on_progress: Callable[[str], None] = lambda _: None,
    ):
        self.classes = sorted(set(train.labels))
        self.count = folds
        self._folds = take_folds(train.takes, train.labels, folds)
        digest = hashlib.sha256(
            json.dumps(
                [_VERSION, train.ids, [len(clip) for clip in train.joints], train.labels, folds, seed, epochs]
            ).encode()
        ).hexdigest()[:16]
        self.digest = digest
        if cache_dir is not None:
            cache_dir.mkdir(parents=True, exist_ok=True)
        own = np.array([self._folds[take] for take in train.takes])
        self._networks: list[JointNetworkProbe] = []
        for fold in range(folds):
            path = None if cache_dir is None else cache_dir / f"joint-network-{digest}-{fold}.safetensors"
            if path is not None and path.exists():
                self._networks.append(JointNetworkProbe.load(path))
                continue
            on_progress(f"training joint network {fold + 1} of {folds}")
            chosen = train.part(np.flatnonzero(own != fold).tolist())
            network = JointNetworkProbe(seed=seed, epochs=epochs).fit(chosen.joints, chosen.labels)
            if path is not None:
                with atomic_path(path) as unfinished:
                    network.save(unfinished)
            self._networks.append(network)
        statistics = self._statistics(train, cache_dir, on_progress)
        self._trees = []
        for fold in range(folds):
            on_progress(f"training statistics trees {fold + 1} of {folds}")
            rows = np.flatnonzero(own != fold)
            labels = [train.labels[row] for row in rows]
            both = np.concatenate([statistics[0][rows], statistics[1][rows]])
            self._trees.append(StatisticsTreesProbe(seed=seed).fit_statistics(both, labels + labels))

    def _statistics(
        self, train: LabeledJoints, cache_dir: Path | None, on_progress: Callable[[str], None]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Compute the statistics of the clips and of their mirror images."""
        path = None if cache_dir is None else cache_dir / f"statistics-{self.digest}.npz"
        if path is not None and path.exists():
            with np.load(path, allow_pickle=False) as stored:
                return stored["recorded"], stored["mirrored"]
        on_progress("measuring clips")
        recorded = np.stack([motion_statistics(clip) for clip in train.joints])
        mirrored = np.stack([motion_statistics(mirrored_joints(clip)) for clip in train.joints])
        if path is not None:
            with atomic_path(path) as unfinished:
                np.savez(unfinished, recorded=recorded, mirrored=mirrored)
        return recorded, mirrored

    def fold_of(self, take: str) -> int:
        """Return the fold of a take. For a take outside the training clips, it depends on the hash of its name."""
        if take in self._folds:
            return self._folds[take]
        return int(hashlib.sha256(take.encode()).hexdigest(), 16) % self.count

    def ranks(self, joints: Sequence[np.ndarray], takes: Sequence[str], labels: Sequence[str]) -> dict[str, np.ndarray]:
        """Return the rank of the right action for each motion by each kind of probe, where 1 is the most likely action.

        Args:
            joints: Motions `(T, 22, 3)`, meters, 20 fps.
            takes: Take that each motion comes from or was generated for.
            labels: Action that each motion should show, one of `classes`.
        """
        folds = np.array([self.fold_of(take) for take in takes])
        found: dict[str, np.ndarray] = {}
        for probes in (self._networks, self._trees):
            ranks = np.zeros(len(joints), dtype=int)
            for fold in range(self.count):
                rows = np.flatnonzero(folds == fold).tolist()
                probe = probes[fold]
                scores = probe.probabilities([joints[row] for row in rows])
                for row, score in zip(rows, scores, strict=True):
                    own = score[probe.classes.index(labels[row])] if labels[row] in probe.classes else -1.0
                    ranks[row] = 1 + int((score > own).sum())
            found[probes[0].kind] = ranks
        return found
