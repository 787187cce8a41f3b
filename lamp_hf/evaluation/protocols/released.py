"""Evaluation as in the released code: parts of clips, batches of 32 in the order of the data set, and their scores.

The data loader of LaMP's evaluation reads the test split in its order, in batches of 32, and leaves out the clips that
do not fill a batch. Its loops for text-to-motion and retrieval, which come from MoMask, differ only in what they embed.
"""

from collections.abc import Sequence

import numpy as np

from lamp_hf.metrics.functional import embeddings as measures
from lamp_hf.metrics.functional.retrieval import RANKS, pool_recall, require_pool
from lamp_hf.motion.limits import MAX_CLIP_FRAMES
from lamp_hf.motion.motion import Motion

from .common import EvaluationSet, derangement

__all__ = ["BATCH", "REAL", "SHUFFLED", "Rows", "diversity_pairs", "feature_rows", "in_batches", "parts_of_clips"]

BATCH = 32
UNIT = 4  # frames of a motion token
REAL, SHUFFLED = "real motions", "shuffled captions"

Rows = dict[str, dict[str, float]]


def in_batches(data: EvaluationSet) -> EvaluationSet:
    """Return the clips that fill batches, in their order.

    Raises:
        ValueError: There are fewer clips than one batch.
    """
    require_pool(len(data), BATCH)
    return data.at(range(len(data) // BATCH * BATCH))


def parts_of_clips(data: EvaluationSet, seed: int) -> list[Motion]:
    """Draw the part of each clip that is evaluated.

    Its length is that of the clip, rounded down to a multiple of 4 frames and at most 196, and in one of three draws 4
    frames less. Its start is random.

    Args:
        data: The clips, of at least 4 frames each.
        seed: Seed of the draws.
    """
    rng = np.random.default_rng(seed)
    parts = []
    for clip, motion in zip(data.clips, data.motions, strict=True):
        frames = min(len(clip), MAX_CLIP_FRAMES) // UNIT * UNIT
        frames = max(frames - UNIT * (rng.integers(3) == 2), UNIT)
        start = int(rng.integers(len(clip) - frames + 1))
        part = clip[start : start + frames]
        parts.append(Motion(features=part, fps=motion.fps, skeleton=motion.skeleton))
    return parts


def diversity_pairs(count: int) -> int:
    """Return the number of pairs of Diversity: 300, or 100 if there are no more than 300 motions."""
    return 300 if count > 300 else min(100, count)


def feature_rows(
    made: np.ndarray,
    real: np.ndarray,
    texts: np.ndarray | None,
    seed: int,
    *,
    groups: Sequence[object] | None = None,
    pool_size: int | None = None,
    pairs: int,
) -> Rows:
    """Score motions on an evaluator's features, beside the real motions and shuffled captions.

    Args:
        made: `(N, D)`, features of the motions.
        real: `(N, D)`, features of the real motions, in the same order.
        texts: `(N, D)`, features of their captions. With `None`, R-Precision and MM-Dist are left out.
        seed: Seed of all draws.
        groups: Labels of the clips: those of equal label are right answers for each other. With `None`, only the clip
            itself is, as in the released code.
        pool_size: Pairs in a random pool of R-Precision. With `None`, batches of 32 in the given order are the pools.
        pairs: Pairs of Diversity.

    Returns:
        Rows for the motions (`""`), the real motions and, with texts, the motions with the captions of other clips.
    """

    def alone(motions: np.ndarray) -> dict[str, float]:
        return {
            "fid": measures.frechet_distance(motions, real),
            "diversity": measures.diversity(motions, pairs, seed),
        }

    def with_texts(motions: np.ndarray, own: np.ndarray) -> dict[str, float]:
        similarity = measures.embedding_similarity(motions, own, "euclidean")
        right = range(len(motions)) if groups is None else groups
        if pool_size is None:
            recall = pool_recall(similarity, right, pool_size=BATCH, repeats=None)
        else:
            recall = pool_recall(similarity, right, pool_size=pool_size, repeats=1, seed=seed)
        return {
            **{f"r_precision_{k}": recall[f"text_to_motion_r{k}"] for k in RANKS},
            "mm_dist": measures.matching_distance(motions, own),
        }

    if texts is None:
        return {REAL: alone(real), "": alone(made)}
    shuffled = texts[derangement(len(made), np.random.default_rng(seed))]
    return {
        REAL: with_texts(real, texts) | alone(real),
        SHUFFLED: with_texts(made, shuffled),
        "": with_texts(made, texts) | alone(made),
    }
