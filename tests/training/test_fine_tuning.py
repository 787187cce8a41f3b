"""Fine-tuning in one call at a tiny size: training, rehearsal, scores, output, errors."""

import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from transformers import TrainingArguments, pipeline

from lamp_hf.cli import main
from lamp_hf.data import load_motion_dataset
from lamp_hf.data.splits import with_validation
from lamp_hf.locks import folder_lock
from lamp_hf.modeling.modeling_lamp import LampModel
from lamp_hf.modeling.modeling_lamp_text_to_motion import LampForTextToMotion
from lamp_hf.modeling.processing_lamp import LampProcessor
from lamp_hf.training import Recipe, fine_tune
from lamp_hf.training.fine_tuning import FineTuning, scores, tune
from lamp_hf.training.stages.rehearsal import choose_example_texts, rehearse
from lamp_hf.training.stages.text_to_motion import TextToMotionStage

pytestmark = pytest.mark.slow

TINY = (
    "trainer.max_steps=24",
    "trainer.learning_rate=0.01",
    "trainer.per_device_train_batch_size=4",
    "trainer.disable_tqdm=true",
    "rehearsal.num_motions=12",
)


@pytest.fixture(scope="module", autouse=True)
def small(tmp_path_factory: pytest.TempPathFactory):
    """Reduces sizes that the command line cannot change."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAMP_HF_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(scores, "PROBED_MOTIONS", 4)
        patch.setitem(tune.TOKENIZER_RECIPE["trainer"], "max_steps", 4)
        yield


@pytest.fixture(scope="module")
def my_mocap(tmp_path_factory: pytest.TempPathFactory, procedural) -> Path:
    """Ten walks and ten waves of about two seconds, in a folder with a table."""
    folder = tmp_path_factory.mktemp("mocap") / "my_mocap"
    folder.mkdir()
    rows = []
    for number in range(20):
        walking = number % 2 == 0
        motion = procedural.walker(40 + number, speed=0.8) if walking else procedural.waver(40 + number)
        name = f"take_{number:03d}.npz"
        motion.save(folder / name)
        text = "the person walks" if walking else "the person waves"
        rows.append({"file_name": name, "text": text, "content": "walk" if walking else "wave"})
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture(scope="module")
def tuned(my_mocap: Path, tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Output of the command."""
    folder = tmp_path_factory.mktemp("tuned") / "my-model"
    arguments = ["train", "text-to-motion", "--data", str(my_mocap), "--base", str(tiny_base), "--output", str(folder)]
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--license", "cc-by-4.0", *TINY])
    assert ended.value.code == 0
    return folder


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def test_trains_only_what_the_new_motions_need(tuned: Path, tiny_base: Path) -> None:
    before, after = weights_of(tiny_base), weights_of(tuned)
    changed = {name for name, tensor in after.items() if name in before and not torch.equal(tensor, before[name])}
    parts = {
        "lamp.motion_vqvae.decoder.",
        "lamp.motion_vqvae.quantizer.",
        "masked_transformer.",
        "length_estimator.",
        "text_to_condition.",
    }
    for part in parts:
        assert any(name.startswith(part) for name in changed), part
    assert all(name.startswith(tuple(parts)) for name in changed)
    report = FineTuning(**json.loads((tuned / "fine-tuning.json").read_text()))
    assert report.finished
    assert "decoder and unused codes trained" in report.stages["motion tokenizer"]


def test_model_knows_new_and_old_sentences(tuned: Path) -> None:
    pipe = pipeline("text-to-motion", model=str(tuned))
    assert pipe("the person waves", duration=1.0, seed=1)["num_frames"] == 20
    known = set(pipe.processor.example_texts)
    assert {"the person bows", "bow", "the person walks", "the person waves"} <= known
    for text in ("the person walks", "the person bows"):
        assert pipe.known_sentences.familiarity(text).score > 0.99


