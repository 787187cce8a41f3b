"""Terminal output: log lines with progress bars, and no details about many files."""

import io
import logging
import sys
from pathlib import Path

import pytest
from tqdm import tqdm

from lamp_hf.cli import main
from lamp_hf.motion.files import UNREAD
from lamp_hf.terminal import counted, logs_on_stderr, quiet_readers

logger = logging.getLogger("lamp_hf.motion.formats.bvh")


def test_log_lines_are_written_above_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(sys, "stderr", screen)
    with logs_on_stderr(), tqdm(total=2, file=screen, mininterval=0) as bar:
        bar.update()
        logger.warning("a.bvh: \x1b[2Jodd")
        bar.update()
    cleared = [part for part in screen.getvalue().split("\r") if "WARNING" in part]
    assert len(cleared) == 1
    assert cleared[0].startswith(r"WARNING: a.bvh: \x1b[2Jodd" + "\n")  # on a line of its own


def test_logging_is_restored_afterwards(capsys: pytest.CaptureFixture[str]) -> None:
    package, readers = logging.getLogger("lamp_hf"), logging.getLogger("lamp_hf.motion")
    before = package.handlers, package.level, readers.level
    with logs_on_stderr():
        logger.info("a.bvh: rig")
        quiet_readers()
        logger.info("b.bvh: rig")
        logger.warning("b.bvh: odd")
        logging.getLogger("lamp_hf.training").info("starts")
    assert capsys.readouterr().err.splitlines() == ["INFO: a.bvh: rig", "WARNING: b.bvh: odd", "INFO: starts"]
    assert (package.handlers, package.level, readers.level) == before


@pytest.mark.parametrize(("number", "expected"), [(0, "0 errors"), (1, "1 error"), (2000, "2,000 errors")])
def test_counted_adds_the_plural(number: int, expected: str) -> None:
    assert counted(number, "error") == expected


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LAMP_HF_CACHE", str(tmp_path / "cache"))

    def command(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return command


@pytest.fixture
def mocap(tmp_path: Path, procedural) -> Path:
    """Three files, one of which is read with a warning."""
    folder = tmp_path / "mocap"
    folder.mkdir()
    for name in ("a", "b", "c"):
        procedural.walker(40).save(folder / f"{name}.bvh")
    text = (folder / "c.bvh").read_text()
    (folder / "c.bvh").write_text(f"# made by a tool\n{text}")
    return folder


@pytest.mark.parametrize(
    "arguments",
    [
        ("caption", "mocap", "-m", "TINY"),
        ("search", "a person walks", "mocap", "-m", "TINY", "--num-proc", 1),
        ("index", "mocap", "-m", "TINY", "--num-proc", 1),
        ("data", "check", "mocap"),
        ("info", "mocap"),
        ("convert-motion", "mocap", "out", "--to", "npz"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_many_files_log_only_warnings(run, mocap: Path, tiny_checkpoint: Path, arguments: tuple[object, ...]) -> None:
    code, _, err = run(*(tiny_checkpoint if argument == "TINY" else argument for argument in arguments))
    assert code == 0, err
    assert "INFO: " not in err
    assert "WARNING: c.bvh line 1" in err
    assert "\r" not in err  # and no progress bar without a terminal


def test_single_file_logs_everything(run, mocap: Path, tiny_checkpoint: Path) -> None:
    for arguments in (["info", "mocap/a.bvh"], ["caption", "mocap/a.bvh", "-m", tiny_checkpoint]):
        code, _, err = run(*arguments)
        assert code == 0
        assert "INFO: a.bvh: rig lamp_hf, 40 frames at 20 fps, unit cm (legs 0." in err


@pytest.mark.parametrize("suffix", [".fbx", ".C3D"])
@pytest.mark.parametrize(
    "arguments",
    [
        ("caption", "other"),
        ("search", "a person walks", "other"),
        ("data", "check", "other"),
        ("info", "other"),
        ("convert-motion", "other", "out", "--to", "npz"),
    ],
    ids=lambda arguments: arguments[0] if isinstance(arguments, tuple) else arguments,
)
def test_folder_of_other_formats_explains_what_to_do(
    run, tmp_path: Path, suffix: str, arguments: tuple[object, ...]
) -> None:
    (tmp_path / "other" / "deep").mkdir(parents=True)
    (tmp_path / "other" / "deep" / f"take{suffix}").touch()
    code, _, err = run(*arguments)
    assert code == 1
    path = Path("other", "deep", f"take{suffix}")
    assert f"{suffix} files must be converted first: `lamp-hf info {path}` says how" in err
    code, _, err = run("info", path)
    assert code == 1
    assert f"{suffix.lower()} files cannot be read (" in err


def test_error_lists_the_supported_output_formats(run, walker) -> None:
    walker.save("walk.npz")
    assert {".fbx", ".usdz", ".pkl"} <= UNREAD
    code, _, err = run("convert-motion", "walk.npz", "walk.fbx")
    assert code == 1
    assert "(write .glb or .bvh, and convert it in Blender or your game engine)" in err


def test_list_items_are_separated_in_one_line(run, tmp_path: Path, tiny_checkpoint: Path) -> None:
    (tmp_path / "bad").mkdir()
    for name in ("a", "b"):
        (tmp_path / "bad" / f"{name}.bvh").write_text("HIERARCHY\nnothing\n")
    code, _, err = run("index", "bad", "-m", tiny_checkpoint, "--num-proc", 1)
    assert code == 1
    assert "2 clips cannot be read; skip them with skip_bad=True" in err
    assert "data.skip_bad=true in a recipe): a.bvh line 2: expected ROOT, found 'nothing'; b.bvh line 2:" in err
    assert "skipped" not in err  # nothing was restored
