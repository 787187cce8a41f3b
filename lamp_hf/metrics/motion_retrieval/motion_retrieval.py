"""Retrieval between motions and texts under TMR's protocols, as a module of `evaluate`."""

from typing import Any

import evaluate
import numpy as np
from datasets import Value

from lamp_hf.metrics import inputs, streaming
from lamp_hf.metrics.functional import embeddings as measures
from lamp_hf.metrics.functional import retrieval

_DESCRIPTION = """
Text-to-motion and motion-to-text retrieval: recall at 1, 2, 3, 5 and 10, and the median rank, under TMR's four
protocols: all pairs; all pairs, where the partners of nearly identical captions are right too (threshold 0.95); a
subset of 100 pairs with dissimilar captions; the mean over random batches of 32.
"""

_CITATION = """
@inproceedings{petrovich2023tmr,
  title = {{TMR}: Text-to-Motion Retrieval Using Contrastive {3D} Human Motion Synthesis},
  author = {Petrovich, Mathis and Black, Michael J. and Varol, Gül},
  booktitle = {ICCV},
  year = {2023}
}
"""

_KWARGS_DESCRIPTION = """

Args:
    predictions: Embeddings (N, D) of motions, or (N, Q, D) with Q vectors per motion, of which the most similar one
        counts, as in LaMP.
    references: Embeddings (N, D) of their texts.
    captions: The texts, which the protocols "threshold" and "dissimilar" compare. With an evaluator, they default to
        the references.
    sentences: Sentence embeddings of the captions, of unit length, as an alternative to `captions`.
    protocols: Any of "all", "threshold", "dissimilar" and "small_batches". Defaults to all four.
    similarity: "cosine", or "euclidean" for the negative Euclidean distance. Defaults to "cosine".
    threshold: Captions are nearly identical if (1 + cosine) / 2 of their sentence embeddings exceeds it.
    dissimilar_size: Number of pairs in the subset with dissimilar captions.
    pool_size: Number of pairs in a small batch.
    seed: Passed to `load`: seed of the small batches.
    sentence_encoder: Passed to `load`: folder or Hub id of the sentence encoder. Defaults to all-MiniLM-L6-v2; TMR uses
        all-mpnet-base-v2.
    evaluator, processor: Passed to `load`: a model that embeds motions and texts, and its processor. Then predictions
        are motions and references are sentences. All vectors of a motion are compared.

Returns:
    For each protocol a dictionary with `text_to_motion_r1` … `text_to_motion_r10`, `text_to_motion_medr`, the same as
    `motion_to_text_…`, and `n`, the number of pairs. `sentence_encoder` and `evaluator` name the models that were used,
    if any. Recalls are between 0 and 1; ranks count from 1.

Raises:
    ValueError: A protocol compares captions and there are none, or there are too few pairs for a protocol.

Examples:

    >>> import numpy as np
    >>> metric = lamp_hf.metrics.load("motion_retrieval")
    >>> metric.add_batch(predictions=np.eye(40), references=np.eye(40))
    >>> scores = metric.compute(protocols=("all", "small_batches"))
    >>> scores["all"]["text_to_motion_r1"], scores["all"]["motion_to_text_medr"], scores["small_batches"]["n"]
    (1.0, 1.0, 32)
"""


class MotionRetrieval(streaming.EmbeddingMetric):
    def _info(self):
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=self.columns(
                vectors=Value("int64"),
                text=streaming.ListOf(Value("float32")),
                caption=Value("string"),
                sentence=streaming.ListOf(Value("float32")),
            ),
        )

    def __init__(self, *args, sentence_encoder=None, **options):
        super().__init__(*args, **options)
        self.sentence_encoder = sentence_encoder

    def reduce(self, predictions, references, captions=None, sentences=None):
        inputs.paired(predictions, references)
        for name, values in (("captions", captions), ("sentences", sentences)):
            if values is not None:
                inputs.paired(predictions, values, name)
        if self.embedder is None:
            motions = inputs.as_array(predictions)
        else:
            motions = self.embedder.motions(predictions, every_vector=True)
            captions = references if captions is None else captions
        texts = self.text_embeddings(references)
        motions = motions[:, None] if motions.ndim == 2 else motions
        if motions.ndim != 3 or motions.shape[2] != texts.shape[1]:
            raise ValueError(f"motions {motions.shape} and texts {texts.shape} are not embeddings of one model")
        count = len(texts)
        return {
            "embedding": motions.reshape(count, -1),
            "vectors": [motions.shape[1]] * count,
            "text": texts,
            "caption": [""] * count if captions is None else inputs.as_captions(captions),
            "sentence": np.zeros((count, 0), np.float32) if sentences is None else inputs.as_array(sentences),
        }

    def _compute(
        self,
        embedding,
        vectors,
        text,
        caption,
        sentence,
        protocols=retrieval.PROTOCOLS,
        similarity="cosine",
        threshold=0.95,
        dissimilar_size=100,
        pool_size=32,
    ):
        protocols = [protocols] if isinstance(protocols, str) else list(protocols)
        motions = embedding.reshape(len(text), vectors[0], -1)
        table = measures.embedding_similarity(motions, text, similarity)
        result: dict[str, Any] = dict(self.provenance())
        likeness = None
        if {"threshold", "dissimilar"} & set(protocols):
            if sentence.shape[1] == 0 and all(caption):
                # Imported here, because metrics of embeddings alone do not need torch.
                from lamp_hf.metrics.functional import sentences

                encoder = self.sentence_encoder or sentences.DEFAULT_ENCODER
                sentence = sentences.sentence_embeddings([str(words) for words in caption], encoder)
                result["sentence_encoder"] = encoder
            likeness = measures.embedding_similarity(sentence, sentence) if sentence.shape[1] else None
        for protocol in protocols:
            result[protocol] = retrieval.retrieval_scores(
                protocol,
                table,
                likeness,
                threshold=threshold,
                dissimilar_size=dissimilar_size,
                pool_size=pool_size,
                seed=self.seed,
            )
        return result
