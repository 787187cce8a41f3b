"""LaMP: masks, losses, negatives, initialization from BERT, saving, precision, several processes."""

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch.nn import functional as F
from transformers import BertConfig, BertForMaskedLM, BertModel

from lamp_hf.modeling.configuration_lamp import LampConfig, MotionVQVAEConfig
from lamp_hf.modeling.initialization_lamp import init_from_bert
from lamp_hf.modeling.modeling_lamp import LampModel
from lamp_hf.modeling.modeling_lamp_decoder_captioning import LampDecoderForMotionCaptioning
from lamp_hf.modeling.modeling_lamp_motion_text_retrieval import LampForMotionTextRetrieval
from lamp_hf.modeling.modeling_lamp_pretraining import LampForPreTraining, draw_negatives, same_rows

LOSSES = ("contrastive_loss", "matching_loss", "captioning_loss", "motion_token_loss")
PAD, CLS, SEP, DEC = 0, 1, 2, 39


def tiny_config(**changes) -> LampConfig:
    sizes = {
        "motion_vqvae_config": MotionVQVAEConfig(hidden_size=16, code_dim=8, num_codes=16),
        "vocab_size": 40,
        "bos_token_id": DEC,
        "eos_token_id": SEP,
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "intermediate_size": 48,
        "query_intermediate_size": 20,
        "max_position_embeddings": 24,
        "num_query_tokens": 6,
        "motion_hidden_size": 20,
        "projection_dim": 12,
        "max_text_length": 16,
        "initializer_range": 0.15,
    }
    return LampConfig(**{**sizes, **changes})


def tiny(seed: int = 0, **changes) -> LampForPreTraining:
    """A small model whose weights are large enough for its inputs to matter."""
    torch.manual_seed(seed)
    model = LampForPreTraining(tiny_config(**changes)).eval()
    with torch.no_grad():
        for encoder in (model.lamp.motion_vqvae.encoder, model.lamp.motion_encoder):
            for parameter in encoder.parameters() if encoder is not None else ():
                parameter.mul_(2)
    return model


def make_batch(lengths=(22, 12, 9), words=((5, 6, 7), (8, 9, 10, 11, 12), (13,)), seed=0) -> dict[str, torch.Tensor]:
    """Return clips of these numbers of frames, padded with 7 (an arbitrary value), and captions of these words."""
    generator = torch.Generator().manual_seed(seed)
    motion_values = torch.full((len(lengths), max(lengths), 263), 7.0)
    motion_attention_mask = torch.zeros(len(lengths), max(lengths), dtype=torch.long)
    for row, length in enumerate(lengths):
        motion_values[row, :length] = torch.randn(length, 263, generator=generator)
        motion_attention_mask[row, :length] = 1
    longest = max(map(len, words)) + 2
    input_ids = torch.tensor([[CLS, *row, SEP] + [PAD] * (longest - 2 - len(row)) for row in words])
    return {
        "motion_values": motion_values,
        "motion_attention_mask": motion_attention_mask,
        "input_ids": input_ids,
        "attention_mask": (input_ids != PAD).long(),
    }


