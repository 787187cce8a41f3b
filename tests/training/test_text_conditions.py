"""Text to motion conditioned on CLIP or a sentence encoder: training, saving, loading, generation."""

import json
from pathlib import Path

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import (
    AutoModel,
    AutoTokenizer,
    BertConfig,
    BertModel,
    BertTokenizer,
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    pipeline,
)

from lamp_hf.checkpoints.files import CheckpointError
from lamp_hf.modeling.configuration_lamp import LampTextToMotionConfig
from lamp_hf.modeling.modeling_lamp import LampModel
from lamp_hf.modeling.modeling_lamp_motion_text_retrieval import LampForMotionTextRetrieval
from lamp_hf.modeling.modeling_lamp_text_to_motion import LampForTextToMotion
from lamp_hf.modeling.processing_lamp import LampProcessor
from lamp_hf.training import Recipe, train
from lamp_hf.training.stages.text_conditions import TextFeatures, load_text_encoder

LETTERS = "abcdefghijklmnopqrstuvwxyz"
WORDS = ["a", "person", "walks", "forward", "someone", "is", "walking", "waves", "with", "one", "hand", "waving"]
TEXTS = ["a person walks forward", "someone is waving"]
CONDITIONS = ("clip", "sentence-embedding")


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP text model with random weights that reads letters."""
    folder = tmp_path_factory.mktemp("clip")
    tokens = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS), "<|startoftext|>", "<|endoftext|>"]
    tokenizer = CLIPTokenizer(vocab={token: index for index, token in enumerate(tokens)}, merges=[])
    tokenizer.model_max_length = 40
    tokenizer.save_pretrained(folder)
    torch.manual_seed(1)
    config = CLIPTextConfig(
        vocab_size=len(tokens),
        hidden_size=16,
        projection_dim=12,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=40,
        bos_token_id=len(tokens) - 2,
        eos_token_id=len(tokens) - 1,
        pad_token_id=len(tokens) - 1,
        initializer_range=0.5,
    )
    CLIPTextModelWithProjection(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def sentence_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sentence encoder with random weights that pools the first token."""
    folder = tmp_path_factory.mktemp("sentences")
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    BertTokenizer(vocab={token: index for index, token in enumerate(tokens)}).save_pretrained(folder)
    torch.manual_seed(2)
    config = BertConfig(
        vocab_size=len(tokens),
        hidden_size=20,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=24,
        initializer_range=0.5,
    )
    BertModel(config).save_pretrained(folder)
    (folder / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": 20, "pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    return folder


@pytest.fixture(scope="session")
def lamp_folder(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The LaMP of the tiny checkpoint alone."""
    folder = tmp_path_factory.mktemp("lamp")
    LampModel.from_pretrained(tiny_checkpoint).save_pretrained(folder)
    LampProcessor.from_pretrained(tiny_checkpoint).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def trained(
    lamp_folder: Path, clip: Path, sentence_encoder: Path, tiny_set: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """A text-to-motion model for each condition, after two steps."""
    root = tmp_path_factory.mktemp("conditions")
    return {
        condition: train(recipe_of(condition, lamp_folder, encoder, tiny_set), root / condition)
        for condition, encoder in zip(CONDITIONS, (clip, sentence_encoder), strict=True)
    }


def recipe_of(condition: str, base: Path, encoder: Path | None, data: Path) -> Recipe:
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    steps = {"max_steps": 2, "eval_steps": 2, "save_steps": 2, "logging_steps": 1, "per_device_train_batch_size": 4}
    return Recipe(
        stage="text-to-motion",
        base=str(base),
        data={"name": str(data)},
        text_encoder=None if encoder is None else str(encoder),
        model={**sizes, "max_motion_tokens": 16, "length_hidden_sizes": [8], "text_condition": condition},
        trainer={**steps, "disable_tqdm": True, "metric_for_best_model": "token_loss", "greater_is_better": False},
    )


def own_features(condition: str, folder: Path) -> torch.Tensor:
    """Compute the features of two texts with transformers, one text at a time."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = []
    for text in TEXTS:
        inputs = tokenizer(text, return_tensors="pt")
        if condition == "clip":
            rows.append(CLIPTextModelWithProjection.from_pretrained(folder)(**inputs).text_embeds)
        else:
            state = AutoModel.from_pretrained(folder)(**inputs).last_hidden_state[:, 0]
            rows.append(torch.nn.functional.normalize(state, dim=-1))
    return torch.cat(rows).detach()


@pytest.mark.slow
@pytest.mark.parametrize("condition", CONDITIONS)
def test_saved_model_encodes_texts_like_its_encoder(trained, clip, sentence_encoder, condition) -> None:
    model = LampForTextToMotion.from_pretrained(trained[condition])
    processor = LampProcessor.from_pretrained(trained[condition])
    found = model.get_text_condition(**processor(text=TEXTS))
    expected = own_features(condition, {"clip": clip, "sentence-embedding": sentence_encoder}[condition])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert found.shape[1] == model.config.condition_size == {"clip": 12, "sentence-embedding": 20}[condition]
    assert not any(parameter.requires_grad for parameter in model.text_encoder.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("condition", CONDITIONS)
def test_saved_model_generates_through_the_pipeline(trained, condition) -> None:
    pipe = pipeline("text-to-motion", model=str(trained[condition]), device="cpu")
    alone = pipe(TEXTS[0], num_frames=16, seed=3)["motion"]
    batch = [result["motion"] for result in pipe(TEXTS[::-1], num_frames=16, seed=3)]
    assert alone.num_frames == 16
    torch.testing.assert_close(torch.tensor(batch[1].features), torch.tensor(alone.features), rtol=0, atol=0)
    assert alone.text == TEXTS[0]


@pytest.mark.slow
@pytest.mark.parametrize("condition", CONDITIONS)
def test_training_logs_a_loss_and_keeps_lamp(trained, lamp_folder, condition) -> None:
    log = json.loads((trained[condition] / "training.json").read_text())["log"]
    assert [entry["token_loss"] > 0 for entry in log if "token_loss" in entry] == [True, True]
    kept = LampForTextToMotion.from_pretrained(trained[condition]).lamp
    before = LampModel.from_pretrained(lamp_folder)
    for name, tensor in before.state_dict().items():
        assert torch.equal(kept.state_dict()[name], tensor), name


@pytest.mark.slow
def test_lamp_does_not_read_texts_that_are_tokenized_for_another_encoder(trained) -> None:
    with pytest.raises(CheckpointError, match="tokenizes texts for its own text encoder"):
        LampForMotionTextRetrieval.from_pretrained(trained["clip"])
    with pytest.raises(CheckpointError, match="use the checkpoint of the LaMP that it was trained from"):
        pipeline("motion-captioning", model=str(trained["clip"]))


@pytest.mark.slow
def test_trained_model_keeps_its_condition(trained, tiny_set, tmp_path) -> None:
    recipe = recipe_of("clip", trained["sentence-embedding"], None, tiny_set)
    with pytest.raises(ValueError, match="was trained with text_condition='sentence-embedding', not 'clip'"):
        train(recipe, tmp_path / "other")
    recipe = recipe_of("sentence-embedding", trained["sentence-embedding"], None, tiny_set)
    more = LampForTextToMotion.from_pretrained(train(recipe, tmp_path / "more"))
    assert more.config.text_pooling == "cls"


def new_model(lamp_folder: Path, condition: str, folder: Path) -> tuple[LampForTextToMotion, LampProcessor]:
    encoder, tokenizer, values = load_text_encoder(condition, str(folder))
    lamp = LampModel.from_pretrained(lamp_folder)
    model = LampForTextToMotion.from_lamp(lamp, encoder, text_condition=condition, max_motion_tokens=16, **values)
    extractor = LampProcessor.from_pretrained(lamp_folder).feature_extractor
    return model.eval(), LampProcessor(extractor, tokenizer)


def test_features_are_computed_once_per_text_and_give_the_same_loss(lamp_folder, clip, monkeypatch) -> None:
    model, processor = new_model(lamp_folder, "clip", clip)
    features, calls = TextFeatures(model), []
    read = features.model.summarize_text
    monkeypatch.setattr(features.model, "summarize_text", lambda ids, mask: calls.append(len(ids)) or read(ids, mask))
    texts = processor(text=[*TEXTS, TEXTS[0]])
    first, again = features(**texts), features(**processor(text=TEXTS))
    assert calls == [2]
    assert torch.equal(first[:2], again)
    assert torch.equal(first[0], first[2])
    codes = torch.arange(12).view(3, 4)
    losses = [
        model(**inputs, motion_codes=codes, generator=torch.Generator().manual_seed(0)).loss
        for inputs in (texts, {"text_summary": first})
    ]
    torch.testing.assert_close(*losses, rtol=0, atol=1e-6)


def test_mean_pooling_is_the_default_and_others_are_refused(sentence_encoder, tmp_path) -> None:
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((sentence_encoder / name).read_bytes())
    assert load_text_encoder("sentence-embedding", str(tmp_path))[2] == {"text_pooling": "mean"}
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text('{"pooling_mode_lasttoken": true}')
    with pytest.raises(ValueError, match="its pooling is lasttoken, but only mean_tokens and cls_token are supported"):
        load_text_encoder("sentence-embedding", str(tmp_path))


def test_condition_and_encoder_must_match(clip, sentence_encoder, lamp_folder) -> None:
    lamp = LampModel.from_pretrained(lamp_folder).config.to_dict()
    text = CLIPTextModelWithProjection.from_pretrained(clip).config
    with pytest.raises(StrictDataclassError, match="text_condition='clip' needs a text_encoder_config"):
        LampTextToMotionConfig(lamp_config=lamp, text_condition="clip")
    with pytest.raises(StrictDataclassError, match="text_condition='lamp' has no text_encoder_config"):
        LampTextToMotionConfig(lamp_config=lamp, text_encoder_config=text)
    with pytest.raises(StrictDataclassError, match="needs a CLIP text model, but text_encoder_config is a 'bert'"):
        LampTextToMotionConfig(lamp_config=lamp, text_condition="clip", text_encoder_config={"model_type": "bert"})
    with pytest.raises(StrictDataclassError, match="condition_on_words=True needs text_condition='lamp'"):
        LampTextToMotionConfig(
            lamp_config=lamp, text_condition="clip", text_encoder_config=text, condition_on_words=True
        )
    with pytest.raises(ValueError, match="text_condition='glove' is unknown"):
        load_text_encoder("glove", None)
