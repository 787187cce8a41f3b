"""Motions on characters: files that the test builds with other proportions, rest poses and axes, read independently."""

import json
import re
import struct

import numpy as np
import pytest

from lamp_hf.motion import rotations
from lamp_hf.motion.errors import MotionFormatError
from lamp_hf.motion.kinematics import default_body, forward_kinematics
from lamp_hf.motion.motion import Motion
from lamp_hf.motion.retarget import Character
from lamp_hf.motion.retarget.frames import hinge
from lamp_hf.motion.retarget.presets import PRESETS
from lamp_hf.motion.skeleton import HUMANML3D_22, KIT_21

JOINTS = HUMANML3D_22.joint_names
BONES = [
    (f"{side}_{upper}", f"{side}_{lower}")
    for side in ("left", "right")
    for upper, lower in (("hip", "knee"), ("knee", "ankle"), ("shoulder", "elbow"), ("elbow", "wrist"))
]
UNREAL = {
    "pelvis": "pelvis",
    "neck": "neck_01",
    "head": "head",
    **{
        f"{side}_{part}": f"{name}_{side[0]}"
        for side in ("left", "right")
        for part, name in (
            *(("hip", "thigh"), ("knee", "calf"), ("ankle", "foot"), ("foot", "ball")),
            *(("collar", "clavicle"), ("shoulder", "upperarm"), ("elbow", "lowerarm"), ("wrist", "hand")),
        )
    },
}


def moving(num_frames=30, *, skeleton=HUMANML3D_22, fps=20.0, travel=0.0):
    """Return a body that stands on the right leg, lifts the left one, waves the left arm and bends the right elbow."""
    time = np.linspace(0.0, 1.0, num_frames)
    local = np.tile([1.0, 0.0, 0.0, 0.0], (num_frames, skeleton.num_joints, 1))

    def turn(joint, axis, angles):
        if joint in skeleton.joint_names:
            number = skeleton.joint_names.index(joint)
            local[:, number] = rotations.multiply(local[:, number], rotations.about_axis(axis, angles))

    swing = 0.5 * np.sin(2.0 * np.pi * time)
    lift = 0.9 + 0.2 * np.sin(3.0 * np.pi * time)
    turn(skeleton.joint_names[0], "y", 0.6)
    turn("spine1", "x", 0.2 * time)
    turn("spine2", "y", 0.3 * swing)
    turn("neck", "x", 0.3 * swing)
    for joint, share in (("hip", -1.0), ("knee", 2.0), ("ankle", -1.0)):
        turn(f"left_{joint}", "x", share * lift)
        turn(f"right_{joint}", "x", share * 0.2)
    for side, sign in (("left", 1.0), ("right", -1.0)):
        turn(f"{side}_shoulder", "z", -sign * (0.9 - 1.2 * sign * swing))
        turn(f"{side}_elbow", "y", -sign * (0.9 + 0.8 * swing))
    joints = forward_kinematics(local, np.zeros((num_frames, 3)), default_body(skeleton), skeleton.parents)
    joints[..., 1] -= joints[..., 1].min()
    joints += travel * time[:, None, None] * [0.0, 0.0, 1.0]
    return Motion(joints, fps=fps, skeleton=skeleton, text="go")


def angles(a, b):
    return np.degrees(np.arctan2(np.linalg.norm(np.cross(a, b), axis=-1), np.sum(a * b, axis=-1)))


# ---- a character in a file ---------------------------------------------------------------------------------


def body(*, arms=0.0, stretch=1.0):
    """Return names, parents and positions of an Unreal rig with a twist joint, a finger and a sword, in any pose."""
    made = Character.of_rig("unreal")
    names, parents = list(made.joint_names), list(made.parents)
    positions = made.rest_positions.copy()
    for joint, name in enumerate(names):
        side = {"l": 1.0, "r": -1.0}.get(name[-1])
        if side and name[:-2] in ("lowerarm", "hand"):
            root = names.index(f"upperarm_{name[-1]}")
            turned = rotations.rotate(rotations.about_axis("z", -side * arms), positions[joint] - positions[root])
            positions[joint] = positions[root] + turned * stretch
    for name, parent, share in (
        ("upperarm_twist_01_l", "upperarm_l", ("upperarm_l", "lowerarm_l", 0.5)),
        ("index_01_l", "hand_l", ("lowerarm_l", "hand_l", 1.2)),
        ("sword", "hand_r", ("lowerarm_r", "hand_r", 1.5)),
    ):
        start, end, place = share
        positions = np.vstack(
            [positions, positions[names.index(start)] * (1 - place) + positions[names.index(end)] * place]
        )
        parents.append(names.index(parent))
        names.append(name)
    return names, parents, positions


