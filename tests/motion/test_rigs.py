"""Mapping of other rigs to the 22 joints, detection of unit and up axis.

`pytest tests/motion/test_rigs.py -rP -q | grep "^rig |"` prints how each rig is recognized.
"""

import numpy as np
import pytest

from lamp_hf.motion.errors import MotionFormatError
from lamp_hf.motion.formats.bvh import read_bvh_with_report
from lamp_hf.motion.formats.detection import METERS_PER_UNIT
from lamp_hf.motion.formats.rigs import LAMP_HF_JOINT_NAMES, Hierarchy, resolve_mapping
from lamp_hf.motion.skeleton import HUMANML3D_22

JOINTS = HUMANML3D_22.joint_names
SPINE = ("spine1", "spine2", "spine3")
FRACTIONS = np.cumsum([0.131568, 0.143190, 0.057365]) / (0.131568 + 0.143190 + 0.057365 + 0.219360)


def sided(pattern: str, left: str, right: str) -> dict[str, str]:
    """Return names of the 19 joints except the spine from "Hips Neck Head Hip Knee ..." with {} for the side."""
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


def tell(rig: str, report) -> None:
    """Print a row of the table of rigs."""
    print(f"rig | {rig} | {report.recognized_by} | {report.rig}")


@pytest.fixture
def read(tmp_path, make_bvh):
    """Write joints as BVH, and read them with `read_bvh`."""

    def run(joints, rows=None, *, frame_time="0.0333333", **options):
        width = sum(len(joint.channels) for joint in joints)
        rest = [*joints[0].offset, *([0.0] * (width - 3))]
        path = tmp_path / "clip.bvh"
        path.write_text(make_bvh(joints, rows or [rest, rest], frame_time=frame_time))
        return read_bvh_with_report(path, **options)

    return run


def expected_joints(positions: dict[str, np.ndarray]) -> np.ndarray:
    """Return the 22 joints of the T-pose body in meters: exact limbs, raised pelvis, spine at HumanML3D's heights."""
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
    tell(rig, report)
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


def test_toes_can_be_end_sites(read, make_rig, tpose):
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
    """Limbs are where an independent reader finds them in every frame of a random motion."""
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


@pytest.mark.parametrize("unit", METERS_PER_UNIT)
def test_unit_is_detected_and_can_be_passed(unit, read, make_rig):
    joints = make_rig(sided(HUMAN_IK, "Left", "Right"), ("Spine", "Spine1"))
    reference = read(joints)[0].joints
    for joint in joints:
        joint.offset = np.asarray(joint.offset) * 0.01 / METERS_PER_UNIT[unit]
    motion, report = read(joints)
    assert report.unit == unit
    np.testing.assert_allclose(motion.joints, reference, atol=1e-5)
    given, _ = read(joints, unit="m")
    np.testing.assert_allclose(given.joints * METERS_PER_UNIT[unit], motion.joints, rtol=1e-4, atol=1e-4)


def test_only_the_cmu_rig_has_a_certain_unit(read, make_rig, make_bvh):
    joints = make_rig(sided(HUMAN_IK, "Left", "Right"), ("LowerBack", "Spine"))
    for joint in joints:
        joint.offset = np.asarray(joint.offset) * 0.01 / METERS_PER_UNIT["cmu"]
    _, report = read(joints)
    assert report.unit == "cmu"
    assert "dm" in report.detection.doubts[0]
    assert "inch" in report.detection.doubts[0]
    for side, name in (("Left", "LHipJoint"), ("Right", "RHipJoint")):
        thigh = next(joint for joint in joints if joint.name == f"{side}UpLeg")
        joints.insert(1, make_bvh.joint(name, "Hips", (0, 0, 0), thigh.channels, None))
        thigh.parent = name
    _, report = read(joints, strict=True)
    assert (report.unit, report.detection.doubts) == ("cmu", ())


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


def test_x_up_is_turned_upright_with_a_warning(read, make_rig, caplog):
    joints = make_rig(sided(HUMAN_IK, "Left", "Right"), ("Spine", "Spine1"))
    upright = read(joints)[0].joints
    for joint in joints:
        x, y, z = joint.offset
        joint.offset = (y, -x, z)
    motion, report = read(joints)
    assert report.up_axis == "x"
    np.testing.assert_allclose(motion.joints, upright, atol=1e-6)
    assert "stands along x" in caplog.text


