"""Propose segments of CMU takes, of 2 to 9.8 seconds, that one sentence can describe.

python benchmarks/cmu_captions/propose.py BVH_FOLDER --output proposals.jsonl [--takes 01_01 05_02]

Cuts are placed where the motion changes most: where the time before differs from the time after in speed, turning,
heights, lean and liveliness. Dynamic programming finds the cuts with the largest total change. Every cut has a cost, so
steady motion is cut only where it must be.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from lamp_hf.data.cmu.facts import packaged_facts
from lamp_hf.data.cmu.measures import Measures
from lamp_hf.data.cmu.segments import MAX_SECONDS, stretches
from lamp_hf.data.cmu.takes import MIN_SECONDS, clean_joints
from lamp_hf.motion.errors import MotionFormatError

FPS = 20.0
GRID = 2  # frames; cuts are at multiples of a tenth of a second
SHORTEST_S = 2.0
_COST = 2.3  # cost of a cut, in the unit of `changes`
_WINDOW_S = 1.5
# Size of one unit of change of each measure.
_SCALES = {
    "forward": 0.5,
    "sideways": 0.4,
    "turning": 60.0,
    "pelvis": 0.15,
    "left wrist": 0.4,
    "right wrist": 0.4,
    "hands apart": 0.5,
    "lean": 25.0,
    "lean aside": 25.0,
    "bouncing": 0.25,
    "twisting": 45.0,
    "bowing": 50.0,
    "liveliness of arms": 0.7,
    "liveliness of legs": 0.7,
}


def main() -> None:
    """Write a line for each proposed segment."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder with BVH files of takes, at any depth")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--takes", nargs="*", help="these takes only")
    arguments = parser.parse_args()
    facts = packaged_facts()
    takes, segments, seconds = 0, 0, 0.0
    with arguments.output.open("w", encoding="utf-8") as output:
        for path in sorted(arguments.folder.rglob("*.bvh")):
            if path.stem not in facts or (arguments.takes and path.stem not in arguments.takes):
                continue
            try:
                joints, sound = clean_joints(path, facts[path.stem].capture_fps)
            except MotionFormatError as error:
                print(f"skipped {path.stem}: {error}")
                continue
            proposed = propose(Measures(joints, FPS), sound)
            takes += bool(proposed)
            for start, end in proposed:
                output.write(json.dumps({"take": path.stem, "start": start, "end": end}) + "\n")
                segments += 1
                seconds += end - start
    print(f"{takes} takes, {segments} segments, {seconds / 3600:.2f} hours")


def changes(measures: Measures) -> np.ndarray:
    """Return (T,) how much the motion after each frame differs from that before; 1 is a clear change of activity."""
    limbs = {
        name: np.mean(
            [
                np.linalg.norm(np.gradient(measures.in_body(f"{side}_{joint}"), 1 / FPS, axis=0), axis=-1)
                for side in ("left", "right")
            ],
            axis=0,
        )
        for name, joint in (("liveliness of arms", "wrist"), ("liveliness of legs", "ankle"))
    }
    curves = {
        "forward": measures.travel[:, 0],
        "sideways": measures.travel[:, 1],
        "turning": np.clip(measures.turning, -180, 180),
        "pelvis": measures.height("pelvis"),
        "left wrist": measures.wrist_above("left", "left_shoulder"),
        "right wrist": measures.wrist_above("right", "right_shoulder"),
        "hands apart": measures.hands_apart,
        "lean": measures.lean[:, 0],
        "lean aside": measures.lean[:, 1],
        "bouncing": np.abs(np.gradient(measures.height("pelvis"), 1 / FPS)),
        "twisting": np.abs(np.clip(measures.turning, -180, 180)),
        "bowing": np.minimum(np.abs(np.gradient(measures.lean[:, 0], 1 / FPS)), 200.0),
        **limbs,
    }
    values = np.stack([curves[name] / scale for name, scale in _SCALES.items()], axis=-1)
    window = round(_WINDOW_S * FPS)
    padded = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(values, axis=0)])
    frames = np.arange(len(values))
    low, high = np.maximum(frames - window, 0), np.minimum(frames + window, len(values))
    before = (padded[frames] - padded[low]) / np.maximum(frames - low, 1)[:, None]
    after = (padded[high] - padded[frames]) / np.maximum(high - frames, 1)[:, None]
    difference = np.linalg.norm(after - before, axis=-1) * (frames > 0)
    # Prefer still moments, because a cut through the middle of a swing leaves half a swing on both sides.
    moving = np.mean(list(limbs.values()), axis=0)
    return np.asarray(difference - 0.3 * np.minimum(moving, 2.0))


def propose(measures: Measures, sound: np.ndarray) -> list[tuple[float, float]]:
    """Return start and end in seconds of the proposed segments of a take.

    Args:
        measures: Measurements of the take.
        sound: (T - 1,) bool, true for sound frames.
    """
    scores = changes(measures)
    return [segment for start, stop in stretches(sound) for segment in _cut(scores, start, stop)]


def _cut(scores: np.ndarray, start: int, stop: int) -> list[tuple[float, float]]:
    length = stop - start
    if length < MIN_SECONDS * FPS - 2:
        return []
    if length <= SHORTEST_S * FPS:
        return [(start / FPS, stop / FPS)]
    places = [*range(start, stop, GRID)]
    if stop - places[-1] > 1:
        places.append(stop)
    else:
        places[-1] = stop
    frames = np.array(places)
    gains = np.append(scores, 0.0)[np.minimum(frames, len(scores))] - _COST
    best = np.full(len(frames), -np.inf)
    origin = np.zeros(len(frames), dtype=int)
    best[0] = 0.0
    for index in range(1, len(frames)):
        lengths = (frames[index] - frames[:index]) / FPS
        allowed = np.flatnonzero((lengths >= SHORTEST_S) & (lengths <= MAX_SECONDS))
        if len(allowed):
            origin[index] = allowed[np.argmax(best[allowed])]
            best[index] = best[origin[index]] + (gains[index] if index < len(frames) - 1 else 0.0)
    if not np.isfinite(best[-1]):  # impossible from 2 seconds on, because 4 to 9.8 seconds can be halved
        raise AssertionError(f"no cuts for {length} frames")
    found, index = [], len(frames) - 1
    while index > 0:
        found.append((round(frames[origin[index]] / FPS, 2), round(frames[index] / FPS, 2)))
        index = int(origin[index])
    return found[::-1]


if __name__ == "__main__":
    main()