def write_character(path, *, arms=0.0, stretch=1.0, seed=None, unit=1.0, z_up=False, vrm=None, extra=None):
    """Write a GLB character by hand.

    Joints have random orientations and lie below an armature that is scaled and turned, as exporters write it. The file
    has an animation, a morph target, a matrix, and bytes after its last array.
    """
    names, parents, positions = body(arms=arms, stretch=stretch)
    random = np.random.default_rng(seed)
    count = len(names)
    world = np.tile([1.0, 0.0, 0.0, 0.0], (count, 1))
    if seed is not None:
        world = rotations.normalize(random.normal(size=(count, 4)))
    armature = rotations.about_axis("x", -np.pi / 2 if z_up else 0.0)
    if vrm == "0":  # VRM 0.x faces -Z
        armature = rotations.about_axis("y", np.pi)
    nodes = []
    for joint, parent in enumerate(parents):
        above = world[parent] if parent >= 0 else np.array([1.0, 0.0, 0.0, 0.0])
        way = positions[joint] - (positions[parent] if parent >= 0 else 0.0)
        if z_up and parent < 0:
            way = way[[0, 2, 1]] * [1.0, -1.0, 1.0]
        turned = rotations.multiply(rotations.conjugate(above), world[joint])
        if z_up and parent < 0:
            turned = rotations.multiply(rotations.conjugate(armature), world[joint])
        offset = rotations.rotate(rotations.conjugate(above), way) / unit
        node = {"name": names[joint], "translation": offset.tolist(), "rotation": turned[[1, 2, 3, 0]].tolist()}
        if names[joint] == "lowerarm_l":  # a matrix instead
            matrix = np.eye(4)
            matrix[:3, :3] = rotations.to_matrix(turned)
            matrix[:3, 3] = offset
            node = {"name": names[joint], "matrix": matrix.T.ravel().tolist()}
        nodes.append(node | {"children": [k for k in range(count) if parents[k] == joint]})
        if not nodes[-1]["children"]:
            del nodes[-1]["children"]
    nodes.append(
        {"name": "Armature", "rotation": armature[[1, 2, 3, 0]].tolist(), "scale": [unit] * 3, "children": [0]}
    )
    nodes.append({"name": "mesh", "mesh": 0, "skin": 0})
    # A sole below each ball of the foot, which is 1 cm thick.
    corners = np.array(
        [positions[names.index(f"ball_{s}")] + [dx, -0.01, 0.0] for s in "lr" for dx in (-0.02, 0.0, 0.02)]
    )
    bind = np.zeros((count, 4, 4), np.float32)
    for joint in range(count):
        move = np.eye(4)
        move[:3, :3] = rotations.to_matrix(world[joint]) * unit
        move[:3, 3] = positions[joint]
        bind[joint] = np.linalg.inv(rest_turn(armature) @ move).T if not z_up else np.linalg.inv(move).T
    arrays = [
        (np.float32(bind).reshape(-1, 16), "MAT4", 5126),
        (np.float32(rotations.rotate(rotations.about_axis("y", np.pi if vrm == "0" else 0.0), corners)), "VEC3", 5126),
        (np.array([[names.index(f"ball_{s}"), 0, 0, 0] for s in "lll" + "rrr"], np.uint8), "VEC4", 5121),
        (np.float32([[1, 0, 0, 0]] * 6), "VEC4", 5126),
        (np.float32([0.0, 1.0]), "SCALAR", 5126),
        (np.float32([[0, 0, 0, 1]] * 2), "VEC4", 5126),
        (np.float32(np.zeros((6, 3))), "VEC3", 5126),
    ]
    binary, views, accessors = b"", [], []
    for values, shape, component in arrays:
        views.append({"buffer": 0, "byteOffset": len(binary), "byteLength": values.nbytes})
        accessors.append(
            {"bufferView": len(views) - 1, "componentType": component, "count": len(values), "type": shape}
        )
        if shape in ("VEC3", "SCALAR"):
            columns = values.reshape(len(values), -1)
            accessors[-1] |= {"min": columns.min(axis=0).tolist(), "max": columns.max(axis=0).tolist()}
        binary += values.tobytes()
        binary += bytes(-len(binary) % 4)
    binary += b"\x07\x08\x09"  # bytes that no array uses
    content = {
        "asset": {"version": "2.0", "generator": "a test ünder Ω"},
        "scene": 0,
        "scenes": [{"nodes": [count, count + 1]}],
        "nodes": nodes,
        "meshes": [
            {
                "primitives": [
                    {
                        "attributes": {"POSITION": 1, "JOINTS_0": 2, "WEIGHTS_0": 3},
                        "targets": [{"POSITION": 6}],
                        "mode": 0,
                    }
                ]
            }
        ],
        "skins": [{"joints": list(range(count)), "inverseBindMatrices": 0}],
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{"byteLength": len(binary)}],
        "animations": [
            {
                "name": "go",
                "channels": [{"sampler": 0, "target": {"node": count - 1, "path": "rotation"}}],
                "samplers": [{"input": 4, "output": 5}],
            }
        ],
        "extras": {"price": 1.5, "tags": ["a", None, True]},
    }
    bones = {
        "hips": "pelvis",
        **{"spine": "spine_01", "chest": "spine_02", "upperChest": "spine_03", "neck": "neck_01", "head": "head"},
        **{
            f"{side}{bone}": f"{name}_{side[0]}"
            for side in ("left", "right")
            for bone, name in (
                *(("UpperLeg", "thigh"), ("LowerLeg", "calf"), ("Foot", "foot"), ("Toes", "ball")),
                *(("Shoulder", "clavicle"), ("UpperArm", "upperarm"), ("LowerArm", "lowerarm"), ("Hand", "hand")),
            )
        },
    }
    if vrm == "0":
        human = [{"bone": bone, "node": names.index(name)} for bone, name in bones.items()]
        content["extensions"] = {"VRM": {"specVersion": "0.0", "humanoid": {"humanBones": human}}}
    elif vrm == "1":
        human = {bone: {"node": names.index(name)} for bone, name in bones.items()}
        content["extensions"] = {"VRMC_vrm": {"specVersion": "1.0", "humanoid": {"humanBones": human}}}
    if vrm:  # the human bones are recognized by the extension alone
        for number, node in enumerate(nodes[:count]):
            node["name"] = f"part {number}"
    content |= extra or {}
    text = json.dumps(content).encode()
    text += b" " * (-len(text) % 4)
    padded = binary + bytes(-len(binary) % 4)
    data = struct.pack("<II", len(text), 0x4E4F534A) + text + struct.pack("<II", len(padded), 0x004E4942) + padded
    path.write_bytes(struct.pack("<4sII", b"glTF", 2, 12 + len(data)) + data)
    return names, parents, positions


