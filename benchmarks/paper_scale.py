"""Run one optimization step of every stage at the paper's size on a CPU, and estimate the GPU memory of the recipe.

python benchmarks/paper_scale.py [--set humanml3d] [--stages motion-vqvae lamp …] [--work FOLDER] [--results FILE]

Weights are random and clips are noise, because time and memory do not depend on them. The stages run in order, each in
its own process, and leave their checkpoints in the folder (13 GB, 5 of them for OPT-2.7b). Columns:

  learned, frozen  parameters
  loss             loss of the first batch
  largest step     largest change of any parameter
  seconds, peak    time of forward, backward and AdamW with a batch of 2, and peak memory of the process
  GPU              memory at the batch size of the recipe: weights, gradients, the two averages of AdamW, and what the
                   forward pass keeps for the backward pass (measured with 2 and 4 clips, then extrapolated linearly).
                   Add a tenth for CUDA's own memory and temporary tensors.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

STAGES = ("motion-vqvae", "lamp", "text-to-motion", "captioning", "evaluator")
WORDS = (
    "a",
    "person",
    "walks",
    "waves",
    "and",
    "turns",
    "to",
    "the",
    "left",
    "right",
    "slowly",
    "with",
    "both",
    "hands",
)
CAPTION = "a person walks slowly to the left and turns and waves with both hands to the right and walks to the left"
BATCHES = (2, 4)


def write_data(folder: Path, name: str) -> None:
    """Write clips of noise in the authors' layout, with the maximum length."""
    import numpy as np

    from lamp_hf.data.field_layout import FIELD_SETS

    rng = np.random.default_rng(0)
    size = FIELD_SETS[name].skeleton.feature_dim
    for part in ("new_joint_vecs", "texts"):
        (folder / part).mkdir(parents=True)
    names = [f"{number:06d}" for number in range(6)]
    for clip in names:
        np.save(folder / "new_joint_vecs" / f"{clip}.npy", 0.1 * rng.standard_normal((199, size), dtype=np.float32))
        (folder / "texts" / f"{clip}.txt").write_text(f"{CAPTION}#x#0.0#0.0\n")
    for split, part in (("train", names[:4]), ("val", names[4:])):
        (folder / f"{split}.txt").write_text("\n".join(part))


def write_text_encoder(folder: Path) -> None:
    """Write a BERT-base with random weights and the vocabulary size of the real one."""
    from transformers import BertConfig, BertForMaskedLM, BertTokenizer

    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    tokens += [f"[unused{number}]" for number in range(BertConfig().vocab_size - len(tokens))]
    BertTokenizer(vocab={token: index for index, token in enumerate(tokens)}).save_pretrained(folder)
    BertForMaskedLM(BertConfig()).save_pretrained(folder)


def write_language_model(folder: Path) -> None:
    """Write an OPT-2.7b with random weights in half precision, as the real one is stored."""
    import torch
    from transformers import AutoModelForCausalLM, BertTokenizer, OPTConfig

    config = OPTConfig(
        hidden_size=2560,
        word_embed_proj_dim=2560,
        num_hidden_layers=32,
        num_attention_heads=32,
        ffn_dim=10240,
    )
    AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(folder)
    tokens = ["[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]", *WORDS]
    BertTokenizer(vocab={token: index for index, token in enumerate(tokens)}).save_pretrained(folder)


