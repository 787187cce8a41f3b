"""The built-in captioner: LaMP's own motion-to-text branch writes captions, with no second model (section 3.2)."""

import copy
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch.nn import functional as F
from transformers import DynamicCache, EncoderDecoderCache, GenerationConfig, GenerationMixin, PreTrainedConfig
from transformers.modeling_outputs import BaseModelOutput, Seq2SeqLMOutput
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.instructblip.modeling_instructblip import (
    InstructBlipQFormerLayer,
    InstructBlipQFormerMultiHeadAttention,
    eager_attention_forward,
)
from transformers.utils.generic import ModelOutput

from .configuration_lamp import LampConfig, LampTextToMotionConfig
from .modeling_lamp import (
    BESIDES_LAMP,
    HIDDEN,
    LampEmbeddingsMixin,
    LampModel,
    LampPreTrainedModel,
    own_lamp_config,
    padding_bias,
)

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

    _keys_to_ignore_on_load_unexpected = BESIDES_LAMP

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

    @torch.no_grad()
    def encode_motion(
        self, motion_values: torch.Tensor, motion_attention_mask: torch.Tensor | None = None
    ) -> BaseModelOutput:
        """What words see of motions.

        Args:
            motion_values, motion_attention_mask: As in [`LampModel`].

        Returns:
            `last_hidden_state`: queries as each layer finds them, `(B, layers, Q, H)`.
        """
        lamp = self.lamp
        latents, token_mask, _ = lamp.encode_motion(motion_values, motion_attention_mask)
        states = lamp.motion_projection(latents)
        bias = padding_bias(token_mask, states.dtype)
        hidden = lamp.qformer.embeddings(query_embeds=lamp.query_tokens.expand(len(states), -1, -1))
        found = [hidden]
        for layer in list(lamp.qformer.encoder.layer)[:-1]:  # nobody sees what the last one makes of the queries
            hidden = layer(hidden, None, states, encoder_attention_mask=bias, query_length=self.config.num_query_tokens)
            found.append(hidden)
        return BaseModelOutput(last_hidden_state=torch.stack(found, 1))

    def forward(
        self,
        motion_values: torch.Tensor | None = None,
        motion_attention_mask: torch.Tensor | None = None,
        decoder_input_ids: torch.Tensor | None = None,
        encoder_outputs: BaseModelOutput | None = None,
        past_key_values: EncoderDecoderCache | None = None,
        use_cache: bool | None = None,
        return_dict: bool | None = None,
        **kwargs: Any,
    ) -> Seq2SeqLMOutput | tuple:
        """Logits of the next words.

        Args:
            motion_values, motion_attention_mask: Motions, as in [`LampModel`].
            decoder_input_ids: Captions so far `(B, L)`, `[DEC]` first, padded on the right; with `past_key_values`
                the words that are not in it yet.
            encoder_outputs: What [`encode_motion`] returned, in place of `motion_values`.
            past_key_values: Keys and values of the queries and of earlier words.
            use_cache: Give them back for the next word.

        Returns:
            `logits` `(B, L, vocab_size)`, `past_key_values`, and `encoder_last_hidden_state` as `encode_motion`
            gives it.
        """
        if decoder_input_ids is None:
            raise ValueError("decoder_input_ids is missing: the caption so far, [DEC] first; generate() writes one")
        if encoder_outputs is None:
            if motion_values is None:
                raise ValueError("the motion is missing: give motion_values, or encoder_outputs of encode_motion")
            encoder_outputs = self.encode_motion(motion_values, motion_attention_mask)
        queries = cast(torch.Tensor, encoder_outputs.last_hidden_state)
        if use_cache and past_key_values is None:
            past_key_values = EncoderDecoderCache(DynamicCache(), DynamicCache())
        past = 0 if past_key_values is None else past_key_values.get_seq_length()
        length = decoder_input_ids.shape[1]
        if past + length > self.config.max_position_embeddings:
            raise ValueError(
                f"a caption of {past + length} tokens is longer than max_position_embeddings="
                f"{self.config.max_position_embeddings}: lower max_new_tokens"
            )

        hidden = self.lamp.qformer.embeddings(input_ids=decoder_input_ids, past_key_values_length=past)
        bias = word_bias(length, past, queries.shape[2], hidden)
        for index, layer in enumerate(self.lamp.qformer.encoder.layer):
            layer = cast(InstructBlipQFormerLayer, layer)
            read = self._attend(layer.attention.attention, index, hidden, queries[:, index], bias, past_key_values)
            hidden = layer.feed_forward_chunk(layer.attention.output(read, hidden))
        output = Seq2SeqLMOutput(
            logits=self.lamp.lm_head(hidden),
            past_key_values=past_key_values if use_cache else None,
            encoder_last_hidden_state=queries,
        )
        return output if return_dict is not False else output.to_tuple()

    def _attend(
        self,
        attention: InstructBlipQFormerMultiHeadAttention,
        index: int,
        hidden: torch.Tensor,
        queries: torch.Tensor,
        bias: torch.Tensor | None,
        cache: EncoderDecoderCache | None,
    ) -> torch.Tensor:
        """Words `(B, L, H)` read queries `(B, Q, H)`, earlier words and themselves; result `(B, L, H)`."""

        def heads(states: torch.Tensor) -> torch.Tensor:
            return states.unflatten(-1, (-1, attention.attention_head_size)).transpose(1, 2)

        keys, values = heads(attention.key(hidden)), heads(attention.value(hidden))
        if cache is None:
            of_queries = heads(attention.key(queries)), heads(attention.value(queries))
        else:
            keys, values = cache.self_attention_cache.update(keys, values, index)
            if cache.is_updated.get(index):
                kept: Any = cache.cross_attention_cache.layers[index]
                of_queries = kept.keys, kept.values
            else:
                of_queries = cache.cross_attention_cache.update(
                    heads(attention.key(queries)), heads(attention.value(queries)), index
                )
                cache.is_updated[index] = True
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(attention.config._attn_implementation, eager_attention_forward)
        output, _ = attend(
            attention,
            heads(attention.query(hidden)),
            torch.cat([of_queries[0], keys], 2),
            torch.cat([of_queries[1], values], 2),
            bias,
            dropout=attention.attention_dropout if self.training else 0.0,
            scaling=attention.scaling,
            is_causal=False,  # whatever is hidden is in the bias
        )
        return output.flatten(2)

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
            encoder_outputs: What [`encode_motion`] returned for them, in place of them.
            kwargs: Of transformers' `generate`: `num_beams`, `do_sample`, `temperature`, `top_k`, `top_p`,
                `num_return_sequences`, `max_new_tokens`, `output_scores`, …; `decoder_input_ids` `(B, L)` begin
                the captions.

        Returns:
            As transformers' `generate`: token ids `(B * num_return_sequences, L)`, `[DEC]` first.
        """
        if encoder_outputs is None:
            if motion_values is None:
                raise ValueError("the motion is missing: give motion_values, or encoder_outputs of encode_motion")
            encoder_outputs = self.encode_motion(motion_values, motion_attention_mask)
        # transformers repeats what is in it for the beams: it gets an object of its own.
        own = BaseModelOutput(last_hidden_state=encoder_outputs.last_hidden_state)
        return super().generate(encoder_outputs=own, **kwargs)  # type: ignore[misc]

    @torch.no_grad()
    def caption(
        self, motion_values: torch.Tensor, motion_attention_mask: torch.Tensor | None = None, **kwargs: Any
    ) -> MotionCaptions:
        """Captions with scores; arguments as for [`generate`]."""
        encoded = self.encode_motion(motion_values, motion_attention_mask)
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


def word_bias(length: int, past: int, num_queries: int, like: torch.Tensor) -> torch.Tensor | None:
    """Additive mask `(1, 1, L, Q + past + L)`: words see queries and words up to themselves; `None`: one sees all."""
    if length == 1:
        return None
    seen = num_queries + past
    hidden = torch.ones(length, seen + length, dtype=torch.bool, device=like.device).triu(seen + 1)
    return hidden[None, None].to(like.dtype) * HIDDEN
