"""GLB files, read by a small independent reader."""

import json
import struct

import numpy as np
import pygltflib
import pytest
from safetensors.numpy import load_file

from lamp_hf.motion.errors import MotionFormatError
from lamp_hf.motion.formats.bvh_parser import parse_bvh
from lamp_hf.motion.formats.gltf import write_glb
from lamp_hf.motion.formats.gltf_file import Curve
from lamp_hf.motion.formats.gltf_reader import read_gltf
from lamp_hf.motion.formats.rendering import Actor
from lamp_hf.motion.formats.rigs import LAMP_HF_JOINT_NAMES
from lamp_hf.motion.kinematics import default_body, retarget
from lamp_hf.motion.motion import Motion
from lamp_hf.motion.skeleton import HUMANML3D_22, KIT_21

SKELETONS = pytest.mark.parametrize("skeleton", [HUMANML3D_22, KIT_21], ids=lambda skeleton: skeleton.name)
TYPES = {5126: "<f4", 5123: "<u2", 5121: "u1"}
COLUMNS = {"SCALAR": 1, "VEC3": 3, "VEC4": 4, "MAT4": 16}


def names_in_files(skeleton):
    return LAMP_HF_JOINT_NAMES if skeleton == HUMANML3D_22 else skeleton.joint_names


