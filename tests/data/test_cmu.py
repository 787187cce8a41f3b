"""The CMU database: true speed, four conventions, splits, copies, faults, segments, and measures of takes."""

import io
import json
import logging
import shutil
import tarfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset, DatasetDict

from lamp_hf.data.cmu.claims import doubts
from lamp_hf.data.cmu.facts import facts_beside, packaged_facts, subject_categories
from lamp_hf.data.cmu.faults import bridge_faults, find_faults
from lamp_hf.data.cmu.frame_rate import speed_evidence
from lamp_hf.data.cmu.loader import load_cmu_mocap
from lamp_hf.data.cmu.measures import Measures
from lamp_hf.data.cmu.segments import MAX_SECONDS, packaged_segments, read_segments
from lamp_hf.data.cmu.takes import (
    UnusableTakeError,
    clean_joints,
    read_take,
    resample_smoothly,
    starts_with_t_pose,
    take_of,
)
from lamp_hf.data.doctor import check_data
from lamp_hf.data.loading import dataset_name, load_motion_dataset
from lamp_hf.data.schema import with_numpy_motion
from lamp_hf.motion import rotations
from lamp_hf.motion.errors import MotionFormatError
from lamp_hf.motion.features import features_to_joints, mirror_joints, normalize_joints
from lamp_hf.motion.kinematics import inverse_kinematics
from lamp_hf.motion.motion import Motion
from lamp_hf.motion.skeleton import HUMANML3D_22

JOINTS = HUMANML3D_22.joint_names
TRAIN, VALIDATION, AT_60, COPY, ORIGINAL, UNLISTED = "01_01", "05_01", "87_03", "14_31", "14_36", "05_19"


def world_rotations(motion: Motion) -> tuple[np.ndarray, np.ndarray]:
    """Return the world rotation (T, 22, 4) of each joint, and the resulting joints (T, 22, 3)."""
    local, root, offsets = inverse_kinematics(motion.joints)
    world, places = local.copy(), np.repeat(root[:, None], 22, axis=1)
    for joint, parent in enumerate(HUMANML3D_22.parents):
        if parent >= 0:
            world[:, joint] = rotations.multiply(world[:, parent], local[:, joint])
            places[:, joint] = places[:, parent] + rotations.rotate(world[:, parent], offsets[joint])
    return world, places


# Joints of each convention from root to tips: name, parent's name, and the corresponding joint of the 22 and
# its position. In all of them the root lies between the hips; the names of the first joints of the legs differ.
def convention(
    trunk: list[tuple[str, str]], leg: list[tuple[str, str]], arm: list[tuple[str, str]], sides: str
) -> list:
    table = [(trunk[0][0], None, "root")]
    for (name, source), (parent, _) in zip(trunk[1:], trunk, strict=False):
        table.append((name, parent, source))
    chest = next(name for name, source in trunk if source == "spine3")
    for side, word in zip(("left", "right"), sides.split(), strict=True):
        for limb, top in ((leg, trunk[0][0]), (arm, chest)):
            parent = top
            for name, source in limb:
                name = name.format(word)
                table.append((name, parent, source if source == "root" else f"{side}_{source}"))
                parent = name
    return table


