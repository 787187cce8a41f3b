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
NAMES = ("conversion", "evaluation", "fine_tuning", "search_and_captions", "text_to_motion")


def parameters_cell(notebook: Any) -> int:
    """Index of the cell with the sizes, the only one of its tag."""
    [index] = [k for k, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", [])]
    return index


@pytest.fixture
def execute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Executes a notebook in an empty folder with other parameters, and gives it with its outputs."""
    monkeypatch.setenv("LAMP_HF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)  # this checkout, whichever is installed
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    folder = tmp_path / "work"
    folder.mkdir()

    def run(name: str, then: str = "", **parameters: Any) -> SimpleNamespace:
        from nbclient import NotebookClient

        notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
        index = parameters_cell(notebook)
        known = {target.id for line in ast.parse(notebook.cells[index].source).body for target in line.targets}
        assert set(parameters) <= known
        values = "\n".join(f"{key} = {value!r}" for key, value in parameters.items())
        notebook.cells.insert(index + 1, nbformat.v4.new_code_cell(f"{values}\n{then}"))
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
    assert tuple(sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))) == NAMES
    for name in NAMES:
        notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
        nbformat.validate(notebook)
        assert notebook.metadata.kernelspec.name == "python3"
        parameters_cell(notebook)
        for cell in notebook.cells:
            assert not cell.get("outputs")
            assert cell.get("execution_count") is None


@pytest.mark.slow
def test_text_to_motion(execute) -> None:
    done = execute("text_to_motion", TAKES=2, DURATION=1.0)
    assert "of 120 frames are the same, bit for bit" in done.text
    assert "far from all that this checkpoint was trained on" in done.text
    assert done.shown.count("text/html") == 2  # players
    assert done.shown.count("image/png") == 3
    assert "image/gif" in done.shown
    assert (done.folder / "scene.bvh").is_file()


@pytest.mark.slow
def test_search_and_captions(execute) -> None:
    done = execute("search_and_captions", TAKES=1)
    assert "copies: old_backup.npz, take_001.bvh" in done.text
    assert len((done.folder / "my_mocap" / "metadata.jsonl").read_text().splitlines()) == 7
    assert "motions: 7" in done.text


@pytest.mark.slow
def test_fine_tuning(execute, tiny_base: Path) -> None:
    shrink = (
        "import lamp_hf.training.fine_tuning\n"
        "lamp_hf.training.fine_tuning.PROBED_MOTIONS = 2\n"
        "lamp_hf.training.fine_tuning.TOKENIZER_RECIPE['trainer']['max_steps'] = 2\n"
    )
    tiny = ["trainer.max_steps=2", "trainer.per_device_train_batch_size=4", "rehearsal.num_motions=8"]
    done = execute("fine_tuning", shrink, BASE=str(tiny_base), CLIPS=12, OVERRIDES=tiny)
    assert "masked transformer: trained" in done.text
    assert "| new action recognised |" in done.markdown
    assert (done.folder / "my-model" / "README.md").is_file()


@pytest.mark.slow
def test_evaluation(execute) -> None:
    done = execute("evaluation", CLIPS=8, PROTOCOLS=("physics",), REPEATS=1)
    assert "8 clips, split train" in done.text
    assert "(chance 0.125)" in done.text
    assert "| | real motions | lamp-small | lamp-small, no guidance |" in done.markdown
    assert (done.folder / "record.json").is_file()


@pytest.mark.slow
def test_conversion(execute, original_text_to_motion: SimpleNamespace) -> None:
    done = execute(
        "conversion",
        ORIGINAL=str(original_text_to_motion.folder),
        LICENSE="mit",
        TEXT_TOKENIZER=original_text_to_motion.text_tokenizer,
    )
    assert "text-to-motion in lamp-humanml3d" in done.text
    assert "t2m.tar, qformer.tar, vq.tar" in done.text
    assert "LampForTextToMotion at 20.0 frames per second" in done.text
    assert "text/html" in done.shown
