"""MultiModality of motions generated for the same text, as a module of `evaluate`."""

import evaluate
import numpy as np
from datasets import Value

from lamp_hf.metrics import streaming
from lamp_hf.metrics.functional import embeddings as measures

_DESCRIPTION = """
MultiModality: mean Euclidean distance between the embeddings of random pairs of motions generated for the
same text.
"""

_KWARGS_DESCRIPTION = """

Args:
    predictions: For each text, the embeddings (N, D) of the motions generated for it. N is the same for all texts.
    num_pairs: Number of pairs per text. Defaults to 10, as in published tables. At least as many motions per text are
        needed.
    seed: Passed to `load`: seed of the pairs.
    evaluator, processor: Passed to `load`: a model that embeds motions, and its processor. Then predictions are
        motions (a `Motion`, a path, or an array) instead of embeddings.

Returns:
    `multimodality`, and `evaluator`, the name of the evaluator if there is one.

Raises:
    ValueError: There are fewer motions per text than pairs, or the texts have different numbers of motions.

Examples:

    >>> metric = lamp_hf.metrics.load("multimodality")
    >>> metric.add_batch(predictions=[[[0.0, 1.0]] * 12, [[2.0, 0.0]] * 12])
    >>> metric.compute(num_pairs=10)
    {'multimodality': 0.0}
"""


class Multimodality(streaming.EmbeddingMetric):
    def _info(self):
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=streaming.GUO_2022,
            inputs_description=_KWARGS_DESCRIPTION,
            features=self.columns(count=Value("int64")),
        )

    def reduce(self, predictions, references):
        texts = [self.motion_embeddings(motions) for motions in predictions]
        return {"embedding": np.concatenate(texts), "count": [len(rows) for rows in texts for _ in rows]}

    def _compute(self, embedding, count, num_pairs=10):
        if len(counts := np.unique(count)) > 1:
            raise ValueError(f"some texts have {counts.min()} motions and some {counts.max()}; pass equally many")
        groups = embedding.reshape(-1, counts[0], embedding.shape[1])
        return {"multimodality": measures.multimodality(groups, num_pairs, self.seed), **self.provenance()}
