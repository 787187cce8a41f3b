"""MM-Dist between motions and their texts, as a module of `evaluate`."""

import evaluate

from lamp_hf.metrics import streaming
from lamp_hf.metrics.functional import embeddings as measures

_DESCRIPTION = """
MM-Dist: mean Euclidean distance between the embeddings of a motion and of its text. Lower is better.
"""

_KWARGS_DESCRIPTION = """

Args:
    predictions: Embeddings (N, D) of motions.
    references: Embeddings (N, D) of their texts.
    evaluator, processor: Passed to `load`: a model that embeds motions and texts, and its processor. Then predictions
        are motions (a `Motion`, a path, or an array) and references are sentences.

Returns:
    `mm_dist`, and `evaluator`, the name of the evaluator if there is one.

Examples:

    >>> metric = lamp_hf.metrics.load("mm_dist")
    >>> metric.compute(predictions=[[0.0, 0.0], [1.0, 1.0]], references=[[3.0, 4.0], [1.0, 1.0]])
    {'mm_dist': 2.5}
"""


class MMDist(streaming.PairMetric):
    def _info(self):
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=streaming.GUO_2022,
            inputs_description=_KWARGS_DESCRIPTION,
            features=self.columns(),
        )

    def _compute(self, embedding, text):
        return {"mm_dist": measures.matching_distance(embedding, text), **self.provenance()}