LONG = "Left Right"
HIK_TRUNK = [("Hips", "root"), ("LowerBack", "root"), ("Spine", "spine1"), ("Spine1", "spine3")]
HIK_TRUNK += [("Neck", "neck"), ("Neck1", "neck"), ("Head", "head")]
HIK_LEG = [("{}UpLeg", "hip"), ("{}Leg", "knee"), ("{}Foot", "ankle"), ("{}ToeBase", "foot")]
HIK_ARM = [("{}Shoulder", "collar"), ("{}Arm", "shoulder"), ("{}ForeArm", "elbow"), ("{}Hand", "wrist")]
CONVENTIONS: dict[str, tuple[list, float, str]] = {
    "plain": (convention(HIK_TRUNK, HIK_LEG, HIK_ARM, LONG), 0.45 / 0.0254, "as it stands"),
    "MotionBuilder": (
        convention(HIK_TRUNK, [("{}HipJoint", "root"), *HIK_LEG], HIK_ARM, LONG),
        *(0.45 / 0.0254, "as it stands"),
    ),
    "3ds Max": (
        convention(
            [("Hips", "root"), ("Chest", "spine1"), ("Chest2", "spine3"), ("Neck", "neck"), ("Head", "head")],
            [("{}Hip", "hip"), ("{}Knee", "knee"), ("{}Ankle", "ankle"), ("{}Toe", "foot")],
            [("{}Collar", "collar"), ("{}Shoulder", "shoulder"), ("{}Elbow", "elbow"), ("{}Wrist", "wrist")],
            LONG,
        ),
        *(0.45 / 0.0254, "turned"),
    ),
    "Daz": (
        convention(
            [("hip", "root"), ("abdomen", "spine1"), ("chest", "spine3"), ("neck", "neck"), ("head", "head")],
            [("{}Buttock", "root"), ("{}Thigh", "hip"), ("{}Shin", "knee"), ("{}Foot", "ankle"), ("{}Toe", "foot")],
            [("{}Collar", "collar"), ("{}Shldr", "shoulder"), ("{}ForeArm", "elbow"), ("{}Hand", "wrist")],
            "l r",
        ),
        *(100.0, "turned"),
    ),
}
ORDER = {"as it stands": ("zyx", "Zrotation Yrotation Xrotation"), "turned": ("zxy", "Zrotation Xrotation Yrotation")}


def take_text(motion: Motion, name: str = "Daz", *, claimed_fps: float = 120.0, t_pose: bool = True) -> str:
    """Return a take in a public convention, with its names, unit, rest pose, axis order and a leading T-pose."""
    table, units, rest = CONVENTIONS[name]
    joints = motion.joints
    if t_pose:
        first = motion.joints[0].astype(float)
        for side, sign in (("left", 1.0), ("right", -1.0)):
            arm = [JOINTS.index(f"{side}_{part}") for part in ("shoulder", "elbow", "wrist")]
            lengths = np.linalg.norm(np.diff(first[arm], axis=0), axis=-1)
            for before, after, length in zip(arm, arm[1:], lengths, strict=False):
                first[after] = first[before] + [sign * length, 0.0, 0.0]
        first[:, ::2] -= first[0, ::2] + [3.0, 0.0]
        joints = np.concatenate([first[None], joints])
    world, places = world_rotations(Motion(joints=joints))
    hips = (places[:, JOINTS.index("left_hip")] + places[:, JOINTS.index("right_hip")]) / 2
    rng = np.random.default_rng(len(name))
    turned, position, parent_of, frame = {}, {}, {}, {}
    for joint, parent, source in table:
        index = 0 if source == "root" else JOINTS.index(source)
        # Some conventions rotate the axes of every joint at rest; the result must not depend on it.
        turn = np.array([1.0, 0, 0, 0]) if rest == "as it stands" else rotations.normalize(rng.normal(size=4))
        frame[joint] = turn
        turned[joint] = rotations.multiply(world[:, index], np.broadcast_to(turn, world[:, index].shape))
        position[joint] = hips if source == "root" else places[:, index]
        parent_of[joint] = parent
    children: dict[str | None, list[str]] = {}
    for joint, parent, _ in table:
        children.setdefault(parent, []).append(joint)
    order: list[str] = []
    axes, words = ORDER[rest]
    lines = ["HIERARCHY"]

    def write(joint: str) -> None:
        order.append(joint)
        parent = parent_of[joint]
        offset = np.zeros(3)
        if parent is not None:
            way = position[joint] - position[parent]
            offset = rotations.rotate(rotations.conjugate(turned[parent]), way).mean(axis=0) * units
        lines.append(
            f"{'ROOT' if parent is None else 'JOINT'} {joint}\n{{\nOFFSET " + " ".join(f"{v:.6f}" for v in offset)
        )
        lines.append(f"CHANNELS {'6 Xposition Yposition Zposition' if parent is None else '3'} {words}")
        for child in children.get(joint, []):
            write(child)
        if joint not in children:
            lines.append("End Site\n{\nOFFSET 0.0 1.0 0.0\n}")
        lines.append("}")

    write(table[0][0])
    columns = [position[order[0]] * units]
    for joint in order:
        parent = parent_of[joint]
        above = None if parent is None else rotations.conjugate(turned[parent])
        local = turned[joint] if above is None else rotations.multiply(above, turned[joint])
        columns.append(np.degrees(rotations.to_euler(local, axes)))
    rows = np.concatenate(columns, axis=1)
    lines += ["MOTION", f"Frames: {len(rows)}", f"Frame Time: {1 / claimed_fps:.7f}"]
    return "\n".join([*lines, *(" ".join(f"{value:.5f}" for value in row) for row in rows)]) + "\n"