def test_scores_before_and_after(tuned: Path) -> None:
    scores = json.loads((tuned / "fine-tuning.json").read_text())["scores"]
    for measure in (
        "token loss, new clips",
        "token loss, rehearsed motions",
        "MPJPE of the tokenizer, mm",
        "new action recognized",
        "new action recognized, walk",
        "known texts, R-Precision 3 by LaMP",
        "known texts not done as a new action",
    ):
        assert np.isfinite([scores[measure]["before"], scores[measure]["after"]]).all()
    losses = [scores["token loss, new clips"], scores["token loss, rehearsed motions"]]
    assert sum(loss["after"] for loss in losses) < sum(loss["before"] for loss in losses)
    assert scores["new action recognized"]["real"] == 1.0  # walks and waves are easy to distinguish
    records = {path.name for path in (tuned / "evaluations").iterdir()}
    assert records == {"reconstruction-whole-clips.json", "text-to-motion-physics.json"}


def test_writes_a_card_with_a_sample(tuned: Path) -> None:
    card = (tuned / "README.md").read_text()
    assert "license: cc-by-4.0" in card
    assert "![the person" in card
    assert (tuned / "sample.gif").stat().st_size > 1000
    assert "## Fine-tuning" in card
    assert "| new action recognized, wave |" in card


def test_held_out_clips_and_their_mirror_images_are_not_trained_on(my_mocap: Path) -> None:
    dataset = load_motion_dataset(my_mocap, mirror=True, progress=False)
    split = with_validation(dataset)
    held_out, train = split["validation"]["id"], split["train"]["id"]
    assert sorted(split["validation"]["content"]) == ["walk", "wave"]
    assert len(train) == 36
    assert not {clip.removesuffix("-mirrored") for clip in train} & set(held_out)
    assert with_validation(dataset)["validation"]["id"] == held_out
    assert with_validation(split) is split


def test_adapter_is_trained_alone_and_saved_next_to_the_model(my_mocap: Path, tiny_base: Path, tmp_path: Path) -> None:
    report = fine_tune(my_mocap, tmp_path / "model", base=str(tiny_base), lora=True, overrides=TINY)
    assert report.stages["masked transformer"] == "LoRA adapter trained and merged"
    loss = report.scores["token loss, new clips"]
    assert loss["after"] < loss["before"]
    before, after = weights_of(tiny_base), weights_of(tmp_path / "model")
    adapted = ("masked_transformer.", "length_estimator.", "text_to_condition.", "lamp.motion_vqvae.")
    for name, tensor in before.items():
        assert name.startswith(adapted) or torch.equal(tensor, after[name]), name
        if name.startswith("masked_transformer.") and tensor.dim() == 1:  # biases and norms have no adapter
            assert torch.equal(tensor, after[name]), name
    adapter = tmp_path / "model" / "adapter"
    assert json.loads((adapter / "adapter_config.json").read_text())["base_model_name_or_path"] == str(tiny_base)
    merged = LampForTextToMotion.from_pretrained(tmp_path / "model").eval()
    other = LampForTextToMotion.from_pretrained(tiny_base)
    tokenizer = merged.lamp.motion_vqvae.state_dict()
    other.lamp.motion_vqvae.load_state_dict(tokenizer)
    inputs = LampProcessor.from_pretrained(tiny_base)(text="the person waves")
    codes = torch.arange(6)[None]
    with torch.no_grad():
        wanted = merged.predict_tokens(codes, merged.get_text_condition(**inputs))
        plain = other.eval().predict_tokens(codes, other.get_text_condition(**inputs))
        other.load_adapter(str(adapter))
        other.eval()
        adapted = other.predict_tokens(codes, other.get_text_condition(**inputs))
    assert not torch.allclose(plain, wanted, atol=1e-3)
    torch.testing.assert_close(adapted, wanted, atol=1e-4, rtol=1e-4)


