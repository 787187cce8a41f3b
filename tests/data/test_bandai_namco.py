"""The Bandai-Namco data set from an archive and from a clone: splits, mirror images, cache, damaged files."""

import io
import json
import logging
import os
import re
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset, DatasetDict
from safetensors.numpy import load_file

from lamp_hf.data import conversion
from lamp_hf.data.bandai_namco import loader as bandai_namco
from lamp_hf.data.bandai_namco.grammar import CaptionGrammar
from lamp_hf.data.bandai_namco.loader import bandai_namco_grammar, clip_labels, load_bandai_namco
from lamp_hf.data.schema import motion_features, with_numpy_motion
from lamp_hf.motion.errors import MotionFormatError
from lamp_hf.motion.features import (
    features_to_joints,
    joints_to_features,
    mirror_joints,
    normalize_joints,
    resample_joints,
)
from lamp_hf.motion.formats.bvh import read_bvh

WALK_LEFT = "dataset-1_walk-left_happy_001"
BYE = "dataset-1_bye_normal_001"
BOW = "dataset-1_bow_sad_001"
WAVE = "dataset-2_wave-left-hand_elderly_001"
RUN = "dataset-2_run_active_001"
CLIPS = (WALK_LEFT, BYE, BOW, WAVE, RUN)


def write_lists(folder: Path, **lists: Sequence[str]) -> None:
    for name, clips in lists.items():
        (folder / f"{name}.txt").write_text("".join(f"{clip}\n" for clip in clips))


def data_folder(clone: Path, clip: str) -> Path:
    return clone / "dataset" / f"Bandai-Namco-Research-Motiondataset-{clip[8]}" / "data"


@pytest.fixture
def clone(tmp_path: Path, bvh_bytes: Callable[[int], bytes]) -> Path:
    """Create a folder like a clone of the repository, with split files."""
    root = tmp_path / "clone"
    for number, clip in enumerate(CLIPS):
        folder = data_folder(root, clip)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{clip}.bvh").write_bytes(bvh_bytes(number))
        (folder / f"{clip}.json").write_text("{}")
    write_lists(root, train=CLIPS[:3], val=CLIPS[3:])
    return root


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., DatasetDict]:
    """The loader, without progress bars, in one process and with a separate cache."""

    def call(path: Path, **options: Any) -> DatasetDict:
        settings = {"cache_dir": tmp_path / "cache", "progress": False, "num_proc": 1, **options}
        return load_bandai_namco(path, **settings)

    return call


def pack(clone: Path, archive: Path) -> Path:
    with tarfile.open(archive, "w:xz", preset=0) as tar:
        tar.add(clone / "dataset", "dataset")
    return archive


def by_id(dataset: Dataset) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in with_numpy_motion(dataset)}


def test_rows_follow_the_split_lists(clone: Path, load: Callable[..., DatasetDict]) -> None:
    splits = load(clone)
    assert set(splits) == {"train", "validation"}
    assert splits["train"].features == motion_features()
    train = by_id(splits["train"])
    assert set(train) == {*CLIPS[:3], *(f"{clip}-mirrored" for clip in CLIPS[:3])}
    assert splits["validation"]["id"][:] == sorted(CLIPS[3:])
    row = train[WALK_LEFT]
    assert (row["content"], row["style"], row["mirrored"]) == ("walk-left", "happy", False)
    assert (row["source"], row["fps"]) == ("bandai-namco", 20.0)
    # 16 frames at 30 fps are 11 at 20 fps; features describe all but the last.
    assert row["num_frames"] == len(row["motion"]) == 10
    assert len({caption["text"] for caption in row["captions"]}) == 16
    assert {(caption["start"], caption["end"]) for caption in row["captions"]} == {(0.0, 0.0)}


