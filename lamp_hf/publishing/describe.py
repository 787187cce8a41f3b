"""Describe a checkpoint from its files alone; neither torch nor a model is loaded."""

from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any

from lamp_hf.checkpoints.embedded import resolve_checkpoint
from lamp_hf.checkpoints.files import explained, model_class
from lamp_hf.hub.card_text import header_of
from lamp_hf.hub.errors import clear_hub_errors
from lamp_hf.hub.upload import CARD

from .checkpoint_folder import CheckpointFolder

__all__ = ["describe", "describe_checkpoint"]

# The part of a model by the prefix of its weights' names, the longest prefix first.
PARTS = {
    "lamp.motion_vqvae.": "motion tokenizer",
    "motion_vqvae.": "motion tokenizer",
    "lamp.": "LaMP",
    "masked_transformer.": "masked transformer",
    "text_to_condition.": "masked transformer",
    "words_to_condition.": "masked transformer",
    "token_embeddings.": "masked transformer",
    "residual_transformer.": "residual transformer",
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
    """Return facts about a checkpoint, in the order in which to show them.

    Args:
        name_or_path: Name of an embedded checkpoint, a folder as `save_pretrained` writes it, or a Hub id, which is
            downloaded.

    Raises:
        CheckpointError: A file of the checkpoint is damaged.
        FileNotFoundError: The folder does not exist or does not contain a checkpoint.
    """
    folder = Path(resolve_checkpoint(name_or_path))
    if not folder.is_dir():
        from huggingface_hub import snapshot_download

        with clear_hub_errors(name_or_path):
            folder = Path(snapshot_download(name_or_path, allow_patterns=["*.json", "*.safetensors", CARD]))
    return describe(CheckpointFolder.read(folder), name_or_path)


def describe(checkpoint: CheckpointFolder, name: str | None = None) -> dict[str, Any]:
    """Return facts about a checkpoint whose folder has been read.

    Args:
        checkpoint: The checkpoint.
        name: What errors call it. Defaults to its path.

    Raises:
        CheckpointError: A file of the checkpoint is damaged.
        FileNotFoundError: The folder does not contain a checkpoint.
    """
    for needed, found in (("config.json", "config.json" in checkpoint.texts), ("*.safetensors", checkpoint.weights)):
        if not found:
            raise FileNotFoundError(f"{name or checkpoint.path}: not a checkpoint, {needed} is missing")
    with explained(checkpoint.path, (), {}):
        return _facts(checkpoint)


def _facts(checkpoint: CheckpointFolder) -> dict[str, Any]:
    config, extractor, generation = checkpoint.config, checkpoint.extractor, checkpoint.generation_config
    facts: dict[str, Any] = {"checkpoint": str(checkpoint.path), "model": model_class(config)}
    sizes = _sizes(checkpoint.weights)
    facts["parameters"] = f"{sum(sizes.values()) / 1e6:.1f} M in {sum(map(_megabytes, checkpoint.weights)):.1f} MB"
    for part, size in sizes.items():
        facts[f"  {part}"] = f"{size / 1e6:.2f} M"
    if "fps" in extractor:
        facts["skeleton"] = extractor.get("skeleton")
        facts["frames per second"] = extractor["fps"]
        if "max_motion_tokens" in config:
            tokenizer = config["lamp_config"]["motion_vqvae_config"]
            frames = config["max_motion_tokens"] * 2 ** tokenizer["num_downsampling_layers"]
            facts["longest in one piece"] = f"{frames} frames, {frames / extractor['fps']:.1f} s"
    for name in ("num_inference_steps", "guidance_scale", "temperature", "remasking_noise"):
        if name in generation:
            facts[name.replace("_", " ")] = generation[name]
    if examples := len(set(checkpoint.processor.get("example_texts") or ())):
        facts["knows"] = f"{examples} sentences: `lamp-hf prompts` lists them"
    for part in ("lamp", "language_model"):  # a captioner refers to these models by name
        facts[f"{part.replace('_', ' ')} from"] = config.get(f"{part}_name") or None
    header = header_of(checkpoint.card, str(checkpoint.path / CARD))
    datasets = header.get("datasets")
    facts["license"] = header.get("license")
    facts["data"] = ", ".join(datasets) if isinstance(datasets, list) else datasets
    return {name: value for name, value in facts.items() if value is not None}


def _sizes(weights: Sequence[Path]) -> dict[str, int]:
    """Count the parameters of each part, from the headers of the weight files."""
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
