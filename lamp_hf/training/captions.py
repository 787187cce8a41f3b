"""Captions for training examples: composed anew at every draw where a grammar is known, else drawn from the set."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
from datasets import Dataset

from lamp_hf.data.bandai_namco import bandai_namco_grammar

__all__ = ["CaptionOf", "caption_source", "first_captions"]

CaptionOf = Callable[[int, np.random.Generator], str]


def caption_source(dataset: Dataset, data: dict[str, Any]) -> CaptionOf:
    """A function that gives a caption for the number of a clip and a random generator.

    Args:
        dataset: The training split.
        data: The recipe's data section; for `bandai-namco` captions are composed from its grammar.
    """
    if data["name"] == "bandai-namco":
        grammar = bandai_namco_grammar(data["path"], captions=data.get("captions"), split_dir=data.get("split_dir"))
        labels = list(zip(dataset["content"], dataset["style"], dataset["mirrored"], strict=True))

        def compose(clip: int, rng: np.random.Generator) -> str:
            content, style, mirrored = labels[clip]
            return grammar.compose(content, style, random.Random(int(rng.integers(2**63))), mirrored=mirrored)

        return compose

    captions = [[caption["text"] for caption in row] for row in dataset["captions"]]

    def choose(clip: int, rng: np.random.Generator) -> str:
        return captions[clip][int(rng.integers(len(captions[clip])))]

    return choose


def first_captions(dataset: Dataset) -> list[str]:
    """Caption 0 of every clip, which the field evaluates on."""
    return [row[0]["text"] for row in dataset["captions"]]