@pytest.fixture(scope="module")
def walk(procedural: Any) -> Callable[..., Motion]:
    """Return a walk of some seconds at 120 frames per second."""

    def make(seconds: float = 3.0, **options: Any) -> Motion:
        return procedural.walker(round(seconds * 120), fps=120.0, **options)

    return make


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory, walk: Callable[..., Motion]) -> Path:
    """Create a folder like a clone of the database, with takes of each kind."""
    root = tmp_path_factory.mktemp("cmu") / "clone"
    for number, take in enumerate((TRAIN, VALIDATION, AT_60, ORIGINAL, COPY, UNLISTED)):
        folder = root / take.split("_")[0]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{take}.bvh").write_text(take_text(walk(2.5 + number / 4, turn=0.1 * number)))
    return root


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., DatasetDict]:
    def call(path: Path, **options: Any) -> DatasetDict:
        settings = {"cache_dir": tmp_path / "cache", "progress": False, "num_proc": 1, **options}
        return load_cmu_mocap(path, **settings)

    return call


def by_id(dataset: Dataset) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in with_numpy_motion(dataset)}


def write_captions(path: Path, *lines: dict[str, Any]) -> Path:
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return path


# ---- reading -----------------------------------------------------------------------------------------------


def test_four_conventions_give_the_same_joints_within_a_centimeter(tmp_path, walk):
    motion = walk(2.0, turn=0.6)
    read = {}
    for name in CONVENTIONS:
        path = tmp_path / f"{len(read):02d}_01.bvh"
        path.write_text(take_text(motion, name))
        read[name], fps = read_take(path, 120)
        assert fps == 24.0
        assert len(read[name]) == 48
    for name, joints in read.items():
        apart = np.linalg.norm(joints - read["plain"], axis=-1)
        assert apart.max() < 0.01, f"{name}: {JOINTS[int(apart.max(axis=0).argmax())]} {apart.max():.3f} m"
    limbs = [JOINTS.index(name) for name in JOINTS if name.endswith(("hip", "knee", "ankle", "elbow", "wrist"))]
    np.testing.assert_allclose(read["Daz"][:, limbs], motion.joints[::5][:, limbs], atol=2e-3)


@pytest.mark.parametrize(("capture_fps", "seconds"), [(120, 3.0), (60, 6.0)])
def test_takes_have_the_speed_of_the_capture(tmp_path, walk, capture_fps, seconds):
    path = tmp_path / "01_01.bvh"
    path.write_text(take_text(walk(3.0)))
    joints, sound = clean_joints(path, capture_fps)
    assert len(joints) / 20 == pytest.approx(seconds, abs=0.1)
    assert sound.all()
    # A file with another frame rate is correct.
    path.write_text(take_text(walk(3.0).resample(24.0), claimed_fps=24.0))
    assert len(clean_joints(path, capture_fps)[0]) / 20 == pytest.approx(3.0, abs=0.1)


def test_only_the_t_pose_is_dropped(tmp_path, walk):
    path = tmp_path / "01_01.bvh"
    motion = walk(2.0)
    for t_pose in (True, False):
        path.write_text(take_text(motion, t_pose=t_pose))
        joints, _ = read_take(path, 120)
        wrist = JOINTS.index("left_wrist")
        np.testing.assert_allclose(joints[0, wrist], motion.joints[0, wrist], atol=2e-3)


def test_lying_person_stays_lying(tmp_path, walk):
    lying = walk(2.0).joints[..., [1, 0, 2]] * [-1.0, 1.0, 1.0]
    lying[..., 1] += 1.0
    path = tmp_path / "126_06.bvh"
    path.write_text(take_text(Motion(joints=lying, fps=120.0), t_pose=False))
    joints, _ = read_take(path, 120)
    assert np.ptp(joints[..., 1]) < 1.0 < np.ptp(joints[0, :, 0])


