"""The evaluator: padding, order and batches change nothing; loss, saving, loading and training."""

from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModel

import lamp_hf
from lamp_hf.modeling.configuration_lamp import MotionTextEvaluatorConfig
from lamp_hf.modeling.modeling_motion_text_evaluator import MotionTextEvaluatorModel

LENGTHS, WORDS = (40, 17, 6, 28), (9, 2, 1, 5)


def build(seed: int = 0, **changes) -> MotionTextEvaluatorModel:
    torch.manual_seed(seed)
    sizes = {
        "movement_hidden_size": 12,
        "movement_size": 10,
        "motion_hidden_size": 14,
        "text_hidden_size": 8,
        "projection_dim": 6,
        "word_embedding_size": 5,
        "vocab_size": 30,
    }
    return MotionTextEvaluatorModel(MotionTextEvaluatorConfig(**{**sizes, **changes})).eval()


def lengths_to_mask(lengths: tuple[int, ...], extra: int = 0) -> torch.Tensor:
    return (torch.arange(max(lengths) + extra)[None, :] < torch.tensor(lengths)[:, None]).long()


@pytest.fixture(scope="module")
def motion() -> dict[str, torch.Tensor]:
    """Four motions of different lengths; padding is not zero."""
    values = torch.randn(4, max(LENGTHS), 263, generator=torch.Generator().manual_seed(1))
    return {"motion_values": values, "motion_attention_mask": lengths_to_mask(LENGTHS)}


@pytest.fixture(scope="module")
def texts() -> dict[str, dict[str, torch.Tensor]]:
    """Four texts of different lengths, for each kind of text input."""
    draw = torch.Generator().manual_seed(2)
    mask = lengths_to_mask(WORDS)
    tags = torch.nn.functional.one_hot(torch.randint(0, 15, mask.shape, generator=draw), 15).float()
    return {
        "embeddings": {"input_ids": torch.randint(1, 30, mask.shape, generator=draw), "attention_mask": mask},
        "glove": {
            "word_embeddings": torch.randn(*mask.shape, 5, generator=draw),
            "pos_one_hots": tags,
            "attention_mask": mask,
        },
    }


# ---- features ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["embeddings", "glove"])
@torch.no_grad()
def test_features_do_not_depend_on_padding_or_batch(kind: str, motion, texts):
    model = build(text_input=kind)
    output = model(**motion, **texts[kind])
    assert output.motion_features.shape == output.text_features.shape == (4, 6)
    assert output.motion_features.std(0).min() > 1e-3  # otherwise the test would prove nothing
    assert output.text_features.std(0).min() > 1e-3
    for row in range(4):
        alone = model.get_motion_features(motion["motion_values"][row : row + 1, : LENGTHS[row]])
        torch.testing.assert_close(alone[0], output.motion_features[row])
        words = {name: t[row : row + 1, : WORDS[row]] for name, t in texts[kind].items() if name != "attention_mask"}
        torch.testing.assert_close(model.get_text_features(**words)[0], output.text_features[row])
    longer = torch.cat([motion["motion_values"], torch.full((4, 9, 263), 7.0)], 1)
    padded = model.get_motion_features(longer, lengths_to_mask(LENGTHS, extra=9))
    torch.testing.assert_close(padded, output.motion_features)


@torch.no_grad()
def test_only_contacts_are_ignored(motion):
    model = build(text_input="embeddings")
    features = model.get_motion_features(**motion)
    for channel, read in ((0, True), (258, True), (259, False), (262, False)):
        changed = motion["motion_values"].clone()
        changed[..., channel] += 1
        found = model.get_motion_features(changed, motion["motion_attention_mask"])
        assert torch.equal(found, features) != read, channel


@torch.no_grad()
def test_padding_is_visible_with_the_released_setting(motion):
    model = build(text_input="embeddings", mask_motion_padding=False)
    whole = model.get_motion_features(**motion)
    alone = model.get_motion_features(motion["motion_values"][3:, : LENGTHS[3]])
    assert (alone[0] - whole[3]).abs().max() > 1e-4
    # The recurrent network never reads tokens of padding.
    alone = model.get_motion_features(motion["motion_values"][3:, : LENGTHS[3] + 8], torch.ones(1, 28).long())
    torch.testing.assert_close(alone[0], whole[3])