def test_unknown_rig_is_recognized_by_its_shape(read, make_rig, tpose, caplog):
    names = {name: f"bone{k}" for k, name in enumerate(JOINTS)}
    joints = make_rig({**names, "left_wrist": "LeftHand"}, ("back1", "back2"))
    motion, report = read(joints)
    assert report.recognized_by == "shape"
    np.testing.assert_allclose(motion.joints[0], expected_joints(tpose(2)), atol=1e-5)
    assert "limbs were recognized by shape, left and right are sure" in caplog.text
    assert "left_hip = 'bone1'" in caplog.text
    with pytest.raises(MotionFormatError, match="limbs were recognized by shape"):
        read(joints, strict=True)
    given = {key: name for key, name in names.items() if key not in SPINE}
    motion, report = read(joints, mapping={**given, "left_wrist": "LeftHand"}, strict=True)
    assert (report.rig, report.recognized_by) == ("mapping", "mapping")
    np.testing.assert_allclose(motion.joints[0], expected_joints(tpose(2)), atol=1e-5)


def test_rig_with_one_joint_renamed_is_read(read, make_rig, tpose):
    names = sided(HUMAN_IK, "Left", "Right") | {"right_knee": "Shank_of_the_right"}
    joints = make_rig(names, ("Spine", "Spine1"))
    for mapping in (None, {"right_knee": "Shank_of_the_right"}):
        motion, _ = read(joints, mapping=mapping)
        np.testing.assert_allclose(motion.joints[0], expected_joints(tpose(2)), atol=1e-5)


def test_weights_in_a_mapping_are_used_unchanged(read, make_rig, tpose):
    joints = make_rig(sided(HUMAN_IK, "Left", "Right"), ("Spine", "Spine1"))
    motion, _ = read(joints, mapping={"pelvis": {"Hips": 1.0}, "spine1": {"pelvis": 0.25, "Spine": 0.75}})
    body = tpose(2)
    np.testing.assert_allclose(motion.joints[0, 0], body["pelvis"] / 100, atol=1e-6)
    expected = 0.25 * body["pelvis"] + 0.75 * body["spine 0"]
    np.testing.assert_allclose(motion.joints[0, 3], expected / 100, atol=1e-6)


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"tail": "Hips"}, "an unknown key 'tail'; expected keys among pelvis, left_hip"),
        ({"head": "Skull"}, "uses 'Skull' for head, but the file has no such joint"),
        ({"head": {"Head": 0.5, "Neck": 0.4}}, "weights of head .*add up to 1"),
        ({"head": {"Head": float("nan")}}, "weights of head .*add up to 1"),
    ],
)
def test_invalid_mapping_is_refused(mapping, message, read, make_rig):
    joints = make_rig(sided(HUMAN_IK, "Left", "Right"), ("Spine", "Spine1"))
    with pytest.raises(MotionFormatError, match=message):
        read(joints, mapping=mapping)


def test_body_of_other_than_human_size_is_refused(read, make_rig):
    joints = make_rig(sided(HUMAN_IK, "Left", "Right"), ("Spine", "Spine1"))
    for joint in joints:
        joint.offset = np.asarray(joint.offset) * 3.0
    with pytest.raises(MotionFormatError, match="not a human size in any of m, dm, cm, mm, inch, foot, cmu"):
        read(joints)


def test_own_joint_names_map_one_to_one():
    """Mixamo's names in this package's order mean its joints: nothing is raised or moved along the spine."""
    order = [0, 1, 4, 7, 10, 2, 5, 8, 11, 3, 6, 9, 12, 15, 13, 16, 18, 20, 14, 17, 19, 21]
    parents = [order.index(HUMANML3D_22.parents[joint]) if joint else -1 for joint in order]
    positions = np.random.default_rng(0).normal(size=(22, 3))
    hierarchy = Hierarchy([LAMP_HF_JOINT_NAMES[joint] for joint in order], parents, positions)
    mapping = resolve_mapping(hierarchy)
    assert mapping.rig == "lamp_hf"
    mapped = mapping.apply(positions[None, list(mapping.sources)], 1.0)[0]
    np.testing.assert_array_equal(mapped[order], positions)


