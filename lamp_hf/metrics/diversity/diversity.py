"""Diversity of motions, as a module of `evaluate`."""

import evaluate

from lamp_hf.metrics import streaming
from lamp_hf.metrics.functional import embeddings as measures

_DESCRIPTION = """
Diversity: mean Euclidean distance between the embeddings of random pairs of motions. It should be close to the value of
real motions, neither lower nor higher.
"""

_KWARGS_DESCRIPTION = """

Args:
    predictions: Embeddings (N, D) of motions.
    num_pairs: Number of pairs. Defaults to 300, as in published tables. At least as many motions are needed.
    seed: Passed to `load`: seed of the pairs.
    evaluator, processor: Passed to `load`: a model that embeds motions, and its processor. Then predictions are
        motions (a `Motion`, a path, or an array) instead of embeddings.

Returns:
    `diversity`, and `evaluator`, the name of the evaluator if there is one.

Raises:
    ValueError: There are fewer motions than pairs.

Examples:

    >>> metric = lamp_hf.metrics.load("diversity", seed=5)
    >>> metric.compute(predictions=[[0.0, 1.0]] * 10, num_pairs=10)
    {'diversity': 0.0}
"""


class Diversity(streaming.EmbeddingMetric):
    def _info(self):
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=streaming.GUO_2022,
            inputs_description=_KWARGS_DESCRIPTION,
            features=self.columns(),
        )

    def reduce(self, predictions, references):
        return {"embedding": self.motion_embeddings(predictions)}

    def _compute(self, embedding, num_pairs=300):
        return {"diversity": measures.diversity(embedding, num_pairs, self.seed), **self.provenance()}
