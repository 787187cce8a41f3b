"""Evaluate a text-to-motion checkpoint on the Bandai-Namco validation clips; print and save all figures.

python benchmarks/evaluate_lamp_small.py --data DATA [--model CHECKPOINT] [--output FILE]
"""

import argparse
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from transformers import pipeline

import lamp_hf
from lamp_hf.checkpoints.embedded import DEFAULT_CHECKPOINT, resolve_checkpoint
from lamp_hf.data import load_bandai_namco, with_numpy_motion
from lamp_hf.evaluation.probes.bandai_namco import TextToMotionJudge, paraphrase
from lamp_hf.metrics.functional.reconstruction import evaluate_reconstruction
from lamp_hf.metrics.functional.retrieval import evaluate_lamp
from lamp_hf.motion.motion import Motion


def storyboard_seams(pipe: Any, texts: list[str], seconds: float, seed: int, count: int = 8) -> dict[str, float]:
    """Measure joint speed, jitter and skating in the second around each seam, and in the middle of each scene.

    Every storyboard has the texts in another order, so seams and middles show the same actions.
    """
    found: dict[str, list[np.ndarray]] = {}
    scene, half = round(seconds * pipe.fps), round(0.5 * pipe.fps)
    for board in range(count):
        order = np.random.default_rng(seed + board).permutation(len(texts))
        motion: Motion = pipe.storyboard([(texts[i], seconds) for i in order], seed=seed + board)["motion"]
        fastest = np.linalg.norm(np.diff(motion.joints, axis=0), axis=-1).max(-1) * motion.fps
        jerk = np.linalg.norm(np.diff(motion.joints, 3, axis=0), axis=-1).mean(-1) * motion.fps**3
        foot_speed, down = motion._foot_slides()  # the floor height of the whole motion
        places = {
            "at_seams": [scene * i for i in range(1, len(texts))],
            "inside": [scene * i + scene // 2 for i in range(len(texts))],
        }
        for place, centers in places.items():
            for center in centers:
                part = slice(center - half, center + half)
                found.setdefault(f"fastest_joint_{place}_m_per_s", []).append(fastest[part])
                found.setdefault(f"jitter_{place}_m_per_s3", []).append(jerk[part])
                found.setdefault(f"foot_slide_{place}_m_per_s", []).append(foot_speed[part][down[part]])
                found.setdefault(f"foot_skating_{place}", []).append(foot_speed[part][down[part]] > 0.5)
    return {"storyboards": count, **{name: float(np.concatenate(parts).mean()) for name, parts in found.items()}}


def evaluate(model: str, data: str, cache_dir: str | None, seed: int) -> dict[str, Any]:
    """Return all figures, grouped by part."""
    dataset = load_bandai_namco(data, cache_dir=cache_dir)
    validation = dataset["validation"]
    pipe = pipeline("text-to-motion", model=resolve_checkpoint(model))
    clips = [row["motion"] for row in with_numpy_motion(validation)]
    labels = list(zip(validation["content"], validation["style"], strict=True))
    captions = [row[0]["text"] for row in validation["captions"]]
    lamp, processor = pipe.model.lamp, pipe.processor

    results: dict[str, Any] = {"lamp_hf": lamp_hf.__version__, "validation_clips": len(clips), "seed": seed}
    results["reconstruction"] = evaluate_reconstruction(lamp.motion_vqvae, processor.feature_extractor, clips)
    results["retrieval"] = evaluate_lamp(lamp, processor, clips, captions, labels, seed=seed)

    judge = TextToMotionJudge(dataset)
    rng = random.Random(seed)
    rewordings = [paraphrase(content, style, rng) for content, style in labels]
    results["real"] = real = judge.judge_validation()
    by_content = {"real": judge.content_accuracies(judge.validation.joints, judge.validation.contents)}
    for name, texts in (("training_wording", captions), ("paraphrases", rewordings)):
        for suffix, real_lengths in (("", True), ("_estimated_lengths", False)):
            scores, motions = judge.generate_and_judge(pipe, texts, seed=seed, real_lengths=real_lengths)
            for part in ("content", "style"):
                scores[f"{part}_to_real"] = scores[f"{part}_accuracy"] / real[f"{part}_accuracy"]
            results[name + suffix] = scores
            if real_lengths:
                joints = [motion.joints for motion in motions]
                by_content[name] = judge.content_accuracies(joints, judge.validation.contents)
    scenes = ["a person walks forward", "a person runs forward", "a person bows", "a person waves with both hands"]
    results["storyboard"] = storyboard_seams(pipe, scenes, 4.0, seed)
    for name, shares in by_content.items():
        results[f"content_accuracy_{name}"] = shares
    results["parameters"] = {
        "lamp": sum(p.numel() for n, p in lamp.named_parameters() if not n.startswith("motion_vqvae.")),
        "motion_vqvae": sum(p.numel() for p in lamp.motion_vqvae.parameters()),
        "masked_transformer": sum(p.numel() for p in pipe.model.masked_transformer.parameters()),
        "length_estimator": sum(p.numel() for p in pipe.model.length_estimator.parameters()),
    }
    return results


def show(results: dict[str, Any]) -> None:
    """Print one table per part."""
    console = Console()
    for part, values in results.items():
        if not isinstance(values, dict):
            console.print(f"{part}: {values}")
            continue
        table = Table(title=part)
        table.add_column("figure")
        table.add_column("value", justify="right")
        for name, value in values.items():
            table.add_row(name, f"{value:,}" if isinstance(value, int) else f"{value:.4f}")
        console.print(table)


def main() -> None:
    """Evaluate the checkpoint, print the figures and save them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="Bandai-Namco archive or clone")
    parser.add_argument("--model", default=DEFAULT_CHECKPOINT)
    parser.add_argument("--cache-dir")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="JSON file for the figures")
    arguments = parser.parse_args()
    torch.manual_seed(arguments.seed)
    results = evaluate(arguments.model, arguments.data, arguments.cache_dir, arguments.seed)
    show(results)
    if arguments.output:
        arguments.output.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
