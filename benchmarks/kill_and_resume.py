"""Kills a training run by SIGKILL again and again, lets it go on, and compares its weights bit by bit.

python benchmarks/kill_and_resume.py --data DATA [--kills 20]

The run trains a small motion tokenizer on real clips. Every second kill comes at a random time; the others as soon as a
certain file appears in a checkpoint, or in the finished model, that is being written.
"""

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import yaml
from rich.console import Console
from rich.table import Table
from safetensors.torch import load_file

from lamp_hf.data import load_bandai_namco
from lamp_hf.training.trainer import UNFINISHED

CLIPS = 48
STEPS, SAVE_STEPS = 40, 5
FILES = ("config.json", "model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json")
POLL_S = 0.0005


def write_recipe(data: Path, folder: Path) -> Path:
    """A recipe for a small tokenizer on a few clips, which lie beside it."""
    lines = (data.parent / "train.txt").read_text(encoding="utf-8").split()
    dataset = load_bandai_namco(data, names=random.Random(0).sample(lines, CLIPS), progress=False)
    train = dataset["train"]
    dataset["validation"] = train.select(range(0, len(train), 8))
    dataset.save_to_disk(folder / "clips")
    recipe = {
        "stage": "motion-vqvae",
        "data": {"name": str(folder / "clips")},
        "model": {"hidden_size": 64, "code_dim": 64, "num_codes": 128, "code_reset_threshold": 0.2, "dropout": 0.1},
        "trainer": {
            "max_steps": STEPS,
            "per_device_train_batch_size": 16,
            "eval_steps": SAVE_STEPS,
            "save_steps": SAVE_STEPS,
            "logging_steps": 1,
            "disable_tqdm": True,
            "metric_for_best_model": "mpjpe_mm",
            "greater_is_better": False,
        },
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return path


def start(recipe: Path, run: Path) -> subprocess.Popen:
    """Train, in a process of its own."""
    command = [sys.executable, "-m", "lamp_hf.training", "motion-vqvae", "-c", str(recipe), "-o", str(run)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(recipe: Path, run: Path) -> None:
    """Train to the end."""
    process = start(recipe, run)
    printed, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(printed)


def kill(process: subprocess.Popen, happened: Callable[[], bool]) -> bool:
    """Kill it when something has happened; false if it ended before."""
    while process.poll() is None:
        if happened():
            process.send_signal(signal.SIGKILL)
            process.communicate()
            return True
        time.sleep(POLL_S)
    return False


def plan(number: int, rng: random.Random, run: Path, duration: float) -> tuple[str, Callable[[], bool]]:
    """When a kill shall come, in words and as a question to ask again and again."""
    if number % 2 == 0:
        # Counted from the first checkpoint folder or, before it, from the start: importing torch is no training.
        moment = rng.uniform(0.2, 1.0) * duration
        begun = time.monotonic()
        return f"after {moment:.1f} s", lambda: time.monotonic() - begun > moment
    step = rng.randrange(SAVE_STEPS, STEPS + 1, SAVE_STEPS)
    name = rng.choice(FILES)
    if step == STEPS and rng.random() < 0.5 and name in FILES[:2]:
        return f"writing the finished {name}", (run / UNFINISHED / "model" / name).exists
    return f"writing {name} of checkpoint-{step}", (run / UNFINISHED / f"checkpoint-{step}" / name).exists


def main() -> None:
    """Kill, resume, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="Bandai-Namco's archive")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, help="JSON file for the figures")
    arguments = parser.parse_args()
    rng, rows = random.Random(arguments.seed), []
    table = Table("killed", "went on from", "weights")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        recipe = write_recipe(arguments.data, folder)
        begun = time.monotonic()
        finish(recipe, folder / "whole")
        duration = time.monotonic() - begun
        wanted = load_file(folder / "whole" / "model.safetensors")
        number = 0
        while len(rows) < arguments.kills:
            run = folder / f"run-{number}"
            words, happened = plan(number, rng, run, duration)
            number += 1
            if not kill(start(recipe, run), happened):
                continue  # it was faster than planned
            left = [int(path.name.rpartition("-")[2]) for path in run.glob("checkpoint-*")]
            half = (run / UNFINISHED).exists()
            finish(recipe, run)
            found = load_file(run / "model.safetensors")
            equal = wanted.keys() == found.keys() and all(torch.equal(wanted[name], found[name]) for name in wanted)
            rows.append({"killed": words, "from_step": max(left, default=0), "half_written": half, "bit_equal": equal})
            where = f"step {max(left, default=0)}{', a half-written one removed' if half else ''}"
            table.add_row(words, where, "bit-equal" if equal else "DIFFER")
            print(words, where, equal, flush=True)
    Console().print(table)
    print(f"{sum(row['bit_equal'] for row in rows)} of {len(rows)} bit-equal")
    if arguments.results is not None:
        arguments.results.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    if not all(row["bit_equal"] for row in rows):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
