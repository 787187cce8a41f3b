"""Fixtures of the retrieval tests: a tiny model and folders of motion files."""

from pathlib import Path

import pytest

import lamp_hf
from lamp_hf.retrieval import MotionTextEncoder


@pytest.fixture(scope="session")
def encoder(tiny_checkpoint: Path) -> MotionTextEncoder:
    """Encoder with random weights: four queries of eight numbers."""
    model = lamp_hf.LampForMotionTextRetrieval.from_pretrained(tiny_checkpoint)
    return MotionTextEncoder(model, lamp_hf.LampProcessor.from_pretrained(tiny_checkpoint))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache for converted files and for indexes."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("LAMP_HF_CACHE", str(folder))
    return folder


@pytest.fixture
def mocap(tmp_path: Path, procedural, cache: Path) -> Path:
    """A folder of four motion files in three formats; one contains a caption."""
    folder = tmp_path / "mocap"
    (folder / "gestures").mkdir(parents=True)
    procedural.walker(60, text="a person walks").save(folder / "walk.npz")
    procedural.walker(48, turn=0.8).save(folder / "turn.bvh")
    procedural.waver(60).save(folder / "gestures" / "wave.bvh")
    procedural.waver(40, side="left").save(folder / "gestures" / "wave_left.npy")
    return folder
