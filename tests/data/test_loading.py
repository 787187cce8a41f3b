"""`load_motion_dataset` chooses the loader by name or path."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import numpy as np
import pytest
from datasets import Dataset, DatasetDict

from lamp_hf.data import dataset_name, load_motion_dataset, motion_features


@pytest.fixture
def mocap(tmp_path: Path, bvh_bytes: Callable[[int], bytes]) -> Path:
    folder = tmp_path / "mocap"
    folder.mkdir()
    (folder / "walk.bvh").write_bytes(bvh_bytes(0))
    (folder / "metadata.csv").write_text("file_name,text\nwalk.bvh,a person walks\n")
    return folder


def quiet(tmp_path: Path) -> dict[str, Any]:
    return {"cache_dir": tmp_path / "cache", "progress": False, "num_proc": 1}


def test_folder_layouts_are_distinguished(tmp_path: Path, mocap: Path) -> None:
    loaded = load_motion_dataset(mocap, **quiet(tmp_path))
    assert loaded["train"]["id"][:] == ["walk.bvh"]
    loaded.save_to_disk(tmp_path / "saved")
    assert load_motion_dataset(tmp_path / "saved")["train"][:] == loaded["train"][:]
    loaded["train"].save_to_disk(tmp_path / "single")
    assert load_motion_dataset(str(tmp_path / "single"))["train"][:] == loaded["train"][:]


def test_saved_copy_replaces_the_files(tmp_path: Path, field_sets: SimpleNamespace) -> None:
    """Recipes for the authors' folder find it by `data.name`, or by `--data` for its path."""
    loaded = load_motion_dataset(field_sets.make(tmp_path / "KIT-ML", "kit-ml"), **quiet(tmp_path))
    loaded.save_to_disk(tmp_path / "saved")
    for place in (
        {"name_or_path": str(tmp_path / "saved"), "path": None},
        {"name_or_path": "kit-ml", "path": str(tmp_path / "saved")},
    ):
        copy = load_motion_dataset(**place, skip_bad=True, cache_dir=tmp_path / "cache")
        assert {split: rows[:] for split, rows in copy.items()} == {split: rows[:] for split, rows in loaded.items()}
    with pytest.raises(ValueError, match="me/dances: path=somewhere is only for the names bandai-namco, cmu-mocap, "):
        load_motion_dataset("me/dances", path="somewhere")


def test_humanml3d_and_kit_ml_are_distinguished_by_their_motions(tmp_path: Path, field_sets: SimpleNamespace) -> None:
    for name in ("humanml3d", "kit-ml"):
        root = field_sets.make(tmp_path / name, name)
        for content in (b"PK\x03\x04", b"", (root / "Mean.npy").read_bytes().replace(b"'", b"", 1)):
            (root / "Mean.npy").write_bytes(content)
            (root / "new_joint_vecs" / "000000.npy").write_bytes(content)
            assert dataset_name(root) == name
        (root / "Mean.npy").unlink()
        (root / "new_joint_vecs" / "000000.npy").unlink()
        (root / "new_joint_vecs" / "000000.npy").mkdir()
        assert dataset_name(root) == name
        loaded = load_motion_dataset(root, skip_bad=True, **quiet(tmp_path))
        assert set(loaded["train"]["source"]) == {name}
    assert dataset_name(tmp_path) is None


def test_bandai_namco_loads_by_name(tmp_path: Path, bvh_bytes: Callable[[int], bytes]) -> None:
    for clip in ("dataset-1_walk_sad_001", "dataset-1_run_sad_001"):
        (tmp_path / f"{clip}.bvh").write_bytes(bvh_bytes(1))
    loaded = load_motion_dataset("bandai-namco", path=tmp_path, mirror=False, **quiet(tmp_path))
    assert sum(len(split) for split in loaded.values()) == 2
    with pytest.raises(ValueError, match="path is missing; pass path="):
        load_motion_dataset("bandai-namco")


def test_hub_ids_are_loaded_from_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    row = {"id": "a", "motion": np.zeros((4, 263), np.float32), "captions": [], "fps": 20.0, "num_frames": 4}
    row |= {"source": "hub", "content": "", "style": "", "mirrored": False}
    asked: list[tuple[str, dict[str, Any]]] = []

    def load_dataset(name: str, **options: Any) -> DatasetDict:
        asked.append((name, options))
        return DatasetDict(train=Dataset.from_list([row], features=motion_features()))

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert load_motion_dataset("me/dances", revision="v1")["train"]["id"][:] == ["a"]
    load_motion_dataset("me/dances", path=None, skip_bad=True)  # like a recipe for HumanML3D with data.name=me/dances
    assert asked == [("me/dances", {"revision": "v1", "cache_dir": None}), ("me/dances", {"cache_dir": None})]


def test_error_lists_the_choices_for_other_input(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"not a motion dataset; expected \"bandai-namco\" or \"cmu-mocap\" with"):
        load_motion_dataset(tmp_path)
    for name in ("humanml4d", tmp_path / "nowhere", "./a", "a/b/c"):
        with pytest.raises(FileNotFoundError, match=r"no such dataset; expected .*metadata\.jsonl"):
            load_motion_dataset(name)
    Dataset.from_dict({"text": ["x"]}).save_to_disk(tmp_path / "texts")
    with pytest.raises(ValueError, match="column id is missing; found text, expected id, motion"):
        load_motion_dataset(tmp_path / "texts")
