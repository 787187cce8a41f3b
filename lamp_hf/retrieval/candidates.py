"""Find candidates with FAISS: the few rows whose exact scores are worth computing.

A motion has one vector per query of the model, and its best vector decides its score for a text. Many queries give
nearly the same vectors, so FAISS does not store them all: similar queries are grouped, and FAISS stores their means.
"""

import logging
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from lamp_hf.extras import require_faiss
from lamp_hf.files import atomic_path, file_digest

from .storage import MappedVectors

__all__ = ["CandidateFinder", "group_means", "group_queries"]

logger = logging.getLogger(__name__)

# Up to this many vectors, a search compares all of them; beyond it, only those in the nearest cells.
FLAT_VECTORS = 32_768
# Number of vectors in the nearest cells that a request compares: a few milliseconds on one core.
SCANNED_VECTORS = 65_536
TRAINING_VECTORS_PER_CELL = 48
TRAINING_ITERATIONS = 10
GROUPING_ROWS = 1024
# The cells are rebuilt when the index has grown to this many times the size that they were made for.
OUTGROWN = 8
BLOCK_ROWS = 1024


def group_queries(vectors: np.ndarray, num_groups: int) -> list[int]:
    """Group the queries whose vectors are similar in all motions, by average linkage.

    Args:
        vectors: Vectors of some motions, `(n, Q, P)`, of unit length.
        num_groups: Number of groups, from 1 to Q.

    Returns:
        Group of each query. Groups are numbered from 0 in the order of their first query.
    """
    num_queries = vectors.shape[1]
    vectors = vectors.astype(np.float32)
    similarity = np.einsum("nqp,nrp->qr", vectors, vectors, optimize=True) / len(vectors)
    groups = [[query] for query in range(num_queries)]
    while len(groups) > num_groups:
        pairs = [(a, b) for b in range(len(groups)) for a in range(b)]
        a, b = max(pairs, key=lambda pair: similarity[np.ix_(groups[pair[0]], groups[pair[1]])].mean())
        groups[a] += groups.pop(b)
    labels = {query: number for number, group in enumerate(sorted(map(sorted, groups))) for query in group}
    return [labels[query] for query in range(num_queries)]


def group_means(vectors: np.ndarray, groups: Sequence[int]) -> np.ndarray:
    """Return the mean of each group of vectors `(n, Q, P)`, scaled to unit length: `(n, G, P)`, float32."""
    labels = np.asarray(groups)
    means = [vectors[:, labels == group].mean(1, dtype=np.float32) for group in range(labels.max() + 1)]
    result = np.stack(means, axis=1)
    return result / np.maximum(np.linalg.norm(result, axis=-1, keepdims=True), 1e-12)


