"""GLB files, read back by a small reader of their own."""

import json
import struct

import numpy as np
import pygltflib
import pytest
from safetensors.numpy import load_file

from lamp_hf.motion.gltf import write_glb
from lamp_hf.motion.motion import Motion
from lamp_hf.motion.skeleton import HUMANML3D_22, KIT_21

SKELETONS = pytest.mark.parametrize("skeleton", [HUMANML3D_22, KIT_21], ids=lambda skeleton: skeleton.name)
TYPES = {5126: "<f4", 5123: "<u2", 5121: "u1"}
COLUMNS = {"SCALAR": 1, "VEC3": 3, "VEC4": 4, "MAT4": 16}


class Glb:
    """A file's JSON and arrays, and its joints at every key."""

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
        """(T, nodes, 4, 4) by plain products of matrices from the root down."""
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
                assert (np.sum(values[1:] * values[:-1], axis=1) > 0).all()  # the short way between keys
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
def test_nodes_and_animation_give_the_joints_back(make_motion, tmp_path, skeleton, num_frames):
    motion = make_motion(skeleton=skeleton, num_frames=num_frames, fps=12.5, text="a person walks")
    write_glb(motion, tmp_path / "walk.glb")
    glb = Glb(tmp_path / "walk.glb")
    np.testing.assert_allclose(glb.joints(skeleton.joint_names), motion.joints, atol=1e-5)
    np.testing.assert_allclose(glb.times(), np.arange(num_frames) / 12.5, atol=1e-6)
    assert glb.json["animations"][0]["name"] == "a person walks"
    assert list(tmp_path.iterdir()) == [tmp_path / "walk.glb"]


def test_real_motion_comes_back_within_a_centimetre(golden, tmp_path):
    numbers = load_file(golden / "golden_features.safetensors")
    for clip in ("012314", "dataset-1_kick_normal_001", "dataset-2_walk-turn-left_normal_001"):
        joints = numbers[f"{clip}/global_positions"]
        write_glb(Motion(joints=joints, fps=20.0), tmp_path / "clip.glb")
        read = Glb(tmp_path / "clip.glb").joints(HUMANML3D_22.joint_names)
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
    assert glb.json["scenes"][0]["nodes"] == [0, skeleton.num_joints]  # the mesh beside, not below, the root


@SKELETONS
def test_limbs_are_solid_lie_about_their_bones_and_have_the_colour_of_their_side(make_motion, tmp_path, skeleton):
    write_glb(make_motion(skeleton=skeleton), tmp_path / "walk.glb")
    glb = Glb(tmp_path / "walk.glb")
    rest = glb.world_matrices(animated=False)[0, : skeleton.num_joints, :3, 3]
    primitives = glb.json["meshes"][0]["primitives"]
    names = [glb.json["materials"][primitive["material"]]["name"] for primitive in primitives]
    assert names == ["left", "right", "centre"]
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
        assert np.sum(a * faces) / 6.0 > 0.0005  # closed and right way out: a volume of half a litre or more
        near = np.linalg.norm(positions - rest[bones[:, 0]], axis=1)
        assert near.max() < 0.6
        if side != "centre":
            outer = np.isin(bones[:, 0], [skeleton.joint_names.index(f"{side}_{part}") for part in ("hip", "elbow")])
            assert outer.any()
            assert (np.sign(positions[outer, 0]) == (1.0 if side == "left" else -1.0)).all()


def test_any_text_makes_a_valid_file(make_motion, tmp_path):
    text = 'waves "both\nhands" \\ \x00 </script> ' + "é日本" * 100
    write_glb(make_motion(text=text), tmp_path / "a.glb")
    gltf = pygltflib.GLTF2().load(str(tmp_path / "a.glb"))
    assert gltf.animations[0].name.startswith('waves "both hands" \\')
    assert len(gltf.animations[0].name) <= 60