class Glb:
    """JSON and arrays of a file, and its joints at every key."""

    def __init__(self, path):
        data = path.read_bytes()
        magic, version, length = struct.unpack_from("<4sII", data)
        assert (magic, version, length) == (b"glTF", 2, len(data))
        size, kind = struct.unpack_from("<I4s", data, 12)
        assert kind == b"JSON"
        self.json = json.loads(data[20 : 20 + size])
        binary_size, kind = struct.unpack_from("<I4s", data, 20 + size)
        assert kind == b"BIN\0"
        assert binary_size >= self.json["buffers"][0]["byteLength"]
        self.binary = data[28 + size :]

    def array(self, index):
        accessor = self.json["accessors"][index]
        view = self.json["bufferViews"][accessor["bufferView"]]
        columns = COLUMNS[accessor["type"]]
        values = np.frombuffer(
            self.binary, TYPES[accessor["componentType"]], accessor["count"] * columns, view["byteOffset"]
        )
        assert values.nbytes == view["byteLength"]
        values = values.reshape(accessor["count"], columns)
        if "min" in accessor:
            np.testing.assert_array_equal(accessor["min"], values.min(axis=0))
            np.testing.assert_array_equal(accessor["max"], values.max(axis=0))
        return values

    def times(self):
        return self.array(self.json["animations"][0]["samplers"][0]["input"])[:, 0]

    def world_matrices(self, *, animated=True):
        """Compute (T, nodes, 4, 4) by multiplying matrices from the root down."""
        nodes = self.json["nodes"]
        num_keys = len(self.times()) if animated else 1
        local = np.tile(np.eye(4), (num_keys, len(nodes), 1, 1))
        for index, node in enumerate(nodes):
            local[:, index, :3, 3] = node.get("translation", [0, 0, 0])
        for channel in self.json["animations"][0]["channels"] if animated else []:
            values = self.array(self.json["animations"][0]["samplers"][channel["sampler"]]["output"])
            node = channel["target"]["node"]
            if channel["target"]["path"] == "translation":
                local[:, node, :3, 3] = values
            else:
                np.testing.assert_allclose(np.linalg.norm(values, axis=1), 1.0, atol=1e-6)
                assert (np.sum(values[1:] * values[:-1], axis=1) > 0).all()  # the shorter arc between keys
                x, y, z, w = values.astype(np.float64).T
                rows = [
                    [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
                    [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
                    [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
                ]
                local[:, node, :3, :3] = np.moveaxis(np.array(rows), -1, 0)
        world = local.copy()

        def descend(index):
            for child in nodes[index].get("children", []):
                world[:, child] = world[:, index] @ local[:, child]
                descend(child)

        descend(0)
        return world

    def joints(self, names):
        places = {node["name"]: index for index, node in enumerate(self.json["nodes"])}
        return self.world_matrices()[:, [places[name] for name in names]][..., :3, 3]


@SKELETONS
@pytest.mark.parametrize("num_frames", [1, 15])
def test_nodes_and_animation_reproduce_the_joints(make_motion, tmp_path, skeleton, num_frames):
    motion = make_motion(skeleton=skeleton, num_frames=num_frames, fps=12.5, text="a person walks")
    write_glb(motion, tmp_path / "walk.glb")
    glb = Glb(tmp_path / "walk.glb")
    np.testing.assert_allclose(glb.joints(names_in_files(skeleton)), motion.joints, atol=1e-5)
    np.testing.assert_allclose(glb.times(), np.arange(num_frames) / 12.5, atol=1e-6)
    assert glb.json["animations"][0]["name"] == "a person walks"
    assert list(tmp_path.iterdir()) == [tmp_path / "walk.glb"]


def test_real_motion_round_trips_within_a_centimeter(golden, tmp_path):
    numbers = load_file(golden / "golden_features.safetensors")
    for clip in ("012314", "dataset-1_kick_normal_001", "dataset-2_walk-turn-left_normal_001"):
        joints = numbers[f"{clip}/global_positions"]
        write_glb(Motion(joints=joints, fps=20.0), tmp_path / "clip.glb")
        read = Glb(tmp_path / "clip.glb").joints(names_in_files(HUMANML3D_22))
        assert np.linalg.norm(read - joints, axis=-1).mean() < 0.01


@SKELETONS
def test_skin_binds_the_mesh_to_a_t_pose_on_the_floor(make_motion, tmp_path, skeleton):
    motion = make_motion(skeleton=skeleton)
    write_glb(motion, tmp_path / "walk.glb")
    glb = Glb(tmp_path / "walk.glb")
    rest = glb.world_matrices(animated=False)[0, : skeleton.num_joints]
    skin = glb.json["skins"][0]
    assert skin["joints"] == list(range(skeleton.num_joints))
    inverse_bind = glb.array(skin["inverseBindMatrices"]).reshape(-1, 4, 4).swapaxes(1, 2)
    np.testing.assert_allclose(inverse_bind @ rest, np.tile(np.eye(4), (len(rest), 1, 1)), atol=1e-6)
    assert rest[:, 1, 3].min() == pytest.approx(0.0, abs=1e-6)
    wrists = [rest[skeleton.joint_names.index(f"{side}_wrist"), :3, 3] for side in ("left", "right")]
    assert wrists[0][0] > 0.3
    assert wrists[1][0] < -0.3
    assert glb.json["scenes"][0]["nodes"] == [0, skeleton.num_joints]  # the mesh is a sibling, not a child, of the root


@SKELETONS
def test_limbs_are_closed_surround_their_bones_and_have_the_color_of_their_side(make_motion, tmp_path, skeleton):
    write_glb(make_motion(skeleton=skeleton), tmp_path / "walk.glb", style="skeleton")
    glb = Glb(tmp_path / "walk.glb")
    rest = glb.world_matrices(animated=False)[0, : skeleton.num_joints, :3, 3]
    primitives = glb.json["meshes"][0]["primitives"]
    names = [glb.json["materials"][primitive["material"]]["name"] for primitive in primitives]
    assert names == ["left", "right", "center"]
    for primitive, side in zip(primitives, names, strict=True):
        positions, normals, bones, weights = (
            glb.array(primitive["attributes"][key]) for key in ("POSITION", "NORMAL", "JOINTS_0", "WEIGHTS_0")
        )
        np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1.0, atol=1e-5)
        np.testing.assert_array_equal(weights, np.tile([1.0, 0.0, 0.0, 0.0], (len(positions), 1)))
        triangles = glb.array(primitive["indices"])[:, 0].reshape(-1, 3)
        assert triangles.max() == len(positions) - 1
        a, b, c = (positions[triangles[:, corner]].astype(np.float64) for corner in range(3))
        faces = np.cross(b - a, c - a)
        assert (np.sum(faces * normals[triangles].sum(axis=1), axis=1) > 0).all()  # seen from outside
        assert np.sum(a * faces) / 6.0 > 0.0005  # closed and facing outward: a volume of at least 0.5 liters
        near = np.linalg.norm(positions - rest[bones[:, 0]], axis=1)
        assert near.max() < 0.6
        if side != "center":
            outer = np.isin(bones[:, 0], [skeleton.joint_names.index(f"{side}_{part}") for part in ("hip", "elbow")])
            assert outer.any()
            assert (np.sign(positions[outer, 0]) == (1.0 if side == "left" else -1.0)).all()


@SKELETONS
def test_the_mannequin_is_one_small_skinned_mesh(make_motion, tmp_path, skeleton):
    motion = make_motion(skeleton=skeleton, num_frames=1)
    write_glb(motion, tmp_path / "a.glb")
    assert (tmp_path / "a.glb").stat().st_size < 200_000
    glb = Glb(tmp_path / "a.glb")
    (mesh,) = glb.json["meshes"]
    names = [glb.json["materials"][primitive["material"]]["name"] for primitive in mesh["primitives"]]
    assert sorted(names) == ["center", "left", "right"]
    (attributes,) = {tuple(sorted(primitive["attributes"].items())) for primitive in mesh["primitives"]}
    attributes = dict(attributes)
    accessors = {name: glb.json["accessors"][index] for name, index in attributes.items()}
    kinds = {name: (accessor["componentType"], accessor["type"]) for name, accessor in accessors.items()}
    assert kinds == {
        "POSITION": (5126, "VEC3"),
        "NORMAL": (5126, "VEC3"),
        "JOINTS_0": (5121, "VEC4"),
        "WEIGHTS_0": (5121, "VEC4"),
    }
    assert accessors["WEIGHTS_0"]["normalized"]
    assert not accessors["JOINTS_0"].get("normalized")
    body = Actor.of(motion).mannequin
    np.testing.assert_array_equal(glb.array(attributes["POSITION"]), body.positions)
    np.testing.assert_array_equal(glb.array(attributes["JOINTS_0"]), body.joints)
    assert (glb.array(attributes["WEIGHTS_0"]).astype(int).sum(axis=1) == 255).all()
    indices = [glb.array(primitive["indices"])[:, 0] for primitive in mesh["primitives"]]
    assert sum(map(len, indices)) == body.triangles.size
    assert max(part.max() for part in indices) == len(body.positions) - 1


def test_a_viewer_moves_the_mannequin_like_the_renderer(make_motion, tmp_path):
    motion = make_motion(num_frames=12)
    write_glb(motion, tmp_path / "a.glb")
    glb = Glb(tmp_path / "a.glb")
    skin, primitive = glb.json["skins"][0], glb.json["meshes"][0]["primitives"][0]
    bind = glb.array(skin["inverseBindMatrices"]).reshape(-1, 4, 4).swapaxes(1, 2).astype(float)
    positions, joints, weights = (
        glb.array(primitive["attributes"][name]) for name in ("POSITION", "JOINTS_0", "WEIGHTS_0")
    )
    moves = glb.world_matrices()[7, skin["joints"]] @ bind
    blended = np.einsum("vk,vkij->vij", weights / 255.0, moves[joints])
    places = np.einsum("vij,vj->vi", blended, np.pad(positions, ((0, 0), (0, 1)), constant_values=1.0))[:, :3]
    np.testing.assert_allclose(places, Actor.of(motion).pose(7)[0], atol=1e-4)


def test_any_text_gives_a_valid_file(make_motion, tmp_path):
    text = 'waves "both\nhands" \\ \x00 </script> ' + "é日本" * 100
    write_glb(make_motion(text=text), tmp_path / "a.glb")
    gltf = pygltflib.GLTF2().load(str(tmp_path / "a.glb"))
    assert gltf.animations[0].name.startswith('waves "both hands" \\')
    assert len(gltf.animations[0].name) <= 60


# ---- one body --------------------------------------------------------------------------------------------


def generated(make_motion, seed=0, **options):
    """Return two different motions made of features, with bone lengths that vary over time and between sides."""
    motion = make_motion(**options)
    noise = np.random.default_rng(seed).normal(scale=0.01 + 0.01 * seed, size=motion.features.shape)
    return Motion(features=motion.features + noise.astype(np.float32), fps=20)


def hierarchy(path):
    return path.read_text().partition("MOTION")[0]


def test_generated_motions_share_one_symmetric_body(make_motion, tmp_path):
    files = []
    for seed in (0, 1):
        motion = generated(make_motion, seed, raise_arm=("left", "right")[seed])
        motion.save(tmp_path / f"{seed}.bvh")
        motion.resample(30).mirror().save(tmp_path / f"{seed}b.bvh")
        motion.save(tmp_path / f"{seed}.glb")
        files.append(motion)
    texts = {hierarchy(tmp_path / f"{name}.bvh") for name in ("0", "1", "0b", "1b")}
    assert len(texts) == 1
    glbs = [Glb(tmp_path / f"{seed}.glb").json for seed in (0, 1)]
    assert [n.get("translation") for n in glbs[0]["nodes"]] == [n.get("translation") for n in glbs[1]["nodes"]]
    names = {line.split()[1] for line in next(iter(texts)).splitlines() if line.strip().startswith(("ROOT", "JOINT"))}
    assert names == {node["name"] for node in glbs[0]["nodes"]} - {"body"}  # both formats use the same joint names
    body = default_body()
    mirrored = body[HUMANML3D_22.mirror_permutation] * [-1.0, 1.0, 1.0]
    np.testing.assert_allclose(body, mirrored, atol=1e-12)


def test_both_formats_contain_the_same_motion(make_motion, tmp_path):
    motion = generated(make_motion)
    motion.save(tmp_path / "a.bvh")
    motion.save(tmp_path / "a.glb")
    np.testing.assert_allclose(
        Motion.load(tmp_path / "a.glb").joints, Motion.load(tmp_path / "a.bvh").joints, atol=1e-4
    )


def test_foot_slopes_in_the_rest_pose_and_toes_are_on_the_floor(make_motion, tmp_path):
    generated(make_motion).save(tmp_path / "a.bvh", unit="m")
    clip = parse_bvh(tmp_path / "a.bvh")
    rest = clip.offsets.copy()
    for joint, parent in enumerate(clip.parents):
        if parent >= 0:
            rest[joint] += rest[parent]
    at = dict(zip(clip.joint_names, rest, strict=True))
    for side in ("Left", "Right"):
        ankle, toe, end = (at[f"{side}{part}"] for part in ("Foot", "ToeBase", "ToeBase End"))
        assert 0.05 < ankle[1] - toe[1] < 0.1
        assert 0.3 < (ankle[1] - toe[1]) / (toe[2] - ankle[2]) < 0.7
        assert end[1] == pytest.approx(toe[1], abs=1e-6)
        assert end[2] > toe[2] + 0.03


def test_recordings_keep_their_bone_lengths_by_default(make_motion, tmp_path):
    take = make_motion()
    take.save(tmp_path / "take.bvh")
    np.testing.assert_allclose(Motion.load(tmp_path / "take.bvh").joints, take.joints, atol=1e-4)
    take.save(tmp_path / "default.bvh", own_body=False)
    generated(make_motion).save(tmp_path / "generated.bvh")
    assert hierarchy(tmp_path / "default.bvh") == hierarchy(tmp_path / "generated.bvh")
    assert hierarchy(tmp_path / "take.bvh") != hierarchy(tmp_path / "default.bvh")


def test_feet_are_as_close_to_the_floor_on_the_default_body(make_motion):
    take = make_motion(num_frames=40)
    small = Motion(joints=take.joints * 0.6, fps=20)
    body = default_body()
    moved = retarget(small.joints, body)
    lengths = np.linalg.norm(moved[:, 1:] - moved[:, list(HUMANML3D_22.parents[1:])], axis=-1)
    np.testing.assert_allclose(lengths, np.tile(np.linalg.norm(body[1:], axis=-1), (40, 1)), atol=1e-9)
    feet = list(HUMANML3D_22.contact_joints)
    low = [np.quantile(joints[:, feet, 1].min(axis=1), 0.1) for joints in (small.joints, moved)]
    assert low[0] == pytest.approx(low[1], abs=1e-6)


# ---- reading ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fps", [20, 24, 30, 60, 120])
def test_written_files_round_trip(make_motion, tmp_path, fps):
    motion = make_motion(num_frames=30, fps=fps, text="a person walks")
    write_glb(motion, tmp_path / "walk.glb")
    read = Motion.load(tmp_path / "walk.glb")
    assert (read.fps, read.num_frames) == (fps, 30)
    np.testing.assert_allclose(read.joints, motion.joints, atol=1e-3)
    times = Glb(tmp_path / "walk.glb").times().astype(np.float64) * fps
    assert (times >= np.arange(30)).all()  # never slightly before a frame
    np.testing.assert_allclose(times, np.arange(30), atol=1e-4)


def changed(path, change):
    """Rewrite a GLB after a change to the pygltflib object."""
    gltf = pygltflib.GLTF2().load_binary(str(path))
    change(gltf)
    gltf.save_binary(str(path))


def test_animations_are_chosen_by_name_and_index(make_motion, tmp_path, caplog):
    path = tmp_path / "two.glb"
    motion = make_motion(text="first")
    write_glb(motion, path)

    def add_still(gltf):
        still = pygltflib.Animation(name="still", samplers=gltf.animations[0].samplers[:1])
        still.channels = gltf.animations[0].channels[:1]
        gltf.animations.append(still)

    changed(path, add_still)
    np.testing.assert_allclose(Motion.load(path).joints, motion.joints, atol=1e-4)
    assert "2 animations; using the first, 'first' (choose with animation=" in caplog.text
    rest = Motion.load(path, animation="still").joints
    np.testing.assert_allclose(rest - rest[:, :1], np.broadcast_to((rest - rest[:, :1])[0], rest.shape), atol=1e-5)
    np.testing.assert_array_equal(Motion.load(path, animation=1).joints, rest)
    with pytest.raises(MotionFormatError, match=r"two\.glb: no animation 'run'; the file contains 'first', 'still'"):
        Motion.load(path, animation="run")
    changed(path, lambda gltf: gltf.animations.clear())
    with pytest.raises(MotionFormatError, match=r"two\.glb: the file does not contain an animation"):
        Motion.load(path)


def test_error_lists_some_of_many_animations(make_motion, tmp_path, caplog):
    path = tmp_path / "pack.glb"
    write_glb(make_motion(text="first"), path)

    def add_others(gltf):
        first = gltf.animations[0]
        gltf.animations += [
            pygltflib.Animation(name=f"a{n}", samplers=first.samplers, channels=first.channels) for n in range(43)
        ]

    changed(path, add_others)
    Motion.load(path)
    assert "44 animations; using the first, 'first'" in caplog.text
    assert "'a6' and 36 more)" in caplog.text
    assert "'a7'" not in caplog.text


def test_keyframes_are_sampled_as_gltf_defines():
    times = np.array([0.0, 1.0, 3.0])
    values = np.array([[0.0, 0.0, 0.0], [2.0, 0.0, 0.0], [2.0, 4.0, 0.0]])
    at = np.array([-1.0, 0.5, 1.0, 2.0, 9.0])
    linear = Curve(0, "translation", times, values, "LINEAR").at(at)
    np.testing.assert_allclose(linear, [[0, 0, 0], [1, 0, 0], [2, 0, 0], [2, 2, 0], [2, 4, 0]])
    step = Curve(0, "translation", times, values, "STEP").at(at)
    np.testing.assert_allclose(step, [[0, 0, 0], [0, 0, 0], [2, 0, 0], [2, 0, 0], [2, 4, 0]])
    # A cubic with the tangents of x = t^3 - t follows it exactly; out-tangents are for the whole interval.
    keys = np.array([0.0, 2.0])
    cubic = np.zeros((2, 3, 3))
    cubic[:, 1, 0] = keys**3 - keys
    cubic[:, 0, 0] = cubic[:, 2, 0] = 3 * keys**2 - 1
    found = Curve(0, "translation", keys, cubic.reshape(6, 3), "CUBICSPLINE").at(np.array([0.5, 1.5]))
    np.testing.assert_allclose(found[:, 0], [0.5**3 - 0.5, 1.5**3 - 1.5])
    half = Curve(0, "rotation", keys, np.array([[1.0, 0, 0, 0], [0.0, 0, 1, 0]]), "LINEAR").at(np.array([1.0]))
    np.testing.assert_allclose(half, [[np.sqrt(0.5), 0, np.sqrt(0.5), 0]])


def test_vrm_animations_use_their_bone_names(make_motion, tmp_path):
    path = tmp_path / "walk.vrma"
    motion = make_motion()
    write_glb(motion, tmp_path / "walk.glb")
    (tmp_path / "walk.glb").rename(path)
    humanoid = dict(
        zip(
            HUMANML3D_22.joint_names,
            (
                *("hips", "leftUpperLeg", "rightUpperLeg", "spine", "leftLowerLeg", "rightLowerLeg", "chest"),
                *("leftFoot", "rightFoot", "upperChest", "leftToes", "rightToes", "neck", "leftShoulder"),
                *("rightShoulder", "head", "leftUpperArm", "rightUpperArm", "leftLowerArm", "rightLowerArm"),
                *("leftHand", "rightHand"),
            ),
            strict=True,
        )
    )

    def name_bones(gltf):
        bones = {bone: {"node": index} for index, bone in enumerate(humanoid.values())}
        gltf.extensions = {"VRMC_vrm_animation": {"specVersion": "1.0", "humanoid": {"humanBones": bones}}}
        for index, node in enumerate(gltf.nodes):
            node.name = f"J{index}"

    changed(path, name_bones)
    read = Motion.load(path)
    limbs = [HUMANML3D_22.joint_names.index(f"{s}_{p}") for s in ("left", "right") for p in ("hip", "knee", "ankle")]
    limbs += [HUMANML3D_22.joint_names.index(f"{s}_{p}") for s in ("left", "right") for p in ("elbow", "wrist")]
    np.testing.assert_allclose(read.joints[:, limbs], motion.joints[:, limbs], atol=1e-3)


def test_damaged_files_raise_only_format_errors(make_motion, tmp_path):
    path = tmp_path / "walk.glb"
    write_glb(make_motion(num_frames=3), path)
    whole = path.read_bytes()
    json_size = struct.unpack_from("<I", whole, 12)[0]
    random = np.random.default_rng(0)
    refused = 0
    for attempt in range(400):
        data = bytearray(whole)
        # Change digits of the JSON part, which makes indices, counts and offsets invalid.
        for place in random.integers(20 if attempt % 3 else 0, 20 + json_size, random.integers(1, 4)):
            data[place] = random.integers(256) if attempt % 2 else random.choice(list(b"0123456789-[]{}"))
        path.write_bytes(data[: random.integers(1, len(data))] if attempt % 10 == 0 else data)
        try:
            assert np.isfinite(read_gltf(path).joints).all()
        except MotionFormatError as error:
            assert "walk.glb" in str(error)
            refused += 1
    assert refused > 50


@pytest.mark.filterwarnings("error")
def test_signaling_nans_are_refused_without_a_warning(make_motion, tmp_path):
    path = tmp_path / "a.glb"
    write_glb(make_motion(num_frames=5), path)
    data = bytearray(path.read_bytes())
    times = Glb(path).json
    view = times["bufferViews"][times["accessors"][times["animations"][0]["samplers"][0]["input"]]["bufferView"]]
    start = data.index(b"BIN\0") + 4 + view["byteOffset"]
    data[start : start + 4] = b"\x01\x00\xa0\x7f"
    path.write_bytes(data)
    with pytest.raises(MotionFormatError, match=r"a\.glb: keys of node \d+ are out of order or not finite"):
        read_gltf(path)


def test_external_buffers_are_not_opened(make_motion, tmp_path):
    path = tmp_path / "walk.glb"
    write_glb(make_motion(num_frames=3), path)
    (tmp_path / "secret.bin").write_bytes(bytes(100_000))
    inner = tmp_path / "inner"
    inner.mkdir()
    gltf = pygltflib.GLTF2().load(str(path))
    gltf.buffers[0].uri = "../secret.bin"
    (inner / "walk.gltf").write_text(gltf.to_json())
    with pytest.raises(MotionFormatError, match=r"its buffer '\.\./secret\.bin' is not in the same folder"):
        Motion.load(inner / "walk.gltf")
    (inner / "walk.bin").write_bytes(gltf.binary_blob())
    gltf.buffers[0].uri = "walk.bin"
    (inner / "walk.gltf").write_text(gltf.to_json())
    assert Motion.load(inner / "walk.gltf").num_frames == 3


# ---- files of other programs -----------------------------------------------------------------------------


def foreign_file(path, motion, *, interpolation="LINEAR", keys=slice(None), first=0.0, groups=(), units=1.0, **change):
    """Write a motion like other exporters: nodes in any order, parent groups, and various keys and types.

    Args:
        path: file to write.
        motion: a body with constant bone lengths.
        interpolation: interpolation of all curves.
        keys: frames that have keys.
        first: time of the first key, seconds.
        groups: rotation (x, y, z, w) and scale of parent nodes of the body, innermost first.
        units: units per meter in the body's nodes.
        change: "names" returns each joint's name; "matrices" writes matrices instead of translations; "integers" stores
            rotations as normalized 16-bit integers.
    """
    local, root, offsets = motion.rotations
    order = np.random.default_rng(5).permutation(22)
    place = {int(joint): index for index, joint in enumerate(order)}
    gltf, blob = pygltflib.GLTF2(asset=pygltflib.Asset(version="2.0")), bytearray()
    for joint in order:
        children = [place[k] for k in range(22) if HUMANML3D_22.parents[k] == joint]
        node = pygltflib.Node(name=change.get("names", LAMP_HF_JOINT_NAMES)[joint], children=children)
        shift = (offsets[joint] * units).tolist()
        if change.get("matrices"):
            node.matrix = [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, *shift, 1]
        else:
            node.translation = shift
        gltf.nodes.append(node)
    top = place[0]
    for turn, scale in groups:
        gltf.nodes.append(pygltflib.Node(name="group", children=[top], rotation=list(turn), scale=[scale] * 3))
        top = len(gltf.nodes) - 1
    gltf.nodes.append(pygltflib.Node(name="Camera", translation=[0, 5, 5]))
    gltf.scenes = [pygltflib.Scene(nodes=[top, len(gltf.nodes) - 1])]

    def add(values, shape, kind=5126):
        data = np.ascontiguousarray(values).tobytes()
        gltf.bufferViews.append(pygltflib.BufferView(buffer=0, byteOffset=len(blob), byteLength=len(data)))
        view = len(gltf.bufferViews) - 1
        blob.extend(data + bytes(-len(data) % 4))
        gltf.accessors.append(
            pygltflib.Accessor(
                bufferView=view, componentType=kind, count=len(values), type=shape, normalized=kind != 5126
            )
        )
        return len(gltf.accessors) - 1

    animation = pygltflib.Animation(name="act")
    times = np.arange(len(local)) / motion.fps
    curves = [(joint, "rotation", local[:, joint][:, [1, 2, 3, 0]]) for joint in range(22)]
    for joint, kind, values in [*curves, (0, "translation", root * units)]:
        slopes = np.gradient(values, times, axis=0)[keys] if interpolation == "CUBICSPLINE" else None
        values = values[keys]
        if slopes is not None:
            values = np.stack([slopes, values, slopes], axis=1).reshape(-1, values.shape[-1])
        if kind == "rotation" and change.get("integers"):
            output = add(np.round(values * 32767).astype("<i2"), "VEC4", 5122)
        else:
            output = add(values.astype("<f4"), "VEC4" if kind == "rotation" else "VEC3")
        source = add((times[keys] + first).astype("<f4"), "SCALAR")
        target = pygltflib.AnimationChannelTarget(node=place[joint], path=kind)
        animation.channels.append(pygltflib.AnimationChannel(sampler=len(animation.samplers), target=target))
        animation.samplers.append(pygltflib.AnimationSampler(input=source, output=output, interpolation=interpolation))
    gltf.animations = [animation]
    gltf.buffers = [pygltflib.Buffer(byteLength=len(blob))]
    gltf.set_binary_blob(bytes(blob))
    gltf.save_binary(str(path))


UPRIGHT, LAID = (0.0, 0.0, 0.0, 1.0), (-(0.5**0.5), 0.0, 0.0, 0.5**0.5)
SANITIZED = [f"mixamorig{name}_0{index}" for index, name in enumerate(LAMP_HF_JOINT_NAMES)]


@pytest.mark.parametrize(
    ("options", "limit_m"),
    [
        ({}, 1e-5),
        ({"interpolation": "STEP"}, 1e-5),
        ({"interpolation": "CUBICSPLINE"}, 1e-5),
        ({"interpolation": "CUBICSPLINE", "keys": slice(None, None, 5)}, 0.02),
        ({"interpolation": "CUBICSPLINE", "keys": [0, 2, 4, 7, 9, 12, 15, 17, 20, 22, 25, 28, 30]}, 0.02),
        ({"keys": [0, 1, 2, 4, 5, 6, 8, 9, 10, 11, 13, 14, 15, 17, 18, 20, 21, 22, 24, 25, 27, 28, 30]}, 0.02),
        ({"first": 1.5}, 1e-4),
        ({"units": 100.0, "groups": [(UPRIGHT, 0.01)]}, 1e-5),
        ({"units": 100.0}, 1e-5),
        ({"units": 10.0, "groups": [(UPRIGHT, 100.0), (UPRIGHT, 0.01), (UPRIGHT, 0.1)]}, 1e-5),
        ({"groups": [(LAID, 1.0), ((0.5**0.5, 0.0, 0.0, 0.5**0.5), 1.0)]}, 1e-5),
        ({"matrices": True}, 1e-5),
        ({"integers": True}, 1e-3),
        ({"names": SANITIZED}, 0.16),  # recognized as Mixamo's, whose pelvis is raised
    ],
)
def test_files_from_other_programs_are_read(make_motion, tmp_path, options, limit_m):
    motion = make_motion(num_frames=31, fps=30)
    foreign_file(tmp_path / "other.glb", motion, **options)
    read = read_gltf(tmp_path / "other.glb")
    assert (read.num_frames, read.fps) == (31, 30.0)
    limbs = [k for k, name in enumerate(HUMANML3D_22.joint_names) if "spine" not in name and k]
    assert np.abs(read.joints - motion.joints)[:, limbs].max() < limit_m


def test_vrm_suffixes(make_motion, tmp_path):
    motion = make_motion(num_frames=9, fps=30)
    foreign_file(tmp_path / "avatar.glb", motion)
    (tmp_path / "avatar.glb").rename(tmp_path / "avatar.vrm")
    assert Motion.load(tmp_path / "avatar.vrm").num_frames == 9
