"""`CharacterMotion`: a motion on the joints of a character, and its files."""

import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from lamp_hf.motion import rotations
from lamp_hf.motion.errors import MotionFormatError
from lamp_hf.motion.retarget.character import Character

__all__ = ["OUTPUT_SUFFIXES", "CharacterMotion", "check_output", "place"]

OUTPUT_SUFFIXES = (".glb", ".vrm", ".vrma", ".bvh")


def place(
    parents: Sequence[int], positions: np.ndarray, turns: Mapping[int, np.ndarray], num_frames: int, joints: list[int]
) -> dict[int, np.ndarray]:
    """Compute positions (T, 3) of joints that turn away from a rest pose; joints without a turn follow their parent.

    Args:
        parents: index of each joint's parent.
        positions: (N, 3), rest positions.
        turns: turns (T, 4) from the rest pose, in the coordinates of `positions`.
        num_frames: number of frames T.
        joints: joints to place, with all their ancestors, parents first.
    """
    placed: dict[int, np.ndarray] = {}
    whole: dict[int, np.ndarray | None] = {-1: None}
    for joint in joints:
        parent = parents[joint]
        above = whole[parent]
        way = positions[joint] - (positions[parent] if parent >= 0 else 0.0)
        start = placed[parent] if parent >= 0 else np.zeros((num_frames, 3))
        placed[joint] = start + (way if above is None else rotations.rotate(above, way))
        whole[joint] = turns.get(joint, above)
    return placed


