"""Measure motions that are retargeted onto characters: directions, bone lengths, feet, floor, and joints that flip.

    python benchmarks/retargeting.py --cmu cmu_bvh.tar.xz hero.glb other.vrm [--motions 100] [--seed 0]

Prints a row for each character, each rig of `--rig`, and three bodies of other proportions and rest poses that the
script builds. Nothing is written. Of all frames of all motions:

- *limbs*: angle between a bone of an arm or a leg in the motion and on the character, mean and 99th percentile; of
  arms, and of legs, whose feet are planted on the floor.
- *spine, head, hips, chest*: the same for the directions from hips to neck, from neck to head, and from right to left.
- *length*: largest relative change of the length of a bone.
- *slide*: how far a planted heel or toe moves on the floor, 99th percentile and largest.
- *sunk*: depth of toes and ankles below where they stand, and of the skin below the floor; 99th percentile of frames.
- *flips*: frames in which an upper arm, forearm, thigh or shank turns by more than 90 degrees about itself in a
  twentieth of a second, or a knee or elbow bends backward by more than 20 degrees on the character.
"""

import time
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from lamp_hf.motion import rotations
from lamp_hf.motion.motion import Motion
from lamp_hf.motion.retarget import Character, CharacterMotion
from lamp_hf.motion.retarget.landmarks import Landmarks, leg_length, of_joints
from lamp_hf.motion.skeleton import HUMANML3D_22

SKIN_POINTS = 400  # the lowest points of the skin at rest


