"""The captioner with LaMP's own decoder: cached decoding equals the text branch."""

from functools import wraps
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import GenerationConfig

import lamp_hf
from lamp_hf.modeling.modeling_lamp_decoder_captioning import (
    LampDecoderForMotionCaptioning,
    mean_log_probs,
    through_end,
)
from lamp_hf.modeling.modeling_lamp_pretraining import LampForPreTraining


@pytest.fixture(scope="module", params=["sdpa", "eager"])
def case(request: pytest.FixtureRequest, tiny_text_to_motion) -> SimpleNamespace:
    """Three padded motions of different lengths, and a captioner with random weights whose output depends on them."""
    lamp = tiny_text_to_motion(lamp={"num_hidden_layers": 4, "initializer_range": 0.4}).lamp
    model = LampDecoderForMotionCaptioning(lamp.config)
    model.lamp.load_state_dict(lamp.state_dict())
    model.set_attn_implementation(request.param)
    model.eval()
    torch.manual_seed(1)
    mask = torch.zeros(3, 40, dtype=torch.long)
    for row, length in enumerate((40, 16, 28)):
        mask[row, :length] = 1
    motion = torch.randn(3, 40, 263) * mask[..., None]
    inputs = {"motion_values": motion, "motion_attention_mask": mask}
    return SimpleNamespace(model=model, inputs=inputs, lengths=mask.sum(-1).tolist())


def alone(case: SimpleNamespace, row: int) -> dict[str, torch.Tensor]:
    length = case.lengths[row]
    return {name: tensor[row : row + 1, :length] for name, tensor in case.inputs.items()}


@torch.no_grad()
def test_logits_equal_those_of_the_pretraining_branch(case):
    lamp = case.model.lamp
    caption_ids = torch.randint(3, 38, (3, 9))
    caption_ids[:, 0] = lamp.config.bos_token_id
    mask = torch.ones_like(caption_ids)
    mask[1, 5:] = 0
    hidden = lamp.query_and_caption(*lamp._motion_states(**case.inputs), caption_ids, mask).last_hidden_state
    words = hidden[:, lamp.config.num_query_tokens :]
    expected = lamp.lm_head(words)
    logits = case.model(**case.inputs, decoder_input_ids=caption_ids).logits
    real = mask.bool()
    torch.testing.assert_close(logits[real], expected[real], atol=1e-4, rtol=1e-4)
    assert (logits[0] - logits[2]).abs().max() > 0.1  # the motion has an effect


@pytest.mark.parametrize("options", [{}, {"num_beams": 3, "num_return_sequences": 2}])
def test_cache_changes_nothing(case, options):
    quick = case.model.generate(**case.inputs, **options)
    assert torch.equal(quick, case.model.generate(**case.inputs, use_cache=False, **options))
    assert quick.shape[0] == 3 * options.get("num_return_sequences", 1)
    assert (quick[:, 0] == case.model.config.bos_token_id).all()


def test_queries_run_once_and_each_step_computes_one_word(case, monkeypatch):
    reads, steps = [], []
    read, forward = case.model.read_motion, case.model.forward
    monkeypatch.setattr(case.model, "read_motion", lambda *args: reads.append(len(args[0])) or read(*args))

    @wraps(forward)
    def stepping(*args, **kwargs):
        steps.append(tuple(kwargs["decoder_input_ids"].shape))
        return forward(*args, **kwargs)

    monkeypatch.setattr(case.model, "forward", stepping)
    case.model.generate(**case.inputs, num_beams=4, max_new_tokens=5, min_new_tokens=5)
    assert reads == [3]
    assert steps == [(12, 1)] * 5


def test_caption_does_not_depend_on_its_batch(case):
    together = case.model.caption(**case.inputs, num_beams=2)
    for row in range(3):
        own = case.model.caption(**alone(case, row), num_beams=2)
        length = own.sequences.shape[1]
        assert torch.equal(own.sequences[0], together.sequences[row, :length])
        torch.testing.assert_close(own.scores[0], together.scores[row])


def test_scores_are_the_mean_probability_of_the_words(case):
    captions = case.model.caption(**case.inputs, num_beams=3, num_return_sequences=3)
    found = case.model.generate(
        **case.inputs,
        num_beams=3,
        num_return_sequences=3,
        output_scores=True,
        return_dict_in_generate=True,
    )
    assert torch.equal(found.sequences, captions.sequences)
    # Beam search with a length penalty of 1 ranks by this value.
    torch.testing.assert_close(captions.scores, found.sequences_scores.exp(), atol=1e-5, rtol=1e-4)
    torch.manual_seed(0)
    sampled = case.model.caption(**case.inputs, do_sample=True, temperature=5.0, num_return_sequences=2)
    greedy = case.model.caption(**case.inputs)
    assert sampled.scores.shape == (6,)
    assert sampled.scores.mean() < greedy.scores.mean()  # of the model itself, not of the distribution with temperature


def test_generate_continues_a_caption(case):
    start = torch.tensor([[39, 7, 8]]).expand(3, -1)
    ids = case.model.generate(**case.inputs, decoder_input_ids=start)
    assert torch.equal(ids[:, :3], start)
    assert torch.equal(ids, case.model.generate(**case.inputs, decoder_input_ids=start, use_cache=False))


def test_tokens_after_the_end_do_not_count():
    ids = torch.tensor([[5, 2, 0, 0], [5, 6, 7, 8], [2, 0, 2, 0]])
    mask = through_end(ids, 2)
    assert mask.tolist() == [[True, True, False, False], [True] * 4, [True, False, False, False]]
    logits = torch.randn(3, 4, 9)
    expected = logits.log_softmax(-1).gather(-1, ids[..., None])[..., 0]
    torch.testing.assert_close(mean_log_probs(logits, ids, mask)[0], expected[0, :2].mean())
    torch.testing.assert_close(mean_log_probs(logits, ids, mask)[1], expected[1].mean())


