"""Characters for well-known rigs, without a file: the joint names of the rig on a body of average proportions."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from lamp_hf.motion.formats.drawing import COLORS, body_size
from lamp_hf.motion.formats.gltf import body_mesh, linear_color, rest_positions
from lamp_hf.motion.formats.hierarchy import Hierarchy
from lamp_hf.motion.kinematics import default_body
from lamp_hf.motion.retarget.character import Character, Skin, build_character
from lamp_hf.motion.retarget.glb import GltfSource
from lamp_hf.motion.retarget.glb_document import GlbDocument
from lamp_hf.motion.skeleton import HUMANML3D_22, rest_pose_offsets

__all__ = ["PRESETS", "make_character"]

_ARRAY_BUFFER, _ELEMENT_ARRAY_BUFFER = 34962, 34963
_HAND = 0.35  # position of the joint of SMPL's hands beyond the wrist, relative to the forearm


class Preset(NamedTuple):
    """Joint names of a rig.

    Attributes:
        names: names of HumanML3D's joints, in its order; {0} is the side in `sides`.
        sides: words for left and right.
        root: name of a joint on the floor above the pelvis; empty if there is none.
        upper_neck: name of a second neck joint; empty if there is none.
        hand: name of a joint in the hand; empty if there is none.
        human_bones: whether the names are the human bones of VRM.
    """

    names: Mapping[str, str]
    sides: tuple[str, str]
    root: str = ""
    upper_neck: str = ""
    hand: str = ""
    human_bones: bool = False


_PARTS = "pelvis spine1 spine2 spine3 neck head hip knee ankle foot collar shoulder elbow wrist"


def _names(text: str) -> dict[str, str]:
    return dict(zip(_PARTS.split(), text.split(), strict=True))


PRESETS: Mapping[str, Preset] = {
    "mixamo": Preset(
        _names(
            "mixamorig:Hips mixamorig:Spine mixamorig:Spine1 mixamorig:Spine2 mixamorig:Neck mixamorig:Head "
            "mixamorig:{0}UpLeg mixamorig:{0}Leg mixamorig:{0}Foot mixamorig:{0}ToeBase "
            "mixamorig:{0}Shoulder mixamorig:{0}Arm mixamorig:{0}ForeArm mixamorig:{0}Hand"
        ),
        ("Left", "Right"),
    ),
    "unreal": Preset(
        _names(
            "pelvis spine_01 spine_02 spine_03 neck_01 head thigh_{0} calf_{0} foot_{0} ball_{0} "
            "clavicle_{0} upperarm_{0} lowerarm_{0} hand_{0}"
        ),
        ("l", "r"),
        root="root",
    ),
    "unity": Preset(
        _names(
            "Hips Spine Chest UpperChest Neck Head {0}UpperLeg {0}LowerLeg {0}Foot {0}Toes "
            "{0}Shoulder {0}UpperArm {0}LowerArm {0}Hand"
        ),
        ("Left", "Right"),
    ),
    "vrm": Preset(
        _names(
            "hips spine chest upperChest neck head {0}UpperLeg {0}LowerLeg {0}Foot {0}Toes "
            "{0}Shoulder {0}UpperArm {0}LowerArm {0}Hand"
        ),
        ("left", "right"),
        human_bones=True,
    ),
    "rigify": Preset(
        _names(
            "spine spine.001 spine.002 spine.003 spine.004 spine.006 thigh.{0} shin.{0} foot.{0} toe.{0} "
            "shoulder.{0} upper_arm.{0} forearm.{0} hand.{0}"
        ),
        ("L", "R"),
        upper_neck="spine.005",
    ),
    "smpl": Preset(
        _names(
            "Pelvis Spine1 Spine2 Spine3 Neck Head {0}_Hip {0}_Knee {0}_Ankle {0}_Foot "
            "{0}_Collar {0}_Shoulder {0}_Elbow {0}_Wrist"
        ),
        ("L", "R"),
        hand="{0}_Hand",
    ),
}


def make_character(rig: str) -> Character:
    """Make the character of a rig; see `Character.of_rig`."""
    if rig not in PRESETS:
        raise ValueError(f"rig {rig!r}: unknown; choose one of {', '.join(PRESETS)}")
    preset = PRESETS[rig]
    # SMPL's rest pose is that of its mean body; the other rigs get a T-pose with straight limbs.
    offsets = rest_pose_offsets() if rig == "smpl" else default_body()
    body = rest_positions(offsets, HUMANML3D_22)
    names, parents, positions, places = _joints(preset, body)
    mapping = {target: names[place] for target, place in places.items()}
    hierarchy = Hierarchy(names, parents, positions, positions)
    count = len(names)
    data, skin = _figure(names, parents, positions, body, places)
    character = build_character(
        rig,
        names,
        parents,
        positions,
        np.tile(np.eye(3), (count, 1, 1)),
        np.tile([1.0, 0.0, 0.0, 0.0], (count, 1)),
        (range(count), hierarchy),
        mapping=mapping,
        skin=skin,
        human_bones={name: number for number, name in enumerate(names)} if preset.human_bones else None,
    )
    return character.with_source(GltfSource(data, tuple(range(count)), np.eye(4)))


def _joints(preset: Preset, body: np.ndarray) -> tuple[list[str], list[int], np.ndarray, dict[str, int]]:
    """Return names, parents and positions (N, 3) of a rig's joints, and the joints of HumanML3D's joints."""
    names: list[str] = [preset.root] if preset.root else []
    parents: list[int] = [-1] * len(names)
    positions = [np.zeros(3)] * len(names)
    places: dict[str, int] = {}

    def add(name: str, parent: int, position: np.ndarray) -> int:
        names.append(name)
        parents.append(parent)
        positions.append(position)
        return len(names) - 1

    for joint, target in enumerate(HUMANML3D_22.joint_names):
        above = HUMANML3D_22.parents[joint]
        parent = places[HUMANML3D_22.joint_names[above]] if above >= 0 else len(names) - 1
        if target == "head" and preset.upper_neck:
            parent = add(preset.upper_neck, parent, (body[joint] + body[above]) / 2.0)
        side, _, part = target.rpartition("_")
        word = "" if not side else preset.sides[side == "right"]
        places[target] = add(preset.names[part].format(word), parent, body[joint])
        if part == "wrist" and preset.hand:
            add(preset.hand.format(word), places[target], body[joint] + _HAND * (body[joint] - body[above]))
    return names, parents, np.stack(positions), places


def _figure(
    names: list[str], parents: list[int], positions: np.ndarray, body: np.ndarray, places: Mapping[str, int]
) -> tuple[bytes, Skin]:
    """Return a GLB file of a figure with solid limbs, and its skin."""
    document = GlbDocument()
    count = len(names)
    nodes: list[dict[str, object]] = []
    for joint, (name, parent) in enumerate(zip(names, parents, strict=True)):
        offset = positions[joint] - (positions[parent] if parent >= 0 else 0.0)
        node: dict[str, object] = {"name": name, "translation": np.float32(offset).tolist()}
        if children := [child for child in range(count) if parents[child] == joint]:
            node["children"] = children
        nodes.append(node)
    nodes.append({"name": "body", "mesh": 0, "skin": 0})
    bind = np.tile(np.eye(4, dtype=np.float32), (count, 1, 1))
    bind[:, 3, :3] = -positions  # glTF stores columns
    matrices = document.add_array(bind.reshape(-1, 16), "MAT4")
    owners = np.array([places[target] for target in HUMANML3D_22.joint_names])
    size = body_size(body[None], HUMANML3D_22)
    materials, primitives, points, joints = [], [], [], []
    for side, color in COLORS.items():
        corners, normals, bones, triangles = body_mesh(body, HUMANML3D_22, side, size)
        columns = np.zeros((len(bones), 4), dtype=np.uint8)
        columns[:, 0] = owners[bones]
        weights = np.zeros((len(bones), 4), dtype=np.float32)
        weights[:, 0] = 1.0
        surface = {"baseColorFactor": linear_color(color), "metallicFactor": 0.0, "roughnessFactor": 0.8}
        materials.append({"name": side, "pbrMetallicRoughness": surface})
        attributes = {
            "POSITION": document.add_array(corners, "VEC3", target=_ARRAY_BUFFER, bounds=True),
            "NORMAL": document.add_array(normals, "VEC3", target=_ARRAY_BUFFER),
            "JOINTS_0": document.add_array(columns, "VEC4", target=_ARRAY_BUFFER),
            "WEIGHTS_0": document.add_array(weights, "VEC4", target=_ARRAY_BUFFER),
        }
        indices = document.add_array(triangles, "SCALAR", target=_ELEMENT_ARRAY_BUFFER)
        primitives.append({"attributes": attributes, "indices": indices, "material": len(materials) - 1})
        points.append(corners.astype(np.float64))
        joints.append(columns.astype(int))
    document.json |= {
        "scene": 0,
        "scenes": [{"nodes": [0, count]}],
        "nodes": nodes,
        "skins": [{"joints": list(range(count)), "skeleton": 0, "inverseBindMatrices": matrices}],
        "meshes": [{"name": "body", "primitives": primitives}],
        "materials": materials,
    }
    numbers = np.concatenate(joints)
    return document.to_bytes(), Skin(np.concatenate(points), numbers, np.eye(4)[np.zeros(len(numbers), dtype=int)])
