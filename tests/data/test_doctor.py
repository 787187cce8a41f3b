"""The check of data sets counts clips and reports every kind of damage with its file."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from lamp_hf.data.doctor import check_data
from lamp_hf.data.report import DataReport


def check(path: Path) -> DataReport:
    return check_data(path, progress=False)


def found(report: DataReport) -> set[tuple[str, str, str]]:
    return {(finding.severity, finding.kind, finding.file) for finding in report.findings}


@pytest.fixture
def folder(tmp_path: Path, field_sets: SimpleNamespace) -> Path:
    return field_sets.make(tmp_path / "HumanML3D", "humanml3d")


@pytest.fixture
def mocap(tmp_path: Path, procedural: SimpleNamespace) -> Path:
    root = tmp_path / "mocap"
    root.mkdir()
    for name in ("walk.npz", "more.npz", "other.npz"):
        procedural.walker(60).save(root / name)
    rows = [{"file_name": name, "text": "a person walks"} for name in ("walk.npz", "more.npz", "other.npz")]
    (root / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return root


def test_data_set_without_problems_has_counts_and_no_findings(
    folder: Path, tmp_path: Path, field_sets: SimpleNamespace
) -> None:
    report = check(folder)
    assert (report.layout, report.findings) == ("humanml3d", [])
    assert report.counts == {
        "motions": "20, 10 of them mirrored",
        "captions": "40, 0 of them describe a part",
        "train": "12 listed, 12 used",
        "validation": "4 listed, 4 used",
        "test": "4 listed, 4 used",
        "not used because of length": "0 with fewer than 40 frames, 0 with 200 or more, 0 parts",
        "joints": "22",
        "frames per second": "20",
        "frames": "69 to 78, median 74",
        "seconds": "3.5 to 3.9, median 3.7",
        "hours in all": "0.02",
    }
    kit = check(field_sets.make(tmp_path / "KIT-ML", "kit-ml"))
    assert (kit.layout, kit.findings) == ("kit-ml", [])
    assert (kit.counts["joints"], kit.counts["frames per second"]) == ("21", "12.5")


@pytest.mark.parametrize(("name", "joints", "rate"), [("humanml3d", "22", "20"), ("kit-ml", "21", "12.5")])
def test_real_clips_have_no_findings(
    name: str, joints: str, rate: str, real_field_sets: dict[str, SimpleNamespace]
) -> None:
    report = check(real_field_sets[name].root)
    assert (report.layout, report.findings) == (name, [])
    assert (report.counts["joints"], report.counts["frames per second"]) == (joints, rate)
    assert report.counts["motions"] == "12, 6 of them mirrored"
    assert report.counts["captions"] == "36, 12 of them describe a part"
    assert report.counts["train"] == "8 listed, 8 used"


def test_damaged_or_missing_motions(folder: Path) -> None:
    motions = folder / "new_joint_vecs"
    broken = np.load(motions / "000000.npy")
    broken[7, 5] = np.inf
    np.save(motions / "000000.npy", broken)
    (motions / "000001.npy").write_bytes((motions / "000001.npy").read_bytes()[:5000])
    (motions / "000002.npy").unlink()
    np.save(motions / "000003.npy", np.zeros((60, 251), np.float32))
    np.save(motions / "000004.npy", np.load(folder / "new_joints" / "000004.npy"))
    np.save(motions / "000005.npy", np.zeros((60, 200), np.float32))
    with (motions / "000006.npy").open("wb") as file:
        np.savez(file, np.load(motions / "000007.npy"))
    (motions / "000007.npy").unlink()
    (motions / "000007.npy").symlink_to("nowhere")
    report = check(folder)
    assert report.errors == report.findings[: len(report.errors)]
    messages = {finding.file: finding.message for finding in report.errors}
    assert messages.keys() == {
        *(f"new_joint_vecs/00000{number}.npy" for number in range(8)),
        "new_joints/000003.npy",  # 22 joints with features for 21
    }
    assert "frame 8 has a value that is not finite" in messages["new_joint_vecs/000000.npy"]
    assert "truncated" in messages["new_joint_vecs/000001.npy"]
    assert messages["new_joint_vecs/000002.npy"] == "no such file, though train.txt lists it"
    assert messages["new_joint_vecs/000003.npy"].startswith("21 joints (251 features), expected 22 (263)")
    assert messages["new_joint_vecs/000004.npy"] == "expected features (T, D), found joints"
    assert "found (60, 200)" in messages["new_joint_vecs/000005.npy"]
    assert messages["new_joint_vecs/000006.npy"].startswith("not a NumPy file (")
    assert messages["new_joint_vecs/000007.npy"] == "links to nowhere, which does not exist"


def test_damaged_or_missing_texts(folder: Path) -> None:
    texts = folder / "texts"
    (texts / "000000.txt").unlink()
    (texts / "000001.txt").write_text("")
    (texts / "000002.txt").write_text("a person#x#0.0#0.0\nno times#x\n")
    (texts / "000003.txt").write_text("too late#x#1.0#5.6\n")  # 72 frames are 3.6 s, at 12.5 fps they would be 5.8
    (texts / "999999.txt").write_text("of nothing#x#0.0#0.0\n")
    (texts / "000004.txt").write_bytes(b"caf\xe9#x#0#0\n")
    (texts / "000005.txt").write_text("all of its lines#are bad\n")
    for name in ("000006", "000007"):
        (texts / f"{name}.txt").unlink()
    (texts / "000006.txt").mkdir()
    (texts / "000007.txt").symlink_to("nowhere")
    (texts / "000008.txt").write_bytes(b"\xef\xbb\xbf" + (texts / "000008.txt").read_bytes())
    report = check(folder)
    assert found(report) == {
        ("error", "motion without captions", "new_joint_vecs/000000.npy"),
        ("error", "motion without captions", "texts/000001.txt"),
        ("error", "bad captions", "texts/000002.txt"),
        ("error", "bad captions", "texts/000004.txt"),
        ("error", "bad captions", "texts/000005.txt"),
        ("error", "bad captions", "texts/000006.txt"),
        ("error", "bad captions", "texts/000007.txt"),
        ("warning", "times beyond the motion", "texts/000003.txt"),
        ("warning", "captions without motion", "texts/999999.txt"),
    }
    assert any(
        "ends at 5.6 s, but the motion at 3.60 s (20 fps); check the frame rate" in str(f) for f in report.findings
    )
    assert report.counts["captions"].endswith("1 of them describe a part")
    assert report.counts["train"] == "12 listed, 8 used"  # the loader does not see 0, 1, 4 and 5
    assert report.counts["validation"] == "4 listed, 2 used"


def test_splits(folder: Path) -> None:
    (folder / "test.txt").unlink()
    train = (folder / "train.txt").read_text()
    (folder / "train.txt").write_text(train.replace("M000001\n", "") + "000000\n")
    (folder / "val.txt").write_text("000006\nM000006\n000007\nM000001\nM000002\n")
    (folder / "train_val.txt").write_text("000000\n")
    report = check(folder)
    assert {(f.severity, f.kind, f.file) for f in report.findings if f.kind != "in no split"} == {
        ("warning", "missing split file", "test.txt"),
        ("warning", "listed twice", "train.txt"),
        ("error", "in two splits", "val.txt"),
        ("warning", "mirror in another split", "val.txt"),
        ("warning", "bad split file", "train_val.txt"),
        ("warning", "statistics drift", "Mean.npy"),  # the training split has changed
    }
    unused = {finding.file for finding in report.findings if finding.kind == "in no split"}
    assert {"new_joint_vecs/M000007.npy", "new_joint_vecs/000008.npy"} <= unused
    for content in (b"../000000\n", b"caf\xe9\n"):
        (folder / "train.txt").write_bytes(content)
        assert ("error", "bad split file", "train.txt") in found(check(folder))
    (folder / "train.txt").write_bytes(b"\xef\xbb\xbf" + train.encode())
    assert not any(finding.kind == "missing motion" for finding in check(folder).findings)


def test_splits_without_usable_clips(folder: Path) -> None:
    for name in ("000006", "M000006", "000007", "M000007"):
        np.save(folder / "new_joint_vecs" / f"{name}.npy", np.load(folder / "new_joint_vecs" / f"{name}.npy")[:30])
    (folder / "train.txt").write_text("")
    (folder / "test.txt").write_text("\n")
    report = check(folder)
    assert {(f.severity, f.file): f.message for f in report.findings if f.kind == "empty split"} == {
        ("error", "train.txt"): "lists no motions",
        ("error", "val.txt"): "none of its 4 motions can be used",
        ("warning", "test.txt"): "lists no motions",
    }


def test_statistics(folder: Path) -> None:
    std = np.load(folder / "Std.npy")
    np.save(folder / "Std.npy", std * 3)
    drifting = [str(finding) for finding in check(folder).findings]
    assert len(drifting) == 7
    assert "Std.npy: joint positions: 3.00 times the deviation of the training split" in drifting
    np.save(folder / "Std.npy", std[:-1])
    mean = (folder / "Mean.npy").read_bytes()
    (folder / "Mean.npy").unlink()
    report = check(folder)
    assert found(report) == {("error", "bad statistics", "Std.npy"), ("warning", "missing statistics", "Mean.npy")}
    assert report.errors[0].message == "expected 263 numbers, found float32 (262,)"
    np.save(folder / "Std.npy", std)
    for damaged in (b"PK\x03\x04", b"", mean[:-9], mean.replace(b"'", b"", 1)):
        (folder / "Mean.npy").write_bytes(damaged)
        [finding] = check(folder).findings
        assert (finding.kind, finding.file) == ("bad statistics", "Mean.npy")
        assert finding.message.startswith("not a NumPy file (")


def test_joints_that_do_not_match_the_features(folder: Path) -> None:
    joints = folder / "new_joints"
    first = np.load(joints / "000000.npy")
    first[:, 15] += 0.2
    np.save(joints / "000000.npy", first)
    np.save(joints / "000001.npy", np.load(joints / "000001.npy")[:-3])
    np.save(joints / "000002.npy", np.load(joints / "000002.npy")[:, :21])
    (joints / "000003.npy").unlink()
    (joints / "000004.npy").write_bytes(b"")
    assert found(check(folder)) == {
        ("warning", "joints differ", "new_joints/000000.npy"),
        ("warning", "joints differ", "new_joints/000001.npy"),
        ("error", "other skeleton", "new_joints/000002.npy"),
        ("warning", "missing joints", "new_joints/000003.npy"),
        ("error", "unreadable joints", "new_joints/000004.npy"),
    }


def test_lengths(tmp_path: Path, field_sets: SimpleNamespace, procedural: SimpleNamespace) -> None:
    clips = {name: procedural.walker(int(name) + 1, turn=0.3).features for name in ("030", "040", "150", "220")}
    texts = dict.fromkeys(clips, "a person walks#x#0.0#0.0\n")
    texts["040"] = "of a part that is too short#x#0.5#2.0\n"
    texts["150"] += "a part#x#1.0#3.0\na short part#x#3.0#4.9\nafter the end#x#7.5#7.55\n"
    root = field_sets.write(tmp_path / "set", clips, texts, {"train": list(clips), "val": ["150"]})
    report = check(root)
    lengths = [str(finding) for finding in report.findings if finding.kind.endswith("of another length")]
    assert lengths == [
        "new_joint_vecs/030.npy: 30 frames, expected 40 to 199; not used",
        "new_joint_vecs/220.npy: 220 frames, expected 40 to 199; not used",
        "texts/040.txt: line 1: describes 30 frames, expected 40 to 199; not used",
        "texts/150.txt: line 3: describes 38 frames, expected 40 to 199; not used",
        "texts/150.txt: line 4: describes 0 frames, expected 40 to 199; not used",
    ]
    counts = report.counts
    assert counts["not used because of length"] == "1 with fewer than 40 frames, 1 with 200 or more, 3 parts"
    assert counts["train"] == "4 listed, 1 used"
    assert counts["seconds"] == "1.5 to 11.0, median 4.8"


def test_motion_folder(mocap: Path, procedural: SimpleNamespace) -> None:
    assert check(mocap).findings == []
    assert check(mocap).counts["train"] == "3"
    procedural.walker(90, fps=30.0).save(mocap / "fast.npz")
    procedural.walker(60).save(mocap / "silent.npz")
    (mocap / "broken.npz").write_bytes(b"PK")
    np.savez(mocap / "kit.npz", features=np.zeros((60, 251), np.float32), fps=12.5)
    with (mocap / "metadata.jsonl").open("a") as table:
        table.write('{"file_name": "fast.npz", "text": "fast"}\nnot json\n')
        table.write('{"file_name": "gone.npz", "text": "gone"}\n{"file_name": "broken.npz", "text": "broken"}\n')
        table.write('{"file_name": "walk.npz", "text": "late", "start": 2.0, "end": 8.0}\n')
        table.write('{"file_name": "kit.npz", "text": "of another body"}\n')
        table.write('{"file_name": "walk.npz", "text": "a twitch", "start": 1.0, "end": 1.1}\n')
        table.write('{"file_name": "short.npz", "text": "a blink"}\n')
    procedural.walker(4).save(mocap / "short.npz")
    report = check(mocap)
    assert found(report) == {
        ("error", "bad line", "metadata.jsonl line 5"),
        ("error", "bad line", "metadata.jsonl line 6"),
        ("error", "unreadable motion", "broken.npz"),
        ("error", "bad times", "metadata.jsonl line 8"),
        ("error", "bad times", "metadata.jsonl line 10"),
        ("error", "bad times", "metadata.jsonl line 11"),
        ("error", "other skeleton", "kit.npz"),
        ("warning", "motion without captions", "silent.npz"),
        ("warning", "other frame rate", "fast.npz"),
        ("warning", "other frame rate", "kit.npz"),
    }
    assert "metadata.jsonl line 6: gone.npz does not exist in" in str(report.errors[1])
    short = next(str(finding) for finding in report.errors if "line 11" in str(finding))
    assert "describes 3 frames of short.npz at 20 fps, which is too short: expected at least 4" in short


def test_other_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such folder"):
        check(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"has no motion files .* or the folders new_joint_vecs and texts"):
        check(tmp_path)
    (tmp_path / "new_joint_vecs").mkdir()
    report = check(tmp_path)
    assert report.layout == "unknown"
    assert ("error", "no motions", "new_joint_vecs") in found(report)
