"""Mapping of foreign rigs to the 22 joints, detection of unit and up axis."""

import numpy as np
import pytest

from lamp_hf.motion.bvh import read_bvh_with_report
from lamp_hf.motion.detection import METRES_PER_UNIT
from lamp_hf.motion.errors import MotionFormatError
from lamp_hf.motion.rigs import (
    LAMP_HF_JOINT_NAMES,
    Hierarchy,
    resolve_mapping,
)
from lamp_hf.motion.skeleton import HUMANML3D_22

JOINTS = HUMANML3D_22.joint_names
SPINE = ("spine1", "spine2", "spine3")
FRACTIONS = np.cumsum([0.131568, 0.143190, 0.057365]) / (0.131568 + 0.143190 + 0.057365 + 0.219360)


def sided(pattern: str, left: str, right: str) -> dict[str, str]:
    """Names of the 19 joints besides the spine from "Hips Neck Head Hip Knee ..." with {} for the side."""
    keys = ("pelvis", "neck", "head", "hip", "knee", "ankle", "foot", "collar", "shoulder", "elbow", "wrist")
    names = {}
    for key, name in zip(keys, pattern.split(), strict=True):
        if "{}" in name:
            names[f"left_{key}"], names[f"right_{key}"] = name.format(left), name.format(right)
        else:
            names[key] = name
    return names


HUMAN_IK = "Hips Neck Head {}UpLeg {}Leg {}Foot {}ToeBase {}Shoulder {}Arm {}ForeArm {}Hand"
RIGS = {
    "mixamo": (HUMAN_IK, "Left", "Right", ("Spine", "Spine1", "Spine2"), "mixamorig:"),
    "mixamo, second character": (HUMAN_IK, "Left", "Right", ("Spine", "Spine1", "Spine2"), "mixamorig12:"),
    "human ik": (HUMAN_IK, "Left", "Right", ("Spine", "Spine1", "Spine2", "Spine3"), "Character1_"),
    "lafan1": (HUMAN_IK.replace("ToeBase", "Toe"), "Left", "Right", ("Spine", "Spine1", "Spine2"), ""),
    "cmu": (HUMAN_IK, "Left", "Right", ("LowerBack", "Spine", "Spine1"), ""),
    "3ds max": (
        "Hips Neck Head {}Hip {}Knee {}Ankle {}Toe {}Collar {}Shoulder {}Elbow {}Wrist",
        *("Left", "Right", ("Chest", "Chest2"), ""),
    ),
    "xsens": (
        "Hips Neck Head {}Hip {}Knee {}Ankle {}Toe {}Collar {}Shoulder {}Elbow {}Wrist",
        *("Left", "Right", ("Chest", "Chest2", "Chest3", "Chest4"), ""),
    ),
    "xsens mvn": (
        "Pelvis Neck Head {}UpperLeg {}LowerLeg {}Foot {}Toe {}Shoulder {}UpperArm {}Forearm {}Hand",
        *("Left", "Right", ("L5", "L3", "T12", "T8"), ""),
    ),
    "rokoko": (
        "Hips Neck Head {}Thigh {}Shin {}Foot {}Toe {}Shoulder {}Arm {}ForeArm {}Hand",
        *("Left", "Right", ("Spine1", "Spine2", "Spine3", "Spine4"), ""),
    ),
    "daz": (
        "hip neck head {}Thigh {}Shin {}Foot {}Toe {}Collar {}Shldr {}ForeArm {}Hand",
        *("l", "r", ("abdomen", "chest"), ""),
    ),
}


@pytest.fixture
def read(tmp_path, make_bvh):
    """Write joints as BVH, read them back as the product does."""

    def run(joints, rows=None, *, frame_time="0.0333333", **options):
        width = sum(len(joint.channels) for joint in joints)
        rest = [*joints[0].offset, *([0.0] * (width - 3))]
        path = tmp_path / "clip.bvh"
        path.write_text(make_bvh(joints, rows or [rest, rest], frame_time=frame_time))
        return read_bvh_with_report(path, **options)

    return run


