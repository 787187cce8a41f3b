"""Retrieval between captions and motions: ranks, recall in pools and by chance, and TMR's four protocols."""

from collections.abc import Callable, Iterable, Sequence
from math import comb
from typing import TYPE_CHECKING, Any

import numpy as np

from lamp_hf.batches import batch_starts

if TYPE_CHECKING:
    from lamp_hf.modeling.modeling_lamp import LampModel
    from lamp_hf.modeling.modeling_motion_text_evaluator import MotionTextEvaluatorModel
    from lamp_hf.modeling.processing_lamp import LampProcessor

__all__ = [
    "PROTOCOLS",
    "dissimilar_subset",
    "evaluate_lamp",
    "pool_recall",
    "recall_in_pools",
    "require_pool",
    "retrieval_pools",
    "retrieval_scores",
    "wrong_before_right",
]

RANKS = (1, 2, 3)
RETRIEVAL_RANKS = (1, 2, 3, 5, 10)
PROTOCOLS = ("all", "threshold", "dissimilar", "small_batches")

# Reranking function. Its arguments are "text_to_motion" or "motion_to_text", the pairs of a pool and their similarity
# with queries in rows. It returns the similarity after reranking the best candidates.
SecondLook = Callable[[str, np.ndarray, np.ndarray], np.ndarray]


