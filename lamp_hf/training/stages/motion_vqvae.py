"""Stage 1: the motion tokenizer, evaluated by the distance between reconstructed and real joints (MPJPE)."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, PreTrainedModel

from lamp_hf.checkpoints.embedded import resolve_checkpoint
from lamp_hf.metrics.functional.reconstruction import evaluate_reconstruction
from lamp_hf.modeling.configuration_lamp import MotionVQVAEConfig
from lamp_hf.modeling.feature_extraction_lamp import LampFeatureExtractor
from lamp_hf.modeling.modeling_lamp_language_model_captioning import load_lamp
from lamp_hf.modeling.modeling_lamp_text_to_motion import LampForTextToMotion
from lamp_hf.modeling.modeling_motion_vqvae import MotionVQVAEModel
from lamp_hf.modeling.processing_lamp import LampProcessor
from lamp_hf.motion.motion import Motion
from lamp_hf.motion.skeleton import SKELETONS

from .base import Stage
from .draws import random_part
from .feature_statistics import fitted_feature_extractor
from .rehearsal import RehearsedMotion

__all__ = ["MotionVQVAEStage"]


class MotionVQVAEStage(Stage):
    """Trains [`MotionVQVAEModel`] on random windows of `sampling.window` frames; shorter clips are padded."""

    config_class = MotionVQVAEConfig
    sampling = ("balance", "window")

    def build(self) -> None:
        if self.recipe.base:
            base = resolve_checkpoint(self.recipe.base)
            self.processor = LampFeatureExtractor.from_pretrained(base)
            if AutoConfig.from_pretrained(base, trust_remote_code=False).model_type == "motion_vqvae":
                self.model = MotionVQVAEModel.from_pretrained(base, **self.recipe.model)
            else:
                self._start_from_part_of(base)
        else:
            self.processor = fitted_feature_extractor(self.dataset["train"])
            config = MotionVQVAEConfig(motion_dim=self.processor.feature_size, **self.recipe.model)
            self.model = MotionVQVAEModel(config)
        self.window = int(self.recipe.sampling.get("window", 64))

    def _start_from_part_of(self, base: str) -> None:
        """Start from the tokenizer inside a larger model. A text-to-motion model also generates motions to rehearse."""
        whole = LampForTextToMotion.from_pretrained(base) if self.recipe.rehearsal.get("num_motions") else None
        own = (load_lamp(base) if whole is None else whole.lamp).motion_vqvae
        self.model = MotionVQVAEModel(MotionVQVAEConfig(**{**own.config.to_dict(), **self.recipe.model}))
        self.model.load_state_dict(own.state_dict())
        if whole is not None:
            torch.nn.Module.to(whole, self.device)
            self.rehearse(whole, LampProcessor.from_pretrained(base))
            # Codes that the rehearsed motions use keep their meaning; the other codes are free for the new motions.
            known = np.concatenate([motion.codes for motion in (*self.rehearsed, *self.eval_rehearsed)])
            self.model.quantizer.settle(torch.from_numpy(np.unique(known, axis=0)))

    def example(self, clip: int, rng: np.random.Generator) -> dict[str, Any]:
        return self._window_of(self.train_clips[clip], rng)

    def rehearsed_example(self, motion: RehearsedMotion, rng: np.random.Generator) -> dict[str, Any]:
        return self._window_of(motion.features, rng)

    def _window_of(self, features: np.ndarray, rng: np.random.Generator) -> dict[str, Any]:
        return {"motion": features[random_part(len(features), self.window, rng)]}

    def collate(self, examples: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        return dict(self.processor([example["motion"] for example in examples]))

    def complete(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Add the features' standard deviations if the foot loss needs them."""
        if not self.model.config.foot_loss_weight:
            return batch
        std = torch.tensor(self.processor.std, device=batch["motion_values"].device)
        return {**batch, "motion_std": std}

    def evaluate(self, model: PreTrainedModel) -> dict[str, float]:
        """Compute [`evaluate_reconstruction`] on the validation clips.

        If there are rehearsed motions, also compute it on these, as `known_…`, and `joint_mpjpe_mm`, the mean of both
        MPJPEs.
        """
        assert isinstance(model, MotionVQVAEModel)
        scores = evaluate_reconstruction(model, self.processor, self.eval_clips)
        if self.eval_rehearsed:
            known = evaluate_reconstruction(model, self.processor, [motion.features for motion in self.eval_rehearsed])
            scores |= {f"known_{name}": value for name, value in known.items()}
            scores["joint_mpjpe_mm"] = (scores["mpjpe_mm"] + scores["known_mpjpe_mm"]) / 2
        return scores

    def check_samples(self, wanted: list[str]) -> None:
        """Check that the samples are ids of validation clips."""
        known = set(self.dataset["validation"]["id"])
        if unknown := [clip for clip in wanted if clip not in known]:
            raise ValueError(
                f"samples contains {unknown[0]!r}, which is not a validation clip; use ids such as {min(known)!r}"
            )

    @torch.no_grad()
    def samples(self, model: PreTrainedModel) -> Iterator[Motion]:
        """Yield each clip, followed by its reconstruction."""
        assert isinstance(model, MotionVQVAEModel)
        ids = self.dataset["validation"]["id"]
        skeleton = SKELETONS[self.processor.skeleton]
        for clip in self.recipe.samples:
            size = model.config.frames_per_token
            features = self.eval_clips[ids.index(clip)]
            features = features[: len(features) // size * size]
            codes = model.encode(**self.processor([features]).to(model.device)).codes
            rebuilt = model.decode(codes)[0].float().cpu().numpy()
            for values, text in ((features, clip), (self.processor.denormalize(rebuilt), f"{clip}, reconstructed")):
                yield Motion(features=values, fps=self.processor.fps, skeleton=skeleton, text=text)
