"""What a text-to-motion model knows, as motions of its own: training on them beside new ones keeps it from forgetting.

The clips of its training are seldom at hand. Their captions say what the model can do, and the model itself how. A
motion that it makes is one of many that it holds likely: of each, the masked transformer learns how likely all codes
were (`TextToMotionStage.complete`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from datasets import Dataset

from lamp_hf.modeling.modeling_lamp_text_to_motion import LampForTextToMotion
from lamp_hf.modeling.processing_lamp import LampProcessor
from lamp_hf.processes import progress_bar

__all__ = ["RehearsedMotion", "choose_example_texts", "rehearse", "texts_to_rehearse"]

NUM_EXAMPLE_TEXTS = 512
HELD_OUT = 10  # every tenth rehearsed motion is for validation
BATCH_SIZE = 32


@dataclass(frozen=True)
class RehearsedMotion:
    """A motion that the model made.

    Args:
        text: Of it.
        codes: Token ids `(n,)`.
        features: Unnormalized `(4 n, D)`.
    """

    text: str
    codes: np.ndarray
    features: np.ndarray


@torch.no_grad()
def rehearse(
    model: LampForTextToMotion, processor: LampProcessor, *, num_motions: int, seed: int
) -> tuple[list[RehearsedMotion], list[RehearsedMotion]]:
    """Have a model do what it knows.

    Args:
        model: As it is before it learns anything new.
        processor: Its processor, whose `example_texts` say what it knows.
        num_motions: How many; the texts are taken in turn.
        seed: Of the first motion; the others count on.

    Returns:
        Motions to train on, and others to be judged on.

    Raises:
        ValueError: The processor has no texts.
    """
    texts = texts_to_rehearse(processor)
    was_training = model.training
    model.eval()
    made: list[RehearsedMotion] = []
    for start in progress_bar(range(0, num_motions, BATCH_SIZE), "rehearsing", "batch"):
        numbers = range(start, min(start + BATCH_SIZE, num_motions))
        batch = [texts[number % len(texts)] for number in numbers]
        inputs = processor(text=batch).to(model.device)
        output: Any = model.generate(**inputs, seed=[seed + number for number in numbers])
        motions = processor.post_process_motion(output.motion_values, output.motion_attention_mask)
        for text, codes, motion in zip(batch, output.motion_codes.cpu().numpy(), motions, strict=True):
            made.append(RehearsedMotion(text, codes[codes >= 0], np.asarray(motion.features, dtype=np.float32)))
    model.train(was_training)
    return (
        [motion for number, motion in enumerate(made) if number % HELD_OUT],
        [motion for number, motion in enumerate(made) if number % HELD_OUT == 0],
    )


def texts_to_rehearse(processor: LampProcessor) -> list[str]:
    """Texts of what a model knows.

    Raises:
        ValueError: Its processor has none.
    """
    if not processor.example_texts:
        raise ValueError(
            "the base does not say what it knows (example_texts of its processor), so that it cannot rehearse it and "
            "would forget: train without rehearsal (rehearsal.num_motions=0), and add clips of what it should still do"
        )
    return processor.example_texts


def choose_example_texts(dataset: Dataset, labels: Sequence[str], known: Sequence[str] = ()) -> list[str]:
    """Captions that stand for a training split: of every label as many, as far as there are different ones.

    Args:
        dataset: The split.
        labels: What each clip shows.
        known: Texts of what the model knew before; they keep half of the places.
    """
    captions: dict[str, list[str]] = {}
    for label, row in zip(labels, dataset["captions"], strict=True):
        captions.setdefault(label, []).extend(caption["text"] for caption in row)
    groups = [list(dict.fromkeys(texts)) for _, texts in sorted(captions.items())]
    # One of each label, then another one of each, and so on.
    turns = (texts[turn] for turn in range(max(map(len, groups))) for texts in groups if turn < len(texts))
    new = list(dict.fromkeys(turns))
    if not known:
        return new[:NUM_EXAMPLE_TEXTS]
    half = NUM_EXAMPLE_TEXTS // 2
    kept = list(known[: max(half, NUM_EXAMPLE_TEXTS - len(new))])
    return list(dict.fromkeys([*kept, *new[: NUM_EXAMPLE_TEXTS - len(kept)]]))