@pytest.mark.parametrize("kind", ["embeddings", "glove"])
@torch.no_grad()
def test_half_precision(kind: str, motion, texts):
    model = build(text_input=kind)
    expected = model(**motion, **texts[kind])
    output = model.to(torch.bfloat16)(**motion, **texts[kind])
    assert output.motion_features.dtype == torch.bfloat16
    assert output.loss.dtype == torch.float32
    for name in ("motion_features", "text_features"):
        torch.testing.assert_close(output[name].float(), expected[name], atol=0.1, rtol=0.1)
    torch.testing.assert_close(output.loss, expected.loss, atol=0.5, rtol=0.05)


def test_error_names_invalid_inputs(motion, texts):
    model, glove = build(text_input="embeddings"), build()
    with pytest.raises(ValueError, match="251 numbers per frame, this evaluator was built for 263"):
        model.get_motion_features(motion["motion_values"][..., :251])
    with pytest.raises(ValueError, match="a clip of 3 frames is shorter than one token"):
        model.get_motion_features(motion["motion_values"][:, :3])
    with pytest.raises(ValueError, match="text_input='embeddings': give only input_ids="):
        model.get_text_features(**texts["glove"])
    with pytest.raises(ValueError, match="text_input='glove': give word_embeddings= and pos_one_hots="):
        glove.get_text_features(**texts["embeddings"])
    with pytest.raises(ValueError, match="a text has no words"):
        model.get_text_features(torch.ones(1, 3).long(), torch.zeros(1, 3).long())
    with pytest.raises(ValueError, match="1 texts were given for 4 motions"):
        model(**motion, input_ids=torch.ones(1, 3).long())
    with pytest.raises(ValueError, match="give motion_values=, a text, or both"):
        model()
    with pytest.raises(ValueError, match=r"expected \(30, 5 or more\)"):
        model.init_word_embeddings(torch.zeros(31, 8))
    with pytest.raises(Exception, match="motion_dim=264 is not 12"):
        MotionTextEvaluatorConfig(motion_dim=264)


@torch.no_grad()
def test_word_embeddings_start_from_principal_components():
    model = build(text_input="embeddings")
    torch.manual_seed(3)
    plane = torch.randn(30, 5) @ torch.randn(5, 12) + 4.0  # five dimensions, written in twelve
    model.init_word_embeddings(plane)
    ours = model.word_embeddings.weight
    torch.testing.assert_close(ours.std(), torch.tensor(1.0), atol=1e-3, rtol=0)
    # Distances between words are kept, up to one factor.
    before, after = (torch.pdist(table.double()) for table in (plane, ours))
    torch.testing.assert_close(after / before, (after.sum() / before.sum()).expand_as(after), atol=1e-5, rtol=0)


# ---- loss -------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_loss_matches_a_hand_computed_value(motion, texts):
    model = build(text_input="embeddings", mismatches="all", loss_margin=2.5)
    output = model(**motion, **texts["embeddings"], pair_groups=torch.tensor([0, 1, 0, 2]))
    m, t = output.motion_features, output.text_features
    positive = sum(float((t[i] - m[i]).pow(2).sum()) for i in range(4)) / 4
    pairs = [(i, j) for i in range(4) for j in range(4) if i != j and {i, j} != {0, 2}]
    negative = sum(max(2.5 - float((t[i] - m[j]).norm()), 0.0) ** 2 for i, j in pairs) / len(pairs)
    assert 0 < negative < 2.5**2
    torch.testing.assert_close(float(output.positive_loss), positive, rtol=1e-5, atol=0)
    torch.testing.assert_close(float(output.negative_loss), negative, rtol=1e-5, atol=0)
    torch.testing.assert_close(output.loss, output.positive_loss + output.negative_loss)
    torch.testing.assert_close(-model.similarity(m, t)[1, 2], (m[1] - t[2]).norm())


