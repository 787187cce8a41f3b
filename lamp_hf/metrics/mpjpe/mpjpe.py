"""MPJPE of reconstructed motions, as a module of `evaluate`."""

import evaluate
import numpy as np
from datasets import Features, Value

from lamp_hf.metrics import inputs, streaming
from lamp_hf.metrics.functional import reconstruction

_DESCRIPTION = """
MPJPE: mean distance between the joints of two motions, in millimeters, averaged over the frames of all motions.
"""

_CITATION = """
@inproceedings{guo2024momask,
  title = {{MoMask}: Generative Masked Modeling of {3D} Human Motions},
  author = {Guo, Chuan and Mu, Yuxuan and Javed, Muhammad Gohar and Wang, Sen and Cheng, Li},
  booktitle = {CVPR},
  year = {2024}
}
"""

_KWARGS_DESCRIPTION = """

Args:
    predictions: Motions, each a `Motion`, a path, or an array: joints (T, J, 3) in meters or features (T, D), at the
        frame rate of their data set.
    references: The motions to compare with, each of the same length as its prediction.

Returns:
    `mpjpe_mm`, with the pelvises aligned in each frame; `global_mpjpe_mm`, without alignment, so the drift of the root
    counts; `num_frames`.

Raises:
    ValueError: Two motions differ in frames or skeleton.

Examples:

    >>> import numpy as np
    >>> metric = lamp_hf.metrics.load("mpjpe")
    >>> joints = np.random.default_rng(0).normal(size=(20, 22, 3))
    >>> scores = metric.compute(predictions=[joints + [0.0, 0.01, 0.0]], references=[joints])
    >>> {name: round(value, 3) for name, value in scores.items()}
    {'mpjpe_mm': 0.0, 'global_mpjpe_mm': 10.0, 'num_frames': 20}
"""


class Mpjpe(streaming.StreamingMetric):
    def _info(self):
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=Features(
                {"aligned_m": Value("float64"), "drifting_m": Value("float64"), "num_frames": Value("int64")}
            ),
        )

    def reduce(self, predictions, references):
        inputs.paired(predictions, references)
        rows = []
        for made, real in zip(predictions, references, strict=True):
            joints = [inputs.as_motion(item).joints for item in (real, made)]
            aligned, drifting = reconstruction.joint_errors(*joints)
            rows.append((aligned.mean(dtype=float), drifting.mean(dtype=float), len(aligned)))
        return dict(zip(self.features, zip(*rows, strict=True), strict=True))

    def _compute(self, aligned_m, drifting_m, num_frames):
        return {
            "mpjpe_mm": 1000 * float(np.average(aligned_m, weights=num_frames)),
            "global_mpjpe_mm": 1000 * float(np.average(drifting_m, weights=num_frames)),
            "num_frames": int(num_frames.sum()),
        }
