"""Compares converted checkpoints, loaded as users load them, with outputs of the authors' released code."""

import json
import pickle
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoProcessor, pipeline

import lamp_hf
from lamp_hf.conversion import converter as conversion
from lamp_hf.conversion.configs import (
    Settings,
    captioning_config,
    evaluator_config,
    lamp_config,
    length_estimator_config,
    text_to_motion_config,
    vqvae_config,
)
from lamp_hf.conversion.converter import Conversion
from lamp_hf.conversion.files import OriginalFile
from lamp_hf.conversion.layout import UNUSED, layout_of
from lamp_hf.metrics.embedder import Embedder
from lamp_hf.modeling.configuration_generation_lamp import MaskedMotionGenerationConfig
from lamp_hf.modeling.configuration_lamp import (
    LampConfig,
    MotionLengthEstimatorConfig,
    MotionTextEvaluatorConfig,
    MotionVQVAEConfig,
)
from lamp_hf.modeling.masked_decoding import Window, decode_windows
from lamp_hf.modeling.modeling_motion_vqvae import length_mask
from lamp_hf.modeling.tokenization_glove import POS_TAGS
from lamp_hf.motion.motion import Motion
from lamp_hf.retrieval.encoder import MotionTextEncoder

QUERIES = 7


@pytest.fixture(scope="session")
def reference_tokenizers(golden: Path, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Tokenizers of the reference files: `bert`, a folder with only a `vocab.txt` like BERT's, and `opt`."""
    from transformers import GPT2Tokenizer

    folder = tmp_path_factory.mktemp("tokenizers")
    bert, opt = folder / "bert", folder / "opt"
    bert.mkdir()
    words = json.loads((golden / "lamp.json").read_text())["vocab"]
    assert words[-1] == "[DEC]"
    (bert / "vocab.txt").write_text("\n".join(words[:-1]) + "\n")
    about = json.loads((golden / "m2t.json").read_text())
    merges = [tuple(line.split()) for line in about["opt_merges"].splitlines() if not line.startswith("#version")]
    tokenizer = GPT2Tokenizer(
        vocab=about["opt_vocab"],
        merges=merges,
        bos_token="</s>",
        eos_token="</s>",
        unk_token="</s>",
        pad_token="<pad>",
    )
    tokenizer.save_pretrained(opt)
    return SimpleNamespace(bert=str(bert), opt=str(opt))


@pytest.fixture(scope="session")
def reference_files(golden: Path, lay_out: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny checkpoints of the released code, arranged as its scripts do. Tests must not change them."""
    home = tmp_path_factory.mktemp("reference") / "t2m"
    return lay_out(home, lambda name, path: shutil.copy(golden / "ckpt" / name, path))


@pytest.fixture(scope="session")
def convert_reference(
    convert_originals: Callable[..., Any], reference_tokenizers: SimpleNamespace
) -> Callable[..., Any]:
    """Converts reference files with their tokenizers."""
    bert, opt = reference_tokenizers.bert, reference_tokenizers.opt
    return partial(convert_originals, text_tokenizer=bert, language_model_tokenizer=opt)


@pytest.fixture(scope="session")
def reference(
    reference_files: Path, convert_reference: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> Any:
    """Conversion of all reference files at once."""
    return convert_reference(reference_files, tmp_path_factory.mktemp("converted") / "lamp")


@torch.no_grad()
def test_motion_vqvae(reference_files: Path, golden: Path, convert_reference, parity, tmp_path: Path) -> None:
    convert_reference(reference_files, tmp_path / "vq", kind="motion-vqvae")
    model = lamp_hf.MotionVQVAEModel.from_pretrained(tmp_path / "vq").eval()
    io = load_file(golden / "vqvae.io.safetensors")
    latents, _ = model.get_latents(io["motion"])
    output = model(io["motion"])
    parity("convert: vqvae", latents.transpose(1, 2), io["encoder_out"])
    assert torch.equal(output.codes, io["code_idx"])
    parity("convert: vqvae", output.reconstruction, io["recon"])
    for item in range(2):
        decoded = model.decode(io["code_idx"][item : item + 1])
        parity("convert: vqvae", decoded, io[f"decode_from_idx_sample{item}"])
    assert model.quantizer.initialized
    assert (model.quantizer.code_count == 1).all()  # V1


@pytest.fixture(scope="module", params=["alone", "in text to motion"])
def lamp(request, reference_files: Path, reference: Conversion, convert_reference, tmp_path_factory) -> Any:
    folder = reference.output
    if request.param == "alone":
        folder = tmp_path_factory.mktemp("converted") / "lamp"
        convert_reference(reference_files, folder, kind="lamp")
    return lamp_hf.LampModel.from_pretrained(folder).eval()


@torch.no_grad()
def test_lamp(lamp: lamp_hf.LampModel, golden: Path, parity) -> None:
    io = load_file(golden / "lamp.io.safetensors")
    ids, mask = io["input_ids"], io["attention_mask"]
    encoded = lamp.encode_motion(io["motion"])
    codes = encoded.motion_codes
    assert torch.equal(codes, io["gen_targets"])
    output = lamp(io["motion"], input_ids=ids, attention_mask=mask)
    parity("convert: lamp", output.motion_features, io["motion_feats"])
    parity("convert: lamp", output.text_features, io["text_feat"])
    parity("convert: lamp", output.logits_per_motion, io["sim_p2t_max_scaled"])
    motions = torch.cat([torch.arange(3), io["neg_motion_idx"], torch.arange(3)])
    texts = torch.cat([torch.arange(3), torch.arange(3), io["neg_text_idx"]])
    parity("convert: lamp", lamp.match(io["motion_embeds"][motions], None, ids[texts], mask[texts]), io["ptm_logits"])
    caption_ids = lamp.caption_ids(ids)
    hidden = lamp.query_and_caption(io["motion_embeds"], None, caption_ids, mask).last_hidden_state
    words = hidden[:, lamp.config.num_query_tokens :]
    parity("convert: lamp", lamp.lm_head(words[:, :-1]), io["lm_shift_logits"])
    parity("convert: lamp", lamp.motion_token_head(lamp.query_words(caption_ids, mask)), io["gen_logits"])


def test_vectors_of_the_released_retrieval(
    reference_files: Path, golden: Path, convert_reference, settings: dict[str, int], parity, tmp_path: Path
) -> None:
    """From unnormalized motions and sentences to the vectors that its evaluation ranks (L8)."""
    given = {**settings, "lamp.max_text_length": 32}
    convert_reference(reference_files, tmp_path / "lamp", kind="lamp", settings=given)
    model = lamp_hf.LampForMotionTextRetrieval.from_pretrained(tmp_path / "lamp")
    encoder = MotionTextEncoder(model, AutoProcessor.from_pretrained(tmp_path / "lamp"))
    about, io = json.loads((golden / "lamp.json").read_text()), load_file(golden / "lamp.io.safetensors")
    mean, std = (np.load(reference_files / "vq" / "meta" / f"{name}.npy") for name in ("mean", "std"))
    motions = [values * std + mean for values in io["motion"].numpy()]
    found = encoder.released_motion_vectors(motions, num_frames=28)
    parity("convert: lamp", torch.tensor(found), io["evalwrap_motion_embedding"])
    parity("convert: lamp", torch.tensor(encoder.released_text_vectors(about["texts"])), io["evalwrap_text_embedding"])


def test_lamp_tokenizes_texts_like_the_released_code(
    reference_files: Path, golden: Path, convert_reference, tmp_path: Path
) -> None:
    convert_reference(reference_files, tmp_path / "lamp", kind="lamp")
    processor = AutoProcessor.from_pretrained(tmp_path / "lamp")
    about, io = json.loads((golden / "lamp.json").read_text()), load_file(golden / "lamp.io.safetensors")
    encoded = processor(text=about["texts"])
    assert torch.equal(encoded["input_ids"], io["input_ids"])
    assert torch.equal(encoded["attention_mask"], io["attention_mask"])


@torch.no_grad()
def test_text_to_motion(reference: Conversion, golden: Path, parity) -> None:
    model = AutoModel.from_pretrained(reference.output).eval()
    processor = AutoProcessor.from_pretrained(reference.output)
    about, io = json.loads((golden / "t2m.json").read_text()), load_file(golden / "t2m.io.safetensors")
    encoded = processor(text=about["texts"])
    assert torch.equal(encoded["input_ids"], io["input_ids"])
    condition = model.get_text_condition(**encoded)
    parity("convert: t2m", condition, io["cond_vector"])
    # A single text is padded to the same length as a batch, so the condition is the same (T4).
    parity("convert: t2m", model.get_text_condition(**processor(text=about["texts"][1])), io["cond_vector"][1:2])
    conditional = model.predict_tokens(io["motion_ids"], condition).transpose(1, 2)
    unconditional = model.predict_tokens(io["motion_ids"], torch.zeros_like(condition)).transpose(1, 2)
    parity("convert: t2m", conditional, io["logits"])
    parity("convert: t2m", unconditional, io["logits_uncond"])
    first = processor(text=about["texts"][:1])
    output = model.generate(**first, num_tokens=16, temperature=0)
    assert torch.equal(output.motion_codes, io["gen_argmax_ids"][:1])
    output = model.generate(**first, num_tokens=16, temperature=0, num_inference_steps=18, guidance_scale=2)
    assert torch.equal(output.motion_codes, io["gen_argmax_ts18_cs2_ids"][:1])


@torch.no_grad()
@pytest.mark.parametrize(("steps", "scale", "name"), [(10, 4, "gen_argmax_ids"), (18, 2, "gen_argmax_ts18_cs2_ids")])
def test_text_to_motion_in_a_batch_with_visible_padding(
    reference: Conversion, golden: Path, steps: int, scale: int, name: str
) -> None:
    """Decodes clips of several lengths with unmasked padding, as the released code does (T2); ours masks it."""
    model = AutoModel.from_pretrained(reference.output).eval()
    io = load_file(golden / "t2m.io.safetensors")
    condition = io["cond_vector"]
    lengths = io["m_lens"].tolist()
    ids = torch.full((len(lengths), max(lengths)), model.config.motion_pad_token_id)
    windows = []
    for row, length in zip(ids, lengths, strict=True):
        row[:length] = model.config.motion_mask_token_id
        nothing = torch.empty(1, condition.shape[1])
        windows.append(Window(row, 0, torch.ones(length).bool(), torch.Generator(), nothing, nothing[0]))

    def predict(_: list[Window], guidance: float) -> list[torch.Tensor]:
        conditional, empty = (model.predict_tokens(ids, each) for each in (condition, torch.zeros_like(condition)))
        logits = empty + guidance * (conditional - empty)
        return [row[:length] for row, length in zip(logits, lengths, strict=True)]

    config = MaskedMotionGenerationConfig(temperature=0, num_inference_steps=steps, guidance_scale=scale)
    decode_windows(windows, predict, config, model.config.motion_mask_token_id)
    assert torch.equal(ids, io[name])


def test_text_to_motion_pipeline(reference: Conversion, reference_files: Path, golden: Path, parity) -> None:
    pipe = pipeline("text-to-motion", model=str(reference.output), temperature=0)
    about, io = json.loads((golden / "t2m.json").read_text()), load_file(golden / "t2m.io.safetensors")
    motion = pipe(about["texts"][0], duration=3.2, seed=0)["motion"]
    assert (motion.num_frames, motion.fps, motion.skeleton.name) == (64, 20.0, "humanml3d_22")
    with torch.no_grad():
        values = pipe.model.lamp.motion_vqvae.decode(io["gen_argmax_ids"][:1])[0].numpy()
    mean, std = (np.load(reference_files / "vq" / "meta" / f"{name}.npy") for name in ("mean", "std"))
    parity("convert: t2m", motion.features, values * std + mean)
    with pytest.raises(ValueError, match="no length estimator; give duration or num_frames"):
        pipe(about["texts"][0])


@torch.no_grad()
def test_captioning(reference: Conversion, golden: Path, parity) -> None:
    model = lamp_hf.LampWithLanguageModelForMotionCaptioning.from_pretrained(reference.output / "captioning").eval()
    io = load_file(golden / "m2t.io.safetensors")
    mask, labels = io["attention_mask"][:, QUERIES:], io["labels"][:, QUERIES:]
    ids = io["opt_input_ids_with_newline"]
    output = model(motion_values=io["motion"], input_ids=ids, attention_mask=mask, labels=labels)
    real = io["attention_mask"].bool()
    parity("convert: m2t", output.logits[real], io["logits"][real])
    parity("convert: m2t", output.loss, io["loss"])
    assert model.config.eos_token_id == 202  # the line break in this vocabulary
    for name, options in (("greedy_ids", {}), ("beam5_ids", {"num_beams": 5})):
        options = {"max_new_tokens": 31, "do_sample": False, **options}
        assert torch.equal(model.generate(io["motion"], input_ids=io["prompt_ids"], **options), io[name])


def test_pipeline_of_captioning(reference: Conversion, reference_files: Path, golden: Path) -> None:
    """The released prompt, beams and lengths, from unnormalized motions to sentences."""
    pipe = pipeline("motion-captioning", model=str(reference.output / "captioning"))
    io = load_file(golden / "m2t.io.safetensors")
    mean, std = (np.load(reference_files / "vq" / "meta" / f"{name}.npy") for name in ("mean", "std"))
    motions = [values * std + mean for values in io["motion"].numpy()]
    tokenizer = pipe.processor.tokenizer
    assert [2, *tokenizer("a man is", add_special_tokens=False)["input_ids"]] == io["prompt_ids"][0].tolist()
    for name, options in (("greedy_ids", {}), ("beam5_ids", {"num_beams": 5})):
        answers = pipe(motions, prompt="a man is", max_new_tokens=31, do_sample=False, **options)
        said = tokenizer.batch_decode(io[name], skip_special_tokens=True)
        assert [answer["caption"] for [answer] in answers] == [f"a man is{text}".strip() for text in said]


@torch.no_grad()
def test_evaluator(reference: Conversion, golden: Path, parity) -> None:
    model = AutoModel.from_pretrained(reference.output / "evaluator").eval()
    io = load_file(golden / "evaluator.io.safetensors")
    output = model(
        motion_values=io["motions"],
        motion_attention_mask=length_mask(io["m_lens"], io["motions"].shape[1]).long(),
        word_embeddings=io["word_embs"],
        pos_one_hots=io["pos_ohot"],
        attention_mask=length_mask(io["cap_lens"], io["word_embs"].shape[1]).long(),
    )
    parity("convert: evaluator", output.motion_features, io["motion_embedding_input_order"])
    parity("convert: evaluator", output.text_features, io["text_embedding_input_order"])


def test_evaluator_with_its_words(golden: Path, tmp_path: Path, convert_reference, parity) -> None:
    """Compare features computed from the original files, for annotated captions and whole clips."""
    io = load_file(golden / "evaluator.io.safetensors")
    lengths = io["cap_lens"].tolist()
    # The reference has random vectors, so each gets its own word and part of speech.
    vectors, words, said = [], [], []
    for row, length in enumerate(lengths):
        pieces = []
        for place in range(length):
            word = {0: "sos", length - 1: "eos"}.get(place, "") + f"{'abcde'[row]}{place}"
            words.append(word)
            vectors.append(io["word_embs"][row, place])
            pieces.append(f"{word}/{POS_TAGS[int(io['pos_ohot'][row, place].argmax())]}")
        said.append(pieces)
    folder = tmp_path / "checkpoints"
    (folder / "model").mkdir(parents=True)
    shutil.copy(golden / "ckpt" / "evaluator_finest.tar", folder / "model")
    np.save(folder / "mean.npy", np.zeros(263, np.float32))
    np.save(folder / "std.npy", np.ones(263, np.float32))
    glove = tmp_path / "glove"  # next to the checkpoints, like in the released code
    glove.mkdir()
    table = torch.stack([*vectors, torch.zeros(30)]).numpy()
    order = np.random.default_rng(0).permutation(len(table))
    np.save(glove / "our_vab_data.npy", table[order])
    (glove / "our_vab_words.pkl").write_bytes(pickle.dumps([*words, "unk"]))
    rows = {word: int(np.flatnonzero(order == row)[0]) for row, word in enumerate([*words, "unk"])}
    (glove / "our_vab_idx.pkl").write_bytes(pickle.dumps(rows))
    result = convert_reference(folder, tmp_path / "evaluator")
    files = [f"our_vab_{part}" for part in ("data.npy", "words.pkl", "idx.pkl")]
    assert [path.name for path in result.models[0].glove] == files
    facts = json.loads((result.output / "conversion.json").read_text())
    assert [file["file"] for file in facts["glove"]] == files

    judge = Embedder(AutoModel.from_pretrained(result.output), AutoProcessor.from_pretrained(result.output))
    assert judge.reads_annotations
    rows = zip(io["motions"].numpy(), io["m_lens"].tolist(), strict=True)
    motions = [Motion(features=frames[:length], fps=20.0) for frames, length in rows]
    parity("convert: evaluator, motions", torch.tensor(judge.motions(motions)), io["motion_embedding_input_order"])
    # The reference also has random vectors at the beginning and the end of a text.
    tokenizer = judge.processor.tokenizer
    tokenizer.build_inputs_with_special_tokens = lambda ids, _=None: ids
    texts = judge.texts([" ".join(pieces) for pieces in said])
    parity("convert: evaluator, texts", torch.tensor(texts), io["text_embedding_input_order"])


@torch.no_grad()
def test_length_estimator(reference: Conversion, golden: Path, parity) -> None:
    model = AutoModel.from_pretrained(reference.output / "length-estimator").eval()
    io = load_file(golden / "length_estimator.io.safetensors")
    output = model(io["text_emb"])
    parity("convert: length_est.", output.logits, io["logits"][:, 1:])  # without class 0
    # Median of the released distribution over lengths above 0.
    shares = io["logits"][:, 1:].double().softmax(-1).cumsum(-1)
    assert torch.equal(output.num_tokens, 1 + (shares < 0.5).sum(-1))
    assert torch.equal(output.num_frames, output.num_tokens * 4)
    with pytest.raises(ValueError, match="text_features have 5 numbers, expected 32"):
        model(torch.zeros(1, 5))


def test_published_sizes(golden: Path) -> None:
    """Full-size names and shapes of the released code give our default configurations, and the reverse."""
    shapes = json.loads((golden / "official_keys.json").read_text())

    def file(key: str, kind: str) -> OriginalFile:
        tensors = {name: torch.empty(shape, device="meta") for name, shape in shapes[key].items()}
        return OriginalFile(Path(key), kind, tensors, "")

    lamp = file("lamp", "lamp")
    captioner = conversion._with_one_language_model(file("m2t", "captioning"))
    settings = Settings()
    released = {"separate_motion_encoder": True, "mask_motion_padding": False, "mask_text_padding": False}
    expected_lamp = LampConfig(**released)
    found = [
        (file("vq_t2m", "motion-vqvae"), vqvae_config(file("vq_t2m", "motion-vqvae"), settings), MotionVQVAEConfig()),
        (
            file("vq_kit", "motion-vqvae"),
            vqvae_config(file("vq_kit", "motion-vqvae"), settings),
            MotionVQVAEConfig(motion_dim=251),
        ),
        (lamp, lamp_config(lamp, settings), expected_lamp),
        (file("evaluator_t2m", "evaluator"), evaluator_config(file("evaluator_t2m", "evaluator"), Settings()), None),
        (
            file("length_estimator", "length-estimator"),
            length_estimator_config(file("length_estimator", "length-estimator")),
            MotionLengthEstimatorConfig(hidden_sizes=[512, 256, 128]),
        ),
        (captioner, captioning_config(captioner, lamp, settings, 50118), None),
    ]
    for key, width, heads in (("t2m_512", 512, 8), ("t2m_384", 384, 6)):
        original = file(key, "text-to-motion")
        config = text_to_motion_config(original, lamp, settings)
        assert (config.hidden_size, config.num_attention_heads, config.num_hidden_layers) == (width, heads, 8)
        assert (config.intermediate_size, config.lamp_config.max_text_length) == (1024, 49)
        found.append((original, config, None))
    for original, config, expected in found:
        names = {
            name: tuple(tensor.shape)
            for name, tensor in original.tensors.items()
            if not UNUSED[original.kind].fullmatch(name)
        }
        assert layout_of(config) == names, original.path
        if expected is not None:
            assert config.to_dict() == expected.to_dict()
    language_model = found[5][1].language_model_config
    assert (language_model.num_attention_heads, language_model.max_position_embeddings) == (32, 2048)
    assert found[3][1].to_dict() == MotionTextEvaluatorConfig(mask_motion_padding=False, padded_frames=196).to_dict()