def expected_joints(positions: dict[str, np.ndarray]) -> np.ndarray:
    """The 22 joints, metres, of the T-pose body: exact limbs, raised pelvis, spine at HumanML3D's heights."""
    pelvis = np.array([0.0, 90.0 + 1.266 * 9.0, 0.0])
    joints = {**positions, "pelvis": pelvis}
    for name, fraction in zip(SPINE, FRACTIONS, strict=True):
        joints[name] = pelvis + fraction * (positions["neck"] - pelvis)
    return np.array([joints[name] for name in JOINTS]) / 100


@pytest.mark.parametrize("rig", RIGS)
def test_common_rigs_map_to_the_same_body(rig, read, make_rig, tpose):
    pattern, left, right, spine, prefix = RIGS[rig]
    names = {key: prefix + name for key, name in sided(pattern, left, right).items()}
    motion, report = read(make_rig(names, [prefix + name for name in spine]))
    expected = expected_joints(tpose(len(spine)))
    np.testing.assert_allclose(motion.joints, np.broadcast_to(expected, (2, 22, 3)), atol=1e-5)
    assert (report.fps, report.unit, report.up_axis) == (30.0, "cm", "y")
    assert motion.fps == 30.0


@pytest.mark.parametrize("side_names", [("left", "right"), ("L", "R")])
def test_smpl_names_map_one_to_one(side_names, read, make_rig, tpose):
    pattern = "Pelvis Neck Head {}_Hip {}_Knee {}_Ankle {}_Foot {}_Collar {}_Shoulder {}_Elbow {}_Wrist"
    motion, _ = read(make_rig(sided(pattern, *side_names), ("Spine1", "Spine2", "Spine3")))
    positions = tpose(3)
    positions |= {name: positions[f"spine {k}"] for k, name in enumerate(SPINE)}
    np.testing.assert_allclose(motion.joints[0], np.array([positions[name] for name in JOINTS]) / 100, atol=1e-5)


def test_bandai_namco_has_its_own_pelvis_and_spine(read, make_rig, tpose):
    names = sided(
        "Hips Neck Head UpperLeg_{} LowerLeg_{} Foot_{} Toes_{} Shoulder_{} UpperArm_{} LowerArm_{} Hand_{}",
        *("L", "R"),
    )
    motion, report = read(make_rig(names, ("Spine", "Chest")))
    body = tpose(2)
    up = np.array([0.0, 1.0, 0.0])
    pelvis = body["pelvis"] + 6.0 * up
    spine, chest = body["spine 0"], body["spine 1"]
    for name, expected in {
        "pelvis": pelvis,
        "spine1": (pelvis + spine) / 2,
        "spine2": spine + 0.525 * (chest - spine),
        "spine3": chest,
        "left_collar": body["left_collar"],
        "right_wrist": body["right_wrist"],
    }.items():
        np.testing.assert_allclose(motion.joints[0, JOINTS.index(name)], expected / 100, atol=1e-6, err_msg=name)
    assert report.rig == "Bandai-Namco"


def test_toes_may_be_end_sites(read, make_rig, tpose):
    names = sided(
        "Hips Neck Head {}Hip {}Knee {}Ankle - {}Collar {}Shoulder {}Elbow {}Wrist".replace("-", "{}Gone"),
        *("Left", "Right"),
    )
    motion, _ = read(make_rig(names, ("Chest", "Chest2"), toes_are_end_sites=True))
    toe = motion.joints[0, JOINTS.index("right_foot")]
    np.testing.assert_allclose(toe, tpose(2)["right_foot"] / 100, atol=1e-6)


