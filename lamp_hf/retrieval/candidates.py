"""FAISS over the vectors of an index: finds the few rows whose exact scores are worth computing.

A motion has a vector for each of its queries, and the one that fits a text best decides. Many queries say nearly
the same, so that FAISS need not hold them all: like ones are grouped, and their means stand for them.
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
from lamp_hf.files import atomic_path

from .storage import MappedVectors, checksum

__all__ = ["CandidateFinder", "group_means", "group_queries"]

logger = logging.getLogger(__name__)

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

    The file is made of the vectors: a damaged one, or one that another process has replaced meanwhile, is not read,
    and what it should hold is computed.

    Args:
        path: File of the FAISS index; it need not exist yet.
        vectors: The rows' vectors `(Q, P)`.
        per_row: How many vectors FAISS holds of each row, at most Q.
        groups: Which queries they are the means of; `None` if that is still to be decided.
        written: Checksum of the file; `None` where none was finished.

    Attributes:
        written: The same, of what was written since.

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
        """Read the file, from disk as needed; rows that it does not know yet are added in memory.

        Several threads may ask for it at once.
        """
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
        """Read the file to add to it; one that is outgrown goes, and the queries are grouped anew."""
        self._index = self._read(0)
        if self._outgrown(self._index):
            # Before the new groups are written anywhere: nobody shall take the old vectors for theirs.
            self.path.unlink(missing_ok=True)
            self._index = self.written = None
            self.groups = self._group()

    def update(self, *, progress: bool) -> None:
        """After [`prepare`], add the rows that the file does not know yet, and write it."""
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
            written = checksum(unfinished)
        self.written = written

    def _read(self, flags: int) -> Any:
        if self.written is None or self.groups is None or not self.path.is_file():
            return None
        # Compared first: FAISS ends the process over some damaged files.
        if checksum(self.path) != self.written:
            logger.warning("%s is not what this index wrote (damaged, or cut off?); it is made again", self.path)
            self.written = None
            return None
        return self.faiss.read_index(str(self.path), flags)

    def _outgrown(self, index: Any) -> bool:
        if index is None:
            return True
        wanted, cells = _num_cells(self._total), getattr(index, "nlist", 0)
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

    def _add_missing(self, index: Any, *, progress: bool) -> None:
        known = index.ntotal // self.per_row
        with tqdm(
            total=len(self.vectors) - known, desc="Adding to FAISS", unit="row", disable=None if progress else True
        ) as bar:
            for _, block in self.vectors.blocks(BLOCK_ROWS, start=known):
                index.add(self._means(block))
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
