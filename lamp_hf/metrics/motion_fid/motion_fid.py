"""FID of generated motions, as a module of `evaluate`."""

import evaluate
import numpy as np
from datasets import Value

from lamp_hf.metrics import streaming
from lamp_hf.metrics.functional import embeddings as measures

_DESCRIPTION = """
FID: squared Fréchet distance between normal distributions fitted to the embeddings of generated and of real motions. 0
is best. Report it together with the evaluator that computed the embeddings.
"""

_KWARGS_DESCRIPTION = """

Args:
    predictions: Embeddings (N, D) of generated motions.
    references: Embeddings (M, D) of real motions. M may differ from N, and they may be added in separate batches.
    evaluator, processor: Passed to `load`: a model that embeds motions, and its processor. Then predictions are
        motions (a `Motion`, a path, or an array) instead of embeddings, and so are references.

Returns:
    `fid`, `num_predictions`, `num_references`, and `evaluator`, the name of the evaluator if there is one.

Examples:

    >>> import numpy as np
    >>> fid = lamp_hf.metrics.load("motion_fid")
    >>> real = np.random.default_rng(0).normal(size=(64, 4))
    >>> fid.add_batch(references=real)
    >>> fid.add_batch(predictions=real + 1)
    >>> round(fid.compute()["fid"], 4)
    4.0
"""


class MotionFid(streaming.EmbeddingMetric):
    def _info(self):
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=streaming.GUO_2022,
            inputs_description=_KWARGS_DESCRIPTION,
            features=self.columns(generated=Value("bool")),
        )

    def reduce(self, predictions, references):
        sides = [(predictions, True), (references, False)]
        given = [(self.motion_embeddings(motions), side) for motions, side in sides if motions is not None]
        if not given:
            raise ValueError("nothing to add: pass predictions, references or both")
        return {
            "embedding": np.concatenate([rows for rows, _ in given]),
            "generated": [side for rows, side in given for _ in rows],
        }

    def _compute(self, embedding, generated):
        generated = np.asarray(generated, bool)
        made, real = embedding[generated], embedding[~generated]
        return {
            "fid": measures.frechet_distance(made, real),
            "num_predictions": len(made),
            "num_references": len(real),
            **self.provenance(),
        }