def gradients(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def close(actual: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance)


# ---- padding and batches ----------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("separate", [False, True])
def test_features_and_scores_do_not_depend_on_padding(separate):
    lamp = tiny(separate_motion_encoder=separate).lamp
    batch = make_batch()
    motion = lamp.get_motion_features(batch["motion_values"], batch["motion_attention_mask"])
    text = lamp.get_text_features(batch["input_ids"], batch["attention_mask"])
    scores = lamp.matching_score(**batch)
    condition = lamp.get_text_condition(batch["input_ids"], batch["attention_mask"], lamp.text_to_states)
    words = lamp.query_words(batch["input_ids"], batch["attention_mask"])
    for row in range(3):
        frames, length = batch["motion_attention_mask"][row].sum(), batch["attention_mask"][row].sum()
        values = batch["motion_values"][row : row + 1, :frames]
        ids = batch["input_ids"][row : row + 1, :length]
        close(lamp.get_motion_features(values), motion[row : row + 1], 5e-5)
        close(lamp.get_text_features(ids), text[row : row + 1])
        close(lamp.matching_score(values, ids), scores[row : row + 1])
        close(lamp.get_text_condition(ids, None, lamp.text_to_states), condition[row : row + 1])
        close(lamp.query_words(ids), words[row : row + 1])
    assert (motion[0] - motion[1]).abs().max() > 1e-3
    assert (text[0] - text[1]).abs().max() > 1e-3


@torch.no_grad()
def test_padding_is_visible_with_the_released_setting():
    masked, seen = tiny().lamp, tiny(mask_motion_padding=False).lamp
    batch = make_batch()
    values, mask = batch["motion_values"], batch["motion_attention_mask"]
    whole = seen.get_motion_features(values, mask)
    close(whole, seen.get_motion_features(values), 0)
    close(whole[:1], masked.get_motion_features(values[:1]))
    assert (whole[1] - masked.get_motion_features(values, mask)[1]).abs().max() > 1e-3


@torch.no_grad()
def test_more_padding_does_not_change_the_loss():
    model, batch = tiny(), make_batch()
    negatives = torch.tensor([1, 2, 0]), torch.tensor([2, 0, 1])
    expected = model(**batch, negatives=negatives)
    padded = {name: F.pad(tensor, (0, 5)) for name, tensor in batch.items() if tensor.ndim == 2}
    padded["motion_values"] = F.pad(batch["motion_values"], (0, 0, 0, 5), value=-3)
    actual = model(**padded, negatives=negatives)
    for name in (*LOSSES, "matching_logits", "logits_per_motion"):
        close(actual[name], expected[name])


@torch.no_grad()
def test_losses_are_means_over_real_tokens():
    """Captioning and motion-token losses of a batch follow from those of its items and their numbers."""
    model = tiny(label_smoothing=0.0)
    batch = make_batch()
    together = model(**batch)
    alone = [model(**{name: tensor[row : row + 1] for name, tensor in batch.items()}) for row in range(3)]
    words = batch["attention_mask"].sum(-1) - 1.0
    tokens = batch["motion_attention_mask"].sum(-1) // 4 * 1.0
    for name, counts in (("captioning_loss", words), ("motion_token_loss", tokens)):
        items = torch.stack([output[name] for output in alone])
        close(together[name], (items * counts).sum() / counts.sum())


def test_batch_of_one_has_no_negatives():
    model = tiny().train()
    output = model(**make_batch((12,), ((5, 6),)))
    assert output.matching_logits.shape == (1, 2)
    close(output.matching_loss, F.cross_entropy(output.matching_logits, torch.tensor([1])))
    output.loss.backward()
    assert torch.isfinite(torch.stack([g.norm() for g in gradients(model).values()])).all()


@torch.no_grad()
def test_encoder_output_replaces_the_motion():
    model, batch = tiny(), make_batch()
    negatives = torch.tensor([1, 2, 0]), torch.tensor([2, 0, 1])
    encoded = model.lamp.encode_motion(batch["motion_values"], batch["motion_attention_mask"])
    embeds, mask, codes = encoded.motion_embeds, encoded.motion_token_mask, encoded.motion_codes
    text = {name: batch[name] for name in ("input_ids", "attention_mask")}
    expected = model(**batch, negatives=negatives)
    extra = {"motion_embeds": F.pad(embeds, (0, 0, 0, 2)), "motion_codes": F.pad(codes, (0, 2), value=-100)}
    for masks in ({"motion_token_mask": F.pad(mask, (0, 2))}, {}):
        actual = model(**text, **extra, **masks, negatives=negatives)
        for name in LOSSES:
            close(actual[name], expected[name])


@torch.no_grad()
def test_tokens_after_the_last_query_are_not_predicted():
    model = tiny()
    batch = make_batch((36, 12), ((5, 6), (7,)))
    encoded = model.lamp.encode_motion(batch["motion_values"], batch["motion_attention_mask"])
    embeds, codes = encoded.motion_embeds, encoded.motion_codes
    assert codes.shape == (2, 9)
    text = {name: batch[name] for name in ("input_ids", "attention_mask")}
    whole = model(**text, motion_embeds=embeds, motion_codes=codes)
    first = model(**text, motion_embeds=embeds[:, :6], motion_codes=codes[:, :6])
    assert whole.motion_token_logits.shape == (2, 6, 16)
    close(whole.motion_token_loss, first.motion_token_loss)
    assert (whole.logits_per_motion - first.logits_per_motion).abs().max() > 1e-4


# ---- what sees what ---------------------------------------------------------------------------------------


@torch.no_grad()
def test_words_see_motion_and_earlier_words_and_queries_see_no_words():
    lamp, batch = tiny().lamp, make_batch()
    encoded = lamp.encode_motion(batch["motion_values"], batch["motion_attention_mask"])
    latents, mask = encoded.motion_embeds, encoded.motion_token_mask
    states = lamp.motion_to_states(latents)
    ids, attention = lamp.caption_ids(batch["input_ids"]), batch["attention_mask"]
    assert (ids[:, 0] == DEC).all()
    assert (batch["input_ids"][:, 0] == CLS).all()
    hidden = lamp.query_and_caption(states, mask, ids, attention).last_hidden_state
    queries, words = hidden[:, : lamp.config.num_query_tokens], hidden[:, lamp.config.num_query_tokens :]
    close(queries, lamp.query(states, mask))
    changed = ids.clone()
    changed[1, 3] = 20
    hidden = lamp.query_and_caption(states, mask, changed, attention).last_hidden_state
    other_queries, other_words = hidden[:, : lamp.config.num_query_tokens], hidden[:, lamp.config.num_query_tokens :]
    assert torch.equal(queries, other_queries)
    assert torch.equal(words[:, :3], other_words[:, :3])
    assert ((words - other_words)[1, 3:].abs().amax(-1) > 1e-4).all()
    hidden = lamp.query_and_caption(states * 0, mask, ids, attention).last_hidden_state
    silent = hidden[:, lamp.config.num_query_tokens :]
    assert (silent - words).abs().max() > 1e-4


@torch.no_grad()
def test_sdpa_equals_eager_attention():
    model, batch = tiny(), make_batch()
    outputs = {}
    for attention in ("sdpa", "eager"):
        model.set_attn_implementation(attention)
        assert model.lamp.qformer.config._attn_implementation == attention
        torch.manual_seed(0)
        outputs[attention] = model(**batch)
    for name, expected in outputs["eager"].items():
        close(outputs["sdpa"][name], expected)


@torch.no_grad()
def test_dual_encoder_output():
    lamp, batch = tiny().lamp, make_batch()
    output = lamp(**batch)
    close(output.motion_features.norm(dim=-1), torch.ones(3, 6))
    close(output.text_features.norm(dim=-1), torch.ones(3))
    best = max(output.motion_features[2] @ output.text_features[0])
    close(output.logits_per_motion[2, 0], best * lamp.scale(), 1e-4)
    assert torch.equal(output.logits_per_text, output.logits_per_motion.T)
    lamp.logit_scale.fill_(9.0)
    assert lamp.scale() == 100


# ---- losses -----------------------------------------------------------------------------------------------


@torch.no_grad()
def test_contrastive_targets():
    model = tiny()
    logits = torch.randn(3, 4), torch.randn(3, 4)
    diagonal = torch.eye(3, 4, dtype=torch.bool)
    expected = sum(F.cross_entropy(x, torch.arange(3), label_smoothing=0.1) for x in logits) / 2
    close(model.contrastive_loss(*logits, diagonal), expected)
    shared = diagonal.clone()
    shared[0, 3] = True  # the first motion matches two captions, so each gets half of the target
    model.config.label_smoothing = 0.0
    expected = torch.tensor(0.0)
    for x in logits:
        log = x.log_softmax(-1)
        expected -= ((log[0, 0] + log[0, 3]) / 2 + log[1, 1] + log[2, 2]) / 6
    close(model.contrastive_loss(*logits, shared), expected)


def test_equal_captions_and_clips_are_positives(monkeypatch):
    model = tiny()
    batch = make_batch((12, 12, 12, 12), ((5, 6), (7, 8), (5, 6), (9,)))
    batch["motion_values"][3] = batch["motion_values"][1]
    seen = []
    monkeypatch.setattr(model, "contrastive_loss", lambda a, b, positives: seen.append(positives) or a.sum() * 0)
    model(**batch)
    expected = torch.eye(4, dtype=torch.bool)
    for a, b in ((0, 2), (1, 3)):
        expected[a, b] = expected[b, a] = True
    assert torch.equal(seen[0], expected)


@torch.no_grad()
def test_pairs_with_equal_captions_are_never_negatives():
    model = tiny()
    same = model(**make_batch((12, 13, 14), ((5,), (5,), (5,))))
    assert same.matching_logits.shape == (3, 2)  # only true pairs
    close(same.matching_loss, F.cross_entropy(same.matching_logits, torch.ones(3, dtype=torch.long)))
    mixed = model(**make_batch((12, 13, 14), ((5,), (5,), (6,))))
    assert mixed.matching_logits.shape == (9, 2)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 6), st.integers(0, 4), st.integers(0, 10**6))
