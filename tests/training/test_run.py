"""Whole training runs at a tiny size: learning, exact resuming, and checkpoints that load."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import pipeline

from lamp_hf.data import load_motion_dataset
from lamp_hf.locks import folder_lock
from lamp_hf.modeling.configuration_generation_lamp import MaskedMotionGenerationConfig
from lamp_hf.modeling.initialization_lamp import text_encoder_parameters
from lamp_hf.modeling.modeling_lamp import LampModel
from lamp_hf.modeling.modeling_lamp_language_model_captioning import LampWithLanguageModelForMotionCaptioning
from lamp_hf.modeling.modeling_lamp_text_to_motion import LampForTextToMotion
from lamp_hf.modeling.modeling_motion_vqvae import MotionVQVAEModel
from lamp_hf.modeling.processing_lamp import LampProcessor
from lamp_hf.training import Recipe, train
from lamp_hf.training.stages.captioning import window_clips

pytestmark = pytest.mark.slow


def test_tokenizer_learns(stages):
    history = json.loads((stages["motion-vqvae"] / "training.json").read_text())
    losses = [entry["reconstruction_loss"] for entry in history["log"] if "reconstruction_loss" in entry]
    assert len(losses) == 30
    assert losses[-1] < 0.9 * losses[0]
    assert 0 < history["metrics"]["eval_codebook_use"] <= 1
    assert history["metrics"]["eval_mpjpe_mm"] > 0


def test_each_stage_contains_the_previous_one_unchanged(stages):
    tokenizer = MotionVQVAEModel.from_pretrained(stages["motion-vqvae"])
    model = LampForTextToMotion.from_pretrained(stages["text-to-motion"])
    lamp = LampModel.from_pretrained(stages["lamp"])
    for name, tensor in tokenizer.state_dict().items():
        assert torch.equal(model.lamp.motion_vqvae.state_dict()[name], tensor), name
    for name, tensor in lamp.state_dict().items():
        assert torch.equal(model.lamp.state_dict()[name], tensor), name


def test_all_parts_of_the_losses_are_logged(stages):
    parts = {
        "motion-vqvae": [
            "reconstruction_loss",
            "position_loss",
            "velocity_loss",
            "commitment_loss",
            "perplexity",
        ],
        "lamp": ["contrastive_loss", "matching_loss", "captioning_loss", "motion_token_loss"],
        "text-to-motion": ["token_loss", "length_loss"],
    }
    for stage, names in parts.items():
        log = json.loads((stages[stage] / "training.json").read_text())["log"]
        for name in names:
            assert any(name in entry for entry in log), (stage, name)


def test_two_trainings_in_one_folder_are_refused(stages, tmp_path):
    recipe = Recipe(**yaml.safe_load((stages["motion-vqvae"] / "recipe.yaml").read_text()))
    folder = tmp_path / "run"
    folder.mkdir()
    with folder_lock(folder, busy="", wait=False), ThreadPoolExecutor() as other:
        with pytest.raises(
            BlockingIOError, match="run is in use: another training run is writing there; wait for it, or"
        ):
            other.submit(train, recipe, folder).result()
        assert [path.name for path in folder.iterdir()] == [".lock"]


def test_recipe_sets_the_generation_settings(stages, tmp_path):
    saved = MaskedMotionGenerationConfig.from_pretrained(stages["text-to-motion"])
    assert (saved.guidance_scale, saved.num_inference_steps) == (2.5, 10)
    recipe = Recipe(**yaml.safe_load((stages["text-to-motion"] / "recipe.yaml").read_text()))
    recipe.generation = {"guidance": 2.5}
    with pytest.raises(ValueError, match=r"has the unknown key guidance \(did you mean guidance_scale"):
        train(recipe, tmp_path)


def test_captions_of_parts_are_not_used_for_whole_clips(stages, tiny_set, tmp_path):
    def timed(row):
        return {"captions": [{**caption, "start": 0.5, "end": 1.0} for caption in row["captions"]]}

    load_motion_dataset(tiny_set).map(timed).save_to_disk(tmp_path / "data")
    recipe = Recipe(**yaml.safe_load((stages["motion-vqvae"] / "recipe.yaml").read_text()))
    recipe.data = {"name": str(tmp_path / "data")}
    with pytest.raises(
        ValueError, match=r"clip00 has a caption for only a part of it, from 0\.5 to 1 s: make this part"
    ):
        train(recipe, tmp_path / "run")


def test_language_model_learns_the_captions(stages):
    log = json.loads((stages["language-model"] / "training.json").read_text())["log"]
    losses = [entry["eval_loss"] for entry in log if "eval_loss" in entry]
    assert losses[-1] < 0.7 * log[0]["loss"]


def test_captioner_stores_its_trained_parts_and_names_the_others(stages, walker):
    model = LampWithLanguageModelForMotionCaptioning.from_pretrained(stages["captioning"])
    assert model.config.lamp_name == str(stages["lamp"])
    assert model.config.language_model_name == str(stages["language-model"])
    stored = load_file(stages["captioning"] / "model.safetensors")
    assert all(name.startswith("projection.") or ".lora_" in name for name in stored)
    lamp = LampModel.from_pretrained(stages["lamp"])
    for name, tensor in lamp.state_dict().items():
        assert torch.equal(model.lamp.state_dict()[name], tensor), name
    [answer] = pipeline("motion-captioning", model=str(stages["captioning"]), device="cpu")(walker)
    assert answer["caption"]
    assert "[" not in answer["caption"]


def test_lamp_may_learn_along_with_the_captioner(stages, tmp_path, walker):
    recipe = Recipe(**yaml.safe_load((stages["captioning"] / "recipe.yaml").read_text()))
    recipe.model |= {"train_lamp": True, "lora_dropout": 0.0}
    recipe.trainer |= {"max_steps": 4, "eval_steps": 2, "save_steps": 2, "learning_rate": 0.01}
    model = LampWithLanguageModelForMotionCaptioning.from_pretrained(train(recipe, tmp_path / "run"))
    assert model.config.lamp_name is None
    before, after = LampModel.from_pretrained(stages["lamp"]).state_dict(), model.lamp.state_dict()
    changed = {name for name, tensor in before.items() if not torch.equal(after[name], tensor)}
    assert {"query_tokens", "motion_to_states.weight"} < changed
    assert not any(name.startswith("motion_vqvae.") for name in changed)
    assert pipeline("motion-captioning", model=str(tmp_path / "run"), device="cpu")(walker)[0]["caption"]
    # What is computed before training is what the model computes from the motion.
    lamp, extractor = model.lamp.eval(), LampProcessor.from_pretrained(tmp_path / "run").feature_extractor
    [[latents]] = window_clips(lamp, extractor, [walker.features], max_tokens=49, all_starts=False)
    inputs = extractor(walker)
    with torch.no_grad():
        expected = model.query(**inputs)
        found = model.query(motion_embeds=torch.from_numpy(latents).float()[None])
    torch.testing.assert_close(found, expected, atol=2e-3, rtol=2e-3)  # latents are stored in half precision
    recipe.model["train_lamp"] = "yes"
    with pytest.raises(ValueError, match=r"model\.train_lamp='yes' is not true or false"):
        train(recipe, tmp_path / "other")


def test_each_run_has_a_card_that_names_its_base(stages):
    for stage, folder in stages.items():
        card = (folder / "README.md").read_text()
        assert f"| stage | {stage} |" in card
        assert "license: other" in card
    assert "| from | `lamp` |" in (stages["text-to-motion"] / "README.md").read_text()
    assert "| token loss | " in (stages["text-to-motion"] / "README.md").read_text()


@pytest.mark.parametrize("stage", ["motion-vqvae", "lamp", "text-to-motion", "language-model", "captioning"])
def test_interrupted_run_resumes_bit_exactly(stages, tmp_path, stage):
    recipe = Recipe(**yaml.safe_load((stages[stage] / "recipe.yaml").read_text()))
    recipe.trainer |= {"max_steps": 6, "eval_steps": 3, "save_steps": 3, "load_best_model_at_end": False}
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    train(recipe, whole)
    # A run that is killed after step 3 leaves only that checkpoint.
    shutil.copytree(whole / "checkpoint-3", stopped / "checkpoint-3")
    train(recipe, stopped)
    assert "train_runtime" not in json.loads((stopped / "training.json").read_text())["metrics"]  # it knows only a part
    expected, resumed = load_file(whole / "model.safetensors"), load_file(stopped / "model.safetensors")
    assert expected.keys() == resumed.keys()
    for name, tensor in expected.items():
        assert torch.equal(tensor, resumed[name]), name


def test_text_encoder_parameters_have_their_own_learning_rate(stages, tmp_path):
    recipe = Recipe(**yaml.safe_load((stages["lamp"] / "recipe.yaml").read_text()))
    recipe.base, recipe.text_learning_rate = str(stages["lamp"]), 0.0
    recipe.trainer |= {"max_steps": 2, "eval_steps": 2, "save_steps": 2, "load_best_model_at_end": False}
    before = LampModel.from_pretrained(stages["lamp"])
    after = LampModel.from_pretrained(train(recipe, tmp_path))
    for old, new in zip(text_encoder_parameters(before), text_encoder_parameters(after), strict=True):
        assert torch.equal(old, new)
    for name in ("query_tokens", "motion_to_states.weight", "text_projection.bias"):
        assert not torch.equal(before.state_dict()[name], after.state_dict()[name]), name


def test_error_of_a_stage_without_a_base_says_what_is_needed(tiny_set, tmp_path):
    recipe = Recipe(stage="lamp", data={"name": str(tiny_set)}, trainer={"max_steps": 1})
    with pytest.raises(ValueError, match="stage lamp needs base: the folder of a trained motion-vqvae"):
        train(recipe, tmp_path)


def test_unknown_stage_is_refused(tmp_path):
    with pytest.raises(ValueError, match="unknown stage 'vq'; choose one of motion-vqvae, lamp, text-to-motion"):
        train(Recipe(stage="vq"), tmp_path)