def test_collars_on_the_axis_are_moved_outwards(read, make_rig):
    joints = make_rig(sided(HUMAN_IK, "Left", "Right"), ("LowerBack", "Spine", "Spine1"))
    by_name = {joint.name: joint for joint in joints}
    for side in ("Left", "Right"):
        shift = np.array([by_name[f"{side}Shoulder"].offset[0], 0.0, 0.0])
        by_name[f"{side}Shoulder"].offset = by_name[f"{side}Shoulder"].offset - shift
        by_name[f"{side}Arm"].offset = by_name[f"{side}Arm"].offset + shift
    motion, _ = read(joints)
    x = dict(zip(JOINTS, motion.joints[0, :, 0], strict=True))
    assert x["left_collar"] == pytest.approx(0.45 * x["left_shoulder"])
    assert x["right_collar"] == pytest.approx(0.45 * x["right_shoulder"])


def test_mapping_follows_the_body_in_motion(read, make_rig, make_bvh, slow_bvh):
    """Limbs are where an independent reader finds them, at every frame of a random movement."""
    joints = make_rig(sided(HUMAN_IK, "Left", "Right"), ("Spine", "Spine1", "Spine2", "Spine3"))
    random = np.random.default_rng(0)
    rows = random.uniform(-40, 40, (5, sum(len(joint.channels) for joint in joints)))
    rows[:, 1] += 95
    motion, _ = read(joints, rows.tolist())
    names, positions = slow_bvh(make_bvh(joints, rows.tolist()))
    for target, name in sided(HUMAN_IK, "Left", "Right").items():
        if target != "pelvis":
            found = motion.joints[:, JOINTS.index(target)]
            np.testing.assert_allclose(found, positions[:, names.index(name)] / 100, atol=1e-5, err_msg=target)
    hips, spine = positions[:, names.index("Hips")], positions[:, names.index("Spine")]
    lifted = motion.joints[:, 0] * 100 - hips
    np.testing.assert_allclose(np.linalg.norm(lifted, axis=-1), 1.266 * 9.0 - 2.0, atol=1e-3)
    np.testing.assert_allclose(np.cross(lifted, spine - hips), 0.0, atol=1e-2)


@pytest.mark.parametrize("unit", METRES_PER_UNIT)
def test_unit_is_detected_and_can_be_told(unit, read, make_rig):
    joints = make_rig(sided(HUMAN_IK, "Left", "Right"), ("Spine", "Spine1"))
    reference = read(joints)[0].joints
    for joint in joints:
        joint.offset = np.asarray(joint.offset) * 0.01 / METRES_PER_UNIT[unit]
    motion, report = read(joints)
    assert report.unit == unit
    np.testing.assert_allclose(motion.joints, reference, atol=1e-5)
    told, _ = read(joints, unit="m")
    np.testing.assert_allclose(told.joints * METRES_PER_UNIT[unit], motion.joints, rtol=1e-4, atol=1e-4)


def test_z_up_is_turned_upright(read, make_rig, caplog):
    joints = make_rig(sided(HUMAN_IK, "Left", "Right"), ("Spine", "Spine1"))
    upright = read(joints)[0].joints
    for joint in joints:
        x, y, z = joint.offset
        joint.offset = (x, -z, y)
    with caplog.at_level("INFO"):
        motion, report = read(joints)
    assert report.up_axis == "z"
    assert "z up" in caplog.text
    assert "unit cm" in caplog.text
    np.testing.assert_allclose(motion.joints, upright, atol=1e-6)
    as_it_is, _ = read(joints, up_axis="y")
    np.testing.assert_allclose(as_it_is.joints[..., 1], -upright[..., 2], atol=1e-6)


def test_a_lying_body_is_doubtful(read, make_rig, caplog):
    joints = make_rig(sided(HUMAN_IK, "Left", "Right"), ("Spine", "Spine1"))
    for joint in joints:
        x, y, z = joint.offset
        joint.offset = (y, -x, z)
    _, report = read(joints)
    assert report.up_axis == "y"
    assert report.up_axis_share < 0.7
    assert "does not stand" in caplog.text


