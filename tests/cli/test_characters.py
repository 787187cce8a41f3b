"""`--character` and `--rig`: motions on a user's figure."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from lamp_hf.cli.app import app
from lamp_hf.cli.options import RigOption
from lamp_hf.motion.motion import Motion
from lamp_hf.motion.retarget import Character
from lamp_hf.motion.retarget.presets import PRESETS
from lamp_hf.terminal import logs_on_stderr


def call(*arguments: object):
    with logs_on_stderr():  # restores the levels of the loggers, which commands change
        return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def folder(tmp_path: Path, walker: Motion, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a motion and a character."""
    monkeypatch.chdir(tmp_path)
    walker.save("walk.bvh")
    walker.on("unreal").save("hero.glb")  # a figure that already has an animation
    return tmp_path


def test_convert_motion_onto_a_character(folder: Path, walker: Motion) -> None:
    result = call("convert-motion", "walk.bvh", "out.glb", "--character", "hero.glb")
    assert result.exit_code == 0, result.output
    assert f"out.glb: {walker.num_frames} frames" in result.output
    assert "on hero.glb" in result.output
    read = Motion.load("out.glb", animation=1)
    assert read.num_frames == walker.num_frames
    elbow, wrist = 18, 20
    ways = [rotated[:, wrist] - rotated[:, elbow] for rotated in (walker.joints, read.joints)]
    cosine = np.sum(ways[0] * ways[1], axis=-1) / np.linalg.norm(ways[0], axis=-1) / np.linalg.norm(ways[1], axis=-1)
    assert cosine.min() > np.cos(np.radians(3.0))


def test_loop_on_a_character_is_not_planted_again(folder: Path, walker: Motion) -> None:
    result = call("convert-motion", "walk.bvh", "loop.bvh", "--loop", "--plant-feet", "--rig", "unreal")
    assert result.exit_code == 0, result.output
    read = Motion.load("walk.bvh").adjust(loop=True, plant_feet=True)
    read.on("unreal").save("expected.bvh")
    assert Path("loop.bvh").read_bytes() == Path("expected.bvh").read_bytes()
    read.on("unreal", plant_feet=True).save("planted.bvh")
    assert Path("loop.bvh").read_bytes() != Path("planted.bvh").read_bytes()


def test_a_folder_onto_a_rig(folder: Path) -> None:
    (folder / "takes").mkdir()
    (folder / "walk.bvh").rename(folder / "takes" / "walk.bvh")
    result = call("convert-motion", "takes", "out", "--to", "vrma", "--rig", "vrm")
    assert result.exit_code == 0, result.output
    assert Motion.load(folder / "out" / "walk.vrma").num_frames > 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--character", "hero.glb", "--rig", "smpl"], "exclude each other"),
        (["--rig", "blender"], "--rig expects one of mixamo, unreal, unity, vrm, rigify, smpl, got blender"),
        (["--character-mapping", "m.json"], "--character-mapping only applies to --character"),
    ],
)
@pytest.mark.parametrize(
    "command", [("generate", "a person waves", "-o", "out.glb"), ("convert-motion", "walk.bvh", "out.glb")]
)
def test_options_are_checked_first(folder: Path, arguments: list[str], message: str, command: tuple[str, ...]) -> None:
    result = call(*command, *arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.output.replace("│", " ").split())


@pytest.mark.parametrize(
    ("output", "message"),
    [("hero.glb", "would overwrite the character"), ("out.mp4", "is saved as .glb"), ("out.vrma", "no human bones")],
)
def test_outputs_are_checked_before_a_model_is_loaded(folder: Path, output: str, message: str) -> None:
    result = call("generate", "a person waves", "--character", "hero.glb", "-o", output, "--model", "does-not-exist")
    assert message in str(result.exception)
    assert Character.load("hero.glb").name == "hero.glb"  # unchanged


def test_a_mapping_for_the_character(folder: Path) -> None:
    character = Character.of_rig("unreal")
    text = (folder / "hero.glb").read_bytes()
    for number, name in enumerate(character.joint_names):
        text = text.replace(f'"{name}"'.encode(), f'"{chr(97 + number)}{"x" * (len(name) - 1)}"'.encode())
    (folder / "odd.glb").write_bytes(text)
    names = dict(
        zip(
            character.joint_names,
            (chr(97 + n) + "x" * (len(m) - 1) for n, m in enumerate(character.joint_names)),
            strict=True,
        )
    )
    (folder / "m.json").write_text(json.dumps({"left_hip": names["thigh_l"], "left_knee": names["calf_l"]}))
    result = call("convert-motion", "walk.bvh", "out.glb", "--character", "odd.glb", "--character-mapping", "m.json")
    assert result.exit_code == 0, result.output


def test_the_option_lists_all_rigs() -> None:
    assert all(rig in RigOption.__metadata__[0].help for rig in PRESETS)
