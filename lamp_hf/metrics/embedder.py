"""Embed motions and texts with a model, in batches of like length."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from lamp_hf.batches import batches_by_length
from lamp_hf.checkpoints.embedded import portable_name
from lamp_hf.metrics.inputs import as_array, as_captions
from lamp_hf.motion.inputs import as_motion

__all__ = ["Embedder"]


BATCH_SIZE = 32


class Embedder:
    """A model that puts motions and texts into one space.

    Args:
        model: Has `get_motion_features(motion_values, motion_attention_mask)` and `get_text_features(…)`, which take
            what the processor makes of texts.
        processor: Called as `processor(motion=[…])` and `processor(text=[…])`, with a `feature_extractor` that knows
            the frame rate; or, of a model that reads no sentences, a feature extractor alone.

    Raises:
        TypeError: The processor is missing.
    """

    def __init__(self, model: Any, processor: Any):
        if processor is None:
            raise TypeError("an evaluator comes with its processor: give processor=… too")
        self.model = model.eval()
        self.processor = processor
        self.reads_sentences = hasattr(processor, "feature_extractor")
        self.name = portable_name(str(model.name_or_path)) or type(model).__name__

    def motions(self, items: Sequence[Any], *, every_vector: bool = False) -> np.ndarray:
        """Embeddings of motions in any form; motions of like length go together.

        Returns:
            `(N, D)`. Of a model that makes several vectors of a motion, as LaMP, their mean, or with `every_vector`
            all, `(N, Q, D)`.
        """
        fps = getattr(self.processor, "feature_extractor", self.processor).fps
        motions = [as_motion(item).resample(fps) for item in items]
        vectors = self._embed(motions, [len(motion.features) for motion in motions], "motion")
        return vectors.mean(axis=1) if vectors.ndim == 3 and not every_vector else vectors

    def texts(self, items: Sequence[str]) -> np.ndarray:
        """Embeddings `(N, D)` of sentences; errors as for [`require_sentences`]."""
        self.require_sentences()
        texts = as_captions(items)
        return self._embed(texts, [len(text) for text in texts], "text")

    def require_sentences(self) -> None:
        """Check that sentences can be embedded.

        Raises:
            ValueError: The model is given other things for texts, so that it comes with a feature extractor alone.
        """
        if not self.reads_sentences:
            raise ValueError(
                f"{self.name} comes with a feature extractor alone and embeds no sentences: a converted evaluator "
                "reads GloVe word vectors and part-of-speech tags in place of them. What compares with texts, as "
                "R-Precision and MM-Dist do, needs its get_text_features of such vectors, or another evaluator"
            )

    def _embed(self, items: Sequence[Any], lengths: Sequence[int], kind: str) -> np.ndarray:
        import torch

        encode = getattr(self.model, f"get_{kind}_features")
        rows: dict[int, np.ndarray] = {}
        for batch in batches_by_length(lengths, BATCH_SIZE):
            inputs = self.processor(**{kind: [items[row] for row in batch]}).to(self.model.device)
            with torch.no_grad():
                rows.update(zip(batch, as_array(encode(**inputs)), strict=True))
        return np.stack([rows[row] for row in range(len(items))])
