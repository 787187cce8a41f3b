"""Motion captioning compared with outputs of the authors' released code, with the settings that reproduce it."""

import copy
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from lamp_hf.conversion.state_dicts import captioning_state_dict
from lamp_hf.modeling.configuration_lamp import LampConfig, LampWithLanguageModelConfig
from lamp_hf.modeling.modeling_lamp_language_model_captioning import LampWithLanguageModelForMotionCaptioning

QUERIES = 7


@pytest.fixture(scope="module", params=["sdpa", "eager"])
def case(
    request: pytest.FixtureRequest, golden: Path, released_lamp_config: Callable[..., LampConfig]
) -> SimpleNamespace:
    about = json.loads((golden / "m2t.json").read_text())
    config = LampWithLanguageModelConfig(
        lamp_config=released_lamp_config(),
        language_model_config=about["opt_config"],
        bos_token_id=2,
        eos_token_id=about["facts"]["eos_token_id"],
        pad_token_id=1,
    )
    config._attn_implementation = request.param
    model = LampWithLanguageModelForMotionCaptioning(config).eval()
    assert model.lamp.config._attn_implementation == request.param
    assert model.language_model.config._attn_implementation == request.param
    original = load_file(golden / "m2t.state_dict.safetensors")
    lamp = load_file(golden / "lamp.state_dict.safetensors")
    loaded = model.load_state_dict(captioning_state_dict(original, lamp), strict=False)
    assert not loaded.unexpected_keys
    assert [name for name in loaded.missing_keys if "lm_head" not in name] == []  # tied
    io = load_file(golden / "m2t.io.safetensors")
    return SimpleNamespace(model=model, io=io, original=original, lamp=lamp)


@pytest.fixture
def close(parity: Callable[..., None]) -> Callable[..., None]:
    return partial(parity, "m2t")


@torch.no_grad()
def test_loss_and_logits_equal_released_code(case, close):
    model, io = case.model, case.io
    mask = io["attention_mask"][:, QUERIES:]
    embeds, whole_mask = model._prompted(model.query(io["motion"]), io["opt_input_ids_with_newline"], mask)
    close(embeds, io["inputs_embeds"])
    assert torch.equal(whole_mask, io["attention_mask"])
    output = model(
        motion_values=io["motion"],
        input_ids=io["opt_input_ids_with_newline"],
        attention_mask=mask,
        labels=io["labels"][:, QUERIES:],
    )
    real = io["attention_mask"].bool()  # values on padding have no meaning, and depend on the attention kernel
    close(output.logits[real], io["logits"][real])
    close(output.loss, io["loss"])


@pytest.mark.parametrize(("name", "options"), [("greedy_ids", {}), ("beam5_ids", {"num_beams": 5})])
def test_captions_equal_released_code(case, close, name, options):
    model, io = case.model, case.io
    embeds, mask = model._prompted(model.query(io["motion"]), io["prompt_ids"].expand(2, -1), None)
    close(embeds, io["gen_inputs_embeds"])
    assert torch.equal(mask, io["gen_attention_mask"])
    ids = model.generate(io["motion"], input_ids=io["prompt_ids"], max_new_tokens=31, do_sample=False, **options)
    assert torch.equal(ids, io[name])


@torch.no_grad()
def test_merging_the_adapter_does_not_change_logits(case, close):
    io = case.io
    model = LampWithLanguageModelForMotionCaptioning(copy.deepcopy(case.model.config)).eval()
    model.load_state_dict(case.model.state_dict())
    model.merge_adapter()
    assert not any("lora" in name for name in model.state_dict())
    output = model(io["motion"][1:], input_ids=io["opt_input_ids_with_newline"][1:])  # the row without padding
    close(output.logits, io["logits"][1:])


def test_tensor_names_of_both_peft_versions_are_accepted(case):
    tensors = captioning_state_dict(case.original, case.lamp)
    old = {
        name.replace("opt_model.", "llm.base_model.model.").replace(".base_layer", ""): tensor
        for name, tensor in case.original.items()
    }
    found = captioning_state_dict(old, case.lamp)
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())
    with pytest.raises(ValueError, match="1 tensors do not belong to an original captioning checkpoint: gpt"):
        captioning_state_dict(case.original | {"gpt": torch.zeros(1)}, case.lamp)
