"""HumanML3D and KIT-ML in their authors' layout: the resulting rows, and invalid folders."""

import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import numpy as np
import pytest
from datasets import DatasetDict
from safetensors.numpy import load_file

from lamp_hf.data import conversion, load_humanml3d, load_kit_ml, load_motion_dataset, motion_features
from lamp_hf.data.schema import training_statistics, with_numpy_motion
from lamp_hf.data.splits import with_validation
from lamp_hf.motion.errors import MotionFormatError

WHOLE = "a person walks#a/DET person/NOUN walk/VERB#0.0#0.0\n"


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., DatasetDict]:
    """Loads without progress bars, with a separate cache."""

    def call(root: Path, loader: Callable[..., DatasetDict] = load_humanml3d, **options: Any) -> DatasetDict:
        return loader(root, cache_dir=tmp_path / "cache", progress=False, num_proc=1, **options)

    return call


@pytest.fixture
def walks(procedural: SimpleNamespace) -> Callable[[int], np.ndarray]:
    """Return features of walks with these numbers of frames."""
    return lambda frames: procedural.walker(frames + 1, turn=0.3).features


@pytest.fixture
def folder(tmp_path: Path, field_sets: SimpleNamespace) -> Path:
    return field_sets.make(tmp_path / "HumanML3D", "humanml3d")


def test_splits_captions_and_mirror_images(folder: Path, load: Callable[..., DatasetDict]) -> None:
    loaded = load(folder)
    assert {split: len(rows) for split, rows in loaded.items()} == {"train": 12, "validation": 4, "test": 4}
    assert all(rows.features == motion_features(annotated=True) for rows in loaded.values())
    rows = {row["id"]: row for row in with_numpy_motion(loaded["train"])}
    assert list(rows)[:4] == ["000000", "M000000", "000001", "M000001"]
    for name, row in rows.items():
        np.testing.assert_array_equal(row["motion"], np.load(folder / "new_joint_vecs" / f"{name}.npy"))
        assert (row["mirrored"], row["fps"], row["source"]) == (name.startswith("M"), 20.0, "humanml3d")
        assert row["num_frames"] == len(row["motion"])
    assert rows["M000001"]["captions"] == [
        {"text": "a person waves the right hand", "start": 0.0, "end": 0.0},
        {"text": "someone waves the right hand", "start": 0.0, "end": 0.0},  # "nan" is 0, as in the authors' loader
    ]


def test_kit_ml_has_its_own_frame_rate_and_size(
    tmp_path: Path, field_sets: SimpleNamespace, load: Callable[..., DatasetDict]
) -> None:
    root = field_sets.make(tmp_path / "KIT-ML", "kit-ml")
    loaded = load(root, load_kit_ml)
    assert loaded["train"].features == motion_features(251, annotated=True)
    assert set(loaded["train"]["fps"]) == {12.5}
    with pytest.raises(ValueError, match='251 features per frame belong to kit-ml, not to humanml3d; load it as "kit'):
        load(root)


def test_lengths_and_parts_match_the_authors_loader(
    tmp_path: Path, field_sets: SimpleNamespace, load: Callable[..., DatasetDict], walks: Callable[[int], np.ndarray]
) -> None:
    clips = {name: walks(int(name)) for name in ("039", "040", "199", "200")}
    texts = dict.fromkeys(clips, WHOLE)
    texts["199"] = (
        "he starts#x#0.0#2.0\n"  # 40 frames
        "too short#x#3.0#4.9\n"
        + WHOLE
        + "he ends#x#7.0#12.0\n"  # 199 frames are 9.95 s
        + "he ends again#x#7.0#12.0\n"
        + "another whole#x#0.0#0.0\n"
    )
    texts["200"] = "of a motion that is too long#x#1.0#4.0\n"
    root = field_sets.write(tmp_path / "set", clips, texts, {"train": list(clips), "val": []})
    loaded = load(root)
    assert len(loaded["validation"]) == 0
    rows = {row["id"]: row for row in with_numpy_motion(loaded["train"])}
    assert list(rows) == ["040", "199", "199-line1", "199-line4", "199-line5"]
    whole = clips["199"]
    for name, first, last in (("199-line1", 0, 40), ("199-line4", 140, 199), ("199-line5", 140, 199)):
        np.testing.assert_array_equal(rows[name]["motion"], whole[first:last])
        assert rows[name]["num_frames"] == last - first
    assert rows["199-line4"]["captions"] == [{"text": "he ends", "start": 0.0, "end": 0.0}]
    assert [caption["text"] for caption in rows["199"]["captions"]] == ["a person walks", "another whole"]


def test_kit_ml_times_use_its_own_frame_rate(
    tmp_path: Path, field_sets: SimpleNamespace, load: Callable[..., DatasetDict], procedural: SimpleNamespace
) -> None:
    clips = {"00001": field_sets.kit_features(np.array(procedural.walker(101).joints))}
    texts = {"00001": "he turns#x#2.0#6.0\n"}
    root = field_sets.write(tmp_path / "set", clips, texts, {"train": ["00001"]})
    [row] = with_numpy_motion(load(root, load_kit_ml)["train"])
    np.testing.assert_array_equal(row["motion"], clips["00001"][25:75])


