"""Checkpoints with former names of layers and classes load bit for bit, and are saved with the current names."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import lamp_hf
from lamp_hf.checkpoints.files import CheckpointError
from lamp_hf.modeling.former_checkpoints import FORMER_NAME

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
def test_former_names_load_bit_exactly(former: Path, tiny_checkpoint: Path, tmp_path: Path, kind: str) -> None:
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


def test_former_names_in_shards_load(former: Path, tiny_checkpoint: Path, tmp_path: Path) -> None:
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


def test_run_with_former_names_resumes(former: Path, tiny_checkpoint: Path) -> None:
    """The Trainer resumes from the file of a checkpoint, with `load_state_dict`."""
    expected = lamp_hf.LampForTextToMotion.from_pretrained(tiny_checkpoint)
    model = lamp_hf.LampForTextToMotion(expected.config)
    stored = load_file(former / "model.safetensors")
    result = model.load_state_dict(stored, strict=False)
    assert not result.unexpected_keys
    assert result.missing_keys == ["lamp.lm_head.decoder.weight"]  # shared, and stored once
    model.tie_weights()
    tensors = model.state_dict()
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in expected.state_dict().items())


def test_text_projection_projects_to_the_shared_space() -> None:
    lamp = lamp_hf.LampModel.from_pretrained("lamp-small")
    for projection in (lamp.text_projection, lamp.motion_projection):
        assert (projection.in_features, projection.out_features) == (
            lamp.config.hidden_size,
            lamp.config.projection_dim,
        )
    stored = load_file(lamp_hf.embedded_checkpoint() / "model.safetensors")
    assert torch.equal(lamp.text_projection.weight, stored[f"lamp.{FORMER_NAME}"].float())


def test_temperature_without_dimensions_loads_and_is_saved_with_one(tmp_path: Path) -> None:
    stored = load_file(lamp_hf.embedded_checkpoint() / "model.safetensors")["lamp.logit_scale"]
    assert stored.shape == ()
    for model in (lamp_hf.LampForTextToMotion, lamp_hf.LampForMotionTextRetrieval):
        assert torch.equal(model.from_pretrained("lamp-small").lamp.logit_scale, stored.float().reshape(1))
    lamp = lamp_hf.LampModel.from_pretrained("lamp-small")
    lamp.save_pretrained(tmp_path)
    assert load_file(tmp_path / "model.safetensors")["logit_scale"].shape == (1,)
    assert torch.equal(lamp_hf.LampModel.from_pretrained(tmp_path).logit_scale, lamp.logit_scale)
    lamp.load_state_dict({**lamp.state_dict(), "logit_scale": stored.float() + 1})  # of a run from before the change
    assert torch.equal(lamp.logit_scale, stored.float().reshape(1) + 1)


def test_checkpoint_with_the_former_class_loads(tiny_captioner: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_captioner, tmp_path / "captioner"))
    config = json.loads((folder / "config.json").read_text())
    assert config["architectures"] == ["LampWithLanguageModelForMotionCaptioning"]
    (folder / "config.json").write_text(json.dumps(config | {"architectures": ["LampForMotionCaptioning"]}))
    model = lamp_hf.AutoModelForMotionCaptioning.from_pretrained(folder)
    assert type(model) is lamp_hf.LampWithLanguageModelForMotionCaptioning
    assert model.config.architectures == config["architectures"]
    with pytest.raises(CheckpointError, match="or load this one as LampWithLanguageModelForMotionCaptioning"):
        lamp_hf.LampModel.from_pretrained(folder)
