"""The built-in captioner: LaMP's own motion-to-text branch writes captions, with no second model (section 3.2)."""

import copy
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch.nn import functional as F
from transformers import DynamicCache, EncoderDecoderCache, GenerationConfig, GenerationMixin, PreTrainedConfig
from transformers.modeling_outputs import BaseModelOutput, Seq2SeqLMOutput
from transformers.utils import ModelOutput, can_return_tuple

from .configuration_lamp import LampConfig, LampTextToMotionConfig
from .modeling_lamp import (
    LampEmbeddingsMixin,
    LampModel,
    LampMotionEncoding,
    LampPreTrainedModel,
    own_lamp_config,
)
from .modeling_lamp_qformer import requested_outputs

# Before 5.24, transformers names it past_key_values, in what a model is given and in what it returns.
CACHE_NAME = "cache" if "cache" in Seq2SeqLMOutput.__dataclass_fields__ else "past_key_values"

__all__ = ["LampForMotionToText", "MotionCaptions", "mean_log_probs"]


@dataclass
class MotionCaptions(ModelOutput):
    """Captions and how sure their writer is of them; r captions of one motion follow each other.

    Args:
        sequences: Token ids `(B * r, L)`, padded on the right.
        scores: Geometric mean of the probabilities of a caption's tokens, its end included, `(B * r,)`. They are
            those of the model itself, whatever the temperature, the beams or the filters that found the caption.
    """

    sequences: torch.Tensor | None = None
    scores: torch.Tensor | None = None


