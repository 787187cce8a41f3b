"""`--mapping`, `--source-fps`, `--unit` and `--up-axis`: they work the same in every command that reads motions."""

import json
from pathlib import Path

import numpy as np
import pytest

from lamp_hf.cli import main
from lamp_hf.motion.motion import Motion

COMMANDS = ["caption", "caption folder", "search", "index", "info", "info folder", "generate", "convert-motion"]
COMMANDS += ["convert-motion folder", "data check"]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_checkpoint: Path):
    """Runs one of `COMMANDS` on the file `takes/take.bvh` and returns the exit code and the output."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LAMP_HF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "400")
    (tmp_path / "takes").mkdir()
    model = ["-m", str(tiny_checkpoint)]
    edit = ["--edit", "0.5:1", "-o", "made.npz", *model]
    arguments = {
        "caption": ["caption", "takes/take.bvh", *model],
        "caption folder": ["caption", "takes", *model],
        "search": ["search", "takes/take.bvh", "takes", "--num-proc", "1", *model],
        "index": ["index", "takes", "--num-proc", "1", *model],
        "info": ["info", "takes/take.bvh"],
        "info folder": ["info", "takes"],
        "generate": ["generate", "a person waves", "--motion", "takes/take.bvh", *edit],
        "convert-motion": ["convert-motion", "takes/take.bvh", "made.npz"],
        "convert-motion folder": ["convert-motion", "takes", "made", "--to", "npz"],
        "data check": ["data", "check", "takes"],
    }

    def command(name: str, *options: object) -> tuple[int, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([*arguments[name], *map(str, options)])
        captured = capsys.readouterr()
        return ended.value.code, " ".join((captured.out + captured.err).replace("│", " ").split())

    return command


@pytest.fixture
def take(tmp_path: Path, walker: Motion, run) -> Path:
    """A BVH file of three seconds of walking."""
    path = tmp_path / "takes" / "take.bvh"
    walker.save(path)
    return path


@pytest.mark.parametrize("command", COMMANDS)
def test_mapping_reaches_the_reader(run, take: Path, tmp_path: Path, command: str) -> None:
    (tmp_path / "mapping.json").write_text(json.dumps({"left_ankle": "Talon"}))
    code, printed = run(command, "--mapping", "mapping.json")
    if command == "info folder":
        assert "motions 0" in printed
    else:
        assert code == 1
        assert "Talon" in printed  # the file does not have this joint
    take.write_text(take.read_text().replace("LeftFoot", "Talon"))
    assert run(command, "--mapping", "mapping.json")[0] == 0


@pytest.mark.parametrize("command", COMMANDS)
def test_invalid_mapping_is_refused_before_any_work(run, take: Path, tmp_path: Path, command: str) -> None:
    for content, message in [("{", "is not valid JSON"), ("[1]", "expected a JSON object such as")]:
        (tmp_path / "mapping.json").write_text(content)
        code, printed = run(command, "--mapping", "mapping.json")
        assert code == 2
        assert message in printed


@pytest.mark.parametrize("command", COMMANDS)
def test_source_fps_reaches_the_reader(run, take: Path, tmp_path: Path, command: str) -> None:
    text = take.read_text()
    take.write_text(text.replace("Frame Time: 0.05", "Frame Time: 0.1"))
    assert take.read_text() != text
    code, printed = run(command, "--source-fps", 60)
    assert code == 0
    if command == "info":
        assert "60 frames, 1.00 s at 60 fps" in printed
    if command in ("info folder", "data check"):
        assert "frames per second 60" in " ".join(printed.replace("│", " ").split())
    if command == "convert-motion":
        assert Motion.load(tmp_path / "made.npz").fps == 60
    if command == "convert-motion folder":
        assert Motion.load(tmp_path / "made" / "take.npz").fps == 60
    if command == "generate":
        assert Motion.load(tmp_path / "made.npz").num_frames <= 20


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("option", [("--unit", "ell"), ("--up-axis", "w"), ("--source-fps", "-1")])
def test_invalid_values_are_refused_before_any_work(run, take: Path, command: str, option: tuple[str, str]) -> None:
    code, printed = run(command, *option)
    assert code == 2
    assert f"{option[0]} expects" in printed


@pytest.mark.parametrize("command", [name for name in COMMANDS if "folder" not in name])
def test_unit_and_up_axis_reach_the_reader(run, take: Path, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict] = []
    load = Motion.load.__func__

    def noting(cls, path, **options):
        asked.append(options)
        return load(cls, path, **{name: value for name, value in options.items() if name == "up_axis"})

    monkeypatch.setattr(Motion, "load", classmethod(noting))
    run(command, "--unit", "mm", "--up-axis", "y")
    assert asked
    assert all(options == {"unit": "mm", "up_axis": "y"} for options in asked)


def test_reading_options_are_refused_for_an_index(run, take: Path, tiny_checkpoint: Path, capsys) -> None:
    model = ["-m", str(tiny_checkpoint)]
    with pytest.raises(SystemExit):
        main(["index", "takes", "-o", "made", "--num-proc", "1", *model])
    with pytest.raises(SystemExit) as ended:
        main(["search", "a person walks", "made", "--unit", "cm", *model])
    assert ended.value.code == 2
    assert "only apply to motion files" in capsys.readouterr().err


def test_other_reading_options_give_another_index(run, take: Path, tmp_path: Path) -> None:
    run("index")
    run("index", "--source-fps", 40)
    assert len(list((tmp_path / "cache" / "indexes").iterdir())) == 2
    lengths = {np.load(path).shape[1] for path in (tmp_path / "cache" / "clips").rglob("*.npy")}
    assert len(lengths) == 2
