"""Search the rows of an index: FAISS finds candidates, and exact scores rank them."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch

from .candidates import CandidateFinder, group_means
from .storage import MappedVectors

__all__ = ["Found", "Score", "caption_score", "motion_score", "search", "text_score"]

EXACT_BLOCK_ROWS = 512
# Number of rows from FAISS that get exact scores: few of the best rows are missed (benchmarks/motion_index.py).
RANKED_ROWS = 1000
Score = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class Found(NamedTuple):
    """Row of an index with its score."""

    row: int
    score: float


def search(
    finder: CandidateFinder,
    queries: np.ndarray,
    alive: np.ndarray,
    score: Score,
    top_k: int,
    *,
    groups: Sequence[int] | None = None,
    exact: bool = False,
) -> list[list[Found]]:
    """Find the best rows for queries.

    Args:
        finder: Finds candidates among the rows.
        queries: N queries of m vectors each, `(N, m, P)`.
        alive: Whether each row may be found.
        score: Computes the scores of rows `(C, …, P)` for a query `(m, P)`.
        top_k: Number of results per query.
        groups: Group of each of the m vectors. Candidates are searched with the mean of each group; by default with
            each vector.
        exact: Score all rows, not only the candidates.

    Returns:
        The best rows of each query, best first.
    """
    vectors = finder.vectors
    if not len(vectors):
        return [[] for _ in queries]
    wanted = torch.as_tensor(queries, dtype=torch.float32)
    if exact:
        return _search_all(vectors, wanted, alive, score, top_k)
    asked = queries if groups is None else group_means(queries, groups)
    count = max(RANKED_ROWS, 4 * top_k)
    results = []
    for query, rows in zip(wanted, finder.find(asked, count), strict=True):
        rows = rows[alive[rows]]
        scores = score(torch.from_numpy(vectors.take(rows)).float(), query)
        results.append(_best(rows, scores, top_k))
    return results


def _search_all(
    vectors: MappedVectors, queries: torch.Tensor, alive: np.ndarray, score: Score, top_k: int
) -> list[list[Found]]:
    best: list[list[Found]] = [[] for _ in queries]
    for first, block in vectors.blocks(EXACT_BLOCK_ROWS):
        kept = np.flatnonzero(alive[first : first + len(block)])
        values = torch.from_numpy(block[kept]).float()
        for number, query in enumerate(queries):
            candidates = best[number] + _best(kept + first, score(values, query), top_k)
            best[number] = sorted(candidates, key=_order)[:top_k]
    return best


def text_score(motions: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
    """Return the scores `(C,)` of motions `(C, Q, P)` for a text `(1, P)`: the best cosine over the queries."""
    return (motions @ text[0]).amax(-1)


def motion_score(motions: torch.Tensor, motion: torch.Tensor) -> torch.Tensor:
    """Return the scores `(C,)` of motions `(C, Q, P)` for a motion `(Q, P)`: the mean cosine over the queries."""
    return motions.flatten(1) @ motion.flatten() / len(motion)


def caption_score(captions: torch.Tensor, motion: torch.Tensor) -> torch.Tensor:
    """Return the scores `(C,)` of captions `(C, 1, P)` for a motion `(Q, P)`: the best cosine over its queries."""
    return (captions[:, 0] @ motion.T).amax(-1)


def _order(found: Found) -> tuple[float, int]:
    return -found.score, found.row


def _best(rows: np.ndarray, scores: torch.Tensor, top_k: int) -> list[Found]:
    """Return the `top_k` best rows, best first; ties go to the earlier row."""
    values = scores.numpy()
    order = np.lexsort((rows, -values))[:top_k]
    # Half precision can round a cosine to more than 1.
    return [Found(int(rows[k]), min(float(values[k]), 1.0)) for k in order]
