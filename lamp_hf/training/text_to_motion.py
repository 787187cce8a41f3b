"""Stage 3: the masked transformer and the length estimator, over a frozen LaMP."""

from typing import Any

import numpy as np
import torch
from transformers import PreTrainedConfig, PreTrainedModel

from lamp_hf.modeling.modeling_lamp import LampModel
from lamp_hf.modeling.modeling_lamp_text_to_motion import LampForTextToMotion
from lamp_hf.modeling.processing_lamp import LampProcessor

from .captions import caption_source, first_captions
from .encoded import encode_clips, pad_codes
from .stage import Stage

__all__ = ["TextToMotionStage"]

# tests/pipelines/test_embedded_checkpoint.py holds on which side of it rewordings and strange sentences lie.
_FAMILIARITY_THRESHOLD = 0.8


class TextToMotionStage(Stage):
    """Trains [`LampForTextToMotion`]; `base` is the LaMP of stage 2, or a text-to-motion model to go on from.

    The finished checkpoint holds LaMP whole, its heads included, and so serves all three pipelines.
    """

    model: LampForTextToMotion

    def build(self) -> None:
        recipe = self.recipe
        if recipe.base is None:
            raise ValueError("the stage text-to-motion needs base: the folder of a trained lamp")
        config = PreTrainedConfig.get_config_dict(recipe.base)[0]
        if config["model_type"] == "lamp":
            self.model = LampForTextToMotion.from_lamp(LampModel.from_pretrained(recipe.base), **recipe.model)
        else:
            self.model = LampForTextToMotion.from_pretrained(recipe.base, **recipe.model)
        if strangers := self.model.generation_config.update(**recipe.generation):
            raise ValueError(f"the recipe's generation section has unknown keys {', '.join(strangers)}")
        self.processor = LampProcessor.from_pretrained(recipe.base)
        torch.nn.Module.to(self.model, self.device)
        tokenizer, extractor = self.model.lamp.motion_vqvae, self.processor.feature_extractor
        self.encoded = encode_clips(tokenizer, extractor, self.train_clips, all_starts=True)
        self.eval_encoded = encode_clips(tokenizer, extractor, self.eval_clips, all_starts=False)
        self.caption_of = caption_source(self.dataset["train"], recipe.data)
        self._keep_reference_tokens()

    def _keep_reference_tokens(self) -> None:
        """Let the model know the words of its training texts."""
        tokenizer = self.processor.tokenizer
        texts = [caption["text"] for row in self.dataset["train"]["captions"] for caption in row]
        used = {token for ids in tokenizer(texts)["input_ids"] for token in ids} - set(tokenizer.all_special_ids)
        self.model.set_reference_tokens(torch.tensor(sorted(used)), threshold=_FAMILIARITY_THRESHOLD)

    def example(self, clip: int, rng: np.random.Generator) -> dict[str, Any]:
        _, codes = self.encoded[clip].draw(rng, self.model.config.max_motion_tokens)
        return {"codes": codes, "caption": self.caption_of(clip, rng)}

    def collate(self, examples: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        text = self.processor(text=[example["caption"] for example in examples])
        return {
            "input_ids": text["input_ids"],
            "attention_mask": text["attention_mask"],
            "motion_codes": pad_codes([example["codes"] for example in examples]),
        }

    @torch.no_grad()
    def evaluate(self, model: PreTrainedModel) -> dict[str, float]:
        """Losses on the validation clips with caption 0 and the same masks every time."""
        captions = first_captions(self.dataset["validation"])
        generator = torch.Generator(device=model.device).manual_seed(0)
        sums: dict[str, float] = {}
        for start in range(0, len(captions), 64):
            examples = [
                {"codes": clip.codes[0][: self.model.config.max_motion_tokens], "caption": caption}
                for clip, caption in zip(self.eval_encoded[start:][:64], captions[start:][:64], strict=True)
            ]
            batch = {name: tensor.to(model.device) for name, tensor in self.collate(examples).items()}
            output = model(**batch, generator=generator)
            for name in ("loss", "token_loss", "length_loss", "token_accuracy"):
                if output.get(name) is not None:  # a converted model has no length estimator
                    sums[name] = sums.get(name, 0.0) + float(output[name]) * len(examples)
        return {name: value / len(captions) for name, value in sums.items()}
