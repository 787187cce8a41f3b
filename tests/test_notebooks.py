"""The notebooks of `examples/notebooks` run from top to bottom, at small sizes, and are committed without outputs."""

import ast
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT / "examples" / "notebooks"
NAMES = sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))


def tagged_cells(notebook: Any, tag: str) -> list[int]:
    """Return indices of cells with a tag: `parameters` has the sizes, `data` creates missing motions."""
    return [index for index, cell in enumerate(notebook.cells) if tag in cell.metadata.get("tags", [])]


def with_parameters(name: str, then: str = "", **parameters: Any) -> Any:
    """Return a notebook with other parameters."""
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    [index] = tagged_cells(notebook, "parameters")
    known = {target.id for line in ast.parse(notebook.cells[index].source).body for target in line.targets}
    assert set(parameters) <= known
    values = "\n".join(f"{key} = {value!r}" for key, value in parameters.items())
    notebook.cells.insert(index + 1, nbformat.v4.new_code_cell(f"{values}\n{then}"))
    return notebook


@pytest.fixture
def execute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Executes notebooks in one folder per test, which is empty at first, and returns their outputs."""
    monkeypatch.setenv("LAMP_HF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)  # this checkout, even if another one is installed
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    folder = tmp_path / "work"
    folder.mkdir()

    def run(notebook: Any) -> SimpleNamespace:
        from nbclient import NotebookClient

        NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": folder}}).execute()
        outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
        return SimpleNamespace(
            folder=folder,
            text="".join(output.text for output in outputs if output.output_type == "stream"),
            shown=[kind for output in outputs for kind in output.get("data", {})],
            markdown="\n".join(output.get("data", {}).get("text/markdown", "") for output in outputs),
        )

    return run


def test_notebooks_are_valid_and_clean() -> None:
    assert "fine_tuning" in NAMES
    for name in NAMES:
        assert f"test_{name}" in globals(), f"{name}.ipynb has no test here"
        notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
        nbformat.validate(notebook)
        assert notebook.metadata.kernelspec.name == "python3"
        assert len(tagged_cells(notebook, "parameters")) == 1
        for cell in notebook.cells:
            assert not cell.get("outputs")
            assert cell.get("execution_count") is None


@pytest.mark.slow
def test_notebooks_share_a_folder_and_run_twice(execute) -> None:
    sizes = {"search_and_captions": {"TAKES": 1}, "fine_tuning": {"CLIPS": 2}, "evaluation": {"CLIPS": 2}}
    assert set(sizes) == {name for name in NAMES if tagged_cells(with_parameters(name), "data")}
    together = nbformat.v4.new_notebook()
    for name, parameters in [*sizes.items(), *sizes.items()]:
        notebook = with_parameters(name, **parameters)
        # Run all notebooks in one kernel up to the cell that creates motions; later cells take longer.
        cells = notebook.cells[: tagged_cells(notebook, "data")[0] + 1]
        together.cells += [nbformat.v4.new_code_cell(cell.source) for cell in cells if cell.cell_type == "code"]
    folder = execute(together).folder
    made = {path.name: len([*path.glob("[!.]*.[bn][vp][hz]")]) for path in folder.iterdir()}
    assert made == {"small_library": 7, "jumping_jacks": 2, "stand_in": 2}


@pytest.mark.slow
def test_text_to_motion(execute) -> None:
    done = execute(with_parameters("text_to_motion", TAKES=2, DURATION=1.0))
    assert "of 120 frames are the same, bit for bit" in done.text
    assert "far from everything that this checkpoint was trained on" in done.text
    assert done.shown.count("text/html") == 2  # players
    assert done.shown.count("image/png") == 3
    assert "image/gif" in done.shown
    assert (done.folder / "scene.bvh").is_file()


@pytest.mark.slow
def test_search_and_captions(execute) -> None:
    done = execute(with_parameters("search_and_captions", TAKES=1))
    assert "copies: old_backup.npz, take_001.bvh" in done.text
    assert len((done.folder / "small_library" / "metadata.jsonl").read_text().splitlines()) == 7
    assert "motions: 7" in done.text


@pytest.mark.slow
def test_fine_tuning(execute, tiny_base: Path) -> None:
    shrink = (
        "from lamp_hf.training.fine_tuning import scores, tune\n"
        "scores.PROBED_MOTIONS = 2\n"
        "tune.TOKENIZER_RECIPE['trainer']['max_steps'] = 2\n"
    )
    tiny = ["trainer.max_steps=2", "trainer.per_device_train_batch_size=4", "rehearsal.num_motions=8"]
    notebook = with_parameters("fine_tuning", shrink, BASE=str(tiny_base), CLIPS=12, OVERRIDES=tiny)
    done = execute(notebook)
    assert "masked transformer: trained" in done.text
    assert "| new action recognized |" in done.markdown
    assert (done.folder / "jumping-jacks-model" / "README.md").is_file()
    again = execute(notebook)
    assert "jumping-jacks-model is finished already" in again.text
    assert again.markdown.strip() == done.markdown.strip()


@pytest.mark.slow
def test_evaluation(execute) -> None:
    done = execute(with_parameters("evaluation", CLIPS=8, PROTOCOLS=("physics",), REPEATS=1))
    assert "8 clips, split train" in done.text
    assert "(chance 0.125)" in done.text
    assert "| | real motions | lamp-small | lamp-small, no guidance |" in done.markdown
    assert (done.folder / "record.json").is_file()


@pytest.mark.slow
def test_conversion(execute, original_text_to_motion: SimpleNamespace) -> None:
    notebook = with_parameters(
        "conversion",
        ORIGINAL=str(original_text_to_motion.folder),
        LICENSE="mit",
        TEXT_TOKENIZER=original_text_to_motion.text_tokenizer,
    )
    done = execute(notebook)
    assert "text-to-motion in lamp-humanml3d" in done.text
    assert "t2m.tar, qformer.tar, vq.tar" in done.text
    assert "LampForTextToMotion at 20.0 frames per second" in done.text
    assert "text/html" in done.shown
    assert execute(notebook).text == done.text  # over the earlier conversion