def rest_turn(armature):
    matrix = np.eye(4)
    matrix[:3, :3] = rotations.to_matrix(armature)
    return matrix


class Glb:
    """A file read without the package: JSON, binary chunk, and positions of its nodes in its last animation."""

    def __init__(self, path):
        data = path.read_bytes()
        assert struct.unpack_from("<4sII", data) == (b"glTF", 2, len(data))
        size = struct.unpack_from("<I", data, 12)[0]
        self.json = json.loads(data[20 : 20 + size])
        self.binary = data[28 + size :]
        self.names = [node.get("name") for node in self.json["nodes"]]

    def array(self, index):
        accessor = self.json["accessors"][index]
        view = self.json["bufferViews"][accessor["bufferView"]]
        columns = {"SCALAR": 1, "VEC3": 3, "VEC4": 4}[accessor["type"]]
        start = view["byteOffset"]
        assert start % 4 == 0
        assert view["byteLength"] == 4 * columns * accessor["count"]
        assert start + view["byteLength"] <= self.json["buffers"][0]["byteLength"]
        values = np.frombuffer(self.binary, "<f4", accessor["count"] * columns, start)
        return values.reshape(-1, columns).astype(float)

    def positions(self):
        animation = self.json["animations"][-1]
        keys = {}
        for channel in animation["channels"]:
            sampler = animation["samplers"][channel["sampler"]]
            keys[channel["target"]["node"], channel["target"]["path"]] = self.array(sampler["output"])
        times = self.array(animation["samplers"][0]["input"])[:, 0]
        assert self.json["accessors"][animation["samplers"][0]["input"]]["max"] == [times[-1]]
        parents = {child: k for k, node in enumerate(self.json["nodes"]) for child in node.get("children", [])}
        world = {}

        def place(node):
            if node not in world:
                values = self.json["nodes"][node]
                local = np.tile(np.eye(4), (len(times), 1, 1))
                if "matrix" in values:
                    assert (node, "rotation") not in keys  # glTF does not allow it
                    local[:] = np.reshape(values["matrix"], (4, 4)).T
                else:
                    turn = keys.get((node, "rotation"), np.array([values.get("rotation", [0, 0, 0, 1])]))
                    np.testing.assert_allclose(np.linalg.norm(turn, axis=1), 1.0, atol=1e-6)
                    local[:, :3, :3] = rotations.to_matrix(turn[:, [3, 0, 1, 2]]) * values.get("scale", [1, 1, 1])
                    local[:, :3, 3] = keys.get((node, "translation"), values.get("translation", [0, 0, 0]))
                world[node] = place(parents[node]) @ local if node in parents else local
            return world[node]

        return np.stack([place(node)[:, :3, 3] for node in range(len(self.json["nodes"]))], axis=1)