class CandidateFinder:
    """Approximate search by inner product over the vectors of all rows.

    A small set is searched exhaustively. The vectors of a larger one are stored in cells (IVF) with one byte per value.

    The file only caches what can be computed from the vectors. If it is damaged, or another process has replaced it,
    it is not read, and its content is computed again.

    Args:
        path: File of the FAISS index. It need not exist yet.
        vectors: Vectors `(Q, P)` of each row.
        per_row: Number of vectors that FAISS stores per row, at most Q.
        groups: Group of each query, see [`group_queries`]; `None` if the queries are not grouped yet.
        written: SHA-256 of the file; `None` if it has not been written.

    Attributes:
        written: SHA-256 of the file as last written.

    Raises:
        ImportError: FAISS is not installed.
    """

    def __init__(
        self,
        path: Path,
        vectors: MappedVectors,
        per_row: int,
        groups: list[int] | None = None,
        written: str | None = None,
    ):
        require_faiss()
        import faiss

        self.faiss: Any = faiss
        self.path = path
        self.vectors = vectors
        self.per_row = per_row
        self.groups = groups
        self.written = written
        self._index: Any = None
        self._loading = threading.Lock()

    @property
    def _total(self) -> int:
        return len(self.vectors) * self.per_row

    def load(self) -> None:
        """Memory-map the file, and add rows that it does not contain yet in memory. Thread-safe."""
        with self._loading:
            if self._index is None:
                index = self._read(self.faiss.IO_FLAG_MMAP)
                if index is None or index.ntotal != self._total:
                    index = self._read(0)
                    if self._outgrown(index):
                        index = self._create()
                    self._add_missing(index, progress=False)
                self._index = index

    def prepare(self) -> None:
        """Read the file for an update. If the index has outgrown its cells, delete the file and regroup the queries."""
        self._index = self._read(0)
        if self._outgrown(self._index):
            # Deleted before the new groups are saved, so that no process combines them with the old vectors.
            self.path.unlink(missing_ok=True)
            self._index = self.written = None
            self.groups = self._group()

    def update(self, *, progress: bool) -> None:
        """Add the rows that the file does not contain yet, and write it. Call [`prepare`] first."""
        if self._index is None:
            self._index = self._create()
        elif self._index.ntotal == self._total:
            return
        self._add_missing(self._index, progress=progress)
        content = self.faiss.serialize_index(self._index)
        with atomic_path(self.path) as unfinished:
            with unfinished.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            written = file_digest(unfinished)
        self.written = written

    def _read(self, flags: int) -> Any:
        if self.written is None or self.groups is None or not self.path.is_file():
            return None
        # The checksum is compared first because some damaged files make FAISS crash the process.
        if file_digest(self.path) != self.written:
            logger.warning("%s: the file is damaged or was replaced; rebuilding it", self.path)
            self.written = None
            return None
        return self.faiss.read_index(str(self.path), flags)

    def _outgrown(self, index: Any) -> bool:
        if index is None:
            return True
        wanted, cells = _num_cells(self._total), getattr(index, "nlist", 0)
        return wanted**2 > OUTGROWN * cells**2  # the number of cells grows with the square root

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

    def _add_missing(self, index: Any, *, progress: bool) -> None:
        known = index.ntotal // self.per_row
        with tqdm(
            total=len(self.vectors) - known, desc="Adding to FAISS", unit="row", disable=None if progress else True
        ) as bar:
            for _, block in self.vectors.blocks(BLOCK_ROWS, start=known):
                index.add(self._means(block))
                bar.update(len(block))

    def find(self, queries: np.ndarray, count: int) -> list[np.ndarray]:
        """Find the rows that are likely to score best.

        Args:
            queries: `(N, m, P)`: N requests of m vectors each. A row needs to be close to only one of them.
            count: Number of rows to find per request.

        Returns:
            For each request, at most `count` distinct rows in ascending order.
        """
        if self._index is None:
            self.load()
        requests, each, size = queries.shape
        options = {}
        if cells := getattr(self._index, "nlist", 0):
            share = SCANNED_VECTORS / each / self._index.ntotal
            options["params"] = self.faiss.SearchParametersIVF(nprobe=int(np.clip(cells * share, 8, cells)))
        flat = np.ascontiguousarray(queries, np.float32).reshape(-1, size)
        # All vectors of one row may be among the nearest, so this number guarantees at least `count` rows.
        nearest = max(1, min(count * self.per_row, self._index.ntotal))
        scores, found = self._index.search(flat, nearest, **options)
        return [
            _best_rows(ids // self.per_row, values, count)
            for ids, values in zip(found.reshape(requests, -1), scores.reshape(requests, -1), strict=True)
        ]


def _best_rows(rows: np.ndarray, scores: np.ndarray, count: int) -> np.ndarray:
    """Return the `count` rows with the best scores. Negative rows are FAISS's placeholders and are ignored."""
    order = np.argsort(-scores, kind="stable")
    order = order[rows[order] >= 0]
    unique, first = np.unique(rows[order], return_index=True)
    return np.sort(unique[np.argsort(first)[:count]])


def _num_cells(num_vectors: int) -> int:
    """Return the number of cells, about four times the square root of `num_vectors`; 0 if none are needed."""
    if num_vectors <= FLAT_VECTORS:
        return 0
    return int(2 ** round(np.log2(4 * num_vectors**0.5)))
