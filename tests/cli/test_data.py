"""`lamp-hf data check`: a summary, findings that name files, and the exit status."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from lamp_hf.cli import main


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]):
    """Runs the check, and returns exit code, output and errors."""

    def command(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(["data", "check", *map(str, arguments)])
        captured = capsys.readouterr()
        return ended.value.code, captured.out, captured.err

    return command


def test_data_set_without_problems(run, tmp_path: Path, field_sets: SimpleNamespace) -> None:
    code, out, _ = run(field_sets.make(tmp_path / "set", "humanml3d"))
    assert code == 0
    assert f"{tmp_path / 'set'}: humanml3d" in out
    assert "12 listed, 12 used" in out
    assert out.endswith("0 errors, 0 warnings\n")


def test_findings_are_listed_by_kind(run, tmp_path: Path, field_sets: SimpleNamespace) -> None:
    root = field_sets.make(tmp_path / "set", "kit-ml")
    for number in range(7):
        (root / "texts" / f"{number:06d}.txt").write_text("no times\n")
    (root / "Mean.npy").unlink()
    code, out, _ = run(root)
    assert code == 1
    lines = out.splitlines()
    start = lines.index("error: bad captions (7)")
    assert lines[start + 1].startswith("  texts/000000.txt: line 1: expected caption#tokens#start#end, found 1 parts")
    assert lines[start + 6] == "  and 2 more (--all lists them)"
    assert lines[start + 7] == "warning: missing statistics (1)"
    assert lines[-1] == "7 errors, 1 warning"
    code, out, _ = run(root, "--all")
    assert code == 1
    assert sum(line.startswith("  texts/") for line in out.splitlines()) == 7


def test_folder_that_is_not_a_data_set(run, tmp_path: Path) -> None:
    code, out, err = run(tmp_path)
    assert (code, out) == (1, "")
    assert "has no motion files (.bvh" in err


def test_folder_without_captions(run, tmp_path: Path, procedural) -> None:
    procedural.walker(40).save(tmp_path / "walk.bvh")
    procedural.walker(40, fps=30).save(tmp_path / "fast.npz")
    (tmp_path / "bad.bvh").write_text("nonsense")
    (tmp_path / "gone.npy").symlink_to("nowhere.npy")
    code, out, _ = run(tmp_path)
    assert code == 1
    lines = out.splitlines()
    assert lines[0] == f"{tmp_path}: motions"
    start = lines.index("error: unreadable motion (2)")
    assert lines[start + 1].startswith("  bad.bvh: ")
    assert lines[start + 2] == "  gone.npy: links to nowhere.npy, which does not exist"
    assert any(line.startswith("  metadata.jsonl: no such file; training needs a line for each") for line in lines)
    assert lines[-1] == "2 errors, 2 warnings"
    for name in ("bad.bvh", "gone.npy"):
        (tmp_path / name).unlink()
    assert run(tmp_path)[0] == 0