ODD = (
    {"arms": 0.0},
    {"arms": 0.8, "seed": 1, "unit": 0.01, "z_up": True},
    {"arms": 1.4, "stretch": 1.3, "seed": 2, "unit": 0.01},
)


@pytest.mark.parametrize("options", ODD, ids=["T-pose", "A-pose, z up, cm, random axes", "arms down, long, cm"])
def test_limbs_point_where_the_motion_points(tmp_path, options):
    write_character(tmp_path / "hero.glb", **options)
    motion = moving()
    made = motion.on(tmp_path / "hero.glb", plant_feet=False)
    made.save(tmp_path / "out.glb")
    file = Glb(tmp_path / "out.glb")
    places = file.positions()
    rest = Glb(tmp_path / "hero.glb").positions()[:1]
    for upper, lower in BONES:
        before = motion.joints[:, JOINTS.index(lower)] - motion.joints[:, JOINTS.index(upper)]
        ends = [file.names.index(UNREAL[joint]) for joint in (upper, lower)]
        after, at_rest = (all_places[:, ends[1]] - all_places[:, ends[0]] for all_places in (places, rest))
        assert angles(before, after).max() < (0.1 if "shoulder" in upper or "elbow" in upper else 3.0)
        lengths = np.linalg.norm(after, axis=-1)
        np.testing.assert_allclose(lengths, np.linalg.norm(at_rest), rtol=1e-5)
    np.testing.assert_allclose(
        places[:, [file.names.index(n) for n in made.character.joint_names]], made.positions, atol=1e-5
    )
    for upper, lower in (("right_hip", "left_hip"), ("neck", "head")):
        before = motion.joints[:, JOINTS.index(lower)] - motion.joints[:, JOINTS.index(upper)]
        after = places[:, file.names.index(UNREAL[lower])] - places[:, file.names.index(UNREAL[upper])]
        assert angles(before, after).max() < 0.1
    trunk = [
        all_places[:, neck] - (all_places[:, hips[0]] + all_places[:, hips[1]]) / 2
        for all_places, neck, hips in (
            (motion.joints, JOINTS.index("neck"), (1, 2)),
            (places, file.names.index("neck_01"), (file.names.index("thigh_l"), file.names.index("thigh_r"))),
        )
    ]
    assert angles(*trunk).max() < 0.5


def test_the_rest_pose_stays_when_the_motion_stands_in_it():
    still = Motion(
        np.repeat(
            forward_kinematics(
                np.tile([1.0, 0, 0, 0], (1, 22, 1)), np.zeros((1, 3)), default_body(), HUMANML3D_22.parents
            ),
            8,
            axis=0,
        )
    )
    for rig in ("mixamo", "unreal", "rigify"):
        made = still.on(rig)
        for joint, turn in made.turns.items():
            if made.character.joint_names[joint] not in ("spine.006", "head", "mixamorig:Head"):
                assert np.degrees(2 * np.arccos(np.clip(np.abs(turn[:, 0]), 0, 1))).max() < 2.0


def test_everything_else_in_the_file_stays_as_it_is(tmp_path):
    write_character(tmp_path / "hero.glb", seed=3)
    moving().on(tmp_path / "hero.glb").save(tmp_path / "out.glb")
    before, after = Glb(tmp_path / "hero.glb"), Glb(tmp_path / "out.glb")
    size = before.json["buffers"][0]["byteLength"]
    assert size % 4  # the file ends within a word
    assert after.binary[:size] == before.binary[:size]
    for kind in ("accessors", "bufferViews", "animations"):
        assert after.json[kind][: len(before.json[kind])] == before.json[kind]
    same = {"asset", "scene", "scenes", "meshes", "skins", "extras"}
    assert {kind: after.json[kind] for kind in same} == {kind: before.json[kind] for kind in same}
    changed = [
        name
        for old, new, name in zip(before.json["nodes"], after.json["nodes"], before.names, strict=True)
        if old != new
    ]
    assert changed == ["lowerarm_l"]  # whose matrix cannot be animated
    assert [animation["name"] for animation in after.json["animations"]] == ["go", "go 2"]


