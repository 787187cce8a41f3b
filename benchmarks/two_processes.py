"""Compare training with two processes and with one process and the combined batch: losses and weights of every stage.

python benchmarks/two_processes.py [--fsdp | --deepspeed] [--data DATA] [--steps 4] [--batch 8] [--stages lamp …]
    [--results FILE]

Each run starts like that of a user: with `python -m torch.distributed.run --nproc_per_node 2 -m lamp_hf train STAGE …`
(`torchrun`) for two processes, and `python -m lamp_hf train STAGE …` for one. `accelerate launch` starts several
processes only on GPUs, and always one on CPUs. With `--fsdp`, the two processes share the weights, by
`accelerate launch` with `examples/accelerate/fsdp.yaml` and `fsdp_on_cpu.py`. With `--deepspeed`, they share the state
of the optimizer, with `examples/accelerate/deepspeed.yaml`; this needs deepspeed, ninja and a C++ compiler.

Adam divides each gradient by its own size. If a gradient is only rounding error, such as in the key bias of attention,
the weights therefore differ by their whole step, but the losses do not.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml
from rich.console import Console
from rich.table import Table
from tiny_training import add_arguments, compare, make_data, save_results, short_recipe, weights_of

from lamp_hf.training import STAGES, Recipe

# The captioner needs the language model that is trained before it.
ORDER = ("motion-vqvae", "lamp", "text-to-motion", "evaluator", "language-model", "captioning")
ROOT = Path(__file__).resolve().parent.parent
TWO = ("-m", "torch.distributed.run", "--nproc_per_node", "2")
LAUNCH = ("-m", "accelerate.commands.launch", "--num_processes", "2", "--config_file")
SHARDED = {
    "fsdp": (*LAUNCH, str(ROOT / "examples/accelerate/fsdp.yaml"), "--main_process_port", "0"),
    "deepspeed": (*LAUNCH, str(ROOT / "examples/accelerate/deepspeed.yaml")),
}


def run(recipe: Recipe, folder: Path, processes: int, sharded: str | None = None) -> None:
    """Train with that many processes; several may be `sharded` by one of `SHARDED`."""
    config = folder.with_suffix(".yaml")
    config.write_text(yaml.safe_dump(recipe.to_dict()), encoding="utf-8")
    launcher = () if processes == 1 else SHARDED[sharded] if sharded else TWO
    command = [sys.executable, *launcher, "-m", "lamp_hf", "train", recipe.stage, "-c", str(config), "-o", str(folder)]
    if sharded == "fsdp" and processes == 2:
        command = [sys.executable, *launcher, str(ROOT / "benchmarks" / "fsdp_on_cpu.py"), str(config)]
    result = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"},
    )
    if result.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{result.stdout}")


def losses_of(folder: Path) -> list[dict[str, float]]:
    """Return every part of the loss at every step."""
    log = json.loads((folder / "training.json").read_text(encoding="utf-8"))["log"]
    return [{name: value for name, value in entry.items() if name.endswith("loss")} for entry in log if "loss" in entry]


def main() -> None:
    """Train every stage twice and print the differences."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--stages", nargs="+", default=list(ORDER), choices=ORDER)
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument("--fsdp", action="store_const", const="fsdp", dest="sharded", help="shard the weights by FSDP2")
    kinds.add_argument(
        "--deepspeed", action="store_const", const="deepspeed", dest="sharded", help="shard the optimizer by DeepSpeed"
    )
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--batch", type=int, default=8, help="combined batch size; each of the two processes gets half")
    parser.add_argument(
        "--optim", default="adamw_torch", help="optimizer; with sgd, weights differ as much as gradients"
    )
    parser.add_argument("--work", type=Path, help="folder to keep the runs in; defaults to a temporary one")
    arguments = parser.parse_args()
    assert set(ORDER) == set(STAGES)
    table = Table(title=f"Two processes with {arguments.batch // 2} clips each, one with {arguments.batch}")
    columns = ("stage", "loss", "losses differ by", "weights differ by", "largest in", "learning rate")
    for column in columns:
        table.add_column(column, overflow="fold")
    with tempfile.TemporaryDirectory() as temporary:
        work = arguments.work or Path(temporary)
        for folder in ("one", "two"):
            (work / folder).mkdir(parents=True, exist_ok=True)
        data = make_data(arguments, work / "data")
        for stage in ORDER:
            if stage not in arguments.stages and not (stage == "language-model" and "captioning" in arguments.stages):
                continue
            options = {"max_steps": arguments.steps, "eval_strategy": "no", "save_strategy": "no"}
            options |= {"load_best_model_at_end": False, "optim": arguments.optim}
            recipe = short_recipe(stage, data, language_model=work / "one" / "language-model", **options)
            folders = {1: work / "one" / stage, 2: work / "two" / stage}
            for processes, folder in folders.items():
                recipe.trainer["per_device_train_batch_size"] = arguments.batch // processes
                run(recipe, folder, processes, arguments.sharded)
            wanted, found = (losses_of(folder) for folder in folders.values())
            apart = max(abs(two[name] - one[name]) for two, one in zip(found, wanted, strict=True) for name in one)
            difference, where = compare(weights_of(folders[2]), weights_of(folders[1]))
            losses = f"{wanted[0]['loss']:.4f} → {wanted[-1]['loss']:.4f}"
            row = (stage, losses, f"{apart:.1e}", f"{difference:.1e}", where, f"{recipe.trainer['learning_rate']:g}")
            table.add_row(*row)
            print(*row, flush=True)
            figures = {"steps": arguments.steps, "optim": arguments.optim, "losses_differ": apart}
            save_results(arguments, stage, {**figures, "weights_differ": difference, "most_in": where})
    Console(width=150).print(table)


if __name__ == "__main__":
    main()
