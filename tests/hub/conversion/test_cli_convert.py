"""`lamp-hf convert`: the table of converted files, and errors that name the file."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from lamp_hf.cli import main

SETTINGS = ("--set", "lamp.num_attention_heads=4", "--set", "captioning.num_attention_heads=4")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tokenizers: SimpleNamespace):
    """Runs the command, and returns its exit code, output and errors."""
    monkeypatch.setenv("COLUMNS", "120")

    def command(*arguments: object) -> tuple[int, str, str]:
        named = ("--text-tokenizer", tokenizers.bert, "--language-model-tokenizer", tokenizers.opt)
        with pytest.raises(SystemExit) as ended:
            main(["convert", *map(str, arguments), *named])
        captured = capsys.readouterr()
        return ended.value.code, captured.out, captured.err

    return command


def test_converts_a_folder(run, originals: Path, tmp_path: Path) -> None:
    code, out, err = run(originals, tmp_path / "out", *SETTINGS)
    assert code == 0, err
    assert "No license was given" in err
    rows = {row[0]: row for row in (re.findall(r"[^│\s]+", line) for line in out.splitlines() if "│" in line) if row}
    assert rows["text-to-motion"][1:3] == [".", "t2m.tar"]
    assert rows["captioning"][1:3] == ["captioning", "m2t.pth"]
    assert rows["evaluator"][-2:] == ["42", "0"]
    assert rows["length-estimator"][-3:] == ["923", "14", "0"]
    assert "text-to-motion.num_attention_heads=4 (opt.txt)" in out
    assert f"statistics from {originals / 't2m' / 'vq' / 'meta' / 'mean.npy'} and std.npy" in out
    code, out, err = run(originals, tmp_path / "out", *SETTINGS)
    assert (code, out) == (1, "")
    assert "out: is not empty; choose another folder, or set overwrite=True (--overwrite)" in err
    assert run(originals, tmp_path / "out", *SETTINGS, "--overwrite", "--kind", "lamp")[0] == 0
    assert not (tmp_path / "out" / "captioning").exists()


def test_errors_take_one_line(run, originals: Path, tmp_path: Path) -> None:
    file = originals / "t2m" / "vq" / "model" / "vq.tar"
    code, out, err = run(file, tmp_path / "out", "--kind", "lamp")
    assert (code, out) == (1, "")
    assert f"Error: {file}: no lamp checkpoint found, only motion-vqvae" in err
    assert "Traceback" not in err
    assert not (tmp_path / "out").exists()
    code, _, err = run(file, tmp_path / "out", "--set", "lamp.num_attention_heads")
    assert code == 2
    assert "--set expects NAME=NUMBER" in " ".join(err.replace("│", " ").split())


def test_converted_model_requires_a_duration(run, originals: Path, tmp_path: Path, capsys) -> None:
    home = originals / "t2m"
    parts = ("--lamp", home / "qformer/model/qformer.tar", "--motion-vqvae", home / "vq/model/vq.tar")
    code, out, err = run(home / "mtrans/model/t2m.tar", tmp_path / "out", *SETTINGS, *parts)
    assert code == 0, err
    assert all(name in out for name in ("t2m.tar", "qformer.tar", "vq.tar"))
    with pytest.raises(SystemExit) as ended:
        main(["generate", "a person walks", "-o", str(tmp_path / "walk.bvh"), "-m", str(tmp_path / "out")])
    assert ended.value.code == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "no length estimator; give duration or num_frames (on the command line --duration)" in said