def test_a_buffer_outside_the_binary_chunk_stays(tmp_path):
    from lamp_hf.motion.retarget.glb_document import GlbDocument

    document = GlbDocument()
    document.json["buffers"] = [{"uri": "data:application/octet-stream;base64,AAAA", "byteLength": 3}]
    document.add_array(np.float32([1.0, 2.0]), "SCALAR")
    document.add_array(np.float32([[3.0, 4.0, 5.0]]), "VEC3")
    again = GlbDocument(document.to_bytes())
    assert [buffer["byteLength"] for buffer in again.json["buffers"]] == [3, 20]
    assert [view["buffer"] for view in again.json["bufferViews"]] == [1, 1]
    assert [view["byteOffset"] for view in again.json["bufferViews"]] == [0, 8]


def test_other_joints_keep_their_rest_pose_and_twist_is_spread(tmp_path):
    write_character(tmp_path / "hero.glb")
    made = moving().on(tmp_path / "hero.glb")
    names = made.character.joint_names
    assert names.index("index_01_l") not in made.turns
    np.testing.assert_allclose(made.local_rotations(names.index("sword")), [[1.0, 0.0, 0.0, 0.0]] * 30, atol=1e-9)
    parent, twist, bone = (made.turn(names.index(name)) for name in ("clavicle_l", "upperarm_twist_01_l", "upperarm_l"))
    along = made.positions[:, names.index("lowerarm_l")] - made.positions[:, names.index("upperarm_l")]
    start = (
        made.character.rest_positions[names.index("lowerarm_l")]
        - made.character.rest_positions[names.index("upperarm_l")]
    )
    swing = rotations.multiply(rotations.between(rotations.rotate(parent, start), along), parent)

    def about(turn):
        change = rotations.multiply(turn, rotations.conjugate(swing))
        return 2 * np.arctan2(np.sum(change[:, 1:] * rotations.normalize(along), axis=-1), change[:, 0])

    assert np.abs(about(bone)).max() > 0.05
    np.testing.assert_allclose(about(twist), about(bone) / 2, atol=1e-6)


# ---- VRM ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["0", "1"])
def test_vrm(tmp_path, version):
    path = tmp_path / "hero.vrm"
    write_character(path, vrm=version)
    motion = moving(travel=1.0)
    made = motion.on(path, plant_feet=False)
    made.save(tmp_path / "out.vrm")
    assert Glb(tmp_path / "out.vrm").json["extensions"] == Glb(path).json["extensions"]
    # The motion goes to the front of the figure, which is -Z in VRM 0.x.
    way = made.positions[-1, made.character.anatomy.root] - made.positions[0, made.character.anatomy.root]
    assert np.sign(way[2]) == (-1.0 if version == "0" else 1.0)
    made.save(tmp_path / "out.vrma")
    animation = Glb(tmp_path / "out.vrma")
    extension = animation.json["extensions"]["VRMC_vrm_animation"]
    assert extension["specVersion"] == "1.0"
    assert extension["humanoid"]["humanBones"]["hips"] == {"node": animation.names.index("hips")}
    assert all("rotation" not in node for node in animation.json["nodes"])
    again = Motion.load(tmp_path / "out.vrma")
    for upper, lower in BONES:
        ways = [clip.joints[:, JOINTS.index(lower)] - clip.joints[:, JOINTS.index(upper)] for clip in (motion, again)]
        assert angles(*ways).max() < 4.0