def test_negatives_are_never_positives(rows, more, seed):
    torch.manual_seed(seed)
    positives = torch.rand(rows, rows + more) < 0.5
    chosen = draw_negatives(torch.randn(rows, rows + more) * 50, positives)
    for row, column in enumerate(chosen.tolist()):
        assert column == -1 if positives[row].all() else not positives[row, column]


def test_negatives_follow_similarity():
    torch.manual_seed(0)
    logits = torch.tensor([9.0, 1.0, 1.0 + torch.log(torch.tensor(3.0))]).expand(4000, 3)
    positives = torch.tensor([True, False, False]).expand(4000, 3)
    share = (draw_negatives(logits, positives) == 2).float().mean()
    assert abs(share - 0.75) < 0.03


@given(st.lists(st.lists(st.integers(0, 2), max_size=3), min_size=1, max_size=5))
def test_same_rows_equals_list_comparison(rows):
    padded = torch.tensor([row + [-1] * (4 - len(row)) for row in rows])
    found = same_rows(padded[:, :3], padded)
    assert found.tolist() == [[a == b for b in rows] for a in rows]


def test_all_four_losses_can_be_learned():
    torch.manual_seed(0)
    model = tiny(label_smoothing=0.0, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0).train()
    batch = make_batch()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 3e-3)
    first = None
    for _ in range(60):
        output = model(**batch)
        first = first or output
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
    for name in LOSSES:
        assert output[name] < 0.35 * first[name], name


