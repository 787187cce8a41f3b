"""The evaluator compared with outputs of the authors' released code, with the settings that reproduce it."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from lamp_hf.conversion.state_dicts import evaluator_state_dict, flat_evaluator
from lamp_hf.modeling.configuration_lamp import MotionTextEvaluatorConfig
from lamp_hf.modeling.modeling_motion_text_evaluator import MotionTextEvaluatorModel
from lamp_hf.modeling.modeling_motion_vqvae import length_mask

PARTS = ("movement_encoder", "text_encoder", "motion_encoder")


def model_of(original: dict) -> MotionTextEvaluatorModel:
    config = MotionTextEvaluatorConfig(
        movement_hidden_size=32,
        movement_size=24,
        motion_hidden_size=40,
        text_hidden_size=20,
        projection_dim=16,
        word_embedding_size=30,
        mask_motion_padding=False,
    )
    model = MotionTextEvaluatorModel(config).eval()
    model.load_state_dict(evaluator_state_dict(flat_evaluator(original)))
    return model


@pytest.fixture(scope="module")
def case(golden: Path) -> SimpleNamespace:
    flat = load_file(golden / "evaluator.state_dict.safetensors")
    original = {
        part: {name.removeprefix(f"{part}."): tensor for name, tensor in flat.items() if name.startswith(f"{part}.")}
        for part in PARTS
    }
    io = load_file(golden / "evaluator.io.safetensors")
    motion = {
        "motion_values": io["motions"],
        "motion_attention_mask": length_mask(io["m_lens"], io["motions"].shape[1]).long(),
    }
    text = {
        "word_embeddings": io["word_embs"],
        "pos_one_hots": io["pos_ohot"],
        "attention_mask": length_mask(io["cap_lens"], io["word_embs"].shape[1]).long(),
    }
    return SimpleNamespace(model=model_of(original), io=io, motion=motion, text=text, original=original)


@pytest.fixture
def close(parity: Callable[..., None]) -> Callable[..., None]:
    return partial(parity, "evaluator")


@torch.no_grad()
def test_movements_equal_released_code(case, close):
    close(case.model.movement_encoder(case.io["motions"][..., :-4]), case.io["movement_out"])


@torch.no_grad()
def test_features_equal_released_code_in_input_order(case, close):
    io = case.io
    motion, text = case.model.get_motion_features(**case.motion), case.model.get_text_features(**case.text)
    close(motion, io["motion_embedding_input_order"])
    close(text, io["text_embedding_input_order"])
    # The released code returns features sorted by the lengths of the motions.
    close(motion[io["align_idx"]], io["motion_embedding_sorted"])
    close(motion[io["align_idx"]], io["co_motion_embedding_sorted"])
    close(text[io["align_idx"]], io["co_text_embedding_sorted"])


@torch.no_grad()
def test_any_order_gives_the_same_features(case):
    order = torch.tensor([3, 0, 4, 2, 1])
    shuffled = case.model(**{name: tensor[order] for name, tensor in (case.motion | case.text).items()})
    output = case.model(**case.motion, **case.text)
    torch.testing.assert_close(shuffled.motion_features, output.motion_features[order])
    torch.testing.assert_close(shuffled.text_features, output.text_features[order])


@torch.no_grad()
def test_original_file_is_converted(case, golden: Path):
    # Saved by torch with optimizer states and the three parts.
    original = torch.load(golden / "ckpt" / "evaluator_finest.tar", map_location="cpu", weights_only=True)
    model = model_of(original)
    for name, tensor in case.model.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), name


def test_unknown_tensors_are_refused(case):
    original = {**case.original, "text_encoder": case.original["text_encoder"] | {"attention.weight": torch.zeros(1)}}
    with pytest.raises(ValueError, match=r"1 tensors do not belong to an original evaluator checkpoint: text_encoder"):
        evaluator_state_dict(flat_evaluator(original))
