"""Load characters from GLB and VRM files, and write these files with an animation added."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lamp_hf.files import atomic_path
from lamp_hf.motion import rotations
from lamp_hf.motion.errors import MotionFormatError
from lamp_hf.motion.formats.gltf import key_times
from lamp_hf.motion.formats.gltf_file import GltfFile
from lamp_hf.motion.formats.rigs import Hierarchy, JointSource
from lamp_hf.motion.retarget.animation import CharacterMotion
from lamp_hf.motion.retarget.character import Character, Skin, build_character
from lamp_hf.motion.retarget.glb_document import GlbDocument

__all__ = ["GltfSource", "load_glb", "write_character_glb"]

logger = logging.getLogger(__name__)

_NAME_LENGTH = 60  # Blender cuts names at 63 bytes


@dataclass(frozen=True)
class GltfSource:
    """What is needed to write a GLB or VRM file again.

    Attributes:
        data: the file.
        nodes: (N,), the node of each joint.
        root_parent: (4, 4), from the coordinates of the parent of the body's root to those of the file.
    """

    data: bytes
    nodes: tuple[int, ...]
    root_parent: np.ndarray


def load_glb(path: Path, mapping: Mapping[str, JointSource] | None = None) -> Character:
    """Load a character from a GLB or VRM file; see `Character.load`."""
    with path.open("rb") as stream:
        if stream.read(4) != b"glTF":
            raise MotionFormatError(f"{path.name}: not a binary glTF file; export the character as GLB")
    file = GltfFile(path)
    candidates, names = file.joints()
    needed = set()
    for joint in (*candidates, *(joint for skin in file.gltf.skins for joint in skin.joints or [])):
        while joint >= 0 and joint not in needed:
            needed.add(joint)
            joint = file.parents[joint]
    nodes = [node for node in file.order if node in needed]
    place = {node: number for number, node in enumerate(nodes)}
    world: dict[int, np.ndarray] = {-1: np.eye(4)}
    for node in file.order:  # all nodes, because skins may hang from nodes that are no joints
        world[node] = world[file.parents[node]] @ file.local(node, {})
    rest = np.stack([world[node] for node in nodes])
    if not np.isfinite(rest).all():
        raise MotionFormatError(f"{path.name}: the rest pose is not finite (damaged values?)")
    positions = rest[:, :3, 3]
    hierarchy = Hierarchy(
        names,
        file.parents_within(candidates),
        positions[[place[node] for node in candidates]],
        positions[[place[node] for node in candidates]],
    )
    bones = {name[:1].lower() + name[1:]: place[node] for node, name in file.human_bones().items()}
    character = build_character(
        path.name,
        [str(file.gltf.nodes[node].name or f"node {node}") for node in nodes],
        [place.get(file.parents[node], -1) for node in nodes],
        positions,
        _orthogonal(rest[:, :3, :3]),
        np.stack([_local_rotation(file, node) for node in nodes]),
        ([place[node] for node in candidates], hierarchy),
        mapping=mapping,
        skin=_skin(file, world, place),
        human_bones=bones,
        kind="vrm" if bones else "glb",
    )
    root = nodes[character.anatomy.root]
    return character.with_source(GltfSource(path.read_bytes(), tuple(nodes), world[file.parents[root]]), path)


def _orthogonal(matrices: np.ndarray) -> np.ndarray:
    """Return the orthogonal matrices closest to matrices (N, 3, 3); mirrored ones stay mirrored."""
    left, _, right = np.linalg.svd(matrices)
    return np.asarray(left @ right)


def _local_rotation(file: GltfFile, node: int) -> np.ndarray:
    """Return the rotation (4,) of a node relative to its parent."""
    values = file.gltf.nodes[node]
    if values.matrix is not None:
        return _decomposed(np.asarray(values.matrix, dtype=np.float64).reshape(4, 4).T)[1]
    x, y, z, w = values.rotation or (0.0, 0.0, 0.0, 1.0)
    return rotations.normalize([w, x, y, z], (1.0, 0.0, 0.0, 0.0))


def _decomposed(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return translation (3,), rotation (4,) and scale (3,) of a matrix (4, 4)."""
    scale = np.linalg.norm(matrix[:3, :3], axis=0)
    if np.linalg.det(matrix[:3, :3]) < 0.0:
        scale[0] = -scale[0]
    turn = _orthogonal(matrix[:3, :3] / np.where(np.abs(scale) < 1e-12, 1.0, scale))
    return matrix[:3, 3], rotations.from_matrix(turn), scale


