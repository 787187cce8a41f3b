"""Transfer a motion to a character: the directions of its limbs, spine and head, and the facing of hips and chest."""

from typing import TYPE_CHECKING

import numpy as np

from lamp_hf.motion import rotations
from lamp_hf.motion.errors import MotionFormatError
from lamp_hf.motion.retarget.anatomy import Limb
from lamp_hf.motion.retarget.animation import CharacterMotion, place
from lamp_hf.motion.retarget.character import Character
from lamp_hf.motion.retarget.frames import hinge, limb_turns, twist_about
from lamp_hf.motion.retarget.landmarks import Landmarks, leg_length, of_joints
from lamp_hf.motion.retarget.legs import PlacedLegs, Sole, find_soles, foot_turns, place_legs, toe_turns

if TYPE_CHECKING:
    from lamp_hf.motion.motion import Motion

__all__ = ["retarget"]

Turns = dict[int, np.ndarray]

# The direction of the upper bone and the axis of the hinge, left side, in a relaxed body. Directions opposite to these
# are out of reach, so that twist is measured without jumps: arms never point back across the chest, thighs never up.
_ARM = (rotations.normalize([1.0, -0.3, 0.5]), np.array([0.0, -1.0, 0.0]))
_LEG = (rotations.normalize([0.0, -1.0, 0.3]), np.array([1.0, 0.0, 0.0]))
_LARGEST_SHRUG = np.radians(40.0)
# From neck to head, relative to the chest, when the head looks ahead: the median of the CMU database. The neck of a rig
# may incline by a few degrees more or less.
_NEUTRAL_NECK = rotations.normalize([0.0, 1.0, 0.36])
_NECK_RANGE = np.radians(8.0)
_STRAIGHTENINGS = 3


def retarget(motion: "Motion", character: Character, *, plant_feet: bool = True) -> CharacterMotion:
    """Transfer a motion to a character.

    All bones of the character keep their lengths. The path of the hips is scaled with the length of the legs. Joints
    that do not correspond to a joint of the motion keep their rest pose relative to their parent.

    Args:
        motion: the motion.
        character: the character.
        plant_feet: whether feet that stand on the floor stay in place.

    Raises:
        MotionFormatError: the legs of the motion or of the character have no length.
    """
    source = of_joints(motion.joints, motion.skeleton)
    rest = character.rest_landmarks()
    sizes = leg_length(source), leg_length(rest)
    if min(sizes) < 1e-6:
        raise MotionFormatError(f"{character.name}: legs without length cannot be retargeted; check the rest pose")
    scale = sizes[1] / sizes[0]
    rest = rest.scaled(1.0 / scale)
    # From here to the end, lengths are meters on a body whose legs are as long as the motion's.
    positions = character.canonical_rest / scale
    anatomy = character.anatomy
    turns: Turns = {}

    hips, chest = source.in_motion()
    resting_hips, resting_chest = rest.at_rest()
    hips_turn = rotations.multiply(hips, rotations.conjugate(resting_hips))
    chest_turn = rotations.multiply(chest, rotations.conjugate(resting_chest))
    turns.update(dict.fromkeys(anatomy.pelvis, hips_turn))
    _turn_spine(turns, character, positions, source, hips_turn, chest_turn)
    chest_turn = turns[anatomy.spine[-1]] if anatomy.spine else hips_turn
    _turn_head(turns, character, rest, source, chest, chest_turn)
    _turn_arms(turns, character, rest, source, (chest, resting_chest), chest_turn, motion.fps)

    thighs, shanks = _bones(source.hips, source.knees), _bones(source.knees, source.ankles)
    hinges = np.stack([hinge(thighs[k], shanks[k], hips, _LEG, motion.fps) for k in range(2)])
    plants = motion.foot_plants()
    feet = foot_turns(source, hinges, plants, motion.fps)
    start = source.between_hips.copy()
    start[:, 1] += _floor_gap(source, rest)
    leg_tops = [limb.upper for limb in anatomy.legs]
    moved = place(character.parents, positions, turns, len(start), character.closure(leg_tops))
    tops = np.stack([moved[joint] for joint in leg_tops])
    offset = start - tops.mean(axis=0)
    lengths = np.stack(
        [np.linalg.norm(rest.knees - rest.hips, axis=-1), np.linalg.norm(rest.ankles - rest.knees, axis=-1)], axis=-1
    )[:, 0]
    soles = find_soles(character, scale)
    legs = place_legs(
        tops + offset, (thighs, shanks), lengths, feet, rest, soles, plants if plant_feet else None, motion.fps
    )
    _turn_legs(turns, character, rest, legs, soles, (hips, resting_hips), motion.fps)
    root = moved[anatomy.root] + offset + legs.shift
    return CharacterMotion(character, turns, root * scale, motion.fps, text=motion.text, name=motion.name)


