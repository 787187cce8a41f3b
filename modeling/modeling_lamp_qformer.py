"""The Q-Former of LaMP: learned queries that read motion, and a BERT that shares its self-attention with them.

After the Q-Former of BLIP-2 (Li et al., 2023). Parameters are named as in BERT and in the Q-Formers of transformers.
"""

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn
from torch.nn import functional as F
from transformers import EncoderDecoderCache
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.utils import ModelOutput
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from .base_lamp import LampBaseModel
from .configuration_lamp import LampConfig

__all__ = ["LampPreTrainedModel", "LampQFormerModel", "LampQFormerModelOutput"]

# Added to the attention scores of masked positions. Its exponential is zero in every floating-point type, and, unlike
# the smallest float32, it does not become infinite when autocast converts it to a shorter type.
HIDDEN = -3e4


@dataclass
class LampQFormerModelOutput(ModelOutput):
    """Result of [`LampQFormerModel`]: queries first, then words.

    Args:
        last_hidden_state: Output of the last layer, `(B, S, H)`.
        hidden_states: Embeddings and output of each layer, `(B, S, H)` each, if requested.
        attentions: Self-attention weights of each layer, `(B, heads, S, S)`, if requested.
        cross_attentions: Cross-attention weights of each layer that has them, `(B, heads, Q, n)`, if requested.
    """

    last_hidden_state: torch.Tensor
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None
    cross_attentions: tuple[torch.Tensor, ...] | None = None


