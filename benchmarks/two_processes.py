"""Every training stage in two processes and in one with the joint batch: how far losses and weights are apart.

python benchmarks/two_processes.py --data DATA [--steps 5]

The recipes are those of examples/recipes/bandai-namco, in float32, without dropout and with fewer layers.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table
from safetensors.torch import load_file

from lamp_hf.data import load_bandai_namco

RECIPES = Path(__file__).resolve().parent.parent / "examples" / "recipes" / "bandai-namco"
CLIPS = 96
# Stage, the stage it builds on, and what makes it small and certain.
STAGES: dict[str, tuple[str | None, dict[str, Any]]] = {
    "motion-vqvae": (None, {"hidden_size": 128, "code_dim": 128, "num_codes": 256}),
    "lamp": ("motion-vqvae", {"num_hidden_layers": 2}),
    "text-to-motion": ("lamp", {"num_hidden_layers": 2, "dropout": 0.0}),
    "evaluator": ("lamp", {"dropout": 0.0}),
    "language-model": ("lamp", {"dropout": 0.0}),
    "captioning": ("lamp", {"lora_dropout": 0.0}),
}


def write_clips(data: Path, folder: Path) -> Path:
    """A few real clips as a data set on disk."""
    lines = (data.parent / "train.txt").read_text(encoding="utf-8").split()
    dataset = load_bandai_namco(data, names=random.Random(0).sample(lines, CLIPS), mirror=False, progress=False)
    dataset["validation"] = dataset["train"].select(range(0, CLIPS, 3))
    dataset.save_to_disk(folder / "clips")
    return folder / "clips"


def train(stage: str, recipe: dict[str, Any], folder: Path, name: str, processes: int, batch: int) -> Path:
    """One run of a stage by so many processes."""
    path = folder / f"{stage}-{name}.yaml"
    values = {**recipe, "trainer": {**recipe["trainer"], "per_device_train_batch_size": batch // processes}}
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(processes), "-m"]
    command += ["lamp_hf.training", stage, "-c", str(path), "-o", str(folder / f"{stage}-{name}")]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return folder / f"{stage}-{name}"


def differences(first: Path, second: Path) -> dict[str, float]:
    """Of the losses of any step, and of any weight, relative to the weights' own change where that is larger than 1."""
    logs = []
    for run in (first, second):
        log = json.loads((run / "training.json").read_text(encoding="utf-8"))["log"]
        logs.append([entry for entry in log if "loss" in entry])
    losses = [(a[name], b[name]) for a, b in zip(*logs, strict=True) for name in b if name.endswith("loss")]
    weights = [load_file(run / "model.safetensors") for run in (first, second)]
    return {
        "steps": len(logs[0]),
        "loss": max(abs(a - b) / max(abs(b), 1.0) for a, b in losses),
        "weights": max(
            float((tensor.float() - weights[1][name].float()).abs().max()) for name, tensor in weights[0].items()
        ),
    }


def main() -> None:
    """Train and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="Bandai-Namco's archive")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--batch", type=int, default=16, help="of both processes together")
    parser.add_argument("--results", type=Path, help="JSON file for the figures")
    arguments = parser.parse_args()
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        clips = write_clips(arguments.data, folder)
        runs: dict[str, Path] = {}
        for stage, (base, model) in STAGES.items():
            recipe = yaml.safe_load((RECIPES / f"{stage}.yaml").read_text(encoding="utf-8"))
            recipe["data"] = {"name": str(clips)}
            recipe["base"] = None if base is None else str(runs[base])
            recipe["model"] = {**recipe.get("model", {}), **model}
            if stage == "captioning":
                recipe["model"]["language_model_name"] = str(runs["language-model"])
            steps = {"max_steps": arguments.steps, "eval_steps": arguments.steps, "save_steps": arguments.steps}
            recipe["trainer"] = {**recipe["trainer"], **steps, "logging_steps": 1, "bf16": False, "disable_tqdm": True}
            recipe["trainer"]["load_best_model_at_end"] = False
            runs[stage] = train(stage, recipe, folder, "one", 1, arguments.batch)
            together = train(stage, recipe, folder, "two", 2, arguments.batch)
            found[stage] = differences(together, runs[stage])
            print(stage, found[stage], flush=True)
    table = Table("stage", "steps", "largest difference of losses, relative", "of weights")
    for stage, values in found.items():
        table.add_row(stage, f"{values['steps']:g}", f"{values['loss']:.1e}", f"{values['weights']:.1e}")
    Console().print(table)
    if arguments.results is not None:
        arguments.results.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
