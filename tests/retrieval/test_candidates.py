"""FAISS: what it finds, how its file grows, and when its cells are made anew."""

from pathlib import Path

import numpy as np
import pytest
from datasets import Features, List, Value

from lamp_hf.retrieval import candidates
from lamp_hf.retrieval.candidates import CandidateFinder, pooled
from lamp_hf.retrieval.storage import MappedVectors, PartedDataset

SHAPE = (3, 16)
COLUMNS = Features({"features": List(Value("float16"), length=48)})


def vectors(folder: Path, *counts: int) -> MappedVectors:
    table = PartedDataset(folder, COLUMNS, [])
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


def test_a_mean_is_of_unit_length(tmp_path: Path) -> None:
    rows = vectors(tmp_path, 5).take(np.arange(5))
    mean = pooled(rows)
    assert mean.shape == (5, 1, 16)
    np.testing.assert_allclose(np.linalg.norm(mean, axis=-1), 1, rtol=1e-6)
    expected = rows.astype(np.float32).mean(1)
    np.testing.assert_allclose(mean[:, 0], expected / np.linalg.norm(expected, axis=-1, keepdims=True), atol=1e-6)


def test_small_sets_are_searched_whole(tmp_path: Path) -> None:
    rows = vectors(tmp_path, 50)
    finder = CandidateFinder(tmp_path / "x.faiss", rows, pool=False)
    for query, found in zip(queries(), finder.find(queries(), 5), strict=True):
        assert best(rows, query, 1) <= set(found.tolist())
        assert len(set(found.tolist())) == len(found)
    assert not (tmp_path / "x.faiss").exists()  # what was added in memory alone


@pytest.mark.parametrize("pool", [True, False])
def test_cells_find_nearly_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pool: bool) -> None:
    monkeypatch.setattr(candidates, "FLAT_VECTORS", 500)
    rows = vectors(tmp_path, 1500, 1500)
    finder = CandidateFinder(tmp_path / "x.faiss", rows, pool=pool)
    finder.update(progress=False)
    fresh = CandidateFinder(tmp_path / "x.faiss", rows, pool=pool)
    found = fresh.find(queries(), 200)
    assert fresh._index.nlist in (128, 256, 512)
    recall = [
        len(best(rows, query, 10) & set(some.tolist())) / 10 for query, some in zip(queries(), found, strict=True)
    ]
    assert np.mean(recall) > 0.9
    few = fresh.find(queries(), 10)
    assert all(len(some) <= 10 * (1 if pool else 3) for some in few)


def test_a_file_grows(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    path = tmp_path / "x.faiss"
    CandidateFinder(path, vectors(tmp_path / "a", 30), pool=True).update(progress=False)
    before = path.stat().st_mtime_ns
    CandidateFinder(path, vectors(tmp_path / "a", 30), pool=True).update(progress=False)
    assert path.stat().st_mtime_ns == before  # nothing new, nothing written
    more = vectors(tmp_path / "b", 30, 40)
    finder = CandidateFinder(path, more, pool=True)
    finder.load()
    assert finder._index.ntotal == 70
    assert path.stat().st_mtime_ns == before
    finder.update(progress=False)
    grown = CandidateFinder(path, more, pool=True)
    own = grown.find(pooled(more.take(np.array([5, 60]))), 1)
    assert [rows.tolist() for rows in own] == [[5], [60]]


def test_cells_are_kept_until_outgrown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates, "FLAT_VECTORS", 100)
    path, cells = tmp_path / "x.faiss", []
    for number, counts in enumerate([(90,), (90, 400), (90, 400, 1000), (90, 400, 1000, 8000)]):
        folder = tmp_path / str(number)
        folder.mkdir()
        finder = CandidateFinder(path, vectors(folder, *counts), pool=True)
        finder.update(progress=False)
        assert finder._index.ntotal == sum(counts)
        cells.append(getattr(finder._index, "nlist", 0))
    assert cells[0] == 0
    assert cells[1] == cells[2] > 0
    assert cells[3] > cells[2]


def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    path = tmp_path / "x.faiss"
    CandidateFinder(path, vectors(tmp_path / "a", 30), pool=True).update(progress=False)
    with pytest.raises(ValueError, match=r"x\.faiss belongs to another index; delete it"):
        CandidateFinder(path, vectors(tmp_path / "b", 20), pool=True).load()
    path.write_bytes(b"nonsense")
    with pytest.raises(ValueError, match=r"x\.faiss cannot be read; delete it"):
        CandidateFinder(path, vectors(tmp_path / "b", 20), pool=True).load()


def test_faiss_is_named_where_it_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "faiss", None)
    with pytest.raises(ImportError, match=r"pip install 'lamp_hf\[retrieval\]'"):
        CandidateFinder(tmp_path / "x.faiss", vectors(tmp_path, 3), pool=True)