@torch.no_grad()
def test_shifted_mismatches_equal_all_mismatches_on_average(motion, texts):
    everything = build(text_input="embeddings", mismatches="all")
    model = build(text_input="embeddings")
    features = model(**motion, **texts["embeddings"])
    m, t = features.motion_features, features.text_features
    by_shift = [float((10 - (t - m.roll(-s, 0)).norm(dim=-1)).clamp(min=0).pow(2).mean()) for s in (1, 2, 3)]
    seen = set()
    for seed in range(12):
        torch.manual_seed(seed)
        loss = float(model(**motion, **texts["embeddings"]).negative_loss)
        nearest = min(range(3), key=lambda s: abs(by_shift[s] - loss))
        assert loss == pytest.approx(by_shift[nearest], rel=1e-4)
        seen.add(nearest)
    assert seen == {0, 1, 2}
    loss = float(everything(**motion, **texts["embeddings"]).negative_loss)
    assert loss == pytest.approx(sum(by_shift) / 3, rel=1e-4)


@pytest.mark.parametrize("mismatches", ["shifted", "all"])
def test_single_pair_has_no_mismatch(mismatches: str, motion, texts):
    model = build(text_input="embeddings", mismatches=mismatches)
    one = {name: tensor[:1] for name, tensor in (motion | texts["embeddings"]).items()}
    output = model(**one)
    assert float(output.negative_loss) == 0
    output.loss.backward()
    assert model.motion_encoder.initial_state.grad.abs().sum() > 0
    assert model(motion_values=one["motion_values"]).loss is None
    assert model(input_ids=one["input_ids"]).motion_features is None


@pytest.mark.parametrize("kind", ["embeddings", "glove"])
def test_gradient_checkpointing_gives_the_same_gradients(kind: str, motion, texts):
    def gradients(checkpointing: bool) -> dict[str, torch.Tensor]:
        model = build(text_input=kind, mismatches="all", dropout=0.0).train()
        if checkpointing:
            model.gradient_checkpointing_enable()
            assert model.motion_encoder.gradient_checkpointing
        model(**motion, **texts[kind]).loss.backward()
        return {name: parameter.grad for name, parameter in model.named_parameters()}

    expected, found = gradients(False), gradients(True)
    for name, gradient in expected.items():
        assert gradient.abs().sum() > 0, name
        torch.testing.assert_close(found[name], gradient)


def test_learns_to_distinguish_pairs(motion, texts):
    model = build(text_input="embeddings", mismatches="all").train()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(60):
        optimizer.zero_grad()
        model(**motion, **texts["embeddings"]).loss.backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        output = model(**motion, **texts["embeddings"])
        similarity = model.similarity(output.motion_features, output.text_features)
    assert similarity.argmax(0).tolist() == similarity.argmax(1).tolist() == [0, 1, 2, 3]
    assert similarity.diag().min() > -4
    assert (similarity - similarity.diag().diag()).min() < -8


# ---- storage ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["embeddings", "glove"])
@torch.no_grad()
def test_save_and_load_gives_the_same_outputs(kind: str, motion, texts, tmp_path: Path):
    model = build(text_input=kind)
    model.save_pretrained(tmp_path)
    assert isinstance(AutoConfig.from_pretrained(tmp_path), lamp_hf.MotionTextEvaluatorConfig)
    again, report = lamp_hf.MotionTextEvaluatorModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert not again.training
    expected, found = model(**motion, **texts[kind]), AutoModel.from_pretrained(tmp_path)(**motion, **texts[kind])
    assert type(found) is type(expected)
    for name in ("motion_features", "text_features"):
        assert torch.equal(again(**motion, **texts[kind])[name], expected[name])
        assert torch.equal(found[name], expected[name])


def test_frozen_word_embeddings_stay_frozen_after_loading(motion, texts, tmp_path: Path):
    build(text_input="embeddings", freeze_word_embeddings=True).save_pretrained(tmp_path)
    model = MotionTextEvaluatorModel.from_pretrained(tmp_path).train()
    model(**motion, **texts["embeddings"]).loss.backward()
    assert model.get_input_embeddings().weight.grad is None
    assert model.text_encoder.input_projection.weight.grad.abs().sum() > 0


def test_size_matches_the_paper():
    with torch.device("meta"):
        model = MotionTextEvaluatorModel(MotionTextEvaluatorConfig())
    assert sum(parameter.numel() for parameter in model.parameters()) == 21_690_560  # as in the released file
    with pytest.raises(NotImplementedError, match="takes word vectors as input"):
        model.get_input_embeddings()
    with pytest.raises(ValueError, match="has no word embeddings to initialize"):
        model.init_word_embeddings(torch.zeros(3, 300))
