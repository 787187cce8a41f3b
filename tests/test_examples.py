"""The scripts of `examples/` run as their first lines say."""

import json
import runpy
from pathlib import Path

import pytest

from lamp_hf.data import load_motion_dataset
from lamp_hf.motion.motion import Motion

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, walker: Motion, waver: Motion):
    """Runs a script's `main` in a folder with `my_mocap/` in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LAMP_HF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "my_mocap").mkdir()
    walker.save("my_mocap/walk.bvh")
    waver.save("my_mocap/wave.npz")
    return lambda name, *arguments: runpy.run_path(str(EXAMPLES / name))["main"](*arguments)


def test_text_to_motion(example) -> None:
    example("text_to_motion.py", "a person walks", "out")
    names = {path.name for path in Path("out").iterdir()}
    stems = ("take0", "take1", "take2", "edited", "scene")
    assert names == {f"{stem}{suffix}" for stem in stems for suffix in (".bvh", ".html")}
    assert Motion.load("out/scene.bvh").duration == pytest.approx(8.5, abs=0.1)


def test_motion_captioning_writes_a_table_that_loads(example) -> None:
    example("motion_captioning.py", "my_mocap")
    lines = [json.loads(line) for line in Path("my_mocap/metadata.jsonl").read_text().splitlines()]
    assert [line["file_name"] for line in lines] == ["walk.bvh", "wave.npz"]
    dataset = load_motion_dataset("my_mocap")["train"]
    assert sorted(row[0]["text"] for row in dataset["captions"]) == sorted(line["text"] for line in lines)
    with pytest.raises(SystemExit, match=r"metadata\.jsonl exists"):
        example("motion_captioning.py", "my_mocap")


def test_motion_retrieval(example, capsys: pytest.CaptureFixture[str]) -> None:
    example("motion_retrieval.py", "my_mocap", "a person walks")
    out = capsys.readouterr().out
    assert "'a person walks' in 2 motions:" in out
    assert "like " in out