def run_stage(name: str, stage_name: str, work: Path) -> dict[str, float]:
    """Build a stage from its recipe, run one step, and save the model for the next stage."""
    import torch
    from transformers import TrainingArguments, set_seed

    from lamp_hf.training import STAGES as KNOWN
    from lamp_hf.training import load_recipe

    set_seed(0)
    recipe = load_recipe(f"{name}/{stage_name}")
    recipe.data |= {"path": str(work / name), "cache_dir": str(work / "cache"), "num_proc": 1}
    if recipe.base is not None:
        recipe.base = str(work / recipe.base)
    if stage_name == "lamp":
        recipe.text_encoder = str(work / "bert")
    if stage_name == "captioning":
        recipe.model["language_model_name"] = str(work / "opt")
    arguments = TrainingArguments(
        output_dir=str(work / "runs"),
        max_steps=10,
        per_device_train_batch_size=max(BATCHES),
        use_cpu=True,
        report_to="none",
    )
    stage = KNOWN[stage_name]()(recipe, arguments)
    model = stage.model.train()
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    frozen = [parameter for parameter in model.parameters() if not parameter.requires_grad]
    mixed = torch.autocast("cpu", torch.bfloat16, enabled=bool(recipe.trainer.get("bf16")))
    optimizer = torch.optim.AdamW(learned, lr=recipe.trainer["learning_rate"])

    kept = {}
    for size in reversed(BATCHES):
        batch = stage.collate([stage.train_dataset[index] for index in range(size)])
        storages: dict[int, int] = {}
        own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}

        def keep(tensor: torch.Tensor, storages: dict[int, int] = storages, own: set[int] = own) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                storages[storage.data_ptr()] = storage.nbytes()
            return tensor

        started = time.perf_counter()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), mixed:
            loss = model(**batch)["loss"]
        kept[size] = sum(storages.values())
    before = [parameter.detach().clone() for parameter in learned]
    loss.backward()
    optimizer.step()
    seconds = time.perf_counter() - started
    change = max(float((new.detach() - old).abs().max()) for new, old in zip(learned, before, strict=True))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 / (1024 if sys.platform == "darwin" else 1)
    run = work / "runs" / name / stage_name
    model.save_pretrained(run)
    stage.processor.save_pretrained(run)

    small, large = BATCHES
    per_clip = (kept[large] - kept[small]) / (large - small)
    clips = int(recipe.trainer["per_device_train_batch_size"])
    held = sum(parameter.numel() * parameter.element_size() for parameter in frozen)
    held += sum(parameter.numel() * (2 * parameter.element_size() + 8) for parameter in learned)
    return {
        "learned": sum(parameter.numel() for parameter in learned),
        "frozen": sum(parameter.numel() for parameter in frozen),
        "loss": float(loss.detach()),
        "change": change,
        "seconds": seconds,
        "peak_gib": peak / 1024,
        "batch": clips,
        "per_clip_mib": per_clip / 2**20,
        "gpu_gib": (held + kept[small] + per_clip * (clips - small)) / 2**30,
    }


def main() -> None:
    """Run each stage in its own process and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--set", default="humanml3d", choices=("humanml3d", "kit-ml"), dest="name")
    parser.add_argument("--stages", nargs="+", default=STAGES, choices=STAGES)
    parser.add_argument("--work", type=Path, help="folder to keep the checkpoints in; defaults to a temporary one")
    parser.add_argument("--results", type=Path, help="JSON file for the figures; keeps those of the other data set")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(run_stage(arguments.name, arguments.one, arguments.work)))
        return
    with tempfile.TemporaryDirectory() as folder:
        work = arguments.work or Path(folder)
        work.mkdir(parents=True, exist_ok=True)
        makers = {arguments.name: lambda path: write_data(path, arguments.name), "bert": write_text_encoder}
        if "captioning" in arguments.stages:
            makers["opt"] = write_language_model
        for part, make in makers.items():
            if not (work / part).exists():
                make(work / part)
        rows = {}
        print("stage             learned    frozen     loss  largest step  seconds   peak  batch  1 clip    GPU")
        for stage in arguments.stages:
            command = [sys.executable, __file__, "--set", arguments.name, "--work", str(work), "--one", stage]
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            rows[stage] = row = json.loads(output.splitlines()[-1])
            print(
                f"{stage:14} {row['learned'] / 1e6:8.2f} M {row['frozen'] / 1e6:7.1f} M {row['loss']:8.3f} "
                f"{row['change']:13.1e} {row['seconds']:6.1f} s {row['peak_gib']:4.1f} G {row['batch']:6} "
                f"{row['per_clip_mib']:5.0f} M {row['gpu_gib']:4.1f} G",
                flush=True,
            )
    if arguments.results is not None:
        path = arguments.results
        found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        path.write_text(json.dumps({**found, arguments.name: rows}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
