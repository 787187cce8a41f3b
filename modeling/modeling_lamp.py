"""LaMP: one Q-Former that reads motion and text (LaMP, section 3.2)."""

import copy
from dataclasses import dataclass
from typing import Any, Self, cast

import torch
from torch import nn
from torch.nn import functional as F
from transformers import initialization as init
from transformers.activations import ACT2FN
from transformers.utils import ModelOutput, can_return_tuple

from .configuration_lamp import LampConfig, LampTextToMotionConfig, MotionVQVAEConfig, refuse_other_condition
from .former_checkpoints import take_former_names, take_former_shapes
from .modeling_lamp_qformer import (
    LampPreTrainedModel,
    LampQFormerModel,
    LampQFormerModelOutput,
    requested_outputs,
)
from .modeling_motion_vqvae import MotionVQVAEEncoder, MotionVQVAEModel

__all__ = [
    "LampModel",
    "LampMotionEncoding",
    "LampOutput",
    "LampPreTrainedModel",
]

MAX_LOGIT_SCALE = 100.0


@dataclass
class LampMotionEncoding(ModelOutput):
    """Result of [`LampModel.encode_motion`]. The encoder is frozen, so training and an index may cache this.

    Args:
        motion_embeds: Latents `(B, n, code_dim)`.
        motion_token_mask: `(B, n)`, true on real tokens.
        motion_codes: Token ids `(B, n)`, or `(B, n, num_quantizers)` with several codebooks; -100 on padding. `None`
            with `output_codes=False`.
    """

    motion_embeds: torch.Tensor
    motion_token_mask: torch.Tensor = None  # type: ignore[assignment]  # transformers wants a default
    motion_codes: torch.Tensor = None  # type: ignore[assignment]


@dataclass
class LampOutput(ModelOutput):
    """Result of [`LampModel`].

    Args:
        logits_per_motion: Scaled similarities `(M, T)` of M motions and T texts.
        logits_per_text: The same, `(T, M)`.
        motion_features: `(M, Q, P)`, of unit length.
        text_features: `(T, P)`, of unit length.
        motion_model_output: Output of the Q-Former for the motions, with `hidden_states`, `attentions` and
            `cross_attentions` if requested.
        text_model_output: Output of the Q-Former for the texts. Its last hidden state has only the first word.
    """

    logits_per_motion: torch.Tensor | None = None
    logits_per_text: torch.Tensor | None = None
    motion_features: torch.Tensor | None = None
    text_features: torch.Tensor | None = None
    motion_model_output: LampQFormerModelOutput | None = None
    text_model_output: LampQFormerModelOutput | None = None