def test_an_unknown_rig_says_what_is_missing_and_how_to_go_on(read, make_rig, tpose):
    names = {name: f"bone{k}" for k, name in enumerate(JOINTS)}
    joints = make_rig({**names, "left_wrist": "LeftHand"}, ("back1", "back2"))
    with pytest.raises(MotionFormatError) as error:
        read(joints)
    text = str(error.value)
    assert text.startswith("clip.bvh: no joint found for pelvis, left_hip")
    assert "bone15" in text
    assert "back2" in text
    assert "mapping={'pelvis': 'bone0', ...}" in text
    given = {key: name for key, name in names.items() if key not in SPINE}
    motion, report = read(joints, mapping={**given, "left_wrist": "LeftHand"})
    assert report.rig == "mapping"
    np.testing.assert_allclose(motion.joints[0], expected_joints(tpose(2)), atol=1e-5)


def test_a_rig_with_one_joint_renamed_needs_only_that_joint(read, make_rig, tpose):
    names = sided(HUMAN_IK, "Left", "Right") | {"right_knee": "Shank_of_the_right"}
    joints = make_rig(names, ("Spine", "Spine1"))
    with pytest.raises(MotionFormatError, match=r"no joint found for right_knee \(closest rig: Mixamo"):
        read(joints)
    motion, report = read(joints, mapping={"right_knee": "Shank_of_the_right"})
    assert "Mixamo" in report.rig
    np.testing.assert_allclose(motion.joints[0], expected_joints(tpose(2)), atol=1e-5)


def test_weights_in_a_mapping_are_taken_as_given(read, make_rig, tpose):
    joints = make_rig(sided(HUMAN_IK, "Left", "Right"), ("Spine", "Spine1"))
    motion, _ = read(joints, mapping={"pelvis": {"Hips": 1.0}, "spine1": {"pelvis": 0.25, "Spine": 0.75}})
    body = tpose(2)
    np.testing.assert_allclose(motion.joints[0, 0], body["pelvis"] / 100, atol=1e-6)
    expected = 0.25 * body["pelvis"] + 0.75 * body["spine 0"]
    np.testing.assert_allclose(motion.joints[0, 3], expected / 100, atol=1e-6)


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"tail": "Hips"}, "a key 'tail'; expected keys among pelvis, left_hip"),
        ({"head": "Skull"}, "takes head from 'Skull', which is not in the file"),
        ({"head": {"Head": 0.5, "Neck": 0.4}}, "weights of head .*add up to 1"),
        ({"head": {"Head": float("nan")}}, "weights of head .*add up to 1"),
    ],
)
def test_a_wrong_mapping_is_refused(mapping, message, read, make_rig):
    joints = make_rig(sided(HUMAN_IK, "Left", "Right"), ("Spine", "Spine1"))
    with pytest.raises(MotionFormatError, match=message):
        read(joints, mapping=mapping)


def test_a_body_of_no_human_size_is_refused(read, make_rig):
    joints = make_rig(sided(HUMAN_IK, "Left", "Right"), ("Spine", "Spine1"))
    for joint in joints:
        joint.offset = np.asarray(joint.offset) * 3.0
    with pytest.raises(MotionFormatError, match="legs have human length in none of m, cm, mm, inch, cmu"):
        read(joints)


def test_our_own_names_are_read_joint_by_joint():
    """Mixamo's names in our order mean our joints: nothing is raised or moved along the spine."""
    order = [0, 1, 4, 7, 10, 2, 5, 8, 11, 3, 6, 9, 12, 15, 13, 16, 18, 20, 14, 17, 19, 21]
    parents = [order.index(HUMANML3D_22.parents[joint]) if joint else -1 for joint in order]
    positions = np.random.default_rng(0).normal(size=(22, 3))
    hierarchy = Hierarchy([LAMP_HF_JOINT_NAMES[joint] for joint in order], parents, positions)
    mapping = resolve_mapping(hierarchy)
    assert mapping.rig == "lamp_hf"
    mapped = mapping.apply(positions[None, list(mapping.sources)], 1.0)[0]
    np.testing.assert_array_equal(mapped[order], positions)
