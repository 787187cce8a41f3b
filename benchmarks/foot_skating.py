"""Measure where feet slide: in real clips, reconstructions by the tokenizer, generated motions, and exported files.

    python benchmarks/foot_skating.py --data bandai_bvh.tar.xz [--cmu cmu_bvh.tar.xz] [--motions 16] [--output F.json]

Prints two figures for each kind of motion, before and after `Motion.plant_feet`. *Skating* is `Motion.foot_skating`:
the share of frames with a low foot in which it moves at more than 0.5 m/s. It mostly depends on the action, because a
foot that rolls off or swings low counts too. *Slide* is the mean speed of the points that `Motion.foot_plants` finds
standing, which is what people see as sliding. Walks are compared with walks.
"""

import argparse
import json
import random
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from rich.console import Console
from rich.table import Table
from transformers import pipeline

import lamp_hf  # noqa: F401 (registers the pipelines)
from lamp_hf.data import load_bandai_namco, load_cmu_mocap, with_numpy_motion
from lamp_hf.files import atomic_path
from lamp_hf.motion.features import joints_to_features
from lamp_hf.motion.feet import planted_kinematics
from lamp_hf.motion.kinematics import forward_kinematics
from lamp_hf.motion.limits import MAX_CLIP_FRAMES
from lamp_hf.motion.motion import Motion
from lamp_hf.pipelines.text_warnings import for_measurement

WALK = "a person walks forward"
FILES = 2  # motions to fit to the bones of a file, which takes seconds per motion
PARTS = {"root's path": slice(0, 4), "pose": slice(4, None)}  # slices of the features


def slide(motion: Motion, plants: np.ndarray, joints: np.ndarray | None = None) -> float | None:
    """Return the mean horizontal speed of planted points in m/s, or `None` if no foot stands."""
    places = (motion.joints if joints is None else joints)[:, list(motion.skeleton.contact_joints)]
    speed = np.linalg.norm(np.diff(places[..., ::2], axis=0), axis=-1) * motion.fps
    standing = plants[1:] & plants[:-1]
    return float(speed[standing].mean()) if standing.any() else None