def mean_log_probs(logits: torch.Tensor, token_ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean log probability `(N,)` of tokens `(N, L)` under logits `(N, L, V)`, where `mask` `(N, L)` is true."""
    losses = F.cross_entropy(logits.float().transpose(1, 2), token_ids, reduction="none")
    return -(losses * mask).sum(-1) / mask.sum(-1).clamp(min=1)


def through_end(token_ids: torch.Tensor, end_token_id: int) -> torch.Tensor:
    """Boolean `(N, L)`: tokens `(N, L)` up to and with the first end."""
    ends = (token_ids == end_token_id).long()
    return ends.cumsum(-1) - ends == 0


class LampForMotionToText(LampEmbeddingsMixin, LampPreTrainedModel, GenerationMixin):
    """Writes captions of motions with LaMP's text branch, by `generate` of transformers.

    Words see LaMP's queries and the words before them; queries see no words. Queries therefore read a motion once,
    whatever the number of beams and of captions, and at each layer their keys and values are computed once and
    kept beside those of the words written so far: a step computes one new word.

    Loads from a checkpoint of LaMP, of its pretraining and of text-to-motion, which holds all of LaMP. Its
    pretraining is that of [`LampForPreTraining`]. Below, Q is the number of queries, H the hidden size.
    """

    def __init__(self, config: LampConfig | LampTextToMotionConfig):
        config = copy.deepcopy(own_lamp_config(config))
        config.is_encoder_decoder = True  # for `generate`: LaMP that reads a motion, and its branch that writes
        super().__init__(config)
        self.lamp = LampModel(config)
        self.post_init()
        self.lamp._freeze()
        self.generation_config = caption_generation_config(config)

    def adjust_generation_fn(self, generation_config: Any, *args: Any, **kwargs: Any) -> None:
        """Called by `from_pretrained`: leaves `generation_config.json` alone where it is for making motions."""
        if generation_config is not None or self.config.architectures == [type(self).__name__]:
            super().adjust_generation_fn(generation_config, *args, **kwargs)  # type: ignore[misc]

    def encode_motion(
        self,
        motion_values: torch.Tensor,
        motion_attention_mask: torch.Tensor | None = None,
        output_codes: bool = True,
    ) -> LampMotionEncoding:
        """What the frozen encoder makes of motions; see [`LampModel.encode_motion`]."""
        return self.lamp.encode_motion(motion_values, motion_attention_mask, output_codes)

    def read_motion(
        self, motion_values: torch.Tensor, motion_attention_mask: torch.Tensor | None = None
    ) -> BaseModelOutput:
        """Let the queries read motions: what words see of them, the `encoder_outputs` of [`forward`].

        Args:
            motion_values, motion_attention_mask: As in [`LampModel`].

        Returns:
            `last_hidden_state`: queries as each layer finds them, `(B, Q, layers, H)`.
        """
        lamp = self.lamp
        encoded = lamp.encode_motion(motion_values, motion_attention_mask, output_codes=False)
        states = lamp.motion_to_states(encoded.motion_embeds)
        queries = lamp.query_tokens.expand(len(states), -1, -1)
        found = lamp.qformer.found_queries(queries, states, encoded.motion_token_mask)
        return BaseModelOutput(last_hidden_state=found)

    @can_return_tuple
    def forward(
        self,
        motion_values: torch.Tensor | None = None,
        motion_attention_mask: torch.Tensor | None = None,
        decoder_input_ids: torch.Tensor | None = None,
        decoder_attention_mask: torch.Tensor | None = None,
        encoder_outputs: BaseModelOutput | None = None,
        cache: EncoderDecoderCache | None = None,
        past_key_values: EncoderDecoderCache | None = None,
        use_cache: bool | None = None,
        labels: torch.Tensor | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
    ) -> Seq2SeqLMOutput:
        """Logits of the next words.

        Args:
            motion_values, motion_attention_mask: Motions, as in [`LampModel`].
            decoder_input_ids: Captions so far `(B, L)`, `[DEC]` first, padded on the right; with `cache` the words that
                are not in it yet.
            decoder_attention_mask: Not needed: a word sees no later one, and so no padding.
            encoder_outputs: What [`read_motion`] returned, in place of `motion_values`.
            cache: Keys and values of the queries and of earlier words.
            past_key_values: The same, as transformers before 5.24 names it.
            use_cache: Give them back for the next word.
            labels: Captions `(B, L)`, `[DEC]` or `[CLS]` first, -100 on padding, for the loss of pretraining. Without
                `decoder_input_ids`, these are made of them.
            output_hidden_states, output_attentions: As in [`LampQFormerModel`]. A word's attention goes to the queries
                and then to words.

        Returns:
            `logits` `(B, L, vocab_size)`, `cache`, `encoder_last_hidden_state` as `read_motion` gives it,
            with `labels` `loss`, and on request `decoder_hidden_states` and `decoder_attentions`.

        Example:

        ```python
        >>> import torch
        >>> from lamp_hf import LampForMotionToText, LampProcessor

        >>> processor = LampProcessor.from_pretrained("lamp-small")
        >>> model = LampForMotionToText.from_pretrained("lamp-small")
        >>> motion = torch.randn(1, 40, 263)
        >>> output = model(motion, labels=processor(text="a person walks")["input_ids"])
        >>> output.loss.ndim, output.logits.shape[:2]
        (0, torch.Size([1, 5]))
        >>> captions = processor.batch_decode(model.generate(motion, num_beams=2), skip_special_tokens=True)
        >>> len(captions)
        1

        ```
        """
        if decoder_input_ids is None and labels is not None:
            decoder_input_ids = self.lamp.caption_ids(labels.masked_fill(labels < 0, self.config.pad_token_id or 0))
        if decoder_input_ids is None:
            raise ValueError("decoder_input_ids is missing: the caption so far, [DEC] first; generate() writes one")
        if encoder_outputs is None:
            if motion_values is None:
                raise ValueError("the motion is missing: give motion_values, or encoder_outputs of read_motion")
            encoder_outputs = self.read_motion(motion_values, motion_attention_mask)
        queries = cast(torch.Tensor, encoder_outputs.last_hidden_state)
        cache = past_key_values if cache is None else cache
        if use_cache and cache is None:
            cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        words = None if cache is None else cache.self_attention_cache
        past = 0 if words is None else words.get_seq_length()
        length = decoder_input_ids.shape[1]
        if not torch.compiler.is_compiling() and past + length > self.config.max_position_embeddings:
            raise ValueError(
                f"a caption of {int(past) + length} tokens is longer than max_position_embeddings="
                f"{self.config.max_position_embeddings}: lower max_new_tokens"
            )
        places = length if words is None else words.get_mask_sizes(length, 0)[0]
        decoded = self.lamp.qformer(
            input_ids=decoder_input_ids,
            attention_mask=word_mask(length, past, queries.shape[1], places, queries.device),
            prefix_states=queries,
            cache=cache,
            return_dict=True,
            **requested_outputs(output_hidden_states, output_attentions),
        )
        logits = self.lamp.lm_head(decoded.last_hidden_state)
        loss = None
        if labels is not None:
            loss = F.cross_entropy(
                logits[:, :-1].float().flatten(0, 1),
                labels[:, 1:].flatten(),
                label_smoothing=self.config.label_smoothing,
            )
        kept: dict[str, Any] = {CACHE_NAME: cache if use_cache else None}
        return Seq2SeqLMOutput(
            loss=loss,
            logits=logits,
            **kept,
            decoder_hidden_states=decoded.hidden_states,
            decoder_attentions=decoded.attentions,
            encoder_last_hidden_state=queries,
        )

    @torch.no_grad()
    def generate(  # type: ignore[override]
        self,
        motion_values: torch.Tensor | None = None,
        motion_attention_mask: torch.Tensor | None = None,
        encoder_outputs: BaseModelOutput | None = None,
        **kwargs: Any,
    ) -> Any:
        """Write captions.

        Args:
            motion_values, motion_attention_mask: Motions, as in [`LampModel`].
            encoder_outputs: What [`read_motion`] returned for them, in place of them.
            kwargs: Of transformers' `generate`: `num_beams`, `do_sample`, `temperature`, `top_k`, `top_p`,
                `num_return_sequences`, `max_new_tokens`, `output_scores`, …; `decoder_input_ids` `(B, L)` begin
                the captions.

        Returns:
            As transformers' `generate`: token ids `(B * num_return_sequences, L)`, `[DEC]` first.
        """
        if encoder_outputs is None:
            if motion_values is None:
                raise ValueError("the motion is missing: give motion_values, or encoder_outputs of read_motion")
            encoder_outputs = self.read_motion(motion_values, motion_attention_mask)
        # transformers repeats what is in it for the beams: it gets an object of its own.
        own = BaseModelOutput(last_hidden_state=encoder_outputs.last_hidden_state)
        return super().generate(encoder_outputs=own, **kwargs)  # type: ignore[misc]

    @torch.no_grad()
    def caption(
        self, motion_values: torch.Tensor, motion_attention_mask: torch.Tensor | None = None, **kwargs: Any
    ) -> MotionCaptions:
        """Captions with scores; arguments as for [`generate`]."""
        encoded = self.read_motion(motion_values, motion_attention_mask)
        sequences = self.generate(encoder_outputs=encoded, **{**kwargs, "return_dict_in_generate": False})
        queries = cast(torch.Tensor, encoded.last_hidden_state)
        queries = queries.repeat_interleave(len(sequences) // len(queries), 0)
        logits = self(
            decoder_input_ids=sequences[:, :-1], encoder_outputs=BaseModelOutput(last_hidden_state=queries)
        ).logits
        written = sequences[:, 1:]
        mask = through_end(written, cast(int, self.config.eos_token_id))
        return MotionCaptions(sequences=sequences, scores=mean_log_probs(logits, written, mask).exp())


def caption_generation_config(config: PreTrainedConfig) -> GenerationConfig:
    """How captions are written unless a call says otherwise."""
    return GenerationConfig(
        decoder_start_token_id=config.bos_token_id,
        bos_token_id=config.bos_token_id,
        eos_token_id=config.eos_token_id,
        pad_token_id=config.pad_token_id,
        max_new_tokens=config.max_text_length - 1,
    )


def word_mask(
    length: int, past: int | torch.Tensor, num_queries: int, places: int, device: torch.device
) -> torch.Tensor | None:
    """Boolean mask `(1, L, Q + places)`: words see queries and words up to themselves; `None`: one sees all.

    Args:
        length: New words, L.
        past: Words before them.
        num_queries: Q.
        places: Words that there is room for: `past + length`, or all that a static cache holds.
        device: Where it is needed.
    """
    if length == 1 and isinstance(past, int) and places == past + 1:
        return None
    last_seen = torch.arange(length, device=device)[:, None] + past + num_queries
    return (torch.arange(num_queries + places, device=device) <= last_seen)[None]
