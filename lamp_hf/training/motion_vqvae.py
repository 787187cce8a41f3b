"""Stage 1: the motion tokenizer, judged by how far reconstructed joints are from the real ones."""

from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from lamp_hf.data.schema import training_statistics
from lamp_hf.evaluation.reconstruction import evaluate_reconstruction
from lamp_hf.modeling.configuration_lamp import MotionVQVAEConfig
from lamp_hf.modeling.feature_extraction_lamp import LampFeatureExtractor
from lamp_hf.modeling.modeling_motion_vqvae import MotionVQVAEModel
from lamp_hf.motion.skeleton import skeleton_for_feature_dim

from .stage import Stage

__all__ = ["MotionVQVAEStage"]

_FEATURE_BIAS = 5


class MotionVQVAEStage(Stage):
    """Trains [`MotionVQVAEModel`] on random windows of `sampling.window` frames; shorter clips are padded."""

    def build(self) -> None:
        if self.recipe.base:
            self.model = MotionVQVAEModel.from_pretrained(self.recipe.base, **self.recipe.model)
            self.processor = LampFeatureExtractor.from_pretrained(self.recipe.base)
        else:
            mean, std = training_statistics(self.dataset["train"])
            # The root's motion and the foot contacts count five times, as in the authors' training: an error in
            # the heading turns all that follows.
            std[:4] /= _FEATURE_BIAS
            std[-4:] /= _FEATURE_BIAS
            skeleton = skeleton_for_feature_dim(len(mean))
            self.processor = LampFeatureExtractor(
                feature_size=skeleton.feature_dim,
                fps=skeleton.default_fps,
                skeleton=skeleton.name,
                mean=mean.tolist(),
                std=std.tolist(),
            )
            self.model = MotionVQVAEModel(MotionVQVAEConfig(motion_dim=len(mean), **self.recipe.model))
        self.window = int(self.recipe.sampling.get("window", 64))

    def example(self, clip: int, rng: np.random.Generator) -> dict[str, Any]:
        features = self.train_clips[clip]
        start = int(rng.integers(0, max(len(features) - self.window, 0) + 1))
        return {"motion": features[start : start + self.window]}

    def collate(self, examples: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        return dict(self.processor([example["motion"] for example in examples]))

    def evaluate(self, model: PreTrainedModel) -> dict[str, float]:
        assert isinstance(model, MotionVQVAEModel)
        return evaluate_reconstruction(model, self.processor, self.eval_clips)
