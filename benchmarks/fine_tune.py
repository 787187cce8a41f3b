"""Measure fine-tuning: teach a base model actions that it was trained without, and probe it before and after.

First train a base model on a split without these actions. This uses the recipes of lamp-small with fewer steps and
takes an hour on two CPU cores:

    python benchmarks/fine_tune.py split --data DATA --output without/
    LAST="data.split_dir=without/ trainer.load_best_model_at_end=false"
    lamp-hf train motion-vqvae -c bandai-namco/motion-vqvae -o runs/vq --data DATA $LAST trainer.max_steps=3000 \\
        trainer.eval_steps=1000 model.trajectory_loss_weight=0.005
    lamp-hf train lamp -c bandai-namco/lamp -o runs/lamp --data DATA --base runs/vq $LAST trainer.max_steps=800 \\
        trainer.eval_steps=400 trainer.save_steps=200
    lamp-hf train text-to-motion -c bandai-namco/text-to-motion -o runs/base --data DATA --base runs/lamp $LAST \\
        trainer.max_steps=2400 trainer.eval_steps=800 trainer.save_steps=400 generation.num_inference_steps=20 \\
        generation.guidance_scale=1.5 generation.remasking_noise=2.0
    python benchmarks/fine_tune.py run --data DATA --base runs/base --output work/ [--lora]

`run` writes the new actions to `work/my_mocap` (BVH files and a metadata.jsonl, like the data of a user) and fine-tunes
like `lamp-hf train text-to-motion --data work/my_mocap --base …`, unless that is already finished. Then both models
generate motions for the validation captions, and a probe that was trained on real clips of all actions classifies them.
"""

import argparse
import json
import random
import shutil
import tarfile
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from transformers import pipeline

import lamp_hf
from lamp_hf.data import bandai_namco_grammar, load_bandai_namco
from lamp_hf.data.bandai_namco.loader import clip_labels
from lamp_hf.evaluation.probes.bandai_namco import TextToMotionJudge
from lamp_hf.motion.skeleton import HUMANML3D_22
from lamp_hf.training import FineTuning, fine_tune

HELD_BACK = ("run", "dash", "wave-both-hands", "bow")
SPLITS = {"train": "train.txt", "validation": "val.txt"}
CAPTIONS_PER_CLIP = 4
WALK = "walk"  # a run that is too slow looks like this


