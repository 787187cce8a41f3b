"""Score motions generated for captions of the CMU database, with real clips and retrieval as references.

Two probes check whether a motion shows the action of the segment that its caption describes. Rules check the sides,
turns and counts that the caption claims. An evaluator provides R-Precision, FID and related metrics.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from datasets import Dataset

from lamp_hf.data.cmu.actions import actions_by_segment
from lamp_hf.data.cmu.claims import claims
from lamp_hf.data.cmu.measures import Measures
from lamp_hf.data.cmu.segments import packaged_segments
from lamp_hf.data.schema import with_numpy_motion
from lamp_hf.evaluation.probes.cross_fitted import CrossFittedProbes, LabeledJoints
from lamp_hf.evaluation.protocols.common import EvaluationSet
from lamp_hf.files import atomic_path
from lamp_hf.metrics.functional import embeddings as distances
from lamp_hf.metrics.functional.sentences import DEFAULT_ENCODER, sentence_embeddings
from lamp_hf.motion.limits import MAX_CLIP_FRAMES
from lamp_hf.motion.motion import Motion

if TYPE_CHECKING:
    from lamp_hf.metrics.embedder import Embedder

__all__ = ["CmuClips", "CmuJudge", "Interval", "Retrieval", "cmu_clips", "text_sets"]

MIN_CLIPS, MIN_TAKES = 8, 3  # required training clips and takes of an action that the probes learn
POOL_SIZE = 32
RANKS = (1, 2, 3)
CLAIM_KINDS = ("side", "turn", "count")
PLAIN = 1  # the second caption of a segment is a plain sentence
_RESAMPLES = 1000
_DIVERSITY_PAIRS = 300
_FLOOR_DRAWS = 20


@dataclass(frozen=True)
class CmuClips:
    """Recorded segments, each with a sentence for which to generate a motion.

    Attributes:
        ids: Id of each segment.
        features: Unnormalized features `(T, 263)` of each segment, at most 196 frames.
        actions: Action of each segment according to `actions.yaml`, or `None`.
        texts: Sentence of each segment.
    """

    ids: list[str]
    features: list[np.ndarray]
    actions: list[str | None]
    texts: list[str]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def takes(self) -> list[str]:
        """Take of each segment."""
        return [name.split("@")[0] for name in self.ids]

    @cached_property
    def motions(self) -> list[Motion]:
        """The recorded motions."""
        return [Motion(features=features) for features in self.features]

    def part(self, rows: Sequence[int]) -> "CmuClips":
        """Return a subset of the segments."""
        return CmuClips(
            ids=[self.ids[row] for row in rows],
            features=[self.features[row] for row in rows],
            actions=[self.actions[row] for row in rows],
            texts=[self.texts[row] for row in rows],
        )

    def as_evaluation_set(self) -> EvaluationSet:
        """Return the segments with their sentences as captions, for the evaluation protocols."""
        none, texts = [""] * len(self), [[text] for text in self.texts]
        return EvaluationSet("cmu-mocap", "", self.ids, self.features, texts, none, none, 20.0)

    @property
    def digest(self) -> str:
        """SHA-256 of ids and sentences."""
        return hashlib.sha256(json.dumps([self.ids, self.texts]).encode()).hexdigest()


def cmu_clips(split: Dataset) -> CmuClips:
    """Return the recorded segments of a split of `cmu-mocap`, without mirror images, each with its plain caption."""
    own = split.select(np.flatnonzero(~np.array(split["mirrored"])))
    captions = [[caption["text"] for caption in row] for row in own["captions"]]
    ids = list(own["id"])
    return CmuClips(
        ids=ids,
        features=[np.asarray(row["motion"][:MAX_CLIP_FRAMES], dtype=np.float32) for row in with_numpy_motion(own)],
        actions=actions_by_segment(ids, captions),
        texts=[texts[min(PLAIN, len(texts) - 1)] for texts in captions],
    )


def text_sets(train: CmuClips, validation: CmuClips) -> dict[str, CmuClips]:
    """Return three sets of segments whose sentences are used as prompts.

    Returns:
        - "validation captions": the validation segments with their plain captions.
        - "second wordings": the segments of `rewordings.jsonl`, alternately with the first and the second of their two
          captions there.
        - "training wording": the same segments with their plain captions, which are training captions.
    """
    every = {name: (clips, row) for clips in (train, validation) for row, name in enumerate(clips.ids)}
    found = [(segment, *every[segment.id]) for segment in packaged_segments("rewordings") if segment.id in every]
    known = CmuClips(
        ids=[segment.id for segment, _, _ in found],
        features=[clips.features[row] for _, clips, row in found],
        actions=[clips.actions[row] for _, clips, row in found],
        texts=[clips.texts[row] for _, clips, row in found],
    )
    others = [segment.captions[number % len(segment.captions)] for number, (segment, _, _) in enumerate(found)]
    return {
        "validation captions": validation,
        "training wording": known,
        "second wordings": CmuClips(known.ids, known.features, known.actions, others),
    }


class Retrieval:
    """Baseline for every model: retrieves the training segment whose caption is nearest to a sentence.

    Args:
        split: Training split of `cmu-mocap`, including mirror images.
        encoder: Sentence encoder; see [`sentence_embeddings`].
        num_captions: Number of captions of each segment to compare with, the short ones first. Defaults to all.
        cache_dir: Folder in which the embeddings of the captions are saved. With `None`, they are not saved.
    """

    def __init__(
        self,
        split: Dataset,
        *,
        encoder: str = DEFAULT_ENCODER,
        num_captions: int | None = None,
        cache_dir: Path | None = None,
    ):
        self._split = with_numpy_motion(split)
        self._ids: list[str] = list(split["id"])
        self._encoder = encoder
        captions = [
            (caption["text"], row) for row, each in enumerate(split["captions"]) for caption in each[:num_captions]
        ]
        first = dict(reversed(captions))  # among equal captions, keep the first segment
        self._rows = list(first.values())
        self._table = self._embedded(list(first), cache_dir)

    def _embedded(self, texts: list[str], cache_dir: Path | None) -> np.ndarray:
        key = hashlib.sha256(json.dumps([self._encoder, texts]).encode()).hexdigest()[:16]
        path = None if cache_dir is None else cache_dir / f"caption-embeddings-{key}.npy"
        if path is not None and path.exists():
            return np.asarray(np.load(path, allow_pickle=False), dtype=np.float32)
        table = sentence_embeddings(texts, self._encoder)
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(path) as unfinished:
                np.save(unfinished, table.astype(np.float16))
        return table

    def __call__(self, texts: Sequence[str], frames: Sequence[int]) -> tuple[list[Motion], list[str]]:
        """Return motions for sentences, cropped or looped to the given numbers of frames, and their takes."""
        nearest = (sentence_embeddings(list(texts), self._encoder) @ self._table.T).argmax(axis=1)
        motions, takes = [], []
        for place, count in zip(nearest, frames, strict=True):
            row = self._rows[int(place)]
            features = np.asarray(self._split[row]["motion"], dtype=np.float32)
            # Features contain the root's velocity, so repeating them continues the motion from its last position.
            motions.append(Motion(features=np.tile(features, (-(-count // len(features)), 1))[:count]))
            takes.append(self._ids[row].split("@")[0])
        return motions, takes


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % interval, by bootstrap over motions."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


class CmuJudge:
    """Scores motions with probes, claims and an evaluator.

    Args:
        train: Recorded training segments; the probes are trained on those with an action.
        cache_dir: Folder in which the trained probes are saved. With `None`, they are not saved.
        evaluator: Evaluator for [`field_measures`], which are left out without one.
        seed: Seed of the probes, the draws and the bootstrap.
        on_progress: Called before each long part of the work with its name.
    """

    def __init__(
        self,
        train: CmuClips,
        *,
        cache_dir: Path | None = None,
        evaluator: "Embedder | None" = None,
        seed: int = 0,
        on_progress: Callable[[str], None] = lambda _: None,
    ):
        self._evaluator, self._seed = evaluator, seed
        clips = Counter(action for action in train.actions if action)
        takes = Counter(action for action, _ in {*zip(train.actions, train.takes, strict=True)} if action)
        self.actions = {action for action in clips if clips[action] >= MIN_CLIPS and takes[action] >= MIN_TAKES}
        rows = [row for row, action in enumerate(train.actions) if action in self.actions]
        chosen = train.part(rows)
        joints = [motion.joints for motion in chosen.motions]
        labels = [str(action) for action in chosen.actions]
        self.probes = CrossFittedProbes(
            LabeledJoints(chosen.ids, chosen.takes, joints, labels),
            cache_dir=cache_dir,
            seed=seed,
            on_progress=on_progress,
        )
        self._train = train

    @cached_property
    def _train_vectors(self) -> np.ndarray:
        assert self._evaluator is not None
        return self._evaluator.motions(self._train.motions)

    def scores(self, motions: Sequence[Motion], clips: CmuClips, takes: Sequence[str] | None = None) -> dict[str, Any]:
        """Score each motion.

        Args:
            motions: One motion for each of the clips.
            clips: The clips with the sentences for which the motions were generated.
            takes: For retrieved motions, the take from which each motion was cut.

        Returns:
            Lists with a number for each motion: the rank of the right action by each probe (`None` for segments without
            an action), the number of claims of each kind, the number of claims that the motion contradicts, foot
            skating and jitter.
        """
        joints = [motion.joints for motion in motions]
        rows = [row for row, action in enumerate(clips.actions) if action in self.actions]
        ranks = self.probes.ranks(
            [joints[row] for row in rows],
            [(takes or clips.takes)[row] for row in rows],
            [str(clips.actions[row]) for row in rows],
        )
        found: dict[str, list[Any]] = {}
        for kind, values in ranks.items():
            column: list[int | None] = [None] * len(clips)
            for row, value in zip(rows, values, strict=True):
                column[row] = int(value)
            found[f"rank {kind}"] = column
        for kind in CLAIM_KINDS:
            found[f"{kind} claims"], found[f"{kind} errors"] = [], []
        for clip_joints, text in zip(joints, clips.texts, strict=True):
            checked = claims([text], Measures(clip_joints))
            for kind in CLAIM_KINDS:
                ours = [claim for claim in checked if claim.kind == kind]
                found[f"{kind} claims"].append(len(ours))
                found[f"{kind} errors"].append(sum(bool(claim.contradiction) for claim in ours))
        found["foot skating"] = [motion.foot_skating() for motion in motions]
        found["jitter m/s3"] = [motion.jitter() for motion in motions]
        return found

    def summary(self, scores: Mapping[str, Sequence[Any]]) -> dict[str, Interval]:
        """Summarize [`scores`] as shares, error rates and means with their intervals."""
        found = {}
        for name, values in scores.items():
            if name.startswith("rank "):
                ranks = np.array([value for value in values if value is not None])
                for top in (1, 3):
                    if len(ranks):
                        hits = (ranks <= top).astype(float)
                        found[f"class top-{top}, {name.removeprefix('rank ')}"] = self._mean(hits)
            elif name.endswith(" claims"):
                kind = name.removesuffix(" claims")
                if sum(values):
                    errors = np.array(scores[f"{kind} errors"], dtype=float)
                    found[f"{kind} errors"] = self._ratio(errors, np.array(values, dtype=float))
            elif not name.endswith(" errors"):
                found[name] = self._mean(np.array(values, dtype=float))
        return found

    def field_measures(self, motions: Sequence[Motion], clips: CmuClips) -> dict[str, Interval]:
        """Compute R-Precision, MM-Dist, FID and Diversity on the evaluator's features; empty without an evaluator.

        R-Precision is the expected value over all pools of 32 that contain the text's own motion. FID compares with the
        recorded motions of the same segments.
        """
        if self._evaluator is None:
            return {}
        from scipy.spatial.distance import cdist
        from scipy.stats import hypergeom

        made, real = self._evaluator.motions(motions), self._evaluator.motions(clips.motions)
        texts = self._evaluator.texts(clips.texts)
        apart = cdist(texts, made)  # gives exactly equal distances for equal motions
        own = np.diag(apart)[:, None]
        same = np.array(clips.texts)[:, None] == np.array(clips.texts)[None, :]
        nearer = ((apart < own) & ~same).sum(axis=1)
        level = ((apart == own) & ~same).sum(axis=1)  # all orders of equal distances are equally likely
        found = {}
        drawn = min(POOL_SIZE, len(clips)) - 1
        for k in RANKS:
            places = [hypergeom.cdf(k - 1, len(clips) - 1, first + np.arange(ties + 1), drawn).mean()
                      for first, ties in zip(nearer, level, strict=True)]  # fmt: skip
            found[f"R-Precision {k}"] = self._mean(np.array(places))
        found["MM-Dist"] = self._mean(np.linalg.norm(texts - made, axis=1))
        found["FID"] = self._frechet(made, real)
        pairs = min(_DIVERSITY_PAIRS, len(made) // 2 * 2)
        order = np.random.default_rng(self._seed).permutation(len(made))[:pairs]
        first, second = order[: pairs // 2], order[pairs // 2 : pairs // 2 * 2]
        found["diversity"] = self._mean(np.linalg.norm(made[first] - made[second], axis=1))
        return found

    def multimodality(self, motions_by_text: Sequence[Sequence[Motion]]) -> Interval:
        """Compute the mean distance between motions generated for the same text, with equally many motions per text.

        Raises:
            ValueError: There is no evaluator.
        """
        if self._evaluator is None:
            raise ValueError("MultiModality needs an evaluator; pass evaluator=…")
        spreads = []
        for motions in motions_by_text:
            vectors = self._evaluator.motions(motions)
            apart = distances.pairwise_distances(vectors, vectors)
            spreads.append(apart[np.triu_indices(len(vectors), 1)].mean())
        return self._mean(np.array(spreads))

    def fid_floor(self, clips: CmuClips) -> Interval:
        """Compute the FID of equally many random training clips, the lowest value to expect from a perfect model."""
        assert self._evaluator is not None
        real = self._evaluator.motions(clips.motions)
        rng = np.random.default_rng(self._seed)
        others = np.flatnonzero(~np.isin(self._train.ids, clips.ids))
        draws = [
            distances.frechet_distance(self._train_vectors[rng.choice(others, len(clips), replace=False)], real)
            for _ in range(_FLOOR_DRAWS)
        ]
        return Interval(float(np.mean(draws)), *(float(value) for value in np.percentile(draws, (2.5, 97.5))))

    # ---- intervals ------------------------------------------------------------------------------------------

    def _resamples(self, count: int) -> np.ndarray:
        return np.random.default_rng(self._seed).integers(count, size=(_RESAMPLES, count))

    def _mean(self, values: np.ndarray) -> Interval:
        means = values[self._resamples(len(values))].mean(axis=1)
        return Interval(float(values.mean()), *(float(value) for value in np.percentile(means, (2.5, 97.5))))

    def _ratio(self, parts: np.ndarray, wholes: np.ndarray) -> Interval:
        rows = self._resamples(len(parts))
        ratios = parts[rows].sum(axis=1) / np.maximum(wholes[rows].sum(axis=1), 1.0)
        value = float(parts.sum() / wholes.sum())
        return Interval(value, *(float(bound) for bound in np.percentile(ratios, (2.5, 97.5))))

    def _frechet(self, made: np.ndarray, real: np.ndarray) -> Interval:
        """Compute FID with an interval.

        Repeated rows shrink the covariances, so the bootstrap provides only the width of the interval, not its center.
        """
        value = distances.frechet_distance(made, real)
        rows = self._resamples(len(made))[:_FLOOR_DRAWS]
        width = 1.96 * float(np.std([distances.frechet_distance(made[row], real) for row in rows]))
        return Interval(value, max(0.0, value - width), value + width)
