"""Captions of training examples: composed by the data set's grammar at every draw, or drawn from its captions."""

import random
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch.nn import functional as F

from lamp_hf.data.named_sets import NAMED_SETS
from lamp_hf.modeling.modeling_lamp_language_model_captioning import IGNORED_LABEL

__all__ = ["CaptionOf", "all_captions", "caption_source", "first_captions", "next_token_scores"]

CaptionOf = Callable[[int, np.random.Generator], str]


def caption_source(dataset: Dataset, data: dict[str, Any]) -> CaptionOf:
    """Return a function that returns a caption, given the number of a clip and a random generator.

    Args:
        dataset: The training split.
        data: The recipe's data section. If it names a data set with a grammar, the grammar composes the captions.
    """
    named = NAMED_SETS.get(data["name"])
    if named is not None and named.grammar is not None:
        grammar = named.grammar(data["path"], captions=data.get("captions"), split_dir=data.get("split_dir"))
        labels = list(zip(dataset["content"], dataset["style"], dataset["mirrored"], strict=True))

        def compose(clip: int, rng: np.random.Generator) -> str:
            content, style, mirrored = labels[clip]
            return grammar.compose(content, style, random.Random(int(rng.integers(2**63))), mirrored=mirrored)

        return compose

    captions = all_captions(dataset)

    def choose(clip: int, rng: np.random.Generator) -> str:
        return captions[clip][int(rng.integers(len(captions[clip])))]

    return choose


def all_captions(dataset: Dataset) -> list[list[str]]:
    """Return all captions of every clip."""
    return [[caption["text"] for caption in row] for row in dataset["captions"]]


def first_captions(dataset: Dataset) -> list[str]:
    """Return caption 0 of every clip, the one used for evaluation in the literature."""
    return [row[0]["text"] for row in dataset["captions"]]


def next_token_scores(batches: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> dict[str, float]:
    """Score the next-token predictions of a language model.

    Args:
        batches: Logits `(B, L, V)` and target tokens `(B, L)`, -100 where there is no target.

    Returns:
        `loss`, the mean cross-entropy of a token, and `token_accuracy`, the share of tokens predicted correctly.
    """
    total = hits = count = 0.0
    for logits, labels in batches:
        real = labels != IGNORED_LABEL
        total += float(F.cross_entropy(logits[real].float(), labels[real], reduction="sum"))
        hits += float((logits.argmax(-1)[real] == labels[real]).sum())
        count += float(real.sum())
    return {"loss": total / count, "token_accuracy": hits / count}