# Rigs that are not on the list. {} is the side; "-" stands for a joint that the rig does not have.
FIELD_RIGS = {
    "Unity Humanoid": "Hips Neck Head {}UpperLeg {}LowerLeg {}Foot {}Toes {}Shoulder {}UpperArm {}LowerArm "
    "{}Hand|Left|Right",
    "VRM, camel case": "hips neck head {}UpperLeg {}LowerLeg {}Foot {}Toes {}Shoulder {}UpperArm {}LowerArm "
    "{}Hand|left|right",
    "VRM bone names with blanks": "Hips Neck Head {}_leg {}_knee {}_ankle {}_toe {}_shoulder {}_arm {}_elbow "
    "{}_wrist|Left|Right",
    "VRoid": "J_Bip_C_Hips J_Bip_C_Neck J_Bip_C_Head J_Bip_{}_UpperLeg J_Bip_{}_LowerLeg J_Bip_{}_Foot "
    "J_Bip_{}_ToeBase "
    "J_Bip_{}_Shoulder J_Bip_{}_UpperArm J_Bip_{}_LowerArm J_Bip_{}_Hand|L|R",
    "Biped": "Bip001_Pelvis Bip001_Neck Bip001_Head Bip001_{}_Thigh Bip001_{}_Calf Bip001_{}_Foot Bip001_{}_Toe0 "
    "Bip001_{}_Clavicle Bip001_{}_UpperArm Bip001_{}_Forearm Bip001_{}_Hand|L|R",
    "Valve": "ValveBiped.Bip01_Pelvis ValveBiped.Bip01_Neck1 ValveBiped.Bip01_Head1 ValveBiped.Bip01_{}_Thigh "
    "ValveBiped.Bip01_{}_Calf ValveBiped.Bip01_{}_Foot ValveBiped.Bip01_{}_Toe0 ValveBiped.Bip01_{}_Clavicle "
    "ValveBiped.Bip01_{}_UpperArm ValveBiped.Bip01_{}_Forearm ValveBiped.Bip01_{}_Hand|L|R",
    "Unreal": "pelvis neck_01 head thigh_{} calf_{} foot_{} ball_{} clavicle_{} upperarm_{} lowerarm_{} hand_{}|l|r",
    "Rigify": "spine spine.004 spine.006 thigh.{} shin.{} foot.{} toe.{} shoulder.{} upper_arm.{} forearm.{} "
    "hand.{}|L|R",
    "Rigify, deform": "DEF-spine DEF-neck DEF-head DEF-thigh.{} DEF-shin.{} DEF-foot.{} DEF-toe.{} DEF-shoulder.{} "
    "DEF-upper_arm.{} DEF-forearm.{} DEF-hand.{}|L|R",
    "Blender": "hips neck head upper_leg.{} lower_leg.{} foot.{} toe.{} shoulder.{} upper_arm.{} lower_arm.{} "
    "hand.{}|L|R",
    "Daz Genesis 8": "hip neckLower head {}ThighBend {}Shin {}Foot {}Toe {}Collar {}ShldrBend {}ForearmBend {}Hand|l|r",
    "Daz Genesis 9": "hip neck1 head {}_thigh {}_shin {}_foot {}_toes {}_shoulder {}_upperarm {}_forearm {}_hand|l|r",
    "Character Creator": "CC_Base_Hip CC_Base_NeckTwist01 CC_Base_Head CC_Base_{}_Thigh CC_Base_{}_Calf "
    "CC_Base_{}_Foot "
    "CC_Base_{}_ToeBase CC_Base_{}_Clavicle CC_Base_{}_Upperarm CC_Base_{}_Forearm CC_Base_{}_Hand|L|R",
    "Motive": "Hip Neck Head {}Thigh {}Shin {}Foot {}Toe {}Shoulder {}UArm {}FArm {}Hand|L|R",
    "CMU ASF": "root lowerneck head {}femur {}tibia {}foot {}toes {}clavicle {}humerus {}radius {}hand|l|r",
    "Biovision": "Hips Neck Head {}UpLeg {}LowLeg {}Foot {}Toe {}Collar {}UpArm {}LowArm {}Hand|Left|Right",
    "Biovision, older": "Hips Neck Head {}Hip {}Knee {}Ankle {}Toe {}Collar {}Shoulder {}Elbow {}Wrist|Left|Right",
    "Kinect 1": "HipCenter Neck Head Hip{} Knee{} Ankle{} Foot{} Collar{} Shoulder{} Elbow{} Wrist{}|Left|Right",
    "Kinect 2": "SpineBase Neck Head Hip{} Knee{} Ankle{} Foot{} - Shoulder{} Elbow{} Wrist{}|Left|Right",
    "Azure Kinect": "PELVIS NECK HEAD HIP_{} KNEE_{} ANKLE_{} FOOT_{} CLAVICLE_{} SHOULDER_{} ELBOW_{} "
    "WRIST_{}|LEFT|RIGHT",
    "iPi": "Hip Neck Head {}Thigh {}Shin {}Foot {}Toe {}Clavicle {}Shoulder {}Forearm {}Hand|L|R",
    "DeepMotion": "hips_JNT neck_JNT head_JNT {}_upleg_JNT {}_leg_JNT {}_foot_JNT {}_toebase_JNT "
    "{}_shoulder_JNT {}_arm_JNT "
    "{}_forearm_JNT {}_hand_JNT|l|r",
    "SOMA": "Hips Neck1 Head {}Leg {}Shin {}Foot {}ToeBase {}Shoulder {}Arm {}ForeArm {}Hand|Left|Right",
    "BEAT": "Hips Neck Head {}UpLeg {}Leg {}Foot {}ForeFoot {}Shoulder {}Arm {}ForeArm {}Hand|Left|Right",
    "GENEA": "body_world b_neck0 b_head b_{}_upleg b_{}_leg b_{}_foot b_{}_toe b_{}_shoulder b_{}_arm "
    "b_{}_forearm b_{}_wrist|l|r",
    "Advanced Skeleton": "Root_M Neck_M Head_M Hip_{} Knee_{} Ankle_{} Toes_{} Scapula_{} Shoulder_{} Elbow_{} "
    "Wrist_{}|L|R",
    "Cascadeur": "pelvis neck head thigh_{} calf_{} foot_{} toe_{} clavicle_{} arm_{} forearm_{} hand_{}|l|r",
    "MakeHuman": "root neck01 head upperleg01.{} lowerleg01.{} foot.{} toe1-1.{} clavicle.{} upperarm01.{} "
    "lowerarm01.{} "
    "wrist.{}|L|R",
    "MMD": "センター 首 頭 {}足 {}ひざ {}足首 {}つま先 {}肩 {}腕 {}ひじ {}手首|左|右",
    "MMD, English": "center neck head leg_{} knee_{} ankle_{} toe_{} shoulder_{} arm_{} elbow_{} wrist_{}|L|R",
    "MMD, romanized": "center kubi atama {}ashi {}hiza {}ashikubi {}tsumasaki {}kata {}ude {}hiji {}tekubi|hidari|migi",
    "Roblox R15": "LowerTorso - Head {}UpperLeg {}LowerLeg {}Foot - - {}UpperArm {}LowerArm {}Hand|Left|Right",
    "Perception Neuron": "Robot_Hips Robot_Neck Robot_Head Robot_{}UpLeg Robot_{}Leg Robot_{}Foot - "
    "Robot_{}Shoulder Robot_{}Arm "
    "Robot_{}ForeArm Robot_{}Hand|Left|Right",
    "Ready Player Me, no toes": "Hips Neck Head {}UpLeg {}Leg {}Foot - {}Shoulder {}Arm {}ForeArm {}Hand|Left|Right",
    "RADiCAL": "Hips Neck Head {}UpLeg {}Leg {}Foot {}Toe - {}Arm {}ForeArm {}Hand|Left|Right",
    "IMVU": "Root Neck Head {}Hip {}Knee {}Ankle - {}Clavicle {}Shoulder {}Elbow {}Wrist|lf|rt",
    "Second Life": "mPelvis mNeck mHead mHip{} mKnee{} mAnkle{} mFoot{} mCollar{} mShoulder{} mElbow{} "
    "mWrist{}|Left|Right",
    "Apple ARKit": "hips_joint neck_1_joint head_joint {}_upLeg_joint {}_leg_joint {}_foot_joint {}_toes_joint "
    "{}_shoulder_1_joint {}_arm_joint {}_forearm_joint {}_hand_joint|left|right",
    "Sims": "b__Pelvis__ b__Neck__ b__Head__ b__{}_Thigh__ b__{}_Calf__ b__{}_Foot__ b__{}_Toe__ b__{}_Clavicle__ "
    "b__{}_UpperArm__ b__{}_Forearm__ b__{}_Hand__|L|R",
    "no head": "Hips Neck - {}Thigh {}Shin {}Foot {}Toe {}Collar {}Shldr {}ForeArm {}Hand|l|r",
    "no neck": "Hips - Head {}Thigh {}Shin {}Foot {}Toe {}Collar {}Shldr {}ForeArm {}Hand|l|r",
}
LIMBS = [f"{s}_{p}" for s in ("left", "right") for p in ("hip", "knee", "ankle", "shoulder", "elbow", "wrist")]


