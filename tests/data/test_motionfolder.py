"""Folders of motions with a table of captions: the resulting rows, and errors about mistakes."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import DatasetDict

from lamp_hf.data import conversion
from lamp_hf.data.doctor import check_data
from lamp_hf.data.motionfolder import load_motionfolder
from lamp_hf.data.schema import motion_features, with_numpy_motion
from lamp_hf.data.splits import with_validation
from lamp_hf.motion.errors import MotionFormatError
from lamp_hf.motion.formats.bvh import read_bvh


def write_table(folder: Path, *rows: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def folder(tmp_path: Path, bvh_bytes: Callable[[int], bytes]) -> Path:
    """Two clips and a table."""
    root = tmp_path / "mocap"
    root.mkdir()
    for number, name in enumerate(("walk.bvh", "wave.bvh")):
        (root / name).write_bytes(bvh_bytes(number))
    write_table(
        root,
        {"file_name": "walk.bvh", "text": ["a person walks", "someone turns left"]},
        {"file_name": "wave.bvh", "text": "a person waves", "start": 0.1, "end": 0.4, "style": "happy"},
    )
    return root


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., DatasetDict]:
    def call(path: Path, **options: Any) -> DatasetDict:
        return load_motionfolder(path, **{"cache_dir": tmp_path / "cache", "progress": False, "num_proc": 1, **options})

    return call


def test_files_become_rows(folder: Path, load: Callable[..., DatasetDict]) -> None:
    splits = load(folder)
    assert list(splits) == ["train"]
    assert splits["train"].features == motion_features()
    walk, wave = with_numpy_motion(splits["train"])
    assert [caption["text"] for caption in walk["captions"]] == ["a person walks", "someone turns left"]
    assert (walk["id"], walk["source"], walk["fps"], walk["style"]) == ("walk.bvh", "mocap", 20.0, "")
    expected = read_bvh(folder / "walk.bvh").resample(20.0).features
    np.testing.assert_array_equal(walk["motion"], expected)
    assert wave["style"] == "happy"
    assert wave["captions"] == [{"text": "a person waves", "start": 0.0, "end": 0.0}]


def test_several_lines_can_describe_one_file(folder: Path, load: Callable[..., DatasetDict]) -> None:
    write_table(
        folder,
        {"file_name": "walk.bvh", "text": "first"},
        {"file_name": "wave.bvh", "text": "other"},
        {"file_name": "walk.bvh", "text": "second"},
    )
    captions = load(folder)["train"]["captions"]
    assert [[caption["text"] for caption in row] for row in captions] == [["first", "second"], ["other"]]


def test_caption_of_a_part_gives_a_separate_clip(folder: Path, load: Callable[..., DatasetDict]) -> None:
    write_table(
        folder,
        {"file_name": "walk.bvh", "text": "all of it", "content": "walk"},
        {"file_name": "walk.bvh", "text": "turns left", "end": 0.3, "content": "turn-left", "style": "slow"},
        {"file_name": "walk.bvh", "text": "the same turn", "end": 0.3},
        {"file_name": "walk.bvh", "text": "waves", "start": 0.25, "end": 0.5, "content": "wave"},
    )
    rows = {row["id"]: row for row in with_numpy_motion(load(folder, mirror=True)["train"])}
    whole = read_bvh(folder / "walk.bvh").resample(20.0).features
    for name, frames, texts, content in (
        ("walk.bvh", slice(None), ["all of it"], "walk"),
        ("walk.bvh@0-0.3s", slice(0, 6), ["turns left", "the same turn"], "turn-left"),
        ("walk.bvh@0.25-0.5s", slice(5, 10), ["waves"], "wave"),
    ):
        row = rows.pop(name)
        np.testing.assert_array_equal(row["motion"], whole[frames])
        assert (row["num_frames"], row["content"]) == (len(row["motion"]), content)
        assert row["captions"] == [{"text": text, "start": 0.0, "end": 0.0} for text in texts]
        mirrored = rows.pop(f"{name}-mirrored")
        assert len(mirrored["motion"]) == len(row["motion"])
    assert not rows
    assert mirrored["content"] == "wave"


def test_parts_of_a_recording_are_in_one_split(folder: Path, load: Callable[..., DatasetDict]) -> None:
    parts = [(0.0, 0.3), (0.1, 0.4), (0.2, 0.5)]
    write_table(
        folder,
        *(
            {"file_name": name, "text": "x", "start": start, "end": end}
            for name in ("walk.bvh", "wave.bvh")
            for start, end in parts
        ),
    )
    splits = with_validation(load(folder, mirror=True))
    train, held_out = ({clip.split("@")[0] for clip in splits[name]["id"]} for name in ("train", "validation"))
    assert len(train) == len(held_out) == 1
    assert train != held_out
    assert (len(splits["train"]), len(splits["validation"])) == (6, 3)


def test_error_names_tables_in_another_encoding(folder: Path, load: Callable[..., DatasetDict]) -> None:
    (folder / "metadata.jsonl").unlink()
    (folder / "metadata.csv").write_bytes("file_name,text\nwalk.bvh,café\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"metadata\.csv: not UTF-8 text"):
        load(folder)
    [finding] = [each for each in check_data(folder, progress=False).findings if each.kind == "bad line"]
    assert (finding.severity, finding.file) == ("error", "metadata.csv")


def test_error_names_an_unclosed_quote(folder: Path, load: Callable[..., DatasetDict]) -> None:
    (folder / "metadata.jsonl").unlink()
    (folder / "metadata.csv").write_text('file_name,text\nwalk.bvh,"a person walks\n' + "wave.bvh,waves\n" * 20_000)
    with pytest.raises(ValueError, match=r"metadata\.csv line \d+: field larger than .* \(an unclosed quote\?"):
        load(folder)
    [finding] = [each for each in check_data(folder, progress=False).findings if each.kind == "bad line"]
    assert finding.file.startswith("metadata.csv line ")


def test_csv_gives_the_same_rows(folder: Path, load: Callable[..., DatasetDict]) -> None:
    expected = load(folder)["train"]
    (folder / "metadata.jsonl").unlink()
    (folder / "metadata.csv").write_text(
        "file_name,text,start,end,style\n"
        "walk.bvh,a person walks,,,\n"
        "walk.bvh,someone turns left,,,\n"
        "wave.bvh,a person waves,0.1,0.4,happy\n"
    )
    assert load(folder)["train"][:] == expected[:]


def test_folders_become_splits(
    tmp_path: Path, bvh_bytes: Callable[[int], bytes], load: Callable[..., DatasetDict]
) -> None:
    for split in ("train", "val", "test"):
        write_table(tmp_path / "own" / split, {"file_name": "a.bvh", "text": split})
        (tmp_path / "own" / split / "a.bvh").write_bytes(bvh_bytes(1))
    own = load(tmp_path / "own")
    assert {split: rows["id"][:] for split, rows in own.items()} == {
        "train": ["train/a.bvh"],
        "validation": ["val/a.bvh"],
        "test": ["test/a.bvh"],
    }
    for split in ("train", "val", "test"):
        (tmp_path / "own" / split / "metadata.jsonl").unlink()
    write_table(
        tmp_path / "own",
        *({"file_name": f"{split}/a.bvh", "text": split} for split in ("train", "val", "test")),
    )
    shared = load(tmp_path / "own")
    assert list(shared) == list(own)
    assert all(shared[split][:] == own[split][:] for split in own)


def test_mirrored_clips_are_added_on_request(folder: Path, load: Callable[..., DatasetDict]) -> None:
    rows = {row["id"]: row for row in with_numpy_motion(load(folder, mirror=True)["train"])}
    assert set(rows) == {f"{name}{end}" for name in ("walk.bvh", "wave.bvh@0.1-0.4s") for end in ("", "-mirrored")}
    mirrored = rows["walk.bvh-mirrored"]
    assert [caption["text"] for caption in mirrored["captions"]] == ["a person walks", "someone turns right"]
    expected = read_bvh(folder / "walk.bvh").resample(20.0).mirror().features
    np.testing.assert_array_equal(mirrored["motion"], expected)
    np.testing.assert_array_equal(rows["walk.bvh"]["motion"], with_numpy_motion(load(folder)["train"])[0]["motion"])


def test_only_new_files_are_converted(
    folder: Path,
    load: Callable[..., DatasetDict],
    bvh_bytes: Callable[[int], bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    load(folder)
    convert, converted = conversion._convert, []

    def noted(file: conversion.ClipFile, *args: Any) -> str | None:
        converted.append(file.file_name)
        return convert(file, *args)

    monkeypatch.setattr(conversion, "_convert", noted)
    (folder / "new.bvh").write_bytes(bvh_bytes(5))
    with (folder / "metadata.jsonl").open("a") as table:
        table.write('{"file_name": "new.bvh", "text": "something new"}\n')
    assert load(folder)["train"]["id"][:] == ["walk.bvh", "wave.bvh@0.1-0.4s", "new.bvh"]
    assert converted == ["new.bvh"]


def test_reader_options_reach_the_reader(folder: Path, load: Callable[..., DatasetDict]) -> None:
    plain, slow = load(folder)["train"], load(folder, reader_options={"fps": 15.0})["train"]
    assert slow["num_frames"][:] > plain["num_frames"][:]


def test_files_without_captions_are_reported(
    folder: Path,
    load: Callable[..., DatasetDict],
    bvh_bytes: Callable[[int], bytes],
    caplog: pytest.LogCaptureFixture,
) -> None:
    (folder / "lost.bvh").write_bytes(bvh_bytes(3))
    with caplog.at_level(logging.WARNING):
        assert len(load(folder)["train"]) == 2
    assert "skipped 1 files without captions, such as lost.bvh" in caplog.text


def test_error_names_unreadable_motions(
    folder: Path, load: Callable[..., DatasetDict], caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "wave.bvh").write_text("HIERARCHY\nROOT x\n")
    with pytest.raises(MotionFormatError, match=r"(?s)1 clip cannot be read.*wave\.bvh line"):
        load(folder)
    with caplog.at_level(logging.WARNING):
        assert load(folder, skip_bad=True)["train"]["id"][:] == ["walk.bvh"]
    assert "skipped: wave.bvh line" in caplog.text
    (folder / "walk.bvh").write_text("")
    with pytest.raises(ValueError, match="none of the 2 motions can be read"):
        load(folder, skip_bad=True)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{"file_name": "walk.bvh"', r"line 2: not valid JSON"),
        ("[1]", r"line 2: expected an object"),
        ('{"name": "walk.bvh", "text": "x"}', r"line 2: expected a file_name, found the columns name, text"),
        (
            '{"file_name": "walk.bvh"}',
            r"line 2: expected a text or a list .* for walk\.bvh, found None",
        ),
        ('{"file_name": "walk.bvh", "text": " "}', r"line 2: expected a text"),
        ('{"file_name": "walk.bvh", "text": []}', r"line 2: expected a text"),
        ('{"file_name": "gone.bvh", "text": "x"}', r"line 2: gone\.bvh does not exist in"),
        (
            '{"file_name": "walk.fbx", "text": "x"}',
            r"line 2: expected a \.bvh, .* found 'walk\.fbx'",
        ),
        ('{"file_name": "../walk.bvh", "text": "x"}', r"line 2: expected a file_name inside"),
        ('{"file_name": "/etc/walk.bvh", "text": "x"}', r"line 2: expected a file_name inside"),
        ('{"file_name": "walk.bvh", "text": "x", "end": "soon"}', r"line 2: expected end in seconds.*'soon'"),
        (
            '{"file_name": "walk.bvh", "text": "x", "start": -1, "end": 2}',
            r"line 2: expected start in sec",
        ),
        (
            '{"file_name": "walk.bvh", "text": "x", "start": 3}',
            r"line 2: .* start before end, found 3 and 0",
        ),
        (
            '{"file_name": "walk.bvh", "text": "x", "end": 9}',
            r"line 2: .* 0 to 9 s, but .* lasts 0\.55 s",
        ),
    ],
)
def test_error_names_the_line_of_a_mistake_in_the_table(
    folder: Path, load: Callable[..., DatasetDict], row: str, message: str
) -> None:
    (folder / "metadata.jsonl").write_text('{"file_name": "wave.bvh", "text": "x"}\n' + row + "\n")
    with pytest.raises(ValueError, match=message) as caught:
        load(folder)
    assert "metadata.jsonl" in str(caught.value)


def test_error_names_the_line_of_a_mistake_in_a_csv(folder: Path, load: Callable[..., DatasetDict]) -> None:
    (folder / "metadata.jsonl").unlink()
    (folder / "metadata.csv").write_text("file_name,text\nwalk.bvh,a person walks, then turns\n")
    with pytest.raises(ValueError, match=r"metadata\.csv line 2: expected 2 values.*comma in quotes"):
        load(folder)


def test_exactly_one_table_is_needed(folder: Path, load: Callable[..., DatasetDict]) -> None:
    (folder / "metadata.csv").write_text("file_name,text\n")
    with pytest.raises(ValueError, match="found both"):
        load(folder)
    (folder / "metadata.jsonl").unlink()
    with pytest.raises(ValueError, match="the table of captions has no lines"):
        load(folder)
    (folder / "metadata.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"expected metadata\.jsonl or metadata\.csv"):
        load(folder)
    with pytest.raises(FileNotFoundError, match="no such folder"):
        load(folder / "nowhere")
