"""Measure the training steps per second of each stage, with the recipes of an embedded checkpoint.

    python benchmarks/training_speed.py --data DATA --tokenizer runs/motion-vqvae --lamp runs/lamp [--steps 20]

With `--recipes cmu-mocap --stages lamp --compare sampling.group_by_length=false`, the stage also runs with this setting
changed, in turns, and the ratio of the speeds is printed.
"""

import argparse
import json
import tempfile
from pathlib import Path

from lamp_hf.training import load_recipe, train

STAGES = ("motion-vqvae", "lamp", "text-to-motion")
TURNS = 2  # of each pair of settings, so that other work on the machine affects both


def steps_per_second(name: str, base: str | None, steps: int, settings: list[str]) -> tuple[float, int]:
    """Train for a few steps; return the steps per second and the batch size."""
    recipe = load_recipe(name, settings)
    recipe.base = base
    recipe.trainer |= {"max_steps": steps, "eval_strategy": "no", "save_strategy": "no"}
    recipe.trainer |= {"load_best_model_at_end": False, "disable_tqdm": True}
    with tempfile.TemporaryDirectory() as folder:
        train(recipe, folder)
        metrics = json.loads((Path(folder) / "training.json").read_text(encoding="utf-8"))["metrics"]
    return metrics["train_steps_per_second"], recipe.trainer["per_device_train_batch_size"]


def main() -> None:
    """Run a few steps of every stage and print the speed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="archive or clone of the data set of the recipes")
    parser.add_argument("--recipes", default="bandai-namco", help="bandai-namco or cmu-mocap")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES)
    parser.add_argument("--tokenizer", help="trained motion-vqvae, the base of lamp")
    parser.add_argument("--lamp", help="trained lamp, the base of text-to-motion")
    parser.add_argument("--compare", metavar="KEY=VALUE", help="setting to compare with the recipe's own")
    parser.add_argument("--steps", type=int, default=20)
    arguments = parser.parse_args()
    bases = dict(zip(STAGES, (None, arguments.tokenizer, arguments.lamp), strict=True))
    data = f"data.path={arguments.data}"
    for stage in arguments.stages:
        name = f"{arguments.recipes}/{stage}"
        speeds: dict[str, list[float]] = {}
        for setting in ["", arguments.compare] * TURNS if arguments.compare else [""]:
            settings = [data, setting] if setting else [data]
            speed, batch = steps_per_second(name, bases[stage], arguments.steps, settings)
            speeds.setdefault(setting, []).append(speed)
            print(f"{stage:16} {speed:6.2f} steps/s with {batch} clips {setting}", flush=True)
        if arguments.compare:
            ratio = sum(speeds[""]) / sum(speeds[arguments.compare])
            print(f"{stage:16} {ratio:6.2f} times as many steps as with {arguments.compare}", flush=True)


if __name__ == "__main__":
    main()
