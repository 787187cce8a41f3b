"""Commands and Python code of README and documentation run in order, as written."""

import glob
import importlib
import io
import json
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

import lamp_hf
from lamp_hf.cli import main
from lamp_hf.motion import Motion
from lamp_hf.training import load_recipe
from lamp_hf.training.fine_tuning import scores, tune

ROOT = Path(lamp_hf.__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = {path.relative_to(ROOT).as_posix(): path for path in (ROOT / "README.md", *sorted(DOCS.rglob("*.md")))}
RELEASED_CODE = DOCS / "released-code.md"
STRIP_BYTES = 600_000

# Beginnings of commands that are not run here, with the reason; options of `lamp-hf` are still checked. A block that
# is not run at all has `<!-- not run: the reason -->` on the line before it.
NOT_RUN = {
    "pip install": "an environment is there already; .ci/run runs the two commands that make one",
    "pytest": "this is it",
    "hf auth login": "asks a person for a token",
    "lamp-hf serve": "runs until Ctrl-C; tests/cli/test_serve.py starts and stops it",
    "curl": "asks that server",
    "lamp-hf push": "uploads; tests/hub/test_publish.py does it, to a Hub on this machine",
    "lamp-hf reproduce": "needs HumanML3D and the released checkpoints; tests/cli/test_reproduce.py runs a small table",
    "lamp-hf convert ": "the released files are gigabytes, and BERT's tokenizer comes from the Hub; "
    "tests/hub/conversion/test_cli_convert.py converts small ones",
    **{
        f"lamp-hf evaluate {task} lamp-humanml3d": "needs a converted checkpoint and HumanML3D, which cannot be "
        "redistributed; tests/cli/test_evaluate.py does it with small ones"
        for task in ("text-to-motion", "retrieval", "reconstruction", "editing", "captioning")
    },
}
# Options for commands that train for hours, so that they take two steps.
_TWO_STEPS = "trainer.max_steps=2 trainer.eval_steps=2 trainer.save_steps=2 trainer.per_device_train_batch_size=4"
SHORTENED = {
    "lamp-hf train text-to-motion --data": "trainer.max_steps=2 trainer.per_device_train_batch_size=4 "
    "rehearsal.num_motions=8",
    "lamp-hf train motion-vqvae": f"{_TWO_STEPS} trainer.bf16=false",
    "lamp-hf train lamp": f"{_TWO_STEPS} trainer.bf16=false",
    "lamp-hf train text-to-motion -c": f"{_TWO_STEPS} trainer.bf16=false",
}
# Files that pages create, which prove that their code ran.
MADE = {
    "README.md": ("walk.bvh", "clip.glb", "climb.bvh"),
    "docs/index.md": ("wave.bvh",),
    "docs/quickstart.md": ("wave.bvh", "walk.glb", "walk.bvh"),
    "docs/motions.md": (
        "cycle.glb",
        "clip.glb",
        "clip.gif",
        "both.html",
        "clip.html",
        "take_012.glb",
        "players/take_001.html",
        "clip.bvh",
    ),
    "docs/characters.md": ("hero_take.glb", "hero_wave.glb", "animations/take_001.glb", "wave.glb", "wave.vrma"),
    "docs/prompts.md": ("both.glb", "scene.glb", "edited.bvh"),
    "docs/training.md": ("climb.bvh", "wave.bvh"),
}
_NOT_RUN = re.compile(r"<!-- not run: \S.+ -->")
_ROW = re.compile(r'\{"file_name": "take_012[^{}]*\}')


class Step(NamedTuple):
    """A command, or a block of another language."""

    line: int
    language: str
    text: str
    run: bool


def steps(page: Path) -> Iterator[Step]:
    """Yield the commands and blocks of a page, in order."""
    language, start, runs, before, block = "", 0, True, "", []
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if not line.startswith("```"):
            block.append(line)
            before = line
            continue
        if language == "bash":
            for offset, text in enumerate(block):
                # Commands in pages do not span lines or have `&&` in quotes.
                for command in text.split("&&"):
                    if words := shlex.split(command, comments=True):
                        yield Step(start + offset, language, shlex.join(words), runs)
        elif language:
            yield Step(start, language, "\n".join(block), runs)
        # A closing fence has no language.
        language, start, block = line.removeprefix("```").strip(), number + 1, []
        runs = not _NOT_RUN.fullmatch(before)


SHOWN = {name: list(steps(page)) for name, page in PAGES.items()}


def begins(command: str, table: dict[str, str]) -> str | None:
    """Return the longest key of a table that a command starts with."""
    return max((key for key in table if command.startswith(key)), key=len, default=None)


def test_exceptions_are_few_and_name_existing_commands() -> None:
    every = [step for shown in SHOWN.values() for step in shown]
    assert {step.language for step in every} <= {"python", "bash", "json", "yaml", "bibtex"}
    commands = [step.text for step in every if step.language == "bash"]
    assert len(commands) > 30
    for table in (NOT_RUN, SHORTENED):
        for key in table:
            assert key in {begins(command, table) for command in commands}, key
    assert sum(not step.run for step in every) < len(every) / 10


def test_readme_is_short_and_its_picture_small() -> None:
    text = PAGES["README.md"].read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 140
    strip = re.findall(r"!\[[^\]]+\]\((docs/images/[^)]+\.gif)\)", text)
    assert len(strip) >= 3
    assert sum((ROOT / path).stat().st_size for path in strip) < STRIP_BYTES


def test_extras_are_documented() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    texts = "".join(page.read_text(encoding="utf-8") for page in PAGES.values())
    named = re.findall(r"pip install (?:-e )?'\.\[([a-z,]+)\]'", texts)
    assert {extra for extras in named for extra in extras.split(",")} == set(project["optional-dependencies"])


# ---- links ------------------------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page: documented names of the package, and headings as in MkDocs and GitHub."""
    text = page.read_text(encoding="utf-8")
    found = set(re.findall(r"^::: (\S+)$", text, re.MULTILINE))
    for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        if own := re.search(r"\{ #([\w-]+) \}$", heading):
            found.add(own[1])
        else:
            found.add(re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()))
    return found