def _bones(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    return rotations.normalize(below - above, (0.0, -1.0, 0.0))


def _floor_gap(source: Landmarks, rest: Landmarks) -> float:
    """Return how much higher the ankles of the character stand; `place_legs` does the rest, frame by frame."""
    low = np.quantile(source.ankles[..., 1].min(axis=0), 0.1)
    return float(rest.ankles[..., 1].mean() - low)


def _turn_spine(
    turns: Turns,
    character: Character,
    positions: np.ndarray,
    source: Landmarks,
    hips_turn: np.ndarray,
    chest_turn: np.ndarray,
) -> None:
    """Spread the turn from hips to chest along the spine, so that the neck is in its direction from the hips."""
    anatomy = character.anatomy
    count = len(anatomy.spine)
    for number, joint in enumerate(anatomy.spine, start=1):
        turns[joint] = rotations.slerp(hips_turn, chest_turn, np.full(len(hips_turn), number / count))
    if not count:
        return
    tops = list(anatomy.neck[:1]) or [limb.upper for limb in anatomy.arms]
    wanted = source.neck if anatomy.neck else source.shoulders.mean(axis=0)
    wanted = wanted - source.between_hips
    leg_tops = [limb.upper for limb in anatomy.legs]
    needed = character.closure([*tops, *leg_tops])
    for _ in range(_STRAIGHTENINGS):
        moved = place(character.parents, positions, turns, len(hips_turn), needed)
        way = np.mean([moved[joint] for joint in tops], axis=0) - np.mean([moved[joint] for joint in leg_tops], axis=0)
        swing = rotations.between(way, wanted)
        for joint in anatomy.spine:
            turns[joint] = rotations.multiply(swing, turns[joint])


def _turn_head(
    turns: Turns, character: Character, rest: Landmarks, source: Landmarks, chest: np.ndarray, chest_turn: np.ndarray
) -> None:
    """Aim the neck at the head. The head looks ahead when the neck of the motion inclines as usual."""
    anatomy = character.anatomy
    way = rotations.normalize(source.head - source.neck, (0.0, 1.0, 0.0))
    at_rest = rotations.normalize(rest.head - rest.neck, (0.0, 1.0, 0.0))
    swing = rotations.between(rotations.rotate(chest_turn, at_rest), way)
    for joint in anatomy.neck:
        turns[joint] = rotations.multiply(swing, chest_turn)
    if anatomy.head is not None:
        local = rotations.rotate(rotations.conjugate(chest), way)
        usual = _limited(_NEUTRAL_NECK, np.median(local, axis=0), _NECK_RANGE)
        nod = rotations.between(rotations.rotate(chest, usual), way)
        turns[anatomy.head] = rotations.multiply(nod, chest)


def _limited(start: np.ndarray, end: np.ndarray, angle: float) -> np.ndarray:
    """Return the direction in the median plane from `start` toward `end`, at most by an angle."""
    end = end * [0.0, 1.0, 1.0]
    turn = float(np.arctan2(np.linalg.norm(np.cross(start, end)), start @ end))
    way = rotations.between(start, end)
    share = np.asarray(min(1.0, angle / max(turn, 1e-9)))
    return rotations.rotate(rotations.slerp([1.0, 0.0, 0.0, 0.0], way, share), start)


def _turn_arms(
    turns: Turns,
    character: Character,
    rest: Landmarks,
    source: Landmarks,
    chests: tuple[np.ndarray, np.ndarray],
    chest_turn: np.ndarray,
    fps: float,
) -> None:
    chest, resting_chest = chests
    for side, limb in enumerate(character.anatomy.arms):
        parent = chest_turn
        if limb.collar is not None:
            if source.collars is not None:
                parent = rotations.multiply(_shrug(source, side, chest), chest_turn)
            turns[limb.collar] = parent
        mirror = np.array([1.0, 1.0, 1.0]) if side == 0 else np.array([-1.0, 1.0, 1.0])
        relaxed = _ARM[0] * mirror, _perpendicular(_ARM[1] * (1.0 if side == 0 else -1.0), _ARM[0] * mirror)
        bones = _bones(source.shoulders[side], source.elbows[side]), _bones(source.elbows[side], source.wrists[side])
        at_rest = _bones(rest.shoulders[side], rest.elbows[side]), _bones(rest.elbows[side], rest.wrists[side])
        _turn_limb(turns, limb, bones, at_rest, (chest, resting_chest), relaxed, parent, fps)


def _shrug(source: Landmarks, side: int, chest: np.ndarray) -> np.ndarray:
    """Return how a collar turns (T, 4) relative to the chest, from its usual direction in the motion."""
    assert source.collars is not None
    local = rotations.rotate(rotations.conjugate(chest), source.shoulders[side] - source.collars[side])
    local = rotations.normalize(local, (1.0 if side == 0 else -1.0, 0.0, 0.0))
    usual = np.median(local, axis=0)
    turn = rotations.between(usual, local)
    angle = 2.0 * np.arccos(np.clip(np.abs(turn[:, 0]), 0.0, 1.0))
    share = np.minimum(1.0, _LARGEST_SHRUG / np.maximum(angle, 1e-9))
    turn = rotations.slerp(np.broadcast_to([1.0, 0.0, 0.0, 0.0], turn.shape), turn, share)
    return rotations.multiply(rotations.multiply(chest, turn), rotations.conjugate(chest))


def _turn_legs(
    turns: Turns,
    character: Character,
    rest: Landmarks,
    legs: PlacedLegs,
    soles: tuple[Sole, Sole],
    hips: tuple[np.ndarray, np.ndarray],
    fps: float,
) -> None:
    relaxed = _LEG[0], _perpendicular(_LEG[1], _LEG[0])
    for side, limb in enumerate(character.anatomy.legs):
        bones = _bones(legs.hips[side], legs.knees[side]), _bones(legs.knees[side], legs.ankles[side])
        at_rest = _bones(rest.hips[side], rest.knees[side]), _bones(rest.knees[side], rest.ankles[side])
        _turn_limb(turns, limb, bones, at_rest, hips, relaxed, turns[character.anatomy.pelvis[-1]], fps)
        resting = rest.toes[side, 0] - rest.ankles[side, 0]
        turns[limb.end] = legs.turns[side]
        if limb.tip is not None:
            rise = legs.toes[side, :, 1] - rest.toes[side, 0, 1]
            turns[limb.tip] = toe_turns(turns[limb.end], resting, rise, soles[side])


def _turn_limb(
    turns: Turns,
    limb: Limb,
    bones: tuple[np.ndarray, np.ndarray],
    at_rest: tuple[np.ndarray, np.ndarray],
    bodies: tuple[np.ndarray, np.ndarray],
    relaxed: tuple[np.ndarray, np.ndarray],
    parent: np.ndarray,
    fps: float,
) -> None:
    """Turn the bones of a limb about its hinge, and spread the twist of the upper bone over its twist joints."""
    axis = hinge(*bones, bodies[0], relaxed, fps)
    resting_axis = hinge(*at_rest, bodies[1], relaxed, fps)
    upper, lower = limb_turns(bones, axis, at_rest, resting_axis)
    turns[limb.upper], turns[limb.lower] = upper, lower
    if not limb.inline and not limb.twists:
        return
    swing = rotations.multiply(rotations.between(rotations.rotate(parent, at_rest[0]), bones[0]), parent)
    rest_of_turn = rotations.multiply(upper, rotations.conjugate(swing))
    along = np.sum(rest_of_turn[:, 1:] * bones[0], axis=-1)
    twist = 2.0 * np.arctan2(along, rest_of_turn[:, 0])
    twist = (twist + np.pi) % (2.0 * np.pi) - np.pi
    joints = [limb.upper, *limb.inline]
    shares = [((number + 1) / len(joints), joint) for number, joint in enumerate(joints)]
    for share, joint in [*shares, *((share, joint) for joint, share in limb.twists)]:
        turns[joint] = rotations.multiply(twist_about(bones[0], share * twist), swing)


def _perpendicular(axis: np.ndarray, direction: np.ndarray) -> np.ndarray:
    return rotations.normalize(axis - (axis @ direction) * direction)
