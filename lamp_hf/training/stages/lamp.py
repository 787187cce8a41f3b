"""Stage 2: LaMP's four pretraining tasks, evaluated by retrieval among validation clips."""

from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedConfig, PreTrainedModel

from lamp_hf.checkpoints.embedded import locate_text_encoder, resolve_checkpoint
from lamp_hf.data.named_sets import NAMED_SETS
from lamp_hf.metrics.functional.retrieval import evaluate_lamp
from lamp_hf.modeling.configuration_lamp import LampConfig
from lamp_hf.modeling.feature_extraction_lamp import LampFeatureExtractor
from lamp_hf.modeling.initialization_lamp import init_from_bert, text_encoder_parameters
from lamp_hf.modeling.modeling_lamp_pretraining import LampForPreTraining
from lamp_hf.modeling.modeling_motion_vqvae import MotionVQVAEModel
from lamp_hf.modeling.motion_quantizers import first_codes
from lamp_hf.modeling.processing_lamp import LampProcessor
from lamp_hf.motion.text import swap_sides

from .base import Stage, shown_labels
from .captions import caption_source, first_captions
from .encoded import encode_clips, pad_codes
from .text_encoder import lamp_tokenizer

__all__ = ["LampStage", "pair_groups"]


def pair_groups(dataset: Dataset) -> list[int] | None:
    """Return a group number per clip, equal for clips with equal labels, or `None` for a data set without labels.

    A mirrored clip has the group of the original, unless its captions name a side that the label does not: a mirrored
    "bye" is a wave of the other hand.
    """
    names = []
    for content, style, mirrored, captions in zip(
        dataset["content"], dataset["style"], dataset["mirrored"], dataset["captions"], strict=True
    ):
        if not content:
            return None
        caption = captions[0]["text"]
        other_side = mirrored and swap_sides(caption) != caption and swap_sides(content) == content
        names.append((content, style, bool(other_side)))
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return [numbers[name] for name in names]


class LampStage(Stage):
    """Trains [`LampForPreTraining`].

    The motion tokenizer is frozen, so all clips are encoded once before training. `base` is the tokenizer of stage 1,
    or a LaMP whose training continues.
    """

    config_class = LampConfig
    sampling = ("balance", "group_by_length", "max_tokens")
    model: LampForPreTraining

    def build(self) -> None:
        recipe = self.recipe
        if recipe.base is None:
            raise ValueError("the stage lamp needs base: the folder of a trained motion-vqvae (or of a lamp)")
        base = resolve_checkpoint(recipe.base)
        config = PreTrainedConfig.get_config_dict(base)[0]
        if config["model_type"] == "motion_vqvae":
            self._start_from_tokenizer(base)
        else:
            self.model = LampForPreTraining.from_pretrained(base, **recipe.model)
            self.processor = LampProcessor.from_pretrained(base)
        torch.nn.Module.to(self.model, self.device)
        if recipe.text_learning_rate is not None:
            slow = text_encoder_parameters(self.model.lamp)
            self.learning_rates = dict.fromkeys(slow, recipe.text_learning_rate)
        tokenizer, extractor = self.model.lamp.motion_vqvae, self.processor.feature_extractor
        self.encoded = encode_clips(tokenizer, extractor, self.train_clips, all_starts=True)
        self.caption_of = caption_source(self.dataset["train"], recipe.data)
        named = NAMED_SETS.get(recipe.data["name"])
        # Other sets describe a recording that may show many things: its segments are not positives of each other.
        labeled = named is None or named.grammar is not None
        self.groups = pair_groups(self.dataset["train"]) if labeled else None
        self.max_tokens = int(recipe.sampling.get("max_tokens", 49))

    def _start_from_tokenizer(self, base: str) -> None:
        recipe = self.recipe
        if recipe.text_encoder is None:
            raise ValueError("a new lamp needs text_encoder: a pretrained BERT that initializes it")
        motion_vqvae = MotionVQVAEModel.from_pretrained(base)
        extractor = LampFeatureExtractor.from_pretrained(base)
        text_encoder = locate_text_encoder(recipe.text_encoder)
        values = {"max_text_length": 32, **recipe.model}
        tokenizer, token_ids = lamp_tokenizer(text_encoder, recipe.text_vocabulary, values["max_text_length"])
        config = LampConfig(
            motion_vqvae_config=motion_vqvae.config,
            vocab_size=len(tokenizer),
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=len(tokenizer) - 1,
            eos_token_id=tokenizer.sep_token_id,
            **values,
        )
        self.model = LampForPreTraining(config)
        self.model.lamp.motion_vqvae.load_state_dict(motion_vqvae.state_dict())
        init_from_bert(self.model.lamp, text_encoder, token_ids)
        self.processor = LampProcessor(extractor, tokenizer)

    def example(self, clip: int, rng: np.random.Generator) -> dict[str, Any]:
        latents, codes = self.encoded[clip].draw(rng, self.max_tokens)
        example = {"latents": latents, "codes": codes, "caption": self.caption_of(clip, rng)}
        return example if self.groups is None else {**example, "group": self.groups[clip]}

    def size(self, example: dict[str, Any]) -> int:
        """Return the number of words of the caption: text takes more of a step than the motion."""
        return len(example["caption"].split())

    def collate(self, examples: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        codes = pad_codes([example["codes"] for example in examples])
        latents = [torch.from_numpy(example["latents"]).float() for example in examples]
        text = self.processor(text=[example["caption"] for example in examples])
        batch = {
            "motion_embeds": pad_sequence(latents, batch_first=True),
            "motion_token_mask": first_codes(codes) >= 0,
            "motion_codes": codes,
            "input_ids": text["input_ids"],
            "attention_mask": text["attention_mask"],
        }
        if self.groups is not None:
            batch["pair_groups"] = torch.tensor([example["group"] for example in examples])
        return batch

    def evaluate(self, model: PreTrainedModel) -> dict[str, float]:
        assert isinstance(model, LampForPreTraining)
        validation = self.dataset["validation"]
        captions, labels = first_captions(validation), shown_labels(validation)
        return evaluate_lamp(model.lamp, self.processor, self.eval_clips, captions, labels)
