"""Measures over embeddings of motions and texts: FID, MM-Dist, Diversity, MultiModality, and the similarity of pairs.

Definitions of Guo et al., Generating Diverse and Natural 3D Human Motions from Text (2022), section 5. All sums are
taken in float64.
"""

import numpy as np

__all__ = [
    "SIMILARITIES",
    "diversity",
    "embedding_similarity",
    "frechet_distance",
    "matching_distance",
    "multimodality",
    "pairwise_distances",
]

SIMILARITIES = ("cosine", "euclidean")
_BLOCK_VALUES = 2**24  # similarities held at a time before the best of each motion's vectors is taken


def pairwise_distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Euclidean distances `(N, M)` of embeddings `(N, D)` and `(M, D)`."""
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    squares = (first**2).sum(1)[:, None] + (second**2).sum(1)[None, :] - 2 * first @ second.T
    return np.sqrt(np.maximum(squares, 0.0))


def embedding_similarity(motions: np.ndarray, texts: np.ndarray, kind: str = "cosine") -> np.ndarray:
    """Similarity of every motion with every text.

    Args:
        motions: `(N, D)`, or `(N, Q, D)`: of several vectors the one that fits a text best counts, as in LaMP.
        texts: `(M, D)`.
        kind: `"cosine"`, or `"euclidean"`, the distance with its sign turned.

    Returns:
        `(N, M)`, float64, more is better.

    Raises:
        ValueError: Unknown `kind`.
    """
    if kind not in SIMILARITIES:
        raise ValueError(f"similarity={kind!r} is unknown; choose from {', '.join(SIMILARITIES)}")
    vectors = np.asarray(motions, np.float64)
    if vectors.ndim == 2:
        vectors = vectors[:, None]
    texts = np.asarray(texts, np.float64)
    if kind == "cosine":
        vectors, texts = _unit(vectors), _unit(texts)
    count, queries, dim = vectors.shape
    result = np.empty((count, len(texts)))
    step = max(1, _BLOCK_VALUES // max(1, queries * len(texts)))
    for start in range(0, count, step):
        block = vectors[start : start + step].reshape(-1, dim)
        scores = block @ texts.T if kind == "cosine" else -pairwise_distances(block, texts)
        result[start : start + step] = scores.reshape(-1, queries, len(texts)).max(axis=1)
    return result


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def matching_distance(motions: np.ndarray, texts: np.ndarray) -> float:
    """MM-Dist: mean Euclidean distance of motions `(N, D)` from their own texts `(N, D)`."""
    difference = np.asarray(motions, np.float64) - np.asarray(texts, np.float64)
    return float(np.linalg.norm(difference, axis=1).mean())


def frechet_distance(first: np.ndarray, second: np.ndarray) -> float:
    """FID: squared Fréchet distance of the normal distributions fitted to two sets of embeddings.

    The covariances divide by N - 1. The trace of the root of their product is that of the symmetric
    `C1^(1/2) C2 C1^(1/2)`, whose eigenvalues are real and not negative also where a covariance is singular.

    Args:
        first: `(N, D)`.
        second: `(M, D)`.

    Raises:
        ValueError: A set has fewer than two members, which have no covariance.
    """
    if min(len(first), len(second)) < 2:
        raise ValueError(f"FID needs two embeddings or more on each side, got {len(first)} and {len(second)}")
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    cov1, cov2 = np.atleast_2d(np.cov(first, rowvar=False)), np.atleast_2d(np.cov(second, rowvar=False))
    values, axes = np.linalg.eigh(cov1)
    root = (axes * np.sqrt(np.maximum(values, 0.0))) @ axes.T
    shared = np.linalg.eigvalsh(root @ cov2 @ root)
    apart = float(((first.mean(0) - second.mean(0)) ** 2).sum())
    spread = float(np.trace(cov1) + np.trace(cov2) - 2 * np.sqrt(np.maximum(shared, 0.0)).sum())
    return max(apart + spread, 0.0)  # rounding may leave a little less than nothing between equal sets


def diversity(embeddings: np.ndarray, num_pairs: int = 300, seed: int = 0) -> float:
    """Mean distance of random pairs.

    Args:
        embeddings: `(N, D)`.
        num_pairs: Pairs: two draws of so many embeddings, each without repetition, laid side by side.
        seed: Of the draws, which are those of the released code under `np.random.seed(seed)`.

    Raises:
        ValueError: Fewer embeddings than pairs.
    """
    return float(_drawn_distances(embeddings, num_pairs, seed, "diversity").mean())


def multimodality(embeddings: np.ndarray, num_pairs: int = 10, seed: int = 0) -> float:
    """Mean distance of random pairs of motions that were made for one text.

    Args:
        embeddings: `(texts, N, D)`, N motions for each text.
        num_pairs: Pairs for each text, drawn as for [`diversity`]; all texts share the draws.
        seed: Of the draws.

    Raises:
        ValueError: Fewer motions a text than pairs.
    """
    return float(_drawn_distances(np.moveaxis(embeddings, 0, 1), num_pairs, seed, "multimodality").mean())


def _drawn_distances(embeddings: np.ndarray, num_pairs: int, seed: int, what: str) -> np.ndarray:
    if len(embeddings) < num_pairs:
        raise ValueError(f"{what} over {num_pairs} pairs needs as many motions, got {len(embeddings)}")
    rng = np.random.RandomState(seed)
    first, second = (rng.choice(len(embeddings), num_pairs, replace=False) for _ in range(2))
    return np.linalg.norm(np.asarray(embeddings[first], np.float64) - embeddings[second], axis=-1)
