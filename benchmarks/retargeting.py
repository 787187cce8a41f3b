"""Measure motions that are retargeted onto characters: directions, bone lengths, feet, floor, and joints that flip.

    python benchmarks/retargeting.py --cmu cmu_bvh.tar.xz hero.glb other.vrm [--motions 100] [--seed 0]

Prints a row for each character, for the rig `mixamo`, and for three bodies of other proportions and rest poses that the
script builds. Nothing is written. Of all frames of all motions:

- *arms, legs, swing*: angle between a bone in the motion and on the character, mean and 95th percentile. *Legs* are all
  legs, *swing* those without a planted foot: a leg that stands bends until its foot is on the floor of the character.
- *spine, head, hips, chest*: the same for the directions from hips to neck, from neck to head, and from right to left.
- *length*: largest relative change of the length of a bone.
- *slide*: how far a planted heel or toe moves on the floor, 99th percentile and largest, in centimeters.
- *sunk, skin*: depth of toes and ankles below where they stand, and of the skin of feet below the floor, likewise.
- *flips*: frames in which a bone of a limb turns by more than 120 degrees in a twentieth of a second although its
  direction turns by less than 40, or a knee or elbow of the character bends backward by more than 20 degrees while that
  of the motion bends by more than 20.
- *ms*: processor time per second of motion.

Lengths are relative to legs as long as those of the motion.
"""

import argparse
import random
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from lamp_hf.data import load_cmu_mocap, with_numpy_motion
from lamp_hf.motion import rotations
from lamp_hf.motion.formats.hierarchy import Hierarchy
from lamp_hf.motion.motion import Motion
from lamp_hf.motion.retarget import Character, CharacterMotion
from lamp_hf.motion.retarget.character import Skin, build_character
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
    plants = motion.foot_plants()
    found: dict[str, list[np.ndarray]] = defaultdict(list)
    for kind, chain in (("arms", ("shoulders", "elbows", "wrists")), ("legs", ("hips", "knees", "ankles"))):
        for upper, lower in pairwise(chain):
            ways = [getattr(points, lower) - getattr(points, upper) for points in (before, after)]
            angles = angle(*ways)
            found[kind].append(angles.ravel())
            if kind == "legs":
                planted = plants.reshape(-1, 2, 2).any(axis=2).T
                found["swing"].append(angles[~planted])
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
    found["flips"].append(flips(before, made))
    return {kind: np.concatenate(values) for kind, values in found.items() if values}


def flips(before: Landmarks, made: CharacterMotion) -> np.ndarray:
    """Return the number of flips in each frame (T,)."""
    character = made.character
    count = np.zeros(made.num_frames)
    chains = {"arms": ("shoulders", "elbows", "wrists"), "legs": ("hips", "knees", "ankles")}
    for kind, chain in chains.items():
        points = [getattr(before, part) for part in chain]
        for side, limb in enumerate(getattr(character.anatomy, kind)):
            ways = points[1][side] - points[0][side], points[2][side] - points[1][side]
            for joint, way in zip((limb.upper, limb.lower), ways, strict=True):
                turn = made.turns[joint]
                change = rotations.multiply(turn[1:], rotations.conjugate(turn[:-1]))
                turned = np.degrees(2.0 * np.arctan2(np.linalg.norm(change[:, 1:], axis=-1), np.abs(change[:, 0])))
                turned, swung = (value * made.fps / 20.0 for value in (turned, angle(way[1:], way[:-1])))
                count[1:] += (turned > 120.0) & (swung < 40.0)
            # How the lower bone turns relative to the upper one, about the axis that the rest pose bends about.
            rest = character.rest_landmarks()
            down = rotations.normalize(getattr(rest, chain[1])[side] - getattr(rest, chain[0])[side])
            left = (1.0 if side == 0 else -1.0) * np.array([[0.0, -1.0, 0.0]])
            axis = np.array([[1.0, 0.0, 0.0]]) if kind == "legs" else left
            axis = rotations.normalize(axis - np.sum(axis * down) * down)
            axis = rotations.rotate(made.turns[limb.upper], axis)
            across = np.sum(np.cross(*ways) * axis, axis=-1)
            bend = np.degrees(np.arctan2(across, np.sum(ways[0] * ways[1], axis=-1)))
            count += (bend < -20.0) & (angle(*ways) > 20.0)
    return count


def light(character: Character) -> Character:
    """Return a character with only the lowest points of its skin, which show whether its feet sink."""
    skin = character.skin
    if skin is None or len(skin.points) <= SKIN_POINTS:
        return character
    lowest = np.argsort(skin.points @ character.axes[1])[:SKIN_POINTS]
    return replace(character, skin=Skin(skin.points[lowest], skin.joints[lowest], skin.weights[lowest]))