class CharacterMotion:
    """A motion on a character: rotations of its joints, in its own hierarchy.

    Made by [`Motion.on`].

    Args:
        character: The character.
        turns: For each joint that is moved, its turns (T, 4) from the rest pose, unit quaternions (w, x, y, z), in
            the coordinates of the character: x to its left, y up, z to its front.
        root: (T, 3), positions of the joint that moves the body, in these coordinates and the unit of the file.
        fps: Frames per second.
        text: Caption.
        name: Name of the motion.
    """

    def __init__(
        self,
        character: Character,
        turns: Mapping[int, np.ndarray],
        root: np.ndarray,
        fps: float,
        *,
        text: str | None = None,
        name: str | None = None,
    ) -> None:
        self.character = character
        self.fps = fps
        self.text = text
        self.name = name
        self.root = root
        self.turns = {joint: _continuous(turn) for joint, turn in turns.items()}

    @property
    def num_frames(self) -> int:
        """Number of frames T."""
        return len(self.root)

    @property
    def duration(self) -> float:
        """Duration in seconds."""
        return self.num_frames / self.fps

    @property
    def root_positions(self) -> np.ndarray:
        """Positions (T, 3) of the joint that moves the body, in the coordinates of the file."""
        return self.character.in_file(self.root)

    @cached_property
    def positions(self) -> np.ndarray:
        """Positions (T, N, 3) of all joints, in the unit and axes of the character's file."""
        character = self.character
        joints = list(range(len(character.parents)))
        rest = character.canonical_rest
        placed = place(character.parents, rest, self.turns, self.num_frames, joints)
        result = np.stack([placed[joint] for joint in joints], axis=1)
        below = {character.anatomy.root}
        for joint in joints:
            if character.parents[joint] in below:
                below.add(joint)
        moved = sorted(below)
        result[:, moved] += (self.root - placed[character.anatomy.root])[:, None]
        return character.in_file(result)

    def turn(self, joint: int) -> np.ndarray:
        """Return how a joint turns (T, 4) from its rest pose, in the coordinates of the character."""
        while joint >= 0:
            if joint in self.turns:
                return self.turns[joint]
            joint = self.character.parents[joint]
        return np.broadcast_to([1.0, 0.0, 0.0, 0.0], (self.num_frames, 4))

    def local_rotations(self, joint: int) -> np.ndarray:
        """Return the rotations (T, 4) of a joint relative to its parent, as files store them."""
        character = self.character
        parent = character.parents[joint]
        change = rotations.multiply(rotations.conjugate(self.turn(parent)), self.turn(joint))
        axes = character.axes.T  # to the axes of the file
        if parent >= 0:
            above = character.rest_axes[parent]
            axes = np.sign(np.linalg.det(above)) * above.T @ axes
        change = np.concatenate([change[:, :1], change[:, 1:] @ axes.T], axis=-1)
        return _continuous(rotations.normalize(rotations.multiply(change, character.local_rotations[joint])))

    def skin(self) -> np.ndarray:
        """Compute the points (T, V, 3) of the character's skin, in the unit and axes of its file.

        Raises:
            ValueError: The character has no skin.
        """
        skin = self.character.skin
        if skin is None:
            raise ValueError(f"{self.character.name}: the character has no skin; load it from a GLB or VRM file")
        axes, rest = self.character.axes, self.character.rest_positions
        result = np.zeros((self.num_frames, *skin.points.shape))
        for joint in np.unique(skin.joints[skin.weights > 0.0]):
            weight = np.where(skin.joints == joint, skin.weights, 0.0).sum(axis=1)
            moved = np.flatnonzero(weight > 0.0)
            ways = (skin.points[moved] - rest[joint]) @ axes.T
            turned = rotations.rotate(self.turn(joint)[:, None], ways) @ axes + self.positions[:, joint, None]
            result[:, moved] += weight[moved, None] * turned
        return result

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save the character with the motion.

        Args:
            path: The file; its suffix sets the format. `.glb` and `.vrm` contain the character's file, unchanged, with
                an animation added. `.bvh` contains the character's joints. `.vrma` is an animation for any VRM, from
                a VRM file or the rig `vrm`.

        Raises:
            MotionFormatError: The character cannot be saved in this format.
        """
        path = Path(path)
        check_output(self.character, path)
        suffix = path.suffix.lower()
        if suffix == ".bvh":
            from lamp_hf.motion.retarget.bvh import write_character_bvh

            write_character_bvh(self, path)
        elif suffix == ".vrma":
            from lamp_hf.motion.retarget.vrma import write_vrma

            write_vrma(self, path)
        else:
            from lamp_hf.motion.retarget.glb import write_character_glb

            write_character_glb(self, path)

    def __repr__(self) -> str:
        return (
            f"CharacterMotion({self.character.name!r}, {self.num_frames} frames, {self.duration:.2f} s, "
            f"{self.fps:g} fps)"
        )


def check_output(character: Character, path: str | os.PathLike[str]) -> None:
    """Check that a character can be saved to a file.

    Raises:
        MotionFormatError: it cannot be saved with this suffix, or the file is that of the character.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if character.path is not None and path.exists() and character.path.exists() and path.samefile(character.path):
        raise MotionFormatError(f"{path.name}: would overwrite the character; choose another output file")
    if suffix not in OUTPUT_SUFFIXES:
        raise MotionFormatError(
            f"{path.name}: a motion on a character is saved as {', '.join(OUTPUT_SUFFIXES)}, found the suffix "
            f"{suffix!r}; choose one of these"
        )
    if suffix in (".glb", ".vrm") and character.kind == "bvh":
        raise MotionFormatError(
            f"{path.name}: {character.name} is a BVH file, which has no figure; save it as .bvh, or pass a GLB or VRM "
            "file as the character"
        )
    if suffix == ".vrm" and character.kind != "vrm":
        raise MotionFormatError(f"{path.name}: {character.name} is no VRM file; save it as .glb")
    if suffix == ".vrma" and not character.human_bones:
        raise MotionFormatError(
            f"{path.name}: {character.name} has no human bones of VRM; use a VRM file, or the rig 'vrm' (--rig vrm)"
        )


def _continuous(quaternions: np.ndarray) -> np.ndarray:
    """Choose between q and -q so that each frame is close to the one before."""
    dots = np.sum(quaternions[1:] * quaternions[:-1], axis=-1, keepdims=True)
    signs = np.cumprod(np.where(dots < 0.0, -1.0, 1.0), axis=0)
    return np.concatenate([quaternions[:1], quaternions[1:] * signs])
