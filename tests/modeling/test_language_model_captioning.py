"""Captioning with a language model: trained parts, stored parts, and learning."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, AutoTokenizer

import lamp_hf
from lamp_hf.modeling.modeling_lamp_language_model_captioning import (
    IGNORED_LABEL,
    LampWithLanguageModelForMotionCaptioning,
    encode_captions,
    load_lamp,
)


@pytest.fixture
def model(tiny_captioner: Path) -> LampWithLanguageModelForMotionCaptioning:
    return LampWithLanguageModelForMotionCaptioning.from_pretrained(tiny_captioner)


@pytest.fixture(scope="module")
def motion() -> dict[str, torch.Tensor]:
    """Three motions of different lengths, padded."""
    torch.manual_seed(0)
    mask = torch.zeros(3, 40, dtype=torch.long)
    for row, length in enumerate((40, 16, 28)):
        mask[row, :length] = 1
    return {"motion_values": 3 * torch.randn(3, 40, 263) * mask[..., None], "motion_attention_mask": mask}


@pytest.fixture(scope="module")
def caption_ids() -> torch.Tensor:
    torch.manual_seed(1)
    return torch.randint(5, 60, (3, 6))


# ---- what is stored ---------------------------------------------------------------------------------------


def test_checkpoint_contains_the_trained_parts_and_names_the_others(
    tiny_captioner: Path, tiny_checkpoint: Path, tiny_language_model: Path, model
):
    stored = load_file(tiny_captioner / "model.safetensors")
    assert {name for name in stored if ".lora_" not in name} == {"projection.weight", "projection.bias"}
    assert len(stored) == 2 + 2 * 2 * 2  # two layers, two projections, A and B
    assert (model.config.lamp_name, model.config.language_model_name) == (
        str(tiny_checkpoint),
        str(tiny_language_model),
    )
    for name, tensor in stored.items():
        assert torch.equal(model.state_dict()[name], tensor), name
    base = AutoModelForCausalLM.from_pretrained(tiny_language_model).state_dict()
    ours = model.language_model.get_base_model().state_dict()
    for name, tensor in base.items():
        assert torch.equal(ours.get(name, ours.get(name.replace("_proj.", "_proj.base_layer."))), tensor), name
    lamp = lamp_hf.LampForTextToMotion.from_pretrained(tiny_checkpoint).lamp
    for name, tensor in lamp.state_dict().items():
        assert torch.equal(model.lamp.state_dict()[name], tensor), name


def test_save_and_load_gives_the_same_outputs(model, motion, caption_ids, tmp_path: Path):
    model.save_pretrained(tmp_path)
    again, report = LampWithLanguageModelForMotionCaptioning.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    with torch.no_grad():
        assert torch.equal(model(**motion, input_ids=caption_ids).logits, again(**motion, input_ids=caption_ids).logits)
    assert lamp_hf.LampWithLanguageModelForMotionCaptioning is type(
        lamp_hf.modeling.LampWithLanguageModelForMotionCaptioning.from_pretrained(tmp_path)
    )


def test_merged_model_gives_the_same_outputs_without_the_language_model(
    tiny_captioner: Path, tiny_language_model: Path, motion, caption_ids, tmp_path: Path
):
    shutil.copytree(tiny_language_model, tmp_path / "language-model")
    shutil.copytree(tiny_captioner, tmp_path / "captioner")
    config = tmp_path / "captioner" / "config.json"
    config.write_text(config.read_text().replace(str(tiny_language_model), str(tmp_path / "language-model")))
    model = LampWithLanguageModelForMotionCaptioning.from_pretrained(tmp_path / "captioner")
    with torch.no_grad():
        before = model(**motion, input_ids=caption_ids).logits
        model.merge_adapter()
        torch.testing.assert_close(model(**motion, input_ids=caption_ids).logits, before, atol=1e-4, rtol=1e-4)
        model.save_pretrained(tmp_path / "merged")
        shutil.rmtree(tmp_path / "language-model")
        merged = LampWithLanguageModelForMotionCaptioning.from_pretrained(tmp_path / "merged")
        torch.testing.assert_close(merged(**motion, input_ids=caption_ids).logits, before, atol=1e-4, rtol=1e-4)
    assert merged.config.language_model_name is None
    assert not any(name.startswith("lamp.") for name in load_file(tmp_path / "merged" / "model.safetensors"))
    with pytest.raises(OSError, match="language-model"):
        LampWithLanguageModelForMotionCaptioning.from_pretrained(tmp_path / "captioner")


def test_parts_without_a_name_are_stored(
    tiny_checkpoint: Path, tiny_language_model: Path, motion, caption_ids, tmp_path: Path
):
    language_model = AutoModelForCausalLM.from_pretrained(tiny_language_model)
    model = LampWithLanguageModelForMotionCaptioning.from_parts(
        load_lamp(str(tiny_checkpoint)), language_model, lora_rank=2
    ).eval()
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if ".lora_B." in name:
                tensor.normal_()
    model.save_pretrained(tmp_path)
    again = LampWithLanguageModelForMotionCaptioning.from_pretrained(tmp_path)
    assert again.state_dict().keys() == model.state_dict().keys()
    with torch.no_grad():
        assert torch.equal(model(**motion, input_ids=caption_ids).logits, again(**motion, input_ids=caption_ids).logits)
    assert model.lamp.query_tokens.requires_grad  # as in the paper, LaMP is also trained
    assert not next(model.lamp.motion_vqvae.parameters()).requires_grad


def test_adapter_alone_is_a_peft_checkpoint(model, tiny_language_model: Path, caption_ids, tmp_path: Path):
    from peft import PeftModel

    model.language_model.save_pretrained(tmp_path)
    base = AutoModelForCausalLM.from_pretrained(tiny_language_model)
    adapted = PeftModel.from_pretrained(base, tmp_path).eval()
    with torch.no_grad():
        assert torch.equal(adapted(caption_ids).logits, model.language_model(caption_ids).logits)


def test_adapter_of_another_language_model_is_refused(tiny_captioner: Path, tiny_language_model, tmp_path: Path):
    from transformers import OPTConfig, OPTForCausalLM

    config = OPTConfig.from_pretrained(tiny_language_model, num_hidden_layers=1)
    OPTForCausalLM(config).save_pretrained(tmp_path / "other")
    shutil.copytree(tiny_captioner, tmp_path / "captioner")
    file = tmp_path / "captioner" / "config.json"
    file.write_text(file.read_text().replace(str(tiny_language_model), str(tmp_path / "other")))
    with pytest.raises(ValueError, match=r"does not fit .*other: 0 tensors are missing, 4 are unknown"):
        LampWithLanguageModelForMotionCaptioning.from_pretrained(tmp_path / "captioner")


# ---- what is computed -------------------------------------------------------------------------------------


def test_loss_ignores_the_padding_token(model, motion, caption_ids):
    mask = torch.ones_like(caption_ids)
    mask[1, 3:] = 0
    labels = caption_ids.masked_fill(mask == 0, IGNORED_LABEL)
    query_output = model.query(**motion)
    output = model(query_output=query_output, input_ids=caption_ids, attention_mask=mask, labels=labels)
    logits = output.logits[:, query_output.shape[1] - 1 : -1]  # the last query predicts the first word
    expected = F.cross_entropy(logits[mask.bool()], caption_ids[mask.bool()])
    torch.testing.assert_close(output.loss, expected)
    padded = model(
        **motion,
        input_ids=F.pad(caption_ids, (0, 5), value=7),
        attention_mask=F.pad(mask, (0, 5)),
        labels=F.pad(labels, (0, 5), value=IGNORED_LABEL),
    )
    torch.testing.assert_close(padded.loss, expected)


def test_caption_does_not_depend_on_its_batch(model, motion):
    together = model.caption(**motion, num_beams=3, num_return_sequences=2)
    assert torch.equal(
        model.generate(query_output=model.query(**motion), num_beams=3, num_return_sequences=2), together.sequences
    )
    for row, length in enumerate((40, 16, 28)):
        own = model.caption(motion["motion_values"][row : row + 1, :length], num_beams=3, num_return_sequences=2)
        longest = own.sequences.shape[1]
        assert torch.equal(own.sequences, together.sequences[2 * row : 2 * row + 2, :longest])
        torch.testing.assert_close(own.scores, together.scores[2 * row : 2 * row + 2])


def test_scores_are_the_mean_probability_of_the_words(model, motion):
    captions = model.caption(**motion)
    found = model.generate(**motion, output_logits=True, return_dict_in_generate=True)
    assert torch.equal(found.sequences, captions.sequences)
    chosen = torch.stack(found.logits, 1).log_softmax(-1).gather(-1, found.sequences[..., None])[..., 0]
    for row, ids in enumerate(found.sequences.tolist()):
        end = ids.index(3) + 1 if 3 in ids else len(ids)
        torch.testing.assert_close(captions.scores[row], chosen[row, :end].mean().exp())


def test_captions_have_the_requested_length(model, motion):
    assert model.generate(**motion, min_new_tokens=15).shape == (3, 15)  # max_text_length, without the first token
    assert model.generate(**motion, max_new_tokens=3, min_new_tokens=3).shape == (3, 3)
    begun = model.generate(**motion, input_ids=torch.tensor([[2, 9]]), max_new_tokens=2, min_new_tokens=2)
    assert begun.shape == (3, 2)


def train(model: torch.nn.Module, steps: int, rate: float, **batch: torch.Tensor) -> None:
    optimizer = torch.optim.AdamW([tensor for tensor in model.parameters() if tensor.requires_grad], lr=rate)
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        model(**batch).loss.backward()
        optimizer.step()
    model.eval()


@pytest.mark.slow
def test_learns_to_distinguish_motions(tiny_text_to_motion, tiny_language_model: Path, motion, tmp_path: Path):
    torch.manual_seed(0)
    tiny_text_to_motion().lamp.save_pretrained(tmp_path / "lamp")
    language_model = AutoModelForCausalLM.from_pretrained(tiny_language_model)
    tokenizer = AutoTokenizer.from_pretrained(tiny_language_model)
    texts = ["the person walks", "waves", "the person bows"]
    ids, mask = encode_captions(tokenizer, texts, language_model.config, 16)
    words = {"input_ids": ids, "attention_mask": mask, "labels": ids.masked_fill(mask == 0, IGNORED_LABEL)}
    train(language_model, 60, 0.01, **words, position_ids=5 + torch.arange(5).expand(3, -1))
    language_model.save_pretrained(tmp_path / "language-model")

    model = LampWithLanguageModelForMotionCaptioning.from_parts(
        str(tmp_path / "lamp"), str(tmp_path / "language-model"), lora_rank=4, max_text_length=12
    )
    learns = {name for name, tensor in model.named_parameters() if tensor.requires_grad}
    assert learns == {name for name in model.state_dict() if "lora" in name or name.startswith("projection")}
    frozen = {name: tensor.clone() for name, tensor in model.state_dict().items() if name not in learns}
    train(model, 400, 0.01, **words, query_output=model.query(**motion))
    written = model.caption(**motion)
    assert tokenizer.batch_decode(written.sequences, skip_special_tokens=True) == texts
    assert (written.scores > 0.5).all()
    for name, tensor in frozen.items():
        assert torch.equal(model.state_dict()[name], tensor), name
    assert not model.train().lamp.training


def test_captions_are_tokenized_for_training(tiny_language_model: Path, model):
    tokenizer = AutoTokenizer.from_pretrained(tiny_language_model)
    config = model.config
    ids, mask = encode_captions(tokenizer, ["the person walks", "Waves"], config, 16)
    words = tokenizer.convert_ids_to_tokens(ids[0])
    assert words == ["[CLS]", "the", "person", "walks", "[SEP]"]
    assert mask.tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]
    assert ids[1].tolist()[3:] == [config.pad_token_id] * 2
    cut, _ = encode_captions(tokenizer, ["the person walks"], config, 3)
    assert tokenizer.convert_ids_to_tokens(cut[0]) == ["[CLS]", "the", "person"]
    config.bos_token_id = config.eos_token_id = None
    bare, _ = encode_captions(tokenizer, ["the person walks"], config, 16)
    assert tokenizer.convert_ids_to_tokens(bare[0]) == ["the", "person", "walks"]


def test_errors(model, caption_ids):
    with pytest.raises(ValueError, match="the motion is missing: give motion_values, or query_output"):
        model(input_ids=caption_ids)
    bare = LampWithLanguageModelForMotionCaptioning(model.config)
    with pytest.raises(ValueError, match=r"language model .* is missing: load this captioner"):
        bare(query_output=torch.zeros(1, 4, 16), input_ids=caption_ids[:1])
    with pytest.raises(ValueError, match=r"the LaMP .* is missing"):
        bare.query(torch.zeros(1, 8, 263))


@torch.no_grad()
@pytest.mark.parametrize(
    "options", [{"max_shard_size": 1000}, {"variant": "fp16"}, {"variant": "a", "max_shard_size": 1000}]
)
def test_shards_and_variants_load_with_parts_by_name(model, motion, caption_ids, tmp_path: Path, options):
    for name, tensor in model.named_parameters():
        if ".lora_B." in name:
            tensor.normal_()
    model.save_pretrained(tmp_path, **options)
    assert (len(list(tmp_path.glob("*.safetensors"))) > 1) == ("max_shard_size" in options)
    assert not (tmp_path / "model.safetensors").exists()
    chosen = {name: value for name, value in options.items() if name == "variant"}
    again = LampWithLanguageModelForMotionCaptioning.from_pretrained(tmp_path, **chosen)
    assert torch.equal(model(**motion, input_ids=caption_ids).logits, again(**motion, input_ids=caption_ids).logits)


@torch.no_grad()
def test_larger_vocabulary_is_saved_and_loaded(
    model, tiny_checkpoint: Path, tiny_language_model: Path, motion, caption_ids, tmp_path: Path
):
    with pytest.raises(ValueError, match=r"would be lost.* merge_adapter\(\) first"):
        model.resize_token_embeddings(80)
    language_model = AutoModelForCausalLM.from_pretrained(tiny_language_model)
    for rank in (0, 2):
        whole = LampWithLanguageModelForMotionCaptioning.from_parts(
            load_lamp(str(tiny_checkpoint)), language_model, lora_rank=rank
        ).eval()
        size = 80 + rank
        whole.resize_token_embeddings(size)
        whole.save_pretrained(tmp_path / str(rank))
        again = LampWithLanguageModelForMotionCaptioning.from_pretrained(tmp_path / str(rank))
        assert again.config.language_model_config.vocab_size == size
        assert again.get_input_embeddings().num_embeddings == size
        ids = caption_ids.clone()
        ids[0, 0] = size - 1
        assert torch.equal(whole(**motion, input_ids=ids).logits, again(**motion, input_ids=ids).logits)


def test_gradient_checkpointing_gives_the_same_gradients(tiny_captioner: Path, motion, caption_ids):
    results = []
    for enabled in (False, True):
        model = LampWithLanguageModelForMotionCaptioning.from_pretrained(tiny_captioner)
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        for layer in model.language_model.get_base_model().model.decoder.layers:
            layer.dropout = layer.self_attn.dropout = 0.0
        model.language_model.get_base_model().model.decoder.dropout = 0.0
        if enabled:
            model.gradient_checkpointing_enable()
            assert model.language_model.get_base_model().model.decoder.layers[0].gradient_checkpointing
        model.train()
        model(**motion, input_ids=caption_ids, labels=caption_ids).loss.backward()
        results.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    assert results[0].keys() == results[1].keys()
    assert "projection.weight" in results[0]
    for name, gradient in results[0].items():
        torch.testing.assert_close(results[1][name], gradient, atol=1e-6, rtol=1e-4)


@torch.no_grad()
def test_unknown_arguments_are_refused(model, motion, caption_ids):
    with pytest.raises(TypeError, match=r"unexpected arguments: lables, typo"):
        model(**motion, input_ids=caption_ids, lables=caption_ids, typo=1)
    output = model(**motion, input_ids=caption_ids, output_hidden_states=True)
    assert output.hidden_states[0].shape[1] == output.logits.shape[1]
    assert isinstance(model(**motion, input_ids=caption_ids, return_dict=False), tuple)
