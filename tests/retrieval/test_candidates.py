"""FAISS candidates: search results, growth of the file, and rebuilding of the cells."""

import sys
from pathlib import Path

import numpy as np
import pytest
from datasets import Features, List, Value

from lamp_hf.retrieval import candidates
from lamp_hf.retrieval.candidates import CandidateFinder, group_means, group_queries
from lamp_hf.retrieval.storage import MappedVectors, PartedDataset

SHAPE = (3, 16)
COLUMNS = Features({"features": List(Value("float16"), length=48)})


def vectors(folder: Path, *counts: int) -> MappedVectors:
    table = PartedDataset(folder, COLUMNS, [], [])
    for seed, count in enumerate(counts):
        rng = np.random.default_rng(seed)
        array = rng.normal(size=(count, 1, 16)) + 0.5 * rng.normal(size=(count, *SHAPE))
        table.append({"features": array / np.linalg.norm(array, axis=-1, keepdims=True)})
    return MappedVectors(table.dataset, "features", SHAPE)


def queries(count: int = 20) -> np.ndarray:
    array = np.random.default_rng(99).normal(size=(count, 1, 16))
    return array / np.linalg.norm(array, axis=-1, keepdims=True)


def best(rows: MappedVectors, query: np.ndarray, count: int) -> set[int]:
    scores = (rows.take(np.arange(len(rows))).astype(float) @ query[0]).max(1)
    return set(np.argsort(-scores)[:count].tolist())


def finder(
    path: Path, rows: MappedVectors, per_row: int, groups: list[int] | None = None, written: str | None = None
) -> CandidateFinder:
    """A finder that is up to date with its file."""
    made = CandidateFinder(path, rows, per_row, groups, written)
    made.prepare()
    made.update(progress=False)
    return made


def test_similar_queries_are_grouped() -> None:
    rng = np.random.default_rng(0)
    kinds = rng.normal(size=(50, 3, 8))
    labels = [0, 1, 0, 2, 1, 1]
    rows = kinds[:, labels] + 0.1 * rng.normal(size=(50, 6, 8))
    rows /= np.linalg.norm(rows, axis=-1, keepdims=True)
    assert group_queries(rows, 3) == labels
    assert group_queries(rows, 1) == [0] * 6
    assert group_queries(rows, 6) == list(range(6))


def test_means_have_unit_length(tmp_path: Path) -> None:
    rows = vectors(tmp_path, 5).take(np.arange(5))
    means = group_means(rows, [0, 1, 0])
    assert means.shape == (5, 2, 16)
    np.testing.assert_allclose(np.linalg.norm(means, axis=-1), 1, rtol=1e-6)
    expected = rows[:, [0, 2]].astype(np.float32).mean(1)
    np.testing.assert_allclose(means[:, 0], expected / np.linalg.norm(expected, axis=-1, keepdims=True), atol=1e-6)
    np.testing.assert_allclose(means[:, 1], rows[:, 1].astype(np.float32), atol=1e-3)


def test_small_sets_are_searched_exhaustively(tmp_path: Path) -> None:
    rows = vectors(tmp_path, 50)
    small = CandidateFinder(tmp_path / "x.faiss", rows, 3)
    for query, found in zip(queries(), small.find(queries(), 5), strict=True):
        assert set(found.tolist()) == best(rows, query, 5)
    assert not (tmp_path / "x.faiss").exists()  # vectors that were only added in memory


def test_any_vector_of_a_query_can_match(tmp_path: Path) -> None:
    rows = vectors(tmp_path, 50)
    request = rows.take(np.array([7, 30]))[:, 0].astype(np.float32)[None]
    [found] = CandidateFinder(tmp_path / "x.faiss", rows, 3).find(request, 2)
    assert found.tolist() == [7, 30]


@pytest.mark.parametrize("per_row", [1, 2, 3])
def test_cells_find_nearly_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, per_row: int) -> None:
    monkeypatch.setattr(candidates, "FLAT_VECTORS", 500)
    rows = vectors(tmp_path, 1500, 1500)
    first = finder(tmp_path / "x.faiss", rows, per_row)
    fresh = CandidateFinder(tmp_path / "x.faiss", rows, per_row, first.groups, first.written)
    found = fresh.find(queries(), 200)
    assert fresh._index.nlist in (256, 512)
    assert all(len(some) == len(set(some.tolist())) == 200 for some in found)
    shares = [
        len(best(rows, query, 10) & set(some.tolist())) / 10 for query, some in zip(queries(), found, strict=True)
    ]
    assert np.mean(shares) > 0.9


def test_file_can_be_extended(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    path = tmp_path / "x.faiss"
    first = finder(path, vectors(tmp_path / "a", 30), 2)
    groups, written = first.groups, first.written
    before = path.stat().st_mtime_ns
    finder(path, vectors(tmp_path / "a", 30), 2, groups, written)
    assert path.stat().st_mtime_ns == before  # nothing is new, so nothing is written
    more = vectors(tmp_path / "b", 30, 40)
    loaded = CandidateFinder(path, more, 2, groups, written)
    loaded.load()
    assert loaded._index.ntotal == 140
    assert path.stat().st_mtime_ns == before
    grown = finder(path, more, 2, groups, written)
    assert grown.groups == groups
    own = grown.find(more.take(np.array([5, 60])).mean(1, keepdims=True), 1)
    assert [rows.tolist() for rows in own] == [[5], [60]]


def test_cells_are_kept_until_the_index_outgrows_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates, "FLAT_VECTORS", 100)
    path, cells, groups, written = tmp_path / "x.faiss", [], None, None
    for number, counts in enumerate([(90,), (90, 400), (90, 400, 1000), (90, 400, 1000, 8000)]):
        folder = tmp_path / str(number)
        folder.mkdir()
        grown = finder(path, vectors(folder, *counts), 1, groups, written)
        groups, written = grown.groups, grown.written
        assert grown._index.ntotal == sum(counts)
        cells.append(getattr(grown._index, "nlist", 0))
    assert cells[0] == 0
    assert cells[1] == cells[2] > 0
    assert cells[3] > cells[2]


@pytest.mark.parametrize("damage", ["nonsense", "another", "missing", "cut", "a byte"])
def test_damaged_file_is_rebuilt(tmp_path: Path, damage: str, caplog) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
    path, rows = tmp_path / "x.faiss", vectors(tmp_path / "a", 30)
    first = finder(path, rows, 2)
    content = path.read_bytes()
    finder(tmp_path / "y.faiss", vectors(tmp_path / "b", 40), 2)
    contents = {
        "nonsense": b"nonsense",
        "another": (tmp_path / "y.faiss").read_bytes(),
        "cut": content[: len(content) // 2],
        "a byte": content[:40] + bytes([content[40] ^ 1]) + content[41:],
    }
    path.unlink()
    if damage in contents:
        path.write_bytes(contents[damage])
    opened = CandidateFinder(path, rows, 2, first.groups, first.written)
    for found, expected in zip(opened.find(queries(), 5), first.find(queries(), 5), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert ("x.faiss: the file is damaged or was replaced" in caplog.text) == (damage != "missing")
    again = CandidateFinder(path, rows, 2, first.groups, first.written)
    again.prepare()
    again.update(progress=False)
    assert path.read_bytes() == content


def test_error_names_missing_faiss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ImportError, match=r"pip install 'lamp_hf\[retrieval\]'"):
        CandidateFinder(tmp_path / "x.faiss", vectors(tmp_path, 3), 1)
