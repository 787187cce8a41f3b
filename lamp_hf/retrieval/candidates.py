"""FAISS over the vectors of an index: finds the few rows whose exact scores are worth computing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from lamp_hf.motion.files import atomic_path

from .storage import MappedVectors

__all__ = ["CANDIDATES", "CandidateFinder", "pooled"]

CANDIDATES = ("pooled", "queries")

# Up to this many vectors are compared with a query one by one, beyond it those of the nearest cells.
FLAT_VECTORS = 32_768
# So many vectors of the nearest cells are looked at: a few milliseconds on one core.
SCANNED_VECTORS = 65_536
TRAINING_VECTORS_PER_CELL = 48
TRAINING_ITERATIONS = 10
# When a set has grown to this many times the size that the cells were made for, they are made anew.
OUTGROWN = 8
BLOCK_ROWS = 1024


def pooled(vectors: np.ndarray) -> np.ndarray:
    """Mean `(n, 1, P)` over the queries of vectors `(n, Q, P)`, float32, of unit length."""
    mean = vectors.mean(1, dtype=np.float32, keepdims=True)
    return mean / np.maximum(np.linalg.norm(mean, axis=-1, keepdims=True), 1e-12)


def _unpooled(vectors: np.ndarray) -> np.ndarray:
    return vectors.astype(np.float32)


class CandidateFinder:
    """Approximate search by inner product over the vectors of all rows.

    Small sets are searched whole; of larger ones the vectors lie in cells (IVF), one byte a number.

    Args:
        path: File of the FAISS index; it need not exist yet.
        vectors: The rows' vectors `(k, P)`.
        pool: Keep their mean alone, one vector a row in place of k.

    Raises:
        ImportError: FAISS is not installed.
    """

    def __init__(self, path: Path, vectors: MappedVectors, *, pool: bool):
        self.faiss = _import_faiss()
        self.path = path
        self.vectors = vectors
        self.per_row = 1 if pool else vectors.shape[0]
        self._prepare: Callable[[np.ndarray], np.ndarray] = pooled if pool else _unpooled
        self._index: Any = None

    def load(self) -> None:
        """Read the file, from disk as needed; rows that it does not know yet are added in memory."""
        self._index = self._read(self.faiss.IO_FLAG_MMAP)
        if not self._is_complete():
            self._index = self._read(0)
            self._add_missing(progress=False)

    def update(self, *, progress: bool) -> None:
        """Add the rows that the file does not know yet, and write it."""
        self._index = self._read(0)
        if self._is_complete():
            return
        self._add_missing(progress=progress)
        with atomic_path(self.path) as unfinished:
            self.faiss.write_index(self._index, str(unfinished))

    def _read(self, flags: int) -> Any:
        if not self.path.is_file():
            return None
        try:
            index = self.faiss.read_index(str(self.path), flags)
        except RuntimeError as error:
            raise ValueError(f"{self.path} cannot be read; delete it and index again to have it made anew") from error
        if index.d != self.vectors.shape[1] or index.ntotal > len(self.vectors) * self.per_row:
            raise ValueError(f"{self.path} belongs to another index; delete it and index again to have it made anew")
        return index

    def _add_missing(self, *, progress: bool) -> None:
        if self._outgrown():
            self._index = self._create()
        known = self._index.ntotal // self.per_row
        with tqdm(total=len(self.vectors) - known, desc="Adding to FAISS", unit="row", disable=not progress) as bar:
            for _, block in self.vectors.blocks(BLOCK_ROWS, start=known):
                self._index.add(self._prepare(block).reshape(-1, self.vectors.shape[1]))
                bar.update(len(block))

    def _is_complete(self) -> bool:
        return self._index is not None and self._index.ntotal == len(self.vectors) * self.per_row

    def _outgrown(self) -> bool:
        if self._index is None:
            return True
        wanted = _num_cells(len(self.vectors) * self.per_row)
        cells = getattr(self._index, "nlist", 0)
        return bool(wanted) and wanted**2 > OUTGROWN * cells**2  # cells grow with the root of the number

    def _create(self) -> Any:
        total, size = len(self.vectors) * self.per_row, self.vectors.shape[1]
        cells = _num_cells(total)
        if not cells:
            return self.faiss.IndexFlatIP(size)
        index = self.faiss.index_factory(size, f"IVF{cells},SQ8", self.faiss.METRIC_INNER_PRODUCT)
        index.cp.niter = TRAINING_ITERATIONS
        rows = min(len(self.vectors), -(-TRAINING_VECTORS_PER_CELL * cells // self.per_row))
        chosen = np.sort(np.random.default_rng(0).choice(len(self.vectors), rows, replace=False))
        index.train(self._prepare(self.vectors.take(chosen)).reshape(-1, size))
        return index

    def find(self, queries: np.ndarray, count: int) -> list[np.ndarray]:
        """Rows that may score best.

        Args:
            queries: `(N, m, P)`: of each request m vectors, any of which may decide.
            count: How many rows to look for with each vector.

        Returns:
            For each request the rows found, each once, in ascending order.
        """
        if self._index is None:
            self.load()
        requests, _, size = queries.shape
        options = {}
        if cells := getattr(self._index, "nlist", 0):
            share = SCANNED_VECTORS / max(self._index.ntotal, 1)
            options["params"] = self.faiss.SearchParametersIVF(nprobe=int(np.clip(cells * share, 8, cells)))
        count = min(count * self.per_row, self._index.ntotal)
        flat = np.ascontiguousarray(queries, np.float32).reshape(-1, size)
        _, found = self._index.search(flat, max(count, 1), **options)
        return [np.unique(rows[rows >= 0] // self.per_row) for rows in found.reshape(requests, -1)]


def _num_cells(num_vectors: int) -> int:
    """Cells for so many vectors, about four times the root of their number; 0 where none are needed."""
    if num_vectors <= FLAT_VECTORS:
        return 0
    return 2 ** round(np.log2(4 * num_vectors**0.5))


def _import_faiss() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise ImportError("a motion index needs FAISS: pip install 'lamp_hf[retrieval]'") from error
    return faiss
