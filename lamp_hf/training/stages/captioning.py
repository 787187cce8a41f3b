"""The captioning stage: LoRA and a projection connect a language model to the queries of LaMP."""

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
    load_lamp,
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
    or Hub id of the language model. By default, LaMP is frozen, so its query outputs are computed once before training,
    and checkpoints contain the trained weights and the names of the other models. With `model.train_lamp`, LaMP learns
    along with the captioner except for its motion tokenizer, as in the released code; only the tokenizer's latents are
    computed before training, and checkpoints contain this LaMP.
    """

    config_class = LampWithLanguageModelConfig
    model_settings = (*Stage.model_settings, "train_lamp")
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
            train_lamp = values.pop("train_lamp", False)
            if not isinstance(train_lamp, bool):
                raise ValueError(f"model.train_lamp={train_lamp!r} is not true or false")
            lamp = load_lamp(base) if train_lamp else portable_name(base)
            self.model = LampWithLanguageModelForMotionCaptioning.from_parts(lamp, language_model, **values)
            extractor = LampProcessor.from_pretrained(base).feature_extractor
            self.processor = LampProcessor(
                extractor, AutoTokenizer.from_pretrained(language_model, trust_remote_code=False)
            )
        torch.nn.Module.to(self.model, self.device)
        max_tokens = int(recipe.sampling.get("max_tokens", 49))
        extractor, lamp = self.processor.feature_extractor, cast(LampModel, self.model.lamp)
        # What a frozen part computes: query outputs of LaMP, or latents of its motion tokenizer.
        self.trains_lamp = self.model.config.lamp_name is None
        read = window_clips if self.trains_lamp else query_clips
        self.inputs = read(lamp, extractor, self.train_clips, max_tokens=max_tokens, all_starts=True)
        self.eval_inputs = read(lamp, extractor, self.eval_clips, max_tokens=max_tokens, all_starts=False)
        self.caption_of = caption_source(self.dataset["train"], recipe.data)

    def example(self, clip: int, rng: np.random.Generator) -> dict[str, Any]:
        found = self.inputs[clip]
        return {"motion": found[int(rng.integers(len(found)))], "caption": self.caption_of(clip, rng)}

    def collate(self, examples: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        config = self.model.config
        captions = [example["caption"] for example in examples]
        input_ids, mask = encode_captions(self.processor.tokenizer, captions, config, config.max_text_length)
        motions = [torch.from_numpy(example["motion"]).float() for example in examples]
        if self.trains_lamp:
            embeds, token_mask = _padded(motions)
            read = {"motion_embeds": embeds, "motion_token_mask": token_mask}
        else:
            read = {"query_output": torch.stack(motions)}
        return {
            **read,
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
                examples = [{"motion": self.eval_inputs[row][0], "caption": captions[row]} for row in rows]
                batch = {name: tensor.to(model.device) for name, tensor in self.collate(examples).items()}
                labels = batch.pop("labels")
                # The output at the last query predicts the first token.
                yield model(**batch).logits[:, -labels.shape[1] - 1 : -1], labels

        return next_token_scores(batches())


def window_clips(
    lamp: LampModel,
    extractor: Any,
    clips: Sequence[np.ndarray],
    *,
    max_tokens: int,
    all_starts: bool,
) -> list[list[np.ndarray]]:
    """Compute the latents of LaMP's motion tokenizer for clips of unnormalized features `(T, D)`.

    Args:
        max_tokens: Longer clips are split into equal windows of at most this length, as in the pipeline.
        all_starts: Encode every clip from each of its first four frames, as in [`encode_clips`].

    Returns:
        For each clip a list of latents `(n, code_dim)`, float16, one for each window from each first frame.
    """
    encoded = encode_clips(lamp.motion_vqvae, extractor, clips, all_starts=all_starts)
    return [
        [window for latents in clip.latents for window in np.array_split(latents, -(-len(latents) // max_tokens))]
        for clip in encoded
    ]


def _padded(latents: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return latents `(B, n, code_dim)`, padded with zeros, and their mask `(B, n)`."""
    padded = pad_sequence(list(latents), batch_first=True)
    lengths = torch.tensor([len(each) for each in latents])
    return padded, torch.arange(padded.shape[1]) < lengths[:, None]


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
    windows = window_clips(lamp, extractor, clips, max_tokens=max_tokens, all_starts=all_starts)
    pieces = [(number, window) for number, found in enumerate(windows) for window in found]
    pieces.sort(key=lambda piece: len(piece[1]))  # windows of similar length share a batch
    found: list[list[np.ndarray]] = [[] for _ in clips]
    lamp.eval()
    for start in progress_bar(range(0, len(pieces), batch_size), "encoding clips with LaMP", "batch"):
        batch = pieces[start : start + batch_size]
        padded, mask = _padded([torch.from_numpy(latents).float() for _, latents in batch])
        output = lamp.query(lamp.motion_to_states(padded.to(lamp.device, lamp.dtype)), mask.to(lamp.device))
        for (number, _), row in zip(batch, output.float().cpu().numpy().astype(np.float16), strict=True):
            found[number].append(row)
    return found
