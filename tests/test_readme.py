"""README says what is true: its commands and its Python run in order, as written, in one folder."""

import glob
import io
import json
import re
import shlex
import shutil
import tomllib
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

import lamp_hf
from lamp_hf.cli import main
from lamp_hf.motion.motion import Motion
from lamp_hf.training.fine_tuning import scores, tune

ROOT = Path(lamp_hf.__file__).resolve().parent.parent
README = ROOT / "README.md"

# Commands that are not run here, by how they begin, and why. Of `lamp-hf` their options are checked.
NOT_RUN = {
    "pip install": "an environment is there already; .ci/run runs the two commands that make one",
    "pytest": "this is it",
    "hf auth login": "asks a person for a token",
    "lamp-hf push": "uploads; tests/hub/test_publish.py does it, to a Hub on this machine",
    "lamp-hf convert ": "the released files are gigabytes, and BERT's tokenizer comes from the Hub; "
    "tests/hub/conversion/test_cli_convert.py converts small ones",
}
# What is added to commands that train for hours, so that they take two steps.
_TWO_STEPS = "trainer.max_steps=2 trainer.eval_steps=2 trainer.save_steps=2 trainer.per_device_train_batch_size=4"
SHORTENED = {
    "lamp-hf train text-to-motion --data": "trainer.max_steps=2 trainer.per_device_train_batch_size=4 "
    "rehearsal.num_motions=8",
    "lamp-hf train motion-vqvae": f"{_TWO_STEPS} trainer.bf16=false",
    "lamp-hf train lamp": f"{_TWO_STEPS} trainer.bf16=false",
    "lamp-hf train text-to-motion -c": f"{_TWO_STEPS} trainer.bf16=false",
}


class Step(NamedTuple):
    """A command, or a block of Python."""

    line: int
    language: str
    text: str


def steps() -> Iterator[Step]:
    """What README shows to be run, in its order."""
    language, start, block = "", 0, []
    for number, line in enumerate(README.read_text(encoding="utf-8").splitlines(), 1):
        if not line.startswith("```"):
            block.append(line)
            continue
        if language == "python":
            yield Step(start, language, "\n".join(block))
        elif language == "bash":
            for offset, text in enumerate(block):
                # No command of README spans lines or has `&&` in quotes.
                for command in text.split("&&"):
                    if words := shlex.split(command, comments=True):
                        yield Step(start + offset, language, shlex.join(words))
        # A closing fence has no language.
        language, start, block = line.removeprefix("```").strip(), number + 1, []


def begins(command: str, table: dict[str, str]) -> str | None:
    """The longest key of a table that a command begins with."""
    return max((key for key in table if command.startswith(key)), key=len, default=None)


def test_exceptions_are_of_commands_that_are_there() -> None:
    commands = [step.text for step in steps() if step.language == "bash"]
    assert len(commands) > 30
    for table in (NOT_RUN, SHORTENED):
        for key in table:
            assert key in {begins(command, table) for command in commands}, key


def test_extras_of_the_package_are_named() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = re.findall(r"pip install (?:-e )?'\.\[([a-z,]+)\]'", README.read_text(encoding="utf-8"))
    assert {extra for extras in named for extra in extras.split(",")} == set(project["optional-dependencies"])


def test_links_lead_to_files() -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README.read_text(encoding="utf-8")):
        assert (ROOT / target).exists(), target


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, procedural: SimpleNamespace) -> Path:
    """A folder with what README takes for granted: `my_mocap/` of twelve takes, one of them beside it, and `DATA`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LAMP_HF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("COLUMNS", "160")
    (tmp_path / "my_mocap").mkdir()
    for number in range(1, 13):
        make = procedural.walker if number % 2 else procedural.waver
        make(72 + 4 * number).save(f"my_mocap/take_{number:03d}.bvh")
    shutil.copy("my_mocap/take_012.bvh", "take_012.bvh")
    data = tmp_path / "DATA/dataset/Bandai-Namco-Research-Motiondataset-1/data"
    data.mkdir(parents=True)
    for number in range(12):
        name = f"dataset-1_{('walk', 'wave-right-hand')[number % 2]}_normal_{number:03d}"
        frames = 66 + 2 * number
        made = procedural.waver(frames) if number % 2 else procedural.walker(frames, turn=0.3)
        made.resample(30).save(data / f"{name}.bvh")
        listed = tmp_path / "DATA" / ("val.txt" if number < 4 else "train.txt")
        listed.open("a").write(f"{name}\n")
    return tmp_path


def run_command(command: str) -> str:
    """What a command prints; it must end well."""
    printed = io.StringIO()
    words = shlex.split(command)
    assert words[0] == "lamp-hf", f"who runs {words[0]}? name it in NOT_RUN with the reason, or run it"
    words = [found for word in words for found in (sorted(glob.glob(word)) or [word] if "*" in word else [word])]
    with redirect_stdout(printed), redirect_stderr(printed), pytest.raises(SystemExit) as ended:
        main(words[1:])
    assert not ended.value.code, printed.getvalue()
    return printed.getvalue()


def write_table() -> None:
    """`my_mocap/metadata.jsonl`, with lines of the form that README shows."""
    [example] = re.findall(r'`(\{"file_name": .*?\})`', README.read_text(encoding="utf-8"))
    row = json.loads(example)
    names = [path.name for path in sorted(Path("my_mocap").glob("*.bvh"))]
    assert row["file_name"] in names
    rows = [{**row, "file_name": name, "text": f"{row['text']} of {name[5:8]} steps"} for name in names]
    Path("my_mocap/metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.slow
def test_everything_runs_as_written(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scores, "PROBED_MOTIONS", 2)
    monkeypatch.setitem(tune.TOKENIZER_RECIPE["trainer"], "max_steps", 2)
    names: dict[str, Any] = {"__name__": "readme"}
    failed = []
    for step in steps():
        if step.text.startswith("lamp-hf train text-to-motion --data"):
            write_table()
        try:
            if step.language == "python":
                exec(compile("\n" * (step.line - 1) + step.text, str(README), "exec"), names)
            elif (excepted := begins(step.text, NOT_RUN)) is None:
                more = begins(step.text, SHORTENED)
                run_command(step.text + (f" {SHORTENED[more]}" if more else ""))
            elif excepted.startswith("lamp-hf"):
                shown = run_command(f"{excepted} --help")
                assert all(option in shown for option in re.findall(r"(?<= )--[a-z-]+", step.text))
        except (Exception, pytest.fail.Exception) as error:
            failed.append(f"line {step.line}: {step.text}\n{type(error).__name__}: {error}")
    assert not failed, "\n\n".join(failed)
    for made in ("wave.bvh", "walk.bvh", "edited.bvh", "scene.glb", "clip.glb", "players/take_001.html", "climb.bvh"):
        assert Path(made).stat().st_size > 1000, made
    assert Motion.load("edited.bvh").num_frames == Motion.load("walk.bvh").num_frames
    assert {"result", "describe", "search", "score", "clip"} <= names.keys()
