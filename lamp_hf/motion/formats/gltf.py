"""Write motions as GLB (binary glTF 2.0): an animated, skinned figure for Blender, three.js and others."""

import os

import numpy as np

from lamp_hf.files import atomic_path
from lamp_hf.motion import rotations
from lamp_hf.motion.feet import planted_kinematics
from lamp_hf.motion.formats.drawing import (
    COLORS,
    HEAD_RADIUS_M,
    HEAD_RISE_M,
    MANNEQUIN_COLORS,
    Color,
    Style,
    body_size,
    check_style,
    floor_height,
    head_joint,
    joint_radii,
    limbs,
)
from lamp_hf.motion.formats.rigs import LAMP_HF_JOINT_NAMES
from lamp_hf.motion.mannequin import SIDES, Mannequin, fit_mannequin
from lamp_hf.motion.motion import Motion
from lamp_hf.motion.skeleton import HUMANML3D_22, Skeleton

_SEGMENTS = 12  # vertices of a limb's cross-section
_CAP_RINGS = 3  # rings between a limb's tip and its straight part
_NAME_LENGTH = 60  # Blender cuts names at 63 bytes


def write_glb(
    motion: Motion,
    path: str | os.PathLike[str],
    *,
    own_body: bool | None = None,
    plant_feet: bool | None = None,
    style: Style = "mannequin",
) -> None:
    """Write a motion as an animated figure with constant bone lengths.

    Joints are nodes in a T-pose, in meters with Y up, with Mixamo's names as in BVH files. Their rotations (from
    inverse kinematics) and the translation of the root are animated with one key per frame. A mesh is skinned to the
    joints; Blender imports it as an armature. The caption is the name of the animation.

    Args:
        motion: the motion.
        path: file to write; it appears only when complete.
        own_body, plant_feet: see `lamp_hf.motion.formats.bvh.write_bvh`.
        style: "mannequin" is a smooth body of about 120 kB, with blue hands and feet on its left and orange ones on
            its right; "skeleton" has a solid rod for each bone, blue on the left and orange on the right.

    Raises:
        ValueError: the style is unknown.
    """
    import pygltflib

    check_style(style)
    skeleton = motion.skeleton
    names = LAMP_HF_JOINT_NAMES if skeleton == HUMANML3D_22 else skeleton.joint_names
    local, root, offsets, joints = planted_kinematics(motion, own_body=own_body, plant_feet=plant_feet)
    rest = rest_positions(offsets, skeleton)
    text = " ".join((motion.text or motion.name or "").split())

    file = _Buffer(pygltflib.GLTF2())
    gltf = file.gltf
    gltf.asset = pygltflib.Asset(version="2.0", generator="lamp_hf")
    for index, name in enumerate(names):
        children = [child for child, parent in enumerate(skeleton.parents) if parent == index]
        translation = rest[0] if index == 0 else offsets[index]
        gltf.nodes.append(pygltflib.Node(name=name, children=children, translation=np.float32(translation).tolist()))
    mesh_node = len(gltf.nodes)
    gltf.nodes.append(pygltflib.Node(name="body", mesh=0, skin=0))
    gltf.scenes = [pygltflib.Scene(name="motion", nodes=[0, mesh_node])]
    gltf.scene = 0

    inverse_bind = np.tile(np.eye(4, dtype=np.float32), (skeleton.num_joints, 1, 1))
    inverse_bind[:, 3, :3] = -rest  # glTF stores columns
    gltf.skins = [
        pygltflib.Skin(
            name=skeleton.name,
            joints=list(range(skeleton.num_joints)),
            skeleton=0,
            inverseBindMatrices=file.add(inverse_bind.reshape(-1, 16), "MAT4"),
        )
    ]
    gltf.meshes = [pygltflib.Mesh(name="body", primitives=[])]
    if style == "mannequin":
        _add_mannequin(file, fit_mannequin(local, root, offsets, skeleton, floor_height(joints)))
    else:
        _add_rods(file, rest, skeleton, body_size(joints, skeleton))

    animation = pygltflib.Animation(name=text[:_NAME_LENGTH] or "motion")
    times = file.add(key_times(len(joints), motion.fps), "SCALAR", bounds=True)
    curves = [(0, "translation", root, "VEC3")]
    # The last joint of a limb is not animated because its rotation is unknown.
    turning = sorted({parent for parent in skeleton.parents if parent >= 0})
    curves += [(joint, "rotation", local[:, joint], "VEC4") for joint in turning]
    for node, kind, values, shape in curves:
        keys = (values if kind == "translation" else values[:, [1, 2, 3, 0]]).astype(np.float32)
        target = pygltflib.AnimationChannelTarget(node=node, path=kind)
        animation.channels.append(pygltflib.AnimationChannel(sampler=len(animation.samplers), target=target))
        animation.samplers.append(
            pygltflib.AnimationSampler(input=times, output=file.add(keys, shape), interpolation="LINEAR")
        )
    gltf.animations = [animation]
    del local, root, joints, curves, values, keys  # save memory for long motions: the library copies the bytes
    file.close()
    with atomic_path(path) as temporary:
        gltf.save_binary(str(temporary))


