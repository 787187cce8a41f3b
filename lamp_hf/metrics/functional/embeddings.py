"""Metrics over embeddings of motions and texts: FID, MM-Dist, Diversity, MultiModality, and the similarity of pairs.

The definitions are from Guo et al., Generating Diverse and Natural 3D Human Motions from Text (2022), section 5. All
sums are computed in float64.
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
_BLOCK_VALUES = 2**24  # limit of similarities in memory before the maximum over each motion's vectors


def pairwise_distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Compute Euclidean distances `(N, M)` between embeddings `(N, D)` and `(M, D)`."""
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    squares = (first**2).sum(1)[:, None] + (second**2).sum(1)[None, :] - 2 * first @ second.T
    return np.sqrt(np.maximum(squares, 0.0))


def embedding_similarity(motions: np.ndarray, texts: np.ndarray, kind: str = "cosine") -> np.ndarray:
    """Compute the similarity of every motion with every text.

    Args:
        motions: `(N, D)`, or `(N, Q, D)` with several vectors per motion, of which the most similar one counts, as in
            LaMP.
        texts: `(M, D)`.
        kind: `"cosine"`, or `"euclidean"` for the negative Euclidean distance.

    Returns:
        `(N, M)`, float64, higher is more similar.

    Raises:
        ValueError: `kind` is unknown.
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
    """Compute MM-Dist, the mean Euclidean distance between motions `(N, D)` and their texts `(N, D)`."""
    difference = np.asarray(motions, np.float64) - np.asarray(texts, np.float64)
    return float(np.linalg.norm(difference, axis=1).mean())


def frechet_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Compute FID, the squared Fréchet distance between normal distributions fitted to two sets of embeddings.

    The covariances divide by N - 1. The trace of the square root of their product is computed from the symmetric matrix
    `C1^(1/2) C2 C1^(1/2)`. Its eigenvalues are real and non-negative even if a covariance is singular.

    Args:
        first: `(N, D)`.
        second: `(M, D)`.

    Raises:
        ValueError: A set has fewer than two embeddings, so it has no covariance.
    """
    if min(len(first), len(second)) < 2:
        raise ValueError(f"FID needs at least two embeddings on each side, got {len(first)} and {len(second)}")
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    cov1, cov2 = np.atleast_2d(np.cov(first, rowvar=False)), np.atleast_2d(np.cov(second, rowvar=False))
    values, axes = np.linalg.eigh(cov1)
    root = (axes * np.sqrt(np.maximum(values, 0.0))) @ axes.T
    shared = np.linalg.eigvalsh(root @ cov2 @ root)
    apart = float(((first.mean(0) - second.mean(0)) ** 2).sum())
    spread = float(np.trace(cov1) + np.trace(cov2) - 2 * np.sqrt(np.maximum(shared, 0.0)).sum())
    return max(apart + spread, 0.0)  # rounding can make the distance of equal sets slightly negative


def diversity(embeddings: np.ndarray, num_pairs: int = 300, seed: int = 0) -> float:
    """Compute Diversity, the mean distance of random pairs.

    Args:
        embeddings: `(N, D)`.
        num_pairs: Number of pairs. Both sides of the pairs are drawn separately, each without replacement.
        seed: Seed of the draws, which equal those of the released code with `np.random.seed(seed)`.

    Raises:
        ValueError: There are fewer embeddings than pairs.
    """
    return float(_drawn_distances(embeddings, num_pairs, seed, "diversity").mean())


def multimodality(embeddings: np.ndarray, num_pairs: int = 10, seed: int = 0) -> float:
    """Compute MultiModality, the mean distance of random pairs of motions generated for the same text.

    Args:
        embeddings: `(texts, N, D)`, N motions for each text.
        num_pairs: Number of pairs for each text, drawn as in [`diversity`]. All texts share the draws.
        seed: Seed of the draws.

    Raises:
        ValueError: There are fewer motions per text than pairs.
    """
    return float(_drawn_distances(np.moveaxis(embeddings, 0, 1), num_pairs, seed, "multimodality").mean())


def _drawn_distances(embeddings: np.ndarray, num_pairs: int, seed: int, what: str) -> np.ndarray:
    if len(embeddings) < num_pairs:
        raise ValueError(
            f"{what} over {num_pairs} pairs needs at least {num_pairs} motions, got {len(embeddings)}; reduce num_pairs"
        )
    rng = np.random.RandomState(seed)
    first, second = (rng.choice(len(embeddings), num_pairs, replace=False) for _ in range(2))
    return np.linalg.norm(np.asarray(embeddings[first], np.float64) - embeddings[second], axis=-1)