def test_errors_name_the_remedy():
    model, batch = tiny(), make_batch()
    with pytest.raises(ValueError, match="motion_embeds"):
        model(input_ids=batch["input_ids"])
    with pytest.raises(ValueError, match="get_motion_features"):
        model.lamp(batch["motion_values"])
    with pytest.raises(ValueError, match="input_ids is missing"):
        model(batch["motion_values"])


# ---- training ---------------------------------------------------------------------------------------------


def test_motion_encoder_stays_frozen(tmp_path):
    model = tiny(separate_motion_encoder=True, freeze_word_embeddings=True)
    model.save_pretrained(tmp_path)
    frozen = ("lamp.motion_vqvae.", "lamp.motion_encoder.", "lamp.qformer.embeddings.word_embeddings.")
    for one in (model, LampForPreTraining.from_pretrained(tmp_path)):
        one.train()
        for name, parameter in one.named_parameters():
            assert parameter.requires_grad != name.startswith(frozen), name
        assert one.lamp.qformer.training
        assert not any(m.training for m in (*one.lamp.motion_vqvae.modules(), *one.lamp.motion_encoder.modules()))
        codebook = one.lamp.motion_vqvae.quantizer.codebook.clone()
        one(**make_batch()).loss.backward()
        assert torch.equal(codebook, one.lamp.motion_vqvae.quantizer.codebook)
        trained = {name for name, gradient in gradients(one).items() if gradient.abs().max() > 0}
        assert trained == {name for name, p in one.named_parameters() if p.requires_grad}


def test_gradient_checkpointing_gives_the_same_gradients():
    batch, results = make_batch(), []
    for checkpointing in (False, True):
        model = tiny().train()
        if checkpointing:
            model.gradient_checkpointing_enable()
            assert model.lamp.qformer.encoder.layer[0].gradient_checkpointing
        torch.manual_seed(1)
        model(**batch).loss.backward()
        results.append(gradients(model))
    assert results[0].keys() == results[1].keys()
    for name, gradient in results[0].items():
        close(results[1][name], gradient)