def test_fast_start_is_not_a_t_pose(walk):
    slow = walk(2.0).resample(12.0).joints.copy()
    slow[0, JOINTS.index("right_wrist")] += [0.0, 0.0, 0.5]  # 6 m/s
    assert not starts_with_t_pose(slow, 12.0)
    assert starts_with_t_pose(slow, 120.0)


def test_take_names():
    assert [take_of(name) for name in ("01_01.bvh", "1_1.bvh", "x/144_10.BVH")] == ["01_01", "01_01", "144_10"]
    assert take_of("walk_01.bvh") is None


def test_smooth_resampling_keeps_frames_and_amplitudes(walk):
    swing = np.zeros((24, 22, 3))
    swing[:, 20, 1] = np.sin(2 * np.pi * 1.5 * np.arange(24) / 12.0)
    fine = resample_smoothly(swing, 12.0, 60.0)
    np.testing.assert_allclose(fine[::5], swing, atol=1e-6)
    truth = np.sin(2 * np.pi * 1.5 * np.arange(len(fine)) / 60.0)
    straight = np.interp(np.arange(len(fine)) / 60.0, np.arange(24) / 12.0, swing[:, 20, 1])
    inner = slice(10, -10)
    assert np.abs(fine[inner, 20, 1] - truth[inner]).max() < 0.5 * np.abs(straight[inner] - truth[inner]).max()


# ---- faults ------------------------------------------------------------------------------------------------


def test_only_marker_swaps_and_pops_are_detected_as_faults(walk):
    sound = walk(4.0).resample(24.0).joints
    assert find_faults(sound, 24.0) == []
    broken = sound.copy()
    broken[40:44, JOINTS.index("left_wrist")] += [0.0, 1.5, 0.0]
    swap = [JOINTS.index("left_knee"), JOINTS.index("right_knee")]
    broken[70:73, swap] = broken[70:73, swap[::-1]] + np.array([[0.0, 0.6, 0.0], [0.0, 0.6, 0.0]])
    faults = find_faults(broken, 24.0)
    assert [fault.mendable for fault in faults] == [False, False]
    for fault, (start, stop) in zip(faults, ((40, 44), (70, 73)), strict=True):
        assert start - 2 <= fault.start < start
        assert stop < fault.stop <= stop + 2
    assert faults[0].joint == "left_wrist"
    bridged = bridge_faults(broken, faults)
    assert np.abs(bridged - sound).max() < 0.25
    assert find_faults(bridged, 24.0) == []


def test_briefly_swapped_toes_are_repaired(walk):
    sound = walk(4.0).resample(24.0).joints
    broken = sound.copy()
    toe, ankle = JOINTS.index("right_foot"), JOINTS.index("right_ankle")
    broken[50:53, toe] = 2 * broken[50:53, ankle] - broken[50:53, toe]
    (fault,) = find_faults(broken, 24.0)
    assert fault.mendable
    mended = bridge_faults(broken, [fault])
    assert np.linalg.norm(mended - sound, axis=-1).max() < 0.05
    others = [joint for joint in range(22) if joint != toe]
    np.testing.assert_array_equal(mended[:, others], broken[:, others])


def test_t_pose_at_the_origin_before_the_motion_is_a_fault(walk):
    sound = walk(4.0).resample(24.0).joints
    held = np.concatenate([np.repeat(sound[:1] + np.float32([5.0, 0.0, 0.0]), 10, axis=0), sound])
    (fault,) = find_faults(held, 24.0)
    assert (fault.kind, fault.start) == ("T-pose", 0)
    assert 10 <= fault.stop <= 12


@pytest.mark.usefixtures("uncaptioned")
def test_rows_contain_no_faulty_spans(tmp_path, walk, load):
    motion = walk(6.0)
    joints = motion.joints.copy()
    joints[360:380, JOINTS.index("left_wrist")] += [0.0, 2.0, 0.0]
    folder = tmp_path / "set" / "01"
    folder.mkdir(parents=True)
    (folder / "01_01.bvh").write_text(take_text(Motion(joints=joints, fps=120.0)))
    rows = by_id(load(tmp_path / "set", mirror=False)["train"])
    assert len(rows) == 2  # the spans before and after
    wrist = JOINTS.index("left_wrist")
    for row in rows.values():
        assert np.isfinite(row["motion"]).all()
        places = features_to_joints(row["motion"])
        assert np.linalg.norm(np.diff(places[:, wrist], axis=0), axis=-1).max() * 20 < 5.0
    assert 5.3 < sum(row["num_frames"] for row in rows.values()) / 20 < 5.9


