"""Editing protocols: a part of each clip is generated again; the whole, its seams and the other frames are scored."""

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lamp_hf.evaluation.records import Estimate, EvaluationRecord, Protocol, weights_digest
from lamp_hf.metrics.functional.retrieval import require_pool
from lamp_hf.motion.motion import Motion
from lamp_hf.version import __version__

from .common import EvaluationSet, OnEstimate, derangement, embed_motions, embed_texts, estimate, shown_name, spread
from .released import REAL, Rows, feature_rows

if TYPE_CHECKING:
    from lamp_hf.metrics.embedder import Embedder
    from lamp_hf.pipelines.text_to_motion import TextToMotionPipeline

__all__ = ["PROTOCOLS", "evaluate_editing_protocols", "seam_scores", "spans_of"]

logger = logging.getLogger(__name__)

VERSION = 1
POOL_SIZE = 32
DIVERSITY_PAIRS = 300
OTHER = "another clip"
SHORTEST_TOKENS = 4
SEAM_S = 0.25  # seconds on each side of a seam that belong to it

# The parts of a clip that are generated, as shares of its tokens.
PARTS: dict[str, tuple[tuple[float, float], ...]] = {
    "in-betweening": ((0.25, 0.75),),
    "outpainting": ((0.0, 0.25), (0.75, 1.0)),
    "prefix": ((0.5, 1.0),),
    "suffix": ((0.0, 0.5),),
    "editing": ((0.25, 0.75),),
}
PROTOCOLS = tuple(PARTS)


def evaluate_editing_protocols(
    name: str,
    pipe: "TextToMotionPipeline",
    data: EvaluationSet,
    *,
    evaluator: "Embedder",
    protocols: Sequence[str] = PROTOCOLS,
    repeats: int = 20,
    seed: int = 0,
    pool_size: int = POOL_SIZE,
    on_estimate: OnEstimate | None = None,
) -> list[EvaluationRecord]:
    """Generate a part of each clip again, for each repeat, and score the result.

    - "in-betweening" keeps the first and the last quarter and generates the middle.
    - "outpainting" keeps the middle half and generates both ends.
    - "prefix" keeps the first half, and "suffix" the second half.
    - "editing" generates the middle with caption 0 of another clip instead of the clip's own.

    Clips are cropped to at most 196 frames and to whole tokens; clips of fewer than four tokens are left out.

    The metrics are FID, Diversity, R-Precision and MM-Dist of the edited whole with the caption that it was generated
    for, on the features of `evaluator`; `seam_speed_m_per_s`, the speed of the fastest joint across a seam between kept
    and generated frames; `seam_jitter_m_per_s3`, the jitter within 0.25 s of a seam; and `kept_frames`, the share of
    the frames outside the edit whose features are bitwise equal to the original.

    The reference "real motions" scores the clips themselves, with the seams in the same places. "another clip" fills
    the part with frames of a random other clip, repeated if it is shorter. "shuffled captions" scores the edited
    motions with the captions of other clips.

    Args:
        name: Name of the checkpoint.
        pipe: Pipeline with the checkpoint.
        data: The clips.
        evaluator: Embeds motions and captions. If it cannot embed sentences, R-Precision and MM-Dist are left out.
        protocols: Protocols to run.
        repeats: Number of times that motions are edited, and pools, pairs and other clips are drawn.
        seed: Repeat r edits clip i with the seed `seed + r · N + i`.
        pool_size: Pairs in a pool of R-Precision. Smaller pools are easier, and their scores are not comparable.
        on_estimate: Called once with the estimated duration before the work.

    Returns:
        A record for each protocol.

    Raises:
        ValueError: A protocol is unknown, or there are too few clips.
    """
    for protocol in protocols:
        if protocol not in PROTOCOLS:
            raise ValueError(f"protocol={protocol!r} is unknown; choose from {', '.join(PROTOCOLS)}")
    size = pipe.frames_per_token
    kept = [place for place, motion in enumerate(data.motions) if len(motion.features) >= SHORTEST_TOKENS * size]
    if len(kept) < len(data):
        logger.warning("%d clips of fewer than %d frames are left out.", len(data) - len(kept), SHORTEST_TOKENS * size)
    require_pool(len(kept), pool_size)
    data = data.at(kept)
    clips = [_cropped(motion, size) for motion in data.motions]
    judge = _Judge(clips, data, evaluator, pool_size, seed, size)

    def work(protocol: str) -> Callable[[list[tuple[int, str, int]]], list[Motion]]:
        return lambda jobs: _edited(pipe, clips, protocol, jobs)

    jobs = [(place, text, seed + place) for place, text in enumerate(data.first_captions)]
    total = len(data) * repeats * len(protocols)
    estimate(on_estimate, jobs, work(protocols[0]), total, f"editing {total:,} motions")
    model_hash, evaluator_hash = weights_digest(pipe.model), weights_digest(evaluator.model)
    records = []
    for protocol in protocols:
        found: list[Rows] = []
        for repeat in range(repeats):
            order = derangement(len(clips), np.random.default_rng(seed + repeat))
            # With the captions of other clips, each clip gets the one of its place in the order.
            texts = order if protocol == "editing" else np.arange(len(clips))
            jobs = [
                (place, data.first_captions[text], seed + repeat * len(clips) + place)
                for place, text in enumerate(texts)
            ]
            edited = spread(jobs, work(protocol))
            found.append(judge(protocol, edited, texts, order, repeat))
        rows = {row: Estimate.of_rows([scores[row] for scores in found]) for row in found[0]}
        records.append(
            EvaluationRecord(
                model=name,
                model_hash=model_hash,
                lamp_hf=__version__,
                protocol=Protocol(
                    "editing",
                    protocol,
                    VERSION,
                    shown_name(evaluator.name),
                    evaluator_hash,
                    data.name,
                    data.digest,
                    data.split,
                    len(data),
                    repeats,
                    seed,
                    {"pool_size": pool_size, "diversity_pairs": min(DIVERSITY_PAIRS, len(data))},
                ),
                rows={name: rows.pop("")},
                references=rows,
            )
        )
    return records


