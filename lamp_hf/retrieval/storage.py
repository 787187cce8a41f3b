"""Store rows of vectors on disk: a `datasets.Dataset` made of several Arrow files, each written atomically."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset, Features, concatenate_datasets

from lamp_hf.files import atomic_path, file_digest

__all__ = ["DamagedFileError", "MappedSequences", "MappedVectors", "PartedDataset", "ragged"]


class DamagedFileError(ValueError):
    """Error for an index file that is missing, or whose content has changed."""


def ragged(arrays: Sequence[np.ndarray]) -> pa.Array:
    """Convert arrays `(n, …)` of different lengths to an Arrow list array, each flattened, in half precision."""
    flat = [np.asarray(array, np.float16).reshape(-1) for array in arrays]
    offsets = np.cumsum([0, *map(len, flat)])
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(np.concatenate(flat)))


def _fixed(array: np.ndarray) -> pa.Array:
    flat = np.ascontiguousarray(array, np.float16).reshape(len(array), -1)
    return pa.FixedSizeListArray.from_arrays(pa.array(flat.reshape(-1)), flat.shape[1])


class PartedDataset:
    """Dataset that grows by whole files, `00000.arrow`, `00001.arrow`, …

    `Dataset.from_file` reads the files memory-mapped, without copying them into memory.

    Args:
        folder: Folder of the files.
        features: Columns.
        counts: Number of rows of each file. Any further file is left over from an interrupted write and will be
            overwritten.
        checksums: SHA-256 of each file. It is compared before a file is opened because a damaged file can crash the
            process.

    Raises:
        DamagedFileError: A file is missing or its content has changed.
    """

    def __init__(self, folder: Path, features: Features, counts: Sequence[int], checksums: Sequence[str]):
        self.folder = folder
        self.features = features
        self.counts = list(counts)
        self.checksums = list(checksums)
        self._parts = [self._open(number) for number in range(len(self.counts))]

    def _open(self, number: int) -> Dataset:
        path = self._path(number)
        if not path.is_file():
            raise DamagedFileError(f"{path}: the file is missing")
        if file_digest(path) != self.checksums[number]:
            raise DamagedFileError(f"{path}: the file is damaged (its checksum differs)")
        part = Dataset.from_file(str(path))
        if len(part) != self.counts[number]:
            raise DamagedFileError(f"{path}: expected {self.counts[number]} rows, found {len(part)}")
        return part

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:05d}.arrow"

    def __len__(self) -> int:
        return sum(self.counts)

    @property
    def dataset(self) -> Dataset:
        """The rows of all files as one dataset."""
        if not self._parts:
            return Dataset.from_dict({name: [] for name in self.features}, features=self.features)
        return concatenate_datasets(self._parts)

    def append(self, columns: dict[str, Any]) -> None:
        """Write rows as one more file.

        Args:
            columns: Values of each column: a NumPy array for vectors of one size, otherwise anything that `pa.array`
                accepts.
        """
        schema = self.features.arrow_schema
        arrays = [
            _fixed(values) if isinstance(values, np.ndarray) and values.ndim > 1 else _plain(values, field.type)
            for field, values in ((field, columns[field.name]) for field in schema)
        ]
        table = pa.Table.from_arrays(arrays, schema=schema)
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self._path(len(self.counts))
        with atomic_path(path) as unfinished:
            with unfinished.open("wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
                writer.write_table(table)
            with unfinished.open("rb") as written:
                os.fsync(written.fileno())
            written_checksum = file_digest(unfinished)
        self.counts.append(len(table))
        self.checksums.append(written_checksum)
        self._parts.append(Dataset.from_file(str(path)))


def _plain(values: Any, kind: pa.DataType) -> pa.Array:
    return values if isinstance(values, pa.Array) else pa.array(values, kind)


class MappedVectors:
    """Memory-mapped column with vectors `(k, P)` in each row, in half precision.

    Args:
        dataset: The dataset that contains the column.
        column: Name of the column.
        shape: `(k, P)`.
    """

    def __init__(self, dataset: Dataset, column: str, shape: tuple[int, int]):
        self.shape = shape
        # The dataset has no indices mapping, so each chunk of the column is one file.
        self._chunks = [
            chunk.flatten().to_numpy(zero_copy_only=True).reshape(-1, *shape)
            for chunk in (dataset.data.column(column).chunks if len(dataset) else [])
        ]
        self._starts = np.cumsum([0, *map(len, self._chunks)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Return the vectors `(len(rows), k, P)`, float16, of rows in any order."""
        result = np.empty((len(rows), *self.shape), np.float16)
        homes = np.searchsorted(self._starts, rows, side="right") - 1
        for chunk in np.unique(homes):
            inside = homes == chunk
            result[inside] = self._chunks[chunk][rows[inside] - self._starts[chunk]]
        return result

    def blocks(self, size: int, start: int = 0) -> Iterator[tuple[int, np.ndarray]]:
        """Yield the first row and the vectors `(≤ size, k, P)`, float16, of each block of rows."""
        for chunk, first in zip(self._chunks, self._starts, strict=False):
            for low in range(max(0, start - int(first)), len(chunk), size):
                yield int(first) + low, np.array(chunk[low : low + size])


class MappedSequences:
    """Memory-mapped column of sequences `(n, size)` of different lengths, in half precision.

    Args:
        dataset: The dataset that contains the column.
        column: Name of the column.
        size: Number of values in one element.
    """

    def __init__(self, dataset: Dataset, column: str, size: int):
        self.size = size
        chunks = dataset.data.column(column).chunks if len(dataset) else []
        self._offsets = [chunk.offsets.to_numpy() for chunk in chunks]
        self._values = [chunk.values.to_numpy(zero_copy_only=True) for chunk in chunks]
        self._starts = np.cumsum([0, *map(len, chunks)])

    def row(self, row: int) -> np.ndarray:
        """Return the sequence of a row, float32."""
        chunk = int(np.searchsorted(self._starts, row, side="right")) - 1
        first, last = self._offsets[chunk][row - self._starts[chunk] :][:2]
        return self._values[chunk][first:last].astype(np.float32).reshape(-1, self.size)
