"""The evaluator stage: learns which caption belongs to which motion, evaluated by R-Precision on validation clips."""

from typing import Any, cast

import numpy as np
import torch
from transformers import AutoConfig, AutoModel, PreTrainedModel

from lamp_hf.checkpoints.embedded import locate_text_encoder, resolve_checkpoint
from lamp_hf.metrics.functional.retrieval import evaluate_lamp
from lamp_hf.modeling.configuration_lamp import MotionTextEvaluatorConfig
from lamp_hf.modeling.modeling_lamp_language_model_captioning import load_lamp
from lamp_hf.modeling.modeling_motion_text_evaluator import MotionTextEvaluatorModel
from lamp_hf.modeling.processing_lamp import LampProcessor
from lamp_hf.motion.limits import MAX_CLIP_FRAMES

from .base import Stage, shown_labels
from .captions import caption_source, first_captions
from .draws import random_part
from .feature_statistics import fitted_feature_extractor
from .lamp import pair_groups
from .text_encoder import lamp_tokenizer

__all__ = ["EvaluatorStage"]

_MAX_TEXT_LENGTH = 64  # word pieces; the longest captions of the CMU database have 42


def new_config(processor: LampProcessor, values: dict[str, Any]) -> MotionTextEvaluatorConfig:
    """Return the configuration of an evaluator that reads the tokenizer's word pieces instead of GloVe vectors."""
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

    `base` is either a checkpoint with LaMP or an evaluator whose training continues. From LaMP, the new evaluator takes
    the tokenizer, the feature statistics and the initial word embeddings. It uses nothing else of LaMP, because an
    evaluator must not share features with the models that it evaluates. Without a base, tokenizer and word embeddings
    come from `text_encoder`, and the feature statistics from the training clips.

    Clips longer than `sampling.max_frames` are cropped: at random in training, to their beginning in evaluation.
    """

    config_class = MotionTextEvaluatorConfig
    sampling = ("balance", "max_frames")
    model: MotionTextEvaluatorModel

    def build(self) -> None:
        recipe = self.recipe
        if recipe.base is not None:
            self._start_from(resolve_checkpoint(recipe.base))
        elif recipe.text_encoder is not None:
            self._start_from_words(locate_text_encoder(recipe.text_encoder))
        else:
            raise ValueError(
                "the stage evaluator needs base: a checkpoint with LaMP (or an evaluator); or text_encoder: a "
                "pretrained BERT that provides the tokenizer and the word embeddings"
            )
        torch.nn.Module.to(self.model, self.device)
        self.max_frames = int(recipe.sampling.get("max_frames", MAX_CLIP_FRAMES))
        self.caption_of = caption_source(self.dataset["train"], recipe.data)
        self.groups = pair_groups(self.dataset["train"])

    def _start_from(self, base: str) -> None:
        """Load an evaluator, or start a new one with the tokenizer, statistics and word embeddings of a LaMP."""
        self.processor = LampProcessor.from_pretrained(base)
        if AutoConfig.from_pretrained(base, trust_remote_code=False).model_type == "motion_text_evaluator":
            self.model = MotionTextEvaluatorModel.from_pretrained(base, **self.recipe.model)
        else:
            self.model = MotionTextEvaluatorModel(new_config(self.processor, self.recipe.model))
            self.model.init_word_embeddings(cast(torch.nn.Embedding, load_lamp(base).get_input_embeddings()).weight)

    def _start_from_words(self, text_encoder: str) -> None:
        """Start a new evaluator with the tokenizer and the word embeddings of a pretrained text encoder."""
        tokenizer, token_ids = lamp_tokenizer(text_encoder, self.recipe.text_vocabulary, _MAX_TEXT_LENGTH)
        self.processor = LampProcessor(fitted_feature_extractor(self.dataset["train"]), tokenizer)
        self.model = MotionTextEvaluatorModel(new_config(self.processor, self.recipe.model))
        pretrained = AutoModel.from_pretrained(text_encoder, trust_remote_code=False).get_input_embeddings().weight
        known = pretrained[[token for token in token_ids if token is not None]]
        unknown = known.mean(0)
        self.model.init_word_embeddings(
            torch.stack([unknown if token is None else pretrained[token] for token in token_ids])
        )

    def example(self, clip: int, rng: np.random.Generator) -> dict[str, Any]:
        motion = self.train_clips[clip]
        # Crop at random, to a multiple of the frames per token: the evaluator reads a motion cut one frame later
        # differently, so it should see all cuts.
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