def angle(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return angles in degrees between vectors (..., 3)."""
    cross = np.linalg.norm(np.cross(a, b), axis=-1)
    return np.degrees(np.arctan2(cross, np.sum(a * b, axis=-1)))


def landmarks(made: CharacterMotion) -> Landmarks:
    """Return the landmarks of a character in motion, in its own left, up and front; placed ones stay at the hips."""
    character = made.character
    points = made.positions @ character.axes.T - [0.0, character.floor, 0.0]
    anatomy = character.anatomy
    arms, legs = anatomy.arms, anatomy.legs

    def pair(joints: Sequence[int | None], instead: Sequence[int]) -> np.ndarray:
        return np.stack([points[:, b if a is None else a] for a, b in zip(joints, instead, strict=True)])

    hips = pair([leg.upper for leg in legs], [0, 0])
    shoulders = pair([arm.upper for arm in arms], [0, 0])
    neck = points[:, anatomy.neck[0]] if anatomy.neck else shoulders.mean(axis=0)
    return Landmarks(
        pelvis=hips.mean(axis=0),
        middle=hips.mean(axis=0),
        neck=neck,
        head=points[:, anatomy.head] if anatomy.head is not None else neck,
        hips=hips,
        knees=pair([leg.lower for leg in legs], [0, 0]),
        ankles=pair([leg.end for leg in legs], [0, 0]),
        toes=pair([leg.tip for leg in legs], [leg.end for leg in legs]),
        shoulders=shoulders,
        elbows=pair([arm.lower for arm in arms], [0, 0]),
        wrists=pair([arm.end for arm in arms], [0, 0]),
        collars=None,
    )


def measure(motion: Motion, made: CharacterMotion) -> dict[str, np.ndarray]:
    """Return measures of one motion on a character, one array per measure."""
    before, after = of_joints(motion.joints, HUMANML3D_22), landmarks(made)
    character = made.character
    meters = leg_length(before) / leg_length(after)  # so that centimeters mean the same on each character
    found: dict[str, list[np.ndarray]] = defaultdict(list)
    for kind, chain in (("arms", ("shoulders", "elbows", "wrists")), ("legs", ("hips", "knees", "ankles"))):
        for upper, lower in zip(chain, chain[1:], strict=False):
            ways = [getattr(points, lower) - getattr(points, upper) for points in (before, after)]
            found[kind].append(angle(*ways).ravel())
    found["spine"].append(angle(before.neck - before.between_hips, after.neck - after.between_hips))
    if character.anatomy.head is not None and character.anatomy.neck:
        found["head"].append(angle(before.head - before.neck, after.head - after.neck))
    for kind, part in (("hips", "hips"), ("chest", "shoulders")):
        ways = [getattr(points, part)[0] - getattr(points, part)[1] for points in (before, after)]
        found[kind].append(angle(*ways))

    positions, rest = made.positions, character.rest_positions
    for joint, parent in enumerate(character.parents):
        if parent >= 0 and (length := np.linalg.norm(rest[joint] - rest[parent])) > 1e-9:
            now = np.linalg.norm(positions[:, joint] - positions[:, parent], axis=-1)
            if joint != character.anatomy.root:
                found["length"].append(np.abs(now / length - 1.0))

    plants = motion.foot_plants()
    floor = character.rest_landmarks()
    for side in range(2):
        for point, (place, standing) in enumerate(
            ((after.ankles[side], floor.ankles[side]), (after.toes[side], floor.toes[side]))
        ):
            planted = plants[:, 2 * side + point].astype(int)
            edges = np.flatnonzero(np.diff(np.concatenate([[0], planted, [0]])))
            for start, stop in zip(edges[::2], edges[1::2], strict=True):
                where = place[start:stop, ::2]
                found["slide"].append(np.linalg.norm(where - where.mean(axis=0), axis=-1) * meters)
            if point == 0 or character.anatomy.legs[side].tip is not None:
                found["sunk"].append(np.maximum(standing[0, 1] - place[:, 1], 0.0) * meters)
    if character.skin is not None:
        heights = made.skin() @ character.axes[1] - character.floor
        found["skin"].append(np.maximum(-heights.min(axis=1), 0.0) * meters)
    found["flips"].append(flips(made, after))
    return {kind: np.concatenate(values) for kind, values in found.items() if values}


def flips(made: CharacterMotion, points: Landmarks) -> np.ndarray:
    """Return the number of flips in each frame (T,)."""
    character = made.character
    count = np.zeros(made.num_frames)
    for limb in (*character.anatomy.arms, *character.anatomy.legs):
        for joint in (limb.upper, limb.lower):
            turn = made.turns[joint]
            change = rotations.multiply(turn[1:], rotations.conjugate(turn[:-1]))
            turned = np.degrees(2.0 * np.arctan2(np.linalg.norm(change[:, 1:], axis=-1), np.abs(change[:, 0])))
            count[1:] += turned * made.fps / 20.0 > 90.0
    rest = character.rest_landmarks()
    for side, leg in enumerate(character.anatomy.legs):
        # The axis of the knee, fixed to the thigh: to the left of a body that stands.
        thigh = rotations.normalize(rest.knees[side] - rest.hips[side])
        left = rest.hips[0] - rest.hips[1]
        axis = rotations.rotate(made.turns[leg.upper], rotations.normalize(left - np.sum(left * thigh) * thigh)[0])
        ways = points.knees[side] - points.hips[side], points.ankles[side] - points.knees[side]
        bend = np.degrees(np.arctan2(np.sum(np.cross(*ways) * axis, axis=-1), np.sum(ways[0] * ways[1], axis=-1)))
        count += bend < -20.0
    return count


def without(character: Character) -> Character:
    """Return a character with only the lowest points of its skin, which show whether it sinks."""
    if character.skin is None or len(character.skin.points) <= SKIN_POINTS:
        return character
    from dataclasses import replace

    order = np.argsort(character.skin.points @ character.axes[1])[:SKIN_POINTS]
    skin = character.skin
    return replace(
        character, skin=replace(skin, points=skin.points[order], joints=skin.joints[order], weights=skin.weights[order])
    )


def row(character: Character, motions: Sequence[Motion]) -> tuple[list[str], dict[str, np.ndarray]]:
    """Return the cells of a character's row."""
    start = time.process_time()
    all_of: dict[str, list[np.ndarray]] = defaultdict(list)
    spent = 0.0
    for motion in motions:
        start = time.process_time()
        made = motion.on(character)
        spent += time.process_time() - start
        for kind, values in measure(motion, made).items():
            all_of[kind].append(values)
    found = {kind: np.concatenate(values) for kind, values in all_of.items()}

    def degrees(kind: str) -> str:
        values = found.get(kind)
        return "–" if values is None else f"{values.mean():.2f} / {np.quantile(values, 0.99):.2f}"

    def centimeters(kind: str) -> str:
        values = found.get(kind)
        return "–" if values is None else f"{np.quantile(values, 0.99) * 100:.2f} / {values.max() * 100:.2f}"

    cells = [character.name, *(degrees(kind) for kind in ("arms", "legs", "spine", "head", "hips", "chest"))]
    cells += [f"{found['length'].max():.0e}", *(centimeters(kind) for kind in ("slide", "sunk", "skin"))]
    seconds = sum(motion.duration for motion in motions)
    return [*cells, f"{int(found['flips'].sum())}", f"{spent / seconds * 1000:.0f}"], found
