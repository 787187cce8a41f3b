"""Feature extractor: turns motions into normalized, padded tensors, and normalized features back."""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from transformers import BatchFeature, FeatureExtractionMixin

from lamp_hf.checkpoints.files import EXTRACTOR_FILES, checked_name, explained
from lamp_hf.motion.motion import Motion
from lamp_hf.motion.skeleton import SKELETONS

from .base_lamp import PublishedProcessor

__all__ = ["LampFeatureExtractor"]

FILE_KEYS = ("feature_extractor_type", "processor_class", "auto_map")
ExtractorInput = Motion | np.ndarray | Sequence[Motion | np.ndarray]


def _numbers(name: str, values: Sequence[float]) -> list[float]:
    try:
        return [float(value) for value in values]
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} is not a list of numbers ({error}); give a list of numbers") from error


class LampFeatureExtractor(PublishedProcessor, FeatureExtractionMixin):
    """Normalizes motion features with the statistics of the training set and pads them into a batch.

    The statistics are saved with the extractor.

    Args:
        feature_size: Numbers per frame, 263 (HumanML3D) or 251 (KIT-ML).
        fps: Frame rate of the training data, frames per second.
        skeleton: Name of the skeleton, `"humanml3d_22"` or `"kit_21"`.
        mean, std: Statistics of the training split, `feature_size` numbers each; default to 0 and 1.
    """

    model_input_names = ["motion_values", "motion_attention_mask"]

    def __init__(
        self,
        feature_size: int = 263,
        fps: float = 20.0,
        skeleton: str = "humanml3d_22",
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        **kwargs: Any,
    ):
        # transformers passes other entries of the file, such as the names of classes.
        if unknown := sorted(name for name in kwargs if name not in FILE_KEYS):
            raise TypeError(f"{type(self).__name__}() got unexpected keyword arguments: {', '.join(unknown)}")
        super().__init__(**kwargs)
        if skeleton not in SKELETONS:
            raise ValueError(f"skeleton={skeleton!r} is unknown; choose one of {', '.join(sorted(SKELETONS))}")
        if SKELETONS[skeleton].feature_dim != feature_size:
            raise ValueError(
                f"feature_size={feature_size} does not fit skeleton={skeleton!r}, whose frames have "
                f"{SKELETONS[skeleton].feature_dim} numbers"
            )
        self.feature_size = feature_size
        self.fps = fps
        self.skeleton = skeleton
        self.mean = [0.0] * feature_size if mean is None else _numbers("mean", mean)
        self.std = [1.0] * feature_size if std is None else _numbers("std", std)
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != feature_size:
                raise ValueError(f"{name} has {len(values)} numbers, expected feature_size={feature_size}")
        if min(self.std) <= 0:
            raise ValueError("std has a value that is not positive; set std of constant features to 1")

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        """Load a feature extractor as in transformers, also by the name of an embedded checkpoint.

        Raises:
            CheckpointError: The file of the feature extractor is missing or damaged.
        """
        name = checked_name(pretrained_model_name_or_path, kwargs)
        with explained(name, (EXTRACTOR_FILES,), kwargs, blamed=EXTRACTOR_FILES):
            return super().from_pretrained(name, **kwargs)

    def normalize(self, features: np.ndarray) -> np.ndarray:
        """Normalize features `(…, feature_size)` to mean 0 and standard deviation 1; returns float32."""
        return np.asarray((features - np.asarray(self.mean)) / np.asarray(self.std), dtype=np.float32)

    def denormalize(self, motion_values: np.ndarray) -> np.ndarray:
        """Denormalize features `(…, feature_size)`; the inverse of [`normalize`]."""
        return np.asarray(motion_values * np.asarray(self.std) + np.asarray(self.mean), dtype=np.float32)

    def _features(self, motion: Motion | np.ndarray, place: str) -> np.ndarray:
        if isinstance(motion, Motion):
            if motion.skeleton.name != self.skeleton:
                raise ValueError(
                    f"{place} has the skeleton {motion.skeleton.name!r} ({motion.skeleton.num_joints} joints); "
                    f"this model was trained on {self.skeleton!r} ({SKELETONS[self.skeleton].num_joints} joints)"
                )
            if abs(motion.fps - self.fps) > 1e-3:
                raise ValueError(
                    f"{place} has {motion.fps:g} fps, but this model was trained on {self.fps:g} fps; "
                    f"call motion.resample({self.fps:g}) first"
                )
            return motion.features
        features = np.asarray(motion, dtype=np.float32)
        if features.ndim != 2 or features.shape[1] != self.feature_size:
            raise ValueError(
                f"{place} has the shape {features.shape}; expected (frames, {self.feature_size}) unnormalized "
                "features; wrap joint positions in lamp_hf.motion.Motion(joints=…, fps=…)"
            )
        return features

    def __call__(self, motion: ExtractorInput, return_tensors: str | None = "pt") -> BatchFeature:
        """Normalize motions and pad them.

        Args:
            motion: A `Motion`, an array `(T, feature_size)` of unnormalized features, or a list of them.
            return_tensors: `"pt"` or `"np"`.

        Returns:
            A batch with `motion_values` `(B, T_max, feature_size)`, zero on padding, and `motion_attention_mask`
            `(B, T_max)`.

        Raises:
            ValueError: The frame rate, the skeleton or the shape is wrong, values are not finite, or a clip is empty.
        """
        single = isinstance(motion, Motion) or (isinstance(motion, np.ndarray) and motion.ndim == 2)
        motions = cast(list[Motion | np.ndarray], [motion] if single else list(cast(Sequence, motion)))
        if len(motions) == 0:
            raise ValueError("no motion was given; give at least one")
        clips = []
        for index, item in enumerate(motions):
            features = self._features(item, f"motion {index}")
            if not len(features):
                raise ValueError(f"motion {index} has no frames; leave it out")
            if not np.isfinite(features).all():
                raise ValueError(
                    f"motion {index} has values that are not finite (NaN or infinity); repair or leave it out"
                )
            clips.append(self.normalize(features))
        longest = max(map(len, clips))
        values = np.zeros((len(clips), longest, self.feature_size), dtype=np.float32)
        mask = np.zeros((len(clips), longest), dtype=np.int64)
        for row, clip in enumerate(clips):
            values[row, : len(clip)] = clip
            mask[row, : len(clip)] = 1
        return BatchFeature({"motion_values": values, "motion_attention_mask": mask}, tensor_type=return_tensors)