def spans_of(protocol: str, num_frames: int, frames_per_token: int) -> list[tuple[int, int]]:
    """Return the parts of a clip that a protocol generates, first frame and frame after the last, in whole tokens."""
    tokens = num_frames // frames_per_token

    def frame(share: float) -> int:
        # Shares are rounded from both ends alike, so that equally many tokens are kept before and after the middle.
        place = round(share * tokens) if share <= 0.5 else tokens - round((1 - share) * tokens)
        return place * frames_per_token

    return [(frame(first), frame(last)) for first, last in PARTS[protocol]]


def seam_scores(motion: Motion, spans: Sequence[tuple[int, int]]) -> dict[str, float]:
    """Measure the seams of a motion.

    Args:
        motion: The motion.
        spans: First frame and frame after the last of the generated parts.

    Returns:
        `seam_speed_m_per_s`, the speed of the fastest joint from the last frame before a seam to the first one after
        it, and `seam_jitter_m_per_s3`, the mean size of the third derivative of the positions of the joints within
        0.25 s of a seam; each the mean over all seams.
    """
    frames = len(motion.features)
    seams = [place for span in spans for place in span if 0 < place < frames]
    steps = np.linalg.norm(np.diff(motion.joints, axis=0), axis=-1).max(-1) * motion.fps
    jerks = np.linalg.norm(np.diff(motion.joints, 3, axis=0), axis=-1).mean(-1) * motion.fps**3
    reach = max(2, round(SEAM_S * motion.fps))
    # The difference of step k - 1 leads to frame k; jerk k is computed from the frames k to k + 3.
    near = [jerks[max(0, seam - reach) : seam + reach - 3] for seam in seams]
    return {
        "seam_speed_m_per_s": float(np.mean([steps[seam - 1] for seam in seams])),
        "seam_jitter_m_per_s3": float(np.mean([part.mean() for part in near])),
    }


