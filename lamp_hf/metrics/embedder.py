"""Embed motions and texts with a model, in batches of similar length."""

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
    """Embeds motions and texts in a shared space.

    Args:
        model: A model with `get_motion_features(motion_values, motion_attention_mask)` and `get_text_features(…)`,
            which receives the processor's output for texts.
        processor: Called as `processor(motion=[…])` and `processor(text=[…])`, with a `feature_extractor` that has the
            frame rate as `fps`. For a model that does not read sentences, only a feature extractor.

    Raises:
        TypeError: The processor is missing.
    """

    def __init__(self, model: Any, processor: Any):
        if processor is None:
            raise TypeError("an evaluator needs its processor: pass processor=… too")
        self.model = model.eval()
        self.processor = processor
        self.reads_sentences = hasattr(processor, "feature_extractor")
        # The released evaluator reads words with their parts of speech.
        glove = getattr(getattr(model, "config", None), "text_input", None) == "glove"
        self.reads_annotations = self.reads_sentences and glove
        self.name = portable_name(str(model.name_or_path)) or type(model).__name__

    def motions(self, items: Sequence[Any], *, every_vector: bool = False) -> np.ndarray:
        """Embed motions: `Motion` objects, paths or arrays.

        Returns:
            `(N, D)`. If the model returns several vectors per motion, as LaMP does, this is their mean, or with
            `every_vector` all of them, `(N, Q, D)`.
        """
        fps = getattr(self.processor, "feature_extractor", self.processor).fps
        motions = [as_motion(item).resample(fps) for item in items]
        vectors = self._embed(motions, [len(motion.features) for motion in motions], "motion")
        return vectors.mean(axis=1) if vectors.ndim == 3 and not every_vector else vectors

    def texts(self, items: Sequence[str]) -> np.ndarray:
        """Embed sentences as `(N, D)`; raises as [`require_sentences`].

        The released evaluator also takes annotations, `a/DET person/NOUN walk/VERB`; see [`lamp_hf.GloveTokenizer`].
        """
        self.require_sentences()
        texts = as_captions(items)
        return self._embed(texts, [len(text) for text in texts], "text")

    def require_sentences(self) -> None:
        """Check that the model can embed sentences.

        Raises:
            ValueError: The model does not read sentences, so its processor is only a feature extractor.
        """
        if not self.reads_sentences:
            raise ValueError(
                f"{self.name} has only a feature extractor and cannot embed sentences: an evaluator that was converted "
                "without its GloVe vectors reads only motions. For metrics that compare with texts, such as "
                "R-Precision and MM-Dist, convert it again with its GloVe vectors (--glove), or use another evaluator"
            )

    def require_tagger(self) -> None:
        """Check that the model can embed sentences without annotation.

        Raises:
            ModuleNotFoundError: The model reads words with their parts of speech, and spaCy is not installed.
            OSError: spaCy does not have the model that tags words.
            ValueError: See [`require_sentences`].
        """
        self.require_sentences()
        if self.reads_annotations:
            self.processor.tokenizer.require_tagger()

    def _embed(self, items: Sequence[Any], lengths: Sequence[int], kind: str) -> np.ndarray:
        import torch

        encode = getattr(self.model, f"get_{kind}_features")
        rows: dict[int, np.ndarray] = {}
        for batch in batches_by_length(lengths, BATCH_SIZE):
            inputs = self.processor(**{kind: [items[row] for row in batch]}).to(self.model.device)
            with torch.no_grad():
                rows.update(zip(batch, as_array(encode(**inputs)), strict=True))
        return np.stack([rows[row] for row in range(len(items))])
