"""Folders with unreadable files of all kinds: each is named with the reason, and the others are processed."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lamp_hf.cli import main
from lamp_hf.data import load_motionfolder
from lamp_hf.motion.errors import MotionFormatError
from lamp_hf.motion.inputs import as_motion, failure, find_motion_files
from lamp_hf.motion.motion import Motion
from lamp_hf.terminal import shown, shown_json

GOOD = ["deep/wave.npz", "walk.bvh"]
# The message about each file, without its path.
BAD = {
    "b.bvh": "is a folder, not a motion file",
    "gone.bvh": "links to nowhere.bvh, which does not exist",
    "loop.npy": "cannot be opened",
    "pipe.bvh": "is a pipe or a device, not a motion file",
    "zero.npy": "is a pipe or a device, not a motion file",
    "short.npy": "",
    "broken.npz": "",
    "empty.bvh": "",
    "deep/cut.bvh": "",
}


@pytest.fixture
def folder(tmp_path: Path, procedural, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two good files among many bad ones and some hidden ones."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LAMP_HF_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "mocap"
    (root / "deep").mkdir(parents=True)
    (root / "b.bvh").mkdir()
    procedural.walker(40).save(root / "walk.bvh")
    procedural.waver(40).save(root / "deep" / "wave.npz")
    (root / "gone.bvh").symlink_to("nowhere.bvh")
    (root / "loop.npy").symlink_to("loop.npy")
    os.mkfifo(root / "pipe.bvh")
    (root / "zero.npy").symlink_to("/dev/zero")
    np.save(root / "short.npy", procedural.walker(40).joints[:1])
    (root / "broken.npz").write_bytes((root / "deep" / "wave.npz").read_bytes()[:300])
    (root / "empty.bvh").write_bytes(b"")
    text = (root / "walk.bvh").read_text()
    (root / "deep" / "cut.bvh").write_text(text[:300])
    for hidden in ("._walk.bvh", ".trash/walk.bvh"):
        (root / hidden).parent.mkdir(exist_ok=True)
        (root / hidden).write_bytes(b"\0\5\26\7")
    return root


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, folder: Path):
    """Runs a command and returns exit code, output and errors."""
    monkeypatch.setenv("COLUMNS", "400")

    def command(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return ended.value.code, captured.out, captured.err

    return command


def assert_all_named(printed: str, prefix: str = "", but: str = "") -> None:
    for name, reason in BAD.items():
        if name == but:
            continue
        [line] = [line for line in printed.replace("; mocap", "\nmocap").splitlines() if f"{prefix}{name}" in line]
        assert reason in line
    assert "._walk" not in printed
    assert ".trash" not in printed


def test_finds_motion_files(folder: Path) -> None:
    files, problems = find_motion_files(folder)
    assert [
        path.relative_to(folder).as_posix() for path in files if path.relative_to(folder).as_posix() in GOOD
    ] == GOOD
    opened = {name for name, reason in BAD.items() if reason}
    assert {path.relative_to(folder).as_posix() for path in problems} == opened
    assert all(reason.startswith(BAD[path.relative_to(folder).as_posix()]) for path, reason in problems.items())


def test_convert_motion(run, folder: Path, tmp_path: Path) -> None:
    code, out, err = run("convert-motion", "mocap", "out", "--to", "npy")
    assert code == 1
    assert f"3 of {2 + len(BAD)} files converted to out" in out  # a single frame is enough for this
    assert_all_named(err, "mocap/", but="short.npy")
    written = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.npy"))
    assert written == ["deep/wave.npy", "short.npy", "walk.npy"]


def test_caption(run, folder: Path, tiny_checkpoint: Path) -> None:
    code, out, err = run("caption", "mocap", "-m", tiny_checkpoint)
    assert code == 1
    assert [line.split(": ")[0] for line in out.splitlines()] == [f"mocap/{name}" for name in GOOD]
    assert f"{len(BAD)} of {2 + len(BAD)} files could not be captioned" in err
    assert_all_named(err, "mocap/")


def test_search_and_index(run, folder: Path, tiny_checkpoint: Path) -> None:
    model = ("-m", tiny_checkpoint, "--num-proc", 1)
    code, out, err = run("search", "a person walks", "mocap", *model)
    assert code == 0
    assert {line.split()[2] for line in out.splitlines()[1:]} == {str(folder / name) for name in GOOD}
    assert_all_named(err, "skipped: ")
    code, out, err = run("index", "mocap", "-o", "made", *model)
    assert code == 1
    assert f"{len(BAD)} clips cannot be read" in err
    code, out, err = run("index", "mocap", "-o", "made", "--skip-bad", *model)
    assert (code, out.split(", ")[0]) == (0, "made: 2 motions")
    assert_all_named(err, "skipped: ")
    code, out, _ = run("info", "made")
    assert code == 0
    assert "motions           2\n" in out


def test_finds_gltf_files(run, folder: Path, procedural, tiny_checkpoint: Path, tmp_path: Path) -> None:
    """A folder of GLB, VRMA and VRM files, one of them damaged, with every command that reads folders."""
    figures = tmp_path / "figures"
    figures.mkdir()
    good = ("a.glb", "b.vrma", "c.vrm")
    for name, make in zip(good, (procedural.walker, procedural.waver, procedural.walker), strict=True):
        make(40).save(figures / "made.glb")
        (figures / "made.glb").rename(figures / name)
    (figures / "bad.glb").write_bytes((figures / "a.glb").read_bytes()[:600])
    model = ("-m", tiny_checkpoint, "--num-proc", 1)
    code, out, err = run("convert-motion", "figures", "out", "--to", "bvh")
    assert (code, "3 of 4 files converted to out" in out, "figures/bad.glb: not a readable glTF file" in err) == (
        1,
        True,
        True,
    )
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.bvh", "b.bvh", "c.bvh"]
    code, out, err = run("caption", "figures", "-m", tiny_checkpoint)
    assert [line.split(": ")[0] for line in out.splitlines()] == [f"figures/{name}" for name in good]
    assert (code, "1 of 4 files could not be captioned: figures/bad.glb" in err) == (1, True)
    code, out, err = run("search", "a person walks", "figures", *model)
    assert {line.split()[2] for line in out.splitlines()[1:]} == {str(figures / name) for name in good}
    assert (code, "skipped: bad.glb" in err) == (0, True)
    code, out, _ = run("index", "figures", "-o", "made", "--skip-bad", *model)
    assert (code, out.split(", ")[0]) == (0, "made: 3 motions")
    code, out, _ = run("data", "check", "figures", "--all")
    assert (code, "bad.glb" in out, "a.glb" in out.split("bad.glb")[-1]) == (1, True, False)
    code, out, _ = run("info", "figures/b.vrma")
    assert (code, "40" in out) == (0, True)


def test_folder_with_only_unreadable_files(run, folder: Path, tiny_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "gone.bvh").symlink_to("nowhere.bvh")
    model = ("-m", tiny_checkpoint, "--num-proc", 1)
    code, out, err = run("search", "a person walks", "bad", *model)
    assert (code, out) == (0, "nothing found: bad has no other motions\n")
    assert "skipped: gone.bvh: links to nowhere.bvh" in err
    code, _, err = run("caption", "bad", "-m", tiny_checkpoint)
    assert code == 1
    assert "1 of 1 files could not be captioned: bad/gone.bvh: links to nowhere.bvh, which does not exist" in err


def test_data_check_and_info_accept_folders(run, folder: Path) -> None:
    code, out, _ = run("data", "check", "mocap", "--all")
    assert code == 1
    assert_all_named(out, "  ")
    code, out, _ = run("info", "mocap")
    assert code == 0
    assert "motions            2\n" in out
    assert f"{len(BAD)} errors, 1 warning: `lamp-hf data check mocap` lists them" in out


def test_folder_with_a_table(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    names = [*GOOD, *BAD, "missing.bvh"]
    (folder / "metadata.jsonl").write_text("\n".join(json.dumps({"file_name": n, "text": "a walk"}) for n in names))
    with pytest.raises(MotionFormatError, match=f"{len(BAD) + 1} clips cannot be read") as caught:
        load_motionfolder(folder, num_proc=1)
    assert_all_named(str(caught.value))
    assert "missing.bvh does not exist in" in str(caught.value)
    caplog.clear()
    rows = load_motionfolder(folder, num_proc=1, skip_bad=True)["train"]
    assert sorted(rows["id"]) == GOOD
    assert_all_named(caplog.text)


def test_any_exception_of_a_file_is_reported(run, folder: Path, tiny_checkpoint: Path, monkeypatch) -> None:
    errors = iter([KeyError("x"), MemoryError(), RecursionError("deep"), AssertionError(), RuntimeError("odd")] * 9)
    load = Motion.load.__func__

    def failing(cls, path, **options):
        if Path(path).name == "empty.bvh":
            raise next(errors)
        return load(cls, path, **options)

    monkeypatch.setattr(Motion, "load", classmethod(failing))
    for _ in range(5):
        for arguments in (
            ("caption", "mocap", "-m", tiny_checkpoint),
            ("convert-motion", "mocap", "out", "--to", "npy"),
            ("data", "check", "mocap", "--all"),
            ("search", "x", "mocap", "--num-proc", 1, "-m", tiny_checkpoint),
        ):
            _, out, err = run(*arguments)
            assert "empty.bvh: " in out + err
            assert "walk" in out or "3 of" in out or "motions" in out


def test_original_files_are_never_overwritten(run, folder: Path, procedural, tmp_path: Path) -> None:
    for path in find_motion_files(folder).problems:
        path.rmdir() if path.is_dir() else path.unlink()
    for name in ("short.npy", "broken.npz", "empty.bvh", "deep/cut.bvh"):
        (folder / name).unlink()
    before = {path: path.read_bytes() for path in find_motion_files(folder).files}
    for destination in ("mocap", "mocap/../mocap", str(folder)):
        code, _, err = run("convert-motion", "mocap", destination, "--to", "bvh")
        assert code == 1
        assert "walk.bvh would overwrite the original mocap/walk.bvh: choose another destination" in err
    (tmp_path / "same").symlink_to(folder)
    assert run("convert-motion", "mocap", "same", "--to", "bvh")[0] == 1
    assert run("convert-motion", "mocap/walk.bvh", "same/walk.bvh")[0] == 1
    procedural.walker(40).save(folder / "walk.npz")
    before[folder / "walk.npz"] = (folder / "walk.npz").read_bytes()
    code, _, err = run("convert-motion", "mocap", "out", "--to", "npy")
    assert code == 1
    assert "mocap/walk.bvh and mocap/walk.npz would both become out/walk.npy" in err
    assert not (tmp_path / "out").exists()
    assert {path: path.read_bytes() for path in find_motion_files(folder).files} == before
    assert run("convert-motion", "mocap", "mocap", "--to", "glb")[0] == 1  # both would be walk.glb
    (folder / "walk.npz").unlink()
    assert run("convert-motion", "mocap", "mocap", "--to", "glb")[0] == 0  # a folder next to them is also possible


def test_file_names_that_are_not_text(run, folder: Path, tiny_checkpoint: Path) -> None:
    name = os.fsdecode(b"walk\xff.bvh")
    try:
        (folder / name).write_bytes((folder / "walk.bvh").read_bytes())
    except OSError:
        pytest.skip("this file system has no such names")
    reason = "walk\\udcff.bvh: its name is not valid UTF-8; rename it"
    for arguments in (
        ("caption", "mocap", "-m", tiny_checkpoint),
        ("convert-motion", "mocap", "out", "--to", "npy"),
        ("data", "check", "mocap", "--all"),
        ("index", "mocap", "--skip-bad", "--num-proc", 1, "-m", tiny_checkpoint),
    ):
        _, out, err = run(*arguments)
        assert reason in out + err


@pytest.mark.parametrize("text", ["\x1b[2J\x1b]0;owned\x07", "a\rb", "\x9b31m", "‮dlrow", "tab\tand\nline"])
def test_terminal_escapes_are_escaped(run, folder: Path, tiny_checkpoint: Path, text: str) -> None:
    name = f"walk{text}.bvh".replace("\n", "")
    (folder / name).write_bytes((folder / "walk.bvh").read_bytes())
    (folder / f"bad{text}.bvh".replace("\n", "")).write_text("nonsense")
    lines = [{"file_name": name, "text": f"a person {text} walks"}]
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    model = ("-m", tiny_checkpoint)
    progress = re.compile("\r|\x1b\\[1?A(\x1b\\[2K)?")  # output of the progress bars
    for arguments in (
        ("caption", "mocap", *model),
        ("caption", "mocap", "--json", *model),
        ("search", "walks", "mocap", "--num-proc", 1, *model),
        ("search", "mocap/walk.bvh", "mocap", "--captions", "--num-proc", 1, *model),
        ("convert-motion", "mocap", "out", "--to", "npy"),
        ("data", "check", "mocap", "--all"),
        ("info", f"mocap/{name}"),
    ):
        _, out, err = run(*arguments)
        for harmful in "\x1b\x07\x9b\r‮":
            assert harmful not in out
            assert harmful not in progress.sub("", err)
    captions = [json.loads(line)["file"] for line in run("caption", "mocap", "--json", *model)[1].splitlines()]
    assert f"mocap/{name}" in captions  # its displayed name


def test_shown() -> None:
    assert shown("a\x1b[2Jb\n") == "a\\x1b[2Jb\\x0a"
    assert shown("a\tb\nc\x07", lines=True) == "a\tb\nc\\x07"
    assert shown("日本語 é") == "日本語 é"
    assert json.loads(shown_json(json.dumps({"a": "\x9b‮\x7f日"}, ensure_ascii=False))) == {"a": "\x9b‮\x7f日"}


def test_failures_begin_with_the_path() -> None:
    assert failure("in/a.bvh", MotionFormatError("a.bvh line 3: odd")) == "in/a.bvh line 3: odd"
    assert failure("in/a.bvh", MotionFormatError("in/a.bvh: odd")) == "in/a.bvh: odd"
    assert failure("in/a.bvh", MotionFormatError("expected\n joints")) == "in/a.bvh: expected joints"
    assert failure("in/a.bvh", PermissionError(13, "Permission denied", "in/a.bvh")) == "in/a.bvh: Permission denied"
    assert failure("in/a.bvh", KeyError("x")) == "in/a.bvh: KeyError: 'x'"


def test_as_motion(tmp_path: Path, walker: Motion) -> None:
    import torch

    walker.save(tmp_path / "walk.npz")
    assert as_motion(walker) is walker
    for path in (tmp_path / "walk.npz", str(tmp_path / "walk.npz")):
        np.testing.assert_array_equal(as_motion(path).joints, walker.joints)
        assert as_motion(path, fps=40).fps == 40
    for array in (walker.joints, torch.from_numpy(walker.joints.copy()), walker.joints.tolist()):
        assert np.array_equal(as_motion(array, fps=25).joints, walker.joints)
        assert as_motion(array, fps=25).fps == 25
    assert as_motion(walker.features).fps == 20
    with pytest.raises(ValueError, match="fps: these options are for files and arrays, not for a Motion"):
        as_motion(walker, fps=30)
    with pytest.raises(TypeError, match="int: not a motion"):
        as_motion(5)
    with pytest.raises(OSError, match="is a folder, not a motion file"):
        as_motion(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no\.bvh: no such file"):
        as_motion(tmp_path / "no.bvh")


def test_dangling_link(run, shared_dir: Path, tmp_path: Path, tiny_checkpoint: Path) -> None:
    case = shared_dir / "cases" / "motion_files" / "folder_with_dangling_link"
    if not case.is_dir():
        pytest.skip(f"needs the case {case}, which is not there")
    (tmp_path / "case").mkdir()
    (tmp_path / "case" / "walk.bvh").write_bytes((case / "walk.bvh").read_bytes())
    (tmp_path / "case" / "take.bvh").symlink_to("/mnt/nowhere/take.bvh")
    model = ("--num-proc", 1, "-m", tiny_checkpoint)
    for arguments in (("search", "a person walks", "case", *model), ("index", "case", "--skip-bad", *model)):
        code, out, err = run(*arguments)
        assert code == 0
        assert "walk.bvh" in out or "1 motions" in out
        assert "skipped: take.bvh: links to /mnt/nowhere/take.bvh, which does not exist" in err


def test_pipe_does_not_hang_a_command(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lamp_hf", "convert-motion", "mocap/pipe.bvh", "x.npy"],
        cwd=folder.parent,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert "pipe.bvh: is a pipe or a device" in done.stderr