def key_times(num_frames: int, fps: float) -> np.ndarray:
    """Return the times (T,) of the keys in seconds, float32, exactly on frames for the usual frame rates.

    Blender places a key at time x fps; if the time were rounded down, the key would come before its frame.
    """
    times = (np.arange(num_frames) / fps).astype(np.float32)
    early = times.astype(np.float64) * fps < np.arange(num_frames)
    return np.where(early, np.nextafter(times, np.float32(np.inf)), times).astype(np.float32)


def _add_mannequin(file: "_Buffer", body: Mannequin) -> None:
    """Add the mannequin; its parts share their vertices and differ in triangles and material."""
    import pygltflib

    attributes = pygltflib.Attributes(
        POSITION=file.add(body.positions, "VEC3", target=pygltflib.ARRAY_BUFFER, bounds=True),
        NORMAL=file.add(body.normals, "VEC3", target=pygltflib.ARRAY_BUFFER),
        JOINTS_0=file.add(body.joints, "VEC4", target=pygltflib.ARRAY_BUFFER),
        WEIGHTS_0=file.add(body.weights, "VEC4", target=pygltflib.ARRAY_BUFFER, normalized=True),
    )
    for number, side in enumerate(SIDES):
        triangles = body.triangles[body.sides == number].ravel()
        file.add_part(side, MANNEQUIN_COLORS[side], attributes, triangles)


def _add_rods(file: "_Buffer", rest: np.ndarray, skeleton: Skeleton, size: float) -> None:
    """Add a solid rod for each bone, and a ball for the head."""
    import pygltflib

    for side, color in COLORS.items():
        positions, normals, bones, triangles = body_mesh(rest, skeleton, side, size)
        bone_columns = np.zeros((len(bones), 4), dtype=np.uint8)
        bone_columns[:, 0] = bones
        weights = np.zeros((len(bones), 4), dtype=np.float32)
        weights[:, 0] = 1.0
        attributes = pygltflib.Attributes(
            POSITION=file.add(positions, "VEC3", target=pygltflib.ARRAY_BUFFER, bounds=True),
            NORMAL=file.add(normals, "VEC3", target=pygltflib.ARRAY_BUFFER),
            JOINTS_0=file.add(bone_columns, "VEC4", target=pygltflib.ARRAY_BUFFER),
            WEIGHTS_0=file.add(weights, "VEC4", target=pygltflib.ARRAY_BUFFER),
        )
        file.add_part(side, color, attributes, triangles)


_COMPONENT_TYPES = {"float32": 5126, "uint16": 5123, "uint8": 5121}


class _Buffer:
    """Binary buffer of a file, with its accessors."""

    def __init__(self, gltf) -> None:  # type: ignore[no-untyped-def]
        self.gltf = gltf
        self._bytes = bytearray()

    def add(
        self,
        values: np.ndarray,
        shape: str,
        *,
        target: int | None = None,
        bounds: bool = False,
        normalized: bool = False,
    ) -> int:
        """Store an array (N,) or (N, components) and return the index of its accessor.

        If `normalized`, integers stand for fractions of their largest value.
        """
        import pygltflib

        data = values.tobytes()
        start = len(self._bytes)
        view = pygltflib.BufferView(buffer=0, byteOffset=start, byteLength=len(data), target=target)
        self._bytes += data + bytes(-len(data) % 4)
        columns = values.reshape(len(values), -1)
        accessor = pygltflib.Accessor(
            bufferView=len(self.gltf.bufferViews),
            componentType=_COMPONENT_TYPES[values.dtype.name],
            normalized=normalized,
            count=len(values),
            type=shape,
            min=columns.min(axis=0).tolist() if bounds else None,
            max=columns.max(axis=0).tolist() if bounds else None,
        )
        self.gltf.bufferViews.append(view)
        self.gltf.accessors.append(accessor)
        return len(self.gltf.accessors) - 1

    def add_part(self, name: str, color: Color, attributes, triangles: np.ndarray) -> None:  # type: ignore[no-untyped-def]
        """Add triangles (M,), uint16, three vertices each, with a material to the first mesh."""
        import pygltflib

        self.gltf.meshes[0].primitives.append(
            pygltflib.Primitive(
                attributes=attributes,
                indices=self.add(triangles, "SCALAR", target=pygltflib.ELEMENT_ARRAY_BUFFER),
                material=len(self.gltf.materials),
            )
        )
        self.gltf.materials.append(_material(name, color))

    def close(self) -> None:
        """Add the bytes to the file."""
        import pygltflib

        self.gltf.buffers = [pygltflib.Buffer(byteLength=len(self._bytes))]
        self.gltf.set_binary_blob(bytes(self._bytes))


