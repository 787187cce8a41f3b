"""A checkpoint folder is read once: facts and cards come from the texts in memory."""

import shutil
from pathlib import Path

import pytest
import yaml

from lamp_hf.checkpoints.files import CheckpointError
from lamp_hf.hub.card_text import License
from lamp_hf.publishing.checkpoint_folder import CheckpointFolder
from lamp_hf.publishing.describe import describe
from lamp_hf.publishing.model_card import checkpoint_card


@pytest.fixture
def folder(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """A finished run."""
    folder = Path(shutil.copytree(tiny_checkpoint, tmp_path / "run"))
    (folder / "recipe.yaml").write_text(yaml.safe_dump({"stage": "text-to-motion", "base": "lamp-small", "seed": 3}))
    (folder / "checkpoint-3").mkdir()
    (folder / "checkpoint-3" / "config.json").write_text("not read")
    return folder


def card_of(checkpoint: CheckpointFolder) -> str | None:
    return checkpoint_card(checkpoint, "me/run", existing=None, card_license=License({}, None), sources=[])


def test_no_text_file_is_needed_after_reading(folder: Path) -> None:
    checkpoint = CheckpointFolder.read(folder)
    facts, card = describe(checkpoint), card_of(checkpoint)
    again = CheckpointFolder.read(folder)
    for path in folder.iterdir():
        if path.is_file() and path.suffix != ".safetensors":
            path.unlink()
    assert (describe(again), card_of(again)) == (facts, card)
    assert card is not None
    assert "| seed | 3 |" in card


def test_texts_are_replaced_in_a_copy(folder: Path) -> None:
    checkpoint = CheckpointFolder.read(folder)
    changed = checkpoint.with_texts({"recipe.yaml": "stage: lamp\nbase: me/base\ndata: {name: me/clips}\n"})
    assert (changed.bases, changed.datasets) == (["me/base"], ["me/clips"])
    assert (checkpoint.bases, checkpoint.datasets) == (["lamp-small"], [])
    assert changed.config == checkpoint.config


def test_missing_files_are_empty(folder: Path) -> None:
    checkpoint = CheckpointFolder.read(folder)
    assert (checkpoint.card, checkpoint.conversion, checkpoint.records) == (None, {}, [])
    assert checkpoint.extractor["fps"] > 0


def test_error_names_a_file_that_is_not_text(folder: Path) -> None:
    (folder / "config.json").write_bytes(b"\xff\xfe")
    with pytest.raises(CheckpointError, match=r"config\.json is damaged: it is not JSON"):
        CheckpointFolder.read(folder)
