"""Legs and feet of a character: hips at the right height, feet on the floor, and planted feet that stay in place."""

from typing import NamedTuple

import numpy as np

from lamp_hf.motion import rotations
from lamp_hf.motion.feet import plant_joints
from lamp_hf.motion.retarget.character import Character
from lamp_hf.motion.retarget.frames import basis, smoothed, step, turn_between, twist_about
from lamp_hf.motion.retarget.landmarks import Landmarks
from lamp_hf.motion.skeleton import HUMANML3D_22

__all__ = ["FootTurns", "PlacedLegs", "Sole", "find_soles", "foot_turns", "place_legs", "toe_turns"]

_UP = np.array([0.0, 1.0, 0.0])
_FADE_S = 0.12
_HIPS_S = 0.08
_FLOATING_M = 0.005  # a foot may float as high, because a straight leg bends by many degrees for a few millimeters
_DEEPEST_M = 0.15  # how far hips sink so that a leg reaches its planted foot
_NOISE_M = 0.03  # a planted foot at a greater height stands on something
_NEAR_M = 0.08  # a foot at this height above its standing height weighs 1 / e when the hips are placed
_AIR_M = (0.06, 0.25)  # heights above standing between which a foot stops to be level across
_FLAT_SLOPE = np.radians(23.0)  # from ankle to toe on the floor, if a motion never stands
_NO_TOES = np.radians(25.0)  # a foot whose bone continues the shank has no toes
# Lengths behind the ankle and beyond the toe joint, and half the width, relative to the foot from ankle to toe joint.
_HEEL, _TOES, _WIDTH = 0.3, 0.45, 0.35
_LARGEST_BEND, _LARGEST_ROLL = np.radians((75.0, 30.0))
_STRAIGHT = 0.9995  # of a leg's length
_LEFT_LEG, _RIGHT_LEG = (1, 4, 7, 10), (2, 5, 8, 11)  # hip, knee, ankle, toe of HumanML3D


class FootTurns(NamedTuple):
    """Orientation of both feet in a motion, as turns from a foot that points to the front and stands flat.

    Attributes:
        turns: (2, T, 4).
        rise: (2, T, 2), heights of ankle and toe above their heights when the foot stands flat, meters.
        held: (2, T, 2), weights from 0 to 1: whether heel and toe are planted.
    """

    turns: np.ndarray
    rise: np.ndarray
    held: np.ndarray


class Sole(NamedTuple):
    """Sole of a foot in the rest pose.

    Attributes:
        corners: (2, 3), heel and ball, relative to the ankle.
        toes: length of the toes beyond their joint.
        width: half the width of the toes.
    """

    corners: np.ndarray
    toes: float
    width: float


class PlacedLegs(NamedTuple):
    """Result of `place_legs`.

    Attributes:
        hips, knees, ankles, toes: positions (2, T, 3).
        turns: (2, T, 4), turns of the feet from the rest pose.
        shift: (T, 3), how the hips move from where they were.
    """

    hips: np.ndarray
    knees: np.ndarray
    ankles: np.ndarray
    toes: np.ndarray
    turns: np.ndarray
    shift: np.ndarray


def foot_turns(points: Landmarks, hinges: np.ndarray, plants: np.ndarray, fps: float) -> FootTurns:
    """Measure the feet of a motion relative to feet that stand flat.

    Args:
        points: landmarks of the motion.
        hinges: (2, T, 3), axes of the knees.
        plants: (T, 4), boolean: left heel, left toe, right heel, right toe.
        fps: frames per second.
    """
    turns, rises, weights = [], [], []
    for side in range(2):
        ankle, toe = points.ankles[side], points.toes[side]
        flat = plants[:, 2 * side] & plants[:, 2 * side + 1]
        rise = np.stack(
            [_rise(points.ankles, plants[:, ::2], side), _rise(points.toes, plants[:, 1::2], side)], axis=-1
        )
        held = np.stack([_faded(plants[:, 2 * side + k], fps) for k in range(2)], axis=-1)
        both = held.min(axis=-1, keepdims=True)
        way = rotations.normalize(toe - ankle, (0.0, 0.0, 1.0))
        shank = rotations.normalize(ankle - points.knees[side], (0.0, -1.0, 0.0))
        leveled = np.cross(_UP, way)
        air = step(rise.min(axis=-1), *_AIR_M)[:, None]
        ground = (1.0 - air) * step(np.linalg.norm(leveled, axis=-1), 0.2, 0.5)[:, None]
        across = _across(hinges[side], way)
        across = rotations.normalize(ground * rotations.normalize(leveled) + (1.0 - ground) * across, (1.0, 0.0, 0.0))
        if np.median(np.arccos(np.clip(np.sum(way * shank, axis=-1), -1.0, 1.0))) < _NO_TOES:
            front = rotations.normalize(np.cross(hinges[side], -shank))
            across = hinges[side]
        else:
            slope = _slope(way, flat)
            front = rotations.rotate(twist_about(across, np.full(len(way), -slope)), way)
        front = rotations.normalize(front * (1.0 - both * _UP), (0.0, 0.0, 1.0))
        turns.append(turn_between(basis(np.array([0.0, 0.0, 1.0]), np.array([1.0, 0.0, 0.0])), basis(front, across)))
        rises.append(rise)
        weights.append(held)
    return FootTurns(np.stack(turns), np.stack(rises), np.stack(weights))


