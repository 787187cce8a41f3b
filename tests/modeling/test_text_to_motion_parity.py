"""Text to motion compared with outputs of the authors' released code, with the settings that reproduce it."""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from lamp_hf.conversion.state_dicts import length_estimator_state_dict, text_to_motion_state_dict
from lamp_hf.modeling import masked_decoding
from lamp_hf.modeling.configuration_generation_lamp import MaskedMotionGenerationConfig
from lamp_hf.modeling.configuration_lamp import LampConfig, LampTextToMotionConfig
from lamp_hf.modeling.masked_decoding import Window, decode_windows
from lamp_hf.modeling.masking_lamp import MaskingDraws, mask_codes
from lamp_hf.modeling.modeling_lamp_text_to_motion import LampForTextToMotion
from lamp_hf.modeling.modeling_motion_length_estimator import MotionLengthEstimator

MASK, PAD = 32, 33


@pytest.fixture(scope="module", params=["sdpa", "eager"])
def case(
    request: pytest.FixtureRequest, golden: Path, released_lamp_config: Callable[..., LampConfig]
) -> SimpleNamespace:
    config = LampTextToMotionConfig(
        lamp_config=released_lamp_config(max_text_length=14),
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=72,
        attention_bias="soft_causal",
        mask_token_padding=False,
        train_token_embeddings=True,
    )
    model = LampForTextToMotion(config).eval()
    original = load_file(golden / "t2m.state_dict.safetensors")
    tensors = text_to_motion_state_dict(original, load_file(golden / "lamp.state_dict.safetensors"))
    loaded = model.load_state_dict(tensors, strict=False)
    assert not loaded.unexpected_keys
    assert all(name.startswith("length_estimator.") for name in loaded.missing_keys)
    model.set_attn_implementation(request.param)
    io = load_file(golden / "t2m.io.safetensors")
    return SimpleNamespace(model=model, io=io, text=(io["input_ids"], io["attention_mask"]))


@pytest.fixture
def close(parity: Callable[..., None]) -> Callable[..., None]:
    return partial(parity, "t2m")


@torch.no_grad()
def test_condition_equals_released_code(case, close):
    states = case.model.lamp.encode_text(*case.text)
    close(states, case.io["text_last_hidden"])
    close(case.model.text_to_condition(states), case.io["text2former_out"])
    close(case.model.get_text_condition(*case.text), case.io["cond_vector"])
    close(
        case.model.get_text_condition(text_hidden_states=states, attention_mask=case.text[1]),
        case.io["cond_vector"],
    )


@torch.no_grad()
def test_logits_equal_released_code(case, close):
    condition, ids = case.io["cond_vector"], case.io["motion_ids"]
    conditional = case.model.predict_tokens(ids, condition).transpose(1, 2)
    unconditional = case.model.predict_tokens(ids, torch.zeros_like(condition)).transpose(1, 2)
    close(conditional, case.io["logits"])
    close(conditional, case.io["logits_cs1"])
    close(unconditional, case.io["logits_uncond"])
    close(unconditional + 4 * (conditional - unconditional), case.io["logits_cs4"])


@torch.no_grad()
def test_training_loss_equals_released_code(case, close):
    io = case.io
    codes = io["train_ids"].masked_fill(io["padding_mask"], -100)
    guessed = io["train_labels"] != MASK
    # The released code counts from the padded length; these are the same counts and choices in our form.
    draws = MaskingDraws(
        time=torch.acos(guessed.sum(-1) / io["m_lens"]) * 2 / math.pi,
        order=(~guessed).float(),
        replace=(~io["train_bernoulli0_replace_draw"]).float(),
        hide=(~io["train_bernoulli1_mask_draw"]).float(),
        codes=io["train_rand_id"],
    )
    ids, labels = mask_codes(codes, draws, MASK)
    assert torch.equal(ids, io["train_x_ids"])
    assert torch.equal(labels, io["train_labels"].masked_fill(~guessed, -100))
    output = case.model(*case.text, motion_codes=codes, draws=draws)
    close(output.condition, io["train_cond"])
    close(output.logits.transpose(1, 2), io["train_train_logits"])
    close(output.token_loss, io["train_loss"])
    assert torch.equal(output.logits.argmax(-1), io["train_pred_id"])


def test_masking_of_a_full_clip_equals_released_code(case):
    io = case.io
    draws = MaskingDraws(
        time=io["train_rand_time"][:1],
        order=io["train_rand_perm_source"][:1].argsort(-1).float(),
        replace=(~io["train_bernoulli0_replace_draw"][:1]).float(),
        hide=(~io["train_bernoulli1_mask_draw"][:1]).float(),
        codes=io["train_rand_id"][:1],
    )
    ids, labels = mask_codes(io["train_ids"][:1], draws, MASK)
    assert torch.equal(ids, io["train_x_ids"][:1])
    expected = io["train_labels"][:1]
    assert torch.equal(labels, expected.masked_fill(expected == MASK, -100))


