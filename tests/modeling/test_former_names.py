"""Checkpoints whose layers were called otherwise load to the bit, and are saved by the names of now."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import lamp_hf
from lamp_hf.checkpoints.files import CheckpointError
from lamp_hf.modeling.base_lamp import FORMER_NAME

FORMER = {
    "motion_projection.": "motion_proj.",
    "text_projection.": "text_proj.",
    "motion_to_states.": "motion_projection.",
    "text_to_states.": "text_projection.",
}


def formerly(name: str) -> str:
    for new, old in FORMER.items():
        if name.startswith((new, f"lamp.{new}")):
            return name.replace(new, old)
    return name


@pytest.fixture
def former(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """A text-to-motion checkpoint as it was saved with the former names."""
    model = lamp_hf.LampForTextToMotion.from_pretrained(tiny_checkpoint)
    model.save_pretrained(tmp_path / "former")
    path = tmp_path / "former" / "model.safetensors"
    save_file({formerly(name): tensor for name, tensor in load_file(path).items()}, path, metadata={"format": "pt"})
    assert f"lamp.{FORMER_NAME}" in load_file(path)
    return tmp_path / "former"


@pytest.mark.parametrize(
    "kind", ["LampForTextToMotion", "LampModel", "LampForMotionTextRetrieval", "LampDecoderForMotionCaptioning"]
)
def test_former_names_load_to_the_bit(former: Path, tiny_checkpoint: Path, tmp_path: Path, kind: str) -> None:
    kind_of_model = getattr(lamp_hf, kind)
    model, report = kind_of_model.from_pretrained(former, output_loading_info=True)
    assert not any(report.values())
    expected = kind_of_model.from_pretrained(tiny_checkpoint).state_dict()
    tensors = model.state_dict()
    assert tensors.keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in tensors.items())
    model.save_pretrained(tmp_path / "again")
    saved = load_file(tmp_path / "again" / "model.safetensors")
    assert not any(name.endswith(FORMER_NAME) for name in saved)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in saved.items())


def test_in_shards(former: Path, tiny_checkpoint: Path, tmp_path: Path) -> None:
    expected = lamp_hf.LampForTextToMotion.from_pretrained(tiny_checkpoint)
    expected.save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    for path in (tmp_path / "shards").glob("*.safetensors"):
        save_file({formerly(name): tensor for name, tensor in load_file(path).items()}, path, metadata={"format": "pt"})
    index = tmp_path / "shards" / "model.safetensors.index.json"
    text = index.read_text()
    for new, old in FORMER.items():
        text = text.replace(f'"lamp.{new}', f'"lamp.{old}')
    index.write_text(text)
    tensors = lamp_hf.LampForTextToMotion.from_pretrained(tmp_path / "shards").state_dict()
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in expected.state_dict().items())


def test_a_run_of_before_goes_on(former: Path, tiny_checkpoint: Path) -> None:
    """As Trainer resumes: from the file of a checkpoint, by `load_state_dict`."""
    expected = lamp_hf.LampForTextToMotion.from_pretrained(tiny_checkpoint)
    model = lamp_hf.LampForTextToMotion(expected.config)
    stored = load_file(former / "model.safetensors")
    result = model.load_state_dict(stored, strict=False)
    assert not result.unexpected_keys
    assert result.missing_keys == ["lamp.lm_head.decoder.weight"]  # shared, and stored once
    model.tie_weights()
    tensors = model.state_dict()
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in expected.state_dict().items())


def test_text_projection_is_that_of_the_shared_space() -> None:
    lamp = lamp_hf.LampModel.from_pretrained("lamp-small")
    for projection in (lamp.text_projection, lamp.motion_projection):
        assert (projection.in_features, projection.out_features) == (
            lamp.config.hidden_size,
            lamp.config.projection_dim,
        )
    stored = load_file(lamp_hf.embedded_checkpoint() / "model.safetensors")
    assert torch.equal(lamp.text_projection.weight, stored[f"lamp.{FORMER_NAME}"].float())


def test_a_checkpoint_with_the_former_class_loads(tiny_captioner: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_captioner, tmp_path / "captioner"))
    config = json.loads((folder / "config.json").read_text())
    assert config["architectures"] == ["LampWithLanguageModelForMotionCaptioning"]
    (folder / "config.json").write_text(json.dumps(config | {"architectures": ["LampForMotionCaptioning"]}))
    model = lamp_hf.AutoModelForMotionCaptioning.from_pretrained(folder)
    assert type(model) is lamp_hf.LampWithLanguageModelForMotionCaptioning
    assert model.config.architectures == config["architectures"]
    with pytest.raises(CheckpointError, match="or load this one as LampWithLanguageModelForMotionCaptioning"):
        lamp_hf.LampModel.from_pretrained(folder)