@pytest.mark.parametrize("name", PAGES)
def test_links_have_targets(name: str) -> None:
    page = PAGES[name]
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", text):
        file = (page.parent / target).resolve() if target else page
        assert file.exists(), target
        assert ROOT in file.parents
        if anchor:
            assert anchor in anchors(file), f"{target}#{anchor}"


@pytest.mark.parametrize("name", PAGES)
def test_files_and_names_in_pages_exist(name: str) -> None:
    """Pages refer to existing files, and to public names of the package, so that modules can move."""
    text = PAGES[name].read_text(encoding="utf-8")
    for path in re.findall(r"\b((?:benchmarks|examples|tests|docs|lamp_hf)/[\w/.-]*\w)", text):
        assert (ROOT / path).exists(), path
    for dotted in re.findall(r"(?<![\w/.-])lamp_hf\.([A-Za-z_][\w.]*\w)", text):
        parts, value = dotted.split("."), lamp_hf
        for place, part in enumerate(parts):
            if not hasattr(value, part):
                importlib.import_module(".".join(("lamp_hf", *parts[: place + 1])))
            value = getattr(value, part)
        assert len(parts) <= 2, f"lamp_hf.{dotted} is deeper inside the package than readers should have to know"


def test_every_public_name_is_documented() -> None:
    documented = re.findall(r"^::: lamp_hf\.(\w+)$", "\n".join(p.read_text() for p in (DOCS / "api").iterdir()), re.M)
    assert sorted(documented) == sorted(lamp_hf.__all__)


def test_picture_of_the_floors_matches_the_imports() -> None:
    picture = (DOCS / "images/floors.svg").read_text(encoding="utf-8")
    drawn = re.findall(r'y="(\d+)"><tspan[^>]*>([\w]+)<', picture)
    floors = {
        package: place
        for place, floor in enumerate(runpy.run_path(str(ROOT / "tests/test_directions.py"))["FLOORS"])
        for package in floor
    }
    assert {name for _, name in drawn} <= floors.keys()
    assert len(drawn) > 12
    heights = sorted({(floors[name], -int(height)) for height, name in drawn})
    assert [floor for floor, _ in heights] == sorted({floor for floor, _ in heights})
    assert [height for _, height in heights] == sorted(height for _, height in heights)


def test_cited_numbers_are_explained() -> None:
    explained = {anchor.upper() for anchor in anchors(RELEASED_CODE) if re.fullmatch(r"[vlt]\d", anchor)}
    cited = set()
    for folder in ("lamp_hf", "modeling", "pipelines"):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in (".py", ".yaml"):
                cited |= set(re.findall(r"(?:\(|# |, )([VLT]\d)\b(?!-)", path.read_text(encoding="utf-8")))
    assert len(cited) > 12
    assert cited <= explained


def test_values_that_restore_released_behavior_match_the_table() -> None:
    rows = re.findall(r"^\| `(\w+)\.(\w+)` \| `?([^`|]+?)`? \| `?([^`|]+?)`? \|", RELEASED_CODE.read_text(), re.M)
    assert len(rows) > 8
    for config, name, default, released in rows:
        config_class = getattr(lamp_hf, config)
        assert getattr(config_class(), name) == eval(default), (config, name)
        value = eval(released)
        assert value != eval(default)
        assert getattr(config_class(**{name: value}), name) == value


def numbers_of(value: Any) -> Iterator[float]:
    """Return all numbers in the values of a JSON file."""
    if isinstance(value, int | float):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from numbers_of(each)


def test_figures_match_committed_results() -> None:
    results = [json.loads(path.read_text()) for path in (ROOT / "benchmarks/results").rglob("*.json")]
    measured = {f"{number:.{digits}f}" for number in numbers_of(results) for digits in (1, 2, 3)}
    shown = re.findall(
        r" (\d+)% of the generated motions, and in (\d+)%", PAGES["README.md"].read_text(encoding="utf-8")
    )
    figures = [f"0.{percent}" for percent in shown[0]]
    for name in ("docs/checkpoint.md", "docs/training.md"):
        rows = [row for row in PAGES[name].read_text(encoding="utf-8").splitlines() if row.startswith("|")]
        figures += re.findall(r"(?<![\w.])\d+\.\d+(?![\w.])", "\n".join(rows))
    assert len(figures) > 40
    assert set(figures) <= measured