# ---- the loader ---------------------------------------------------------------------------------------------


@pytest.fixture
def uncaptioned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes of these tests have the names of real ones but other motions, so the packaged captions do not fit."""
    for module in ("loader", "doctor"):
        monkeypatch.setattr(f"lamp_hf.data.cmu.{module}.packaged_segments", lambda name="captions": ())


@pytest.mark.usefixtures("uncaptioned")
def test_clone_becomes_one_data_set(clone, load, caplog):
    with caplog.at_level(logging.INFO, logger="lamp_hf.data.cmu"):
        loaded = load(clone)
    train, validation = by_id(loaded["train"]), by_id(loaded["validation"])
    takes = {row.split("@")[0] for row in train}
    assert takes == {TRAIN, AT_60, ORIGINAL}
    assert {row.split("@")[0] for row in validation} == {VALIDATION}
    assert len(train) == 6  # with mirror images
    assert not any(row["mirrored"] for row in validation.values())
    slow = next(row for name, row in train.items() if name.startswith(AT_60))
    assert slow["num_frames"] / 20 == pytest.approx(2 * 3.0, abs=0.2)
    assert next(row for row in validation.values())["captions"] == [{"text": "walk", "start": 0.0, "end": 0.0}]
    assert f"copies of other takes: {COPY}" in caplog.text
    assert f"they belong to no split: {UNLISTED}" in caplog.text


@pytest.mark.usefixtures("uncaptioned")
def test_rows_keep_heading_and_speed_of_the_file(clone, load):
    row = next(iter(by_id(load(clone, mirror=False)["validation"]).values()))
    measures = Measures(features_to_joints(row["motion"]))
    assert measures.travel[10:-10, 0].mean() == pytest.approx(1.1, abs=0.15)
    assert measures.turned == pytest.approx(np.degrees(0.1 * row["num_frames"] / 20), abs=3)


@pytest.mark.usefixtures("uncaptioned")
def test_archive_gives_the_same_rows_and_is_read_once(clone, load, tmp_path, monkeypatch):
    archive = tmp_path / "cmu.tar.xz"
    with tarfile.open(archive, "w:xz", preset=0) as tar:
        tar.add(clone, "bvh")
    from_archive, from_folder = load(archive), load(clone, cache_dir=tmp_path / "other")
    for split in from_folder:
        first, second = by_id(from_archive[split]), by_id(from_folder[split])
        assert first.keys() == second.keys()
        for name, row in first.items():
            np.testing.assert_array_equal(row["motion"], second[name]["motion"])
    [memory] = tmp_path.glob("**/archives/*-cmu.json")
    memory.write_text('{"01_01": [')  # damaged, so the archive is read again
    assert len(load(archive)["train"]) == len(from_archive["train"])
    monkeypatch.setattr("lamp_hf.data.cmu.loader.archive_clips", lambda *_: pytest.fail("the archive was read again"))
    assert len(load(archive)["train"]) == len(from_archive["train"])


def test_captions_divide_takes_into_rows(clone, load, tmp_path, caplog):
    lines = write_captions(
        tmp_path / "captions.jsonl",
        {"take": TRAIN, "start": 0, "end": 1.2, "captions": ["walks and lifts the left hand", "a walk"]},
        {"take": TRAIN, "start": 1.2, "end": 2.4, "captions": ["goes on"]},
        {"take": TRAIN, "start": 2.0, "end": 9.0, "captions": ["beyond the end"]},
        {"take": VALIDATION, "start": 0.5, "end": 2.0, "captions": ["walks"]},
    )
    loaded = load(clone, captions=lines)
    rows = by_id(loaded["train"])
    assert set(rows) == {f"{TRAIN}@{part}s{m}" for part in ("0-1.2", "1.2-2.4") for m in ("", "-mirrored")}
    assert [caption["text"] for caption in rows[f"{TRAIN}@0-1.2s-mirrored"]["captions"]] == [
        "walks and lifts the right hand",
        "a walk",
    ]
    assert [rows[f"{TRAIN}@{part}s"]["num_frames"] for part in ("0-1.2", "1.2-2.4")] == [24, 24]
    assert list(by_id(loaded["validation"])) == [f"{VALIDATION}@0.5-2s"]
    assert f"{TRAIN}@2-9s: skipped, it ends at 9 s, but the take at" in caplog.text
    ours, mirrored = (features_to_joints(rows[f"{TRAIN}@0-1.2s{m}"]["motion"]) for m in ("", "-mirrored"))
    np.testing.assert_allclose(normalize_joints(mirror_joints(ours)), normalize_joints(mirrored), atol=0.03)


def test_table_next_to_the_takes_adds_captions(clone, load, tmp_path):
    own = tmp_path / "own"
    shutil.copytree(clone, own)
    table = "take,split,capture_fps,description\n" + f"{UNLISTED},test,120,a walk of ours\n"
    (own / "takes.csv").write_text(table)
    rows = load(own, mirror=False)["test"]
    assert [row["captions"][0]["text"] for row in rows] == ["a walk of ours"]
    (own / "takes.csv").write_text("take,split,capture_fps\n01_01,best,120\n")
    with pytest.raises(ValueError, match=r"takes.csv line 2: expected split to be one of train, .*found 'best'"):
        load(own)


@pytest.mark.usefixtures("uncaptioned")
def test_selected_and_missing_takes(clone, load):
    assert len(load(clone, names=[TRAIN], mirror=False)["train"]) == 1
    with pytest.raises(ValueError, match="1 of the takes in names are missing, such as 99_99"):
        load(clone, names=["99_99"])


@pytest.mark.usefixtures("uncaptioned")
def test_unreadable_and_too_short_takes(clone, load, tmp_path, walk, caplog):
    own = tmp_path / "own"
    shutil.copytree(clone, own)
    short = take_text(walk(0.5))
    (own / "01" / "01_02.bvh").write_text(short)
    assert len(load(own, mirror=False)["train"]) == 3
    assert "01_02: skipped, too short" in caplog.text
    with pytest.raises(UnusableTakeError, match=r"01_02\.bvh: too short, 12 frames at 24 fps; expected at least 1 s"):
        read_take(own / "01" / "01_02.bvh", 120)
    (own / "01" / "01_03.bvh").write_text("HIERARCHY\nnothing\n")
    with pytest.raises(MotionFormatError, match="1 clip cannot be read"):
        load(own)
    assert len(load(own, mirror=False, skip_bad=True)["train"]) == 3
    with pytest.raises(FileNotFoundError, match="no such archive or folder"):
        load(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(MotionFormatError, match="no takes found; expected BVH files named by take"):
        load(tmp_path / "empty")
    (own / "1").mkdir()
    (own / "1" / "01_01.bvh").write_text(short)
    with pytest.raises(ValueError, match="01_01 has two files"):
        load(own)


@pytest.mark.usefixtures("uncaptioned")
def test_data_set_is_recognized_by_its_files(clone, tmp_path):
    assert dataset_name(clone) == "cmu-mocap"
    rows = load_motion_dataset(clone, cache_dir=tmp_path, names=[TRAIN], num_proc=1, progress=False)
    assert len(rows["train"]) == 2
    archive = tmp_path / "bvh.tar"
    with tarfile.open(archive, "w") as tar:
        for name in ("readme.txt", "bvh/01/01_01.bvh"):
            tar.addfile(tarfile.TarInfo(name), io.BytesIO())
    assert dataset_name(archive) == "cmu-mocap"
    own = tmp_path / "own"
    shutil.copytree(clone, own)
    (own / "metadata.jsonl").write_text('{"file_name": "01/01_01.bvh", "text": "a walk"}\n')
    assert dataset_name(own) is None  # a user's table of captions


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: not valid JSON"),
        ('{"take": "01_01", "start": 0, "end": 2}', "expected an object with take, start, end and captions"),
        ('{"take": "01_01", "start": 2, "end": 2, "captions": ["a"]}', "expected 0 ≤ start < end, found 2 and 2"),
        ('{"take": "01_01", "start": 0, "end": 2, "captions": []}', "expected captions to be a list of sentences"),
        ('{"take": "01_01", "start": 0, "end": "x", "captions": ["a"]}', "expected start and end in seconds"),
    ],
)
def test_error_names_invalid_caption_lines(tmp_path, line, message):
    path = tmp_path / "captions.jsonl"
    path.write_text(f"\n{line}\n")
    with pytest.raises(ValueError, match=message):
        read_segments(path)


def test_packaged_captions_are_consistent():
    captions, rewordings = packaged_segments(), packaged_segments("rewordings")
    facts = packaged_facts()
    times: dict[str, list[tuple[float, float]]] = {}
    for segment in captions:
        known = facts[segment.take]
        assert known.split, segment.id
        assert not known.copy_of, segment.id
        assert segment.end - segment.start <= MAX_SECONDS + 1e-6, segment.id
        assert len(set(segment.captions)) >= 4, segment.id
        assert all(caption.isascii() and caption == caption.strip(" .") for caption in segment.captions), segment.id
        times.setdefault(segment.take, []).append((segment.start, segment.end))
    assert len({segment.id for segment in captions}) == len(captions) > 5000
    for parts in times.values():
        assert all(end <= start for (_, end), (start, _) in pairwise(sorted(parts)))
    assert sum(len(segment.captions) for segment in captions) > 20_000
    # The other wordings describe the same segments.
    first = {segment.id: segment for segment in captions}
    assert len(rewordings) >= 400
    assert all(not set(second.captions) & set(first[second.id].captions) for second in rewordings)
    assert sum(facts[segment.take].split == "validation" for segment in rewordings) > 200


def test_packaged_facts_are_consistent():
    facts = packaged_facts()
    assert len(facts) == 2498
    assert sum(fact.capture_fps == 60 for fact in facts.values()) == 517
    splits = [fact.split for fact in facts.values()]
    assert (splits.count("train"), splits.count("validation")) == (1799, 95)
    for fact in facts.values():
        if fact.copy_of:
            assert facts[fact.copy_of].split
            assert not fact.split
            assert facts[fact.copy_of].capture_fps == fact.capture_fps
        if fact.split:
            assert fact.description or subject_categories()[fact.subject]
    assert facts["87_03"].speed_factor == 2.0


@pytest.mark.usefixtures("uncaptioned")
def test_doctor_reports_problems(clone, tmp_path, walk):
    own = tmp_path / "own"
    shutil.copytree(clone, own)
    joints = walk(3.0).joints.copy()
    joints[100:110, JOINTS.index("left_wrist")] += [0.0, 2.0, 0.0]
    (own / "01" / "01_02.bvh").write_text(take_text(Motion(joints=joints, fps=120.0)))
    (own / "01" / "01_04.bvh").write_text("no motion")
    shutil.copy(own / "01" / "01_01.bvh", own / "01" / "01_05.bvh")
    report = check_data(own, progress=False)
    assert report.layout == "cmu-mocap"
    found = {(finding.kind, finding.file) for finding in report.findings}
    expected = {("broken span", "01_02.bvh"), ("unreadable motion", "01_04.bvh"), ("exact copy", "01_05.bvh")}
    assert expected | {("exact copy", f"{COPY}.bvh"), ("in no split", "takes.csv")} <= found
    assert [finding.file for finding in report.errors] == ["01_04.bvh"]
    assert report.counts["takes"] == "8"


# ---- frame rates and measures -------------------------------------------------------------------------------


def jump(fps: float, height: float = 0.4) -> np.ndarray:
    """Return joints of a body that crouches, jumps and lands, at a frame rate."""
    pose = np.zeros((22, 3))
    for joint, parent in enumerate(HUMANML3D_22.parents):
        if parent >= 0:
            pose[joint] = pose[parent] + HUMANML3D_22.rest_offsets[joint]
    pose[:, 1] -= pose[:, 1].min()
    time = np.arange(round(3 * fps)) / fps - 1.0
    flight = np.sqrt(8 * height / 9.81)
    rise = np.where((time > 0) & (time < flight), 9.81 / 2 * time * (flight - time), 0.0)
    return (pose[None] + rise[:, None, None] * np.array([0.0, 1.0, 0.0])).astype(np.float32)


@pytest.mark.parametrize(("claimed", "factor"), [(24.0, None), (48.0, 2.0), (12.0, 0.5)])
def test_frame_rate_is_estimated_from_free_fall(claimed, factor):
    evidence = speed_evidence(jump(24.0), claimed)
    assert evidence.free_fall == pytest.approx((claimed / 24.0) ** 2, rel=0.1)
    assert evidence.factor == factor


def test_frame_rate_is_estimated_from_steps_without_jumps(procedural):
    walk = procedural.walker(120, speed=1.25, fps=24.0).joints
    evidence = speed_evidence(walk, 24.0)
    assert evidence.free_fall is None
    assert evidence.walk_ratio == pytest.approx(1.25 / 1.8 / (60 * 1.8) / 0.0065, rel=0.15)
    assert evidence.factor is None
    assert speed_evidence(walk, 48.0).walk_ratio == pytest.approx(evidence.walk_ratio / 2)
    assert speed_evidence(walk, 48.0).factor == 2.0


def test_measures_of_a_walk_turn_and_jump(procedural):
    walk = Measures(procedural.walker(100, speed=1.2, turn=0.5).joints)
    assert walk.travel[10:-10].mean(axis=0) == pytest.approx([1.2, 0.0], abs=0.15)
    assert walk.turned == pytest.approx(np.degrees(0.5 * 99 / 20), abs=4)
    assert 3 <= walk.count("step", "left") <= 5
    assert abs(walk.count("step", "left") - walk.count("step", "right")) <= 1
    mirrored = Measures(mirror_joints(procedural.walker(100, speed=1.2, turn=0.5).joints))
    assert mirrored.turned == pytest.approx(-walk.turned, abs=1e-3)
    assert mirrored.count("step", "left") == walk.count("step", "right")
    jumping = Measures(jump(20.0))
    assert [event.kind for event in jumping.events] == ["jump"]
    assert jumping.events[0].size == pytest.approx(0.4, abs=0.05)
    assert set(walk.posture) == {"standing"}


@pytest.mark.parametrize(
    ("motion", "right", "wrong"),
    [
        ("left turn", "a person walks forward and turns left", "a person walks forward and turns to the right"),
        ("left turn", "walks counterclockwise", "someone walks clockwise"),
        ("left turn", "a man walks ahead", "a man runs ahead"),
        ("left turn", "someone strolls", "someone walks backwards"),
        ("left turn", "someone walks without sitting down", "a person sits down"),
        ("wave", "waves with the right hand", "waves with the left hand"),
        ("wave", "raises his right arm", "a man raises his left arm"),
        ("wave", "lifts a hand over the head", "raises both hands"),
        ("wave", "a person stands still", "a person jumps"),
        ("jump", "jumps once", "jumps three times"),
        ("jump", "one jump", "walks ahead"),
    ],
)
def test_captions_that_contradict_the_motion_are_reported(procedural, motion, right, wrong):
    joints = {
        "left turn": lambda: procedural.walker(80, turn=0.6).joints,
        "wave": lambda: procedural.waver(60, side="right").joints,
        "jump": lambda: jump(20.0),
    }[motion]()
    measures = Measures(joints)
    assert doubts([right], measures) == []
    assert doubts([wrong], measures) != []
    mirrored = Measures(mirror_joints(joints))
    if "left" in wrong or "right" in wrong:
        assert doubts([wrong], mirrored) == []


# ---- the real database --------------------------------------------------------------------------------------


def test_takes_from_the_real_archive(shared_dir, load):
    archive = shared_dir / "data" / "cmu" / "cmu_bvh_dev.tar.xz"
    if not archive.is_file():
        pytest.skip(f"needs the CMU archive, absent at {archive}")
    loaded = load(archive, names=["01_01", "05_01", "07_01"], mirror=False)
    rows = {**by_id(loaded["train"]), **by_id(loaded["validation"])}
    walk = next(row for name, row in rows.items() if name.startswith("07_01"))
    measures = Measures(features_to_joints(walk["motion"]))
    assert measures.travel[:, 0].mean() == pytest.approx(1.27, abs=0.1)
    assert doubts(["a person walks forward"], measures) == []
    assert doubts(["a person walks backward", "a person turns left"], measures) != []
    assert all(len(row["captions"]) >= 4 for row in rows.values())
    again = load(archive, names=["05_01"], mirror=False, captions="rewordings")
    assert {name.split("@")[0] for name in by_id(again["validation"])} == {"05_01"}
    assert facts_beside(archive.parent)["01_01"] == packaged_facts()["01_01"]