# ---- BVH ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("z_up", [False, True])
def test_bvh_keeps_its_hierarchy(tmp_path, make_rig, make_bvh, slow_bvh, z_up):
    names = {joint: f"b_{joint}" for joint in JOINTS}
    joints = make_rig(names, ["b_spine_1", "b_spine_2"])
    for number, joint in enumerate(joints):
        joint.offset = np.asarray(joint.offset, float)
        if z_up:
            joint.offset = joint.offset[[0, 2, 1]] * [1.0, -1.0, 1.0]
        order = ("ZXY", "XYZ", "YZX")[number % 3]
        joint.channels = (*(c for c in joint.channels if "pos" in c), *(f"{axis}rotation" for axis in order))
    count = sum(len(joint.channels) for joint in joints)
    text = make_bvh(joints, [[0.0] * count] * 2)
    path = tmp_path / "hero.bvh"
    path.write_text(text)
    motion = moving(12)
    made = motion.on(path)
    made.save(tmp_path / "out.bvh")
    written = (tmp_path / "out.bvh").read_text()
    assert written.split("MOTION")[0] == text.split("MOTION")[0]
    assert "Frames: 12\n" in written
    found, places = slow_bvh(written)
    np.testing.assert_allclose(
        places, made.positions[:, [made.character.joint_names.index(n) for n in found]], atol=1e-3
    )
    again = Motion.load(tmp_path / "out.bvh")
    for upper, lower in BONES:
        ways = [clip.joints[:, JOINTS.index(lower)] - clip.joints[:, JOINTS.index(upper)] for clip in (motion, again)]
        assert angles(*ways).max() < 4.0


def test_bvh_whose_rest_pose_does_not_stand(tmp_path, make_rig, make_bvh):
    """All offsets of the legs point up, as in LAFAN1; only the frames show the body."""
    joints = make_rig({joint: joint for joint in JOINTS}, ["spine1", "spine2"])
    for joint in joints:
        if joint.name.endswith(("knee", "ankle", "foot")):
            joint.offset = np.asarray(joint.offset) * [1.0, -1.0, -1.0]
    text = make_bvh(joints, [[0.0] * sum(len(joint.channels) for joint in joints)])
    row = []
    for name in re.findall(r"(?:ROOT|JOINT) (\S+)", text):
        row += [0.0, 92.0, 0.0] * (name == "pelvis") + [0.0, 180.0 * name.endswith("hip"), 0.0]
    path = tmp_path / "hero.bvh"
    path.write_text(make_bvh(joints, [row, row]))
    character = Character.load(path)
    np.testing.assert_allclose(character.axes, np.eye(3), atol=1e-9)
    motion = moving(8)
    motion.on(character).save(tmp_path / "out.bvh")
    again = Motion.load(tmp_path / "out.bvh")
    for upper, lower in BONES:
        ways = [clip.joints[:, JOINTS.index(lower)] - clip.joints[:, JOINTS.index(upper)] for clip in (motion, again)]
        assert angles(*ways).max() < 4.0


# ---- feet and hinges ---------------------------------------------------------------------------------------


def test_feet_stay_on_the_floor_of_the_character(tmp_path):
    write_character(tmp_path / "hero.glb", arms=0.6, unit=0.01, seed=4)
    character = Character.load(tmp_path / "hero.glb")
    ball = character.joint_names.index("ball_l")
    assert character.floor == pytest.approx(character.rest_positions[ball, 1] - 0.01, abs=1e-6)  # the sole
    num_frames = 40
    local = np.tile([1.0, 0.0, 0.0, 0.0], (num_frames, 22, 1))
    bend = 0.4 + 0.2 * np.sin(np.linspace(0.0, 6.0, num_frames))
    for side in ("left", "right"):
        for part, share in (("hip", -1.0), ("knee", 2.0), ("ankle", -1.0)):
            local[:, JOINTS.index(f"{side}_{part}")] = rotations.about_axis("x", share * bend)
    joints = forward_kinematics(local, np.zeros((num_frames, 3)), default_body(), HUMANML3D_22.parents)
    joints[..., 1] -= joints[..., 10, 1:2]
    joints[..., 0] += 0.0005 * np.arange(num_frames)[:, None]  # slides by 1 cm per second
    motion = Motion(joints)
    places = motion.on(character).positions
    for name in ("foot_l", "foot_r", "ball_l", "ball_r"):
        joint = character.joint_names.index(name)
        assert np.ptp(places[:, joint, [0, 2]], axis=0).max() < 0.001
        assert np.abs(places[:, joint, 1] - character.rest_positions[joint, 1]).max() < 0.003
    sliding = motion.on(character, plant_feet=False).positions
    assert np.ptp(sliding[:, character.joint_names.index("foot_l"), 0]) > 0.015
    final = Motion(joints, final_feet=True)  # as loops are, which planting would break
    np.testing.assert_array_equal(final.on(character).positions, sliding)
    np.testing.assert_array_equal(final.on(character, plant_feet=True).positions, places)
    knee, hip, ankle = (places[:, character.joint_names.index(name)] for name in ("calf_l", "thigh_l", "foot_l"))
    assert (knee[:, 2] > (hip[:, 2] + ankle[:, 2]) / 2 + 0.05).all()  # forward


