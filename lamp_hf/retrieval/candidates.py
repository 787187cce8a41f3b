"""FAISS over the vectors of an index: finds the few rows whose exact scores are worth computing.

A motion has a vector for each of its queries, and the one that fits a text best decides. Many queries say nearly
the same, so that FAISS need not hold them all: like ones are grouped, and their means stand for them.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from lamp_hf.motion.files import atomic_path

from .storage import MappedVectors

__all__ = ["CandidateFinder", "group_means", "group_queries"]

# Up to this many vectors are compared with a query one by one, beyond it those of the nearest cells.
FLAT_VECTORS = 32_768
# So many vectors of the nearest cells are looked at for a request: a few milliseconds on one core.
SCANNED_VECTORS = 65_536
TRAINING_VECTORS_PER_CELL = 48
TRAINING_ITERATIONS = 10
GROUPING_ROWS = 1024
# When a set has grown to this many times the size that the cells were made for, they are made anew.
OUTGROWN = 8
BLOCK_ROWS = 1024


def group_queries(vectors: np.ndarray, num_groups: int) -> list[int]:
    """Group the queries that say nearly the same of all motions, by average linkage.

    Args:
        vectors: Of some motions, `(n, Q, P)`, of unit length.
        num_groups: From 1 to Q.

    Returns:
        Group of each query, from 0 in the order of the queries.
    """
    num_queries = vectors.shape[1]
    vectors = vectors.astype(np.float32)
    likeness = np.einsum("nqp,nrp->qr", vectors, vectors, optimize=True) / len(vectors)
    groups = [[query] for query in range(num_queries)]
    while len(groups) > num_groups:
        pairs = [(a, b) for b in range(len(groups)) for a in range(b)]
        a, b = max(pairs, key=lambda pair: likeness[np.ix_(groups[pair[0]], groups[pair[1]])].mean())
        groups[a] += groups.pop(b)
    labels = {query: number for number, group in enumerate(sorted(map(sorted, groups))) for query in group}
    return [labels[query] for query in range(num_queries)]


def group_means(vectors: np.ndarray, groups: Sequence[int]) -> np.ndarray:
    """Means `(n, G, P)` of unit length, float32, over the groups of vectors `(n, Q, P)`."""
    labels = np.asarray(groups)
    means = [vectors[:, labels == group].mean(1, dtype=np.float32) for group in range(labels.max() + 1)]
    result = np.stack(means, axis=1)
    return result / np.maximum(np.linalg.norm(result, axis=-1, keepdims=True), 1e-12)


class CandidateFinder:
    """Approximate search by inner product over the vectors of all rows.

    Small sets are searched whole; of larger ones the vectors lie in cells (IVF), one byte a number.

    Args:
        path: File of the FAISS index; it need not exist yet.
        vectors: The rows' vectors `(Q, P)`.
        per_row: How many vectors FAISS holds of each row, at most Q.
        groups: Which queries they are the means of; `None` if that is still to be decided.

    Raises:
        ImportError: FAISS is not installed.
    """

    def __init__(self, path: Path, vectors: MappedVectors, per_row: int, groups: list[int] | None = None):
        self.faiss = _import_faiss()
        self.path = path
        self.vectors = vectors
        self.per_row = per_row
        self.groups = groups
        self._index: Any = None

    @property
    def _total(self) -> int:
        return len(self.vectors) * self.per_row

    def load(self) -> None:
        """Read the file, from disk as needed; rows that it does not know yet are added in memory."""
        self._index = self._read(self.faiss.IO_FLAG_MMAP)
        if not self._is_complete():
            self._index = self._read(0)
            if self._outgrown():
                self._index = self._create()
            self._add_missing(progress=False)

    def prepare(self) -> None:
        """Read the file to add to it; one that is outgrown goes, and the queries are grouped anew."""
        self._index = self._read(0)
        if self._outgrown():
            # Before the new groups are written anywhere: nobody shall take the old vectors for theirs.
            self.path.unlink(missing_ok=True)
            self._index = None
            self.groups = self._group()

    def update(self, *, progress: bool) -> None:
        """After [`prepare`], add the rows that the file does not know yet, and write it."""
        if self._is_complete():
            return
        if self._index is None:
            self._index = self._create()
        self._add_missing(progress=progress)
        with atomic_path(self.path) as unfinished:
            self.faiss.write_index(self._index, str(unfinished))

    def _read(self, flags: int) -> Any:
        if not self.path.is_file() or self.groups is None:
            return None
        try:
            index = self.faiss.read_index(str(self.path), flags)
        except RuntimeError as error:
            raise ValueError(f"{self.path} cannot be read; delete it and index again to have it made anew") from error
        if index.d != self.vectors.shape[1] or index.ntotal > self._total:
            raise ValueError(f"{self.path} belongs to another index; delete it and index again to have it made anew")
        return index

    def _is_complete(self) -> bool:
        return self._index is not None and self._index.ntotal == self._total

    def _outgrown(self) -> bool:
        if self._index is None:
            return True
        wanted, cells = _num_cells(self._total), getattr(self._index, "nlist", 0)
        return wanted**2 > OUTGROWN * cells**2  # cells grow with the root of the number

    def _group(self) -> list[int]:
        if self.per_row == self.vectors.shape[0] or not len(self.vectors):
            return list(range(self.per_row))
        return group_queries(self.vectors.take(self._sample(GROUPING_ROWS)), self.per_row)

    def _sample(self, count: int) -> np.ndarray:
        rows = np.random.default_rng(0).choice(len(self.vectors), min(count, len(self.vectors)), replace=False)
        return np.sort(rows)

    def _means(self, block: np.ndarray) -> np.ndarray:
        if self.per_row == self.vectors.shape[0]:
            return block.astype(np.float32).reshape(-1, self.vectors.shape[1])
        return group_means(block, self.groups or ()).reshape(-1, self.vectors.shape[1])

    def _create(self) -> Any:
        if self.groups is None:
            self.groups = self._group()
        cells, size = _num_cells(self._total), self.vectors.shape[1]
        if not cells:
            return self.faiss.IndexFlatIP(size)
        index = self.faiss.index_factory(size, f"IVF{cells},SQ8", self.faiss.METRIC_INNER_PRODUCT)
        index.cp.niter = TRAINING_ITERATIONS
        rows = self._sample(-(-TRAINING_VECTORS_PER_CELL * cells // self.per_row))
        index.train(self._means(self.vectors.take(rows)))
        return index

    def _add_missing(self, *, progress: bool) -> None:
        known = self._index.ntotal // self.per_row
        with tqdm(total=len(self.vectors) - known, desc="Adding to FAISS", unit="row", disable=not progress) as bar:
            for _, block in self.vectors.blocks(BLOCK_ROWS, start=known):
                self._index.add(self._means(block))
                bar.update(len(block))

    def find(self, queries: np.ndarray, count: int) -> list[np.ndarray]:
        """Rows that may score best.

        Args:
            queries: `(N, m, P)`: of each request m vectors, any of which may decide.
            count: How many rows to find for a request.

        Returns:
            For each request at most `count` rows, each once, in ascending order.
        """
        if self._index is None:
            self.load()
        requests, each, size = queries.shape
        options = {}
        if cells := getattr(self._index, "nlist", 0):
            share = SCANNED_VECTORS / each / self._index.ntotal
            options["params"] = self.faiss.SearchParametersIVF(nprobe=int(np.clip(cells * share, 8, cells)))
        flat = np.ascontiguousarray(queries, np.float32).reshape(-1, size)
        # A row's vectors may all be among the best: with so many, at least `count` rows are found.
        nearest = max(1, min(count * self.per_row, self._index.ntotal))
        scores, found = self._index.search(flat, nearest, **options)
        return [
            _best_rows(ids // self.per_row, values, count)
            for ids, values in zip(found.reshape(requests, -1), scores.reshape(requests, -1), strict=True)
        ]


def _best_rows(rows: np.ndarray, scores: np.ndarray, count: int) -> np.ndarray:
    """The `count` best rows, each by its best score; negative ones stand for nothing."""
    order = np.argsort(-scores, kind="stable")
    order = order[rows[order] >= 0]
    unique, first = np.unique(rows[order], return_index=True)
    return np.sort(unique[np.argsort(first)[:count]])


def _num_cells(num_vectors: int) -> int:
    """Cells for so many vectors, about four times the root of their number; 0 where none are needed."""
    if num_vectors <= FLAT_VECTORS:
        return 0
    return int(2 ** round(np.log2(4 * num_vectors**0.5)))


def _import_faiss() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise ImportError("a motion index needs FAISS: pip install 'lamp_hf[retrieval]'") from error
    return faiss