def _material(side: str, color: Color):  # type: ignore[no-untyped-def]
    """Create a matte material."""
    import pygltflib

    surface = pygltflib.PbrMetallicRoughness(
        baseColorFactor=linear_color(color), metallicFactor=0.0, roughnessFactor=0.8
    )
    return pygltflib.Material(name=side, pbrMetallicRoughness=surface, alphaCutoff=None)


def linear_color(color: Color) -> list[float]:
    """Convert an sRGB color to the linear red, green, blue and alpha that glTF expects."""
    srgb = np.array(color) / 255.0
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    return [*np.round(linear, 4).tolist(), 1.0]


def rest_positions(offsets: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """Return the joints (J, 3) of the T-pose, standing on the floor at the origin."""
    rest = offsets.copy()
    for joint, parent in enumerate(skeleton.parents):
        if parent >= 0:
            rest[joint] += rest[parent]
    rest[:, 1] -= rest[:, 1].min()
    return rest


def body_mesh(
    rest: np.ndarray, skeleton: Skeleton, side: str, size: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Build the limbs of one side in the T-pose.

    Returns:
        Positions (N, 3) and normals (N, 3), float32; bones (N,), the joint that moves each vertex; triangles (M,)
        uint16, three vertices each, counterclockwise as seen from outside.
    """
    radii = joint_radii(skeleton) * size
    pieces = [
        (limb.parent, _rod(rest[limb.parent], rest[limb.joint], radii[limb.parent], radii[limb.joint]))
        for limb in limbs(skeleton)
        if limb.side == side
    ]
    if side == "center":
        head = head_joint(skeleton)
        up = rotations.normalize(rest[head] - rest[skeleton.parents[head]], [0.0, 1.0, 0.0])
        middle = rest[head] + up * (HEAD_RISE_M * size)
        radius = HEAD_RADIUS_M * size
        pieces.append((head, _rod(middle, middle, radius, radius)))
    positions, normals, bones, triangles = [], [], [], []
    count = 0
    for bone, (corners, outward, faces) in pieces:
        positions.append(corners)
        normals.append(outward)
        bones.append(np.full(len(corners), bone))
        triangles.append(faces + count)
        count += len(corners)
    return (
        np.concatenate(positions).astype(np.float32),
        np.concatenate(normals).astype(np.float32),
        np.concatenate(bones),
        np.concatenate(triangles).ravel().astype(np.uint16),
    )


def _rod(
    start: np.ndarray, end: np.ndarray, start_radius: float, end_radius: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Build a rod with round ends, or a ball: vertices (N, 3), normals (N, 3), triangles (M, 3)."""
    length = float(np.linalg.norm(end - start))
    turn = rotations.between([0.0, 1.0, 0.0], end - start)
    # The straight part touches both end spheres along their common tangent.
    lean = float(np.clip((start_radius - end_radius) / max(length, 1e-9), -0.99, 0.99)) if length > 0 else 0.0
    tangent = float(np.arcsin(lean))
    heights, widths, slopes = [], [], []
    caps = [(0.0, start_radius, np.linspace(-np.pi / 2, tangent, _CAP_RINGS + 2))]
    caps += [(length, end_radius, np.linspace(tangent, np.pi / 2, _CAP_RINGS + 2))]
    if length == 0:
        caps = [(0.0, start_radius, np.linspace(-np.pi / 2, np.pi / 2, 2 * _CAP_RINGS + 3))]
    for ball, radius, angles in caps:
        heights.append(ball + radius * np.sin(angles))
        widths.append(radius * np.cos(angles))
        slopes.append(angles)
    height, width, slope = (np.concatenate(parts)[:, None] for parts in (heights, widths, slopes))
    around = np.linspace(0.0, 2.0 * np.pi, _SEGMENTS, endpoint=False)
    corners = _rings(width, height, around)
    outward = _rings(np.cos(slope), np.sin(slope), around)
    ring, place = np.meshgrid(np.arange(len(height) - 1), np.arange(_SEGMENTS), indexing="ij")
    a = ring * _SEGMENTS + place
    b = ring * _SEGMENTS + (place + 1) % _SEGMENTS
    above_a, above_b = a + _SEGMENTS, b + _SEGMENTS
    # The first and the last ring are points, so half of the triangles there have no area.
    lower = np.stack([a, b, above_b], axis=-1)[1:]
    upper = np.stack([a, above_b, above_a], axis=-1)[:-1]
    faces = np.concatenate([lower.reshape(-1, 3), upper.reshape(-1, 3)])
    return rotations.rotate(turn, corners) + start, rotations.rotate(turn, outward), faces


def _rings(width: np.ndarray, height: np.ndarray, around: np.ndarray) -> np.ndarray:
    """Return points (N, 3) on rings about the Y axis with radii `width` (R, 1) and heights (R, 1)."""
    parts = np.broadcast_arrays(width * np.sin(around), height, width * np.cos(around))
    return np.stack(parts, axis=-1).reshape(-1, 3)
