"""Stage 3: the masked transformer and the length estimator, on top of a frozen LaMP."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F
from transformers import GenerationConfig, PreTrainedConfig, PreTrainedModel

from lamp_hf.checkpoints.embedded import resolve_checkpoint
from lamp_hf.modeling.configuration_generation_lamp import MaskedMotionGenerationConfig
from lamp_hf.modeling.configuration_lamp import LampTextToMotionConfig
from lamp_hf.modeling.masking_lamp import MaskingDraws, mask_codes
from lamp_hf.modeling.modeling_lamp import LampModel
from lamp_hf.modeling.modeling_lamp_text_to_motion import LampForTextToMotion
from lamp_hf.modeling.modeling_motion_vqvae import MotionVQVAEModel
from lamp_hf.modeling.motion_quantizers import first_codes
from lamp_hf.modeling.processing_lamp import LampProcessor
from lamp_hf.motion.motion import Motion
from lamp_hf.training.recipe import refuse_unknown_settings

from .base import Stage, shown_labels
from .captions import all_captions, caption_source, first_captions
from .draws import random_part
from .encoded import encode_clips, pad_codes
from .lora import ADAPTER_FOLDER, add_lora, save_lora
from .rehearsal import RehearsedMotion, choose_example_texts
from .text_conditions import TextFeatures, load_text_encoder

__all__ = ["TextToMotionStage", "update_generation"]

REHEARSED = "rehearsed"  # batch key: which rows are rehearsed motions
TEXT_INPUTS = ("input_ids", "attention_mask", "text_summary")
SAMPLE_TOKENS = 20  # length of samples from models without a length estimator


def update_generation(config: GenerationConfig, values: dict[str, Any]) -> None:
    """Update a model's generation configuration with a recipe's generation section.

    Raises:
        ValueError: The section has an unknown key.
    """
    refuse_unknown_settings("generation", values, MaskedMotionGenerationConfig.fields)
    config.update(**values)


class TextToMotionStage(Stage):
    """Trains [`LampForTextToMotion`]; `base` is the LaMP of stage 2, or a text-to-motion model to train further.

    The finished checkpoint contains all of LaMP, including its heads, and so works with all three pipelines.
    """

    config_class = LampTextToMotionConfig
    sampling = ("balance", "group_by_length")
    model: LampForTextToMotion

    def build(self) -> None:
        recipe = self.recipe
        if recipe.base is None:
            raise ValueError("the stage text-to-motion needs base: the folder of a trained lamp")
        base = resolve_checkpoint(recipe.base)
        config = PreTrainedConfig.get_config_dict(base)[0]
        self.processor = LampProcessor.from_pretrained(base)
        if config["model_type"] == "lamp":
            self._start_from_lamp(base)
        else:
            self._continue_from(base, config.get("text_condition", "lamp"))
        torch.nn.Module.to(self.model, self.device)
        self.text_features = TextFeatures(self.model) if self.model.config.freezes_text_features else None
        self.rehearse(self.model, self.processor)
        self.teacher = copy.deepcopy(self.model).eval() if self.rehearsed else None
        known_tokens = self._quantized_tokens()
        # The rehearsed motions were generated with the base's own settings; apply the recipe's only now.
        update_generation(self.model.generation_config, recipe.generation)
        if recipe.tokenizer:
            self._replace_tokenizer(MotionVQVAEModel.from_pretrained(recipe.tokenizer))
        self.reused_codes = (self._quantized_tokens() != known_tokens).any(-1)
        tokenizer, extractor = self.model.lamp.motion_vqvae, self.processor.feature_extractor
        self.encoded = encode_clips(tokenizer, extractor, self.train_clips, all_starts=True)
        self.eval_encoded = encode_clips(tokenizer, extractor, self.eval_clips, all_starts=False)
        self.caption_of = caption_source(self.dataset["train"], recipe.data)
        self._choose_example_texts()
        if self.text_features is not None:
            texts = {text for split in self.dataset.values() for row in all_captions(split) for text in row}
            encoded = self.processor(text=sorted(texts), return_tensors=None, padding=False)
            self.text_features.compute([tuple(ids) for ids in encoded["input_ids"]])
        self.lora = add_lora(self.model, **recipe.lora) if recipe.lora else None

    def _start_from_lamp(self, base: str) -> None:
        """Start a new model on a LaMP, with its text condition or that of another text encoder."""
        recipe = self.recipe
        encoder, values = None, dict(recipe.model)
        if (condition := values.get("text_condition", "lamp")) != "lamp":
            encoder, tokenizer, found = load_text_encoder(condition, recipe.text_encoder)
            values = {**found, **values}
            self.processor = LampProcessor(self.processor.feature_extractor, tokenizer)
        elif recipe.text_encoder is not None:
            raise ValueError(
                f"text_encoder={recipe.text_encoder!r} is not used with LaMP's condition; set model.text_condition to "
                "clip or sentence-embedding, or remove text_encoder"
            )
        self.model = LampForTextToMotion.from_lamp(LampModel.from_pretrained(base), encoder, **values)

    def _continue_from(self, base: str, condition: str) -> None:
        """Continue the training of a text-to-motion model."""
        if (wanted := self.recipe.model.get("text_condition", condition)) != condition:
            raise ValueError(
                f"{base} was trained with text_condition={condition!r}, not {wanted!r}; to change it, start from a LaMP"
            )
        self.model = LampForTextToMotion.from_pretrained(base, **self.recipe.model)

    @torch.no_grad()
    def _quantized_tokens(self) -> torch.Tensor:
        """Return the vector of each code of the first codebook, `(num_codes, code_dim)`."""
        codes = torch.arange(self.model.config.num_codes, device=self.device)
        return self.model.lamp.motion_vqvae.quantizer.lookup_first(codes)

    def _replace_tokenizer(self, tokenizer: MotionVQVAEModel) -> None:
        """Replace the base's tokenizer with one that has the same encoder.

        Raises:
            ValueError: The encoders differ.
        """
        own, other = self.model.lamp.motion_vqvae.encoder.state_dict(), tokenizer.encoder.state_dict()
        for name, tensor in own.items():
            if name not in other or not torch.equal(tensor.cpu(), other[name]):
                raise ValueError(
                    f"{self.recipe.tokenizer} has a different encoder from the motion tokenizer of {self.recipe.base} "
                    f"({name} differs), and LaMP cannot read its output: train the tokenizer from that base with "
                    "model.freeze_encoder=true"
                )
        self.model.lamp.motion_vqvae.load_state_dict(tokenizer.state_dict())

    def _choose_example_texts(self) -> None:
        """Save some of the training texts in the processor."""
        train = self.dataset["train"]
        self.processor.example_texts = choose_example_texts(train, shown_labels(train), self.processor.example_texts)

    def example(self, clip: int, rng: np.random.Generator) -> dict[str, Any]:
        _, codes = self.encoded[clip].draw(rng, self.model.config.max_motion_tokens)
        return {"codes": codes, "caption": self.caption_of(clip, rng)}

    def size(self, example: dict[str, Any]) -> int:
        """Return the number of tokens of the motion."""
        return len(example["codes"])

    def rehearsed_example(self, motion: RehearsedMotion, rng: np.random.Generator) -> dict[str, Any]:
        return {
            "codes": motion.codes[random_part(len(motion.codes), self.model.config.max_motion_tokens, rng)],
            "caption": motion.text,
            REHEARSED: True,
        }

    def _inputs(self, examples: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        text = self.processor(text=[example["caption"] for example in examples])
        return {
            "input_ids": text["input_ids"],
            "attention_mask": text["attention_mask"],
            "motion_codes": pad_codes([example["codes"] for example in examples]),
        }

    def collate(self, examples: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        batch = self._inputs(examples)
        if self.teacher is not None:
            batch[REHEARSED] = torch.tensor([example.get(REHEARSED, False) for example in examples])
        return batch

    @torch.no_grad()
    def complete(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Mask the codes and add target probabilities; those of rehearsed motions come from the base.

        This is knowledge distillation, as in Learning without Forgetting (Li and Hoiem, 2016): the base's probabilities
        say more than the codes that it happened to draw. Codes with a different meaning in a new tokenizer get
        probability 0.
        """
        batch = self._with_text_features(batch)
        if self.teacher is None:
            return batch
        rows, num_codes = batch.pop(REHEARSED), self.model.config.num_codes
        codes = first_codes(batch["motion_codes"])
        draws = MaskingDraws.draw(codes, num_codes)
        shown, _ = mask_codes(codes, draws, num_codes)
        targets = F.one_hot(codes.clamp(min=0), num_codes).float()
        if rows.any():
            text = {name: batch[name][rows] for name in TEXT_INPUTS if name in batch}
            condition = self.teacher.get_text_condition(**text)
            logits = self.teacher.predict_tokens(shown[rows], condition, codes[rows] >= 0).float()
            targets[rows] = logits.masked_fill(self.reused_codes, -torch.inf).softmax(-1)
        return {**batch, "draws": draws, "token_targets": targets}

    def _with_text_features(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Return a copy of a batch, with features in place of the texts if these never change."""
        batch = dict(batch)
        if self.text_features is not None:
            batch["text_summary"] = self.text_features(batch.pop("input_ids"), batch.pop("attention_mask"))
        return batch

    def evaluate(self, model: PreTrainedModel) -> dict[str, float]:
        """Compute the losses on the validation clips with caption 0 and the same masks at every evaluation.

        If there are rehearsed motions, also compute the losses on these, as `known_…`, and `joint_token_loss`, the mean
        of both token losses.
        """
        longest = self.model.config.max_motion_tokens
        captions = first_captions(self.dataset["validation"])
        clips = [
            {"codes": clip.codes[0][:longest], "caption": caption}
            for clip, caption in zip(self.eval_encoded, captions, strict=True)
        ]
        losses = self._losses(model, clips)
        if not self.eval_rehearsed:
            return losses
        known = self._losses(model, [{"codes": m.codes[:longest], "caption": m.text} for m in self.eval_rehearsed])
        losses |= {f"known_{name}": value for name, value in known.items()}
        return losses | {"joint_token_loss": (losses["token_loss"] + losses["known_token_loss"]) / 2}

    @torch.no_grad()
    def _losses(self, model: PreTrainedModel, examples: list[dict[str, Any]]) -> dict[str, float]:
        generator = torch.Generator(device=model.device).manual_seed(0)
        sums: dict[str, float] = {}
        for start in range(0, len(examples), 64):
            part = examples[start : start + 64]
            batch = {name: tensor.to(model.device) for name, tensor in self._inputs(part).items()}
            output = model(**self._with_text_features(batch), generator=generator)
            for name in ("loss", "token_loss", "residual_loss", "length_loss", "token_accuracy"):
                if output.get(name) is not None:  # not all models have a length estimator or several codebooks
                    sums[name] = sums.get(name, 0.0) + float(output[name]) * len(part)
        return {name: value / len(examples) for name, value in sums.items()}

    def check_samples(self, wanted: list[str]) -> None:
        """Accept any sentences."""

    @torch.no_grad()
    def samples(self, model: PreTrainedModel) -> Iterator[Motion]:
        """Generate a motion for each sentence, with the same seed at every evaluation."""
        assert isinstance(model, LampForTextToMotion)
        texts = self.recipe.samples
        tokens = None if model.length_estimator is not None else SAMPLE_TOKENS
        inputs = self.processor(text=texts).to(model.device)
        output: Any = model.generate(**inputs, seed=self.recipe.seed, num_tokens=tokens)
        yield from self.processor.post_process_motion(output.motion_values, output.motion_attention_mask, text=texts)

    def finish(self, output_dir: Path) -> None:
        """Save a trained adapter in the run's folder and merge it into the model."""
        if self.lora is not None:
            if self.arguments.process_index == 0:
                save_lora(self.model, self.lora, output_dir / ADAPTER_FOLDER, base=str(self.recipe.base))
            self.lora.merge_and_unload()