def eager_attention_forward(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute attention without fused kernels; `query`, `key` and `value` are `(B, heads, S, head_size)`."""
    scores = query @ key.transpose(-1, -2) * scaling
    if attention_mask is not None:
        scores = scores + attention_mask
    weights = F.dropout(scores.softmax(-1, dtype=torch.float32).to(query.dtype), dropout, module.training)
    return (weights @ value).transpose(1, 2).contiguous(), weights


def requested_outputs(output_hidden_states: bool | None, output_attentions: bool | None) -> dict[str, Any]:
    """Return arguments for [`LampQFormerModel`]; with `None`, the configuration decides."""
    given = {"output_hidden_states": output_hidden_states, "output_attentions": output_attentions}
    return {name: value for name, value in given.items() if value is not None}


def attention_bias(
    mask: torch.Tensor | None, hidden_states: torch.Tensor, num_rows: int, implementation: str | None
) -> torch.Tensor | None:
    """Convert a mask to the form that an attention implementation needs.

    Args:
        mask: `(B, K)`, 1 on visible positions, or `(B or 1, S, K)`, 1 where the position of the row sees the position
            of the column; `None` if everything is visible.
        hidden_states: States `(B, S, H)`, for their type.
        num_rows: Number of query positions.
        implementation: Attention implementation.

    Returns:
        The padding mask `(B, K)` for flash attention; otherwise, the bias of the scores, `(B or 1, 1, 1 or S, K)`.

    Raises:
        ValueError: Flash attention does not support the mask.
    """
    if mask is None:
        return None
    mask = mask.bool()
    if "flash" in str(implementation):
        if mask.ndim == 2 and mask.shape[1] == num_rows:
            return mask
        if bool(mask.all()):
            return None
        raise ValueError(
            f"{implementation} cannot mask {'padding of motions' if mask.ndim == 2 else 'single words'}; "
            "use motions without padding, or call model.set_attn_implementation('sdpa')"
        )
    visible = mask[:, None, None] if mask.ndim == 2 else mask[:, None]
    return (~visible).to(hidden_states.dtype) * HIDDEN


class LampPreTrainedModel(LampBaseModel):
    """Base class of LaMP models.

    Attention is computed by torch (`attn_implementation="sdpa"`, the default) or step by step (`"eager"`, the only one
    that returns attention weights). Flash attention works if at most the padding of texts is masked, for example for
    features of texts and of motions without padding; otherwise, there is an error. Flex attention is not supported,
    because sequences of a hundred positions gain nothing from it.
    """

    config: LampConfig
    config_class = LampConfig
    base_model_prefix = "lamp"
    main_input_name = "motion_values"
    input_modalities = ["motion", "text"]
    supports_gradient_checkpointing = True
    accepts_loss_kwargs = False
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True
    _no_split_modules = ["LampQFormerLayer", "MotionVQVAEModel"]
    # Other tensors of checkpoints with a LaMP: text to motion, and the training state of the tokenizer.
    _keys_to_ignore_on_load_unexpected = [
        r"^(text_to_condition|words_to_condition|token_embeddings)\.",
        r"^(masked_transformer|residual_transformer|length_estimator)\.",
        r"^reference_token_ids$",
        r"\.quantizer\.code_count$",
    ]


class LampQFormerEmbeddings(nn.Module):
    """Embeddings of queries and of words with their positions, normalized together."""

    def __init__(self, config: LampConfig):
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size, padding_idx=config.pad_token_id)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        query_embeds: torch.Tensor | None = None,
        past_length: int | torch.Tensor = 0,
    ) -> torch.Tensor:
        """Embed queries and words.

        Args:
            input_ids: Words, `(B, L)`.
            query_embeds: Queries, `(B, Q, H)`, which come first.
            past_length: Number of words before `input_ids`.

        Returns:
            Embeddings `(B, Q + L, H)`.
        """
        parts = [] if query_embeds is None else [query_embeds]
        if input_ids is not None:
            positions = torch.arange(input_ids.shape[1], device=input_ids.device) + past_length
            parts.append(self.word_embeddings(input_ids) + self.position_embeddings(positions))
        if not parts:
            raise ValueError("the inputs are missing: give input_ids, query_embeds, or both")
        embeddings = torch.cat(parts, 1) if len(parts) > 1 else parts[0]
        return self.dropout(self.layernorm(embeddings))


class LampQFormerMultiHeadAttention(nn.Module):
    """Multi-head attention to states of size `source_size`: self-attention, or cross-attention of the queries."""

    def __init__(self, config: LampConfig, layer_idx: int, source_size: int):
        super().__init__()
        self.config = config
        self.layer_idx = layer_idx
        self.head_size = config.hidden_size // config.num_attention_heads
        self.scaling = self.head_size**-0.5
        self.dropout = config.attention_probs_dropout_prob
        self.is_causal = False  # causal masking is part of the mask
        self.query = nn.Linear(config.hidden_size, config.hidden_size)
        self.key = nn.Linear(source_size, config.hidden_size)
        self.value = nn.Linear(source_size, config.hidden_size)

    def forward(
        self,
        hidden_states: torch.Tensor,
        source: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        prefix_states: torch.Tensor | None = None,
        cache: EncoderDecoderCache | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Compute attention.

        Args:
            hidden_states: States for the queries of attention, `(B, S, H)`.
            source: States for the keys and values, `(B, K, source_size)`.
            attention_mask: Mask from [`attention_bias`].
            prefix_states: States for further keys and values, before `source`, `(B, P, source_size)`.
            cache: Keys and values of the prefix and of earlier sources; those of `source` are added to it.

        Returns:
            The output, `(B, S, H)`, and the attention weights, `(B, heads, S, P + K)`, if the implementation returns
            them.
        """
        keys, values = self._keys_and_values(source)
        if cache is not None:
            keys, values = cache.self_attention_cache.update(keys, values, self.layer_idx)
        if prefix_states is not None:
            first_keys, first_values = self._prefix(prefix_states, cache)
            keys, values = torch.cat([first_keys, keys], 2), torch.cat([first_values, values], 2)
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention_forward)
        output, weights = attend(
            self,
            self._heads(self.query(hidden_states)),
            keys,
            values,
            attention_mask,
            dropout=self.dropout if self.training else 0.0,
            scaling=self.scaling,
            is_causal=False,
        )
        return output.flatten(2), weights

    def _heads(self, states: torch.Tensor) -> torch.Tensor:
        return states.unflatten(-1, (-1, self.head_size)).transpose(1, 2)

    def _keys_and_values(self, source: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self._heads(self.key(source)), self._heads(self.value(source))

    def _prefix(
        self, prefix_states: torch.Tensor, cache: EncoderDecoderCache | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the keys and values of the prefix; with a cache, they are computed only once."""
        if cache is None:
            return self._keys_and_values(prefix_states)
        if not cache.is_updated.get(self.layer_idx):
            cache.cross_attention_cache.update(*self._keys_and_values(prefix_states), self.layer_idx)
            cache.is_updated[self.layer_idx] = True
        kept: Any = cache.cross_attention_cache.layers[self.layer_idx]
        return kept.keys, kept.values


class LampQFormerOutput(nn.Module):
    """Linear layer whose output is added to `residual` and normalized."""

    def __init__(self, config: LampConfig, input_size: int):
        super().__init__()
        self.dense = nn.Linear(input_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, hidden_states: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        return self.LayerNorm(self.dropout(self.dense(hidden_states)) + residual)


class LampQFormerIntermediate(nn.Module):
    """Linear layer and GELU."""

    def __init__(self, config: LampConfig, size: int):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, size)
        self.activation = ACT2FN["gelu"]

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.activation(self.dense(hidden_states))


class LampQFormerAttention(nn.Module):
    """Attention whose output is added to its input and normalized."""

    def __init__(self, config: LampConfig, layer_idx: int, source_size: int):
        super().__init__()
        self.attention = LampQFormerMultiHeadAttention(config, layer_idx, source_size)
        self.output = LampQFormerOutput(config, config.hidden_size)

    def forward(
        self,
        hidden_states: torch.Tensor,
        source: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        prefix_states: torch.Tensor | None = None,
        cache: EncoderDecoderCache | None = None,
    ) -> torch.Tensor:
        read, _ = self.attention(hidden_states, source, attention_mask, prefix_states, cache)
        return self.output(read, hidden_states)


class LampQFormerLayer(GradientCheckpointingLayer):
    """Self-attention of queries and words, cross-attention of queries, and a feed-forward for each of the two."""

    def __init__(self, config: LampConfig, layer_idx: int):
        super().__init__()
        width = config.intermediate_size
        query_width = width if config.query_intermediate_size is None else config.query_intermediate_size
        self.attention = LampQFormerAttention(config, layer_idx, config.hidden_size)
        self.crossattention = (
            LampQFormerAttention(config, layer_idx, config.motion_hidden_size)
            if layer_idx % config.cross_attention_frequency == 0
            else None
        )
        self.intermediate = LampQFormerIntermediate(config, width)
        self.output = LampQFormerOutput(config, width)
        self.intermediate_query = LampQFormerIntermediate(config, query_width)
        self.output_query = LampQFormerOutput(config, query_width)

    def forward(
        self,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        prefix_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        encoder_attention_mask: torch.Tensor | None = None,
        num_queries: int = 0,
        keep: int | None = None,
        cache: EncoderDecoderCache | None = None,
    ) -> torch.Tensor:
        """Run the layer; for arguments see [`LampQFormerModel`]. Masks are from [`attention_bias`].

        Arguments that may have a gradient come first, because reentrant gradient checkpointing only considers
        positional arguments.
        """
        kept = hidden_states if keep is None else hidden_states[:, :keep]
        read = self.attention(kept, hidden_states, attention_mask, prefix_states, cache)
        if not num_queries:
            return self.output(self.intermediate(read), read)
        queries = read[:, :num_queries]
        if self.crossattention is not None:
            if encoder_hidden_states is None:
                raise ValueError("encoder_hidden_states is missing: queries need states to read")
            queries = self.crossattention(queries, encoder_hidden_states, encoder_attention_mask)
        queries = self.output_query(self.intermediate_query(queries), queries)
        if read.shape[1] <= num_queries:
            return queries
        words = read[:, num_queries:]
        return torch.cat([queries, self.output(self.intermediate(words), words)], 1)


class LampQFormerEncoder(nn.Module):
    """Stack of layers."""

    def __init__(self, config: LampConfig):
        super().__init__()
        self.layer = nn.ModuleList(LampQFormerLayer(config, index) for index in range(config.num_hidden_layers))


class LampQFormerModel(LampPreTrainedModel):
    """Q-Former: encodes queries, which read states of motions or texts, words, or both in one pass with queries first.

    Below, B is the batch size, Q the number of queries, L of words, S of all positions and n of states, and H is the
    hidden size.

    Example:

    ```python
    >>> import torch
    >>> from lamp_hf import LampConfig
    >>> from lamp_hf.modeling.modeling_lamp_qformer import LampQFormerModel

    >>> config = LampConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, motion_hidden_size=16)
    >>> qformer = LampQFormerModel(config).eval()
    >>> states = torch.randn(3, 10, 16)
    >>> output = qformer(query_embeds=torch.randn(3, 4, 32), encoder_hidden_states=states, output_hidden_states=True)
    >>> output.last_hidden_state.shape, len(output.hidden_states)
    (torch.Size([3, 4, 32]), 3)

    ```
    """

    base_model_prefix = "qformer"
    main_input_name = "input_ids"
    _can_record_outputs = {
        "hidden_states": LampQFormerLayer,
        "attentions": OutputRecorder(LampQFormerMultiHeadAttention, index=1, layer_name=".attention.attention"),
        "cross_attentions": OutputRecorder(LampQFormerMultiHeadAttention, index=1, layer_name=".crossattention"),
    }

    def __init__(self, config: LampConfig):
        super().__init__(config)
        self.embeddings = LampQFormerEmbeddings(config)
        self.encoder = LampQFormerEncoder(config)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.embeddings.word_embeddings

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.embeddings.word_embeddings = cast(nn.Embedding, value)

    @capture_outputs
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        query_embeds: torch.Tensor | None = None,
        encoder_hidden_states: torch.Tensor | None = None,
        encoder_attention_mask: torch.Tensor | None = None,
        keep: int | None = None,
        prefix_states: torch.Tensor | None = None,
        cache: EncoderDecoderCache | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
    ) -> LampQFormerModelOutput:
        """Run the layers.

        Args:
            input_ids: Words, `(B, L)`.
            attention_mask: `(B, S)`, 1 on visible positions, or `(B or 1, S, S)`, 1 where the position of the row sees
                the position of the column; `None` if everything is visible.
            query_embeds: Queries, `(B, Q, H)`.
            encoder_hidden_states: States that the queries read, `(B, n, motion_hidden_size)`.
            encoder_attention_mask: `(B, n)`, 1 on real states; `None` if all are real.
            keep: Number of positions of the last layer to return, from the first; all by default. Outputs of other
                positions are not computed there. The kept positions must be queries, or there must be no queries.
            prefix_states: Input of each layer at further positions that words see, without queries,
                `(B, P, layers, H)`. `attention_mask` then starts with P columns for them.
            cache: Keys and values of the prefix and of earlier words.
            output_hidden_states, output_attentions: Whether to return the output and the attention weights of each
                layer. Only the eager implementation returns weights: `model.set_attn_implementation("eager")`.

        Returns:
            An output with `last_hidden_state` `(B, S or keep, H)` and, if requested, `hidden_states`, `attentions` and
            `cross_attentions`.
        """
        past_length: int | torch.Tensor = 0 if cache is None else cache.self_attention_cache.get_seq_length()
        hidden = self.embeddings(input_ids, query_embeds, past_length)
        num_queries = 0 if query_embeds is None else query_embeds.shape[1]
        implementation = self.config._attn_implementation
        mask = attention_bias(attention_mask, hidden, hidden.shape[1], implementation)
        encoder_mask = attention_bias(encoder_attention_mask, hidden, num_queries, implementation)
        last = len(self.encoder.layer) - 1
        # Flash attention with a padding mask needs as many queries as keys.
        rows = None if keep is None or (mask is not None and mask.ndim == 2) else keep
        for index, layer in enumerate(self.encoder.layer):
            if index == last and rows is not None and mask is not None:
                mask = mask[:, :, :rows]
            hidden = layer(
                hidden,
                encoder_hidden_states,
                None if prefix_states is None else prefix_states[:, :, index],
                attention_mask=mask,
                encoder_attention_mask=encoder_mask,
                num_queries=num_queries,
                keep=rows if index == last else None,
                cache=cache,
            )
        return LampQFormerModelOutput(last_hidden_state=hidden if keep is None else hidden[:, :keep])

    def found_queries(
        self,
        query_embeds: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        encoder_attention_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the queries at the input of each layer, `(B, Q, layers, H)`, for use as `prefix_states` of words.

        For arguments see [`forward`]. The last layer does not run, because words do not see its output.
        """
        hidden = self.embeddings(query_embeds=query_embeds)
        num_queries = hidden.shape[1]
        mask = attention_bias(encoder_attention_mask, hidden, num_queries, self.config._attn_implementation)
        found = [hidden]
        for layer in self.encoder.layer[:-1]:
            hidden = layer(hidden, encoder_hidden_states, encoder_attention_mask=mask, num_queries=num_queries)
            found.append(hidden)
        return torch.stack(found, 2)
