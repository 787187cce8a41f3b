"""The Q-Former: attention implementations, outputs, and skipped computations."""

import pytest
import torch

from lamp_hf.modeling.configuration_lamp import LampConfig
from lamp_hf.modeling.modeling_lamp_qformer import LampQFormerLayer, LampQFormerModel, attention_bias

QUERIES, WORDS, STATES = 5, 6, 9


def make(**changes) -> LampQFormerModel:
    torch.manual_seed(0)
    sizes = {
        "vocab_size": 40,
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "intermediate_size": 48,
        "query_intermediate_size": 20,
        "max_position_embeddings": 24,
        "max_text_length": 16,
        "motion_hidden_size": 20,
        "initializer_range": 0.2,
    }
    return LampQFormerModel(LampConfig(**{**sizes, **changes})).eval()


def passes() -> dict[str, dict[str, torch.Tensor]]:
    """Arguments of the passes of LaMP, padded, with items of different lengths."""
    torch.manual_seed(1)
    words = torch.ones(3, WORDS, dtype=torch.long)
    words[1, 4:] = 0
    states = torch.ones(3, STATES, dtype=torch.long)
    states[2, 3:] = 0
    seen = torch.ones(QUERIES + WORDS, QUERIES + WORDS, dtype=torch.bool).tril()
    seen[:QUERIES, :QUERIES] = True
    text = {"input_ids": torch.randint(1, 40, (3, WORDS))}
    motion = {
        "query_embeds": torch.randn(1, QUERIES, 32).expand(3, -1, -1),
        "encoder_hidden_states": torch.randn(3, STATES, 20),
        "encoder_attention_mask": states,
    }
    both = torch.cat([torch.ones(3, QUERIES, dtype=torch.long), words], 1)
    return {
        "queries": motion,
        "words": {**text, "attention_mask": words},
        "all see all": {**text, **motion, "attention_mask": both},
        "words see words so far": {**text, **motion, "attention_mask": seen[None] & both[:, None].bool()},
    }


@torch.no_grad()
@pytest.mark.parametrize("name", list(passes()))
def test_attention_implementations_agree(name: str) -> None:
    model, inputs = make(), passes()[name]
    outputs = {}
    for implementation in ("eager", "sdpa"):
        model.set_attn_implementation(implementation)
        outputs[implementation] = model(**inputs).last_hidden_state
    torch.testing.assert_close(outputs["sdpa"], outputs["eager"], atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize(("name", "keep"), [("queries", 2), ("words", 1), ("all see all", QUERIES)])
@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_last_layer_computes_only_the_outputs_that_are_kept(
    name: str, keep: int, implementation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, inputs = make(), passes()[name]
    model.set_attn_implementation(implementation)
    whole = model(**inputs).last_hidden_state
    sizes = []
    last = model.encoder.layer[-1].attention.output
    forward = last.forward
    monkeypatch.setattr(last, "forward", lambda *args: sizes.append(args[0].shape[1]) or forward(*args))
    kept = model(**inputs, keep=keep).last_hidden_state
    torch.testing.assert_close(kept, whole[:, :keep], atol=1e-5, rtol=1e-5)
    assert sizes == [keep]


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "parts"),
    [("queries", ("intermediate", "output")), ("words", ("crossattention", "intermediate_query", "output_query"))],
)
def test_passes_run_only_the_parts_they_need(name: str, parts: tuple[str, ...]) -> None:
    model = make()
    for layer in model.encoder.layer:
        for part in parts:
            setattr(layer, part, None)
    assert torch.isfinite(model(**passes()[name]).last_hidden_state).all()


@torch.no_grad()
def test_hidden_states_and_attentions_on_request() -> None:
    model, inputs = make(), passes()["all see all"]
    plain = model(**inputs)
    assert set(plain) == {"last_hidden_state"}
    output = model(**inputs, output_hidden_states=True)
    assert [tuple(state.shape) for state in output.hidden_states] == [(3, QUERIES + WORDS, 32)] * 4
    torch.testing.assert_close(output.hidden_states[-1], plain.last_hidden_state)
    second: LampQFormerLayer = model.encoder.layer[1]
    bias = attention_bias(inputs["attention_mask"], output.hidden_states[1], QUERIES + WORDS, "sdpa")
    found = second(output.hidden_states[1], inputs["encoder_hidden_states"], None, bias, num_queries=QUERIES)
    torch.testing.assert_close(found, output.hidden_states[2])

    model.set_attn_implementation("eager")
    output = model(**inputs, output_attentions=True)
    assert [tuple(weights.shape) for weights in output.attentions] == [(3, 2, QUERIES + WORDS, QUERIES + WORDS)] * 3
    assert [tuple(weights.shape) for weights in output.cross_attentions] == [(3, 2, QUERIES, STATES)] * 2
    for weights in (*output.attentions, *output.cross_attentions):
        torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))
    assert not output.attentions[0][1, :, :, QUERIES + 4 :].any()
    assert not output.cross_attentions[0][2, :, :, 3:].any()
    model.config.output_hidden_states = True
    assert len(model(**inputs).hidden_states) == 4
    model.config.return_dict = False
    assert isinstance(model(**inputs), tuple)


def test_flash_attention_refuses_unsupported_masks() -> None:
    hidden = torch.zeros(2, 4, 8)
    padding = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    assert torch.equal(attention_bias(padding, hidden, 4, "flash_attention_2"), padding.bool())
    assert attention_bias(torch.ones(2, 7), hidden, 4, "flash_attention_2") is None
    with pytest.raises(ValueError, match=r"flash_attention_2 cannot mask padding of motions.*'sdpa'"):
        attention_bias(torch.eye(2, 7), hidden, 4, "flash_attention_2")
    with pytest.raises(ValueError, match="flash_attention_2 cannot mask single words"):
        attention_bias(torch.ones(1, 4, 4).tril(), hidden, 4, "flash_attention_2")


def test_gradient_checkpointing_gives_the_same_gradients() -> None:
    results = []
    for options in (None, {"use_reentrant": False}, {"use_reentrant": True}):
        model, inputs = make(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0).train(), passes()["all see all"]
        inputs["encoder_hidden_states"] = inputs["encoder_hidden_states"].requires_grad_()
        if options is not None:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=options)
        model(**inputs, keep=QUERIES).last_hidden_state.pow(2).sum().backward()
        found = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
        results.append({**found, "states": inputs["encoder_hidden_states"].grad})
    for result in results[1:]:
        assert result.keys() == results[0].keys()
        for name, gradient in result.items():
            torch.testing.assert_close(gradient, results[0][name], atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("name", list(passes()))
def test_compiles_into_one_graph(name: str) -> None:
    torch.compiler.reset()
    model, inputs = make(), passes()[name]
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(**inputs).last_hidden_state, model(**inputs).last_hidden_state)


def test_errors() -> None:
    model = make()
    with pytest.raises(ValueError, match="the inputs are missing: give input_ids, query_embeds, or both"):
        model()
    with pytest.raises(ValueError, match="encoder_hidden_states is missing"):
        model(query_embeds=torch.zeros(1, 2, 32))
    with pytest.raises(TypeError, match="atention_mask"):
        model(input_ids=torch.ones(1, 3, dtype=torch.long), atention_mask=None)