def test_mirroring_swaps_motion_text_and_label(clone: Path, load: Callable[..., DatasetDict]) -> None:
    train = by_id(load(clone)["train"])
    for clip, content, sides in (
        (WALK_LEFT, "walk-right", {"right"}),
        (BYE, "bye", {"left"}),
        (BOW, "bow", set()),
    ):
        row, mirror = train[clip], train[f"{clip}-mirrored"]
        assert mirror["mirrored"]
        assert mirror["content"] == content
        for caption in mirror["captions"]:
            assert set(re.findall(r"\b(left|right)", caption["text"])) == sides
        recorded = resample_joints(read_bvh(data_folder(clone, clip) / f"{clip}.bvh").joints, 30.0, 20.0)
        # Mirrored before the body gets the set's bone lengths, which differ a little from left to right.
        np.testing.assert_allclose(mirror["motion"], joints_to_features(mirror_joints(recorded)), atol=1e-5)
        swapped = normalize_joints(mirror_joints(features_to_joints(row["motion"])))
        np.testing.assert_allclose(features_to_joints(mirror["motion"]), swapped, atol=0.03)


def test_validation_and_unmirrored_training_clips_are_unchanged(clone: Path, load: Callable[..., DatasetDict]) -> None:
    both, plain = load(clone), load(clone, mirror=False)
    assert set(plain["train"]["id"]) == set(CLIPS[:3])
    assert not any(both["validation"]["mirrored"])
    first, second = by_id(both["train"])[BOW], by_id(plain["train"])[BOW]
    np.testing.assert_array_equal(first.pop("motion"), second.pop("motion"))
    assert first == second


def test_archive_and_clone_give_the_same_rows(tmp_path: Path, clone: Path, load: Callable[..., DatasetDict]) -> None:
    archive = pack(clone, tmp_path / "set.tar.xz")
    from_archive = load(archive, split_dir=clone, cache_dir=tmp_path / "second", num_proc=2)
    from_clone = load(clone)
    for split in ("train", "validation"):
        ours, theirs = by_id(from_archive[split]), by_id(from_clone[split])
        assert ours.keys() == theirs.keys()
        for clip in ours:
            np.testing.assert_array_equal(ours[clip].pop("motion"), theirs[clip].pop("motion"))
            assert ours[clip] == theirs[clip]


def test_suspicious_and_unlisted_clips_are_left_out(
    clone: Path, load: Callable[..., DatasetDict], caplog: pytest.LogCaptureFixture
) -> None:
    write_lists(clone, train=CLIPS[:2], val=CLIPS[3:], test=[BOW])
    (clone / "suspect_labels.txt").write_text(f"# comment\n{BYE}\tturns the wrong way\n{WAVE}\tin validation\n")
    splits = load(clone, mirror=False)
    assert splits["train"]["id"][:] == [WALK_LEFT]
    assert set(splits["validation"]["id"]) == {WAVE, RUN}
    assert splits["test"]["id"][:] == [BOW]
    (clone / "test.txt").unlink()
    with caplog.at_level(logging.WARNING):
        assert set(load(clone)) == {"train", "validation"}
    assert f"{clone}: skipped 1 clips that are not in a split file, such as {BOW}" in caplog.text


def test_clip_in_two_lists_is_refused(clone: Path, load: Callable[..., DatasetDict]) -> None:
    write_lists(clone, train=CLIPS, val=[RUN])
    with pytest.raises(ValueError, match=rf"{RUN} is both in train\.txt and in val\.txt"):
        load(clone)


def test_without_lists_the_file_names_decide(clone: Path, load: Callable[..., DatasetDict]) -> None:
    for name in ("train.txt", "val.txt"):
        (clone / name).unlink()
    splits = load(clone, mirror=False)
    assert sorted([*splits["train"]["id"], *splits["validation"]["id"]]) == sorted(CLIPS)
    names = [f"dataset-2_walk_normal_{take:03}" for take in range(2000)]
    share = np.mean([bandai_namco._hash_share(name) < bandai_namco._VALIDATION_SHARE for name in names])
    assert 0.08 < share < 0.12


