"""Publishing and loading of converted checkpoints."""

import shutil
from pathlib import Path

import pytest

from lamp_hf.conversion.converter import Conversion

GENERATE = (
    'pipe = pipeline("text-to-motion", model={!r}, device="cpu")\n'
    'result = pipe("a person walks", seed=3, num_frames=24)["motion"].features.tolist()'
)
CAPTION = (
    'captioner = pipeline("motion-captioning", model={!r}, device="cpu", num_beams=2)\n'
    'result = captioner("walk.bvh")[0]["caption"]'
)


@pytest.fixture(scope="module")
def published(hub, publisher, converted: Conversion) -> str:
    """The converted text-to-motion model, published without a license argument."""
    assert publisher.lamp_hf("push", converted.output, "me/theirs") == 0, publisher.printed
    return "me/theirs"


def test_text_to_motion_round_trip(hub, publisher, reader, published, converted: Conversion) -> None:
    files = hub[published].files
    assert "conversion.json" in files
    assert not [name for name in files if "/" in name]  # the three others are pushed separately
    local = publisher(GENERATE.format(str(converted.output)))
    assert reader(GENERATE.format(published)) == local
    card = files["README.md"].decode()
    assert "license: mit" in card
    assert "| `t2m.tar` | `" in card
    assert "duration=4.0" in card
    assert not any(str(converted.output.parent).encode() in content for content in files.values())


def test_captioner_round_trip(hub, publisher, reader, converted: Conversion) -> None:
    captioner = converted.output / "captioning"
    command = ["push", captioner, "me/their-captioner", "--no-sample"]
    assert publisher.lamp_hf(*command) == 0, publisher.printed
    assert not any(str(converted.output.parent).encode() in each for each in hub["me/their-captioner"].files.values())
    caption = reader(CAPTION.format("me/their-captioner"))
    shutil.copy(reader.folder / "walk.bvh", publisher.folder)
    assert caption == publisher(CAPTION.format(str(captioner)))


def test_new_weights_remove_the_facts_about_earlier_ones(hub, publisher, tiny_checkpoint: Path, published) -> None:
    assert publisher.lamp_hf("push", tiny_checkpoint, published, "--no-sample") == 0, publisher.printed
    assert "conversion.json" not in hub[published].files
    assert "t2m.tar" not in hub[published].files["README.md"].decode()