def test_bfloat16():
    batch, model = make_batch(), tiny()
    negatives = torch.tensor([1, 2, 0]), torch.tensor([2, 0, 1])
    expected = model(**batch, negatives=negatives)
    expected.loss.backward()
    reference = gradients(model)
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        autocast = model(**batch, negatives=negatives)
    autocast.loss.backward()
    for name in LOSSES:
        torch.testing.assert_close(autocast[name], expected[name], rtol=0.03, atol=0)
    pairs = [(gradient.flatten(), reference[name].flatten()) for name, gradient in gradients(model).items()]
    actual, wanted = (torch.cat(parts) for parts in zip(*pairs, strict=True))
    assert F.cosine_similarity(actual, wanted, dim=0) > 0.99
    for attention in ("sdpa", "eager"):
        half = tiny().to(torch.bfloat16)
        half.set_attn_implementation(attention)
        output = half(**batch, negatives=negatives)
        torch.testing.assert_close(output.loss.float(), expected.loss, rtol=0.05, atol=0)
        output.loss.backward()
        assert all(torch.isfinite(gradient).all() for gradient in gradients(half).values())


@pytest.mark.slow
def test_two_processes_give_the_loss_and_gradients_of_one(tmp_path):
    model = tiny()
    batch = make_batch((12, 9, 13, 22, 8), ((5, 6), (7,), (5, 9, 8), (11, 12, 13, 14, 15), (5, 6)))
    negatives = torch.tensor([3, 4, -1, 0, 2]), torch.tensor([1, 3, 4, -1, 1])
    model.save_pretrained(tmp_path)
    save_file(
        {**batch, "negative_motion": negatives[0], "negative_text": negatives[1]},
        tmp_path / "batch.safetensors",
    )
    script = Path(__file__).with_name("lamp_process.py")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    processes = [subprocess.Popen([sys.executable, script, str(rank), tmp_path], env=environment) for rank in range(2)]
    output = model(**batch, negatives=negatives)
    output.loss.backward()
    assert [process.wait(timeout=100) for process in processes] == [0, 0]
    results = load_file(tmp_path / "results0.safetensors")
    for name in ("loss", *LOSSES):
        close(results[name], output[name].detach())
    for name, gradient in gradients(model).items():
        close(results[f"grad.{name}"], gradient, 1e-5 * max(1, gradient.abs().max().item()))


# ---- files ------------------------------------------------------------------------------------------------


def test_saving_is_exact_and_stores_shared_weights_once(tmp_path):
    model = tiny()
    model.save_pretrained(tmp_path)
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        names = set(file.keys())
    assert "lamp.qformer.embeddings.word_embeddings.weight" in names
    assert "lamp.lm_head.decoder.weight" not in names
    state = model.state_dict()
    again = LampForPreTraining.from_pretrained(tmp_path)
    inner, report = LampModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    for name, tensor in state.items():
        assert torch.equal(again.state_dict()[name], tensor)
        assert torch.equal(inner.state_dict()[name.removeprefix("lamp.")], tensor)
    assert inner.lm_head.decoder.weight is inner.qformer.embeddings.word_embeddings.weight
    batch = make_batch()
    with torch.no_grad():
        assert torch.equal(inner(**batch).logits_per_motion, model.lamp(**batch).logits_per_motion)


def test_new_model_is_initialized_as_configured():
    lamp = tiny(initializer_range=0.05, logit_scale_init_value=1.5).lamp
    assert lamp.logit_scale == 1.5
    assert 0.04 < lamp.query_tokens.std() < 0.06
    assert 0.3 < lamp.motion_to_states.weight.std() * 8**0.5 < 1.2
    layer = lamp.qformer.encoder.layer[1]
    assert layer.intermediate_query.dense.weight.shape == (20, 32)
    assert layer.intermediate.dense.weight.shape == (48, 32)
    assert layer.crossattention is None
    assert lamp.qformer.encoder.layer[2].crossattention.attention.key.in_features == 20


# ---- BERT -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bert() -> BertForMaskedLM:
    torch.manual_seed(3)
    config = BertConfig(
        vocab_size=50,
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=48,
        max_position_embeddings=30,
    )
    model = BertForMaskedLM(config).eval()
    for parameter in model.parameters():  # also biases and token types
        torch.nn.init.normal_(parameter, std=0.3)
    return model


