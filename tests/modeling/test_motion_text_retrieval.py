"""LampForMotionTextRetrieval loads from any checkpoint that contains LaMP, and equals it."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import lamp_hf
from lamp_hf.conversion.state_dicts import lamp_state_dict
from lamp_hf.modeling.configuration_lamp import LampConfig
from lamp_hf.modeling.modeling_lamp import LampModel
from lamp_hf.modeling.modeling_lamp_motion_text_retrieval import LampForMotionTextRetrieval
from lamp_hf.modeling.modeling_lamp_pretraining import LampForPreTraining


@pytest.fixture(scope="module")
def model(tiny_checkpoint: Path) -> LampForMotionTextRetrieval:
    return LampForMotionTextRetrieval.from_pretrained(tiny_checkpoint)


@pytest.mark.parametrize("kind", ["text-to-motion", "lamp", "pretraining", "retrieval"])
def test_loads_from_every_checkpoint_that_contains_lamp(
    kind: str, tiny_checkpoint: Path, tmp_path: Path, model
) -> None:
    path = tiny_checkpoint
    if kind != "text-to-motion":
        path = tmp_path
        whole = LampForPreTraining(model.config)
        whole.lamp.load_state_dict(model.lamp.state_dict())
        {"lamp": whole.lamp, "pretraining": whole, "retrieval": model}[kind].save_pretrained(path)
    loaded, report = LampForMotionTextRetrieval.from_pretrained(path, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert isinstance(loaded.config, LampConfig)
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.lamp.motion_vqvae.parameters())
    expected = model.lamp.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in loaded.lamp.state_dict().items())


def test_configuration_of_the_whole_checkpoint_is_accepted(tiny_checkpoint: Path, model) -> None:
    config = lamp_hf.LampTextToMotionConfig.from_pretrained(tiny_checkpoint)
    loaded = LampForMotionTextRetrieval.from_pretrained(tiny_checkpoint, config=config)
    assert isinstance(loaded.config, LampConfig)
    assert torch.equal(loaded.lamp.query_tokens, model.lamp.query_tokens)


def test_saves_a_lamp_checkpoint(tmp_path: Path, model) -> None:
    model.save_pretrained(tmp_path)
    assert torch.equal(LampModel.from_pretrained(tmp_path).query_tokens, model.lamp.query_tokens)


@torch.no_grad()
def test_matching_from_latents_equals_matching_from_motions(tiny_checkpoint: Path, model, walker, waver) -> None:
    processor = lamp_hf.LampProcessor.from_pretrained(tiny_checkpoint)
    motions = [walker.features, waver.features[:30]]
    inputs = processor(text=["the person walks", "waves"], motion=motions)
    encoded = model.encode_motion(inputs["motion_values"], inputs["motion_attention_mask"])
    latents, mask = encoded.motion_embeds, encoded.motion_token_mask
    features = model.get_motion_features(motion_embeds=latents, motion_token_mask=mask)
    torch.testing.assert_close(
        features, model.get_motion_features(inputs["motion_values"], inputs["motion_attention_mask"])
    )
    torch.testing.assert_close(features.norm(dim=-1), torch.ones(2, 4))
    assert mask.sum(-1).tolist() == [14, 7]
    text = {"input_ids": inputs["input_ids"], "attention_mask": inputs["attention_mask"]}
    logits = model.matching_logits(latents, mask, **text)
    torch.testing.assert_close(logits.sigmoid(), model.lamp.matching_score(**inputs))
    # Padding does not matter.
    latents[1, 7:] = 9.0
    torch.testing.assert_close(model.matching_logits(latents, mask, **text), logits)
    similarities = torch.tensor([0.5, -0.25])
    expected = logits + similarities * model.lamp.logit_scale.exp()
    torch.testing.assert_close(model.rerank_scores(similarities, logits), expected)

    output = model(**inputs)
    torch.testing.assert_close(
        output.logits_per_motion, model.similarity(features, output.text_features) * model.lamp.scale()
    )


@torch.no_grad()
def test_similarities_equal_released_code(golden: Path, released_lamp_config: Callable[..., LampConfig]) -> None:
    model = LampForMotionTextRetrieval(released_lamp_config()).eval()
    model.lamp.load_state_dict(lamp_state_dict(load_file(golden / "lamp.state_dict.safetensors")))
    io = load_file(golden / "lamp.io.safetensors")
    encoded = model.encode_motion(io["motion"])
    latents, mask = encoded.motion_embeds, encoded.motion_token_mask
    features = model.get_motion_features(motion_embeds=latents, motion_token_mask=mask)
    text = model.get_text_features(io["input_ids"], io["attention_mask"])
    similarity = model.similarity(features, text)
    motions = torch.cat([torch.arange(3), io["neg_motion_idx"], torch.arange(3)])
    texts = torch.cat([torch.arange(3), torch.arange(3), io["neg_text_idx"]])
    logits = model.matching_logits(latents[motions], mask[motions], io["input_ids"][texts], io["attention_mask"][texts])
    for actual, expected in (
        (features, io["motion_feats"]),
        (text, io["text_feat"]),
        (similarity, io["sim_q2t"].amax(-1)),
        (similarity * model.lamp.scale(), io["sim_p2t_max_scaled"]),
        (logits, io["ptm_logits"][:, 1] - io["ptm_logits"][:, 0]),
    ):
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-4)
