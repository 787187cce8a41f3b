"""Checkpoints contain the version of lamp_hf that wrote them, and load only as the correct kind of model."""

import json
import shutil
from pathlib import Path

import pytest
from transformers import AutoConfig, AutoModel

import lamp_hf
from lamp_hf.checkpoints.files import CheckpointError
from lamp_hf.modeling import base_lamp


@pytest.fixture
def checkpoint(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "checkpoint"))


def change(checkpoint: Path, **values: object) -> None:
    path = checkpoint / "config.json"
    config = json.loads(path.read_text()) | values
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


def test_version_is_saved_once_and_is_not_a_setting(checkpoint, tmp_path) -> None:
    config = json.loads((checkpoint / "config.json").read_text())
    assert config["lamp_hf_version"] == lamp_hf.__version__
    assert "lamp_hf_version" not in json.dumps(config["lamp_config"])
    loaded = AutoConfig.from_pretrained(checkpoint)
    assert not hasattr(loaded, "lamp_hf_version")
    change(checkpoint, lamp_hf_version="0.0.1")
    AutoModel.from_pretrained(checkpoint).save_pretrained(tmp_path / "again")
    assert json.loads((tmp_path / "again" / "config.json").read_text())["lamp_hf_version"] == lamp_hf.__version__


@pytest.mark.parametrize(
    ("wrote", "ours", "loads"),
    [
        (None, "0.1.0", True),  # from before versions were saved
        ("0.1.0", "0.2.0", True),
        ("0.2.7", "0.2.1", True),
        ("0.2.0.dev1", "0.2.0", True),
        ("0.3.0", "0.2.9", False),
        ("1.0.0", "0.9.0", False),
        ("0.10.0", "0.9.0", False),
    ],
)
def test_newer_minor_version_is_refused(checkpoint, monkeypatch, wrote, ours, loads) -> None:
    change(checkpoint, lamp_hf_version=wrote)
    monkeypatch.setattr(base_lamp, "__version__", ours)
    for load in (AutoConfig, lamp_hf.LampTextToMotionConfig, lamp_hf.LampConfig):
        if loads:
            load.from_pretrained(checkpoint)
        else:
            with pytest.raises(CheckpointError, match=f"{checkpoint} was written by lamp_hf {wrote}; this is lamp_hf"):
                load.from_pretrained(checkpoint)


def test_models_load_from_checkpoints_that_contain_them(checkpoint) -> None:
    for name in ("LampForTextToMotion", "LampModel", "LampDecoderForMotionCaptioning", "LampForMotionTextRetrieval"):
        getattr(lamp_hf, name).from_pretrained(checkpoint)
    for name in ("MotionVQVAEModel", "LampWithLanguageModelForMotionCaptioning", "MotionTextEvaluatorModel"):
        with pytest.raises(CheckpointError, match="contains a 'lamp_text_to_motion' model, but"):
            getattr(lamp_hf, name).from_pretrained(checkpoint)
    with pytest.raises(CheckpointError, match="'lamp' or 'lamp_text_to_motion' or 'lamp_captioning' is needed"):
        lamp_hf.AutoModelForMotionCaptioning.from_pretrained(lamp_hf.embedded_checkpoint("lamp-small-evaluator"))


def test_error_names_what_is_missing(checkpoint) -> None:
    (checkpoint / "tokenizer.json").unlink()
    (checkpoint / "tokenizer_config.json").unlink()
    with pytest.raises(CheckpointError, match=r"it has no tokenizer.json or vocab.txt or words.json. Found: config"):
        lamp_hf.LampProcessor.from_pretrained(checkpoint)
    (checkpoint / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"it has no model.safetensors or model.safetensors.index.json"):
        lamp_hf.LampForTextToMotion.from_pretrained(checkpoint)
    (checkpoint / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"has no config.json with a model type"):
        lamp_hf.LampForTextToMotion.from_pretrained(checkpoint)
