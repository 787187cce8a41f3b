"""Tokenizers with other quantizers than the paper's work in all stages."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml
from transformers import pipeline

from lamp_hf.modeling.modeling_lamp_text_to_motion import LampForTextToMotion
from lamp_hf.modeling.modeling_motion_vqvae import MotionVQVAEModel
from lamp_hf.modeling.processing_lamp import LampProcessor
from lamp_hf.training import Recipe, train
from lamp_hf.training.stages.rehearsal import rehearse

pytestmark = pytest.mark.slow
QUANTIZERS = {
    "grid": {"num_codes": 12, "scalar_levels": [4, 3]},
    "residual": {"num_codes": 12, "num_quantizers": 3, "quantizer_dropout": 0.3},
}


@pytest.fixture(params=QUANTIZERS)
def quantizer(request: pytest.FixtureRequest) -> dict:
    return QUANTIZERS[request.param]


def recipe_like(stages, stage: str, **changes) -> Recipe:
    return replace(Recipe(**yaml.safe_load((stages[stage] / "recipe.yaml").read_text())), **changes)


def test_quantizers_work_in_all_stages(quantizer, stages, tokenizer_recipe, tiny_set, tmp_path):
    recipe = tokenizer_recipe(tiny_set, max_steps=30, eval_steps=15, save_steps=15)
    recipe.model |= quantizer
    first = train(recipe, tmp_path / "motion-vqvae")
    history = json.loads((first / "training.json").read_text())
    losses = [entry["reconstruction_loss"] for entry in history["log"] if "reconstruction_loss" in entry]
    assert losses[-1] < 0.9 * losses[0]
    assert 0 < history["metrics"]["eval_codebook_use"] <= 1

    second = train(recipe_like(stages, "lamp", base=str(first)), tmp_path / "lamp")
    whole = train(recipe_like(stages, "text-to-motion", base=str(second)), tmp_path / "text-to-motion")
    model = LampForTextToMotion.from_pretrained(whole)
    tokenizer = MotionVQVAEModel.from_pretrained(first)
    for name, tensor in tokenizer.state_dict().items():
        assert torch.equal(model.lamp.motion_vqvae.state_dict()[name], tensor), name
    assert model.lamp.motion_token_head.out_features == model.config.num_codes == 12

    motion = pipeline("text-to-motion", model=str(whole))("a person walks forward", duration=2.0, seed=1)["motion"]
    assert len(motion.features) == 40
    assert np.isfinite(motion.features).all()
    # Trainable embeddings start from the vectors of the codes.
    trainable = LampForTextToMotion.from_lamp(model.lamp, train_token_embeddings=True)
    torch.testing.assert_close(
        trainable.token_embeddings.weight[:12], tokenizer.quantizer.lookup_first(torch.arange(12)), rtol=0, atol=0
    )


def test_rehearsal_keeps_the_codes_of_the_base(quantizer, stages, tokenizer_recipe, tiny_set, tmp_path):
    """Known motions keep their codes while the tokenizer is trained on new clips."""
    recipe = tokenizer_recipe(tiny_set)
    recipe.model |= quantizer
    lamp = train(recipe_like(stages, "lamp", base=str(train(recipe, tmp_path / "motion-vqvae"))), tmp_path / "lamp")
    base = train(recipe_like(stages, "text-to-motion", base=str(lamp)), tmp_path / "text-to-motion")
    more = tokenizer_recipe(tiny_set)
    more.base, more.model = str(base), {"freeze_encoder": True}
    more.rehearsal = {"num_motions": 10, "share": 0.5}
    model = LampForTextToMotion.from_pretrained(base)
    known = model.lamp.motion_vqvae.quantizer
    now = MotionVQVAEModel.from_pretrained(train(more, tmp_path / "more")).quantizer
    for rehearsed in rehearse(model, LampProcessor.from_pretrained(base), num_motions=10, seed=more.seed):
        for motion in rehearsed:
            codes = torch.from_numpy(motion.codes)
            assert torch.equal(known.lookup(codes), now.lookup(codes))
    if "scalar_levels" in quantizer:  # a grid of levels has no trainable codes
        assert all(torch.equal(known.state_dict()[name], tensor) for name, tensor in now.state_dict().items())


def test_several_codebooks_train_and_resume(tokenizer_recipe, tiny_set, tmp_path):
    recipe = tokenizer_recipe(tiny_set, max_steps=8, eval_steps=4, save_steps=4)
    recipe.model |= {"num_quantizers": 2, "quantizer_dropout": 0.3, "foot_loss_weight": 2.0}
    first = train(recipe, tmp_path / "whole")
    history = json.loads((first / "training.json").read_text())
    assert all(entry["foot_loss"] > 0 for entry in history["log"] if "foot_loss" in entry)
    assert any("foot_loss" in entry for entry in history["log"])
    model = MotionVQVAEModel.from_pretrained(first)
    assert [bool(layer.initialized) for layer in model.quantizer.layers] == [True, True]

    half = replace(recipe, trainer={**recipe.trainer, "max_steps": 4, "lr_scheduler_type": "constant"})
    recipe.trainer["lr_scheduler_type"] = "constant"
    whole = MotionVQVAEModel.from_pretrained(train(recipe, tmp_path / "constant")).state_dict()
    train(half, tmp_path / "stopped")
    resumed = MotionVQVAEModel.from_pretrained(train(recipe, tmp_path / "stopped")).state_dict()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
