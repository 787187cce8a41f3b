"""The captioning stage: LoRA and a projection connect a language model to the queries of a frozen LaMP."""

from collections.abc import Iterator, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoConfig, AutoTokenizer, PreTrainedModel

from lamp_hf.checkpoints.embedded import portable_name, resolve_checkpoint
from lamp_hf.modeling.configuration_lamp import LampWithLanguageModelConfig
from lamp_hf.modeling.modeling_lamp import LampModel
from lamp_hf.modeling.modeling_lamp_language_model_captioning import (
    IGNORED_LABEL,
    LampWithLanguageModelForMotionCaptioning,
    encode_captions,
)
from lamp_hf.modeling.processing_lamp import LampProcessor
from lamp_hf.processes import progress_bar

from .base import Stage
from .captions import caption_source, first_captions, next_token_scores
from .encoded import encode_clips

__all__ = ["CaptioningStage", "query_clips"]


class CaptioningStage(Stage):
    """Trains [`LampWithLanguageModelForMotionCaptioning`].

    `base` is a checkpoint with LaMP, or a captioner whose training continues. `model.language_model_name` is the folder
    or Hub id of the language model. LaMP is frozen, so its query outputs are computed once before training. Checkpoints
    contain the trained weights and the names of the other models.
    """

    config_class = LampWithLanguageModelConfig
    sampling = ("balance", "max_tokens")
    model: LampWithLanguageModelForMotionCaptioning

    def build(self) -> None:
        recipe = self.recipe
        if recipe.base is None:
            raise ValueError("the stage captioning needs base: a checkpoint with LaMP (or a captioner)")
        base = resolve_checkpoint(recipe.base)
        if AutoConfig.from_pretrained(base, trust_remote_code=False).model_type == "lamp_captioning":
            self.model = LampWithLanguageModelForMotionCaptioning.from_pretrained(base)
            self.processor = LampProcessor.from_pretrained(base)
        else:
            values = dict(recipe.model)
            language_model = values.pop("language_model_name", None)
            if language_model is None:
                raise ValueError(
                    "a new captioner needs model.language_model_name: folder or Hub id of a causal language model"
                )
            self.model = LampWithLanguageModelForMotionCaptioning.from_parts(
                portable_name(base), language_model, **values
            )
            extractor = LampProcessor.from_pretrained(base).feature_extractor
            self.processor = LampProcessor(
                extractor, AutoTokenizer.from_pretrained(language_model, trust_remote_code=False)
            )
        torch.nn.Module.to(self.model, self.device)
        max_tokens = int(recipe.sampling.get("max_tokens", 49))
        extractor, lamp = self.processor.feature_extractor, cast(LampModel, self.model.lamp)
        self.queries = query_clips(lamp, extractor, self.train_clips, max_tokens=max_tokens, all_starts=True)
        self.eval_queries = query_clips(lamp, extractor, self.eval_clips, max_tokens=max_tokens, all_starts=False)
        self.caption_of = caption_source(self.dataset["train"], recipe.data)

    def example(self, clip: int, rng: np.random.Generator) -> dict[str, Any]:
        found = self.queries[clip]
        return {"query_output": found[int(rng.integers(len(found)))], "caption": self.caption_of(clip, rng)}

    def collate(self, examples: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        config = self.model.config
        captions = [example["caption"] for example in examples]
        input_ids, mask = encode_captions(self.processor.tokenizer, captions, config, config.max_text_length)
        return {
            "query_output": torch.from_numpy(np.stack([example["query_output"] for example in examples])).float(),
            "input_ids": input_ids,
            "attention_mask": mask,
            "labels": input_ids.masked_fill(mask == 0, IGNORED_LABEL),
        }

    @torch.no_grad()
    def evaluate(self, model: PreTrainedModel) -> dict[str, float]:
        """Compute the loss and the token accuracy on caption 0 of the validation clips; see [`next_token_scores`]."""
        captions = first_captions(self.dataset["validation"])

        def batches() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
            for start in range(0, len(captions), 64):
                rows = range(start, min(start + 64, len(captions)))
                examples = [{"query_output": self.eval_queries[row][0], "caption": captions[row]} for row in rows]
                batch = {name: tensor.to(model.device) for name, tensor in self.collate(examples).items()}
                labels = batch.pop("labels")
                # The output at the last query predicts the first token.
                yield model(**batch).logits[:, -labels.shape[1] - 1 : -1], labels

        return next_token_scores(batches())


@torch.no_grad()
def query_clips(
    lamp: LampModel,
    extractor: Any,
    clips: Sequence[np.ndarray],
    *,
    max_tokens: int,
    all_starts: bool,
    batch_size: int = 64,
) -> list[list[np.ndarray]]:
    """Compute LaMP's query outputs for clips of unnormalized features `(T, D)`.

    Args:
        max_tokens: Longer clips are split into equal windows of at most this length, as in the pipeline.
        all_starts: Encode every clip from each of its first four frames, as in [`encode_clips`].

    Returns:
        For each clip a list of query outputs `(Q, H)`, float16, one for each window from each first frame.
    """
    pieces: list[tuple[int, np.ndarray]] = []
    for number, clip in enumerate(encode_clips(lamp.motion_vqvae, extractor, clips, all_starts=all_starts)):
        for latents in clip.latents:
            windows = np.array_split(latents, -(-len(latents) // max_tokens))
            pieces += [(number, window) for window in windows]
    pieces.sort(key=lambda piece: len(piece[1]))  # windows of similar length share a batch
    found: list[list[np.ndarray]] = [[] for _ in clips]
    lamp.eval()
    for start in progress_bar(range(0, len(pieces), batch_size), "encoding clips with LaMP", "batch"):
        batch = pieces[start : start + batch_size]
        lengths = torch.tensor([len(latents) for _, latents in batch])
        padded = pad_sequence([torch.from_numpy(latents).float() for _, latents in batch], batch_first=True)
        mask = torch.arange(padded.shape[1]) < lengths[:, None]
        output = lamp.query(lamp.motion_to_states(padded.to(lamp.device, lamp.dtype)), mask.to(lamp.device))
        for (number, _), row in zip(batch, output.float().cpu().numpy().astype(np.float16), strict=True):
            found[number].append(row)
    return found