def test_a_foot_on_its_toes_does_not_sink(tmp_path):
    num_frames = 20
    local = np.tile([1.0, 0.0, 0.0, 0.0], (num_frames, 22, 1))
    rise = np.linspace(0.0, 0.9, num_frames)
    for joint, share in (("left_knee", 0.4), ("left_ankle", 1.0)):
        local[:, JOINTS.index(joint)] = rotations.about_axis("x", share * rise)
    joints = forward_kinematics(local, np.zeros((num_frames, 3)), default_body(), HUMANML3D_22.parents)
    joints[..., 1] -= joints[:, 11, 1][:, None]
    made = Motion(joints).on("unreal")
    skin = made.skin()
    assert skin[..., 1].min() > made.character.floor - 0.01
    toes = made.turn(made.character.joint_names.index("ball_l"))
    assert np.abs(rotations.rotate(toes, [0.0, 0.0, 1.0])[-1, 1]) < np.abs(
        rotations.rotate(made.turn(made.character.joint_names.index("foot_l")), [0.0, 0.0, 1.0])[-1, 1]
    )


def test_a_hinge_does_not_jump_when_a_limb_straightens():
    num_frames = 60
    bend = np.linspace(1.2, -0.12, num_frames)  # noise bends it backward at the end
    upper = np.tile([0.0, -1.0, 0.0], (num_frames, 1))
    lower = np.stack([np.zeros(num_frames), -np.cos(bend), -np.sin(bend)], axis=-1)
    body_turn = np.tile([1.0, 0.0, 0.0, 0.0], (num_frames, 1))
    found = hinge(upper, lower, body_turn, (np.array([0.0, -1.0, 0.0]), np.array([1.0, 0.0, 0.0])), 20.0)
    np.testing.assert_allclose(found, [[1.0, 0.0, 0.0]] * num_frames, atol=1e-6)
    # A limb that bends about another axis gets that axis.
    sideways = rotations.rotate(rotations.about_axis("y", 0.7), lower[:30])
    found = hinge(upper[:30], sideways, body_turn[:30], (np.array([0.0, -1.0, 0.0]), np.array([1.0, 0.0, 0.0])), 20.0)
    assert angles(found[:20], np.cross(upper[:20], sideways[:20])).max() < 3.0


def test_the_path_is_scaled_with_the_legs(tmp_path):
    write_character(tmp_path / "hero.glb", unit=0.01)
    character = Character.load(tmp_path / "hero.glb")
    motion = Motion(moving(travel=1.0).joints * 0.7)
    made = motion.on(character, plant_feet=False)
    way = made.positions[-1, character.anatomy.root] - made.positions[0, character.anatomy.root]
    assert way[[0, 2]] == pytest.approx([0.0, 1.0], abs=0.01)


# ---- rigs without a file, other skeletons ------------------------------------------------------------------


@pytest.mark.parametrize("rig", PRESETS)
def test_rigs(tmp_path, rig):
    motion = moving(12)
    for suffix in (".glb", ".bvh"):
        motion.on(rig).save(tmp_path / f"out{suffix}")
        again = Motion.load(tmp_path / f"out{suffix}")
        assert again.num_frames == 12
        for upper, lower in BONES:
            ways = [
                clip.joints[:, JOINTS.index(lower)] - clip.joints[:, JOINTS.index(upper)] for clip in (motion, again)
            ]
            assert angles(*ways).max() < 3.0


def test_kit_motions():
    motion = moving(skeleton=KIT_21)
    made = motion.on("unity")
    names = made.character.joint_names
    for start, end, bone in (("left_shoulder", "left_elbow", ("LeftUpperArm", "LeftLowerArm")),):
        before = np.diff(motion.joints[:, [KIT_21.joint_names.index(joint) for joint in (start, end)]], axis=1)[:, 0]
        after = np.diff(made.positions[:, [names.index(joint) for joint in bone]], axis=1)[:, 0]
        assert angles(before, after).max() < 0.1


# ---- refusals ----------------------------------------------------------------------------------------------


def test_a_character_without_a_person_is_refused(tmp_path, make_bvh, make_rig):
    joints = make_rig({joint: f"x{number}" for number, joint in enumerate(JOINTS)}, ["y1"])
    kept = [joint for joint in joints if joint.name not in {f"x{k}" for k in (16, 18, 20, 13)}]  # one arm
    path = tmp_path / "hero.bvh"
    path.write_text(make_bvh(kept, [[0.0] * sum(len(joint.channels) for joint in kept)] * 2))
    with pytest.raises(MotionFormatError, match=r"hero\.bvh: no joint found for .*It was not recognized by shape"):
        Character.load(path)


