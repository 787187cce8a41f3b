"""Names of embedded checkpoints work wherever model names do, and mistyped names fail immediately."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import transformers

import lamp_hf
from lamp_hf.hub.errors import HubError

LOADERS = [
    lamp_hf.LampForTextToMotion.from_pretrained,
    lamp_hf.LampModel.from_pretrained,
    lamp_hf.LampProcessor.from_pretrained,
    lamp_hf.LampFeatureExtractor.from_pretrained,
    lamp_hf.LampTextToMotionConfig.from_pretrained,
    lamp_hf.AutoModelForMotionCaptioning.from_pretrained,
    lambda name: transformers.pipeline("text-to-motion", model=name),
    lambda name: transformers.pipelines.pipeline("motion-captioning", name),
]
AUTO_LOADERS: list[Any] = [
    getattr(transformers, f"Auto{name}").from_pretrained
    for name in ("Config", "Model", "Processor", "FeatureExtractor", "Tokenizer")
]


@pytest.mark.parametrize("load", [*LOADERS, *AUTO_LOADERS])
def test_embedded_names_load(load):
    assert load("lamp-small") is not None


def test_default_checkpoint_loads_without_a_warning(caplog):
    assert transformers.pipeline("text-to-motion").model.config.model_type == "lamp_text_to_motion"
    assert "No model was supplied" not in caplog.text


@pytest.mark.parametrize("load", LOADERS)
def test_error_suggests_the_nearest_name(load, tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"lamp-smal is neither a folder .*; did you mean lamp-small\?"):
        load("lamp-smal")
    (tmp_path / "runs" / "dance").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"runs/dence does not exist, but the folder runs does; .* runs/dance"):
        load("runs/dence")
    with pytest.raises(HubError, match="owner/dance is neither a local folder nor in the cache"):
        load("owner/dance")


ASK = """
import sys, transformers, lamp_hf
from huggingface_hub import constants
requests = []
sys.addaudithook(lambda event, args: requests.append(args) if event == "socket.connect" else None)
for load in (lamp_hf.LampForTextToMotion.from_pretrained, lambda name: transformers.pipeline("text-to-motion", name)):
    try:
        load("owner/dance")
    except lamp_hf.hub.errors.HubError as error:
        assert "cannot be reached for owner/dance" in str(error), error
assert len(requests) <= 4, requests
"""


def test_unreachable_hub_gets_few_requests():
    environment = {**os.environ, "HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9"}
    environment["PYTHONPATH"] = str(Path(lamp_hf.__file__).parents[1])
    done = subprocess.run([sys.executable, "-c", ASK], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
