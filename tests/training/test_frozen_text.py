"""Text-to-motion training with a frozen text side."""

from dataclasses import replace

import pytest
import torch
import yaml

from lamp_hf.modeling.modeling_lamp_text_to_motion import LampForTextToMotion
from lamp_hf.training import Recipe, train
from lamp_hf.training.stages.lora import add_lora

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def frozen(stages, tmp_path_factory):
    """A text-to-motion run that does not train the text side."""
    recipe = Recipe(**yaml.safe_load((stages["text-to-motion"] / "recipe.yaml").read_text()))
    recipe = replace(recipe, model={**recipe.model, "train_text_to_condition": False, "condition_on_words": True})
    return train(recipe, tmp_path_factory.mktemp("frozen") / "text-to-motion")


def test_frozen_text_side_stays_the_copy_of_lamp(frozen, stages):
    model = LampForTextToMotion.from_pretrained(frozen)
    assert torch.equal(model.text_to_condition.weight, model.lamp.text_to_states.weight)
    assert not model.text_to_condition.weight.requires_grad
    assert model.words_to_condition.weight.requires_grad
    trained = LampForTextToMotion.from_pretrained(stages["text-to-motion"])
    assert not torch.equal(trained.text_to_condition.weight, trained.lamp.text_to_states.weight)


def test_adapter_leaves_out_the_frozen_text_side(frozen):
    adapter = add_lora(LampForTextToMotion.from_pretrained(frozen), rank=2)
    names = {name for name, weight in adapter.named_parameters() if weight.requires_grad}
    assert any("words_to_condition" in name for name in names)
    assert not any("text_to_condition" in name for name in names)