def test_readme_of_a_release_has_no_relative_links(tmp_path: Path) -> None:
    """PyPI shows README without the repository, so pictures and links must be absolute."""
    copy = tmp_path / "README.md"
    shutil.copy(ROOT / "README.md", copy)
    subprocess.run(
        [sys.executable, ROOT / ".ci/absolute_links.py", copy, "someone/lamp_hf", "v1.2.3"], check=True, timeout=60
    )
    text = copy.read_text(encoding="utf-8")
    assert "![A figure waves with both hands](https://raw.githubusercontent.com/someone/lamp_hf/v1.2.3/docs/" in text
    assert "(https://github.com/someone/lamp_hf/blob/v1.2.3/docs/checkpoint.md#figures)" in text
    assert not re.findall(r"\]\((?!https?:)", text)
    before = (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.sub(r"\]\([^)]*\)", "", text) == re.sub(r"\]\([^)]*\)", "", before)


# ---- pictures and pages that run --------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_script_generates_the_committed_pictures(tmp_path: Path) -> None:
    script = runpy.run_path(str(DOCS / "pictures.py"))
    script["main"].__globals__["FOLDER"] = tmp_path
    script["main"]()
    made = {path.name for path in tmp_path.iterdir()}
    needs_characters = {"characters.png"}  # made by docs/characters_picture.py
    assert made | needs_characters == {path.name for path in (DOCS / "images").iterdir() if path.suffix != ".svg"}


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, procedural: SimpleNamespace) -> Path:
    """A folder with the files that pages assume: `my_mocap/` with twelve takes, one take next to it, and `DATA`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LAMP_HF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("COLUMNS", "160")
    (tmp_path / "my_mocap").mkdir()
    for number in range(1, 13):
        make = procedural.walker if number % 2 else procedural.waver
        make(72 + 4 * number).save(f"my_mocap/take_{number:03d}.bvh")
    shutil.copy("my_mocap/take_012.bvh", "take_012.bvh")
    procedural.walker(20).on("unreal").save("hero.glb")
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
    """Run a command, which must succeed, and return its output."""
    printed = io.StringIO()
    words = shlex.split(command)
    assert words[0] == "lamp-hf", f"who runs {words[0]}? name it in NOT_RUN with the reason, or run it"
    words = [found for word in words for found in (sorted(glob.glob(word)) or [word] if "*" in word else [word])]
    with redirect_stdout(printed), redirect_stderr(printed), pytest.raises(SystemExit) as ended:
        main(words[1:])
    assert not ended.value.code, printed.getvalue()
    return printed.getvalue()


def write_table(example: str) -> None:
    """Write `my_mocap/metadata.jsonl`, with lines of the form that a page shows."""
    row = json.loads(example)
    names = [path.name for path in sorted(Path("my_mocap").glob("*.bvh"))]
    assert row["file_name"] in names
    rows = [{**row, "file_name": name, "text": f"{row['text']} of {name[5:8]} steps"} for name in names]
    Path("my_mocap/metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def run(step: Step, names: dict[str, Any], page: str) -> None:
    """Run the commands and blocks of a page."""
    if step.language == "python":
        exec(compile("\n" * (step.line - 1) + step.text, page, "exec"), names)
    elif step.language == "json":
        json.loads(step.text)
    elif step.language == "yaml":
        Path("recipe.yaml").write_text(step.text, encoding="utf-8")
        load_recipe("recipe.yaml")
    elif step.language == "bash" and (excepted := begins(step.text, NOT_RUN)) is None:
        more = begins(step.text, SHORTENED)
        run_command(step.text + (f" {SHORTENED[more]}" if more else ""))
    elif step.language == "bash" and excepted is not None and excepted.startswith("lamp-hf"):
        shown = run_command(f"{excepted} --help")
        assert all(option in shown for option in re.findall(r"(?<= )--[a-z-]+", step.text))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, shown in SHOWN.items() if shown])
def test_everything_runs_as_written(name: str, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scores, "PROBED_MOTIONS", 2)
    monkeypatch.setitem(tune.TOKENIZER_RECIPE["trainer"], "max_steps", 2)
    if example := _ROW.search(PAGES[name].read_text(encoding="utf-8")):
        write_table(example[0])
    names: dict[str, Any] = {"__name__": "page"}
    failed = []
    for step in SHOWN[name]:
        if not step.run:
            if step.language == "python":
                compile(step.text, name, "exec")
            continue
        try:
            run(step, names, name)
        except (Exception, pytest.fail.Exception) as error:
            failed.append(f"line {step.line}: {step.text}\n{type(error).__name__}: {error}")
    assert not failed, "\n\n".join(failed)
    for made in MADE.get(name, ()):
        assert Path(made).stat().st_size > 1000, made
    if name == "docs/prompts.md":
        assert Motion.load("edited.bvh").num_frames == Motion.load("walk.bvh").num_frames