def test_interrupted_run_resumes(my_mocap: Path, tiny_base: Path, tuned: Path, tmp_path: Path, monkeypatch) -> None:
    train, stages = tune.train, []

    def cut_off(recipe, output, **options):
        stages.append(recipe.stage)
        if recipe.stage == "text-to-motion":
            raise KeyboardInterrupt
        return train(recipe, output, **options)

    model = tmp_path / "model"
    with monkeypatch.context() as patch:
        patch.setattr(tune, "train", cut_off)
        patch.setattr(tune, "train_alone", cut_off)
        with pytest.raises(KeyboardInterrupt):
            fine_tune(my_mocap, model, base=str(tiny_base), overrides=TINY)
    assert stages == ["motion-vqvae", "text-to-motion"]
    with pytest.raises(FileExistsError, match="unfinished run with base="):
        fine_tune(my_mocap, model, base=str(tiny_base), overrides=[*TINY, "trainer.weight_decay=0.1"])
    table = my_mocap / "metadata.jsonl"
    rows = table.read_text()
    table.write_text(rows.replace("the person walks", "the person strolls", 1))
    with pytest.raises(FileExistsError, match="has changed since it began"):
        fine_tune(my_mocap, model, base=str(tiny_base), overrides=TINY)
    table.write_text(rows)
    assert fine_tune(my_mocap, model, base=str(tiny_base), overrides=TINY).finished
    wanted, found = weights_of(tuned), weights_of(model)
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in found.items())
    with pytest.raises(FileExistsError, match=r"already contains a finished model.*lamp-hf push"):
        fine_tune(my_mocap, model, base=str(tiny_base), overrides=TINY)


def test_finished_run_repeats_only_a_failed_upload(
    my_mocap: Path, tiny_base: Path, tuned: Path, tmp_path: Path, monkeypatch
) -> None:
    model, pushed = tmp_path / "model", []
    shutil.copytree(tuned, model)
    monkeypatch.setattr(
        "lamp_hf.publishing.checkpoint.push_checkpoint", lambda *arguments, **options: pushed.append(arguments)
    )
    monkeypatch.setattr("lamp_hf.hub.upload.Target", lambda *arguments, **options: None)
    monkeypatch.setattr(tune, "train", lambda *arguments: pytest.fail("it trains again"))
    fine_tune(my_mocap, model, base=str(tiny_base), overrides=TINY, push_to="me/model")
    assert pushed == [(model, "me/model")]
    with pytest.raises(FileExistsError, match="already contains a finished model"):
        fine_tune(my_mocap, model, base=str(tiny_base), overrides=TINY[1:], push_to="me/model")


def test_two_processes_fine_tune_together(my_mocap: Path, tiny_base: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "-m", "lamp_hf", "train"]
    command += ["text-to-motion", "--data", my_mocap, "--base", tiny_base, "--output", model, *TINY]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((model / "fine-tuning.json").read_text())["finished"]
    assert done.stdout.count("finished in") == 1