@torch.no_grad()
def test_init_from_bert_encodes_and_predicts_words_like_bert(bert):
    lamp = tiny(query_intermediate_size=None).lamp
    kept = [0, 1, 2, *range(10, 44)]  # 37 of our 40 word pieces
    init_from_bert(lamp, bert, kept)
    ours = torch.tensor([[1, 5, 9, 30, 2], [1, 7, 2, 0, 0]])
    theirs = torch.tensor(kept)[ours]
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    hidden = lamp.encode_text(ours, mask)
    expected = bert.bert(theirs, mask).last_hidden_state
    close(hidden[mask.bool()], expected[mask.bool()])
    close(lamp.lm_head(hidden)[0, :, :37], bert(theirs, mask).logits[0][:, kept], 1e-4)
    words = bert.bert.embeddings.word_embeddings.weight[kept]
    for row in (37, 38, 39):
        close(lamp.qformer.embeddings.word_embeddings.weight[row], words.mean(0))
    assert lamp.lm_head.decoder.weight is lamp.qformer.embeddings.word_embeddings.weight
    for layer in lamp.qformer.encoder.layer:
        assert torch.equal(layer.intermediate_query.dense.weight, layer.intermediate.dense.weight)
        assert torch.equal(layer.output_query.dense.weight, layer.output.dense.weight)


@torch.no_grad()
def test_smaller_model_takes_every_kth_neuron_of_bert(bert):
    lamp = tiny(query_intermediate_size=24, num_hidden_layers=2).lamp
    cross = lamp.qformer.encoder.layer[0].crossattention.state_dict()
    before = {name: tensor.clone() for name, tensor in cross.items()}
    init_from_bert(lamp, bert)
    source = bert.bert.encoder.layer[1]
    layer = lamp.qformer.encoder.layer[1]
    columns = {tuple(column.tolist()): i for i, column in enumerate(source.output.dense.weight.T)}
    taken = [columns[tuple(column.tolist())] for column in layer.output_query.dense.weight.T]
    assert taken[0] == 0
    assert taken[-1] == 47
    assert {b - a for a, b in pairwise(taken)} <= {2, 3}
    assert torch.equal(layer.intermediate_query.dense.weight, source.intermediate.dense.weight[taken])
    assert torch.equal(layer.intermediate_query.dense.bias, source.intermediate.dense.bias[taken])
    assert torch.equal(layer.output_query.LayerNorm.weight, source.output.LayerNorm.weight)
    assert all(torch.equal(before[name], tensor) for name, tensor in cross.items())


@torch.no_grad()
@pytest.mark.parametrize("with_head", [True, False])
def test_init_from_a_local_bert(bert, tmp_path, with_head):
    (bert if with_head else bert.bert).save_pretrained(tmp_path)
    lamp = tiny().lamp
    init_from_bert(lamp, tmp_path)
    ids = torch.tensor([[1, 5, 2]])
    close(lamp.encode_text(ids), bert.bert(ids).last_hidden_state)
    assert torch.equal(lamp.lm_head.dense.weight, bert.cls.predictions.transform.dense.weight) == with_head


def test_bert_of_the_wrong_size_is_refused(bert):
    for changes, message in (
        ({"hidden_size": 64}, "hidden_size is 32 in BERT and 64 here"),
        ({"num_hidden_layers": 4}, "num_hidden_layers is 3 in BERT, fewer than 4"),
        ({"query_intermediate_size": 49}, "query_intermediate_size=49"),
    ):
        with pytest.raises(ValueError, match=message):
            init_from_bert(tiny(**changes).lamp, BertModel(bert.config))


# ---- what transformers' users expect ----------------------------------------------------------------------


def plain_contrastive_loss(logits: torch.Tensor, smoothing: float = 0.1) -> torch.Tensor:
    """Compute the mean smoothed cross-entropy of rows with the diagonal, step by step."""
    log = logits - logits.exp().sum(-1, keepdim=True).log()
    size = len(log)
    target = torch.full((size, size), smoothing / size)
    target += torch.eye(size) * (1 - smoothing)
    return -(target * log).sum(-1).mean()


@torch.no_grad()
def test_released_contrastive_targets_are_the_diagonal():
    batch = make_batch((12, 12, 12, 12), ((5, 6), (7, 8), (5, 6), (9,)))
    batch["motion_values"][3] = batch["motion_values"][1]
    groups = torch.tensor([0, 1, 2, 0])
    spread, diagonal = tiny(), tiny(contrastive_targets="diagonal")
    output = diagonal(**batch, pair_groups=groups)
    logits = output.logits_per_motion, output.logits_per_text
    expected = sum(map(plain_contrastive_loss, logits)) / 2
    close(output.contrastive_loss, expected)
    other = spread(**batch, pair_groups=groups)
    close(other.logits_per_motion, output.logits_per_motion)
    assert abs(other.contrastive_loss - expected) > 1e-2
    with pytest.raises(Exception, match="contrastive_targets"):
        tiny_config(contrastive_targets="rows")


