"""A small data set of procedural motions, and all stages trained on it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict
from transformers import BertConfig, BertForMaskedLM, BertTokenizer

from lamp_hf.data import motion_features
from lamp_hf.training import Recipe, train

TRAINER = {
    "max_steps": 6,
    "per_device_train_batch_size": 8,
    "learning_rate": 0.001,
    "eval_steps": 3,
    "save_steps": 3,
    "logging_steps": 1,
    "disable_tqdm": True,
}


@pytest.fixture(scope="session")
def tiny_set(tmp_path_factory: pytest.TempPathFactory, procedural) -> Path:
    """Eight walks and eight waves of 30 to 60 frames, saved to disk with captions and labels."""
    rng = np.random.default_rng(0)
    rows = []
    for index in range(16):
        walking = index % 2 == 0
        frames = int(rng.integers(30, 60))
        if walking:
            motion = procedural.walker(frames, speed=0.6 + 0.05 * index, turn=0.1 * (index - 6))
            captions = ["a person walks forward", "someone is walking"]
        else:
            motion = procedural.waver(frames, side="left" if index % 4 == 1 else "right")
            captions = ["a person waves with one hand", "someone is waving"]
        content = "walk" if walking else "wave"
        rows.append(procedural.row(f"clip{index:02d}", motion, captions, content=content, style="normal"))
    folder = tmp_path_factory.mktemp("tiny_set")
    splits = {"train": rows[:12], "validation": rows[12:]}
    DatasetDict(
        {name: Dataset.from_list(part, features=motion_features()) for name, part in splits.items()}
    ).save_to_disk(folder)
    return folder


def _tokenizer_recipe(data: Path, **trainer: Any) -> Recipe:
    return Recipe(
        stage="motion-vqvae",
        data={"name": str(data)},
        model={"hidden_size": 16, "code_dim": 8, "num_codes": 16, "code_reset_threshold": 0.1},
        sampling={"window": 32, "balance": 0.5},
        trainer={**TRAINER, "metric_for_best_model": "mpjpe_mm", "greater_is_better": False, **trainer},
    )


@pytest.fixture(scope="session")
def tokenizer_recipe() -> Callable[..., Recipe]:
    """Recipe of a tiny motion tokenizer for a data set; keyword arguments are the trainer's."""
    return _tokenizer_recipe


@pytest.fixture(scope="session")
def text_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT with hidden size 32 and the words of the captions."""
    folder = tmp_path_factory.mktemp("bert")
    words = ["a", "person", "walks", "forward", "someone", "is", "walking", "waves", "with", "one", "hand", "waving"]
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    BertTokenizer(vocab={token: index for index, token in enumerate(tokens)}).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokens),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=32,
    )
    BertForMaskedLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def stages(tmp_path_factory: pytest.TempPathFactory, tiny_set: Path, text_encoder: Path) -> dict[str, Path]:
    """All stages one after the other."""
    root = tmp_path_factory.mktemp("runs")
    first = train(_tokenizer_recipe(tiny_set, max_steps=30, eval_steps=15, save_steps=15), root / "motion-vqvae")
    lamp = Recipe(
        stage="lamp",
        base=str(first),
        data={"name": str(tiny_set)},
        text_encoder=str(text_encoder),
        model={
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 64,
            "max_position_embeddings": 32,
            "max_text_length": 16,
            "num_query_tokens": 4,
            "motion_hidden_size": 16,
            "projection_dim": 16,
        },
        trainer={**TRAINER, "metric_for_best_model": "text_to_motion_r1", "greater_is_better": True},
    )
    second = train(lamp, root / "lamp")
    text_to_motion = Recipe(
        stage="text-to-motion",
        base=str(second),
        data={"name": str(tiny_set)},
        model={
            "hidden_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 32,
            "max_motion_tokens": 16,
            "length_hidden_sizes": [16],
        },
        generation={"guidance_scale": 2.5},
        trainer={**TRAINER, "metric_for_best_model": "token_loss", "greater_is_better": False},
    )
    language_model = Recipe(
        stage="language-model",
        base=str(second),
        data={"name": str(tiny_set)},
        model={
            "hidden_size": 32,
            "word_embed_proj_dim": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "ffn_dim": 64,
            "max_position_embeddings": 20,
            "dropout": 0.0,
        },
        trainer={
            **TRAINER,
            "max_steps": 60,
            "eval_steps": 30,
            "save_steps": 30,
            "learning_rate": 0.01,
            "metric_for_best_model": "loss",
            "greater_is_better": False,
        },
    )
    writer = train(language_model, root / "language-model")
    captioning = Recipe(
        stage="captioning",
        base=str(second),
        data={"name": str(tiny_set)},
        model={"language_model_name": str(writer), "max_text_length": 16, "lora_rank": 2},
        trainer={**TRAINER, "metric_for_best_model": "loss", "greater_is_better": False},
    )
    return {
        "motion-vqvae": first,
        "lamp": second,
        "text-to-motion": train(text_to_motion, root / "text-to-motion"),
        "language-model": writer,
        "captioning": train(captioning, root / "captioning"),
    }