def test_missing_joints_are_named_with_those_that_were_found(tmp_path, make_bvh, make_rig):
    from lamp_hf.motion.formats.rigs import LAMP_HF_JOINT_NAMES

    joints = make_rig(dict(zip(JOINTS, LAMP_HF_JOINT_NAMES, strict=True)), ["Spine", "Spine1"])
    kept = [joint for joint in joints if joint.name not in ("LeftArm", "LeftForeArm", "LeftHand")]
    path = tmp_path / "hero.bvh"
    path.write_text(make_bvh(kept, [[0.0] * sum(len(joint.channels) for joint in kept)] * 2))
    with pytest.raises(MotionFormatError, match="no joint found for left_shoulder, left_elbow, left_wrist") as error:
        Character.load(path)
    assert "found pelvis = 'Hips', left_hip = 'LeftUpLeg', right_hip = 'RightUpLeg'" in str(error.value)


def test_bvh_without_rotation_channels_is_refused(tmp_path, make_bvh, make_rig):
    joints = make_rig({joint: joint for joint in JOINTS}, ["spine1"])
    for joint in joints:
        if joint.name == "left_knee":
            joint.channels = ("Xrotation",)
    path = tmp_path / "hero.bvh"
    path.write_text(make_bvh(joints, [[0.0] * sum(len(joint.channels) for joint in joints)] * 2))
    with pytest.raises(MotionFormatError, match="'left_knee' needs three rotation channels, found 1"):
        Character.load(path)


def test_files_that_cannot_be_written_are_refused(tmp_path, make_bvh, make_rig):
    write_character(tmp_path / "hero.glb")
    made = moving(4).on(tmp_path / "hero.glb")
    for name, message in (
        ("hero.glb", "would overwrite the character"),
        ("out.fbx", r"is saved as \.glb, \.vrm, \.vrma, \.bvh, found the suffix '\.fbx'"),
        ("out.vrm", "is no VRM file"),
        ("out.vrma", "has no human bones of VRM"),
    ):
        with pytest.raises(MotionFormatError, match=message):
            made.save(tmp_path / name)
    joints = make_rig({joint: joint for joint in JOINTS}, ["spine1"])
    (tmp_path / "hero.bvh").write_text(make_bvh(joints, [[0.0] * sum(len(joint.channels) for joint in joints)] * 2))
    with pytest.raises(MotionFormatError, match="is a BVH file, which has no figure"):
        moving(4).on(tmp_path / "hero.bvh").save(tmp_path / "out.glb")
    with pytest.raises(ValueError, match="rig 'blender': unknown; choose one of mixamo, unreal"):
        Character.of_rig("blender")
    with pytest.raises(MotionFormatError, match=r"a character is a \.glb, \.vrm, \.bvh file"):
        Character.load(tmp_path / "hero.fbx")


# ---- the shared characters ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["human-male.glb", "human-zombie.glb", "cryptovoxels.vrm", "animations_base.glb"])
def test_shared_characters(shared_dir, tmp_path, name):
    path = shared_dir / "data" / "characters" / name
    if not path.is_file():
        pytest.skip(f"needs the character {path}")
    motion = moving()
    made = motion.on(path)
    target = tmp_path / f"out{path.suffix}"
    made.save(target)
    before, after = Glb(path), Glb(target)
    size = before.json["buffers"][0]["byteLength"]
    assert after.binary[:size] == before.binary[:size]
    assert after.json["nodes"] == before.json["nodes"]
    front = made.character.axes
    turned = made.positions @ front.T
    for upper, lower in BONES:
        limb = made.character.anatomy
        side = 0 if upper.startswith("left") else 1
        part = (limb.arms if "shoulder" in upper or "elbow" in upper else limb.legs)[side]
        ends = (part.upper, part.lower) if upper.endswith(("hip", "shoulder")) else (part.lower, part.end)
        wanted = motion.joints[:, JOINTS.index(lower)] - motion.joints[:, JOINTS.index(upper)]
        assert angles(wanted, turned[:, ends[1]] - turned[:, ends[0]]).max() < 4.0
    nodes = np.array([after.names.index(one) for one in made.character.joint_names])
    np.testing.assert_allclose(after.positions()[:, nodes], made.positions, atol=1e-4)
    assert made.skin() @ front[1] == pytest.approx(np.maximum(made.skin() @ front[1], made.character.floor - 0.012))
