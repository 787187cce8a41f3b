"""Shared parts of the protocols: the clips of a split, multi-process execution, and estimates of the duration."""

import hashlib
import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from datasets import Dataset

from lamp_hf.data.bandai_namco.grammar import CaptionGrammar
from lamp_hf.data.schema import with_numpy_motion
from lamp_hf.motion.limits import MAX_CLIP_FRAMES
from lamp_hf.motion.motion import Motion
from lamp_hf.motion.skeleton import SKELETONS, Skeleton
from lamp_hf.processes import process_state

if TYPE_CHECKING:
    from lamp_hf.metrics.embedder import Embedder

__all__ = [
    "EvaluationSet",
    "OnEstimate",
    "derangement",
    "embed_motions",
    "embed_texts",
    "estimate",
    "shown_name",
    "spread",
]

logger = logging.getLogger(__name__)

SAMPLE = 4  # items that are timed to estimate the duration

# Called once before the work, with the estimated seconds and a description of the work.
OnEstimate = Callable[[float, str], None]

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class EvaluationSet:
    """Clips of a split with their captions and labels.

    Args:
        name: Name of the data set.
        split: Name of the split.
        ids: Id of each clip.
        clips: Unnormalized features `(T, D)` of each whole clip.
        captions: One or more captions of each clip.
        contents, styles: Labels of each clip, empty strings if the data set has none.
        fps: Frame rate of the clips.
        grammar: The grammar that composes the captions from the labels, if there is one.
        annotations: The first caption of each clip as words with their parts of speech, as in
            `a/DET person/NOUN walk/VERB`; empty strings if the data set has none.
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
    annotations: list[str] | None = None

    @classmethod
    def from_dataset(
        cls, dataset: Dataset, name: str, split: str, *, limit: int | None = None, grammar: CaptionGrammar | None = None
    ) -> "EvaluationSet":
        """Load the first `limit` clips of a split. Defaults to all clips.

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
            annotations=[(row.get("tokens") or [""])[0] for row in rows],
        )

    def __len__(self) -> int:
        return len(self.clips)

    def at(self, places: Sequence[int]) -> "EvaluationSet":
        """Return the clips at these places."""
        return replace(
            self,
            ids=[self.ids[place] for place in places],
            clips=[self.clips[place] for place in places],
            captions=[self.captions[place] for place in places],
            contents=[self.contents[place] for place in places],
            styles=[self.styles[place] for place in places],
            annotations=None if self.annotations is None else [self.annotations[place] for place in places],
        )

    def first_texts(self, evaluator: "Embedder") -> list[str]:
        """Return caption 0 of every clip in the form that an evaluator reads best: its annotation, or its text."""
        if self.annotations is None or not evaluator.reads_annotations:
            return self.first_captions
        return [tokens or text for tokens, text in zip(self.annotations, self.first_captions, strict=True)]

    @cached_property
    def digest(self) -> str:
        """SHA-256 of ids and captions."""
        return hashlib.sha256(json.dumps([self.ids, self.captions]).encode()).hexdigest()

    @property
    def first_captions(self) -> list[str]:
        """Caption 0 of every clip, the one used for evaluation in the literature."""
        return [texts[0] for texts in self.captions]

    @cached_property
    def groups(self) -> list[str]:
        """Label of each clip, `content/style`, or its first caption if it has no label."""
        return [
            f"{content}/{style}" if content else texts[0]
            for content, style, texts in zip(self.contents, self.styles, self.captions, strict=True)
        ]

    @cached_property
    def motions(self) -> list[Motion]:
        """The clips, cropped to their first 196 frames."""
        return [Motion(features=clip[:MAX_CLIP_FRAMES], fps=self.fps, skeleton=_skeleton(clip)) for clip in self.clips]


def _skeleton(clip: np.ndarray) -> Skeleton:
    return next(skeleton for skeleton in SKELETONS.values() if skeleton.feature_dim == clip.shape[1])


def shown_name(name_or_path: str) -> str:
    """Return the name of a checkpoint for records: the last part of a folder's path, or the Hub id."""
    folder = Path(name_or_path)
    return folder.resolve().name if folder.is_dir() else name_or_path


def derangement(count: int, rng: np.random.Generator) -> np.ndarray:
    """Return a random permutation of `count` items (at least two) in which no item keeps its place."""
    order = rng.permutation(count)
    moved = np.empty(count, dtype=int)
    moved[order] = np.roll(order, 1)  # one cycle through all items
    return moved


def spread(items: Sequence[T], work: Callable[[list[T]], list[R]]) -> list[R]:
    """Apply `work` to `items`, distributed over all processes of `accelerate launch` or `torchrun`.

    Args:
        items: All items, equal in every process.
        work: Returns one result per item. The results must not depend on how the items are grouped.

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


def embed_motions(evaluator: "Embedder", motions: Sequence[Motion]) -> np.ndarray:
    """Embed motions as `(N, D)`, distributed over all processes."""
    return np.stack(spread(motions, lambda some: list(evaluator.motions(some))))


def embed_texts(evaluator: "Embedder", data: EvaluationSet) -> np.ndarray | None:
    """Embed caption 0 of every clip as `(N, D)`, or return `None` with a warning if the evaluator cannot."""
    if not evaluator.reads_sentences:
        logger.warning("%s cannot embed sentences: R-Precision and MM-Dist are left out.", shown_name(evaluator.name))
        return None
    return np.stack(spread(data.first_texts(evaluator), lambda some: list(evaluator.texts(some))))


def estimate(
    on_estimate: OnEstimate | None, items: Sequence[T], work: Callable[[list[T]], object], total: int, what: str
) -> None:
    """Time `work` on a few items and report the estimated duration for all of them.

    Args:
        on_estimate: Called with the estimate. If it is `None`, nothing is done.
        items: The items; a few at regular intervals are timed.
        work: The function that [`spread`] will apply.
        total: Total number of items to process.
        what: Description of the work, such as "generating 274 motions".
    """
    if on_estimate is None or not items:
        return
    sample = [items[int(place)] for place in np.linspace(0, len(items) - 1, min(SAMPLE, len(items)))]
    work(sample[:1])  # warm up, because the first call is slower
    start = time.perf_counter()
    work(sample)
    seconds = (time.perf_counter() - start) / len(sample) * total
    on_estimate(seconds / process_state().num_processes, what)
