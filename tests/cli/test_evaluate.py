"""`lamp-hf evaluate`: tables, records on disk, model cards, and errors before any work."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from datasets import Dataset, DatasetDict
from huggingface_hub import ModelCard

import lamp_hf
from lamp_hf.cli import main
from lamp_hf.data.schema import motion_features


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory, procedural) -> Path:
    """A data set of six clips, as `save_to_disk` writes it."""
    rows = []
    for number in range(6):
        motion = procedural.walker(20 + 3 * number, speed=0.3 + 0.2 * number)
        texts = [f"person walks {chr(97 + number)}", "the person walks"]
        rows.append(procedural.row(f"clip_{number}", motion, texts))
    path = tmp_path_factory.mktemp("data") / "walks"
    split = Dataset.from_list(rows, features=motion_features())
    DatasetDict({"train": split, "validation": split}).save_to_disk(path)
    return path


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Runs a command in an empty folder, and returns exit code, output and errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")

    def command(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return ended.value.code, captured.out, " ".join(captured.err.replace("│", " ").split())

    return command


def test_writes_a_table_a_record_and_a_card(run, saved: Path, tiny_checkpoint: Path, tmp_path: Path) -> None:
    model = tmp_path / "mine"
    lamp_hf.LampForTextToMotion.from_pretrained(tiny_checkpoint).save_pretrained(model)
    lamp_hf.LampProcessor.from_pretrained(tiny_checkpoint).save_pretrained(model)
    (model / "README.md").write_text("---\nlicense: other\n---\n# Mine\n")
    common = ("--data", saved, "--repeats", 2)
    code, out, err = run("evaluate", "reconstruction", model, *common, "--write-card")
    assert code == 0, err
    assert "another clip" in out
    assert "codebook_use" in out
    record = json.loads(Path("evaluations/reconstruction-whole-clips-mine.json").read_text())
    assert record["protocol"]["split"] == "validation"
    assert record["protocol"]["n"] == 6
    card = ModelCard.load(model / "README.md")
    shown = {result.metric_type: result.metric_value for result in card.data.eval_results}
    assert shown["mpjpe_mm"] == pytest.approx(record["rows"]["mine"]["mpjpe_mm"]["value"], abs=1e-6)
    assert card.text.strip() == "# Mine"

    for name, limit in (("one", 6), ("two", 6), ("three", 5)):
        code, _, err = run(
            *("evaluate", "retrieval", model, *common, "-p", "all", "--name", name, "--limit", limit, "-o", "r")
        )
        assert code == 0, err
    code, out, _ = run("evaluate", "compare", "r/retrieval-all-one.json", "r/retrieval-all-two.json")
    assert code == 0
    assert "one" in out
    assert "two" in out
    assert "text_to_motion_medr" in out  # names of metrics are not truncated
    code, _, err = run("evaluate", "compare", "r/retrieval-all-one.json", "r/retrieval-all-three.json")
    assert code == 1
    assert "one and three cannot share a table: their records differ in dataset_hash" in err


def test_every_task_runs(run, saved: Path, tiny_checkpoint: Path) -> None:
    judged = ("--data", saved, "--repeats", 1)
    command = ("evaluate", "text-to-motion", tiny_checkpoint, *judged, "-p", "physics", "-p", "lamp-bertscore")
    code, out, err = run(*command, "--captioner", tiny_checkpoint)
    assert code == 0, err
    assert "foot_skating" in out
    assert "lamp_bertscore" in out
    record = json.loads(Path(f"evaluations/text-to-motion-lamp-bertscore-{tiny_checkpoint.name}.json").read_text())
    assert record["protocol"]["evaluator"] == tiny_checkpoint.name  # not its path on this machine
    code, _, err = run("evaluate", "captioning", tiny_checkpoint, *judged, "--no-evaluator")
    assert code == 0, err
    record = json.loads(Path(f"evaluations/captioning-humanml3d-{tiny_checkpoint.name}.json").read_text())
    assert record["protocol"]["evaluator"] is None
    assert np.isfinite(record["references"]["another clip"]["cider"]["value"])


def test_skip_bad_leaves_out_unreadable_files(
    run, tiny_checkpoint: Path, field_sets: SimpleNamespace, tmp_path: Path
) -> None:
    root = field_sets.make(tmp_path / "HumanML3D", "humanml3d", num_train=1)
    (root / "new_joint_vecs" / "000000.npy").unlink()
    (root / "Mean.npy").unlink()
    command = ("evaluate", "reconstruction", tiny_checkpoint, "--data", root, "--cache-dir", "cache", "--repeats", 1)
    code, _, err = run(*command)
    assert code == 1
    assert "1 clip cannot be read; skip them with skip_bad=True (--skip-bad on the command line" in err
    code, _, err = run(*command, "--skip-bad")
    assert code == 0, err
    record = json.loads(Path(f"evaluations/reconstruction-whole-clips-{tiny_checkpoint.name}.json").read_text())
    assert (record["protocol"]["dataset"], record["protocol"]["split"]) == ("humanml3d", "test")


def test_editing_and_reconstruction_with_an_evaluator(run, saved: Path, tiny_checkpoint: Path, tmp_path: Path) -> None:
    processor = lamp_hf.LampProcessor.from_pretrained(tiny_checkpoint)
    sizes = {"movement_hidden_size": 8, "movement_size": 8, "motion_hidden_size": 8, "text_hidden_size": 8}
    sizes |= {"projection_dim": 8, "word_embedding_size": 8, "vocab_size": len(processor.tokenizer)}
    config = lamp_hf.MotionTextEvaluatorConfig(text_input="embeddings", **sizes)
    lamp_hf.MotionTextEvaluatorModel(config).save_pretrained(tmp_path / "judge")
    processor.save_pretrained(tmp_path / "judge")
    judged = ("--data", saved, "--repeats", 1, "--evaluator", tmp_path / "judge", "--pool-size", 4)
    code, out, err = run("evaluate", "editing", tiny_checkpoint, *judged, "-p", "in-betweening")
    assert code == 0, err
    assert "kept_frames" in out
    record = json.loads(Path(f"evaluations/editing-in-betweening-{tiny_checkpoint.name}.json").read_text())
    assert record["protocol"]["settings"]["pool_size"] == 4
    code, out, err = run("evaluate", "reconstruction", tiny_checkpoint, *judged)
    assert code == 0, err
    assert "r_precision_1" in out
    assert "mpjpe_mm" in out


def test_evaluator_without_a_tokenizer(run, saved: Path, tiny_checkpoint: Path, tmp_path: Path) -> None:
    sizes = {"movement_hidden_size": 8, "movement_size": 8, "motion_hidden_size": 8, "text_hidden_size": 8}
    config = lamp_hf.MotionTextEvaluatorConfig(text_input="glove", projection_dim=8, **sizes)
    lamp_hf.MotionTextEvaluatorModel(config).save_pretrained(tmp_path / "judge")
    lamp_hf.LampFeatureExtractor().save_pretrained(tmp_path / "judge")
    code, _, err = run("evaluate", "captioning", tiny_checkpoint, "--data", saved, "--evaluator", tmp_path / "judge")
    assert code == 1
    assert "judge has only a feature extractor and cannot embed sentences" in err


def test_released_evaluator_reads_the_annotation(
    run, tiny_checkpoint: Path, field_sets: SimpleNamespace, tmp_path: Path
) -> None:
    words = ["unk", "a", "person", "walk"]
    sizes = {"movement_hidden_size": 8, "movement_size": 8, "motion_hidden_size": 8, "text_hidden_size": 8}
    config = lamp_hf.MotionTextEvaluatorConfig(
        projection_dim=8,
        word_embedding_size=4,
        num_word_vectors=4,
        mask_motion_padding=False,
        padded_frames=196,
        **sizes,
    )
    lamp_hf.MotionTextEvaluatorModel(config).save_pretrained(tmp_path / "judge")
    (tmp_path / "words.json").write_text(json.dumps(words))
    tokenizer = lamp_hf.GloveTokenizer(tmp_path / "words.json", model_max_length=22, tagger="not needed")
    lamp_hf.LampProcessor(lamp_hf.LampFeatureExtractor(), tokenizer).save_pretrained(tmp_path / "judge")
    root = field_sets.make(tmp_path / "HumanML3D", "humanml3d", num_train=1)
    names = [path.stem for path in sorted((root / "new_joint_vecs").glob("*.npy"))]
    (root / "train.txt").write_text("")
    (root / "val.txt").write_text("")
    (root / "test.txt").write_text("\n".join(names))
    text = "".join(f"he walks#a/DET person/NOUN walk/VERB#{start}#{start + 2}\n" for start in (0.0, 0.5, 1.0, 1.5))
    for name in names:
        (root / "texts" / f"{name}.txt").write_text(text)
    command = ("evaluate", "text-to-motion", tiny_checkpoint, "--data", root, "--cache-dir", "cache", "--repeats", 1)
    command += ("--evaluator", tmp_path / "judge", "--multimodality-texts", 0, "--captioner", tiny_checkpoint)
    code, _, err = run(*command)
    assert code == 0, err
    record = json.loads(Path(f"evaluations/text-to-motion-released-{tiny_checkpoint.name}.json").read_text())
    assert record["protocol"]["evaluator"] == "judge"
    assert record["protocol"]["settings"]["clips"] % 32 == 0
    assert {"r_precision_1", "mm_dist", "fid", "diversity"} <= set(record["rows"][tiny_checkpoint.name])
    assert not Path(f"evaluations/text-to-motion-humanml3d-{tiny_checkpoint.name}.json").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ("retrieval", "lamp-small", "-p", "guo"),
            "unknown protocol 'guo'; expected one of all, threshold, dissimilar",
        ),
        (("retrieval", "nothing-here"), "neither a folder nor a checkpoint of this package"),
        (("text-to-motion", "lamp-small-evaluator"), "contains a 'motion_text_evaluator' model; text-to-motion needs"),
        (
            ("reconstruction", "{tiny}", "--split", "test"),
            "has the splits train, validation, but not test; choose one with --split",
        ),
        (("reconstruction", "{tiny}", "--write-card"), "--write-card needs a model card, but"),
        (
            ("text-to-motion", "{tiny}", "-p", "humanml3d"),
            "humanml3d: 6 pairs do not fill a pool of 32; use more clips",
        ),
        (
            ("retrieval", "{tiny}", "-p", "small_batches"),
            "smaller pools, which are easier (pool_size=6, --pool-size 6)",
        ),
        (("retrieval", "{tiny}", "-p", "dissimilar"), "choose a smaller dissimilar_size (--dissimilar-size)"),
    ],
)
def test_errors_are_raised_before_any_work(
    run, saved: Path, tiny_checkpoint: Path, arguments: tuple, said: str
) -> None:
    given = [argument.format(tiny=tiny_checkpoint) for argument in arguments]
    code, _, err = run("evaluate", *given, "--data", saved)
    assert code in (1, 2)
    assert said in err
    assert not Path("evaluations").exists()


def test_small_set_skips_protocols_that_need_more_clips(
    run, walker, waver, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    mocap = tmp_path / "mocap"
    mocap.mkdir()
    walker.crop(0, 1).save(mocap / "walk.bvh")
    waver.crop(0, 1).save(mocap / "wave.npz")
    (mocap / "metadata.jsonl").write_text(
        '{"file_name": "walk.bvh", "text": "a person walks"}\n{"file_name": "wave.npz", "text": "a person waves"}\n'
    )
    common = (tiny_checkpoint, "--data", mocap, "--repeats", 1, "--cache-dir", tmp_path / "cache")

    def written() -> set[str]:
        return {path.name.removesuffix(f"-{tiny_checkpoint.name}.json") for path in Path("evaluations").iterdir()}

    code, out, err = run("evaluate", "retrieval", *common)
    assert code == 0, err
    assert written() == {"retrieval-all", "retrieval-threshold"}
    assert "mocap has only the split train; evaluating on it" in err
    assert "skipped small_batches: 2 pairs do not fill a pool of 32; use more clips or smaller pools" in err
    assert "skipped dissimilar: 2 pairs are too few for a dissimilar subset of 100" in err
    assert err.index("skipped") < err.index("encoding 2 motions: less than a minute")
    code, out, err = run("evaluate", "retrieval", *common, "--pool-size", 2, "--dissimilar-size", 2)
    assert code == 0, err
    assert "skipped" not in err
    assert written() == {f"retrieval-{name}" for name in ("all", "threshold", "small_batches", "dissimilar")}

    code, out, err = run("evaluate", "retrieval", *common, "--pool-size", 2, "-p", "released")
    assert code == 1
    assert "released: 2 pairs do not fill a pool of 32" in err  # its pools have the released size

    code, out, err = run("evaluate", "text-to-motion", *common, "--captioner", tiny_checkpoint)
    assert code == 0, err
    assert "skipped humanml3d: 2 pairs do not fill" in err
    assert "generating 2 motions: less than a minute" in err
    assert {"text-to-motion-lamp-bertscore", "text-to-motion-physics"} <= written()
    sizes = ("--pool-size", 2, "--multimodality-texts", 1, "--multimodality-motions", 10)
    code, out, err = run("evaluate", "text-to-motion", *common, "-p", "humanml3d", *sizes)
    assert code == 0, err
    assert "generating 12 motions" in err
    record = json.loads(Path(f"evaluations/text-to-motion-humanml3d-{tiny_checkpoint.name}.json").read_text())
    assert record["protocol"]["settings"]["pool_size"] == 2

    for size, recall in ((32, False), (2, True)):
        code, out, err = run("evaluate", "captioning", *common, "--pool-size", size)
        assert code == 0, err
        assert "leave out 2 of 2 clips, which have only one caption" in err
        assert ("r_precision_1" in out) == recall
        assert ("R-Precision and MM-Dist are left out: 2 pairs do not fill a pool of 32" in err) != recall


def test_sweep_has_a_row_per_setting(run, saved: Path, tiny_checkpoint: Path) -> None:
    command = ("evaluate", "text-to-motion", tiny_checkpoint, "--data", saved, "-p", "physics", "--repeats", 1)
    code, out, err = run(*command, "--limit", 3, "--sweep", "guidance_scale=1,4", "--sweep", "num_inference_steps=2")
    assert code == 0, err
    assert "guidance_scale=4" in out
    record = json.loads(Path("evaluations/text-to-motion-physics-tiny-sweep.json").read_text())
    assert list(record["rows"]) == [f"tiny guidance_scale={scale} num_inference_steps=2" for scale in (1, 4)]
    assert record["model"] == "tiny"
    code, _, err = run(*command, "--sweep", "guidance=1")
    assert code != 0
    assert "unknown setting 'guidance'" in err
