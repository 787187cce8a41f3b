"""Errors about damaged checkpoints name the file, and the key if one is wrong."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import lamp_hf
from lamp_hf.checkpoints.files import CheckpointError

FILES = {
    "config.json": lamp_hf.LampForTextToMotion,
    "generation_config.json": lamp_hf.LampForTextToMotion,
    "model.safetensors": lamp_hf.LampForTextToMotion,
    "processor_config.json": lamp_hf.LampProcessor,
    "tokenizer.json": lamp_hf.LampProcessor,
}
DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "cut in half": lambda content: content[: len(content) // 2],
    "without its first bytes": lambda content: content[7:],
    "without its last bytes": lambda content: content[:-3],
    "not text": lambda content: b"\xff\xfe\x00" + content[3:],
    "a list": lambda content: b"[1, 2]",
    "a number": lambda content: b"7",
    "null": lambda content: b"null",
    "deep": lambda content: b"[" * 100_000,
}


@pytest.fixture
def checkpoint(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "checkpoint"))


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", FILES)
def test_error_names_the_damaged_file(checkpoint, name, damage):
    path = checkpoint / name
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    with pytest.raises(CheckpointError, match=name):
        FILES[name].from_pretrained(checkpoint)


def header_bytes(content: bytes) -> list[bytes]:
    """Yield a safetensors file with one byte of its header changed, for bytes throughout the header."""
    size = int.from_bytes(content[:8], "little")
    places = [*range(8), *range(8, 8 + size, max(size // 40, 1))]
    return [content[:place] + bytes([content[place] ^ 0x55]) + content[place + 1 :] for place in places]


def test_every_damaged_byte_of_a_header_is_detected(checkpoint):
    """For any changed byte, the error names the file, or the loaded tensors equal the saved ones."""
    path = checkpoint / "model.safetensors"
    saved, content = load_file(path), path.read_bytes()
    noticed = 0
    for damaged in header_bytes(content):
        path.write_bytes(damaged)
        try:
            loaded = lamp_hf.LampForTextToMotion.from_pretrained(checkpoint)
        except CheckpointError as error:
            assert str(checkpoint) in str(error)
            noticed += 1
            continue
        for key, tensor in loaded.state_dict().items():
            if key in saved:
                assert torch.equal(saved[key], tensor), key
    assert noticed > 30


@pytest.mark.parametrize(
    ("name", "keys", "value"),
    [
        ("config.json", ("hidden_size",), "sixteen"),
        ("config.json", ("hidden_size",), [16]),
        ("config.json", ("lamp_config",), 5),
        ("config.json", ("lamp_config", "num_attention_heads"), None),
        ("config.json", ("lamp_config", "motion_vqvae_config"), [1]),
        ("config.json", ("lamp_config", "motion_vqvae_config", "motion_dim"), 100),
        ("config.json", ("attention_bias",), "sideways"),
        ("config.json", ("length_hidden_sizes",), "many"),
        ("generation_config.json", ("num_inference_steps",), "ten"),
        ("generation_config.json", ("temperature",), []),
        ("processor_config.json", ("feature_extractor",), 5),
        ("processor_config.json", ("feature_extractor", "mean"), ["x"] * 263),
        ("processor_config.json", ("feature_extractor", "std"), [1.0]),
        ("processor_config.json", ("text_padding",), "sideways"),
    ],
)
def test_error_names_the_key_of_an_invalid_value(checkpoint, name, keys, value):
    path = checkpoint / name
    values: Any = json.loads(path.read_text())
    part = values
    for key in keys[:-1]:
        part = part[key]
    part[keys[-1]] = value
    path.write_text(json.dumps(values))
    with pytest.raises(CheckpointError, match=f"{name}.*{keys[-1]}"):
        FILES[name].from_pretrained(checkpoint)


def test_error_names_tensors_of_another_type(checkpoint):
    path = checkpoint / "model.safetensors"
    tensors = load_file(path)
    key = "lamp.motion_to_states.weight"
    save_file({**tensors, key: tensors[key].int()}, path, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=rf"model.safetensors .* {key} has the type I32, expected floating-point"):
        lamp_hf.LampForTextToMotion.from_pretrained(checkpoint)
    save_file({**tensors, key: tensors[key][:-1].clone()}, path, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=rf"{key} is \(11, 8\), expected \(12, 8\)"):
        lamp_hf.LampForTextToMotion.from_pretrained(checkpoint)


def test_error_names_a_missing_shard(checkpoint):
    lamp_hf.LampForTextToMotion.from_pretrained(checkpoint).save_pretrained(checkpoint, max_shard_size="20KB")
    (checkpoint / "model.safetensors").unlink(missing_ok=True)
    shard = sorted(checkpoint.glob("model-*.safetensors"))[1]
    content = shard.read_bytes()
    lamp_hf.LampForTextToMotion.from_pretrained(checkpoint)
    shard.write_bytes(content[:-1])
    with pytest.raises(CheckpointError, match=shard.name):
        lamp_hf.LampForTextToMotion.from_pretrained(checkpoint)
    shard.unlink()
    with pytest.raises(CheckpointError, match=shard.name):
        lamp_hf.LampForTextToMotion.from_pretrained(checkpoint)


def test_new_parts_can_be_trained_but_missing_parts_are_refused(checkpoint):
    path = checkpoint / "model.safetensors"
    model = lamp_hf.LampForTextToMotion.from_pretrained(checkpoint, condition_on_words=True)
    assert model.words_to_condition is not None
    tensors = {key: tensor for key, tensor in load_file(path).items() if not key.startswith("length_estimator")}
    save_file(tensors, path, metadata={"format": "pt"})
    for load in (lamp_hf.LampForTextToMotion.from_pretrained, make_pipeline):
        with pytest.raises(CheckpointError, match=r"lacks 6 of the tensors .*: length_estimator.classifier.bias"):
            load(checkpoint)
    _, report = lamp_hf.LampForTextToMotion.from_pretrained(checkpoint, output_loading_info=True)
    assert len(report["missing_keys"]) == 6
    lamp_hf.LampModel.from_pretrained(checkpoint)  # the complete part


def make_pipeline(path: Path) -> Any:
    from transformers import pipeline

    return pipeline("text-to-motion", model=str(path))
