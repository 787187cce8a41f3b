"""`lamp-hf caption`: writes captions for files and folders, and errors take one line."""

import json
from pathlib import Path

import pytest

from lamp_hf.cli import main


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, procedural):
    """Runs a command in a folder with motion files, and returns exit code, output and errors."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mocap").mkdir()
    procedural.walker(60).save("mocap/walk.npz")
    procedural.waver(280).save("mocap/wave.bvh")

    def command(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return ended.value.code, captured.out, " ".join(captured.err.replace("│", " ").split())

    return command


def test_prints_a_line_per_caption_and_window(run, tiny_checkpoint: Path) -> None:
    code, out, _ = run("caption", "mocap", "-m", tiny_checkpoint, "--num", 2)
    lines = out.splitlines()
    assert code == 0
    assert [line.split(": ")[0] for line in lines] == [
        *["mocap/walk.npz"] * 2,
        *["mocap/wave.bvh 0.0-7.0 s"] * 2,
        *["mocap/wave.bvh 7.0-13.9 s"] * 2,
    ]
    assert all(line.endswith(")") for line in lines)


def test_json(run, tiny_checkpoint: Path) -> None:
    code, out, _ = run("caption", "mocap/walk.npz", "mocap/wave.bvh", "-m", tiny_checkpoint, "--json", "--window", 100)
    first, second = map(json.loads, out.splitlines())
    assert code == 0
    assert [first["file"], second["file"]] == ["mocap/walk.npz", "mocap/wave.bvh"]
    assert first["captions"][0].keys() == {"caption", "score", "start", "end"}


def test_captions_readable_files_and_names_the_others(run, tiny_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "mocap" / "broken.bvh").write_text("HIERARCHY")
    code, out, err = run("caption", "mocap", "-m", tiny_checkpoint)
    assert code != 0
    assert "mocap/walk.npz: " in out
    assert "1 of 3 files could not be captioned: mocap/broken.bvh line 2: expected a joint" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.bvh"], "nowhere.bvh: no such file"),
        (["empty"], "empty has no motion files (.bvh"),
        (["mocap", "-m", "nobody/nothing"], "nobody/nothing"),
        (["mocap", "--num", "0"], "--num"),
    ],
)
def test_errors_take_one_line(run, tmp_path: Path, arguments: list[str], message: str) -> None:
    (tmp_path / "empty").mkdir()
    code, out, err = run("caption", *arguments)
    assert code != 0
    assert not out
    assert message in err
    assert "Traceback" not in err
