"""Feature extractor for a new data set, from the statistics of its training clips."""

from datasets import Dataset

from lamp_hf.data.schema import training_statistics
from lamp_hf.modeling.feature_extraction_lamp import LampFeatureExtractor
from lamp_hf.motion.skeleton import skeleton_for_feature_dim

__all__ = ["fitted_feature_extractor"]

_FEATURE_BIAS = 5


def fitted_feature_extractor(train: Dataset) -> LampFeatureExtractor:
    """Create a feature extractor that normalizes by the mean and the standard deviation of the training clips.

    The features of the root's motion and of the foot contacts are scaled up by five, as in the training of Guo et al.
    (2022), because an error in the heading rotates all following frames.
    """
    mean, std = training_statistics(train)
    std[:4] /= _FEATURE_BIAS
    std[-4:] /= _FEATURE_BIAS
    skeleton = skeleton_for_feature_dim(len(mean))
    return LampFeatureExtractor(
        feature_size=skeleton.feature_dim,
        fps=skeleton.default_fps,
        skeleton=skeleton.name,
        mean=mean.tolist(),
        std=std.tolist(),
    )
