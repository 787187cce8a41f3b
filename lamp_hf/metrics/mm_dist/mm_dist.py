"""MM-Dist between motions and their texts, as a module of `evaluate`."""

import evaluate
from datasets import Value

from lamp_hf.evaluation import embeddings as measures
from lamp_hf.metrics import streaming

_DESCRIPTION = """
MM-Dist: mean Euclidean distance of the embedding of a motion from that of its text. Less is better.
"""

_CITATION = """
@inproceedings{guo2022generating,
  title = {Generating Diverse and Natural 3D Human Motions from Text},
  author = {Guo, Chuan and Zou, Shihao and Zuo, Xinxin and Wang, Sen and Ji, Wei and Li, Xingyu and Cheng, Li},
  booktitle = {CVPR},
  year = {2022}
}
"""

_KWARGS_DESCRIPTION = """

Args:
    predictions: Embeddings (N, D) of motions.
    references: Embeddings (N, D) of their texts.
    evaluator, processor: Given to `load`: a model that embeds, and its processor. Then predictions are motions (a
        `Motion`, a file's path, or an array) instead of embeddings; references are sentences.

Returns:
    `mm_dist`, and with an evaluator its name as `evaluator`.

Examples:

    >>> metric = lamp_hf.metrics.load("mm_dist")
    >>> metric.compute(predictions=[[0.0, 0.0], [1.0, 1.0]], references=[[3.0, 4.0], [1.0, 1.0]])
    {'mm_dist': 2.5}
"""


class MMDist(streaming.EmbeddingMetric):
    def _info(self):
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=self.columns(text=streaming.ListOf(Value("float32"))),
        )

    def reduce(self, predictions, references):
        motions, texts = self.pair_embeddings(predictions, references)
        return {"embedding": motions, "text": texts}

    def _compute(self, embedding, text):
        return {"mm_dist": measures.matching_distance(embedding, text), **self.provenance()}
