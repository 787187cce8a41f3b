"""Retrieval between captions and motions: recall in pools, with the share that chance would give."""

from collections.abc import Sequence
from math import comb

import numpy as np
import torch

from lamp_hf.modeling.modeling_lamp import LampModel
from lamp_hf.modeling.modeling_motion_evaluator import MotionTextEvaluatorModel
from lamp_hf.modeling.processing_lamp import LampProcessor

__all__ = ["evaluate_lamp", "pool_recall"]

RANKS = (1, 2, 3)


def pool_recall(
    similarity: np.ndarray, groups: Sequence[object], *, pool_size: int = 32, repeats: int = 20, seed: int = 0
) -> dict[str, float]:
    """Recall in random pools, both ways.

    Args:
        similarity: `(N, N)`, motions in rows, their captions in columns.
        groups: What each pair shows. A caption fits every motion of its group: among equal ones no rank is wrong.
        pool_size: Pairs compared with each other (32, as R-Precision has it).
        repeats: Random partitions of all pairs into pools; pairs that fill no whole pool sit one out.
        seed: Of the partitions.

    Returns:
        `text_to_motion_r1` … `motion_to_text_r3`, and `chance_r1` … `chance_r3`: the recall that random ranks
        would have in the same pools.

    Raises:
        ValueError: Fewer pairs than one pool holds.
    """
    count = len(groups)
    if count < pool_size:
        raise ValueError(f"{count} pairs do not fill a pool of {pool_size}")
    _, group = np.unique(np.asarray([str(g) for g in groups]), return_inverse=True)
    rng = np.random.default_rng(seed)
    sums: dict[str, list[float]] = {}
    for _ in range(repeats):
        order = rng.permutation(count)
        for start in range(0, count - pool_size + 1, pool_size):
            pool = order[start : start + pool_size]
            right = group[pool][:, None] == group[pool][None, :]
            scores = similarity[np.ix_(pool, pool)]
            for name, table in (("motion_to_text", scores), ("text_to_motion", scores.T)):
                ranked = np.take_along_axis(right, np.argsort(-table, axis=1, kind="stable"), axis=1)
                for k in RANKS:
                    sums.setdefault(f"{name}_r{k}", []).append(float(ranked[:, :k].any(1).mean()))
            for k in RANKS:
                misses = [comb(pool_size - int(n), k) / comb(pool_size, k) for n in right.sum(1)]
                sums.setdefault(f"chance_r{k}", []).append(1 - float(np.mean(misses)))
    return {name: float(np.mean(values)) for name, values in sums.items()}


@torch.no_grad()
def evaluate_lamp(
    model: LampModel | MotionTextEvaluatorModel,
    processor: LampProcessor,
    clips: Sequence[np.ndarray],
    captions: Sequence[str],
    groups: Sequence[object],
    *,
    pool_size: int = 32,
    repeats: int = 20,
    seed: int = 0,
    batch_size: int = 32,
) -> dict[str, float]:
    """Recall of a LaMP, or of an evaluator, among pairs of motion and caption.

    Args:
        model: In eval mode; an evaluator reads word pieces.
        processor: Its processor.
        clips: Unnormalised features `(T, D)`.
        captions: One a clip.
        groups: See [`pool_recall`].
        pool_size: At most this many pairs are compared at a time; fewer where there are fewer.

    Returns:
        As [`pool_recall`].
    """
    motion_features: list[torch.Tensor] = []
    text_features: list[torch.Tensor] = []
    for start in range(0, len(clips), batch_size):
        part = slice(start, start + batch_size)
        inputs = processor(text=list(captions[part]), motion=list(clips[part])).to(model.device)
        motion_features.append(model.get_motion_features(inputs["motion_values"], inputs["motion_attention_mask"]))
        text_features.append(model.get_text_features(inputs["input_ids"], inputs["attention_mask"]))
    similarity = model.similarity(torch.cat(motion_features), torch.cat(text_features)).float().cpu().numpy()
    return pool_recall(similarity, groups, pool_size=min(pool_size, len(clips)), repeats=repeats, seed=seed)
