"""LaMP compared with outputs of the authors' released code, with the settings that reproduce it."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from lamp_hf.conversion.state_dicts import lamp_state_dict
from lamp_hf.modeling.configuration_lamp import LampConfig
from lamp_hf.modeling.modeling_lamp_pretraining import LampForPreTraining, draw_negatives

GRADIENTS = {
    "query_tokens": "query_tokens",
    "text_proj.weight": "text_projection.weight",
    "motion_projection": "motion_to_states.weight",
    "text_projection": "text_to_states.weight",
    "Qformer.bert.encoder.layer.0.attention.self.query.weight": (
        "qformer.encoder.layer.0.attention.attention.query.weight"
    ),
    "Qformer.bert.embeddings.word_embeddings.weight": "qformer.embeddings.word_embeddings.weight",
}


def load(golden: Path, config: LampConfig) -> LampForPreTraining:
    model = LampForPreTraining(config).eval()
    model.lamp.load_state_dict(lamp_state_dict(load_file(golden / "lamp.state_dict.safetensors")))
    return model


@pytest.fixture(scope="module", params=["sdpa", "eager"])
def case(
    request: pytest.FixtureRequest, golden: Path, released_lamp_config: Callable[..., LampConfig]
) -> SimpleNamespace:
    model = load(golden, released_lamp_config())
    model.set_attn_implementation(request.param)
    io = load_file(golden / "lamp.io.safetensors")
    batch = {"input_ids": io["input_ids"], "attention_mask": io["attention_mask"]}
    return SimpleNamespace(model=model, lamp=model.lamp, io=io, **batch)


@pytest.fixture
def close(parity: Callable[..., None]) -> Callable[..., None]:
    return partial(parity, "lamp")


@torch.no_grad()
def test_motion_branch(case, close):
    lamp, io = case.lamp, case.io
    encoded = lamp.encode_motion(io["motion"])
    latents, mask, codes = encoded.motion_embeds, encoded.motion_token_mask, encoded.motion_codes
    close(latents, io["motion_encoder_out"])
    assert torch.equal(codes, io["gen_targets"])
    assert mask.all()
    states = lamp.motion_to_states(latents)
    close(states, io["motion_embeds"])
    close(lamp.query(states, mask), io["query_output_last_hidden"])
    features = lamp.get_motion_features(io["motion"])
    close(features, io["motion_feats"])


@torch.no_grad()
def test_longer_motion_complete_and_with_masked_tokens(case, close):
    lamp, io = case.lamp, case.io
    encoded = lamp.encode_motion(io["long_motion"])
    latents, mask = encoded.motion_embeds, encoded.motion_token_mask
    states = lamp.motion_to_states(latents)
    close(lamp.query(states, mask), io["long_motion_query_output"])
    mask[0, 9:] = False
    close(lamp.query(states, mask), io["long_motion_query_output_masked_sample0_first9"])


@torch.no_grad()
def test_text_branch(case, close):
    lamp, io = case.lamp, case.io
    close(lamp.encode_text(case.input_ids, case.attention_mask), io["text_last_hidden"])
    close(lamp.get_text_features(case.input_ids, case.attention_mask), io["text_feat"])


@torch.no_grad()
def test_vectors_of_the_retrieval_wrapper(case, close):
    # The released code normalizes neither, and averages motions over queries (L8).
    lamp, io = case.lamp, case.io
    first = lamp.encode_text(io["evalwrap_input_ids"], io["evalwrap_attention_mask"])[:, 0]
    close(lamp.text_projection(first), io["evalwrap_text_embedding"])
    queries = lamp.query(io["motion_embeds"])
    mean = lamp.motion_projection(queries).mean(1)
    close(mean, io["evalwrap_motion_embedding"])
    close(F.normalize(io["motion_feats"].mean(1), dim=-1), io["motion_feat_mean_normed"])


@torch.no_grad()
def test_similarities_and_probabilities_of_negatives(case, close):
    lamp, io = case.lamp, case.io
    motion, text = io["motion_feats"], io["text_feat"]
    close(lamp.scale(), io["temp"])
    close(torch.einsum("mqp,tp->mtq", motion, text), io["sim_q2t"])
    logits = lamp.similarity(motion, text) * lamp.scale()
    close(logits, io["sim_p2t_max_scaled"])
    close(logits.T, io["sim_t2p_max_scaled"])
    close(logits.softmax(-1), io["weights_p2t"])
    close(logits.T.softmax(-1), io["weights_t2p"])


@torch.no_grad()
def test_captioning_pass(case, close):
    lamp, io = case.lamp, case.io
    caption_ids = lamp.caption_ids(case.input_ids)
    hidden = lamp.query_and_caption(io["motion_embeds"], None, caption_ids, case.attention_mask).last_hidden_state
    queries, words = hidden[:, : lamp.config.num_query_tokens], hidden[:, lamp.config.num_query_tokens :]
    close(queries, io["query_output_last_hidden"])
    close(words, io["lm_last_hidden"])
    close(lamp.lm_head(words[:, :-1]), io["lm_shift_logits"])
    real = case.attention_mask[:, 1:].bool()
    assert torch.equal(caption_ids[:, 1:].masked_fill(~real, -100), io["lm_shift_labels"])


@torch.no_grad()
def test_motion_token_prediction_pass(case, close):
    lamp, io = case.lamp, case.io
    caption_ids = lamp.caption_ids(case.input_ids)
    close(lamp.qformer.embeddings(input_ids=caption_ids), io["gen_text_embeds_before_projection"])
    queries = lamp.query_words(caption_ids, case.attention_mask)
    close(queries, io["gen_last_hidden"])
    close(lamp.motion_token_head(queries), io["gen_logits"])


@torch.no_grad()
def test_matching_pass(case, close):
    lamp, io = case.lamp, case.io
    motions = torch.cat([torch.arange(3), io["neg_motion_idx"], torch.arange(3)])
    texts = torch.cat([torch.arange(3), torch.arange(3), io["neg_text_idx"]])
    states, ids, mask = io["motion_embeds"][motions], case.input_ids[texts], case.attention_mask[texts]
    # All positions; `match` computes only the queries' in the last layer.
    seen = F.pad(mask, (7, 0), value=1)
    close(lamp._run(states, input_ids=ids, attention_mask=seen).last_hidden_state, io["ptm_last_hidden"])
    close(lamp.match(states, None, ids, mask), io["ptm_logits"])
    scores = lamp.matching_score(io["motion"][motions], ids, attention_mask=mask)
    close(scores, io["ptm_logits"].softmax(-1)[:, 1])


def test_losses_and_gradients(case, close):
    model, io = case.model, case.io
    model.zero_grad()
    output = model(
        io["motion"],
        None,
        case.input_ids,
        case.attention_mask,
        negatives=(io["neg_motion_idx"], io["neg_text_idx"]),
    )
    close(output.contrastive_loss, io["loss_ptc"])
    close(output.matching_loss, io["loss_ptm"])
    close(output.captioning_loss, io["loss_lm"])
    close(output.motion_token_loss, io["loss_gen"])
    close(output.loss, io["loss_total"])
    close(output.logits_per_motion, io["sim_p2t_max_scaled"])
    close(output.logits_per_text, io["sim_t2p_max_scaled"])
    close(output.matching_logits, io["ptm_logits"])
    close(output.matching_loss, F.cross_entropy(output.matching_logits, io["ptm_labels"]))
    close(output.motion_token_logits, io["gen_logits"])
    for name, loss in (("p2t", output.logits_per_motion), ("t2p", output.logits_per_text)):
        close(F.cross_entropy(loss, io["itc_targets"], label_smoothing=0.1), io[f"loss_{name}"])

    output.loss.backward()
    for original, ours in GRADIENTS.items():
        gradient = case.lamp.get_parameter(ours).grad
        if original.endswith("_projection"):  # a matrix in the released code, a linear layer here
            gradient = gradient.T
        close(gradient, io[f"grad__{original}"])
    # d loss / d scale of the product: ours is its logarithm (L3).
    close(case.lamp.logit_scale.grad.squeeze() / io["temp"], io["grad__temp"])
    assert all(parameter.grad is None for parameter in case.lamp.motion_vqvae.parameters())


@torch.no_grad()
def test_matching_loss_with_the_negatives_of_the_released_code(case, close):
    io = case.io
    drawn = io["sampled_seed4242_neg_motion_idx"], io["sampled_seed4242_neg_text_idx"]
    output = case.model(io["motion"], None, case.input_ids, case.attention_mask, negatives=drawn)
    close(output.matching_loss, io["sampled_seed4242_loss_ptm"])
    # The released code drew true pairs among them (L2); ours never does.
    assert (drawn[0] == torch.arange(3)).any()
    for seed in range(20):
        torch.manual_seed(seed)
        assert (draw_negatives(io["sim_t2p_max_scaled"], torch.eye(3, dtype=torch.bool)) != torch.arange(3)).all()


@torch.no_grad()
def test_text_condition_sees_padding_only_if_configured(golden, close, released_lamp_config):
    io = load_file(golden / "lamp.io.safetensors")
    released = load(golden, released_lamp_config()).lamp
    masked = load(golden, released_lamp_config()).lamp
    masked.config.mask_text_padding = True
    ids, mask = io["input_ids"], io["attention_mask"]
    layer = released.text_to_states
    assert not mask.all()
    whole = released.get_text_condition(ids, mask, layer)
    states = layer(released.encode_text(ids, mask))
    close(whole, released.query(states).mean(1), 0)
    close(masked.get_text_condition(ids, mask, layer), masked.query(states, mask).mean(1), 0)
    assert (whole - masked.get_text_condition(ids, mask, layer)).abs().max() > 1e-3


def test_tensors_of_another_checkpoint_are_refused(golden):
    tensors = load_file(golden / "lamp.state_dict.safetensors")
    tensors["opt_proj.weight"] = torch.zeros(2, 2)
    with pytest.raises(ValueError, match=r"opt_proj\.weight"):
        lamp_state_dict(tensors)