def names_of(path: Path) -> list[str]:
    """Return the clip names of a split file."""
    return [line.split()[0] for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def write_split(data: Path, output: Path, held_back: tuple[str, ...]) -> None:
    """Write split files without some actions, and copy the other files next to the archive."""
    output.mkdir(parents=True, exist_ok=True)
    for name in ("captions.json", "suspect_labels.txt"):
        if (data.parent / name).is_file():
            shutil.copy(data.parent / name, output / name)
    for split, file in SPLITS.items():
        names = [name for name in names_of(data.parent / file) if clip_labels(name).content not in held_back]
        (output / file).write_text("\n".join(names) + "\n", encoding="utf-8")
        print(f"{output / file}: {len(names)} clips for {split}")


def write_mocap(data: Path, folder: Path, held_back: tuple[str, ...], clips: int) -> dict[str, Counter]:
    """Write the held-back clips as a folder of BVH files, with at most `clips` training clips per action."""
    suspect = set(names_of(data.parent / "suspect_labels.txt"))
    chosen: dict[str, str] = {}
    counts: dict[str, Counter] = {}
    for split, file in SPLITS.items():
        names = [name for name in names_of(data.parent / file) if clip_labels(name).content in held_back]
        random.Random(0).shuffle(names)
        counts[split] = Counter()
        for name in names:
            content = clip_labels(name).content
            if name not in suspect and (split == "validation" or counts[split][content] < clips):
                chosen[name] = split
                counts[split][content] += 1
    grammar = bandai_namco_grammar(data)
    lines: dict[str, list[str]] = {split: [] for split in SPLITS}
    for split in SPLITS:
        (folder / split).mkdir(parents=True, exist_ok=True)
    with tarfile.open(data, "r|*") as archive:
        for member in archive:
            path = PurePosixPath(member.name)
            split = chosen.get(path.stem, "") if path.suffix == ".bvh" else ""
            stream = archive.extractfile(member) if split else None
            if stream is not None:
                (folder / split / path.name).write_bytes(stream.read())
                content, style = clip_labels(path.stem)
                texts = grammar.compose_many(content, style, CAPTIONS_PER_CLIP, random.Random(path.stem))
                row = {"file_name": path.name, "text": texts, "content": content, "style": style}
                lines[split].append(json.dumps(row))
    for split, rows in lines.items():
        (folder / split / "metadata.jsonl").write_text("\n".join(sorted(rows)) + "\n", encoding="utf-8")
    return counts


def scores_of(judge: TextToMotionJudge, joints: list[np.ndarray], held_back: tuple[str, ...]) -> dict[str, Any]:
    """Score one motion per validation clip with the probe: for new actions, old actions, and each action."""
    clips = judge.validation
    new = np.isin(clips.contents, held_back)
    scores: dict[str, Any] = {}
    for group, chosen in (("new", new), ("old", ~new)):
        rows = np.flatnonzero(chosen)
        parts = [[values[row] for row in rows] for values in (joints, clips.contents, clips.styles)]
        scores[group] = {**judge.judge(*parts), "clips": len(rows)}
    speeds: dict[str, list[float]] = {content: [] for content in (*held_back, WALK)}
    for motion, content in zip(joints, clips.contents, strict=True):
        speeds.get(content, []).append(root_speed(motion))
    scores["speed_m_s"] = {content: float(np.mean(found)) for content, found in speeds.items()}
    return {**scores, "by_content": judge.content_accuracies(joints, clips.contents)}


def root_speed(joints: np.ndarray) -> float:
    """Return the mean horizontal speed of the pelvis in m/s, for joints `(T, J, 3)` at 20 fps."""
    return float(np.linalg.norm(np.diff(joints[:, 0, [0, 2]], axis=0), axis=-1).mean() * HUMANML3D_22.default_fps)


def generated(judge: TextToMotionJudge, checkpoint: str, texts: list[str]) -> list[np.ndarray]:
    """Generate motions for the validation captions with a checkpoint, and return their joints."""
    _, motions = judge.generate_and_judge(pipeline("text-to-motion", model=checkpoint), texts)
    return [motion.joints for motion in motions]


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Fine-tune the base model and probe both models."""
    held_back = tuple(arguments.contents)
    mocap, model = arguments.output / "my_mocap", arguments.output / ("lora" if arguments.lora else "full")
    if not mocap.is_dir():
        counts = write_mocap(arguments.data, mocap, held_back, arguments.clips)
        print({split: dict(count) for split, count in counts.items()})
    finished = model / "fine-tuning.json"
    if finished.is_file() and (report := FineTuning(**json.loads(finished.read_text(encoding="utf-8")))).finished:
        print(f"{model} is already finished; only probing it again")
    else:
        report = fine_tune(mocap, model, base=arguments.base, lora=arguments.lora, overrides=arguments.overrides)

    dataset = load_bandai_namco(arguments.data, cache_dir=arguments.cache_dir)
    judge = TextToMotionJudge(dataset)
    texts = [row[0]["text"] for row in dataset["validation"]["captions"]]
    joints = {
        "real": judge.validation.joints,
        "base": generated(judge, arguments.base, texts),
        "fine-tuned": generated(judge, str(model), texts),
    }
    return {
        "lamp_hf": lamp_hf.__version__,
        "held_back": held_back,
        "clips": arguments.clips,
        "lora": arguments.lora,
        "overrides": arguments.overrides,
        "minutes": report.minutes,
        "stages": report.stages,
        "scores": report.scores,
        "probe": {name: scores_of(judge, each, held_back) for name, each in joints.items()},
    }


def show(results: dict[str, Any]) -> None:
    """Print the scores of the probe as a table."""
    table = Table(title="Motions for the validation captions, recognized by a probe")
    for column in ("", "real clips", "base", "fine-tuned"):
        table.add_column(column)
    rows = {
        f"{group} actions, {part.replace('_', ' ')}": (group, part)
        for group in ("new", "old")
        for part in ("content_accuracy", "style_accuracy", "foot_skating")
    }
    rows |= {f"  {content}": ("by_content", content) for content in results["held_back"]}
    rows |= {f"speed in m/s, {content}": ("speed_m_s", content) for content in results["probe"]["real"]["speed_m_s"]}
    for name, (group, part) in rows.items():
        cells = [results["probe"][model][group].get(part) for model in ("real", "base", "fine-tuned")]
        table.add_row(name, *("" if cell is None else f"{cell:.3f}" for cell in cells))
    Console().print(table)
    print(f"{sum(results['minutes'].values()):.1f} minutes: {results['minutes']}")


def main() -> None:
    """Run one of the two commands."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("split", "run"))
    parser.add_argument("--data", type=Path, required=True, help="Bandai-Namco's archive")
    parser.add_argument("--output", type=Path, required=True, help="output folder")
    parser.add_argument(
        "--contents", nargs="+", default=list(HELD_BACK), help="actions to hold back from the base model"
    )
    parser.add_argument("--base", help="text-to-motion checkpoint that was trained without these actions")
    parser.add_argument("--clips", type=int, default=100, help="maximum number of training clips per action")
    parser.add_argument("--lora", action="store_true", help="train a LoRA adapter only")
    parser.add_argument("--cache-dir", help="folder for the converted clips")
    parser.add_argument("--results", type=Path, help="JSON file for the figures")
    parser.add_argument("overrides", nargs="*", help="key=value: recipe values to override")
    arguments = parser.parse_intermixed_args()
    if arguments.command == "split":
        write_split(arguments.data, arguments.output, tuple(arguments.contents))
        return
    if arguments.base is None:
        parser.error("run needs --base")
    results = run(arguments)
    show(results)
    if arguments.results is not None:
        arguments.results.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