def test_real_clips(
    golden: Path, tmp_path: Path, field_sets: SimpleNamespace, load: Callable[..., DatasetDict]
) -> None:
    """A clip of the published data set, and others that the authors' code computed."""
    stored = load_file(golden / "golden_features.safetensors")
    clips = {key.split("/")[0]: array for key, array in stored.items() if key.endswith("/features")}
    clips = {name: array for name, array in clips.items() if 40 <= len(array) < 200}
    assert "012314" in clips
    root = field_sets.write(tmp_path / "set", clips, dict.fromkeys(clips, WHOLE), {"train": list(clips)})
    rows = {row["id"]: row for row in with_numpy_motion(load(root)["train"])}
    assert rows.keys() == clips.keys()
    np.testing.assert_array_equal(rows["012314"]["motion"], clips["012314"])


@pytest.mark.parametrize(("name", "part"), [("humanml3d", slice(10, 50)), ("kit-ml", slice(6, 31))])
def test_folders_of_real_clips(
    name: str, part: slice, real_field_sets: dict[str, SimpleNamespace], load: Callable[..., DatasetDict]
) -> None:
    made = real_field_sets[name]
    loaded = load(made.root, load_humanml3d if name == "humanml3d" else load_kit_ml)
    assert {split: len(rows) for split, rows in loaded.items()} == {"train": 16, "validation": 4, "test": 4}
    rows = {row["id"]: row for split in loaded.values() for row in with_numpy_motion(split)}
    for clip, features in made.clips.items():
        whole, of_part = rows[clip], rows[f"{clip}-line3"]
        np.testing.assert_array_equal(whole["motion"], features)
        np.testing.assert_array_equal(of_part["motion"], features[part])
        said = [caption["text"] for row in (whole, of_part) for caption in row["captions"]]
        assert said == made.captions[clip]
        assert whole["mirrored"] == of_part["mirrored"] == clip.startswith("M")


