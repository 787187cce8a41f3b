"""The masked transformer and the length estimator: masks, masking, losses, freezing, saving, precision."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from torch.nn import functional as F

from lamp_hf.modeling.configuration_lamp import LampTextToMotionConfig
from lamp_hf.modeling.masked_motion_transformer import attention_bias, sinusoidal_positions
from lamp_hf.modeling.masking_lamp import MaskingDraws, mask_codes
from lamp_hf.modeling.modeling_lamp import LampModel
from lamp_hf.modeling.modeling_lamp_text_to_motion import LampForTextToMotion
from lamp_hf.modeling.modeling_motion_length_estimator import MotionLengthEstimator

MASK, PAD = 24, 25
BIASES = ["causal", "soft_causal", "none"]


def texts(rows=((5, 6, 7), (8, 9, 10, 11, 12), (13,)), length: int | None = None) -> dict[str, torch.Tensor]:
    """Return captions of these words, padded on the right."""
    length = length or max(map(len, rows)) + 2
    input_ids = torch.tensor([[1, *row, 2] + [0] * (length - 2 - len(row)) for row in rows])
    return {"input_ids": input_ids, "attention_mask": (input_ids != 0).long()}


def clips(lengths=(10, 7, 3), size: int | None = None, seed: int = 0) -> torch.Tensor:
    """Return codes of clips with these numbers of tokens, -100 on padding."""
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(24, (len(lengths), size or max(lengths)), generator=generator)
    for row, length in enumerate(lengths):
        codes[row, length:] = -100
    return codes


def close(actual: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance)


# ---- the masked transformer -----------------------------------------------------------------------------------


def test_positions_match_the_original_transformer():
    positions = sinusoidal_positions(30, 6, torch.zeros(()))
    for position, place in ((0, 0), (3, 1), (7, 2), (29, 5)):
        angle = position / 10000 ** (2 * (place // 2) / 6)
        expected = math.cos(angle) if place % 2 else math.sin(angle)
        assert positions[position, place].item() == pytest.approx(expected, abs=1e-5)


def test_attention_biases_hide_and_favor_tokens():
    mask = torch.tensor([[1, 1, 0]])
    like = torch.zeros(())
    past = torch.ones(4, 4).tril()
    assert attention_bias("none", 3, None, like) is None
    assert torch.equal(attention_bias("soft_causal", 3, None, like)[0, 0], past)
    assert torch.equal(attention_bias("causal", 3, None, like)[0, 0] < -1e4, past == 0)
    hidden = torch.tensor([False, False, False, True])  # the condition comes first
    assert torch.equal(attention_bias("none", 3, mask, like)[0, 0] < -1e4, hidden[None])
    assert torch.equal(attention_bias("causal", 3, mask, like)[0, 0] < -1e4, (past == 0) | hidden)


@torch.no_grad()
@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("bias", BIASES)
def test_padding_does_not_change_logits(tiny_text_to_motion, bias, implementation):
    model = tiny_text_to_motion(attention_bias=bias)
    model.set_attn_implementation(implementation)
    condition = torch.randn(3, 32)
    codes = clips()
    mask = codes >= 0
    together = model.predict_tokens(codes.masked_fill(~mask, PAD), condition, mask)
    others = model.predict_tokens(codes.masked_fill(~mask, 3), condition, mask)
    for row, length in enumerate((10, 7, 3)):
        alone = model.predict_tokens(codes[row : row + 1, :length], condition[row : row + 1])
        close(together[row, :length], alone[0])
        close(others[row, :length], alone[0])
    released = tiny_text_to_motion(attention_bias=bias, mask_token_padding=False)
    seen = released.predict_tokens(codes.masked_fill(~mask, 3), condition, mask)
    if bias != "causal":  # padding comes last, so causal attention never sees it
        assert (seen[2, :3] - others[2, :3]).abs().max() > 1e-3


@torch.no_grad()
@pytest.mark.parametrize("bias", BIASES)
def test_only_causal_models_ignore_later_tokens(tiny_text_to_motion, bias):
    model = tiny_text_to_motion(attention_bias=bias)
    ids, condition = clips((12,)), torch.randn(1, 32)
    changed = ids.clone()
    changed[0, -1] = (ids[0, -1] + 1) % 24
    difference = (model.predict_tokens(ids, condition) - model.predict_tokens(changed, condition)).abs()
    assert difference[0, -1].max() > 1e-2
    if bias == "causal":
        assert difference[0, :-1].max() == 0
    else:
        assert difference[0, :-1].amax(-1).min() > 1e-4
    changed = ids.clone()
    changed[0, 0] = (ids[0, 0] + 1) % 24
    difference = (model.predict_tokens(ids, condition) - model.predict_tokens(changed, condition)).abs()
    assert difference.amax(-1).min() > 1e-4  # earlier tokens are always visible


@torch.no_grad()
@pytest.mark.parametrize("bias", BIASES)
def test_sdpa_and_eager_agree(tiny_text_to_motion, bias):
    model = tiny_text_to_motion(attention_bias=bias)
    codes, condition = clips(), torch.randn(3, 32)
    logits = {}
    for implementation in ("sdpa", "eager"):
        model.set_attn_implementation(implementation)
        logits[implementation] = model.predict_tokens(codes.masked_fill(codes < 0, PAD), condition, codes >= 0)
    close(logits["sdpa"][codes >= 0], logits["eager"][codes >= 0])


@torch.no_grad()
def test_logits_depend_on_the_condition_and_every_token(tiny_text_to_motion):
    model = tiny_text_to_motion()
    ids = clips((6,))
    empty = model.predict_tokens(ids, torch.zeros(1, 32))
    assert (model.predict_tokens(ids, torch.randn(1, 32)) - empty).abs().max() > 1e-2
    masked = model.predict_tokens(ids.index_fill(1, torch.tensor([2]), MASK), torch.zeros(1, 32))
    assert (masked - empty).abs().amax(-1).min() > 1e-4


@torch.no_grad()
def test_padding_of_a_text_does_not_change_its_condition(tiny_text_to_motion):
    model = tiny_text_to_motion()
    together = model.get_text_condition(**texts(length=14))
    for row, words in enumerate(((5, 6, 7), (8, 9, 10, 11, 12), (13,))):
        close(together[row : row + 1], model.get_text_condition(**texts((words,))))
    released = tiny_text_to_motion(lamp={"mask_text_padding": False})
    assert (released.get_text_condition(**texts(length=14)) - together).abs().max() > 1e-3


@torch.no_grad()
def test_condition_can_contain_the_mean_word_state(tiny_text_to_motion):
    model = tiny_text_to_motion(condition_on_words=True)
    together = model.get_text_condition(**texts(length=14))
    for row, words in enumerate(((5, 6, 7), (8, 9, 10, 11, 12), (13,))):
        close(together[row : row + 1], model.get_text_condition(**texts((words,))))
    words = torch.randn(1, 4, 32)
    condition = model.get_text_condition(text_hidden_states=words)
    model.words_to_condition.weight.zero_()
    without = model.get_text_condition(text_hidden_states=words)
    assert (condition - without).abs().max() > 1e-3


# ---- masking --------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(lengths=st.lists(st.integers(1, 20), min_size=1, max_size=4), seed=st.integers(0, 10_000))
def test_masking_hides_the_right_number_of_real_tokens(lengths, seed):
    codes = clips(tuple(lengths), size=22, seed=seed)
    draws = MaskingDraws.draw(codes, 24, torch.Generator().manual_seed(seed))
    ids, labels = mask_codes(codes, draws, 24)
    guessed = labels >= 0
    for row, length in enumerate(lengths):
        share = math.cos(draws.time[row].item() * math.pi / 2)
        assert abs(int(guessed[row].sum()) - max(1, length * share)) <= 0.5 + 1e-4
    assert torch.equal(labels[guessed], codes[guessed])
    assert torch.equal(ids[~guessed & (codes >= 0)], codes[~guessed & (codes >= 0)])
    assert (ids[codes < 0] == PAD).all()
    random = guessed & (draws.replace < 0.1)
    assert torch.equal(ids[random], draws.codes[random])
    hidden = guessed & ~random & (draws.hide < 0.88)
    assert (ids[hidden] == MASK).all()
    assert torch.equal(ids[guessed & ~random & ~hidden], codes[guessed & ~random & ~hidden])


def test_masking_follows_the_cosine_schedule_on_average():
    codes = clips((48,) * 400)
    ids, labels = mask_codes(codes, MaskingDraws.draw(codes, 24, torch.Generator().manual_seed(0)), 24)
    guessed = labels >= 0
    assert guessed.float().mean().item() == pytest.approx(2 / math.pi, abs=0.03)  # mean of the cosine
    assert (ids[guessed] == MASK).float().mean().item() == pytest.approx(0.9 * 0.88, abs=0.02)
    kept = (ids == codes)[guessed].float().mean().item()
    assert kept == pytest.approx(0.9 * 0.12 + 0.1 / 24, abs=0.02)


def test_padding_does_not_change_masking():
    codes = clips()
    wide = F.pad(codes, (0, 5), value=-100)
    draws = MaskingDraws.draw(wide, 24, torch.Generator().manual_seed(3))
    narrow = MaskingDraws(draws.time, *(each[:, :10] for each in (draws.order, draws.replace, draws.hide, draws.codes)))
    for one, other in zip(mask_codes(wide, draws, 24), mask_codes(codes, narrow, 24), strict=True):
        assert torch.equal(one[:, :10], other)


# ---- losses ---------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_losses_equal_those_of_single_clips(tiny_text_to_motion):
    model = tiny_text_to_motion()
    codes, captions = clips(), texts()
    draws = MaskingDraws.draw(codes, 24, torch.Generator().manual_seed(0))
    together = model(**captions, motion_codes=F.pad(codes, (0, 4), value=-100), draws=draws)
    assert together.loss == together.token_loss + together.length_loss
    token_total, count, length_total = 0.0, 0, 0.0
    for row, length in enumerate((10, 7, 3)):
        words = int(captions["attention_mask"][row].sum())
        own = {name: each[row : row + 1] for name, each in vars(draws).items()}
        own = MaskingDraws(**{name: each[:, :length] if each.ndim > 1 else each for name, each in own.items()})
        alone = model(
            input_ids=captions["input_ids"][row : row + 1, :words],
            motion_codes=codes[row : row + 1, :length],
            draws=own,
        )
        _, labels = mask_codes(codes[row : row + 1, :length], own, 24)
        guessed = labels >= 0
        expected = -alone.logits.log_softmax(-1)[guessed].gather(-1, labels[guessed][:, None]).mean()
        close(alone.token_loss, expected)
        close(alone.length_loss, -alone.length_logits.log_softmax(-1)[0, length - 1])  # class 0 is one token
        token_total += alone.token_loss.item() * int(guessed.sum())
        count += int(guessed.sum())
        length_total += alone.length_loss.item()
    assert together.token_loss.item() == pytest.approx(token_total / count, abs=1e-5)
    assert together.length_loss.item() == pytest.approx(length_total / 3, abs=1e-5)


def test_targets_can_be_distributions(tiny_text_to_motion):
    model = tiny_text_to_motion()
    codes, captions = clips(), texts()
    draws = MaskingDraws.draw(codes, 24, torch.Generator().manual_seed(0))
    certain = F.one_hot(codes.clamp(min=0), 24).float()
    hard = model(**captions, motion_codes=codes, draws=draws)
    close(model(**captions, motion_codes=codes, draws=draws, token_targets=certain).token_loss, hard.token_loss)

    # With its own predictions as targets, the model has nothing to learn.
    own = hard.logits.detach().softmax(-1)
    model(**captions, motion_codes=codes, draws=draws, token_targets=own).loss.backward()
    assert model.masked_transformer.classifier.weight.grad.abs().max() < 1e-6
    assert model.length_estimator.classifier.weight.grad.abs().max() > 1e-3


def test_only_new_parts_are_trained(tiny_text_to_motion):
    model = tiny_text_to_motion().train()
    model(**texts(), motion_codes=clips(), generator=torch.Generator().manual_seed(0)).loss.backward()
    for name, parameter in model.named_parameters():
        if name.startswith("lamp."):
            assert not parameter.requires_grad
            assert parameter.grad is None
        else:
            assert parameter.grad is not None, name
            assert parameter.grad.abs().max() > 0, name
    assert not any(module.training for module in model.lamp.modules())
    assert model.masked_transformer.training


def test_length_loss_does_not_train_the_condition(tiny_text_to_motion):
    model = tiny_text_to_motion().train()
    output = model(**texts(), motion_codes=clips())
    assert not output.length_loss.requires_grad  # reported only; its gradient comes through the sum
    F.cross_entropy(output.length_logits, torch.tensor([9, 6, 2])).backward()
    assert model.text_to_condition.weight.grad is None
    assert model.length_estimator.classifier.weight.grad.abs().max() > 0


@torch.no_grad()
def test_model_without_a_length_estimator_needs_lengths(tiny_text_to_motion, tmp_path):
    model = tiny_text_to_motion(length_hidden_sizes=None)
    codes = torch.randint(0, 24, (2, 9))
    ids = torch.randint(3, 39, (2, 6))
    output = model(ids, motion_codes=codes)
    assert output.loss == output.token_loss
    assert output.length_loss is None
    assert output.length_logits is None
    model.save_pretrained(tmp_path)
    loaded = LampForTextToMotion.from_pretrained(tmp_path)
    assert not any(name.startswith("length_estimator") for name in loaded.state_dict())
    assert loaded.generate(ids, num_tokens=[3, 5], seed=0).num_tokens == [3, 5]
    with pytest.raises(ValueError, match="has no length estimator; give num_tokens"):
        loaded.generate(ids)


def test_condition_dropout_applies_only_in_training(tiny_text_to_motion):
    model = tiny_text_to_motion(condition_dropout=1.0, dropout=0.0)
    codes, captions = clips(), texts()
    draws = MaskingDraws.draw(codes, 24, torch.Generator().manual_seed(0))
    told = model(**captions, motion_codes=codes, draws=draws)
    model.train()
    dropped = model(**captions, motion_codes=codes, draws=draws)
    untold = model.eval()(condition=torch.zeros(3, 32), motion_codes=codes, draws=draws)
    real = codes >= 0
    close(dropped.logits[real], untold.logits[real])
    assert (dropped.logits - told.logits)[real].abs().max() > 1e-2
    close(dropped.length_logits, told.length_logits)  # the length is still learned from the text


@torch.no_grad()
def test_texts_and_motions_can_be_precomputed(tiny_text_to_motion):
    model = tiny_text_to_motion()
    captions = texts()
    motion = {"motion_values": torch.randn(3, 42, 263), "motion_attention_mask": torch.ones(3, 42).long()}
    motion["motion_attention_mask"][1, 30:] = 0
    codes = model.lamp.motion_vqvae.encode(**motion).codes
    draws = MaskingDraws.draw(codes, 24, torch.Generator().manual_seed(0))
    expected = model(**captions, **motion, draws=draws)
    states = model.lamp.encode_text(**captions)
    condition = model.get_text_condition(**captions)
    ways = (
        {**captions, "motion_codes": codes},
        {"text_hidden_states": states, "attention_mask": captions["attention_mask"], "motion_codes": codes},
        {"text_summary": model.summarize_text(**captions), "motion_codes": codes},
        {"condition": condition, "motion_codes": codes},
    )
    for way in ways:
        close(model(**way, draws=draws).loss, expected.loss)
    as_tuple = model(**captions, **motion, draws=draws, return_dict=False)
    close(as_tuple[0], expected.loss)


def test_training_learns_to_distinguish_texts(tiny_text_to_motion):
    model = tiny_text_to_motion(dropout=0.0, initializer_range=0.1).train()
    captions, codes = texts(), clips()
    with torch.no_grad():
        states = model.lamp.encode_text(**captions)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=4e-3)
    generator = torch.Generator().manual_seed(0)
    losses = []
    for _ in range(150):
        output = model(
            text_hidden_states=states,
            attention_mask=captions["attention_mask"],
            motion_codes=codes,
            generator=generator,
        )
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
        losses.append(output.loss.item())
    assert sum(losses[-10:]) < 0.25 * sum(losses[:10])
    made = model.eval().generate(**captions, seed=0)
    assert made.num_tokens == [10, 7, 3]  # the length estimator has learned as well
    right = (made.motion_codes == codes)[codes >= 0].float().mean()
    assert right > 0.9


def test_motions_of_the_wrong_size_are_refused(tiny_text_to_motion):
    model = tiny_text_to_motion()
    with pytest.raises(ValueError, match=r"13 tokens is longer than max_motion_tokens=12"):
        model(**texts(((5,),)), motion_codes=clips((13,)))
    with pytest.raises(ValueError, match="has no tokens"):
        model(**texts(((5,), (6,))), motion_codes=clips((4, 0)))
    with pytest.raises(ValueError, match="give motion_codes or motion_values"):
        model(**texts())
    with pytest.raises(ValueError, match="give input_ids, text_hidden_states or condition"):
        model(motion_codes=clips())


# ---- length ---------------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(shares=st.lists(st.floats(0.01, 1), min_size=2, max_size=9))
def test_estimated_length_is_the_median_and_never_zero(shares):
    estimator = MotionLengthEstimator(1, [], len(shares), 0.0)
    probabilities = torch.tensor(shares) / sum(shares)
    torch.nn.init.zeros_(estimator.classifier.weight)
    with torch.no_grad():
        estimator.classifier.bias.copy_(probabilities.log())
        tokens = int(estimator.num_tokens(torch.zeros(1, 1)))
    assert 1 <= tokens <= len(shares)
    assert sum(probabilities[:tokens]) >= 0.5 - 1e-5
    assert sum(probabilities[: tokens - 1]) < 0.5 + 1e-5


# ---- starting, saving, precision ------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("trained", [False, True])
def test_new_model_is_initialized_from_lamp(tiny_text_to_motion, trained):
    lamp = tiny_text_to_motion().lamp
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 48}
    model = LampForTextToMotion.from_lamp(lamp, **sizes, train_token_embeddings=trained).eval()
    for name, tensor in lamp.state_dict().items():
        assert torch.equal(model.lamp.state_dict()[name], tensor), name
    states = torch.randn(2, 3, 32)
    close(model.text_to_condition(states), lamp.text_to_states(states))
    other = LampForTextToMotion.from_lamp(lamp, **sizes, train_token_embeddings=not trained).eval()
    other.masked_transformer.load_state_dict(model.masked_transformer.state_dict())
    ids = torch.tensor([[0, 23, MASK, PAD, 5]])
    close(model.predict_tokens(ids, torch.zeros(1, 32)), other.predict_tokens(ids, torch.zeros(1, 32)))


@pytest.mark.parametrize("trained", [False, True])
def test_save_and_load_bit_exact(tiny_text_to_motion, tmp_path, trained):
    model = tiny_text_to_motion(train_token_embeddings=trained)
    model.save_pretrained(tmp_path)
    loaded = LampForTextToMotion.from_pretrained(tmp_path)
    assert loaded.state_dict().keys() == model.state_dict().keys()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, loaded.state_dict()[name]), name
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        names = set(file.keys())
    # Every part is stored once: not the embeddings tied to the codebook or the output layer tied to the words.
    assert ("token_embeddings.weight" in names) == trained
    assert ("lamp.lm_head.decoder.weight" in names) + ("lamp.qformer.embeddings.word_embeddings.weight" in names) == 1
    captions, codes = texts(), clips()
    draws = MaskingDraws.draw(codes, 24, torch.Generator().manual_seed(0))
    with torch.no_grad():
        one, other = (each(**captions, motion_codes=codes, draws=draws) for each in (model, loaded))
    assert torch.equal(one.logits, other.logits)
    assert torch.equal(one.loss, other.loss)
    assert not any(parameter.requires_grad for parameter in loaded.lamp.parameters())
    assert all(p.requires_grad for n, p in loaded.named_parameters() if not n.startswith("lamp."))


def test_lamp_loads_from_the_same_files(tiny_text_to_motion, tmp_path):
    model = tiny_text_to_motion()
    model.save_pretrained(tmp_path)
    lamp = LampModel.from_pretrained(tmp_path)
    for name, tensor in model.lamp.state_dict().items():
        assert torch.equal(tensor, lamp.state_dict()[name]), name


def test_builds_on_the_meta_device(tiny_text_to_motion):
    config = tiny_text_to_motion().config
    with torch.device("meta"):
        model = LampForTextToMotion(config)
    assert all(parameter.is_meta for parameter in model.parameters())


def test_sizes_match_the_paper():
    with torch.device("meta"):
        model = LampForTextToMotion(LampTextToMotionConfig(lamp_config={"num_hidden_layers": 1}))
    transformer = model.masked_transformer
    assert (len(transformer.layers), transformer.classifier.out_features) == (8, 512)
    attention, feed_forward, norms = 4 * (512 * 512 + 512), 2 * 512 * 1024 + 1024 + 512, 4 * 512
    condition, tokens, head = 768 * 512 + 512, 512 * 512 + 512, 2 * (512 * 512 + 512) + 2 * 512
    expected = 8 * (attention + feed_forward + norms) + condition + tokens + head
    assert sum(parameter.numel() for parameter in transformer.parameters()) == expected


@pytest.mark.parametrize("bias", BIASES)
def test_runs_in_bfloat16(tiny_text_to_motion, bias):
    model = tiny_text_to_motion(attention_bias=bias).to(torch.bfloat16)
    output = model.train()(**texts(), motion_codes=clips())
    output.loss.backward()
    assert output.logits.dtype == torch.bfloat16
    assert torch.isfinite(output.loss)
    made = model.eval().generate(**texts(), seed=0, num_tokens=5)
    assert made.motion_values.dtype == torch.bfloat16
    assert ((made.motion_codes >= 0) & (made.motion_codes < 24)).all()


def test_gradient_checkpointing_does_not_change_gradients(tiny_text_to_motion):
    model = tiny_text_to_motion(dropout=0.0, condition_dropout=0.0).train()
    codes = clips()
    draws = MaskingDraws.draw(codes, 24, torch.Generator().manual_seed(0))
    gradients = []
    for checkpointing in (False, True):
        if checkpointing:
            model.gradient_checkpointing_enable()
            assert any(layer.gradient_checkpointing for layer in model.masked_transformer.layers)
        model.zero_grad()
        model(**texts(), motion_codes=codes, draws=draws).loss.backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    assert len(gradients[0]) == len(gradients[1]) > 10
    for one, other in zip(*gradients, strict=True):
        close(one, other)