def _skin(file: GltfFile, world: Mapping[int, np.ndarray], place: Mapping[int, int]) -> Skin | None:
    """Return the points of all meshes that joints move; None if there are none or they cannot be read."""
    points, joints, weights = [], [], []
    gltf = file.gltf
    for node, values in enumerate(gltf.nodes):
        if values.mesh is None:
            continue
        owner = node
        while owner >= 0 and owner not in place:
            owner = file.parents[owner]
        try:
            for primitive in gltf.meshes[values.mesh].primitives:
                corners = file.array(primitive.attributes.POSITION, "VEC3")
                corners = np.concatenate([corners, np.ones((len(corners), 1))], axis=1)
                if values.skin is None:
                    if owner >= 0:  # a rigid part of the figure
                        points.append((corners @ world[node].T)[:, :3])
                        joints.append(np.full((len(corners), 4), place[owner]))
                        weights.append(np.tile([1.0, 0.0, 0.0, 0.0], (len(corners), 1)))
                    continue
                skin = gltf.skins[values.skin]
                bind = np.tile(np.eye(4), (len(skin.joints), 1, 1))
                if skin.inverseBindMatrices is not None:
                    bind = np.swapaxes(file.array(skin.inverseBindMatrices, "MAT4").reshape(-1, 4, 4), 1, 2)
                moves = np.stack([world[joint] @ bind[k] for k, joint in enumerate(skin.joints)])
                number = file.array(primitive.attributes.JOINTS_0, "VEC4").astype(int)
                weight = file.array(primitive.attributes.WEIGHTS_0, "VEC4")
                weight /= np.maximum(weight.sum(axis=1, keepdims=True), 1e-12)
                placed = np.einsum("vk,vkij,vj->vi", weight, moves[number], corners)
                points.append(placed[:, :3])
                joints.append(np.array([place[joint] for joint in skin.joints])[number])
                weights.append(weight)
        except (MotionFormatError, TypeError, AttributeError, IndexError, KeyError, ValueError) as error:
            logger.info("%s: the skin is not used to find the floor (%s)", file.name, error)
            return None
    if not points:
        return None
    return Skin(np.concatenate(points), np.concatenate(joints), np.concatenate(weights))


def write_character_glb(motion: CharacterMotion, path: Path) -> None:
    """Write the file of a character with an animation added.

    Arrays are added after the binary data of the file, and their descriptions after those of the file. Everything else
    stays as it is, except that animated nodes with a matrix get the same translation, rotation and scale, because glTF
    does not allow a matrix there.
    """
    character = motion.character
    source: GltfSource = character.source
    document = GlbDocument(source.data)
    nodes = document.json["nodes"]
    root = character.anatomy.root
    ends = np.concatenate([motion.root_positions, np.ones((motion.num_frames, 1))], axis=1)
    curves = [(source.nodes[root], "translation", (ends @ np.linalg.inv(source.root_parent).T)[:, :3])]
    curves += [(source.nodes[joint], "rotation", motion.local_rotations(joint)) for joint in sorted(motion.turns)]
    for node, _, _ in curves:
        matrix = nodes[node].pop("matrix", None)
        if matrix is not None:
            shift, turn, scale = _decomposed(np.asarray(matrix, dtype=np.float64).reshape(4, 4).T)
            nodes[node] |= {
                "translation": shift.tolist(),
                "rotation": turn[[1, 2, 3, 0]].tolist(),
                "scale": scale.tolist(),
            }
    document.add_animation(_title(motion, document), key_times(motion.num_frames, motion.fps), curves)
    with atomic_path(path) as temporary:
        temporary.write_bytes(document.to_bytes())


def _title(motion: CharacterMotion, document: GlbDocument) -> str:
    """Return a name for the animation that no other animation of the file has."""
    title = " ".join((motion.text or motion.name or "motion").split())[:_NAME_LENGTH] or "motion"
    taken = {animation.get("name") for animation in document.json.get("animations", [])}
    number, name = 1, title
    while name in taken:
        number += 1
        name = f"{title} {number}"
    return name
