"""A data set of a few clips and the recipes of lamp-small for a few steps on it: what survives training is tried on."""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset, DatasetDict
from safetensors.torch import load_file
from transformers import pipeline

from lamp_hf.checkpoints.embedded import DEFAULT_CHECKPOINT, embedded_checkpoint
from lamp_hf.data import load_motion_dataset, motion_features
from lamp_hf.modeling.processing_lamp import LampProcessor
from lamp_hf.training import Recipe, load_recipe

__all__ = ["add_arguments", "compare", "make_data", "save_results", "short_recipe", "weights_of"]

SPLITS = {"train": 24, "validation": 8}
# In these few steps codes shall die, be drawn anew, and fit one batch: every code that was not used is dead at once.
CODEBOOK = {"num_codes": 64, "code_reset_threshold": 0.995}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where the clips come from, and where the figures go to."""
    parser.add_argument("--data", help="Bandai-Namco archive or clone; by default lamp-small makes the clips")
    parser.add_argument("--cache-dir", help="of the archive's converted clips")
    parser.add_argument("--results", type=Path, help="JSON file for the figures; those of other stages stay in it")


def save_results(arguments: argparse.Namespace, stage: str, figures: dict[str, Any]) -> None:
    """Put the figures of a stage into the file that was asked for."""
    path = arguments.results
    if path is None:
        return
    found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    found[stage] = {"clips": "real" if arguments.data else "made by lamp-small", **figures}
    path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def make_data(arguments: argparse.Namespace, folder: Path) -> Path:
    """Write a few clips as a data set: real ones of every kind of content, or motions of lamp-small."""
    if arguments.data:
        whole = load_motion_dataset("bandai-namco", path=arguments.data, cache_dir=arguments.cache_dir)
        splits = {name: whole[name].select(spread(len(whole[name]), count)) for name, count in SPLITS.items()}
    else:
        texts = LampProcessor.from_pretrained(embedded_checkpoint()).example_texts
        chosen = [texts[number] for number in spread(len(texts), sum(SPLITS.values()))]
        made = pipeline("text-to-motion", device="cpu")(chosen, seed=0, num_inference_steps=5)
        rows = [row_of(number, text, motion) for number, (text, motion) in enumerate(zip(chosen, made, strict=True))]
        splits, first = {}, 0
        for name, count in SPLITS.items():
            splits[name] = Dataset.from_list(rows[first : first + count], features=motion_features())
            first += count
    DatasetDict(splits).save_to_disk(folder)
    return folder


def spread(size: int, count: int) -> list[int]:
    """Numbers below `size`, evenly apart."""
    return [int(number) for number in np.linspace(0, size - 1, count)]


def row_of(number: int, text: str, result: dict[str, Any]) -> dict[str, Any]:
    """A generated motion as a row of a data set."""
    motion = result["motion"]
    return {
        "id": f"made-{number:02d}",
        "motion": motion.features,
        "captions": [{"text": text, "start": 0.0, "end": 0.0}],
        "source": "lamp-small",
        "fps": motion.fps,
        "num_frames": motion.num_frames,
        "content": "",
        "style": "",
        "mirrored": False,
    }


def short_recipe(stage: str, data: Path, *, language_model: Path | None = None, **trainer: Any) -> Recipe:
    """The recipe by which a stage of lamp-small was trained, for a few steps in float32.

    A new tokenizer and a new judge are trained; LaMP and the masked transformer go on from lamp-small.

    Args:
        stage: Of training.
        data: A data set that `make_data` wrote.
        language_model: Of a captioner.
        trainer: In place of the recipe's arguments.
    """
    recipe = load_recipe(f"bandai-namco/{stage}")
    recipe.data = {"name": str(data)}
    if stage == "motion-vqvae":
        recipe.model |= CODEBOOK
    else:
        recipe.base = DEFAULT_CHECKPOINT
    if stage in ("lamp", "text-to-motion"):
        recipe.model, recipe.text_encoder = {}, None
    if stage == "captioning":
        recipe.model["language_model_name"] = str(language_model)
    if stage == "evaluator":
        recipe.model["dropout"] = 0.0
    recipe.trainer |= {
        "bf16": False,
        "lr_scheduler_type": "constant",
        "warmup_steps": 0,
        "logging_steps": 1,
        "disable_tqdm": True,
        **trainer,
    }
    return recipe


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    """Of the finished model of a run."""
    return load_file(run / "model.safetensors")


def compare(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> tuple[float, str]:
    """The largest difference of any weight, and which tensor it is in.

    Raises:
        ValueError: The two do not hold the same tensors.
    """
    if found.keys() != wanted.keys():
        raise ValueError(f"one has, and the other has not: {', '.join(sorted(found.keys() ^ wanted.keys()))}")
    worst = {name: float((found[name].double() - tensor.double()).abs().max()) for name, tensor in wanted.items()}
    name = max(worst, key=lambda name: worst[name])
    return worst[name], name