def test_invalid_input_is_refused_before_any_work(my_mocap: Path, tiny_base: Path, tmp_path: Path, walker) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    walker.save(broken / "walk.npz")
    rows = [{"file_name": "walk.npz", "text": "walk"}, {"file_name": "gone.npz", "text": "jump"}]
    (broken / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(ValueError, match=r"1 error: .*gone\.npz.*lamp-hf data check"):
        fine_tune(broken, tmp_path / "model", base=str(tiny_base))
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="already contains other files"):
        fine_tune(my_mocap, other, base=str(tiny_base))
    LampModel.from_pretrained(tiny_base).save_pretrained(tmp_path / "lamp")
    with pytest.raises(ValueError, match="is a 'lamp' model; fine-tuning starts from a text-to-motion model"):
        fine_tune(my_mocap, tmp_path / "model", base=str(tmp_path / "lamp"))
    with pytest.raises(FileNotFoundError, match="no such dataset"):
        fine_tune(tmp_path / "nowhere", tmp_path / "model", base=str(tiny_base))
    for override, words in (
        ("strange=1", "unknown keys strange"),
        ("trainer.max_step=3", r"unknown key max_step \(did you mean max_steps\?\)"),
        ("rehearsal.share=2", "rehearsal.share=2 is not between 0 and 1"),
        ("lora.rank=0", "lora.rank=0 is not a whole number"),
        ("generation.steps=5", "generation section has the unknown key steps"),
        ("generation.guidance_scale=-1", "guidance_scale=-1 is not a number of at least 0"),
        ("stage=lamp", "stage, base, data, tokenizer cannot be overridden"),
    ):
        with pytest.raises(ValueError, match=words):
            fine_tune(my_mocap, tmp_path / "model", base=str(tiny_base), overrides=[*TINY, override])
    (tmp_path / "test").mkdir()
    walker.save(tmp_path / "test" / "walk.npz")
    (tmp_path / "test" / "metadata.jsonl").write_text(json.dumps(rows[0]) + "\n")
    with pytest.raises(ValueError, match="no train split, found test"):
        fine_tune(tmp_path, tmp_path / "model", base=str(tiny_base), overrides=TINY)
    brief = tmp_path / "brief"
    brief.mkdir()
    walker.crop(0, 0.2).save(brief / "walk.npz")
    (brief / "metadata.jsonl").write_text(json.dumps(rows[0]) + "\n")
    with pytest.raises(ValueError, match=r"metadata\.jsonl line 1: .*too short: expected at least 4"):
        fine_tune(brief, tmp_path / "model", base=str(tiny_base), overrides=TINY)
    assert not (tmp_path / "model").exists()


