"""Arrow files of vectors: rows round-trip, from every file."""

from pathlib import Path

import numpy as np
import pytest
from datasets import Features, List, Value, load_dataset

from lamp_hf.retrieval.storage import DamagedFileError, MappedSequences, MappedVectors, PartedDataset, ragged

COLUMNS = Features(
    {
        "id": Value("string"),
        "captions": List(Value("string")),
        "features": List(Value("float16"), length=6),
        "latents": List(Value("float16")),
    }
)
SIZES = (3, 1, 4)


def rows(count: int, seed: int) -> dict:
    rng = np.random.default_rng(seed)
    return {
        "id": [f"{seed}-{k}" for k in range(count)],
        "captions": [["a walk"] * (k % 3) for k in range(count)],
        "features": rng.normal(size=(count, 2, 3)).astype(np.float16),
        "latents": [rng.normal(size=(k, 5)).astype(np.float16) for k in range(count)],
    }


@pytest.fixture
def written(tmp_path: Path) -> tuple[PartedDataset, list[dict]]:
    table = PartedDataset(tmp_path, COLUMNS, [], [])
    contents = [rows(count, seed) for seed, count in enumerate(SIZES)]
    for content in contents:
        table.append(content | {"latents": ragged(content["latents"])})
    return table, contents


def test_write_and_read_round_trip(written, tmp_path: Path) -> None:
    table, contents = written
    for opened in (table, PartedDataset(tmp_path, COLUMNS, SIZES, table.checksums)):
        dataset = opened.dataset
        assert len(opened) == len(dataset) == 8
        assert dataset.features == COLUMNS
        assert dataset["id"][:] == [name for content in contents for name in content["id"]]
        assert dataset["captions"][3:6] == [[], [], ["a walk"]]
        vectors = MappedVectors(dataset, "features", (2, 3))
        whole = np.concatenate([content["features"] for content in contents])
        order = np.array([7, 0, 3, 3, 4])
        np.testing.assert_array_equal(vectors.take(order), whole[order])
        latents = MappedSequences(dataset, "latents", 5)
        expected = [array for content in contents for array in content["latents"]]
        for row in range(8):
            np.testing.assert_array_equal(latents.row(row), expected[row])


@pytest.mark.parametrize("start", [0, 2, 3, 7, 8])
def test_blocks_contain_every_row_once(written, start: int) -> None:
    table, contents = written
    whole = np.concatenate([content["features"] for content in contents])
    vectors = MappedVectors(table.dataset, "features", (2, 3))
    found = list(vectors.blocks(2, start))
    assert all(len(block) <= 2 for _, block in found)
    np.testing.assert_array_equal(
        [row for first, block in found for row in range(first, first + len(block))], range(start, 8)
    )
    if found:
        np.testing.assert_array_equal(np.concatenate([block for _, block in found]), whole[start:])


def test_files_after_the_count_are_overwritten(written, tmp_path: Path) -> None:
    checksums = written[0].checksums
    cut = PartedDataset(tmp_path, COLUMNS, SIZES[:2], checksums[:2])
    assert len(cut.dataset) == 4
    content = rows(2, 9)
    cut.append(content | {"latents": ragged(content["latents"])})
    assert PartedDataset(tmp_path, COLUMNS, [3, 1, 2], cut.checksums).dataset["id"][4:] == ["9-0", "9-1"]
    with pytest.raises(DamagedFileError, match=r"00002.arrow: the file is damaged \(its checksum differs\)"):
        PartedDataset(tmp_path, COLUMNS, SIZES, checksums)
    with pytest.raises(DamagedFileError, match=r"00002.arrow: expected 4 rows, found 2"):
        PartedDataset(tmp_path, COLUMNS, SIZES, cut.checksums)
    (tmp_path / "00002.arrow").unlink()
    with pytest.raises(DamagedFileError, match=r"00002.arrow: the file is missing"):
        PartedDataset(tmp_path, COLUMNS, [3, 1, 2], cut.checksums)


def test_empty_storage_is_a_dataset(tmp_path: Path) -> None:
    empty = PartedDataset(tmp_path, COLUMNS, [], []).dataset
    assert len(empty) == 0
    assert len(MappedVectors(empty, "features", (2, 3))) == 0
    assert list(MappedVectors(empty, "features", (2, 3)).blocks(4)) == []


def test_datasets_loads_the_files(written, tmp_path: Path) -> None:
    loaded = load_dataset("arrow", data_files=str(tmp_path / "*.arrow"), split="train", cache_dir=tmp_path / "cache")
    assert loaded.features == COLUMNS
    assert loaded["id"][:] == written[0].dataset["id"][:]
