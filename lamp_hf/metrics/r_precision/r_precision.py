"""R-Precision of motions and their texts, as a module of `evaluate`."""

import evaluate

from lamp_hf.metrics import streaming
from lamp_hf.metrics.functional import embeddings as measures
from lamp_hf.metrics.functional import retrieval

_DESCRIPTION = """
R-Precision: how often the motion that belongs to a text is among the 1, 2 or 3 motions with the embeddings nearest to
the text's, out of 32 motions.
"""

_KWARGS_DESCRIPTION = """

Args:
    predictions: Embeddings (N, D) of motions.
    references: Embeddings (N, D) of their texts.
    pool_size: Number of pairs compared with each other. Pairs that do not fill a whole pool are left out.
    repeats: Number of random partitions into pools, which are averaged. With `None`, the pools are formed once, in the
        given order.
    seed: Passed to `load`: seed of the partitions.
    evaluator, processor: Passed to `load`: a model that embeds motions and texts, and its processor. Then predictions
        are motions (a `Motion`, a path, or an array) and references are sentences.

Returns:
    `r_precision_1`, `r_precision_2`, `r_precision_3`; `motion_to_text_1` … for the other direction; `chance_1` …, the
    values of random ranks; and `evaluator`, the name of the evaluator if there is one.

Raises:
    ValueError: There are fewer pairs than `pool_size`.

Examples:

    >>> import numpy as np
    >>> metric = lamp_hf.metrics.load("r_precision")
    >>> scores = metric.compute(predictions=np.eye(32), references=np.eye(32) + 0.1)
    >>> scores["r_precision_1"], scores["chance_1"]
    (1.0, 0.03125)
"""


class RPrecision(streaming.PairMetric):
    def _info(self):
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=streaming.GUO_2022,
            inputs_description=_KWARGS_DESCRIPTION,
            features=self.columns(),
        )

    def _compute(self, embedding, text, pool_size=32, repeats=1):
        similarity = measures.embedding_similarity(embedding, text, "euclidean")
        recall = retrieval.pool_recall(
            similarity, range(len(text)), pool_size=pool_size, repeats=repeats, seed=self.seed
        )
        ways = (("r_precision", "text_to_motion"), ("motion_to_text", "motion_to_text"), ("chance", "chance"))
        scores = {f"{ours}_{k}": recall[f"{way}_r{k}"] for ours, way in ways for k in retrieval.RANKS}
        return {**scores, **self.provenance()}
