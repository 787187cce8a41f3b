"""What all protocols start from: the clips of a split, their work spread over processes, and how long it takes."""

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
from datasets import Dataset

from lamp_hf.data.bandai_namco.grammar import CaptionGrammar
from lamp_hf.data.schema import with_numpy_motion
from lamp_hf.motion.motion import Motion
from lamp_hf.motion.skeleton import SKELETONS, Skeleton
from lamp_hf.processes import process_state

__all__ = ["LONGEST_FRAMES", "EvaluationSet", "OnEstimate", "derangement", "estimate", "shown_name", "spread"]

LONGEST_FRAMES = 196  # the field cuts clips here
SAMPLE = 4  # items whose time tells that of all

# Called once, before the work, with the seconds that it will take and with what takes them.
OnEstimate = Callable[[float, str], None]

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class EvaluationSet:
    """Clips of a split with what is known of them.

    Args:
        name: Of the data set.
        split: Of it.
        ids: Of the clips.
        clips: Unnormalized features `(T, D)`, whole.
        captions: One or more of each.
        contents, styles: Labels of each, empty where the set has none.
        fps: Of the clips.
        grammar: With which the labels are worded, where there is one.
    """

    name: str
    split: str
    ids: list[str]
    clips: list[np.ndarray]
    captions: list[list[str]]
    contents: list[str]
    styles: list[str]
    fps: float
    grammar: CaptionGrammar | None = None

    @classmethod
    def from_dataset(
        cls, dataset: Dataset, name: str, split: str, *, limit: int | None = None, grammar: CaptionGrammar | None = None
    ) -> "EvaluationSet":
        """The first `limit` clips of a split, all by default.

        Raises:
            ValueError: The split is empty.
        """
        rows = list(islice(with_numpy_motion(dataset), limit))
        if not rows:
            raise ValueError(f"the split {split} of {name} has no clips")
        return cls(
            name=name,
            split=split,
            ids=[row["id"] for row in rows],
            clips=[np.asarray(row["motion"], dtype=np.float32) for row in rows],
            captions=[[caption["text"] for caption in row["captions"]] for row in rows],
            contents=[row["content"] for row in rows],
            styles=[row["style"] for row in rows],
            fps=rows[0]["fps"],
            grammar=grammar,
        )

    def __len__(self) -> int:
        return len(self.clips)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of ids and captions."""
        return hashlib.sha256(json.dumps([self.ids, self.captions]).encode()).hexdigest()

    @property
    def first_captions(self) -> list[str]:
        """Caption 0 of every clip, on which the field evaluates."""
        return [texts[0] for texts in self.captions]

    @cached_property
    def groups(self) -> list[str]:
        """What each clip shows: its labels, or its first caption where the set has none."""
        return [
            f"{content}/{style}" if content else texts[0]
            for content, style, texts in zip(self.contents, self.styles, self.captions, strict=True)
        ]

    @cached_property
    def motions(self) -> list[Motion]:
        """The clips, at most 196 frames of each."""
        return [Motion(features=clip[:LONGEST_FRAMES], fps=self.fps, skeleton=_skeleton(clip)) for clip in self.clips]


def _skeleton(clip: np.ndarray) -> Skeleton:
    return next(skeleton for skeleton in SKELETONS.values() if skeleton.feature_dim == clip.shape[1])


def shown_name(name_or_path: str) -> str:
    """Name of a checkpoint in records: of a folder its own, without the way to it on this machine."""
    folder = Path(name_or_path)
    return folder.resolve().name if folder.is_dir() else name_or_path


def derangement(count: int, rng: np.random.Generator) -> np.ndarray:
    """A random order of `count` things, two or more, in which none is at its own place."""
    order = rng.permutation(count)
    moved = np.empty(count, dtype=int)
    moved[order] = np.roll(order, 1)  # each goes to the next one's place on one round through all
    return moved


def spread(items: Sequence[T], work: Callable[[list[T]], list[R]]) -> list[R]:
    """Do `work` on `items`, a share in every process that `accelerate launch` or `torchrun` started.

    Args:
        items: The same in every process.
        work: From some of the items to as many results; it must not matter which come together.

    Returns:
        The results of all items, in every process.
    """
    from accelerate.utils import gather_object

    state = process_state()
    if state.num_processes == 1:
        return work(list(items))
    with state.split_between_processes(list(items)) as mine:
        done = work(mine) if mine else []
    return list(gather_object(done))


def estimate(
    on_estimate: OnEstimate | None, items: Sequence[T], work: Callable[[list[T]], object], total: int, what: str
) -> None:
    """Do `work` on a few of the items and tell how long it takes for all.

    Args:
        on_estimate: Whom to tell; nothing is done without it.
        items: Of which a few are taken, evenly apart.
        work: What [`spread`] will be given.
        total: On how many items it will be done altogether.
        what: Names the work: "generating 274 motions".
    """
    if on_estimate is None or not items:
        return
    sample = [items[int(place)] for place in np.linspace(0, len(items) - 1, min(SAMPLE, len(items)))]
    work(sample[:1])  # the first call of all is slower than the others
    start = time.perf_counter()
    work(sample)
    seconds = (time.perf_counter() - start) / len(sample) * total
    on_estimate(seconds / process_state().num_processes, what)