class LampLanguageModelHead(nn.Module):
    """The head of BERT: dense, activation, LayerNorm, and an output layer tied to the word embeddings."""

    def __init__(self, config: LampConfig):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.activation = ACT2FN["gelu"]
        self.layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.decoder = nn.Linear(config.hidden_size, config.vocab_size)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return the logits `(…, vocab_size)` of hidden states `(…, hidden_size)`."""
        return self.decoder(self.layer_norm(self.activation(self.dense(hidden))))


def caption_mask(attention_mask: torch.Tensor, num_queries: int) -> torch.Tensor:
    """Return a boolean mask `(B, Q + L, Q + L)`: queries see queries; words see queries and words up to themselves."""
    batch, length = attention_mask.shape
    size = num_queries + length
    visible = torch.ones(batch, size, size, dtype=torch.bool, device=attention_mask.device)
    visible[:, :num_queries, num_queries:] = False
    causal = torch.ones(length, length, dtype=torch.bool, device=attention_mask.device).tril()
    visible[:, num_queries:, num_queries:] = causal & attention_mask[:, None, :].bool()
    return visible


def used_length(mask: torch.Tensor) -> int:
    """Return the number of columns of `mask` `(B, L)` up to the last one that a row uses.

    When compiling, return L, because reading the mask would break the graph.
    """
    if torch.compiler.is_compiling():
        return mask.shape[1]
    return int(mask.bool().any(0).nonzero()[-1]) + 1


def own_lamp_config(config: LampConfig | LampTextToMotionConfig) -> LampConfig:
    """Return the configuration of LaMP in that of a checkpoint that contains it, with the checkpoint's name.

    Raises:
        CheckpointError: The tokenizer of the checkpoint belongs to another text encoder.
        TypeError: The configuration belongs to another kind of model.
    """
    if isinstance(config, LampTextToMotionConfig):
        refuse_other_condition(config.text_condition, config._name_or_path)
        name, config = config._name_or_path, copy.deepcopy(config.lamp_config)
        config._name_or_path = name
    if not isinstance(config, LampConfig):
        raise TypeError(f"config is a {type(config).__name__}; expected a LampConfig or a LampTextToMotionConfig")
    return config


class LampModel(LampPreTrainedModel):
    """LaMP: the frozen motion tokenizer, the Q-Former and the heads of its four tasks.

    Padding is masked in motion and text, so features do not depend on the other items of a batch.

    In all methods, `motion_values` `(B, T, motion_dim)` are normalized features, and `motion_attention_mask` `(B, T)`
    is 1 on real frames (`None` if all are real); padding is on the right. `input_ids` and `attention_mask` `(B, L)` are
    captions from the tokenizer, `[CLS]` first. Below, n is the number of motion tokens, Q the number of queries, H the
    hidden size and P the projection size.
    """

    _tied_weights_keys = {"lm_head.decoder.weight": "qformer.embeddings.word_embeddings.weight"}

    def __init__(self, config: LampConfig):
        super().__init__(config)
        tokenizer_config = cast(MotionVQVAEConfig, config.motion_vqvae_config)
        self.motion_vqvae = MotionVQVAEModel._from_config(tokenizer_config)
        self.motion_encoder = MotionVQVAEEncoder(tokenizer_config) if config.separate_motion_encoder else None
        self.motion_to_states = nn.Linear(tokenizer_config.code_dim, config.motion_hidden_size, bias=False)
        self.text_to_states = nn.Linear(config.hidden_size, config.motion_hidden_size, bias=False)
        self.query_tokens = nn.Parameter(torch.zeros(1, config.num_query_tokens, config.hidden_size))
        self.qformer = LampQFormerModel(config)
        self.motion_projection = nn.Linear(config.hidden_size, config.projection_dim)
        self.text_projection = nn.Linear(config.hidden_size, config.projection_dim)
        self.logit_scale = nn.Parameter(torch.zeros(1))  # FSDP cannot shard a tensor without dimensions
        self.matching_head = nn.Linear(config.hidden_size, 2)
        self.lm_head = LampLanguageModelHead(config)
        self.motion_token_head = nn.Linear(config.hidden_size, tokenizer_config.num_codes, bias=False)
        self.register_load_state_dict_pre_hook(take_former_names)
        self.register_load_state_dict_pre_hook(take_former_shapes)
        self.post_init()
        self._freeze()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if module is self:
            init.normal_(self.query_tokens, std=self.config.initializer_range)
            init.constant_(self.logit_scale, self.config.logit_scale_init_value)
            # Keeps the scale of the projected states; the usual 0.02 does not suit the 1408 inputs of the paper.
            for projection in (self.motion_to_states, self.text_to_states):
                init.normal_(projection.weight, std=projection.in_features**-0.5)

    def get_input_embeddings(self) -> nn.Module:
        return self.qformer.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.qformer.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head.decoder

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        self.lm_head.decoder = new_embeddings

    def _freeze(self) -> None:
        for module in (self.motion_vqvae, self.motion_encoder):
            if module is not None:
                module.requires_grad_(False)
                module.eval()  # the released code left its dropout on (L1)
        if self.config.freeze_word_embeddings:
            self.qformer.embeddings.word_embeddings.requires_grad_(False)

    def train(self, mode: bool = True) -> Self:
        """Set training mode; the motion encoder stays frozen and in evaluation mode.

        `from_pretrained` replaces parameters with trainable ones and then calls `eval`, which calls this method.
        """
        super().train(mode)
        self._freeze()
        return self

    def _run(self, states: torch.Tensor | None = None, **options: Any) -> LampQFormerModelOutput:
        """Run the Q-Former, with queries that read `states` `(B, n, motion_hidden_size)`.

        Other arguments are passed on to [`LampQFormerModel`].
        """
        queries = None if states is None else self.query_tokens.expand(states.shape[0], -1, -1)
        return self.qformer(query_embeds=queries, encoder_hidden_states=states, return_dict=True, **options)

    # ---- motion -------------------------------------------------------------------------------------------

    @torch.no_grad()
    def encode_motion(
        self,
        motion_values: torch.Tensor,
        motion_attention_mask: torch.Tensor | None = None,
        output_codes: bool = True,
    ) -> LampMotionEncoding:
        """Encode motions with the frozen encoder; the result never changes, so training may cache it.

        Args:
            motion_values, motion_attention_mask: Motions; see [`LampModel`].
            output_codes: Whether to return the token ids too.
        """
        if not self.config.mask_motion_padding:
            motion_attention_mask = None  # padded frames are read as motion, as in the released code (L6)
        codes: Any = None
        with torch.autocast(motion_values.device.type, enabled=False):  # tokens are targets: no rounding
            latents, token_mask = self.motion_vqvae.get_latents(motion_values, motion_attention_mask)
            if output_codes:
                codes = self.motion_vqvae.codes_of(latents, token_mask)
            if self.motion_encoder is not None:
                lengths = token_mask.sum(-1) * self.motion_vqvae.config.frames_per_token
                latents = self.motion_encoder(motion_values, lengths)
        return LampMotionEncoding(
            motion_embeds=latents.to(self.dtype), motion_token_mask=token_mask, motion_codes=codes
        )

    def _motion_states(
        self, motion_values: torch.Tensor, motion_attention_mask: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        encoded = self.encode_motion(motion_values, motion_attention_mask, output_codes=False)
        return self.motion_to_states(encoded.motion_embeds), cast(torch.Tensor, encoded.motion_token_mask)

    def query(self, states: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Run the queries, which read states.

        Args:
            states: States of motions or texts, `(B, S, motion_hidden_size)`.
            mask: `(B, S)`, 1 on real states; `None` if all are real.

        Returns:
            Query outputs `(B, Q, H)`.
        """
        return self._run(states, encoder_attention_mask=mask).last_hidden_state

    def get_motion_features(
        self, motion_values: torch.Tensor, motion_attention_mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return features `(B, Q, P)` of motions in the shared space, of unit length."""
        return self.project_motion(self.query(*self._motion_states(motion_values, motion_attention_mask)))

    def project_motion(self, query_output: torch.Tensor) -> torch.Tensor:
        """Project query outputs `(B, Q, H)` into the shared space, `(B, Q, P)`, of unit length."""
        return F.normalize(self.motion_projection(query_output).float(), dim=-1)

    # ---- text ---------------------------------------------------------------------------------------------

    def encode_text(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        """Return hidden states `(B, L, H)` of captions, encoded without queries."""
        return self._run(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state

    def get_text_features(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        """Return features `(B, P)` of captions in the shared space, of unit length."""
        output = self._run(input_ids=input_ids, attention_mask=attention_mask, keep=1)
        return self.project_text(output.last_hidden_state)

    def project_text(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Project the first word of captions `(B, L, H)` into the shared space, `(B, P)`, of unit length."""
        return F.normalize(self.text_projection(hidden_states[:, 0]).float(), dim=-1)

    def query_text(self, states: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        """Return query outputs `(B, Q, H)` after reading text states `(B, L, motion_hidden_size)`.

        With `config.mask_text_padding=False`, padded words are not masked, and the result depends on the length to
        which the captions were padded, 49 in the released code (T4).
        """
        return self.query(states, attention_mask if self.config.mask_text_padding else None)

    def get_text_condition(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None, text_to_condition: nn.Module
    ) -> torch.Tensor:
        """Return the condition `(B, H)` of text-to-motion: the mean of the queries after they have read the text (T4).

        Args:
            input_ids, attention_mask: Captions, `(B, L)`.
            text_to_condition: Layer of the text-to-motion model, from H to `motion_hidden_size`.
        """
        states = text_to_condition(self.encode_text(input_ids, attention_mask))
        return self.query_text(states, attention_mask).mean(1)

    # ---- both ---------------------------------------------------------------------------------------------

    def similarity(self, motion_features: torch.Tensor, text_features: torch.Tensor) -> torch.Tensor:
        """Return the cosines `(M, T)` of texts `(T, P)` and the best query of each motion `(M, Q, P)` (L7)."""
        with torch.autocast(motion_features.device.type, enabled=False):  # half precision is too coarse here
            return torch.einsum("mqp,tp->mtq", motion_features.float(), text_features.float()).amax(-1)

    def scale(self) -> torch.Tensor:
        """Return the factor `()` of similarities, at most 100; the released code learns it without exponential (L3)."""
        return self.logit_scale.float().exp().clamp(max=MAX_LOGIT_SCALE).squeeze()

    def match(
        self,
        motion_states: torch.Tensor,
        motion_mask: torch.Tensor | None,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
    ) -> torch.Tensor:
        """Return logits `(B, 2)` for no match and match of captions and motion states `(B, n, motion_hidden_size)`."""
        num_queries = self.config.num_query_tokens
        both = F.pad(attention_mask, (num_queries, 0), value=1)
        query_output = self._run(
            motion_states,
            input_ids=input_ids,
            attention_mask=both,
            encoder_attention_mask=motion_mask,
            keep=num_queries,
        ).last_hidden_state
        return self.matching_head(query_output).mean(1)

    def matching_score(
        self,
        motion_values: torch.Tensor,
        input_ids: torch.Tensor,
        motion_attention_mask: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the probability `(B,)` that the b-th caption describes the b-th motion."""
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        states, mask = self._motion_states(motion_values, motion_attention_mask)
        return self.match(states, mask, input_ids, attention_mask).float().softmax(-1)[:, 1]

    def caption_ids(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Replace the first token of captions `(B, L)`, `[CLS]` for reading, with `[DEC]` for writing."""
        input_ids = input_ids.clone()
        input_ids[:, 0] = cast(int, self.config.bos_token_id)
        return input_ids

    def query_and_caption(
        self,
        motion_states: torch.Tensor,
        motion_mask: torch.Tensor | None,
        caption_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        **options: Any,
    ) -> LampQFormerModelOutput:
        """Read motions and, in the same pass, captions with causal attention.

        Args:
            motion_states, motion_mask: `(B, n, motion_hidden_size)` and `(B, n)`.
            caption_ids, attention_mask: Captions from [`caption_ids`], `(B, L)`.
            options: `output_hidden_states` and `output_attentions`.

        Returns:
            An output whose `last_hidden_state` is `(B, Q + L, H)`. The queries come first; they do not see words and
            are equal to the output of [`query`]. Each word sees the queries and the words up to itself.
        """
        num_queries = self.config.num_query_tokens
        return self._run(
            motion_states,
            input_ids=caption_ids,
            attention_mask=caption_mask(attention_mask, num_queries),
            encoder_attention_mask=motion_mask,
            **options,
        )

    def query_words(
        self, caption_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, keep: int | None = None
    ) -> torch.Tensor:
        """Return outputs of queries that read word embeddings, without self-attention among words (L5).

        Args:
            caption_ids, attention_mask: Captions from [`caption_ids`], `(B, L)`.
            keep: Number of queries to return, from the first; all by default.

        Returns:
            Query outputs `(B, Q or keep, H)`.
        """
        states = self.text_to_states(self.qformer.embeddings(input_ids=caption_ids))
        return self._run(states, encoder_attention_mask=attention_mask, keep=keep).last_hidden_state

    @can_return_tuple
    def forward(
        self,
        motion_values: torch.Tensor,
        motion_attention_mask: torch.Tensor | None = None,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
    ) -> LampOutput:
        """Compare M motions with T captions.

        Args:
            motion_values, motion_attention_mask, input_ids, attention_mask: Motions and captions, see [`LampModel`]; M
                and T may differ.
            output_hidden_states, output_attentions: Whether to return them in `motion_model_output` and
                `text_model_output`.

        Raises:
            ValueError: `input_ids` is missing.

        Example:

        ```python
        >>> import torch
        >>> from lamp_hf import LampModel, LampProcessor

        >>> model, processor = (each.from_pretrained("lamp-small") for each in (LampModel, LampProcessor))
        >>> texts = processor(text=["a person walks", "a person waves", "a person bows"])
        >>> output = model(torch.zeros(2, 40, 263), **texts)
        >>> output.logits_per_motion.shape
        torch.Size([2, 3])

        ```
        """
        if input_ids is None:
            raise ValueError(
                "input_ids is missing: LampModel compares motions with texts; give it, or call get_motion_features"
            )
        requested = requested_outputs(output_hidden_states, output_attentions)
        states, mask = self._motion_states(motion_values, motion_attention_mask)
        motion_output = self._run(states, encoder_attention_mask=mask, **requested)
        text_output = self._run(input_ids=input_ids, attention_mask=attention_mask, keep=1, **requested)
        motion_features = self.project_motion(motion_output.last_hidden_state)
        text_features = self.project_text(text_output.last_hidden_state)
        logits = self.similarity(motion_features, text_features) * self.scale()
        return LampOutput(
            logits_per_motion=logits,
            logits_per_text=logits.T,
            motion_features=motion_features,
            text_features=text_features,
            motion_model_output=motion_output,
            text_model_output=text_output,
        )


class LampEmbeddingsMixin:
    """Word embeddings of a model with a [`LampModel`] as `lamp`."""

    lamp: LampModel

    def get_input_embeddings(self) -> nn.Module:
        return self.lamp.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.lamp.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        return self.lamp.get_output_embeddings()

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        self.lamp.set_output_embeddings(new_embeddings)
