"""Write VRM animations (VRMA, the extension VRMC_vrm_animation): motions that every VRM figure can play."""

from pathlib import Path

import numpy as np

from lamp_hf.files import atomic_path
from lamp_hf.motion import rotations
from lamp_hf.motion.formats.gltf import key_times
from lamp_hf.motion.retarget.animation import CharacterMotion
from lamp_hf.motion.retarget.glb_document import GlbDocument

__all__ = ["write_vrma"]

_NO_BODY = ("eye", "jaw", "thumb", "index", "middle", "ring", "little")


def write_vrma(motion: CharacterMotion, path: Path) -> None:
    """Write a motion on a VRM character as VRMA.

    The file contains the human bones of the character in its T-pose, without rotations at rest and facing +Z, as the
    specification requires for VRM 1.0; fingers and eyes are left out.
    """
    character = motion.character
    bones = {joint: name for name, joint in character.human_bones.items() if not _is_small(name)}
    # Players scale the path with the height of the hips in the rest pose, so that it must be the one of the VRM.
    height = np.array([0.0, character.floor, 0.0])
    rest = character.canonical_rest + height
    joints = sorted(bones)
    place = {joint: number for number, joint in enumerate(joints)}
    document = GlbDocument()
    nodes = []
    roots = []
    curves = []
    for joint in joints:
        parent = character.parents[joint]
        while parent >= 0 and parent not in place:
            parent = character.parents[parent]
        offset = rest[joint] - (rest[parent] if parent >= 0 else 0.0)
        nodes.append({"name": bones[joint], "translation": offset.tolist()})
        if parent >= 0:
            nodes[place[parent]].setdefault("children", []).append(place[joint])
        else:
            roots.append(place[joint])
        if joint == character.anatomy.root:
            curves.append((place[joint], "translation", motion.root + height))
        if joint in motion.turns:
            change = rotations.multiply(rotations.conjugate(motion.turn(parent)), motion.turn(joint))
            dots = np.sum(change[1:] * change[:-1], axis=-1, keepdims=True)
            change[1:] *= np.cumprod(np.where(dots < 0.0, -1.0, 1.0), axis=0)
            curves.append((place[joint], "rotation", change))
    document.json |= {"scene": 0, "scenes": [{"nodes": roots}], "nodes": nodes}
    document.json["extensionsUsed"] = ["VRMC_vrm_animation"]
    human = {bones[joint]: {"node": place[joint]} for joint in joints}
    document.json["extensions"] = {"VRMC_vrm_animation": {"specVersion": "1.0", "humanoid": {"humanBones": human}}}
    title = " ".join((motion.text or motion.name or "motion").split())
    document.add_animation(title or "motion", key_times(motion.num_frames, motion.fps), curves)
    with atomic_path(path) as temporary:
        temporary.write_bytes(document.to_bytes())


def _is_small(bone: str) -> bool:
    return any(part in bone.lower() for part in _NO_BODY)
