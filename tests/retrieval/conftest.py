"""Fixtures of the retrieval tests: a tiny model, folders of motion files, and clips of foreign rigs."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

import lamp_hf
from lamp_hf.motion.motion import Motion
from lamp_hf.motion.rigs import LAMP_HF_JOINT_NAMES
from lamp_hf.motion.skeleton import HUMANML3D_22
from lamp_hf.retrieval import MotionTextEncoder

TRUNK = ("pelvis", "spine1", "spine2", "spine3", "neck", "head")
LIMBS = ("hip", "knee", "ankle", "foot", "collar", "shoulder", "elbow", "wrist")
# How other software names these, and its word for the left and the right side.
RIGS = {
    "lafan1": (
        "Hips Spine Spine1 Spine2 Neck Head {}UpLeg {}Leg {}Foot {}Toe {}Shoulder {}Arm {}ForeArm {}Hand",
        ("Left", "Right"),
    ),
    "3ds max": (
        "Hips Chest Chest2 Chest3 Neck Head {}Hip {}Knee {}Ankle {}Toe {}Collar {}Shoulder {}Elbow {}Wrist",
        ("Left", "Right"),
    ),
    "xsens": (
        "Pelvis L5 L3 T12 Neck Head {}UpperLeg {}LowerLeg {}Foot {}Toe {}Shoulder {}UpperArm {}Forearm {}Hand",
        ("Left", "Right"),
    ),
    "rokoko": (
        "Hips Spine1 Spine2 Spine3 Neck Head {}Thigh {}Shin {}Foot {}Toe {}Shoulder {}Arm {}ForeArm {}Hand",
        ("Left", "Right"),
    ),
    "daz": (
        "hip abdomen abdomen2 chest neck head {}Thigh {}Shin {}Foot {}Toe {}Collar {}Shldr {}ForeArm {}Hand",
        ("l", "r"),
    ),
}


@pytest.fixture(scope="session")
def encoder(tiny_checkpoint: Path) -> MotionTextEncoder:
    """Four queries of eight numbers, random weights."""
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
    """A folder of four motion files in three formats; one has a caption of its own."""
    folder = tmp_path / "mocap"
    (folder / "gestures").mkdir(parents=True)
    procedural.walker(60, text="a person walks").save(folder / "walk.npz")
    procedural.walker(48, turn=0.8).save(folder / "turn.bvh")
    procedural.waver(60).save(folder / "gestures" / "wave.bvh")
    procedural.waver(40, side="left").save(folder / "gestures" / "wave_left.npy")
    return folder


@pytest.fixture(scope="session")
def save_as_rig() -> Callable[[Motion, Path, str], None]:
    """Writes a motion as a BVH file with the joint names of another rig."""

    def save(motion: Motion, path: Path, rig: str) -> None:
        pattern, (left, right) = RIGS[rig]
        of_part = dict(zip(TRUNK + LIMBS, pattern.split(), strict=True))
        names = {}
        for ours, joint in zip(LAMP_HF_JOINT_NAMES, HUMANML3D_22.joint_names, strict=True):
            side, _, part = joint.rpartition("_")
            names[ours] = of_part[part].format(left if side == "left" else right)
        motion.save(path)
        text = re.sub(r"(?m)^(\s*(?:ROOT|JOINT) )(\w+)", lambda found: found[1] + names[found[2]], path.read_text())
        path.write_text(text)

    return save
