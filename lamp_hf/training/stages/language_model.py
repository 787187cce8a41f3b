"""The language-model stage: a small causal language model of captions, for captioning without a pretrained one."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoTokenizer, OPTConfig, OPTForCausalLM, PreTrainedModel

from lamp_hf.checkpoints.embedded import resolve_checkpoint
from lamp_hf.modeling.modeling_lamp_language_model_captioning import IGNORED_LABEL, encode_captions

from .base import Stage
from .captions import caption_source, first_captions, next_token_scores

__all__ = ["LanguageModelStage"]


class LanguageModelStage(Stage):
    """Trains an `OPTForCausalLM` on captions alone, without motions.

    `base` is a checkpoint with LaMP, whose tokenizer the new model uses, or a language model whose training continues.
    """

    config_class = OPTConfig
    model: OPTForCausalLM

    def build(self) -> None:
        recipe = self.recipe
        if recipe.base is None:
            raise ValueError("the stage language-model needs base: a checkpoint with LaMP, for its tokenizer")
        base = resolve_checkpoint(recipe.base)
        self.processor = tokenizer = AutoTokenizer.from_pretrained(base, trust_remote_code=False)
        if AutoConfig.from_pretrained(base, trust_remote_code=False).model_type == "opt":
            self.model = OPTForCausalLM.from_pretrained(base)
        else:
            config = OPTConfig(
                vocab_size=len(tokenizer),
                bos_token_id=tokenizer.cls_token_id,
                eos_token_id=tokenizer.sep_token_id,
                pad_token_id=tokenizer.pad_token_id,
                **recipe.model,
            )
            self.model = OPTForCausalLM(config)
        self.max_length = tokenizer.model_max_length
        self.places = self.model.config.max_position_embeddings - self.max_length + 1
        if self.places < 1:
            raise ValueError(
                f"max_position_embeddings={self.model.config.max_position_embeddings} is too small for captions of "
                f"{self.max_length} tokens; set it to at least that plus LaMP's number of queries"
            )
        self.caption_of = caption_source(self.dataset["train"], recipe.data)

    def example(self, clip: int, rng: np.random.Generator) -> dict[str, Any]:
        # In a captioner, the caption follows a soft prompt, so the model must learn every position where it may start.
        return {"caption": self.caption_of(clip, rng), "place": int(rng.integers(self.places))}

    def collate(self, examples: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        captions = [example["caption"] for example in examples]
        input_ids, mask = encode_captions(self.processor, captions, self.model.config, self.max_length)
        places = torch.tensor([example["place"] for example in examples])
        labels = input_ids.masked_fill(mask == 0, IGNORED_LABEL)
        labels[:, 0] = IGNORED_LABEL  # no earlier token can predict the first one
        return {
            "input_ids": input_ids,
            "attention_mask": mask,
            "position_ids": places[:, None] + torch.arange(input_ids.shape[1]),
            "labels": labels,
        }

    @torch.no_grad()
    def evaluate(self, model: PreTrainedModel) -> dict[str, float]:
        """Compute the loss and the token accuracy on caption 0 of the validation clips; see [`next_token_scores`]."""
        captions = first_captions(self.dataset["validation"])

        def batches() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
            for start in range(0, len(captions), 64):
                part = captions[start : start + 64]
                examples = [{"caption": text, "place": (start + row) % self.places} for row, text in enumerate(part)]
                batch = {name: tensor.to(model.device) for name, tensor in self.collate(examples).items()}
                labels = batch.pop("labels")
                yield model(**batch).logits[:, :-1], labels[:, 1:]

        return next_token_scores(batches())