def field_rig(make_rig, rig):
    """Return the joints of a rig of `FIELD_RIGS`, the names of its joints, and the HumanML3D joints that it lacks."""
    pattern, left, right = FIELD_RIGS[rig].split("|")
    words = pattern.split()
    keys = ("neck", "head", "foot", "collar")
    marks = dict(zip((1, 2, 6, 7), keys, strict=True))
    words = [
        f"gone_{marks[k]}{'{}' if marks[k] in ('foot', 'collar') else ''}" if w == "-" else w
        for k, w in enumerate(words)
    ]
    names = sided(" ".join(words), left, right)
    joints = make_rig(names, ("abdomen", "torso1", "torso2"))
    for gone in [joint for joint in joints if joint.name.startswith("gone_")]:
        joints.remove(gone)
        for joint in joints:
            if joint.parent == gone.name:
                joint.parent = gone.parent
                joint.offset = np.asarray(joint.offset) + np.asarray(gone.offset)
    return joints, {key: name for key, name in names.items() if not name.startswith("gone_")}


@pytest.mark.parametrize("rig", FIELD_RIGS)
def test_common_rigs_are_recognized_by_their_names(rig, read, make_rig, tpose):
    joints, names = field_rig(make_rig, rig)
    motion, report = read(joints)
    tell(rig, report)
    assert report.recognized_by in ("list", "names")
    body = tpose(3)
    for key, name in names.items():
        if key == "pelvis" or "collar" in key:
            continue
        assert report.sources[key] == (name,)
        np.testing.assert_allclose(motion.joints[0, JOINTS.index(key)], body[key] / 100, atol=1e-5, err_msg=key)
    heights = dict(zip(JOINTS, motion.joints[0, :, 1], strict=True))
    assert (
        heights["pelvis"]
        < heights["spine1"]
        < heights["spine2"]
        < heights["spine3"]
        < heights["neck"]
        < heights["head"]
    )


