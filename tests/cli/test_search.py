"""`lamp-hf index` and `lamp-hf search`: readable tables, and errors that take one line."""

from pathlib import Path

import pytest

from lamp_hf.cli import main
from lamp_hf.retrieval import MotionIndex


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, procedural):
    """Runs a command in a folder with motion files, and returns exit code, output and errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LAMP_HF_CACHE", str(tmp_path / "cache"))
    (tmp_path / "mocap").mkdir()
    walk = procedural.walker(60, text="a person walks forward")
    walk.save("mocap/walk.npz")
    walk.save("mocap/walk_copy.bvh")
    procedural.waver(60).save("mocap/wave.bvh")

    def command(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return ended.value.code, captured.out, " ".join(captured.err.replace("│", " ").split())

    return command


def test_index_then_search(run, tiny_checkpoint: Path, tmp_path: Path, procedural) -> None:
    model = ("-m", tiny_checkpoint)
    code, out, _ = run("index", "mocap", "-o", "made", "--num-proc", 1, *model)
    assert (code, out) == (0, "made: 3 motions, 1 captions, tiny\n")
    code, out, _ = run("search", "the person walks", "made", *model)
    assert code == 0
    header, *lines = out.splitlines()
    assert header.split() == ["score", "file", "captions"]
    assert [line.split()[0] for line in lines] == ["1", "2", "3"]
    assert {line.split()[2] for line in lines} == {str(path) for path in (tmp_path / "mocap").iterdir()}
    procedural.walker(40, speed=0.4).save("mocap/slow.npz")
    code, out, _ = run("index", "mocap", "-o", "made", "--num-proc", 1, *model)
    assert (code, out) == (0, "made: 4 motions, 1 captions, tiny\n")
    _, out, _ = run("search", "the person walks", "made", "-k", 2, "--exact", "--rerank", 4, *model)
    assert len(out.splitlines()) == 3


def test_search_in_a_folder_by_example(run, tiny_checkpoint: Path, tmp_path: Path) -> None:
    model = ("-m", tiny_checkpoint, "--num-proc", 1)
    code, out, _ = run("search", "mocap/wave.bvh", "mocap", *model)
    assert code == 0
    found = {line.split()[2] for line in out.splitlines()[1:]}
    assert found == {str(tmp_path / "mocap" / name) for name in ("walk.npz", "walk_copy.bvh")}  # but not itself
    code, out, _ = run("search", "mocap/wave.bvh", "mocap", "--captions", *model)
    assert code == 0
    assert out.splitlines()[1].endswith("a person walks forward")
    assert len(list((tmp_path / "cache" / "indexes").iterdir())) == 1


def test_duplicates(run) -> None:
    code, out, _ = run("index", "mocap", "--duplicates", "--num-proc", 1)
    assert code == 0
    lines = [line.split()[:3] for line in out.splitlines()[2:]]
    assert [(group, Path(file).name) for group, _, file in lines] == [("1", "walk.npz"), ("1", "walk_copy.bvh")]
    _, out, _ = run("index", "mocap", "--duplicates", "--threshold", 1, "--num-proc", 1)
    assert out.splitlines()[-1] == "no near-duplicates"


def test_push(run, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pushed: list[tuple[str, int, object]] = []

    def push(index: MotionIndex, repo_id: str, **options: object) -> str:
        pushed.append((repo_id, len(index), options))
        return f"https://hub/{repo_id}"

    monkeypatch.setattr(MotionIndex, "push_to_hub", push)
    model = ("-m", tiny_checkpoint, "--num-proc", 1)
    code, out, _ = run("index", "mocap", "--push-to", "me/mocap", "--private", "--license", "mit", *model)
    assert code == 0
    assert pushed == [("me/mocap", 3, {"private": True, "license": "mit"})]
    assert out.splitlines()[-1] == "https://hub/me/mocap"


def test_errors(run, tiny_checkpoint: Path, tmp_path: Path) -> None:
    model = ("-m", tiny_checkpoint, "--num-proc", 1)
    run("index", "mocap", *model)
    for arguments, expected, message in [
        (
            ("search", "walks", "nowhere", *model),
            1,
            "nowhere: no such folder; expected a folder",
        ),
        (("search", "none.bvh", "mocap", *model), 1, "none.bvh: no such file"),
        (("index", "mocap", "--license", "mit", *model), 2, "--private and --license only apply with --push-to"),
        (("search", "walks", "mocap", "--captions", *model), 2, "--captions needs a motion file as query"),
        (("search", "mocap/wave.bvh", "mocap", "--rerank", 3, *model), 2, "cannot compare two motions"),
        (("index", "mocap", "--vectors", 2, *model), 1, "was made with vectors_per_motion=4, not 2"),
        (("index", "mocap", "--vectors", 5, "-o", "new", *model), 1, "vectors_per_motion=5: expected 1 to 4"),
        (("index", "cache/indexes", *model), 1, "no motion files (.bvh .npy .npz"),
    ]:
        code, _, err = run(*arguments)
        assert code == expected
        assert message in err
        assert "Traceback" not in err
    (tmp_path / "mocap" / "bad.bvh").write_text("nonsense")
    code, _, err = run("index", "mocap", *model)
    assert code == 1
    assert "1 clip cannot be read" in err
    code, out, _ = run("index", "mocap", "--skip-bad", *model)
    assert (code, out.split(": ")[1]) == (0, "3 motions, 1 captions, tiny\n")


def test_index_of_another_model_is_refused(run, tiny_checkpoint: Path) -> None:
    run("index", "mocap", "-o", "made", "--num-proc", 1, "-m", tiny_checkpoint)
    code, _, err = run("search", "walks", "made")
    assert code == 1
    assert "made: the index was made with tiny" in err
    assert "make a new index with `lamp-hf index`" in err


def test_prints_a_message_if_nothing_is_found(run, tiny_checkpoint: Path, tmp_path: Path, procedural) -> None:
    model = ("-m", tiny_checkpoint, "--num-proc", 1)
    (tmp_path / "one").mkdir()
    procedural.waver(40).save("one/wave.bvh")
    assert run("search", "one/wave.bvh", "one", *model)[:2] == (0, "nothing found: one has no other motions\n")
    code, out, err = run("search", "one/wave.bvh", "one", "--captions", *model)
    assert (code, out) == (1, "")
    assert "has no captions; add a metadata.jsonl to the folder" in err


def test_scores_have_the_same_scale(run, tiny_checkpoint: Path) -> None:
    model = ("-m", tiny_checkpoint, "--num-proc", 1)
    plain = run("search", "the person walks", "mocap", *model)[1].splitlines()
    ranked = run("search", "the person walks", "mocap", "--rerank", 9, *model)[1].splitlines()
    assert ranked[0].split() == ["score", "match", "file", "captions"]
    assert {(line.split()[3], line.split()[1]) for line in ranked[1:]} == {
        (line.split()[2], line.split()[1]) for line in plain[1:]
    }


@pytest.mark.parametrize("arguments", [("index", "mocap"), ("search", "walks", "mocap")])
def test_missing_extra_is_an_error_before_any_work(run, monkeypatch: pytest.MonkeyPatch, arguments) -> None:
    import sys

    import lamp_hf.cli.search

    monkeypatch.setitem(sys.modules, "faiss", None)
    monkeypatch.setattr(lamp_hf.cli.search, "_encoder", None)
    code, out, err = run(*arguments)
    assert (code, out) == (1, "")
    assert "motion index: FAISS is not installed; run pip install 'lamp_hf[retrieval]'" in err


def test_arguments_are_checked_before_the_model_is_loaded(run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import lamp_hf.cli.search

    monkeypatch.setattr(lamp_hf.cli.search, "_encoder", None)
    (tmp_path / "empty").mkdir()
    for arguments, message in [
        (("walks", "nowhere"), "nowhere: no such folder"),
        (("walks", "mocap/nowhere"), "mocap/nowhere: no such folder"),  # not a name on the Hub
        (("walks", "empty"), "empty has no motion files"),
        (("mocap/none.bvh", "mocap"), "mocap/none.bvh: no such file"),
    ]:
        code, _, err = run("search", *arguments)
        assert code == 1
        assert message in err