def decode_as_released(case, config: MaskedMotionGenerationConfig, seen: list[torch.Tensor]) -> torch.Tensor:
    """Run the decoding loop on the released batch, in which padding is visible (T2): ids `(3, 16)`."""
    io = case.io
    windows = []
    for length in io["m_lens"].tolist():
        window = Window(
            torch.full((length,), MASK),
            0,
            torch.ones(length, dtype=torch.bool),
            torch.Generator(),
            torch.empty(1, 48),
            torch.empty(48),
        )
        windows.append(window)

    def padded() -> torch.Tensor:
        ids = torch.full((3, 16), PAD)
        for row, window in enumerate(windows):
            ids[row, : len(window)] = window.tokens
        return ids

    def predict(windows: list[Window], scale: float) -> list[torch.Tensor]:
        ids = padded()
        seen.append(ids)
        conditional = case.model.predict_tokens(ids, io["cond_vector"])
        unconditional = case.model.predict_tokens(ids, torch.zeros_like(io["cond_vector"]))
        logits = unconditional + scale * (conditional - unconditional)
        case.logits.append(logits.transpose(1, 2))
        return [logits[row, : len(window)] for row, window in enumerate(windows)]

    case.logits = []
    decode_windows(windows, predict, config, MASK)
    return padded()


@torch.no_grad()
def test_greedy_decoding_equals_released_code_step_by_step(case, close):
    seen: list[torch.Tensor] = []
    ids = decode_as_released(case, MaskedMotionGenerationConfig(temperature=0), seen)
    assert torch.equal(torch.stack(seen), case.io["gen_argmax_step_input_ids"])
    close(torch.stack(case.logits), case.io["gen_argmax_step_logits"])
    assert torch.equal(ids, case.io["gen_argmax_ids"])


@torch.no_grad()
def test_greedy_decoding_in_18_steps_equals_released_code(case):
    config = MaskedMotionGenerationConfig(temperature=0, num_inference_steps=18, guidance_scale=2)
    assert torch.equal(decode_as_released(case, config, []), case.io["gen_argmax_ts18_cs2_ids"])


@torch.no_grad()
def test_sampling_equals_released_code_with_its_noise(case, monkeypatch):
    steps = iter(case.io["gen_gumbel_uniform"].flatten(0, 1))
    monkeypatch.setattr(masked_decoding, "draw_uniform", lambda _, shape: next(steps)[: shape[0]])
    seen: list[torch.Tensor] = []
    ids = decode_as_released(case, MaskedMotionGenerationConfig(), seen)
    assert torch.equal(torch.stack(seen), case.io["gen_gumbel_step_input_ids"])
    assert torch.equal(ids, case.io["gen_gumbel_ids"])


def test_generate_equals_released_code_without_padding(case):
    first = {"input_ids": case.text[0][:1], "attention_mask": case.text[1][:1]}
    output = case.model.generate(**first, num_tokens=16, temperature=0)
    assert torch.equal(output.motion_codes, case.io["gen_argmax_ids"][:1])
    output = case.model.generate(**first, num_tokens=16, temperature=0, num_inference_steps=18, guidance_scale=2)
    assert torch.equal(output.motion_codes, case.io["gen_argmax_ts18_cs2_ids"][:1])


@torch.no_grad()
def test_length_estimator_equals_released_code(golden, parity):
    estimator = MotionLengthEstimator(32, (512, 256, 128), 49, 0.2).eval()
    original = load_file(golden / "length_estimator.state_dict.safetensors")
    estimator.load_state_dict(length_estimator_state_dict(original))
    io = load_file(golden / "length_estimator.io.safetensors")
    logits = estimator(io["text_emb"])
    parity("length_estimator", logits, io["logits"][:, 1:])  # class 0 of the original is a motion without tokens
    assert torch.equal(logits.argmax(-1), io["logits"][:, 1:].argmax(-1))
    assert not torch.equal(io["argmax"], torch.zeros_like(io["argmax"]))


def test_unknown_tensors_are_refused(golden):
    lamp = load_file(golden / "lamp.state_dict.safetensors")
    original = load_file(golden / "t2m.state_dict.safetensors")
    with pytest.raises(ValueError, match="original text-to-motion checkpoint: bert"):
        text_to_motion_state_dict(original | {"bert": torch.zeros(1)}, lamp)
    with pytest.raises(ValueError, match="length-estimator checkpoint: other"):
        length_estimator_state_dict({"other": torch.zeros(1)})