@pytest.mark.parametrize("rig", FIELD_RIGS)
def test_common_rigs_are_recognized_by_their_shape(rig, read, make_rig):
    joints, _ = field_rig(make_rig, rig)
    named, report = read(joints)
    hidden = {joint.name: f"j{k:03d}" for k, joint in enumerate(joints)}
    for joint in joints:
        joint.name, joint.parent = hidden[joint.name], hidden.get(joint.parent)
    motion, by_shape = read(joints)
    tell(f"{rig}, names hidden", by_shape)
    assert by_shape.recognized_by == "shape"
    for key in LIMBS:
        assert by_shape.sources[key] == tuple(hidden[name] for name in report.sources[key]), key
    assert np.abs(motion.joints - named.joints).max() < 0.15  # computed necks and heads can differ


def test_twist_joints_and_helpers_are_not_limbs(read, make_rig, make_bvh, tpose):
    """Twist joints, fingers, a tail, eyes and props do not change the result, by name or by shape."""
    names = sided(
        "pelvis neck_01 head thigh_{} calf_{} foot_{} ball_{} clavicle_{} upperarm_{} lowerarm_{} hand_{}", "l", "r"
    )
    joints = make_rig(names, ("spine_01", "spine_02", "spine_03"))
    turns = joints[-1].channels
    for side, sign in (("l", 1.0), ("r", -1.0)):
        for upper, way in (
            (f"thigh_{side}", (0, -20, 0)),
            (f"calf_{side}", (0, -20, 0)),
            (f"upperarm_{side}", (14 * sign, 0, 0)),
            (f"lowerarm_{side}", (12 * sign, 0, 0)),
        ):
            joints.append(make_bvh.joint(upper.replace("_", "_twist_01_"), upper, way, turns, None))
        joints.append(make_bvh.joint(f"ik_hand_{side}", "pelvis", (70 * sign, 50, 0), turns, None))
        joints.append(make_bvh.joint(f"eye_{side}", "head", (3 * sign, 5, 8), turns, None))
        for k, finger in enumerate(("thumb", "index", "ring")):
            joints.append(make_bvh.joint(f"{finger}_01_{side}", f"hand_{side}", (8 * sign, 0, 3 - 3 * k), turns, None))
            joints.append(
                make_bvh.joint(f"{finger}_02_{side}", f"{finger}_01_{side}", (4 * sign, 0, 0), turns, (3 * sign, 0, 0))
            )
    joints.append(make_bvh.joint("tail_01", "pelvis", (0, -3, -12), turns, (0, -10, -20)))
    body = tpose(3)
    for hide in (False, True):
        if hide:
            hidden = {joint.name: f"j{k:03d}" for k, joint in enumerate(joints)}
            for joint in joints:
                joint.name, joint.parent = hidden[joint.name], hidden.get(joint.parent)
        motion, report = read(joints)
        assert report.recognized_by == ("shape" if hide else "names")
        for key in LIMBS:
            np.testing.assert_allclose(motion.joints[0, JOINTS.index(key)], body[key] / 100, atol=1e-5, err_msg=key)