def test_names_select_clips(clone: Path, load: Callable[..., DatasetDict]) -> None:
    splits = load(clone, names=[RUN, BOW], mirror=False)
    assert (splits["train"]["id"][:], splits["validation"]["id"][:]) == ([BOW], [RUN])
    assert len(load(clone, names=[RUN])["train"]) == 0
    with pytest.raises(ValueError, match="1 of the clips in names are missing, such as dataset-1_fly"):
        load(clone, names=[RUN, "dataset-1_fly_happy_001"])


def test_cache_avoids_conversion_and_unpacking(
    tmp_path: Path, clone: Path, load: Callable[..., DatasetDict], monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = pack(clone, tmp_path / "set.tar.xz")
    first = load(archive, split_dir=clone)

    def refuse(*args: object) -> None:
        raise AssertionError("nothing needs converting")

    monkeypatch.setattr(conversion, "_convert", refuse)
    monkeypatch.setattr(bandai_namco, "_archive_clips", refuse)
    again = load(archive, split_dir=clone)
    assert again["train"].cache_files == first["train"].cache_files
    # Other captions give another dataset with the same motions.
    fewer = load(archive, split_dir=clone, captions_per_clip=2)
    assert all(len(captions) == 2 for captions in fewer["train"]["captions"])


def test_interrupted_conversion_resumes(
    clone: Path, load: Callable[..., DatasetDict], monkeypatch: pytest.MonkeyPatch
) -> None:
    convert = conversion._convert
    converted: list[str] = []

    def interrupted(file: conversion.ClipFile, *args: Any) -> str | None:
        if len(converted) == 3:
            raise KeyboardInterrupt
        converted.append(file.file_name)
        return convert(file, *args)

    monkeypatch.setattr(conversion, "_convert", interrupted)
    with pytest.raises(KeyboardInterrupt):
        load(clone)
    first, converted[:] = list(converted), []
    assert len(load(clone)["train"]) == 6
    assert sorted(first + converted) == sorted(f"{clip}.bvh" for clip in CLIPS)


def test_modified_files_are_converted_again(
    clone: Path, load: Callable[..., DatasetDict], bvh_bytes: Callable[[int], bytes]
) -> None:
    before = by_id(load(clone)["train"])[BOW]["motion"]
    (data_folder(clone, BOW) / f"{BOW}.bvh").write_bytes(bvh_bytes(77))
    after = by_id(load(clone)["train"])[BOW]["motion"]
    assert not np.array_equal(before, after)


@pytest.mark.parametrize("num_proc", [1, 2])
def test_error_names_unreadable_clips(
    clone: Path, load: Callable[..., DatasetDict], caplog: pytest.LogCaptureFixture, num_proc: int
) -> None:
    for clip in (BYE, RUN):
        path = data_folder(clone, clip) / f"{clip}.bvh"
        path.write_bytes(path.read_bytes()[:-200] + b" nan")
    with pytest.raises(MotionFormatError, match=r"2 clips cannot be read; skip them with skip_bad=True") as caught:
        load(clone, num_proc=num_proc)
    assert f"{BYE}.bvh line" in str(caught.value)
    assert f"{RUN}.bvh line" in str(caught.value)
    with caplog.at_level(logging.WARNING):
        splits = load(clone, skip_bad=True, mirror=False)
    assert set(splits["train"]["id"]) == {WALK_LEFT, BOW}
    assert f"skipped: {BYE}.bvh line" in caplog.text


def test_malicious_archives_write_nothing(
    tmp_path: Path, clone: Path, load: Callable[..., DatasetDict], bvh_bytes: Callable[[int], bytes]
) -> None:
    archive = tmp_path / "evil.tar"
    secret = tmp_path / "secret.bvh"
    secret.write_bytes(bvh_bytes(9))
    with tarfile.open(archive, "w") as tar:

        def add(name: str, **attributes: Any) -> None:
            member = tarfile.TarInfo(name)
            content = bvh_bytes(5)
            member.size = len(content) if "type" not in attributes else 0
            for attribute, value in attributes.items():
                setattr(member, attribute, value)
            tar.addfile(member, io.BytesIO(content))

        add("../../escape.bvh")
        add(f"../../{WALK_LEFT}.bvh")
        add(f"data/{BOW}.bvh", type=tarfile.SYMTYPE, linkname=str(secret))
        add(f"data/{BYE}.bvh", type=tarfile.LNKTYPE, linkname="../secret.bvh")
        add(f"data/{RUN}.bvh", type=tarfile.FIFOTYPE)
    before = {path for path in tmp_path.rglob("*") if "cache" not in path.parts}
    splits = load(archive, split_dir=clone, mirror=False)
    assert splits["train"]["id"][:] == [WALK_LEFT]
    assert {path for path in tmp_path.rglob("*") if "cache" not in path.parts} == before
    assert not any(path.suffix == ".bvh" for path in (tmp_path / "cache").rglob("*"))


def test_truncated_and_unrelated_archives_are_refused(
    tmp_path: Path, clone: Path, load: Callable[..., DatasetDict]
) -> None:
    archive = pack(clone, tmp_path / "set.tar.xz")
    whole = archive.read_bytes()
    for content in (whole[: len(whole) // 2], b"not an archive", b""):
        archive.write_bytes(content)
        with pytest.raises(MotionFormatError, match=r"set\.tar\.xz: damaged or truncated archive"):
            load(archive)
    with tarfile.open(archive, "w") as tar:
        tar.add(clone / "train.txt", "train.txt")
    with pytest.raises(MotionFormatError, match="no clips found"):
        load(archive)
    with pytest.raises(FileNotFoundError, match="no such archive or folder"):
        load(tmp_path / "nowhere")


def test_captions_next_to_the_data_set_or_passed(tmp_path: Path, clone: Path, load: Callable[..., DatasetDict]) -> None:
    more = {"templates": ["{adv}!"], "styles": {"sad": {"adverbs": ["tearfully"]}}}
    (clone / "captions.json").write_text(json.dumps(more))
    assert "tearfully!" in bandai_namco_grammar(clone).all("bow", "sad")
    assert "tearfully!" not in CaptionGrammar.load().all("bow", "sad")
    only = CaptionGrammar.load(clone / "captions.json", include_own=False)
    with pytest.raises(ValueError, match=f"{BOW}: the caption grammar has no content 'bow'"):
        load(clone, captions=only, names=[BOW])
    other = tmp_path / "other.json"
    other.write_text(json.dumps({**more, "templates": ["so {adv}"]}))
    assert "so tearfully" in bandai_namco_grammar(clone, captions=other).all("bow", "sad")


def test_file_names_contain_the_labels() -> None:
    assert clip_labels("dataset-2_raise-up-both-hands_youthful_012") == ("raise-up-both-hands", "youthful")
    with pytest.raises(ValueError, match="expected a clip name like"):
        clip_labels("walk.bvh")


def test_real_clips_match_the_published_features(
    bandai_archive: Path, golden: Path, load: Callable[..., DatasetDict]
) -> None:
    clip = "dataset-1_kick_normal_001"
    row = by_id(load(bandai_archive, names=[clip])["train"])[clip]
    expected = load_file(golden / "golden_features.safetensors")[f"{clip}/features"]
    np.testing.assert_allclose(row["motion"][:, 67:193], expected[:, 67:193], atol=1e-3)
    others = np.r_[0:67, 193:263]
    np.testing.assert_allclose(row["motion"][:, others], expected[:, others], atol=1e-4)
    assert (row["content"], row["style"]) == ("kick", "normal")


def test_default_cache_is_set_by_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LAMP_HF_CACHE", os.fspath(tmp_path))
    assert conversion.default_cache_dir() == tmp_path
    monkeypatch.delenv("LAMP_HF_CACHE")
    assert conversion.default_cache_dir() == Path.home() / ".cache" / "lamp_hf"
