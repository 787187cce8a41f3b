"""Storing a dataset keeps its schema, and statistics cover all frames."""

from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from datasets import Dataset

from lamp_hf.data.schema import feature_groups, motion_features, training_statistics, with_numpy_motion


def rows(count: int = 3, feature_dim: int = 263) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    made = []
    for number in range(count):
        motion = rng.normal(size=(5 + 3 * number, feature_dim)).astype(np.float32)
        made.append(
            {
                "id": f"clip {number}",
                "motion": motion,
                "captions": [{"text": f"text {k}", "start": 0.0, "end": 0.5 * k} for k in range(number + 1)],
                "source": "made",
                "fps": 20.0,
                "num_frames": len(motion),
                "content": "walk",
                "style": "",
                "mirrored": number == 1,
            }
        )
    return made


def assert_same(dataset: Dataset, expected: list[dict[str, Any]]) -> None:
    dataset = with_numpy_motion(dataset)
    assert len(dataset) == len(expected)
    for row, wanted in zip(dataset, expected, strict=True):
        assert row["motion"].dtype == np.float32
        np.testing.assert_array_equal(row["motion"], wanted["motion"])
        assert {k: v for k, v in row.items() if k != "motion"} == {k: v for k, v in wanted.items() if k != "motion"}


def test_arrow_keeps_every_value_and_memory_maps_the_file(tmp_path: Path) -> None:
    Dataset.from_list(rows(), features=motion_features()).save_to_disk(tmp_path / "set")
    loaded = datasets.load_from_disk(str(tmp_path / "set"))
    assert loaded.features == motion_features()
    assert loaded.cache_files  # memory-mapped from the file
    assert_same(loaded, rows())


def test_parquet_keeps_every_value(tmp_path: Path) -> None:
    """`push_to_hub` uploads and `load_dataset` reads Parquet files."""
    Dataset.from_list(rows(), features=motion_features()).to_parquet(tmp_path / "train.parquet")
    loaded = datasets.load_dataset(
        "parquet",
        data_files=str(tmp_path / "train.parquet"),
        cache_dir=str(tmp_path / "cache"),
        split="train",
    )
    assert loaded.features == motion_features()
    assert_same(loaded, rows())
    streamed = datasets.load_dataset(
        "parquet", data_files=str(tmp_path / "train.parquet"), streaming=True, split="train"
    )
    first = next(iter(streamed))
    np.testing.assert_array_equal(np.asarray(first["motion"], dtype=np.float32), rows()[0]["motion"])


def test_batches_are_lists_of_arrays() -> None:
    dataset = with_numpy_motion(Dataset.from_list(rows(), features=motion_features()))
    batch = dataset[[2, 0]]
    assert [motion.shape for motion in batch["motion"]] == [(11, 263), (5, 263)]
    assert batch["captions"][1] == [{"text": "text 0", "start": 0.0, "end": 0.0}]


@pytest.mark.parametrize("feature_dim", [263, 251])
def test_groups_cover_all_features(feature_dim: int) -> None:
    groups = feature_groups(feature_dim)
    covered = [feature for group in groups for feature in range(feature_dim)[group]]
    assert covered == list(range(feature_dim))
    if feature_dim == 263:
        assert [(g.start, g.stop) for g in groups] == [
            (0, 1), (1, 3), (3, 4), (4, 67), (67, 193), (193, 259), (259, 263)
        ]  # fmt: skip


def test_statistics_cover_all_frames() -> None:
    made = rows(count=70)  # more than one batch
    mean, std = training_statistics(Dataset.from_list(made, features=motion_features()))
    frames = np.concatenate([row["motion"] for row in made]).astype(np.float64)
    assert mean.dtype == std.dtype == np.float32
    np.testing.assert_allclose(mean, frames.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(std[4:67], frames.std(axis=0)[4:67].mean(), rtol=1e-5)
    np.testing.assert_allclose(std[259:], frames.std(axis=0)[259:].mean(), rtol=1e-5)


def test_statistics_of_invalid_features_are_refused() -> None:
    with pytest.raises(ValueError, match="without motions"):
        training_statistics(Dataset.from_list(rows(), features=motion_features()).select([]))
    still = rows()
    for row in still:
        row["motion"][:, 3] = 0.9
    with pytest.raises(ValueError, match="features 3 to 3 have the same value"):
        training_statistics(Dataset.from_list(still, features=motion_features()))
    with pytest.raises(ValueError, match="12 J - 1"):
        feature_groups(264)