def body(name: str, stretch: Mapping[str, float], arms: tuple[float, float], seed: int) -> Character:
    """Build a character from the rig `unreal`.

    Args:
        name: its name.
        stretch: factors of the lengths of bones, by the start of the names of the joints at their ends.
        arms: how far the arms of the rest pose hang down, and point to the front, in degrees.
        seed: seed of the orientation of its joints.
    """
    base = Character.of_rig("unreal")
    turns = [
        rotations.multiply(
            rotations.about_axis("y", np.radians(-side * arms[1])),
            rotations.about_axis("z", np.radians(-side * arms[0])),
        )
        for side in (1.0, -1.0)
    ]
    positions = np.zeros_like(base.rest_positions)
    for joint, (joint_name, parent) in enumerate(zip(base.joint_names, base.parents, strict=True)):
        if parent < 0:
            continue
        way = base.rest_positions[joint] - base.rest_positions[parent]
        way = way * next((factor for start, factor in stretch.items() if joint_name.startswith(start)), 1.0)
        if joint_name.startswith(("lowerarm", "hand")):
            way = rotations.rotate(turns[joint_name.endswith("_r")], way)
        positions[joint] = positions[parent] + way
    axes = rotations.to_matrix(rotations.normalize(np.random.default_rng(seed).normal(size=(len(positions), 4))))
    hierarchy = Hierarchy(base.joint_names, base.parents, positions, positions)
    joints = range(len(positions))
    local = np.tile([1.0, 0.0, 0.0, 0.0], (len(positions), 1))  # only needed to write a file
    return build_character(
        name, base.joint_names, base.parents, positions, axes, local, (joints, hierarchy), mapping=None
    )


def bodies() -> list[Character]:
    """Build characters of other proportions and rest poses."""
    return [
        body("child, A-pose", {"thigh": 0.6, "calf": 0.5, "foot": 0.55, "spine": 0.8, "lowerarm": 0.7}, (45.0, 0.0), 0),
        body("long legs, arms down", {"calf": 1.4, "foot": 1.6, "ball": 1.2, "hand": 0.8}, (85.0, 0.0), 1),
        body("long arms to the front", {"lowerarm": 1.3, "hand": 1.5, "clavicle": 1.4, "foot": 0.7}, (0.0, 80.0), 2),
    ]


COLUMNS = ("arms", "legs", "swing", "spine", "head", "hips", "chest", "length", "slide", "sunk", "skin", "flips", "ms")


def row(character: Character, motions: Sequence[Motion]) -> tuple[list[str], dict[str, np.ndarray]]:
    """Return the cells of a character's row, and all measures."""
    all_of: dict[str, list[np.ndarray]] = defaultdict(list)
    spent = 0.0
    for motion in motions:
        start = time.process_time()
        made = motion.on(character)
        spent += time.process_time() - start
        for kind, values in measure(motion, made).items():
            all_of[kind].append(values)
    found = {kind: np.concatenate(values) for kind, values in all_of.items()}

    def cell(kind: str) -> str:
        values = found.get(kind)
        if values is None or not len(values):
            return "–"
        if kind in ("slide", "sunk", "skin"):
            return f"{np.quantile(values, 0.99) * 100:.2f} / {values.max() * 100:.2f}"
        return f"{values.mean():.2f} / {np.quantile(values, 0.95):.2f}"

    cells = {kind: cell(kind) for kind in COLUMNS}
    cells["length"] = f"{found['length'].max():.0e}"
    cells["flips"] = str(int(found["flips"].sum()))
    cells["ms"] = f"{1000 * spent / sum(motion.duration for motion in motions):.0f}"
    return [character.name, *cells.values()], found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("characters", nargs="*", type=Path, help=".glb, .vrm or .bvh files")
    parser.add_argument("--cmu", type=Path, required=True, help="archive of the CMU database, for `load_cmu_mocap`")
    parser.add_argument("--motions", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    data = load_cmu_mocap(options.cmu)["train"]
    chosen = sorted(random.Random(options.seed).sample(range(len(data)), options.motions))
    rows = with_numpy_motion(data.select(chosen))
    motions = [Motion(features=one["motion"], fps=one["fps"], name=one["id"]) for one in rows]
    characters = [*map(Character.load, options.characters), Character.of_rig("mixamo"), *bodies()]
    table = Table(title=f"{len(motions)} motions, {sum(motion.duration for motion in motions) / 60:.1f} minutes")
    for column in ("character", *COLUMNS):
        table.add_column(column)
    for character in characters:
        table.add_row(*row(light(character), motions)[0])
    Console(width=200).print(table)


if __name__ == "__main__":
    main()
