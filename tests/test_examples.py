"""The scripts of `examples/` run as their docstrings say; some use the results of others."""

import json
import re
import runpy
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from lamp_hf.data import load_motion_dataset
from lamp_hf.motion.motion import Motion
from lamp_hf.training.fine_tuning import scores, tune

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
SCRIPTS = sorted(path.stem for path in EXAMPLES.glob("[!_]*.py"))


@pytest.fixture
def example(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    walker: Motion,
    waver: Motion,
):
    """Runs a script with the arguments of a command line, in a folder with `my_mocap/` in it.

    It returns the output of the script or, with `fails`, its error message.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LAMP_HF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.syspath_prepend(EXAMPLES)  # like Python for a script
    (tmp_path / "my_mocap").mkdir()
    walker.save("my_mocap/walk.bvh")
    waver.save("my_mocap/wave.npz")

    def run(name: str, *arguments: str, fails: bool = False) -> str:
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        printed = capsys.readouterr()
        if fails:
            assert isinstance(end.value.code, str), printed.err
            return end.value.code
        assert not end.value.code, printed.err
        return printed.out

    return run


def write_table(**contents: str) -> None:
    """Write `my_mocap/metadata.jsonl`, with captions by file name."""
    rows = [{"file_name": name, "text": f"the person {what}s", "content": what} for name, what in contents.items()]
    Path("my_mocap/metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_every_script_documents_its_usage(example) -> None:
    assert "fine_tuning" in SCRIPTS
    for name in SCRIPTS:
        assert f"test_{name}" in globals(), f"{name}.py has no test here"
        called = re.search(r"^    python examples/(\S+)", (EXAMPLES / f"{name}.py").read_text(), re.MULTILINE)
        assert called, name
        assert called[1] == f"{name}.py"
        assert "Usage:" in example(f"{name}.py", "--help")


@pytest.mark.parametrize(
    ("script", "arguments", "says"),
    [
        ("conversion", ["nowhere", "converted"], "nowhere"),
        ("evaluation", ["nowhere"], "nowhere: no such dataset"),
        ("fine_tuning", ["nowhere", "my-model"], "nowhere: no such dataset"),
        ("motion_captioning", ["nowhere"], "nowhere: expected a folder with motion files (.bvh"),
        ("motion_editing", ["nowhere.bvh", "a person waves", "1.0", "2.0"], "nowhere.bvh"),
        ("motion_retrieval", ["nowhere", "a person waves"], "nowhere"),
        ("storyboard", ["scene.bvh", "walk"], "'walk' is not a scene"),
        ("text_to_motion", ["a person walks", "-o", "my_mocap/walk.bvh"], "my_mocap/walk.bvh"),
    ],
)
def test_mistakes_take_one_line(example, script: str, arguments: list[str], says: str) -> None:
    message = example(f"{script}.py", *arguments, fails=True)
    assert message.startswith("Error: ")
    assert says in message
    assert "\n" not in message


def test_text_to_motion(example) -> None:
    out = example("text_to_motion.py", "a person walks", "a person bows", "--takes", "2", "--seed", "5")
    stems = ("a-person-walks-5", "a-person-walks-6", "a-person-bows-5", "a-person-bows-6")
    assert {path.name for path in Path("takes").iterdir()} == {f"{s}{end}" for s in stems for end in (".bvh", ".html")}
    assert all(stem in out for stem in stems)
    assert not (
        Motion.load(f"takes/{stems[0]}.bvh").joints[:8] == Motion.load(f"takes/{stems[1]}.bvh").joints[:8]
    ).all()


def test_motion_editing(example, walker: Motion) -> None:
    out = example("motion_editing.py", "my_mocap/walk.bvh", "a person waves", "1.0", "2.0", "--seed", "1")
    # Of 59 steps between frames, those that end within the second are regenerated, in whole tokens of four.
    assert "of 59 frames are kept bit for bit" in out
    kept = int(out.split(" of 59")[0])
    assert 30 <= kept < 45
    assert Path("edited.png").stat().st_size > 1000
    assert Motion.load("edited.bvh").num_frames == walker.num_frames


def test_storyboard(example) -> None:
    out = example("storyboard.py", "scene.bvh", "1.0 a person walks", "2.0 the person bows", "--seed", "1")
    assert "1.0 to  3.0 s  the person bows" in out
    assert Motion.load("scene.bvh").duration == pytest.approx(3.0, abs=0.1)


def test_motion_captioning(example) -> None:
    example("motion_captioning.py", "my_mocap")
    lines = [json.loads(line) for line in Path("my_mocap/metadata.jsonl").read_text().splitlines()]
    assert [line["file_name"] for line in lines] == ["walk.bvh", "wave.npz"]
    dataset = load_motion_dataset("my_mocap")["train"]
    assert sorted(row[0]["text"] for row in dataset["captions"]) == sorted(line["text"] for line in lines)
    assert "metadata.jsonl exists" in example("motion_captioning.py", "my_mocap", fails=True)


def test_rerun_motion(example) -> None:
    pytest.importorskip("rerun", reason="needs the Rerun SDK: pip install rerun-sdk")
    out = example("rerun_motion.py", "my_mocap", "-o", "mocap.rrd")
    assert "walk: Motion(60 frames" in out
    recording = Path("mocap.rrd").read_bytes()
    assert recording.startswith(b"RRF2")
    assert all(name in recording for name in (b"walk/body", b"wave/height/left_foot", b"wave/caption"))
    assert example("rerun_motion.py", "nowhere.bvh", "-o", "x.rrd", fails=True) == "Error: nowhere.bvh: no such file"
    assert not Path("x.rrd").exists()


def test_motion_retrieval(example) -> None:
    out = example("motion_retrieval.py", "my_mocap", "a person walks")
    assert "'a person walks' in 2 motions:" in out
    assert "motions like " in out


def test_evaluation(example, procedural: SimpleNamespace) -> None:
    for number in range(2):
        procedural.walker(48 + number, turn=0.5).save(f"my_mocap/turn_{number}.npz")
    shown = {"walk.bvh": "walk", "wave.npz": "wave", "turn_0.npz": "turn left", "turn_1.npz": "run"}
    write_table(**dict.fromkeys(shown, "walk"))
    assert "has 1 different captions; expected at least 4" in example("evaluation.py", "my_mocap", fails=True)
    shutil.copy("my_mocap/walk.bvh", "my_mocap/again.bvh")
    write_table(**shown, **{"again.bvh": "walk"})
    out = example("evaluation.py", "my_mocap")
    assert "4 clips of my_mocap (train), evaluator lamp-small-evaluator" in out
    real, generated, shuffled = (line[31:].split() for line in out.splitlines()[-3:])
    assert float(real[2]) == pytest.approx(0.0, abs=0.01) != float(generated[2])  # FID between the same motions
    assert generated[2:] == shuffled[2:]  # metrics that do not read captions are unchanged
    assert generated[1] != shuffled[1]


@pytest.mark.slow
def test_fine_tuning(example, tiny_base: Path, procedural: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = {"walk.bvh": "walk", "wave.npz": "wave"}
    for number in range(10):
        kind, make = (("walk", procedural.walker), ("wave", procedural.waver))[number % 2]
        make(40 + number).save(f"my_mocap/{number}.npz")
        contents[f"{number}.npz"] = kind
    write_table(**contents)
    monkeypatch.setattr(scores, "PROBED_MOTIONS", 2)
    monkeypatch.setitem(tune.TOKENIZER_RECIPE["trainer"], "max_steps", 2)
    tiny = ("trainer.max_steps=2", "trainer.per_device_train_batch_size=4", "rehearsal.num_motions=8")
    changes = [argument for change in tiny for argument in ("--change", change)]
    out = example("fine_tuning.py", "my_mocap", "my-model", "--base", str(tiny_base), *changes)
    assert "12 motions are enough for a try" in out
    assert "masked transformer: trained" in out
    assert "new action recognized: before " in out
    assert {path.name for path in Path("my-model/samples").glob("*.html")} == {"walk.html", "wave.html"}


def test_conversion(example, original_text_to_motion: SimpleNamespace) -> None:
    original, tokenizer = str(original_text_to_motion.folder), original_text_to_motion.text_tokenizer
    out = example("conversion.py", original, "converted", "--license", "mit", "--text-tokenizer", tokenizer)
    assert "text-to-motion in converted: " in out
    assert "from 3 files" in out
    assert "text-to-motion.max_text_length = 49 (published)" in out
    assert "license: mit" in Path("converted/README.md").read_text()
    assert Path("converted-walk.html").stat().st_size > 10_000
    assert not Path("converted/walk.html").exists()