def _rise(places: np.ndarray, planted: np.ndarray, side: int) -> np.ndarray:
    """Return how high (T,) a point of a foot is above where it stands.

    A foot that never stands, as on a ladder, would stand where the other one does.

    Args:
        places: (2, T, 3), positions of the point, of both feet.
        planted: (T, 2), whether it is planted.
        side: the foot.
    """
    heights = places[..., 1]
    for foot in (side, 1 - side):
        where = planted[:, foot]
        if where.any():
            return np.asarray(heights[side] - np.median(heights[foot, where]))
    return np.asarray(heights[side] - np.quantile(heights.min(axis=0), 0.05))


def _slope(way: np.ndarray, flat: np.ndarray) -> float:
    """Return the angle by which the foot of a rig slopes down from ankle to toe when it stands flat."""
    slopes = np.arcsin(np.clip(-way[:, 1], -1.0, 1.0))
    if flat.any():
        return float(np.median(slopes[flat]))
    return _FLAT_SLOPE


def _faded(planted: np.ndarray, fps: float) -> np.ndarray:
    """Return weights (T,): 1 while planted, fading to 0 before and after."""
    frames = np.arange(len(planted))
    where = np.flatnonzero(planted)
    if not len(where):
        return np.zeros(len(planted))
    near = np.clip(np.searchsorted(where, frames), 0, len(where) - 1)
    gap = np.minimum(np.abs(where[near] - frames), np.abs(where[np.maximum(near - 1, 0)] - frames))
    return 1.0 - step(gap.astype(float), 0.0, max(1.0, _FADE_S * fps))


def _across(vectors: np.ndarray, direction: np.ndarray) -> np.ndarray:
    return rotations.normalize(vectors - np.sum(vectors * direction, axis=-1, keepdims=True) * direction)


def _heading(offsets: np.ndarray) -> np.ndarray:
    """Return the turn (..., 4) from the front to the direction of feet with offsets (..., 3) from ankle to toe."""
    flat = rotations.normalize(offsets * [1.0, 0.0, 1.0], (0.0, 0.0, 1.0))
    return rotations.between([0.0, 0.0, 1.0], flat)


def find_soles(character: Character, scale: float) -> tuple[Sole, Sole]:
    """Find the soles of a character from its skin, or estimate them from the bones of its feet.

    Args:
        character: the character.
        scale: length of a meter of the result, in the character's unit.
    """
    rest = character.rest_landmarks()
    left, right = (_sole(character, rest, side, scale) for side in range(2))
    return left, right


def _sole(character: Character, rest: Landmarks, side: int, scale: float) -> Sole:
    ankle, toe = rest.ankles[side, 0], rest.toes[side, 0]
    front = rotations.rotate(_heading(toe - ankle), [0.0, 0.0, 1.0])
    left = np.cross(_UP, front)
    length = float((toe - ankle) @ front)
    back, ball, tip, width = -_HEEL * length, length, _TOES * length, _WIDTH * length
    limb = character.anatomy.legs[side]
    if character.skin is not None and len(character.skin.points):
        skin = character.skin
        points = skin.points @ character.axes.T - [0.0, character.floor, 0.0]
        owner = skin.joints[np.arange(len(points)), skin.weights.argmax(axis=1)]
        low = points[:, 1] < ankle[1]
        heel, toes = points[low & (owner == limb.end)], points[low & (owner == limb.tip)]
        if len(heel):
            back = float(np.clip(((heel - ankle) @ front).min(), -length, 0.0))
            if limb.tip is None or not len(toes):
                ball = float(np.clip(((heel - ankle) @ front).max(), length, 2.0 * length))
        if len(toes):
            tip = float(np.clip(((toes - toe) @ front).max(), 0.0, length))
            width = float(np.clip(np.abs((toes - toe) @ left).max(), 0.0, length))
    corners = np.stack([front * along - [0.0, ankle[1], 0.0] for along in (back, ball)])
    return Sole(corners / scale, tip / scale, width / scale)


