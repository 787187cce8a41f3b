"""`lamp-hf reproduce`: rows measured one after the other, resumed, and printed beside published figures."""

import json
from pathlib import Path

import pytest
import yaml
from datasets import Dataset, DatasetDict

from lamp_hf.cli import main
from lamp_hf.data.schema import motion_features
from lamp_hf.evaluation.paper_tables import load_table
from lamp_hf.training import STAGES, load_recipe

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "paper"


@pytest.fixture(scope="module")
def walks(tmp_path_factory: pytest.TempPathFactory, procedural) -> Path:
    """A data set of four walks."""
    motions = [procedural.walker(20 + 4 * number, speed=0.5 + 0.2 * number) for number in range(4)]
    rows = [
        {
            "id": f"clip_{number}",
            "motion": motion.features,
            "captions": [{"text": f"person walks {'abcd'[number]}", "start": 0.0, "end": 0.0}],
            "source": "procedural",
            "fps": 20.0,
            "num_frames": len(motion.features),
            "content": "",
            "style": "",
            "mirrored": False,
        }
        for number, motion in enumerate(motions)
    ]
    path = tmp_path_factory.mktemp("data") / "walks"
    split = Dataset.from_list(rows, features=motion_features())
    DatasetDict({"train": split, "validation": split}).save_to_disk(path)
    return path


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Runs `lamp-hf reproduce` in an empty folder, and gives exit code and what it printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")

    def command(*arguments: object) -> tuple[int, str]:
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(["reproduce", *map(str, arguments)])
        out, err = capfd.readouterr()
        return ended.value.code, " ".join(f"{out} {err}".replace("│", " ").split())

    return command


def table_of(folder: Path, **rows: dict) -> Path:
    path = folder / "table.yaml"
    values = {
        "title": "A table",
        "source": "a paper",
        "metrics": ["mpjpe_mm"],
        "defaults": {"evaluate": "reconstruction", "data": "walks", "options": {"repeats": 1}},
        "rows": [{"name": name, **row} for name, row in rows.items()],
    }
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.mark.slow
def test_rows_are_measured_once_and_printed_beside_published_figures(
    run, walks: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    ours = {"published": {"mpjpe_mm": 12.5}, "checkpoint": str(tiny_checkpoint)}
    table = table_of(tmp_path, ours=ours, absent={"checkpoint": str(tmp_path / "nothing")}, theirs={"published": {}})
    with pytest.raises(ValueError, match="the row 'theirs' has neither `published` figures nor a `checkpoint`"):
        load_table(table)
    table = table_of(tmp_path, ours=ours, absent={"checkpoint": str(tmp_path / "nothing")})
    code, printed = run(table, "--data", f"walks={walks}")
    assert code == 1
    assert "1 of 2 rows were not measured: absent; the reasons are above" in printed
    [record] = (tmp_path / "reproduction" / "records" / "ours").glob("reconstruction-*.json")
    value = json.loads(record.read_text())["rows"]["ours"]["mpjpe_mm"]["value"]
    assert f"ours published 12.5 ours measured {value:.3f} absent measured" in printed

    before = record.stat().st_mtime_ns
    table = table_of(tmp_path, ours=ours)
    code, printed = run(table, "--data", f"walks={walks}")
    assert code == 0
    assert record.stat().st_mtime_ns == before
    code, printed = run(table, "--data", f"walks={walks}", "--set", "repeats=2")
    assert code == 1
    assert "was measured by another command, lamp-hf evaluate reconstruction" in printed


def test_a_dry_run_prints_trainings_and_evaluations(run, tmp_path: Path) -> None:
    steps = [
        {"recipe": "humanml3d/lamp", "stage": "lamp", "output": "first"},
        {"recipe": "r.yaml", "stage": "text-to-motion", "output": "second", "overrides": ["base={runs}/first"]},
    ]
    row = {"train": steps, "checkpoint": "{runs}/second", "evaluate": "text-to-motion", "options": {"pool_size": 4}}
    code, printed = run(table_of(tmp_path, ours=row), "--dry-run", "-o", "here", "--set", "skip_bad=true")
    assert code == 0
    assert "lamp-hf train lamp --config humanml3d/lamp --output here/runs/first --data walks" in printed
    assert "train text-to-motion --config r.yaml --output here/runs/second --data walks base=here/runs/first" in printed
    assert (
        "lamp-hf evaluate text-to-motion here/runs/second --data walks --name ours --output here/records/ours "
        "--repeats 1 --pool-size 4 --skip-bad"
    ) in printed
    assert not Path("here").exists()


def test_a_table_that_cannot_be_measured_is_refused(run, tmp_path: Path) -> None:
    path = table_of(tmp_path, ours={"checkpoint": "x", "evaluate": None})
    with pytest.raises(ValueError, match="the row 'ours' has a checkpoint, but not the keys `evaluate` and `data`"):
        load_table(path)
    with pytest.raises(ValueError, match="has the unknown key 'chekpoint'; known: name, published, checkpoint"):
        load_table(table_of(tmp_path, ours={"chekpoint": "x"}))
    path.write_text("title: nothing")
    with pytest.raises(ValueError, match="is not a table: it must be a mapping with the key `rows`"):
        load_table(path)
    code, printed = run(table_of(tmp_path, ours={"checkpoint": "x"}), "--data", "KIT-ML=there")
    assert code == 2
    assert "the tables have no data set 'KIT-ML'; they have walks" in printed


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_tables_of_the_paper_can_run(path: Path, tmp_path: Path) -> None:
    """Recipes and options exist, each training starts from one before it, and rows share only equal runs."""
    import typer

    from lamp_hf.cli.evaluate import app

    commands = typer.main.get_command(app).commands
    runs: dict[str, object] = {}
    for row in load_table(path).rows:
        assert set(row.published) <= set(load_table(path).metrics)
        if row.checkpoint is None:
            continue
        known = {flag for parameter in commands[row.evaluate].params for flag in parameter.opts}
        assert {f"--{name.replace('_', '-')}" for name in row.options} <= known
        made = set()
        for training in row.train:
            assert runs.setdefault(training.output, training) == training
            overrides = [override.replace("{runs}", str(tmp_path)) for override in training.overrides]
            recipe = load_recipe(training.recipe, overrides)
            assert recipe.stage == training.stage
            assert training.stage in STAGES
            assert training.stage == "motion-vqvae" or Path(str(recipe.base)).name in made
            made.add(training.output)
        assert not row.train or row.checkpoint == f"{{runs}}/{row.train[-1].output}"