def test_two_runs_in_one_folder_are_refused(my_mocap: Path, tiny_base: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    with folder_lock(folder, busy="", wait=False), ThreadPoolExecutor() as other:
        with pytest.raises(BlockingIOError, match="model is in use: another training run is writing there"):
            other.submit(fine_tune, my_mocap, folder, base=str(tiny_base), overrides=TINY).result()
        assert [path.name for path in folder.iterdir()] == [".lock"]


def test_base_without_example_texts_cannot_rehearse(my_mocap: Path, tiny_checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"example_texts.*rehearsal\.num_motions=0"):
        fine_tune(my_mocap, tmp_path / "model", base=str(tiny_checkpoint), overrides=TINY)
    report = fine_tune(
        my_mocap, tmp_path / "model", base=str(tiny_checkpoint), overrides=[*TINY[:-1], "rehearsal.num_motions=0"]
    )
    assert "token loss, rehearsed motions" not in report.scores
    lamp, processor = LampModel.from_pretrained(tiny_checkpoint), LampProcessor.from_pretrained(tiny_checkpoint)
    processor.example_texts = ["a person bows"]
    LampForTextToMotion.from_lamp(lamp, hidden_size=8, num_attention_heads=1, length_hidden_sizes=None).save_pretrained(
        tmp_path / "base"
    )
    processor.save_pretrained(tmp_path / "base")
    with pytest.raises(ValueError, match=r"no length estimator.*rehearsal\.num_motions=0"):
        fine_tune(my_mocap, tmp_path / "other", base=str(tmp_path / "base"), overrides=TINY)
    assert not (tmp_path / "other").exists()


def test_rehearsed_motions_depend_only_on_the_seed(tiny_base: Path) -> None:
    model, processor = LampForTextToMotion.from_pretrained(tiny_base), LampProcessor.from_pretrained(tiny_base)
    first, held_out = rehearse(model, processor, num_motions=11, seed=3)
    again, _ = rehearse(model, processor, num_motions=11, seed=3)
    assert (len(first), len(held_out)) == (9, 2)
    assert all(np.array_equal(a.codes, b.codes) for a, b in zip(first, again, strict=True))
    assert all(len(motion.features) == 4 * len(motion.codes) for motion in first)


def test_targets_of_rehearsed_motions_are_the_probabilities_of_the_base(
    my_mocap: Path, tiny_base: Path, tmp_path: Path
) -> None:
    recipe = Recipe(
        stage="text-to-motion",
        base=str(tiny_base),
        data={"name": str(my_mocap)},
        rehearsal={"num_motions": 12},
        trainer={"max_steps": 1},
    )
    stage = TextToMotionStage(recipe, TrainingArguments(output_dir=str(tmp_path), max_steps=1, use_cpu=True))
    rng = np.random.default_rng(0)
    new, old = stage.example(0, rng), stage.rehearsed_example(stage.rehearsed[0], rng)
    batch = stage.complete(stage.collate([new, old, new]))
    targets, codes = batch["token_targets"], batch["motion_codes"]
    taught = slice(0, len(old["codes"]))
    assert torch.equal(targets[0].argmax(-1), codes[0].clamp(min=0))
    assert (targets[[0, 2]].amax(-1) == 1).all()
    assert (targets[1].sum(-1) - 1).abs().max() < 1e-5
    assert targets[1, taught].amax(-1).max() < 1  # the untrained base has no confident predictions

    def token_gradient(example: dict) -> float:
        stage.model.eval().zero_grad()
        stage.model(**stage.complete(stage.collate([example]))).loss.backward()
        return float(stage.model.masked_transformer.classifier.weight.grad.abs().max())

    assert token_gradient(old) < 1e-6  # it still equals the base and gives the same predictions
    assert token_gradient(new) > 1e-3
    with torch.no_grad():
        stage.model.masked_transformer.classifier.weight.zero_()
    again = stage.complete(stage.collate([old]))["token_targets"]
    assert (again.amax(-1) - again.amin(-1)).min() > 0.01  # training does not change the teacher
    stage.reused_codes[5] = True
    less = stage.complete(stage.collate([old, new]))["token_targets"]
    assert not less[0, :, 5].any()
    assert (less[0, taught].sum(-1) - 1).abs().max() < 1e-5
    assert torch.equal(less[1].argmax(-1), batch["motion_codes"][0].clamp(min=0)[: less.shape[1]])


def test_example_texts_cover_all_labels_and_keep_known_ones(tiny_set: Path) -> None:
    train = load_motion_dataset(tiny_set)["train"]
    texts = choose_example_texts(train, train["content"])
    assert texts == [
        "a person walks forward",
        "a person waves with one hand",
        "someone is walking",
        "someone is waving",
    ]
    assert choose_example_texts(train, train["content"], ["a bow", "someone is waving"])[:2] == [
        "a bow",
        "someone is waving",
    ]
    many = [f"text {number}" for number in range(2500)]
    kept = choose_example_texts(train, train["content"], many)
    assert len(kept) == 2000
    assert set(texts) < set(kept)


def test_example_texts_of_many_labels_do_not_prefer_the_first_labels(tiny_set: Path) -> None:
    row = load_motion_dataset(tiny_set)["train"][0]
    captions = [[{**row["captions"][0], "text": f"text {number}"}] for number in range(5000)]
    many = Dataset.from_dict({"captions": captions})
    texts = choose_example_texts(many, [f"{number:04d}" for number in range(5000)])
    numbers = [int(text.split()[1]) for text in texts]
    assert len(set(numbers)) == 2000
    assert 2300 < sum(numbers) / 2000 < 2700


def test_command_asks_for_missing_values(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, words in (
        (["train", "lamp", "-o", "r"], "choose a recipe with --config"),
        (["train", "text-to-motion", "-o", "r"], "use the stage text-to-motion with --data"),
        (["train", "lamp", "-o", "r", "-c", "x.yaml", "--lora"], "only apply to fine-tuning without --config"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 2
        assert words in " ".join(capsys.readouterr().err.replace("│", " ").split())