def wrong_before_right(similarity: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Count, for each query, the wrong candidates that rank before the first right one.

    Args:
        similarity: `(N, M)`, queries in rows, candidates in columns; higher is more similar.
        right: `(N, M)`, boolean, whether a candidate is right. Every query has at least one right candidate.

    Returns:
        `(N,)`, float64, 0 if the best candidate is right. Candidates of equal similarity have a random order; the
        result is the mean over all orders, as TMR averages ties.

    Raises:
        ValueError: A similarity is not finite, so it cannot be ranked.
    """
    if not np.isfinite(similarity).all():
        raise ValueError("the similarity contains values that are not finite (NaN or infinity); check the embeddings")
    best = np.where(right, similarity, -np.inf).max(axis=1, keepdims=True)
    before = ((similarity > best) & ~right).sum(axis=1)
    level = similarity == best
    return before + (level & ~right).sum(axis=1) / ((level & right).sum(axis=1) + 1)


def recall_in_pools(
    similarity: np.ndarray,
    right: np.ndarray,
    pools: Iterable[np.ndarray],
    *,
    ranks: Sequence[int] = RANKS,
    second_look: SecondLook | None = None,
) -> dict[str, float]:
    """Compute recall within pools of pairs, in both directions, averaged over the pools.

    Args:
        similarity: `(N, N)`, motions in rows, their captions in columns.
        right: `(N, N)`, boolean, which captions match which motions.
        pools: Indices of the pairs of each pool.
        ranks: The k of each recall at k.
        second_look: Reranks the candidates of a pool.

    Returns:
        `text_to_motion_r1` … for each k, `text_to_motion_medr`, and the same as `motion_to_text_…`: the share of
        queries with a right answer among the first k, and the median rank of the first right answer, counted from 1.
    """
    sums: dict[str, list[float]] = {}
    for pool in pools:
        here = np.ix_(pool, pool)
        for way, table, fits in (
            ("text_to_motion", similarity[here].T, right[here].T),
            ("motion_to_text", similarity[here], right[here]),
        ):
            wrong = wrong_before_right(second_look(way, pool, table) if second_look else table, fits)
            for k in ranks:
                sums.setdefault(f"{way}_r{k}", []).append(float((wrong < k).mean()))
            sums.setdefault(f"{way}_medr", []).append(float(np.median(wrong)) + 1)
    return {name: float(np.mean(values)) for name, values in sums.items()}


def pool_recall(
    similarity: np.ndarray,
    groups: Sequence[object],
    *,
    pool_size: int = 32,
    repeats: int | None = 20,
    seed: int = 0,
    ranks: Sequence[int] = RANKS,
) -> dict[str, float]:
    """Compute recall in random pools, in both directions.

    Args:
        similarity: `(N, N)`, motions in rows, their captions in columns.
        groups: Label of each pair. A caption matches every motion with the same label.
        pool_size: Pairs per pool; R-Precision uses 32.
        repeats: Number of random partitions into pools. In each, pairs that do not fill a whole pool are left out.
            With `None`, the pairs are split once, in their given order.
        seed: Seed of the partitions.
        ranks: The k of each recall at k.

    Returns:
        The scores of [`recall_in_pools`], and `chance_r1` …, the recall of random ranks in the same pools.

    Raises:
        ValueError: There are fewer pairs than `pool_size`.
    """
    count = len(groups)
    require_pool(count, pool_size)
    _, group = np.unique(np.asarray([str(g) for g in groups]), return_inverse=True)
    right = group[:, None] == group[None, :]
    rng = np.random.default_rng(seed)
    orders = [np.arange(count)] if repeats is None else [rng.permutation(count) for _ in range(repeats)]
    pools = [pool for order in orders for pool in _cut(order, pool_size)]
    result = recall_in_pools(similarity, right, pools, ranks=ranks)
    fitting = np.concatenate([right[np.ix_(pool, pool)].sum(1) for pool in pools])
    sizes, times = np.unique(fitting, return_counts=True)
    for k in ranks:
        drawn = min(k, pool_size)
        misses = [comb(pool_size - int(size), drawn) / comb(pool_size, drawn) for size in sizes]
        result[f"chance_r{k}"] = 1 - float(np.average(misses, weights=times))
    return result


def require_pool(count: int, pool_size: int) -> None:
    """Check that there are enough pairs of motion and caption for one pool.

    Raises:
        ValueError: There are too few pairs.
    """
    if count < pool_size:
        raise ValueError(
            f"{count} pairs do not fill a pool of {pool_size}; use more clips or smaller pools, which are easier "
            f"(pool_size={count}, --pool-size {count})"
        )


def _cut(order: np.ndarray, size: int) -> list[np.ndarray]:
    """Split an order into pools of equal size; the remainder is left out."""
    return [order[start : start + size] for start in range(0, len(order) - size + 1, size)]


def dissimilar_subset(similarity: np.ndarray, size: int) -> np.ndarray:
    """Choose a subset of dissimilar rows with a greedy algorithm.

    Find the two most similar rows, drop the one with the larger total similarity to all other rows, and repeat. TMR
    instead approximates the quadratic knapsack problem with an unpublished algorithm, and publishes the resulting
    subset of HumanML3D.

    Args:
        similarity: `(N, N)`, symmetric.
        size: Number of rows to keep.

    Returns:
        `(size,)`, sorted indices.

    Raises:
        ValueError: There are fewer rows than `size`.
    """
    count = len(similarity)
    if count < size:
        raise ValueError(
            f"{count} pairs are too few for a dissimilar subset of {size}; choose a smaller dissimilar_size "
            "(--dissimilar-size)"
        )
    kept = np.ones(count, bool)
    table = similarity.astype(np.float64)
    np.fill_diagonal(table, -np.inf)
    total = np.where(np.isfinite(table), table, 0.0).sum(axis=1)
    nearest = table.argmax(axis=1)
    for _ in range(count - size):
        first = int(np.argmax(np.where(kept, table[np.arange(count), nearest], -np.inf)))
        second = int(nearest[first])
        dropped = first if total[first] > total[second] else second
        kept[dropped] = False
        total -= np.where(kept, similarity[:, dropped], 0.0)
        table[:, dropped] = -np.inf
        orphans = np.flatnonzero(kept & (nearest == dropped))
        nearest[orphans] = table[orphans].argmax(axis=1)
    return np.flatnonzero(kept)


def retrieval_pools(
    protocol: str,
    count: int,
    text_similarity: np.ndarray | None = None,
    *,
    threshold: float = 0.95,
    dissimilar_size: int = 100,
    pool_size: int = 32,
    seed: int = 0,
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return the right answers and the pools of one of TMR's protocols (Petrovich et al., 2023, section 4.1).

    Args:
        protocol: `"all"`: all pairs at once, where only a query's own partner is right. `"threshold"`: the partners of
            nearly identical captions are right too. `"dissimilar"`: a subset of pairs with dissimilar captions.
            `"small_batches"`: the mean over random pools, as in R-Precision.
        count: Number of pairs, N.
        text_similarity: `(N, N)`, cosines between sentence embeddings of the captions. `"all"` and `"small_batches"`
            do not need it.
        threshold: Captions are nearly identical if (1 + cosine) / 2 exceeds it. TMR's 0.95 is a cosine of 0.9.
        dissimilar_size: Pairs in the subset.
        pool_size: Pairs in a pool.
        seed: Seed of the pools. 0 draws TMR's pools if the pairs are in TMR's order.

    Returns:
        Which captions match which motions, boolean `(N, N)`, and the indices of the pairs of each pool.

    Raises:
        ValueError: The protocol is unknown, there are too few pairs, or `text_similarity` is missing.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol={protocol!r} is unknown; choose from {', '.join(PROTOCOLS)}")
    right = np.eye(count, dtype=bool)
    if protocol == "small_batches":
        require_pool(count, pool_size)
        return right, _cut(np.random.RandomState(seed).permutation(count), pool_size)
    if protocol == "all":
        return right, [np.arange(count)]
    if text_similarity is None:
        raise ValueError(f"the protocol {protocol!r} compares captions; pass captions or their sentence embeddings")
    if protocol == "threshold":
        return right | (text_similarity > 2 * threshold - 1), [np.arange(count)]
    return right, [dissimilar_subset(text_similarity, dissimilar_size)]


def retrieval_scores(
    protocol: str,
    similarity: np.ndarray,
    text_similarity: np.ndarray | None = None,
    *,
    ranks: Sequence[int] = RETRIEVAL_RANKS,
    second_look: SecondLook | None = None,
    **settings: Any,
) -> dict[str, float]:
    """Compute recall under one of TMR's protocols.

    Args:
        protocol, text_similarity, settings: See [`retrieval_pools`].
        similarity: `(N, N)`, motions in rows, their captions in columns.
        ranks: The k of each recall at k.
        second_look: Reranks the candidates of a pool.

    Returns:
        The scores of [`recall_in_pools`], and `n`, the number of pairs in all pools.

    Raises:
        ValueError: See [`retrieval_pools`].
    """
    right, pools = retrieval_pools(protocol, len(similarity), text_similarity, **settings)
    recall = recall_in_pools(similarity, right, pools, ranks=ranks, second_look=second_look)
    return {**recall, "n": sum(map(len, pools))}


def evaluate_lamp(
    model: "LampModel | MotionTextEvaluatorModel",
    processor: "LampProcessor",
    clips: Sequence[np.ndarray],
    captions: Sequence[str],
    groups: Sequence[object],
    *,
    pool_size: int = 32,
    repeats: int = 20,
    seed: int = 0,
    batch_size: int = 32,
) -> dict[str, float]:
    """Compute the recall of a LaMP, or of an evaluator, on pairs of motion and caption.

    Args:
        model: The model, in eval mode. An evaluator must read word pieces.
        processor: Its processor.
        clips: Unnormalized features `(T, D)`.
        captions: One for each clip.
        groups: Label of each pair, see [`pool_recall`].
        pool_size: Pairs per pool. If there are fewer pairs, all of them form one pool.
        repeats, seed: See [`pool_recall`].
        batch_size: Clips per batch.

    Returns:
        The scores of [`pool_recall`].
    """
    import torch

    motion_features: list[torch.Tensor] = []
    text_features: list[torch.Tensor] = []
    with torch.no_grad():
        for start in batch_starts(len(clips), batch_size):
            part = slice(start, start + batch_size)
            inputs = processor(text=list(captions[part]), motion=list(clips[part])).to(model.device)
            motion_features.append(model.get_motion_features(inputs["motion_values"], inputs["motion_attention_mask"]))
            text_features.append(model.get_text_features(inputs["input_ids"], inputs["attention_mask"]))
        similarity = model.similarity(torch.cat(motion_features), torch.cat(text_features)).float().cpu().numpy()
    return pool_recall(similarity, groups, pool_size=min(pool_size, len(clips)), repeats=repeats, seed=seed)
