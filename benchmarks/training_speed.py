"""Measure the training steps per second of each stage, with the recipes of the embedded checkpoint.

python benchmarks/training_speed.py --data DATA --tokenizer runs/motion-vqvae --lamp runs/lamp [--steps 20]
"""

import argparse
import json
import tempfile
from pathlib import Path

from lamp_hf.training import load_recipe, train


def main() -> None:
    """Run a few steps of every stage and print the speed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="Bandai-Namco archive or clone")
    parser.add_argument("--tokenizer", required=True, help="trained motion-vqvae, the base of lamp")
    parser.add_argument("--lamp", required=True, help="trained lamp, the base of text-to-motion")
    parser.add_argument("--steps", type=int, default=20)
    arguments = parser.parse_args()
    for stage, base in (("motion-vqvae", None), ("lamp", arguments.tokenizer), ("text-to-motion", arguments.lamp)):
        recipe = load_recipe(f"bandai-namco/{stage}", [f"data.path={arguments.data}"])
        recipe.base = base
        recipe.trainer |= {"max_steps": arguments.steps, "eval_strategy": "no", "save_strategy": "no"}
        recipe.trainer |= {"load_best_model_at_end": False, "disable_tqdm": True}
        with tempfile.TemporaryDirectory() as folder:
            train(recipe, folder)
            metrics = json.loads((Path(folder) / "training.json").read_text(encoding="utf-8"))["metrics"]
        batch = recipe.trainer["per_device_train_batch_size"]
        print(f"{stage:16} {metrics['train_steps_per_second']:6.2f} steps/s with {batch} clips")


if __name__ == "__main__":
    main()