@torch.no_grad()
def test_outputs_as_tuples_and_hidden_states():
    model, batch = tiny(), make_batch()
    negatives = {"negatives": (torch.tensor([1, 2, 0]), torch.tensor([2, 0, 1]))}
    for one, more in ((model.lamp, {}), (model, negatives)):
        output = one(**batch, **more, output_hidden_states=True)
        as_tuple = one(**batch, **more, return_dict=False)
        assert isinstance(as_tuple, tuple)
        assert torch.equal(as_tuple[0], output[0])
        one.config.return_dict = False
        assert isinstance(one(**batch, **more), tuple)
        assert one(**batch, **more, return_dict=True).keys() == output.keys()
        one.config.return_dict = True
        with pytest.raises(TypeError, match="typo"):
            one(**batch, typo=1)
    found = model.lamp(**batch, output_hidden_states=True)
    close(found.motion_features, model.lamp.project_motion(found.motion_model_output.hidden_states[-1]))
    close(found.text_features, model.lamp.project_text(found.text_model_output.hidden_states[-1]))
    model.set_attn_implementation("eager")
    weights = model.lamp(**batch, output_attentions=True).motion_model_output.cross_attentions
    assert [tuple(each.shape) for each in weights] == [(3, 2, 6, 5)] * 2
    assert not weights[0][1, :, :, 3:].any()  # the second clip has three tokens


@torch.no_grad()
def test_similarities_without_losses():
    model, batch = tiny(), make_batch()
    output, expected = model(**batch, return_loss=False), model(**batch)
    assert set(output) == {"logits_per_motion", "logits_per_text", "model_output"}
    assert torch.equal(output.logits_per_motion, expected.logits_per_motion)
    close(expected.logits_per_motion, model.lamp(**batch).logits_per_motion)


def test_trainer_evaluates_the_loss(tmp_path):
    from transformers import Trainer, TrainingArguments

    model, batch = tiny(), make_batch()
    rows = [{name: tensor[row] for name, tensor in batch.items()} for row in range(3)]
    arguments = TrainingArguments(
        tmp_path, per_device_eval_batch_size=3, report_to=[], use_cpu=True, remove_unused_columns=False
    )
    found = Trainer(model, arguments, eval_dataset=rows).evaluate()
    assert 0 < found["eval_loss"] < 20
    with torch.no_grad():
        model.eval()
        torch.manual_seed(0)
        assert abs(found["eval_loss"] - model(**batch).loss) < 1  # negatives are drawn