STRANGE_RIGS = {  # no known words, except perhaps the sides
    "Maya, a letter after each name": "HipsJ NeckJ HeadJ {}UpLegJ {}LegJ {}FootJ {}ToeBaseJ {}ShoulderJ {}ArmJ "
    "{}ForeArmJ {}HandJ|Left|Right",
    "numbered limbs": "root neck head leg_{}_0_jnt leg_{}_1_jnt leg_{}_2_jnt leg_{}_3_jnt arm_{}_0_jnt arm_{}_1_jnt "
    "arm_{}_2_jnt arm_{}_3_jnt|L|R",
    "Auto-Rig Pro": "root.x neck.x head.x thigh_stretch.{} leg_stretch.{} foot.{} toes_01.{} shoulder.{} "
    "arm_stretch.{} forearm_stretch.{} hand.{}|l|r",
    "Spanish": "cadera cuello cabeza muslo_{} pierna_{} pie_{} dedos_{} clavicula_{} brazo_{} antebrazo_{} "
    "mano_{}|izq|der",
    "Chinese": "骨盆 脖子 头 {}大腿 {}小腿 {}脚 {}脚趾 {}锁骨 {}上臂 {}前臂 {}手|左|右",
    "numbers": "b0 b1 b2 b3{} b4{} b5{} b6{} b7{} b8{} b9{} b10{}|x|y",
}


@pytest.mark.parametrize("rig", STRANGE_RIGS)
def test_shape_is_recognized_with_fingers_hair_skirt_and_sword(rig, read, make_rig, make_bvh, monkeypatch):
    """In a moving game character, all limbs and the head are found by shape alone."""
    monkeypatch.setitem(FIELD_RIGS, rig, STRANGE_RIGS[rig])
    joints, names = field_rig(make_rig, rig)
    turns = joints[-1].channels

    def hang(name, parent, first, step, count):
        for k in range(count):
            end = step if k == count - 1 else None
            joints.append(make_bvh.joint(f"{name}{k}", parent, first if k == 0 else step, turns, end))
            parent = f"{name}{k}"

    for side, sign in (("left", 1), ("right", -1)):
        for k, depth in enumerate((3, 1, -2)):
            hang(f"{side} f{k} ", names[f"{side}_wrist"], (8 * sign, 0, depth), (3 * sign, 0, 0), 3)
    for k in range(3):
        hang(f"strand {k} ", names["head"], (k - 1, 2, -6), (0, -8, 0), 4)
    for k, (x, z) in enumerate(((10, 10), (-10, 10), (10, -10), (-10, -10))):
        hang(f"cloth {k} ", names["pelvis"], (x, -3, z), (0, -10, 0), 3)
    hang("blade ", names["right_wrist"], (-6, 0, 0), (0, 0, 80), 1)
    random = np.random.default_rng(3)
    rows = random.uniform(-25, 25, (6, sum(len(joint.channels) for joint in joints)))
    rows[:, :3] = [0, 93, 0]
    rows[:, 3:6] *= 0.3
    _, report = read(joints, rows.tolist())
    tell(f"{rig}, with hair, skirt and sword", report)
    assert report.recognized_by == "shape"
    for key, name in names.items():
        if key != "pelvis":
            assert report.sources[key] == (name,), key


