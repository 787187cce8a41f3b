"""All figures of a text-to-motion checkpoint on Bandai-Namco's validation clips, printed and written as JSON.

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
from lamp_hf.data import load_bandai_namco, with_numpy_motion
from lamp_hf.embedded import DEFAULT_CHECKPOINT, resolve_checkpoint
from lamp_hf.evaluation.reconstruction import evaluate_reconstruction
from lamp_hf.evaluation.retrieval import evaluate_lamp
from lamp_hf.evaluation.text_to_motion import TextToMotionJudge, paraphrase


def storyboard_seams(pipe: Any, texts: list[str], seconds: float, seed: int) -> dict[str, float]:
    """Speed of the joints and skating around the seams of a storyboard, beside the rest of it."""
    scenes = [(text, seconds) for text in texts]
    motion = pipe.storyboard(scenes, seed=seed)["motion"]
    joints = motion.joints
    speed = np.linalg.norm(np.diff(joints, axis=0), axis=-1).max(-1) * motion.fps
    per_scene = len(joints) / len(scenes)
    distance = np.abs(np.arange(len(speed))[:, None] - per_scene * np.arange(1, len(scenes))[None]).min(-1)
    at_seam = distance <= 10
    return {
        "frames": len(joints),
        "fastest_joint_at_seams_m_per_s": float(speed[at_seam].mean()),
        "fastest_joint_inside_m_per_s": float(speed[~at_seam].mean()),
        "peak_at_seams_m_per_s": float(speed[at_seam].max()),
        "peak_inside_m_per_s": float(speed[~at_seam].max()),
        "foot_skating": motion.foot_skating(),
    }


def evaluate(model: str, data: str, cache_dir: str | None, seed: int) -> dict[str, Any]:
    """Every figure, by part."""
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
    for name, texts in (("training_wording", captions), ("paraphrases", rewordings)):
        scores, _ = judge.generate_and_judge(pipe, texts, seed=seed)
        for part in ("content", "style"):
            scores[f"{part}_to_real"] = scores[f"{part}_accuracy"] / real[f"{part}_accuracy"]
        results[name] = scores
    scenes = ["a person walks forward", "a person runs forward", "a person bows", "a person waves with both hands"]
    results["storyboard"] = storyboard_seams(pipe, scenes, 4.0, seed)
    results["parameters"] = {
        "lamp": sum(p.numel() for n, p in lamp.named_parameters() if not n.startswith("motion_vqvae.")),
        "motion_vqvae": sum(p.numel() for p in lamp.motion_vqvae.parameters()),
        "masked_transformer": sum(p.numel() for p in pipe.model.masked_transformer.parameters()),
        "length_estimator": sum(p.numel() for p in pipe.model.length_estimator.parameters()),
    }
    return results


def show(results: dict[str, Any]) -> None:
    """Print a table for each part."""
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
    """Parse, evaluate, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="Bandai-Namco archive or clone")
    parser.add_argument("--model", default=DEFAULT_CHECKPOINT)
    parser.add_argument("--cache-dir")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="JSON file")
    arguments = parser.parse_args()
    torch.manual_seed(arguments.seed)
    results = evaluate(arguments.model, arguments.data, arguments.cache_dir, arguments.seed)
    show(results)
    if arguments.output:
        arguments.output.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
