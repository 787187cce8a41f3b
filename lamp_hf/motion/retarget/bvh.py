"""Load characters from BVH files, and write motions on any character as BVH with its own joints."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lamp_hf.files import atomic_path
from lamp_hf.motion import rotations
from lamp_hf.motion.errors import MotionFormatError
from lamp_hf.motion.formats.bvh import continuous_euler_degrees, hierarchy_lines
from lamp_hf.motion.formats.bvh_parser import BvhClip, parse_bvh
from lamp_hf.motion.formats.hierarchy import Hierarchy, depth_first
from lamp_hf.motion.formats.rigs import JointSource
from lamp_hf.motion.retarget.anatomy import Anatomy
from lamp_hf.motion.retarget.animation import CharacterMotion
from lamp_hf.motion.retarget.character import Character, build_character

__all__ = ["BvhSource", "load_bvh", "write_character_bvh"]

_CHUNK_FRAMES = 4096
_SAMPLE_POSES = 12
_CM_PER_M = 100.0
_STANDS = 0.8  # cosine between trunk and legs of a rest pose that stands


@dataclass(frozen=True)
class BvhSource:
    """What is needed to write a BVH file again.

    Attributes:
        header: text of the hierarchy, up to the line MOTION.
        channels: channels of each joint, as in `BvhClip`.
        rest: (C,), values of all channels in the rest pose.
    """

    header: bytes
    channels: tuple[tuple[int, ...], ...]
    rest: np.ndarray


def load_bvh(path: Path, mapping: Mapping[str, JointSource] | None = None) -> Character:
    """Load a character from a BVH file; see `Character.load`.

    The rest pose is the one without rotations. In files where that pose does not stand, it is the frame that stands
    straightest.
    """
    clip = parse_bvh(path)
    header = re.match(rb"(?s).*?(?=^[ \t]*MOTION[ \t]*\r?$)", path.read_bytes(), re.MULTILINE)
    if header is None:
        raise MotionFormatError(f"{path.name}: expected a line MOTION after the hierarchy (damaged?)")
    step = max(1, clip.num_frames // _SAMPLE_POSES)
    poses = clip.positions(range(len(clip.joint_names)), slice(0, None, step))
    hierarchy = Hierarchy(clip.joint_names, clip.parents, poses, clip.rest_positions())
    frames = [-1, *range(0, clip.num_frames, step)]
    problem: MotionFormatError | None = None
    best: tuple[float, Character] | None = None
    for frame in frames:
        try:
            character = _posed(path, clip, hierarchy, frame, mapping, header[0])
        except MotionFormatError as error:
            problem = problem or error
            if frame < 0 and "folded up" not in str(error):
                raise
            continue
        score = _standing(character)
        if frame < 0 and score > _STANDS:
            return character
        if best is None or score > best[0]:
            best = score, character
    if best is None:
        assert problem is not None
        raise problem
    return best[1]


def _posed(
    path: Path,
    clip: BvhClip,
    hierarchy: Hierarchy,
    frame: int,
    mapping: Mapping[str, JointSource] | None,
    header: bytes,
) -> Character:
    """Return the character whose rest pose is a frame of the file, or the pose without rotations (-1)."""
    count = len(clip.joint_names)
    values = clip.values[frame].copy() if frame >= 0 else _unturned(clip)
    axes = np.tile(np.eye(3), (count, 1, 1))
    local = np.tile([1.0, 0.0, 0.0, 0.0], (count, 1))
    column = 0
    for joint, channels in enumerate(clip.channels):
        turn = np.array([1.0, 0.0, 0.0, 0.0])
        for number, channel in enumerate(channels):
            if 3 <= channel < 6:
                angle = np.radians(values[column + number])
                turn = rotations.multiply(turn, rotations.about_axis("xyz"[channel - 3], angle))
        column += len(channels)
        local[joint] = turn
        parent = clip.parents[joint]
        above = axes[parent] if parent >= 0 else np.eye(3)
        axes[joint] = above @ rotations.to_matrix(turn)
    pose = BvhClip(clip.joint_names, clip.parents, clip.offsets, clip.channels, values[None], clip.fps)
    positions = pose.positions(range(count))[0]
    character = build_character(
        path.name,
        clip.joint_names,
        clip.parents,
        positions,
        axes,
        local,
        (range(count), hierarchy),
        mapping=mapping,
        kind="bvh",
    )
    _check_channels(character, clip)
    return character.with_source(BvhSource(header, clip.channels, values), path)


def _unturned(clip: BvhClip) -> np.ndarray:
    """Return the values (C,) of all channels when no joint is turned or moved from its offset."""
    values = []
    for joint, channels in enumerate(clip.channels):
        for channel in channels:
            values.append(clip.offsets[joint][channel] if channel < 3 else 1.0 if channel >= 6 else 0.0)
    return np.array(values, dtype=np.float64)


def _standing(character: Character) -> float:
    """Return the cosine between trunk and legs: 1 for a pose that stands straight."""
    points = character.rest_landmarks()
    hips = points.between_hips[0]
    legs = rotations.normalize(hips - points.ankles.mean(axis=0)[0])
    trunk = rotations.normalize(points.neck[0] - hips)
    across = rotations.normalize(points.hips[0, 0] - points.hips[1, 0])
    shoulders = rotations.normalize(points.shoulders[0, 0] - points.shoulders[1, 0])
    return float(min(legs @ trunk, across @ shoulders))


def _driven(anatomy: Anatomy) -> list[int]:
    limbs = [*anatomy.arms, *anatomy.legs]
    joints = [*anatomy.pelvis, *anatomy.spine, *anatomy.neck]
    joints += [joint for limb in limbs for joint in (limb.upper, limb.lower, *limb.inline)]
    return joints + [limb.end for limb in anatomy.legs]


def _check_channels(character: Character, clip: BvhClip) -> None:
    for joint in _driven(character.anatomy):
        if len({channel for channel in clip.channels[joint] if 3 <= channel < 6}) != 3:
            raise MotionFormatError(
                f"{character.name}: the joint {clip.joint_names[joint]!r} needs three rotation channels, found "
                f"{sum(3 <= channel < 6 for channel in clip.channels[joint])}; export the character with all channels"
            )
    if _mover(character, clip.channels) is None:
        raise MotionFormatError(
            f"{character.name}: neither {clip.joint_names[character.anatomy.root]!r} nor a joint above it has three "
            "position channels; export the character with all channels of its root"
        )


def _mover(character: Character, channels: tuple[tuple[int, ...], ...]) -> int | None:
    """Return the joint whose position channels move the body: its root, or the closest one above."""
    joint = character.anatomy.root
    while joint >= 0:
        if {0, 1, 2} <= set(channels[joint]):
            return joint
        joint = character.parents[joint]
    return None


def write_character_bvh(motion: CharacterMotion, path: Path) -> None:
    """Write a motion as BVH in the hierarchy of a character.

    A character from a BVH file keeps the text of its hierarchy, with all names, offsets and channels. From a GLB or VRM
    file, the joints of the body and everything below them are written in the rest pose of the file, in centimeters.
    """
    header, rows = _own_rows(motion) if motion.character.kind == "bvh" else _new_rows(motion)
    with atomic_path(path) as temporary, open(temporary, "wb") as stream:
        stream.write(header)
        stream.write(f"MOTION\nFrames: {len(rows)}\nFrame Time: {1.0 / motion.fps:.8f}\n".encode())
        line = " ".join(["%.6f"] * rows.shape[1]) + "\n"
        for start in range(0, len(rows), _CHUNK_FRAMES):
            part = np.round(rows[start : start + _CHUNK_FRAMES], 6) + 0.0
            stream.write("".join(line % tuple(row) for row in part.tolist()).encode())


def _own_rows(motion: CharacterMotion) -> tuple[bytes, np.ndarray]:
    """Return the hierarchy of a BVH character and the values (T, C) of its channels."""
    character = motion.character
    source: BvhSource = character.source
    rows = np.tile(source.rest, (motion.num_frames, 1))
    mover = _mover(character, source.channels)
    assert mover is not None  # checked when the character was loaded
    turned: dict[str, list[tuple[int, list[int]]]] = {}  # by the order of the axes, joints and their columns
    column = 0
    for joint, channels in enumerate(source.channels):
        turning = [number for number, channel in enumerate(channels) if 3 <= channel < 6]
        if joint in motion.turns and len(turning) == 3:
            order = "".join("xyz"[channels[number] - 3] for number in turning)
            turned.setdefault(order, []).append((joint, [column + number for number in turning]))
        if joint == mover:
            parent = character.parents[joint]
            moved = motion.root_positions - character.rest_positions[character.anatomy.root]
            place = character.rest_positions[joint] + moved
            if parent >= 0:
                place = (place - character.rest_positions[parent]) @ character.rest_axes[parent]
            for number, channel in enumerate(channels):
                if channel < 3:
                    rows[:, column + number] = place[:, channel]
        column += len(channels)
    for order, joints in turned.items():
        local = np.stack([motion.local_rotations(joint) for joint, _ in joints], axis=1)
        columns = [number for _, numbers in joints for number in numbers]
        rows[:, columns] = continuous_euler_degrees(local, order).reshape(len(rows), -1)
    return source.header, rows


def _new_rows(motion: CharacterMotion) -> tuple[bytes, np.ndarray]:
    """Return a hierarchy and its values (T, C) for the joints below the root of a body, without rotations at rest."""
    character = motion.character
    root = character.anatomy.root
    kept = [root]
    for joint in character.candidates:
        if joint != root and root in character.closure([joint]):
            kept.append(joint)
    place = {joint: number for number, joint in enumerate(kept)}
    parents = []
    for joint in kept:
        parent = character.parents[joint] if joint != root else -1
        while parent >= 0 and parent not in place:
            parent = character.parents[parent]
        parents.append(place.get(parent, -1))
    rest = character.rest_positions[kept] * _CM_PER_M
    offsets = rest - np.where(np.array(parents)[:, None] >= 0, rest[parents], 0.0)
    names = [re.sub(r"\s+", "_", character.joint_names[joint]) for joint in kept]
    text = "HIERARCHY\n" + "".join(hierarchy_lines(names, parents, offsets, _CM_PER_M))
    axes = character.axes.T
    changes = []
    for number in depth_first(parents):
        parent = kept[parents[number]] if parents[number] >= 0 else -1
        change = rotations.multiply(rotations.conjugate(motion.turn(parent)), motion.turn(kept[number]))
        changes.append(np.concatenate([change[:, :1], change[:, 1:] @ axes.T], axis=-1))
    angles = continuous_euler_degrees(np.stack(changes, axis=1), "zxy").reshape(motion.num_frames, -1)
    return text.encode(), np.concatenate([motion.root_positions * _CM_PER_M, angles], axis=1)
