"""Captioning with LaMP's own text branch, without another language model (LaMP, section 3.2)."""

import copy
from collections.abc import Sequence
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

# Before 5.24, this argument and output of models in transformers is named past_key_values.
CACHE_NAME = "cache" if "cache" in Seq2SeqLMOutput.__dataclass_fields__ else "past_key_values"

__all__ = ["LampDecoderForMotionCaptioning", "MotionCaptions", "mean_log_probs"]


@dataclass
class MotionCaptions(ModelOutput):
    """Captions with scores; the r captions of a motion are adjacent.

    Args:
        sequences: Token ids, `(B * r, L)`, padded on the right.
        scores: Geometric mean of the probabilities of the tokens of a caption, including its end, `(B * r,)`. They are
            the probabilities of the model, without temperature, beams or filters of sampling.
    """

    sequences: torch.Tensor | None = None
    scores: torch.Tensor | None = None


def mean_log_probs(logits: torch.Tensor, token_ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return the mean log probabilities `(N,)` of tokens `(N, L)`, given logits `(N, L, V)`, on a mask `(N, L)`."""
    losses = F.cross_entropy(logits.float().transpose(1, 2), token_ids, reduction="none")
    return -(losses * mask).sum(-1) / mask.sum(-1).clamp(min=1)


def through_end(token_ids: torch.Tensor, end_token_id: int) -> torch.Tensor:
    """Return a boolean mask `(N, L)`, true on tokens `(N, L)` up to and including the first end token."""
    ends = (token_ids == end_token_id).long()
    return ends.cumsum(-1) - ends == 0


class LampDecoderForMotionCaptioning(LampEmbeddingsMixin, LampPreTrainedModel, GenerationMixin):
    """Writes captions of motions with LaMP's text branch and `generate` of transformers.

    Words see LaMP's queries and the words before them; queries do not see words. The queries therefore read a motion
    once for all beams and captions. In each layer, their keys and values are computed once and cached with those of
    earlier words, so a step computes only the new word.

    Loads from checkpoints of LaMP, of its pretraining and of text-to-motion, which contain LaMP. [`LampForPreTraining`]
    trains this branch. Below, Q is the number of queries and H the hidden size.
    """

    def __init__(self, config: LampConfig | LampTextToMotionConfig):
        config = copy.deepcopy(own_lamp_config(config))
        config.is_encoder_decoder = True  # for `generate`: the queries are the encoder, the text branch is the decoder
        super().__init__(config)
        self.lamp = LampModel(config)
        self.post_init()
        self.lamp._freeze()
        self.generation_config = caption_generation_config(config)

    def adjust_generation_fn(self, generation_config: Any, *args: Any, **kwargs: Any) -> None:
        """Load `generation_config.json` unless it is for text-to-motion; called by `from_pretrained`."""
        if generation_config is not None or self.config.architectures == [type(self).__name__]:
            super().adjust_generation_fn(generation_config, *args, **kwargs)  # type: ignore[misc]

    def encode_motion(
        self,
        motion_values: torch.Tensor,
        motion_attention_mask: torch.Tensor | None = None,
        output_codes: bool = True,
    ) -> LampMotionEncoding:
        """Encode motions with the frozen encoder; see [`LampModel.encode_motion`]."""
        return self.lamp.encode_motion(motion_values, motion_attention_mask, output_codes)

    def read_motion(
        self, motion_values: torch.Tensor, motion_attention_mask: torch.Tensor | None = None
    ) -> BaseModelOutput:
        """Encode motions with the queries; the result is `encoder_outputs` of [`forward`].

        Args:
            motion_values, motion_attention_mask: Motions; see [`LampModel`].

        Returns:
            An output whose `last_hidden_state` has the queries at the input of each layer, `(B, Q, layers, H)`.
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
        """Compute the logits of the next words.

        Args:
            motion_values, motion_attention_mask: Motions; see [`LampModel`].
            decoder_input_ids: Captions so far, `(B, L)`, `[DEC]` first, padded on the right; with `cache`, the words
                that are not in it yet.
            decoder_attention_mask: Ignored, because words do not see later words and so do not see padding.
            encoder_outputs: Output of [`read_motion`], instead of `motion_values`.
            cache: Keys and values of the queries and of earlier words.
            past_key_values: Name of `cache` in transformers before 5.24.
            use_cache: Whether to return the cache.
            labels: Captions, `(B, L)`, `[DEC]` or `[CLS]` first, -100 on padding, for the loss. `decoder_input_ids`
                defaults to them.
            output_hidden_states, output_attentions: Whether to return them. Attention weights of a word are for the
                queries first and then for words.

        Returns:
            An output with `logits` `(B, L, vocab_size)`, `cache`, `encoder_last_hidden_state` from `read_motion`,
            `loss` with `labels`, and `decoder_hidden_states` and `decoder_attentions` if requested.

        Raises:
            ValueError: The motion or the caption is missing, or the caption is too long.

        Example:

        ```python
        >>> import torch
        >>> from lamp_hf import LampDecoderForMotionCaptioning, LampProcessor

        >>> processor = LampProcessor.from_pretrained("lamp-small")
        >>> model = LampDecoderForMotionCaptioning.from_pretrained("lamp-small")
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
            raise ValueError("decoder_input_ids is missing: give the caption so far, [DEC] first, or call generate()")
        if encoder_outputs is None:
            if motion_values is None:
                raise ValueError("the motion is missing: give motion_values, or encoder_outputs from read_motion")
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
                f"{self.config.max_position_embeddings}; lower max_new_tokens"
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
            motion_values, motion_attention_mask: Motions; see [`LampModel`].
            encoder_outputs: Output of [`read_motion`], instead of `motion_values`.
            kwargs: Arguments of transformers' `generate`: `num_beams`, `do_sample`, `temperature`, `top_k`, `top_p`,
                `num_return_sequences`, `max_new_tokens`, `output_scores`, …; `decoder_input_ids` `(B, L)` are
                the beginning of the captions.

        Returns:
            The output of transformers' `generate`: token ids `(B * num_return_sequences, L)`, `[DEC]` first.

        Raises:
            ValueError: The motion is missing.
        """
        if encoder_outputs is None:
            if motion_values is None:
                raise ValueError("the motion is missing: give motion_values, or encoder_outputs from read_motion")
            encoder_outputs = self.read_motion(motion_values, motion_attention_mask)
        # transformers repeats its tensors for the beams in place, so it gets its own object.
        own = BaseModelOutput(last_hidden_state=encoder_outputs.last_hidden_state)
        return super().generate(encoder_outputs=own, **kwargs)  # type: ignore[misc]

    @torch.no_grad()
    def caption(
        self,
        motion_values: torch.Tensor,
        motion_attention_mask: torch.Tensor | None = None,
        prompt_ids: Sequence[int] = (),
        **kwargs: Any,
    ) -> MotionCaptions:
        """Write captions with scores.

        Args:
            motion_values, motion_attention_mask: Motions; see [`LampModel`].
            prompt_ids: Tokens with which every caption begins, without `[DEC]`. They are part of the result, but not of
                its score.
            kwargs: See [`generate`].
        """
        encoded = self.read_motion(motion_values, motion_attention_mask)
        if len(prompt_ids):
            begin = torch.tensor([[cast(int, self.config.bos_token_id), *prompt_ids]], device=self.device)
            kwargs["decoder_input_ids"] = begin.expand(len(motion_values), -1)
            if not kwargs.keys() & {"max_new_tokens", "max_length", "generation_config"}:
                kwargs["max_new_tokens"] = max(self.config.max_text_length - begin.shape[1], 1)
        sequences = self.generate(encoder_outputs=encoded, **{**kwargs, "return_dict_in_generate": False})
        queries = cast(torch.Tensor, encoded.last_hidden_state)
        queries = queries.repeat_interleave(len(sequences) // len(queries), 0)
        logits = self(
            decoder_input_ids=sequences[:, :-1], encoder_outputs=BaseModelOutput(last_hidden_state=queries)
        ).logits[:, len(prompt_ids) :]
        written = sequences[:, 1 + len(prompt_ids) :]
        mask = through_end(written, cast(int, self.config.eos_token_id))
        return MotionCaptions(sequences=sequences, scores=mean_log_probs(logits, written, mask).exp())


def caption_generation_config(config: PreTrainedConfig) -> GenerationConfig:
    """Return the default generation settings for captions."""
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
    """Return a boolean mask `(1, L, Q + places)`: words see queries and words up to themselves.

    Args:
        length: Number of new words, L.
        past: Number of words before them.
        num_queries: Number of queries, Q.
        places: Number of words with keys: `past + length`, or the size of a static cache.
        device: Device of the mask.

    Returns:
        The mask, or `None` for a single word that sees everything.
    """
    if length == 1 and isinstance(past, int) and places == past + 1:
        return None
    last_seen = torch.arange(length, device=device)[:, None] + past + num_queries
    return (torch.arange(num_queries + places, device=device) <= last_seen)[None]