def toe_turns(feet: np.ndarray, offset: np.ndarray, rise: np.ndarray, sole: Sole) -> np.ndarray:
    """Bend and level the toes as far as the floor requires when the heel rises.

    Args:
        feet: (T, 4), turns of the foot from its rest pose.
        offset: (3,), from ankle to toe in the rest pose.
        rise: (T,), how far the joint of the toes is above where it is at rest.
        sole: sole of the foot.

    Returns:
        (T, 4), turns of the toes from their rest pose.
    """
    heading = _heading(offset)
    for axis, other, reach, largest in (
        ([1.0, 0.0, 0.0], [0.0, 0.0, 1.0], sole.toes, _LARGEST_BEND),
        ([0.0, 0.0, 1.0], [1.0, 0.0, 0.0], sole.width, _LARGEST_ROLL),
    ):
        pose = rotations.multiply(feet, heading)
        about, along = rotations.rotate(pose, axis), rotations.rotate(pose, other)
        slope = np.arcsin(np.clip(along[:, 1], -1.0, 1.0))
        allowed = np.arcsin(np.clip(rise / max(reach, 1e-9), 0.0, 1.0))
        if axis[0]:  # toes may point up, but not roll to either side
            more = np.minimum(slope + allowed, 0.0)
        else:
            more = -np.sign(slope) * np.maximum(np.abs(slope) - allowed, 0.0)
        feet = rotations.multiply(twist_about(about, np.clip(more, -largest, largest)), feet)
    return feet


def place_legs(
    hips: np.ndarray,
    bones: tuple[np.ndarray, np.ndarray],
    lengths: np.ndarray,
    feet: FootTurns,
    rest: Landmarks,
    soles: tuple[Sole, Sole],
    plants: np.ndarray | None,
    fps: float,
) -> PlacedLegs:
    """Place knees, ankles and toes of a character below its hips.

    The hips rise or sink so that the legs reach the floor with the directions of the motion. The rest, which is due to
    other proportions, is left to two-bone inverse kinematics.

    Args:
        hips: (2, T, 3), hip joints of the character, meters on a body whose legs are as long as the motion's.
        bones: directions (2, T, 3) of thighs and shanks.
        lengths: (2, 2), lengths of thigh and shank of each leg.
        feet: orientation of the feet.
        rest: rest pose of the character, in the same meters, standing on y = 0.
        soles: soles of both feet, in the same meters.
        plants: (T, 4), points of the feet that stay in place; None to leave feet where they are.
        fps: frames per second.
    """
    offsets = (rest.toes - rest.ankles)[:, 0]
    turned = rotations.multiply(feet.turns, rotations.conjugate(_heading(offsets))[:, None])
    ways = rotations.rotate(turned, offsets[:, None])
    free = hips + bones[0] * lengths[:, :1, None] + bones[1] * lengths[:, 1:, None]
    standing = np.stack([rest.ankles[:, 0, 1], rest.toes[:, 0, 1]], axis=-1)  # (2, 2): side; ankle, toe
    wanted = standing[:, None] + feet.rise - feet.held * np.clip(feet.rise, -_NOISE_M, _NOISE_M)
    by_ankle, by_toe = wanted[..., 0], wanted[..., 1] - ways[..., 1]
    height = by_ankle + feet.held[..., 1] * (by_toe - by_ankle)
    # Neither heel nor ball of the foot sinks into the floor.
    lowest = _lowest(turned, rest, soles)
    height = np.maximum(height, lowest)

    weight = 0.01 + np.exp(-np.maximum(feet.rise.min(axis=-1), 0.0) / _NEAR_M)
    rise = np.sum(weight * (height - free[..., 1]), axis=0) / weight.sum(axis=0)
    shift = np.zeros((len(rise), 3))
    shift[:, 1] = smoothed(rise, _HIPS_S * fps)
    targets = free.copy()
    held = feet.held.max(axis=-1)
    targets[..., 1] = height * held + np.maximum(free[..., 1] + shift[:, 1], lowest) * (1.0 - held)
    if plants is not None and plants.any():
        # Planted from hips so low that legs reach everything, the feet come to where they should stand.
        low = hips + shift - _DEEPEST_M * _UP
        knees, ankles = _two_bones(low, targets, lengths, free + shift, bones, hips[0] - hips[1])
        joints = np.repeat(low.mean(axis=0)[:, None], HUMANML3D_22.num_joints, axis=1)
        for side, leg in enumerate((_LEFT_LEG, _RIGHT_LEG)):
            joints[:, list(leg)] = np.stack([low[side], knees[side], ankles[side], ankles[side] + ways[side]], axis=1)
        planted = plant_joints(joints, fps, plants=plants)
        targets, toes = (np.stack([planted[:, leg[k]] for leg in (_LEFT_LEG, _RIGHT_LEG)]) for k in (2, 3))
        turned = rotations.multiply(rotations.between(ways, toes - targets), turned)
        ways = rotations.rotate(turned, offsets[:, None])
        # Planting moves toes by up to a centimeter, so that a foot may sink again.
        targets[..., 1] = np.maximum(targets[..., 1], _lowest(turned, rest, soles))
    shift[:, 1] -= _sinking(hips + shift, targets, _STRAIGHT * lengths.sum(axis=-1), held > 0.5, fps)
    hips = hips + shift
    knees, ankles = _two_bones(hips, targets, lengths, free + shift, bones, hips[0] - hips[1])
    return PlacedLegs(hips, knees, ankles, ankles + ways, turned, shift)


