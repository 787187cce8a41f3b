"""The evaluator learns which caption belongs to which motion, judged by R-Precision among validation clips."""

from typing import Any, cast

import numpy as np
import torch
from transformers import AutoConfig, PreTrainedModel

from lamp_hf.checkpoints.embedded import resolve_checkpoint
from lamp_hf.metrics.functional.retrieval import evaluate_lamp
from lamp_hf.modeling.configuration_lamp import MotionTextEvaluatorConfig
from lamp_hf.modeling.modeling_lamp_captioning import load_lamp
from lamp_hf.modeling.modeling_motion_text_evaluator import MotionTextEvaluatorModel
from lamp_hf.modeling.processing_lamp import LampProcessor

from .base import Stage, shown_labels
from .captions import caption_source, first_captions
from .draws import random_part
from .lamp import pair_groups

__all__ = ["EvaluatorStage"]


def new_config(processor: LampProcessor, values: dict[str, Any]) -> MotionTextEvaluatorConfig:
    """Of an evaluator that reads the word pieces of LaMP's tokenizer, in place of GloVe's vectors of words."""
    tokenizer = processor.tokenizer
    return MotionTextEvaluatorConfig(
        motion_dim=processor.feature_extractor.feature_size,
        text_input="embeddings",
        vocab_size=len(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        **values,
    )


class EvaluatorStage(Stage):
    """Trains [`MotionTextEvaluatorModel`].

    `base` is a checkpoint with LaMP, whose tokenizer and feature statistics it takes over, and whose word embeddings
    it starts from; or an evaluator to go on from. Nothing else of LaMP is used: a judge must not share the features
    of whom it judges. `sampling.max_frames` is the longest clip it reads, of longer ones a random part, and in
    evaluation the beginning.
    """

    config_class = MotionTextEvaluatorConfig
    sampling = ("balance", "max_frames")
    model: MotionTextEvaluatorModel

    def build(self) -> None:
        recipe = self.recipe
        if recipe.base is None:
            raise ValueError("the stage evaluator needs base: a checkpoint with LaMP (or an evaluator)")
        base = resolve_checkpoint(recipe.base)
        self.processor = LampProcessor.from_pretrained(base)
        if AutoConfig.from_pretrained(base, trust_remote_code=False).model_type == "motion_text_evaluator":
            self.model = MotionTextEvaluatorModel.from_pretrained(base, **recipe.model)
        else:
            self.model = MotionTextEvaluatorModel(new_config(self.processor, recipe.model))
            self.model.init_word_embeddings(cast(torch.nn.Embedding, load_lamp(base).get_input_embeddings()).weight)
        torch.nn.Module.to(self.model, self.device)
        self.max_frames = int(recipe.sampling.get("max_frames", 196))
        self.caption_of = caption_source(self.dataset["train"], recipe.data)
        self.groups = pair_groups(self.dataset["train"])

    def example(self, clip: int, rng: np.random.Generator) -> dict[str, Any]:
        motion = self.train_clips[clip]
        # As many frames as whole tokens hold, from anywhere: the same motion cut one frame later reads differently.
        size = self.model.config.frames_per_token
        length = max(min(len(motion) - int(rng.integers(size)), self.max_frames) // size, 1) * size
        example = {"motion": motion[random_part(len(motion), length, rng)], "caption": self.caption_of(clip, rng)}
        return example if self.groups is None else {**example, "group": self.groups[clip]}

    def collate(self, examples: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        captions, motions = ([example[name] for example in examples] for name in ("caption", "motion"))
        batch = dict(self.processor(text=captions, motion=motions))
        if self.groups is not None:
            batch["pair_groups"] = torch.tensor([example["group"] for example in examples])
        return batch

    def evaluate(self, model: PreTrainedModel) -> dict[str, float]:
        assert isinstance(model, MotionTextEvaluatorModel)
        validation = self.dataset["validation"]
        clips = [clip[: self.max_frames] for clip in self.eval_clips]
        return evaluate_lamp(model, self.processor, clips, first_captions(validation), shown_labels(validation))