def test_loads_from_a_text_to_motion_checkpoint(tiny_checkpoint: Path, tmp_path: Path):
    model, report = LampDecoderForMotionCaptioning.from_pretrained(tiny_checkpoint, output_loading_info=True)
    assert not report["missing_keys"]
    source = lamp_hf.LampForTextToMotion.from_pretrained(tiny_checkpoint)
    for name, tensor in source.lamp.state_dict().items():
        assert torch.equal(model.lamp.state_dict()[name], tensor), name
    config: GenerationConfig = model.generation_config
    assert config.guidance_scale is None  # the value of the other model would change captions
    assert (config.decoder_start_token_id, config.eos_token_id, config.max_new_tokens) == (
        *(source.config.lamp_config.bos_token_id, 3, 15),
    )
    assert not source.config.lamp_config.is_encoder_decoder

    model.generation_config.num_beams = 3
    model.save_pretrained(tmp_path)
    again = LampDecoderForMotionCaptioning.from_pretrained(tmp_path)
    assert again.generation_config.num_beams == 3
    motion = torch.randn(1, 20, 263)
    assert torch.equal(again.generate(motion), model.generate(motion))
    config_file = tmp_path / "config.json"
    text = config_file.read_text()
    config_file.write_text(text.replace("LampDecoderForMotionCaptioning", "LampForMotionToText"))
    assert config_file.read_text() != text
    formerly = LampDecoderForMotionCaptioning.from_pretrained(tmp_path)
    assert formerly.generation_config.num_beams == 3
    assert torch.equal(formerly.generate(motion), model.generate(motion))
    lamp = lamp_hf.LampModel.from_pretrained(tmp_path)
    assert torch.equal(lamp.query_tokens, model.lamp.query_tokens)


def test_errors(case):
    model = case.model
    with pytest.raises(ValueError, match="the motion is missing: give motion_values, or encoder_outputs"):
        model.generate()
    with pytest.raises(ValueError, match="decoder_input_ids is missing"):
        model(**case.inputs)
    with pytest.raises(ValueError, match="a caption of 25 tokens is longer than max_position_embeddings=24"):
        model.generate(**case.inputs, max_new_tokens=30, min_new_tokens=30)
    with pytest.raises(ValueError, match="num_baems"):
        model.generate(**case.inputs, num_baems=2)
    with pytest.raises(TypeError, match="config is a MotionVQVAEConfig; expected a LampConfig"):
        LampDecoderForMotionCaptioning(lamp_hf.MotionVQVAEConfig())


def test_static_cache_gives_the_same_captions(case):
    quick = case.model.generate(**case.inputs)
    assert torch.equal(quick, case.model.generate(**case.inputs, cache_implementation="static"))
    beams = {"num_beams": 3, "num_return_sequences": 2}
    assert torch.equal(
        case.model.generate(**case.inputs, **beams),
        case.model.generate(**case.inputs, **beams, cache_implementation="static"),
    )


@torch.no_grad()
def test_labels_give_the_pretraining_loss(case):
    lamp = case.model.lamp
    pretraining = LampForPreTraining(lamp.config).eval()
    pretraining.lamp = lamp
    ids = torch.randint(3, 38, (3, 9))
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    expected = pretraining(**case.inputs, input_ids=ids, attention_mask=mask).captioning_loss
    labels = ids.masked_fill(mask == 0, -100)
    output = case.model(**case.inputs, labels=labels)
    torch.testing.assert_close(output.loss, expected, atol=1e-5, rtol=1e-5)
    caption_ids = lamp.caption_ids(ids)
    torch.testing.assert_close(output.logits[0], case.model(**case.inputs, decoder_input_ids=caption_ids).logits[0])
    assert isinstance(case.model(**case.inputs, labels=labels, return_dict=False), tuple)
    with pytest.raises(TypeError, match="typo"):
        case.model(**case.inputs, labels=labels, typo=1)


def test_gradient_checkpointing_gives_the_same_gradients(case):
    labels = torch.randint(3, 38, (3, 9))
    model = case.model
    results = []
    try:
        for enabled in (False, True):
            model.gradient_checkpointing_enable() if enabled else model.gradient_checkpointing_disable()
            model.train()
            for module in model.modules():
                if isinstance(module, torch.nn.Dropout):
                    module.p = 0.0
                if hasattr(module, "head_size"):
                    module.dropout = 0.0
            model.zero_grad()
            model(**case.inputs, labels=labels).loss.backward()
            results.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
            written = model.generate(**case.inputs, max_new_tokens=4)
            assert torch.equal(written, model.eval().generate(**case.inputs, max_new_tokens=4))
    finally:
        model.gradient_checkpointing_disable()
        model.eval()
        model.zero_grad()
    assert results[0].keys() == results[1].keys()
    assert "lamp.query_tokens" in results[0]
    for name, gradient in results[0].items():
        torch.testing.assert_close(results[1][name], gradient, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_words_attend_to_queries_and_earlier_words(case):
    ids = torch.randint(3, 38, (3, 4))
    case.model.set_attn_implementation("eager")
    output = case.model(**case.inputs, decoder_input_ids=ids, output_hidden_states=True, output_attentions=True)
    assert len(output.decoder_hidden_states) == 5
    assert [tuple(weights.shape) for weights in output.decoder_attentions] == [(3, 2, 4, 5 + 4)] * 4
    assert not output.decoder_attentions[0][:, :, 0, 6:].any()