@pytest.mark.parametrize("sides", ["Left|Right", "l|r", "左|右"])
def test_sides_in_names_decide_if_feet_do_not(sides, read, make_rig):
    parts = ("X1", "X2", "X3", "X4", "Y0", "Y1", "Y2", "Y3")
    names = sided(" ".join(["hub", "up1", "up2", *(f"{{}}_{part}" for part in parts)]), *sides.split("|"))
    joints = [joint for joint in make_rig(names, ("s1", "s2")) if not joint.name.endswith("X4")]
    _, report = read(joints)
    assert report.recognized_by == "shape"
    assert "left and right are sure (12 of its names agree)" in report.warnings[0]
    assert report.sources["left_knee"] == (names["left_knee"],)


def chain_of(make_bvh, start, parent, steps, channels):
    joints = []
    for k, step in enumerate(steps):
        joints.append(make_bvh.joint(f"{start}{k}", parent, step, channels, step if k == len(steps) - 1 else None))
        parent = f"{start}{k}"
    return joints


def test_rigs_that_are_not_a_person_are_refused(read, make_rig, make_bvh):
    person = make_rig(sided(HUMAN_IK, "Left", "Right"), ("Spine",))
    six, three = person[0].channels, person[-1].channels
    root = make_bvh.joint("root", None, (0, 60, 0), six, None)
    horse = [root, *chain_of(make_bvh, "back", "root", [(0, 2, 25)] * 3, three)]
    for side, x in (("a", 9), ("b", -9)):
        horse += chain_of(make_bvh, f"hind{side}", "root", [(x, -3, 0), (0, -30, 3), (0, -25, -3), (0, -2, 5)], three)
        horse += chain_of(make_bvh, f"fore{side}", "back2", [(x, -3, 0), (0, -30, 2), (0, -25, -2), (0, -2, 5)], three)
    horse += chain_of(make_bvh, "nape", "back2", [(0, 15, 10), (0, 15, 10)], three)
    hand = [root]
    for k in range(5):
        hand += chain_of(make_bvh, f"finger{k}_", "root", [(2 * k - 4, 8, 0), (0, 4, 0), (0, 3, 0)], three)
    prop = [root, *chain_of(make_bvh, "sword", "root", [(0, 10, 0)] * 4, three)]
    face = [root] + [make_bvh.joint(f"f{k}", "root", (k % 5 - 2, k // 5, 8), three, None) for k in range(30)]
    for joints in (horse, hand, prop, face):
        with pytest.raises(MotionFormatError, match="It was not recognized by shape either"):
            read(joints, [[0.0, 60.0, 0.0] + [0.0] * (sum(len(j.channels) for j in joints) - 3)] * 2)


def test_duplicate_joint_names(read, make_rig, make_bvh, caplog):
    joints = make_rig(sided(HUMAN_IK, "Left", "Right"), ("Spine", "Spine1"))
    joints.append(make_bvh.joint("LeftHand", "Spine", (0, 0, 5), joints[-1].channels, None))
    with pytest.raises(MotionFormatError, match="LeftHand"):
        read(joints, strict=True)
    read(joints)
    assert "there are two joints 'LeftHand'" in caplog.text


def test_swapped_names_are_reported(read, make_rig, caplog):
    _, report = read(make_rig(sided(HUMAN_IK, "Right", "Left"), ("Spine", "Spine1")))
    assert report.detection.mirrored
    assert "left and right contradict" in caplog.text
