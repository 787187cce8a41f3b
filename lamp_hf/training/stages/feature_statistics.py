"""Feature extractor of a data set that nothing was trained on before."""

from datasets import Dataset

from lamp_hf.data.schema import training_statistics
from lamp_hf.modeling.feature_extraction_lamp import LampFeatureExtractor
from lamp_hf.motion.skeleton import skeleton_for_feature_dim

__all__ = ["fitted_feature_extractor"]

_FEATURE_BIAS = 5


def fitted_feature_extractor(train: Dataset) -> LampFeatureExtractor:
    """Feature extractor that normalizes by the mean and the standard deviation of the training clips.

    The root's motion and the foot contacts count five times, as in the training of Guo et al. (2022): an error in the
    heading turns all that follows.
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