def mean(values: Iterable[float | None]) -> float:
    """Return the mean of the known values, or NaN if there are none."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else float("nan")


def measure(motions: Sequence[Motion]) -> dict[str, float]:
    """Measure motions, unchanged and with planted feet."""
    plants = [motion.foot_plants() for motion in motions]
    start = time.process_time()
    planted = [motion.plant_feet() for motion in motions]
    spent = time.process_time() - start
    after = [slide(motion, each) for motion, each in zip(planted, plants, strict=True)]
    ratios = [b.jitter() / max(a.jitter(), 1e-9) for a, b in zip(motions, planted, strict=True) if a.num_frames > 3]
    hips = [
        np.linalg.norm(b.joints[:, 0] - a.joints[:, 0], axis=-1).max() for a, b in zip(motions, planted, strict=True)
    ]
    feet = [list(motion.skeleton.contact_joints) for motion in motions]
    sunk = [
        float((np.minimum(a.joints[:, f, 1], 0.0) - np.minimum(b.joints[:, f, 1], 0.0)).max())
        for a, b, f in zip(motions, planted, feet, strict=True)
    ]
    return {
        "motions": len(motions),
        "seconds": float(np.mean([motion.duration for motion in motions])),
        "skating": mean(motion.foot_skating() for motion in motions),
        "slide": mean(slide(motion, each) for motion, each in zip(motions, plants, strict=True)),
        "planted_share": mean(float(each.mean()) for each in plants),
        "planted_skating": mean(motion.foot_skating() for motion in planted),
        "planted_slide": mean(after),
        "planted_slide_worst": max((value for value in after if value is not None), default=float("nan")),
        "hips_cm": 100.0 * float(max(hips)),
        "jitter_ratio": mean(ratios),
        "jitter_ratio_worst": max(ratios),
        "knees_flipped": sum(knees_flipped(a, b) for a, b in zip(motions, planted, strict=True)),
        "sunk_mm": 1000.0 * max(sunk),
        "ms_a_motion": 1000.0 * spent / len(motions),
    }


def knees_flipped(before: Motion, after: Motion) -> int:
    """Count the frames in which a knee that was bent forward by a centimeter is now bent backward."""
    flipped = 0
    for leg in legs(before):
        bends = [bend(motion.joints.astype(np.float64), *leg) for motion in (before, after)]
        flipped += int(((bends[0] > 0.01) & (bends[1] < -0.01)).sum())
    return flipped


def legs(motion: Motion) -> list[tuple[int, int, int]]:
    """Return hip, knee and ankle of both legs."""
    names = motion.skeleton.joint_names
    sides = ("left", "right")
    return [tuple(names.index(f"{side}_{part}") for part in ("hip", "knee", "ankle")) for side in sides]  # type: ignore[misc]


def bend(joints: np.ndarray, hip: int, knee: int, ankle: int) -> np.ndarray:
    """Return how far (T,) the knee is in front of the line from hip to ankle, in meters."""
    way = joints[:, ankle] - joints[:, hip]
    way /= np.maximum(np.linalg.norm(way, axis=-1, keepdims=True), 1e-9)
    across = joints[:, 1] - joints[:, 2]
    forward = np.cross(way, across)
    forward /= np.maximum(np.linalg.norm(forward, axis=-1, keepdims=True), 1e-9)
    return np.sum((joints[:, knee] - joints[:, hip]) * forward, axis=-1)


def rebuild(pipe: Any, clip: np.ndarray) -> np.ndarray:
    """Reconstruct the features of a clip with the tokenizer, for whole tokens only."""
    model, extractor = pipe.model.lamp.motion_vqvae, pipe.processor.feature_extractor
    clip = clip[: len(clip) // pipe.frames_per_token * pipe.frames_per_token]
    with torch.no_grad():
        made = model.decode(model.encode(**extractor([clip])).codes)[0].float().numpy()
    return np.asarray(extractor.denormalize(made))


def with_part_of(clip: np.ndarray, rebuilt: np.ndarray, part: slice) -> np.ndarray:
    """Return a real clip with one part of its features taken from the reconstruction."""
    mixed = clip[: len(rebuilt)].copy()
    mixed[:, part] = rebuilt[:, part]
    return mixed


def through_features(clip: np.ndarray) -> Motion:
    """Convert features to joints, back to features and to joints again, to measure the loss of these conversions."""
    return Motion(features=joints_to_features(Motion(features=clip).joints))


def in_files(motions: Sequence[Motion], plant_feet: bool) -> float:
    """Return the slide of the joints in BVH and GLB files, in m/s."""
    found = []
    for motion in motions:
        local, root, offsets, _ = planted_kinematics(motion, own_body=None, plant_feet=plant_feet)
        joints = forward_kinematics(local, root, offsets, motion.skeleton.parents)
        found.append(slide(motion, motion.foot_plants(), joints))
    return mean(found)


def generate(pipe: Any, motions: int, text: str = WALK, **settings: Any) -> list[Motion]:
    """Generate motions of one text; the model chooses the length by default."""
    with for_measurement():
        return [result["motion"] for result in pipe([text] * motions, seed=list(range(motions)), **settings)]


def causes(arguments: argparse.Namespace) -> dict[str, Callable[[], list[Motion]]]:
    """Return functions that create each kind of motion, by name."""
    bandai = load_bandai_namco(arguments.data, cache_dir=arguments.cache_dir)
    rows = list(with_numpy_motion(bandai["validation"]))
    clips = [row["motion"][:MAX_CLIP_FRAMES] for row in rows]
    walks = [row["motion"][:MAX_CLIP_FRAMES] for row in rows if row["content"] == "walk"]
    short = [walk[:80] for walk in walks]
    pipe = pipeline("text-to-motion")
    rebuilt = [rebuild(pipe, walk) for walk in walks]
    count = arguments.motions

    def of(all_features: Sequence[np.ndarray]) -> list[Motion]:
        return [Motion(features=features) for features in all_features]

    kinds: dict[str, Callable[[], list[Motion]]] = {
        "real, all validation clips": lambda: of(clips),
        "real walks": lambda: of(walks),
        "real walks, first 4 s": lambda: of(short),
        "real walks, joints recovered twice": lambda: [through_features(walk) for walk in walks],
        "reconstructed, every fifth validation clip": lambda: of([rebuild(pipe, clip) for clip in clips[::5]]),
        "reconstructed walks": lambda: of(rebuilt),
    }
    for name, part in PARTS.items():
        kinds[f"real walks, {name} reconstructed"] = lambda part=part: of(  # type: ignore[misc]
            [with_part_of(walk, made, part) for walk, made in zip(walks, rebuilt, strict=True)]
        )
    kinds["generated walks, length chosen"] = lambda: generate(pipe, count)
    for name, settings in {
        "2 s": {"duration": 2.0},
        "9.8 s": {"duration": 9.8},
        "guidance 1": {"guidance_scale": 1.0},
        "temperature 0.5": {"temperature": 0.5},
        "5 steps": {"num_inference_steps": 5},
        "30 steps": {"num_inference_steps": 30},
    }.items():
        kinds[f"generated walks, {name}"] = lambda settings=settings: generate(pipe, count, **settings)  # type: ignore[misc]
    kinds["generated walks at 60 fps"] = lambda: [motion.resample(60.0) for motion in generate(pipe, count)]
    kinds["generated, all actions"] = lambda: captioned(pipe, bandai["validation"], arguments.all)
    if arguments.cmu:
        cmu = load_cmu_mocap(arguments.cmu, cache_dir=arguments.cache_dir)
        other = [row["motion"] for row in with_numpy_motion(cmu["validation"]) if len(row["motion"]) >= 20]
        chosen = random.Random(0).sample(other, min(arguments.all, len(other)))
        kinds["real, CMU validation clips"] = lambda: of(chosen)
        kinds["reconstructed, CMU validation clips"] = lambda: of([rebuild(pipe, clip) for clip in chosen])
    return kinds


def captioned(pipe: Any, dataset: Dataset, count: int) -> list[Motion]:
    """Generate motions for random validation captions."""
    rows = random.Random(0).sample(list(dataset["captions"]), count)
    texts = [row[0]["text"] for row in rows]
    with for_measurement():
        results = pipe(texts, seed=list(range(count)))
    return [result["motion"] for result in results]


def main() -> None:
    """Measure all kinds of motions, print the table and save it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="Bandai-Namco's motions: an archive or a folder of BVH files")
    parser.add_argument("--cmu", help="the CMU database: an archive or a folder of BVH files")
    parser.add_argument("--cache-dir", help="folder for converted data sets")
    parser.add_argument("--motions", type=int, default=8, help="generated walks per kind")
    parser.add_argument(
        "--all", type=int, default=50, help="number of generated motions of all actions, and of CMU clips"
    )
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "foot-skating.json")
    arguments = parser.parse_args()
    results: dict[str, dict[str, float]] = {}
    kept: dict[str, list[Motion]] = {}
    for name, motions in causes(arguments).items():
        start = time.process_time()
        made = motions()
        kept[name] = made[:FILES]
        made_s = time.process_time() - start
        results[name] = measure(made) | {"ms_to_make": 1000.0 * made_s / len(made)}
        print(name, json.dumps(results[name]), flush=True)
        with atomic_path(arguments.output) as unfinished:
            unfinished.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    show(results)
    for name in ("real walks", "reconstructed walks", "generated walks, length chosen"):
        plain, planted = in_files(kept[name], False), in_files(kept[name], True)
        results[name] |= {"file_slide": plain, "planted_file_slide": planted}
        print(f"{name}, on the bones of a file: slide {plain:.3f} m/s, planted {planted:.4f} m/s", flush=True)
    with atomic_path(arguments.output) as unfinished:
        unfinished.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def show(results: dict[str, dict[str, float]]) -> None:
    """Print the table."""
    table = Table(title="Feet: unchanged, and planted")
    columns = {
        "seconds": ".1f",
        "skating": ".1%",
        "slide": ".3f",
        "planted_share": ".0%",
        "planted_skating": ".1%",
        "planted_slide": ".4f",
        "planted_slide_worst": ".3f",
        "hips_cm": ".2f",
        "jitter_ratio": ".3f",
        "jitter_ratio_worst": ".3f",
        "sunk_mm": ".1f",
        "ms_a_motion": ".1f",
    }
    table.add_column("motions")
    for column in columns:
        table.add_column(column.replace("_", " "), justify="right")
    for name, result in results.items():
        table.add_row(name, *(format(result[column], kind) for column, kind in columns.items()))
    Console(width=200).print(table)


if __name__ == "__main__":
    main()
