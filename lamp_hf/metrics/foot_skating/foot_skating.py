"""Foot skating of motions, as a module of `evaluate`."""

import evaluate
from datasets import Features, Value

from lamp_hf.metrics import inputs, streaming

_DESCRIPTION = """
Foot skating: of the frames with a foot on the floor, the share in which it slides faster than 0.5 m/s, averaged over
motions. A foot joint is on the floor if it is within 5 cm of its own lowest height. Real motions slide a little too:
compare with them.
"""

_CITATION = """
@inproceedings{karunratanakul2023gmd,
  title = {Guided Motion Diffusion for Controllable Human Motion Synthesis},
  author = {Karunratanakul, Korrawe and Preechakul, Konpat and Suwajanakorn, Supasorn and Tang, Siyu},
  booktitle = {ICCV},
  year = {2023}
}
"""

_KWARGS_DESCRIPTION = """

Args:
    predictions: Motions, each a `Motion`, a path, or an array: joints (T, J, 3) in meters or features (T, D), at the
        frame rate of their data set.

Returns:
    `foot_skating`, 0 to 1, and `num_motions`.

Examples:

    >>> import numpy as np
    >>> metric = lamp_hf.metrics.load("foot_skating")
    >>> standing = np.tile(np.random.default_rng(0).normal(size=(1, 22, 3)), (20, 1, 1))
    >>> sliding = standing + np.linspace(0, 2, 20)[:, None, None] * [1.0, 0.0, 0.0]
    >>> metric.compute(predictions=[standing, sliding])
    {'foot_skating': 0.5, 'num_motions': 2}
"""


class FootSkating(streaming.StreamingMetric):
    def _info(self):
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=Features({"foot_skating": Value("float64")}),
        )

    def reduce(self, predictions, references):
        return {"foot_skating": [inputs.as_motion(item).foot_skating() for item in predictions]}

    def _compute(self, foot_skating):
        return {"foot_skating": float(foot_skating.mean()), "num_motions": len(foot_skating)}