def _sinking(hips: np.ndarray, targets: np.ndarray, reach: np.ndarray, held: np.ndarray, fps: float) -> np.ndarray:
    """Return how far (T,) the hips sink, smoothly, so that legs reach the targets (2, T, 3) of planted feet."""
    flat = np.linalg.norm((targets - hips)[..., ::2], axis=-1)
    highest = targets[..., 1] + np.sqrt(np.maximum(reach[:, None] ** 2 - flat**2, 0.0))
    excess = np.max(np.where(held, hips[..., 1] - highest, 0.0), axis=0)
    excess = np.clip(excess - _FLOATING_M, 0.0, _DEEPEST_M)
    radius = max(1, round(2.0 * _HIPS_S * fps))
    padded = np.pad(excess, radius, mode="edge")
    widest = np.lib.stride_tricks.sliding_window_view(padded, 2 * radius + 1).max(axis=-1)
    return smoothed(widest, _HIPS_S * fps)


def _lowest(turns: np.ndarray, rest: Landmarks, soles: tuple[Sole, Sole]) -> np.ndarray:
    """Return the lowest heights (2, T) of the ankles of turned feet (2, T, 4).

    Heel and ball are on the floor or above it, and the joint of the toes is not lower than where it stands.
    """
    corners = np.stack([sole.corners for sole in soles])[:, :, None]
    toes = rotations.rotate(turns, rest.toes - rest.ankles)[..., 1]
    return np.maximum(-rotations.rotate(turns[:, None], corners)[..., 1].min(axis=1), rest.toes[..., 1] - toes)


def _two_bones(
    hips: np.ndarray,
    targets: np.ndarray,
    lengths: np.ndarray,
    free: np.ndarray,
    bones: tuple[np.ndarray, np.ndarray],
    across: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Bend legs so that the ankles (2, T, 3) reach their targets, with the knees on the side where they were."""
    thigh, shank = lengths[:, :1], lengths[:, 1:]
    way = targets - hips
    distance = np.linalg.norm(way, axis=-1)
    reached = np.clip(distance, np.abs(thigh - shank) * 1.001 + 1e-9, (thigh + shank) * (1.0 - 1e-6))
    line = rotations.normalize(way, (0.0, -1.0, 0.0))
    old = rotations.normalize(free - hips, line)
    along = (thigh**2 - shank**2 + reached**2) / (2.0 * np.maximum(reached, 1e-9))
    out = np.sqrt(np.maximum(thigh**2 - along**2, 0.0))[..., None]
    side = bones[0] * thigh[..., None]
    side = side - np.sum(side * old, axis=-1, keepdims=True) * old
    side = rotations.rotate(rotations.between(old, line), side)
    # A straight leg has no knee direction, so what it bends more points forward.
    more = np.maximum(out - np.linalg.norm(side, axis=-1, keepdims=True), 0.0)
    side = side + more * rotations.normalize(np.cross(line, across))
    knees = hips + line * along[..., None] + _across(side, line) * out
    return knees, hips + line * reached[..., None]