@torch.no_grad()
def test_encoders_compile_and_export():
    torch.compiler.reset()
    lamp, batch = tiny().lamp, make_batch()
    expected = lamp(**batch)
    compiled = torch.compile(lamp, fullgraph=True, backend="eager")(**batch)
    close(compiled.logits_per_motion, expected.logits_per_motion)

    class Encoder(torch.nn.Module):
        def __init__(self, name: str):
            super().__init__()
            self.lamp, self.name = lamp, name

        def forward(self, values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            return getattr(self.lamp, self.name)(values, mask)

    for name, inputs, features in (
        ("get_motion_features", (batch["motion_values"], batch["motion_attention_mask"]), expected.motion_features),
        ("get_text_features", (batch["input_ids"], batch["attention_mask"]), expected.text_features),
    ):
        size = torch.export.Dim("batch", min=1, max=64)
        exported = torch.export.export(Encoder(name), inputs, dynamic_shapes=({0: size}, {0: size}))
        close(exported.module()(*inputs), features)
        close(exported.module()(*(each[:2] for each in inputs)), features[:2])


@torch.no_grad()
@pytest.mark.parametrize("separate", [False, True])
def test_half_precision_model_encodes_float32_motions_to_the_same_tokens(tmp_path, separate):
    model, batch = tiny(separate_motion_encoder=separate), make_batch()
    model.save_pretrained(tmp_path)
    half = LampForPreTraining.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert half.lamp.query_tokens.dtype == torch.bfloat16
    motion = batch["motion_values"], batch["motion_attention_mask"]
    assert torch.equal(half.lamp.encode_motion(*motion).motion_codes, model.lamp.encode_motion(*motion).motion_codes)
    output, expected = half.lamp(**batch), model.lamp(**batch)
    assert output.logits_per_motion.dtype == torch.float32
    torch.testing.assert_close(output.logits_per_motion, expected.logits_per_motion, rtol=0.1, atol=0.3)
    assert half.lamp.matching_score(**batch).dtype == torch.float32


@torch.no_grad()
def test_larger_vocabulary_is_saved_and_loaded(tmp_path):
    model = tiny()
    model.resize_token_embeddings(47)
    model.save_pretrained(tmp_path)
    again = LampForPreTraining.from_pretrained(tmp_path)
    assert again.config.vocab_size == 47
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name
    assert again.lamp.lm_head.decoder.weight is again.lamp.qformer.embeddings.word_embeddings.weight
    batch = make_batch()
    batch["input_ids"][0, 1] = 45
    assert torch.isfinite(again(**batch).loss)


def test_part_of_a_checkpoint_loads_without_a_report_of_the_rest(tiny_checkpoint: Path, capfd, caplog):
    from transformers.utils import logging

    logging.set_verbosity_warning()
    logger = logging.get_logger("transformers")
    logger.addHandler(caplog.handler)
    try:
        for part in (LampModel, LampForPreTraining, LampDecoderForMotionCaptioning, LampForMotionTextRetrieval):
            _, report = part.from_pretrained(tiny_checkpoint, output_loading_info=True)
            assert not report["unexpected_keys"]
            assert not report["missing_keys"]
    finally:
        logger.removeHandler(caplog.handler)
    assert "UNEXPECTED" not in capfd.readouterr().err + caplog.text


# ---- weights of the losses --------------------------------------------------------------------------------


def test_weights_of_one_give_the_exact_sum_of_the_four_losses():
    torch.manual_seed(0)
    output = tiny()(**make_batch())
    parts = [output[name] for name in LOSSES]
    assert torch.equal(output.loss.detach(), parts[0] + parts[1] + parts[2] + parts[3])


def test_weights_scale_the_loss_but_not_its_parts():
    torch.manual_seed(0)
    plain = tiny()(**make_batch())
    torch.manual_seed(0)
    weighted = tiny(matching_loss_weight=0.5, motion_token_loss_weight=2)(**make_batch())
    for name in LOSSES:
        assert torch.equal(weighted[name], plain[name]), name
    expected = plain.loss - 0.5 * plain.matching_loss + plain.motion_token_loss
    close(weighted.loss, expected)


@pytest.mark.parametrize("name", LOSSES)
def test_loss_of_weight_zero_is_not_computed(name):
    batch, negatives = make_batch(), (torch.tensor([1, 2, 0]), torch.tensor([2, 0, 1]))
    plain = tiny()(**batch, negatives=negatives)
    model = tiny(**{f"{name}_weight": 0})
    passes = []
    model.lamp.qformer.register_forward_hook(lambda *_: passes.append(1))
    output = model(**batch, negatives=negatives)
    # Motions and captions are read in one pass; the contrastive and the matching task and the motion tokens need one
    # more each.
    assert len(passes) == (4 if name == "captioning_loss" else 3)
    assert output.get(name) is None
    close(output.loss, plain.loss - plain[name])
    output.loss.backward()
    heads = {
        "contrastive_loss": "text_projection.weight",
        "matching_loss": "matching_head.weight",
        "captioning_loss": "lm_head.dense.weight",
        "motion_token_loss": "motion_token_head.weight",
    }
    trained = gradients(model)
    assert {loss for loss, head in heads.items() if f"lamp.{head}" not in trained} == {name}


def test_hard_negatives_do_not_train_similarities_with_weight_zero():
    model = tiny(contrastive_loss_weight=0, captioning_loss_weight=0, motion_token_loss_weight=0)
    output = model(**make_batch())
    output.loss.backward()
    assert torch.equal(output.loss, output.matching_loss)
    assert output.logits_per_motion.shape == (3, 3)
    assert not {"lamp.logit_scale", "lamp.text_projection.weight"} & gradients(model).keys()


def test_negative_weights_and_only_zero_weights_are_refused():
    with pytest.raises(StrictDataclassError, match="matching_loss_weight=-1 is negative; use 0 to leave the task out"):
        tiny_config(matching_loss_weight=-1)
    with pytest.raises(StrictDataclassError, match="are all 0, so there is nothing to learn"):
        tiny_config(**{f"{name}_weight": 0 for name in LOSSES})