def test_second_call_converts_nothing(
    folder: Path, load: Callable[..., DatasetDict], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load(folder)
    monkeypatch.setattr(conversion, "_convert", lambda *_: pytest.fail("converted again"))
    monkeypatch.setattr(conversion, "_build", lambda *_: pytest.fail("built again"))
    monkeypatch.setattr("lamp_hf.data.humanml3d.dataset_statistics", lambda *_: pytest.fail("computed again"))
    assert load(folder)["train"][:] == first["train"][:]


def test_damaged_cached_set_is_rebuilt(
    folder: Path, load: Callable[..., DatasetDict], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A single wrong bit in an Arrow file can crash the process that reads it."""
    first = {split: rows[:] for split, rows in load(folder).items()}
    [saved] = [path.parent for path in tmp_path.rglob("dataset_dict.json")]
    for path in sorted(path for path in saved.rglob("*") if path.is_file()):
        content = path.read_bytes()
        middle = len(content) // 2
        damages = (content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :], content[:middle], None)
        for damaged in damages:
            path.unlink()
            if damaged is not None:
                path.write_bytes(damaged)
            caplog.clear()
            assert {split: rows[:] for split, rows in load(folder).items()} == first
            assert f"{saved}: the cached dataset is damaged" in caplog.text
            if path.name != "checksums.json":
                assert path.read_bytes() == content


def test_different_statistics_cause_a_warning(
    folder: Path, load: Callable[..., DatasetDict], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="lamp_hf"):
        loaded = load(folder)
    assert not caplog.records
    mean, std = training_statistics(loaded["train"])
    np.testing.assert_allclose(np.load(folder / "Mean.npy"), mean, atol=1e-5)
    mean[3] += 0.5 * std[3]
    std[67:193] *= 2
    np.save(folder / "Mean.npy", mean)
    np.save(folder / "Std.npy", std)
    with caplog.at_level(logging.WARNING, logger="lamp_hf"):
        load(folder)
    assert [record.getMessage().removeprefix(f"{folder}/") for record in caplog.records] == [
        "Mean.npy: root height: 0.50 deviations from the mean of the training split (training does not use it)",
        "Std.npy: rotations: 2.00 times the deviation of the training split (training does not use it)",
    ]
    caplog.clear()
    np.save(folder / "Std.npy", np.zeros(263))
    with caplog.at_level(logging.WARNING, logger="lamp_hf"):
        load(folder)
    assert "not finite or not positive" in caplog.text


def test_error_names_damaged_files_and_skip_bad_skips_them(folder: Path, load: Callable[..., DatasetDict]) -> None:
    motions, texts = folder / "new_joint_vecs", folder / "texts"
    broken = np.load(motions / "000000.npy")
    broken[7, 5] = np.nan
    np.save(motions / "000000.npy", broken)
    (motions / "000001.npy").write_bytes(b"PK\x03\x04")
    (motions / "000002.npy").unlink()
    (texts / "000003.txt").unlink()
    (texts / "000004.txt").write_text("\n")
    np.save(motions / "000005.npy", np.zeros((60, 251)))
    (texts / "M000000.txt").write_text("only#three#0.0\n" + WHOLE + "backwards#x#5.0#1.0\n#x#0#0\nx#x#soon#0\n")
    with pytest.raises(MotionFormatError, match="10 clips cannot be read") as caught:
        load(folder)
    for part in (
        "000000.npy: frame 8 has a value that is not finite",
        "000001.npy: not a NumPy file",
        "new_joint_vecs/000002.npy: no such file, though a split file lists 000002",
        "texts/000003.txt: no such file, though a split file lists 000003",
        "texts/000004.txt: contains no captions",
        "000005.npy: expected 263 features, found 251",
        "texts/M000000.txt line 1: expected caption#tokens#start#end, found 3 parts in 'only#three#0.0'",
        "texts/M000000.txt line 3: expected 0 ≤ start < end, found 5 and 1 seconds",
        "texts/M000000.txt line 4: the caption is empty",
        "texts/M000000.txt line 5: expected start and end in seconds, found 'soon' and '0'",
    ):
        assert part in str(caught.value)
    loaded = load(folder, skip_bad=True)
    assert loaded["train"]["id"][:] == [f"M{number:06d}" for number in range(6)]
    assert [caption["text"] for caption in loaded["train"][0]["captions"]] == ["a person walks"]


def test_text_files_from_any_editor(folder: Path, load: Callable[..., DatasetDict]) -> None:
    for path in (folder / "train.txt", folder / "texts" / "000000.txt"):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    row = load(folder)["train"][0]
    assert (row["id"], row["captions"][0]["text"]) == ("000000", "a person walks")
    (folder / "train.txt").write_bytes("café\n".encode("latin-1"))
    with pytest.raises(ValueError, match=rf"^{folder}/train\.txt: not UTF-8 text .* save it in that encoding"):
        load(folder)


def test_held_out_clips_are_from_other_recordings(folder: Path, load: Callable[..., DatasetDict]) -> None:
    """Training uses neither their mirror images nor parts of them."""
    (folder / "val.txt").unlink()
    for path in (folder / "texts").iterdir():
        path.write_text("a part#x#0.5#3.0\n" + path.read_text())
    splits = with_validation(load(folder))
    train, held_out = (
        {name.removeprefix("M")[:6] for name in splits[split]["id"]} for split in ("train", "validation")
    )
    assert (len(splits["train"]), len(splits["validation"])) == (20, 2)  # two images per recording, two parts each
    assert not train & held_out


def test_other_folders_are_refused(tmp_path: Path, folder: Path, load: Callable[..., DatasetDict]) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere: expected a folder, as the authors of humanml3d"):
        load(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="expected the folder new_joint_vecs in it"):
        load(tmp_path)
    (folder / "val.txt").write_text("000008\n000000\n")
    with pytest.raises(ValueError, match=r"000000 is both in train\.txt and in val\.txt"):
        load(folder)
    (folder / "val.txt").write_text("../secret\n")
    with pytest.raises(ValueError, match=r"expected the names of files in new_joint_vecs, found '\.\./secret'"):
        load(folder)
    for name in ("train", "val", "test"):
        (folder / f"{name}.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"published split files train\.txt, val\.txt, test\.txt, found none"):
        load(folder)


def test_loads_by_name(tmp_path: Path, folder: Path) -> None:
    options = {"cache_dir": tmp_path / "cache", "progress": False, "num_proc": 1}
    assert len(load_motion_dataset("humanml3d", path=folder, **options)["train"]) == 12
    for name in ("humanml3d", "kit-ml"):
        with pytest.raises(ValueError, match=f'"{name}": path is missing; pass path='):
            load_motion_dataset(name)
    assert len(load_motion_dataset(folder, **options)["train"]) == 12  # its files determine the name


def test_data_set_on_the_hub_can_be_streamed(
    tmp_path: Path, folder: Path, load: Callable[..., DatasetDict], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`push_to_hub` uploads Parquet files that contain the types of the columns."""
    loaded = load(folder)
    hub = tmp_path / "hub" / "data"
    hub.mkdir(parents=True)
    for split, rows in loaded.items():
        rows.to_parquet(hub / f"{split}-00000-of-00001.parquet")
    real = datasets.load_dataset

    def from_files(name: str, **options: Any) -> Any:
        assert name == "me/walks"
        return real(str(hub.parent), **options)

    monkeypatch.setattr(datasets, "load_dataset", from_files)
    whole = load_motion_dataset("me/walks", cache_dir=tmp_path / "hf")
    assert {split: rows.features for split, rows in whole.items()} == dict.fromkeys(
        loaded, motion_features(annotated=True)
    )
    streamed = load_motion_dataset("me/walks", cache_dir=tmp_path / "hf", streaming=True)
    assert set(streamed) == {"train", "validation", "test"}
    for split, rows in streamed.items():
        for row, expected in zip(rows, loaded[split], strict=True):
            np.testing.assert_array_equal(np.asarray(row.pop("motion"), np.float32), expected.pop("motion"))
            assert row == expected
    one = load_motion_dataset("me/walks", cache_dir=tmp_path / "hf", streaming=True, split="test")
    assert [row["id"] for row in one["train"]] == loaded["test"]["id"][:]
