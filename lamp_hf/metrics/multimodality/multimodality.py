"""MultiModality of motions made for one text, as a module of `evaluate`."""

import evaluate
import numpy as np
from datasets import Value

from lamp_hf.metrics import streaming
from lamp_hf.metrics.functional import embeddings as measures

_DESCRIPTION = """
MultiModality: mean Euclidean distance between the embeddings of random pairs of motions that were made for one text.
"""

_KWARGS_DESCRIPTION = """

Args:
    predictions: For each text the embeddings (N, D) of the motions made for it, as many for every text.
    num_pairs: Pairs a text, 10 as in the tables of the field; as many motions a text are needed.
    seed: Given to `load`, of the pairs.
    evaluator, processor: Given to `load`: a model that embeds, and its processor. Then predictions are motions (a
        `Motion`, a file's path, or an array) instead of embeddings.

Returns:
    `multimodality`, and with an evaluator its name as `evaluator`.

Raises:
    ValueError: Fewer motions a text than pairs, or not as many for every text.

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
            raise ValueError(f"some texts have {counts.min()} motions and some {counts.max()}; give as many for each")
        groups = embedding.reshape(-1, counts[0], embedding.shape[1])
        return {"multimodality": measures.multimodality(groups, num_pairs, self.seed), **self.provenance()}