def _cropped(motion: Motion, frames_per_token: int) -> Motion:
    frames = len(motion.features) // frames_per_token * frames_per_token
    return Motion(features=motion.features[:frames], fps=motion.fps, skeleton=motion.skeleton)


def _edited(
    pipe: "TextToMotionPipeline", clips: list[Motion], protocol: str, jobs: list[tuple[int, str, int]]
) -> list[Motion]:
    """Edit clips, given the place, the caption and the seed of each; clips of equal length share a call."""
    from lamp_hf.pipelines.text_warnings import for_measurement

    groups: dict[int, list[int]] = {}
    for number, (place, _, _) in enumerate(jobs):
        groups.setdefault(len(clips[place].features), []).append(number)
    made: dict[int, Motion] = {}
    for frames, numbers in groups.items():
        fps = clips[jobs[numbers[0]][0]].fps
        spans = spans_of(protocol, frames, pipe.frames_per_token)
        with for_measurement():
            results: Any = pipe(
                [jobs[number][1] for number in numbers],
                motion=[clips[jobs[number][0]] for number in numbers],
                edit=[(first / fps, last / fps) for first, last in spans],
                seed=[jobs[number][2] for number in numbers],
                batch_size=32,
            )
        made |= dict(zip(numbers, (result["motion"] for result in results), strict=True))
    return [made[number] for number in range(len(jobs))]


class _Judge:
    """Scores edited motions beside the clips, clips filled with others, and shuffled captions."""

    def __init__(
        self,
        clips: list[Motion],
        data: EvaluationSet,
        evaluator: "Embedder",
        pool_size: int,
        seed: int,
        frames_per_token: int,
    ):
        self._clips, self._data, self._evaluator = clips, data, evaluator
        self._pool_size, self._seed, self._frames_per_token = pool_size, seed, frames_per_token
        self._texts = embed_texts(evaluator, data)
        self._real = embed_motions(evaluator, clips)

    def __call__(self, protocol: str, edited: list[Motion], texts: np.ndarray, order: np.ndarray, repeat: int) -> Rows:
        spans = [spans_of(protocol, len(clip.features), self._frames_per_token) for clip in self._clips]
        filled = [
            _filled(clip, self._clips[other], parts)
            for clip, other, parts in zip(self._clips, order, spans, strict=True)
        ]
        rows = self._features(edited, texts, repeat)
        rows[REAL] = self._features(self._clips, np.arange(len(texts)), repeat)[REAL]  # with their own captions
        rows[OTHER] = self._features(filled, texts, repeat)[""]
        for row, motions in ((REAL, self._clips), ("", edited), (OTHER, filled)):
            rows[row] |= self._frames(motions, spans)
        return rows

    def _features(self, motions: list[Motion], texts: np.ndarray, repeat: int) -> Rows:
        groups = self._data.groups
        return feature_rows(
            embed_motions(self._evaluator, motions),
            self._real,
            None if self._texts is None else self._texts[texts],
            self._seed + repeat,
            groups=[groups[text] for text in texts],
            pool_size=self._pool_size,
            pairs=min(DIVERSITY_PAIRS, len(motions)),
        )

    def _frames(self, motions: list[Motion], spans: list[list[tuple[int, int]]]) -> dict[str, float]:
        seams = [seam_scores(motion, parts) for motion, parts in zip(motions, spans, strict=True)]
        equal = []
        for motion, clip, parts in zip(motions, self._clips, spans, strict=True):
            outside = np.ones(len(clip.features), bool)
            for first, last in parts:
                outside[first:last] = False
            equal.append((motion.features == clip.features).all(1)[outside])
        means = {metric: float(np.mean([scores[metric] for scores in seams])) for metric in seams[0]}
        return {**means, "kept_frames": float(np.concatenate(equal).mean())}


def _filled(clip: Motion, other: Motion, spans: Sequence[tuple[int, int]]) -> Motion:
    """Return a clip whose parts are frames of another one."""
    features = clip.features.copy()
    for first, last in spans:
        features[first:last] = np.resize(other.features, (last - first, features.shape[1]))
    return Motion(features=features, fps=clip.fps, skeleton=clip.skeleton)
