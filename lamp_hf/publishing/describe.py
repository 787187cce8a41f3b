"""Says what a checkpoint is, from its files alone: neither torch nor a model is loaded."""

import json
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

from lamp_hf.checkpoints.embedded import resolve_checkpoint
from lamp_hf.checkpoints.files import explained
from lamp_hf.hub.card_text import header_of
from lamp_hf.hub.errors import clear_hub_errors

__all__ = ["describe_checkpoint", "named_parts"]

WEIGHTS = "*.safetensors"
# What a prefix of the weights' names stands for, the longest first.
PARTS = {
    "lamp.motion_vqvae.": "motion tokenizer",
    "motion_vqvae.": "motion tokenizer",
    "lamp.": "LaMP",
    "masked_transformer.": "masked transformer",
    "text_to_condition.": "masked transformer",
    "words_to_condition.": "masked transformer",
    "token_embeddings.": "masked transformer",
    "length_estimator.": "length estimator",
    "projection.": "projection to the language model",
    "language_model.": "language model",
    "movement_encoder.": "motion side",
    "motion_encoder.": "motion side",
    "text_encoder.": "text side",
    "pos_projection.": "text side",
    "word_embeddings.": "word embeddings",
}


def describe_checkpoint(name_or_path: str) -> dict[str, Any]:
    """Facts about a checkpoint, in the order in which to show them.

    Args:
        name_or_path: Embedded checkpoint, folder as `save_pretrained` writes it, or Hub id, which is downloaded.

    Raises:
        CheckpointError: A file of it is damaged.
        FileNotFoundError: There is no such folder, or it holds no checkpoint.
    """
    folder = _local(name_or_path)
    with explained(folder, (), {}):
        return _facts(folder)


def _facts(folder: Path) -> dict[str, Any]:
    config = _read(folder, "config.json")
    processor = _read(folder, "processor_config.json")
    extractor = _read(folder, "preprocessor_config.json") or processor.get("feature_extractor", processor)
    facts: dict[str, Any] = {"checkpoint": str(folder), "model": _first(config.get("architectures"))}
    weights = sorted(folder.glob(WEIGHTS))
    sizes = _sizes(weights)
    facts["parameters"] = f"{sum(sizes.values()) / 1e6:.1f} M in {sum(map(_megabytes, weights)):.1f} MB"
    for part, size in sizes.items():
        facts[f"  {part}"] = f"{size / 1e6:.2f} M"
    if "fps" in extractor:
        facts["skeleton"] = extractor.get("skeleton")
        facts["frames per second"] = extractor["fps"]
        if "max_motion_tokens" in config:
            tokenizer = config["lamp_config"]["motion_vqvae_config"]
            frames = config["max_motion_tokens"] * 2 ** tokenizer["num_downsampling_layers"]
            facts["longest in one piece"] = f"{frames} frames, {frames / extractor['fps']:.1f} s"
    generation = _read(folder, "generation_config.json")
    for name in ("num_inference_steps", "guidance_scale", "temperature", "remasking_noise"):
        if name in generation:
            facts[name.replace("_", " ")] = generation[name]
    if examples := len(set(processor.get("example_texts") or ())):
        facts["knows"] = f"{examples} sentences: `lamp-hf prompts` lists them"
    facts |= named_parts(config)
    facts |= _card(folder / "README.md")
    return {name: value for name, value in facts.items() if value is not None}


def named_parts(config: Mapping[str, Any]) -> dict[str, Any]:
    """Models that a captioner needs and does not hold."""
    parts = ("lamp", "language_model")
    return {f"{part.replace('_', ' ')} from": config[f"{part}_name"] for part in parts if config.get(f"{part}_name")}


def _local(name_or_path: str) -> Path:
    folder = Path(resolve_checkpoint(name_or_path))
    if not folder.is_dir():
        from huggingface_hub import snapshot_download

        with clear_hub_errors(name_or_path):
            folder = Path(snapshot_download(name_or_path, allow_patterns=["*.json", WEIGHTS, "README.md"]))
    for name in ("config.json", WEIGHTS):
        if not any(folder.glob(name)):
            raise FileNotFoundError(f"{name_or_path} holds no checkpoint: {name} is missing")
    return folder


def _read(folder: Path, name: str) -> dict[str, Any]:
    path = folder / name
    if not path.is_file():
        return {}
    values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return values


def _sizes(weights: Sequence[Path]) -> dict[str, int]:
    """Numbers per part, from the headers of the weights' files."""
    from safetensors import safe_open

    sizes: dict[str, int] = {}
    for file in weights:
        with safe_open(file, framework="numpy") as tensors:
            for name in tensors.keys():  # noqa: SIM118 (no mapping)
                part = next((part for prefix, part in PARTS.items() if name.startswith(prefix)), "other")
                sizes[part] = sizes.get(part, 0) + prod(tensors.get_slice(name).get_shape())
    return dict(sorted(sizes.items(), key=lambda item: -item[1]))


def _megabytes(path: Path) -> float:
    return path.stat().st_size / 1e6


def _first(values: list[str] | None) -> str | None:
    return values[0] if values else None


def _card(path: Path) -> dict[str, Any]:
    """License and data of the model card's header."""
    if not path.is_file():
        return {}
    header = header_of(path.read_text(encoding="utf-8"), str(path))
    datasets = header.get("datasets")
    return {
        "license": header.get("license"),
        "data": ", ".join(datasets) if isinstance(datasets, list) else datasets,
    }
