"""LaMP: one Q-Former that reads motion and text, with the losses that teach it (LaMP, section 3.2)."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any, Self, cast

import torch
from torch import nn
from torch.nn import functional as F
from transformers import BertConfig, BertForMaskedLM, BertModel
from transformers import initialization as init
from transformers.activations import ACT2FN
from transformers.utils import ModelOutput, can_return_tuple

from .base_lamp import take_former_names
from .configuration_lamp import LampConfig, LampTextToMotionConfig, MotionVQVAEConfig
from .distributed import gather_rows, global_mean, uniform_rows
from .modeling_lamp_qformer import (
    LampPreTrainedModel,
    LampQFormerLayer,
    LampQFormerModel,
    LampQFormerModelOutput,
    asked_for,
)
from .modeling_motion_vqvae import MotionVQVAEEncoder, MotionVQVAEModel
from .motion_quantizers import IGNORED_CODE

__all__ = [
    "LampForPreTraining",
    "LampForPreTrainingOutput",
    "LampModel",
    "LampMotionEncoding",
    "LampOutput",
    "LampPreTrainedModel",
]

MAX_LOGIT_SCALE = 100.0


@dataclass
class LampMotionEncoding(ModelOutput):
    """What the frozen encoder makes of motions: it never changes, so that training and an index may keep it.

    Args:
        motion_embeds: Latents `(B, n, code_dim)`.
        motion_token_mask: `(B, n)`, true on real tokens.
        motion_codes: Token ids `(B, n)`, -100 on padding; `None` if they were not asked for.
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
        motion_model_output: What the Q-Former made of the motions, with its `hidden_states`, `attentions` and
            `cross_attentions` where they were asked for.
        text_model_output: The same of the texts. Its last hidden state is that of the first word alone.
    """

    logits_per_motion: torch.Tensor | None = None
    logits_per_text: torch.Tensor | None = None
    motion_features: torch.Tensor | None = None
    text_features: torch.Tensor | None = None
    motion_model_output: LampQFormerModelOutput | None = None
    text_model_output: LampQFormerModelOutput | None = None


@dataclass
class LampForPreTrainingOutput(ModelOutput):
    """Result of [`LampForPreTraining`].

    Args:
        loss: Sum of the four losses below, `()`.
        contrastive_loss: Cross-entropy of finding a motion's text and a text's motion, averaged, `()`.
        matching_loss: Cross-entropy of telling true pairs from hard negatives, `()`.
        captioning_loss: Cross-entropy of the next word given the motion, `()`.
        motion_token_loss: Cross-entropy of the motion tokens given the text, `()`.
        logits_per_motion: Scaled similarities `(B, N)` of this process's motions with all N texts.
        logits_per_text: Scaled similarities `(B, N)` of this process's texts with all N motions.
        matching_logits: `(B + negatives, 2)`: true pairs first, then each text with its negative motion, then
            each motion with its negative text; the second number speaks for a match.
        motion_token_logits: `(B, n, num_codes)`.
        model_output: Of the pass in which queries read motions and words see both, with its `hidden_states`,
            `attentions` and `cross_attentions` where they were asked for; queries come first.
    """

    loss: torch.Tensor | None = None
    contrastive_loss: torch.Tensor | None = None
    matching_loss: torch.Tensor | None = None
    captioning_loss: torch.Tensor | None = None
    motion_token_loss: torch.Tensor | None = None
    logits_per_motion: torch.Tensor | None = None
    logits_per_text: torch.Tensor | None = None
    matching_logits: torch.Tensor | None = None
    motion_token_logits: torch.Tensor | None = None
    model_output: LampQFormerModelOutput | None = None


class LampLanguageModelHead(nn.Module):
    """BERT's: dense, activation, LayerNorm, and an output layer that shares the word embeddings."""

    def __init__(self, config: LampConfig):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.activation = ACT2FN["gelu"]
        self.layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.decoder = nn.Linear(config.hidden_size, config.vocab_size)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Logits `(…, vocab_size)` of hidden states `(…, hidden_size)`."""
        return self.decoder(self.layer_norm(self.activation(self.dense(hidden))))


def caption_mask(attention_mask: torch.Tensor, num_queries: int) -> torch.Tensor:
    """Boolean mask `(B, Q + L, Q + L)`: queries see queries, words also words so far."""
    batch, length = attention_mask.shape
    size = num_queries + length
    visible = torch.ones(batch, size, size, dtype=torch.bool, device=attention_mask.device)
    visible[:, :num_queries, num_queries:] = False
    causal = torch.ones(length, length, dtype=torch.bool, device=attention_mask.device).tril()
    visible[:, num_queries:, num_queries:] = causal & attention_mask[:, None, :].bool()
    return visible


def used_length(mask: torch.Tensor) -> int:
    """Columns up to the last one that any row of `mask` `(B, L)` uses; compiled, all: to look would break the graph."""
    if torch.compiler.is_compiling():
        return mask.shape[1]
    return int(mask.bool().any(0).nonzero()[-1]) + 1


def own_lamp_config(config: LampConfig | LampTextToMotionConfig) -> LampConfig:
    """A LaMP's own configuration from that of the checkpoint that holds it, whose name it keeps."""
    if isinstance(config, LampTextToMotionConfig):
        name, config = config._name_or_path, copy.deepcopy(config.lamp_config)
        config._name_or_path = name
    if not isinstance(config, LampConfig):
        raise TypeError(f"expected the configuration of a LaMP, got a {type(config).__name__}")
    return config


class LampModel(LampPreTrainedModel):
    """Everything LaMP holds: the frozen motion tokenizer, the Q-Former and the heads of its four tasks.

    Padding is masked in motion and text: a feature does not depend on what was in the same batch.
    Wherever a motion is asked for, `motion_values` `(B, T, motion_dim)` are normalized features,
    `motion_attention_mask` `(B, T)` is 1 on real frames (`None`: all are), and padding is on the right;
    `input_ids` and `attention_mask` `(B, L)` are a caption as the tokenizer gives it, `[CLS]` first.
    Below, n is the number of motion tokens, Q of queries, H the hidden size, P the projection size.
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
        self.logit_scale = nn.Parameter(torch.zeros(()))
        self.matching_head = nn.Linear(config.hidden_size, 2)
        self.lm_head = LampLanguageModelHead(config)
        self.motion_token_head = nn.Linear(config.hidden_size, tokenizer_config.num_codes, bias=False)
        self.register_load_state_dict_pre_hook(take_former_names)
        self.post_init()
        self._freeze()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if module is self:
            init.normal_(self.query_tokens, std=self.config.initializer_range)
            init.constant_(self.logit_scale, self.config.logit_scale_init_value)
            # Keeps the scale of what is projected; the paper's 1408 inputs are too many for the usual 0.02.
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

        `from_pretrained` replaces parameters by trainable ones and then calls `eval`, which comes here too.
        """
        super().train(mode)
        self._freeze()
        return self

    def _run(self, states: torch.Tensor | None = None, **options: Any) -> LampQFormerModelOutput:
        """One pass of the Q-Former, in which queries read `states` `(B, n, motion_hidden_size)`.

        Other arguments are those of [`LampQFormerModel`].
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
        """Run the frozen encoder.

        Args:
            motion_values, motion_attention_mask: Motions, as above.
            output_codes: Look up the token ids too.
        """
        if not self.config.mask_motion_padding:
            motion_attention_mask = None  # padded frames are motion, as in the released code (L6)
        codes: Any = None
        with torch.autocast(motion_values.device.type, enabled=False):  # tokens are targets: no rounding
            latents, token_mask = self.motion_vqvae.get_latents(motion_values, motion_attention_mask)
            if output_codes:
                codes = self.motion_vqvae.quantizer.nearest(latents).masked_fill(~token_mask, IGNORED_CODE)
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
        """Let the queries read states.

        Args:
            states: `(B, S, motion_hidden_size)`, of motion or of text.
            mask: `(B, S)`, 1 where there is something to read; `None`: everywhere.

        Returns:
            Query outputs `(B, Q, H)`.
        """
        return self._run(states, encoder_attention_mask=mask).last_hidden_state

    def get_motion_features(
        self, motion_values: torch.Tensor, motion_attention_mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Features `(B, Q, P)` of motions in the shared space, of unit length."""
        return self.project_motion(self.query(*self._motion_states(motion_values, motion_attention_mask)))

    def project_motion(self, query_output: torch.Tensor) -> torch.Tensor:
        """Query outputs `(B, Q, H)` in the shared space, `(B, Q, P)`, of unit length."""
        return F.normalize(self.motion_projection(query_output).float(), dim=-1)

    # ---- text ---------------------------------------------------------------------------------------------

    def encode_text(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        """Hidden states `(B, L, H)` of captions, read by the text branch alone."""
        return self._run(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state

    def get_text_features(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        """Features `(B, P)` of captions in the shared space, of unit length."""
        output = self._run(input_ids=input_ids, attention_mask=attention_mask, keep=1)
        return self.project_text(output.last_hidden_state)

    def project_text(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Captions' hidden states `(B, L, H)` in the shared space: of their first words, `(B, P)`, of unit length."""
        return F.normalize(self.text_projection(hidden_states[:, 0]).float(), dim=-1)

    def query_text(self, states: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        """Query outputs `(B, Q, H)` after reading text states `(B, L, motion_hidden_size)`.

        Padded words are hidden unless `mask_text_padding` is false (T4): then the result depends on the
        length to which the captions were padded, 49 in the released code.
        """
        return self.query(states, attention_mask if self.config.mask_text_padding else None)

    def get_text_condition(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None, text_to_condition: nn.Module
    ) -> torch.Tensor:
        """Condition `(B, H)` of text-to-motion: the mean of the queries that read the caption (T4).

        Args:
            input_ids, attention_mask: Captions, `(B, L)`.
            text_to_condition: Layer from H to `motion_hidden_size`; it belongs to the text-to-motion model.
        """
        states = text_to_condition(self.encode_text(input_ids, attention_mask))
        return self.query_text(states, attention_mask).mean(1)

    # ---- both ---------------------------------------------------------------------------------------------

    def similarity(self, motion_features: torch.Tensor, text_features: torch.Tensor) -> torch.Tensor:
        """Cosine `(M, T)` of texts `(T, P)` with the best-fitting query of motions `(M, Q, P)` (L7)."""
        with torch.autocast(motion_features.device.type, enabled=False):  # half precision is too coarse here
            return torch.einsum("mqp,tp->mtq", motion_features.float(), text_features.float()).amax(-1)

    def scale(self) -> torch.Tensor:
        """Factor `()` of similarities, at most 100; the released code learns it without exponential (L3)."""
        return self.logit_scale.float().exp().clamp(max=MAX_LOGIT_SCALE)

    def match(
        self,
        motion_states: torch.Tensor,
        motion_mask: torch.Tensor | None,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
    ) -> torch.Tensor:
        """Logits `(B, 2)`, no match and match, of captions and motion states `(B, n, motion_hidden_size)`."""
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
        """Probability `(B,)` that the b-th caption describes the b-th motion."""
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        states, mask = self._motion_states(motion_values, motion_attention_mask)
        return self.match(states, mask, input_ids, attention_mask).float().softmax(-1)[:, 1]

    def caption_ids(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Captions `(B, L)` that begin with `[DEC]`, the sign to write, not `[CLS]`, the sign to read."""
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
        """Read motions and, in the same pass, the captions as their writer sees them.

        Args:
            motion_states, motion_mask: `(B, n, motion_hidden_size)` and `(B, n)`.
            caption_ids, attention_mask: Captions, `(B, L)`, as [`caption_ids`] gives them.
            options: `output_hidden_states` and `output_attentions`.

        Returns:
            `last_hidden_state` `(B, Q + L, H)`: queries, which do not see words, so that they are those of [`query`];
            then words, each of which has seen the motion and the words up to itself.
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
        """Outputs of queries that read word embeddings: no self-attention among words (L5).

        Args:
            caption_ids, attention_mask: Captions, `(B, L)`, as [`caption_ids`] gives them.
            keep: Only the first that many queries are wanted.

        Returns:
            `(B, Q or keep, H)`.
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
            motion_values, motion_attention_mask, input_ids, attention_mask: Motions and captions, as above; M and T
                may differ.
            output_hidden_states, output_attentions: As in [`LampQFormerModel`].

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
                "input_ids is missing: LampModel compares motions with texts; for motions alone "
                "call get_motion_features"
            )
        told = asked_for(output_hidden_states, output_attentions)
        states, mask = self._motion_states(motion_values, motion_attention_mask)
        motion_output = self._run(states, encoder_attention_mask=mask, **told)
        text_output = self._run(input_ids=input_ids, attention_mask=attention_mask, keep=1, **told)
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

    # ---- start --------------------------------------------------------------------------------------------

    @torch.no_grad()
    def init_from_bert(
        self,
        bert: str | PathLike | BertModel | BertForMaskedLM,
        token_ids: Sequence[int | None] | None = None,
    ) -> None:
        """Start from a pretrained BERT, as the paper does from `bert-base-uncased`.

        Copies embeddings (its constant token type goes into the positions), the first layers' self-attention
        and feed-forward, and the word-prediction head where the checkpoint has one. The queries' feed-forward
        starts as a copy too, of every k-th neuron where it is narrower. Cross-attention stays random.

        Args:
            bert: A BERT of the same width and heads and at least as many layers, or where one is stored.
            token_ids: For each word piece of this model its id in BERT. `None`, or what is beyond the end, is
                one that BERT does not have: it starts as the mean of the others. Without it, ids are equal.

        Raises:
            ValueError: Sizes that do not fit.
        """
        source, head = _load_bert(bert)
        self._check_bert(source.config)

        if token_ids is None:
            token_ids = range(min(source.config.vocab_size, self.config.vocab_size))
        rows = torch.tensor([row for row, token in enumerate(token_ids) if token is not None])
        tokens = torch.tensor([token for token in token_ids if token is not None])

        def take(target: torch.Tensor, pretrained: torch.Tensor) -> None:
            target.copy_(pretrained[tokens].mean(0).expand_as(target))
            target[rows] = pretrained[tokens].to(target.dtype)

        ours, theirs = self.qformer.embeddings, source.embeddings
        take(ours.word_embeddings.weight, theirs.word_embeddings.weight)
        positions = theirs.position_embeddings.weight + theirs.token_type_embeddings.weight[0]
        ours.position_embeddings.weight.copy_(positions[: self.config.max_position_embeddings])
        ours.layernorm.load_state_dict(theirs.LayerNorm.state_dict())
        for ours_at, theirs_at in zip(self.qformer.encoder.layer, source.encoder.layer, strict=False):
            layer, pretrained = cast(LampQFormerLayer, ours_at), cast(Any, theirs_at)
            layer.attention.attention.load_state_dict(pretrained.attention.self.state_dict())
            layer.attention.output.load_state_dict(pretrained.attention.output.state_dict())
            layer.intermediate.load_state_dict(pretrained.intermediate.state_dict())
            layer.output.load_state_dict(pretrained.output.state_dict())
            width = layer.intermediate_query.dense.out_features
            neurons = torch.linspace(0, source.config.intermediate_size - 1, width).round().long()
            layer.intermediate_query.dense.weight.copy_(pretrained.intermediate.dense.weight[neurons])
            layer.intermediate_query.dense.bias.copy_(pretrained.intermediate.dense.bias[neurons])
            layer.output_query.load_state_dict(
                {**pretrained.output.state_dict(), "dense.weight": pretrained.output.dense.weight[:, neurons]}
            )
        if head is not None:
            self.lm_head.dense.load_state_dict(head.transform.dense.state_dict())
            self.lm_head.layer_norm.load_state_dict(head.transform.LayerNorm.state_dict())
            take(self.lm_head.decoder.bias, head.bias)

    def text_encoder_parameters(self) -> list[nn.Parameter]:
        """What [`init_from_bert`] fills, but for the copies that are the queries' own and the word-prediction head."""
        modules: list[nn.Module] = [self.qformer.embeddings]
        for each in self.qformer.encoder.layer:
            layer = cast(LampQFormerLayer, each)
            modules += [layer.attention, layer.intermediate, layer.output]
        return [parameter for module in modules for parameter in module.parameters()]

    def _check_bert(self, bert: BertConfig) -> None:
        config = self.config
        for name in ("hidden_size", "num_attention_heads", "intermediate_size"):
            if getattr(bert, name) != getattr(config, name):
                raise ValueError(f"{name} is {getattr(bert, name)} in BERT and {getattr(config, name)} here")
        for name in ("num_hidden_layers", "max_position_embeddings"):
            if getattr(bert, name) < getattr(config, name):
                raise ValueError(f"{name} is {getattr(bert, name)} in BERT, fewer than {getattr(config, name)} here")
        if (config.query_intermediate_size or 0) > bert.intermediate_size:
            raise ValueError(
                f"query_intermediate_size={config.query_intermediate_size} exceeds BERT's "
                f"intermediate_size={bert.intermediate_size}, of which it starts as a part"
            )


def _load_bert(bert: str | PathLike | BertModel | BertForMaskedLM) -> tuple[BertModel, Any]:
    """A BERT and its word-prediction head, if it was pretrained with one."""
    if isinstance(bert, BertModel):
        return bert, None
    if isinstance(bert, BertForMaskedLM):
        return bert.bert, bert.cls.predictions
    loaded, report = cast(tuple[BertForMaskedLM, dict], BertForMaskedLM.from_pretrained(bert, output_loading_info=True))
    missing = any(name.startswith("cls.predictions.transform") for name in report["missing_keys"])
    return loaded.bert, None if missing else loaded.cls.predictions


class LampEmbeddingsMixin:
    """Word embeddings of a model are those of the [`LampModel`] that it holds as `lamp`."""

    lamp: LampModel

    def get_input_embeddings(self) -> nn.Module:
        return self.lamp.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.lamp.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        return self.lamp.get_output_embeddings()

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        self.lamp.set_output_embeddings(new_embeddings)


class LampForPreTraining(LampEmbeddingsMixin, LampPreTrainedModel):
    """[`LampModel`] with its four losses, each of weight 1 (L7).

    With `torch.distributed` running, similarities and hard negatives are those of the joint batch, and the
    losses of the processes average to the loss that one process would have had (L4).
    """

    def __init__(self, config: LampConfig):
        super().__init__(config)
        self.lamp = LampModel(config)
        self.post_init()
        self.lamp._freeze()

    @can_return_tuple
    def forward(
        self,
        motion_values: torch.Tensor | None = None,
        motion_attention_mask: torch.Tensor | None = None,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        motion_embeds: torch.Tensor | None = None,
        motion_token_mask: torch.Tensor | None = None,
        motion_codes: torch.Tensor | None = None,
        pair_groups: torch.Tensor | None = None,
        negatives: tuple[torch.Tensor, torch.Tensor] | None = None,
        return_loss: bool = True,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
    ) -> LampForPreTrainingOutput:
        """Compute the losses of B pairs of motion and caption.

        Args:
            motion_values, motion_attention_mask, input_ids, attention_mask: As in [`LampModel`].
            motion_embeds, motion_token_mask, motion_codes: In place of `motion_values`, what
                [`LampModel.encode_motion`] returned for them.
            pair_groups: `(B,)`, a number for what each pair shows, where the data set has labels. Pairs of one
                group belong together like pairs of one caption: they are positives of each other, no negatives.
            negatives: For each caption the index of a motion, and for each motion the index of a caption,
                that do not belong to it; `(B,)` each, -1 for none. Drawn by similarity if not given.
            return_loss: `False` computes features and their similarities alone.
            output_hidden_states, output_attentions: As in [`LampQFormerModel`].

        Example:

        ```python
        >>> import torch
        >>> from lamp_hf import LampForPreTraining, LampProcessor

        >>> processor = LampProcessor.from_pretrained("lamp-small")
        >>> model = LampForPreTraining.from_pretrained("lamp-small")
        >>> output = model(torch.randn(2, 40, 263), **processor(text=["a person walks", "a person bows"]))
        >>> output.loss.ndim, output.logits_per_motion.shape
        (0, torch.Size([2, 2]))

        ```
        """
        lamp = self.lamp
        if input_ids is None:
            raise ValueError("input_ids is missing: pretraining needs a caption for every motion")
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        if motion_values is not None:
            encoded = lamp.encode_motion(motion_values, motion_attention_mask)
            motion_embeds, motion_codes = encoded.motion_embeds, encoded.motion_codes
            motion_token_mask = encoded.motion_token_mask
        if motion_embeds is None or motion_codes is None:
            raise ValueError(
                "the motion is missing: give motion_values, or motion_embeds and motion_codes as "
                "LampModel.encode_motion returns them"
            )
        if motion_token_mask is None:
            motion_token_mask = motion_codes >= 0

        # Columns that all captions or all motions leave empty cost time and change nothing.
        length, tokens = used_length(attention_mask), used_length(motion_token_mask)
        input_ids, attention_mask = input_ids[:, :length], attention_mask[:, :length]
        motion_embeds, motion_codes = motion_embeds[:, :tokens].to(self.dtype), motion_codes[:, :tokens]
        motion_token_mask = motion_token_mask[:, :tokens]
        caption_ids = lamp.caption_ids(input_ids)

        states = lamp.motion_to_states(motion_embeds)
        told = asked_for(output_hidden_states, output_attentions)
        model_output = lamp.query_and_caption(states, motion_token_mask, caption_ids, attention_mask, **told)
        query_output, word_output = model_output.last_hidden_state.split([self.config.num_query_tokens, length], 1)
        motion_features = lamp.project_motion(query_output)
        text_features = lamp.get_text_features(input_ids, attention_mask)

        logits_per_motion = lamp.similarity(motion_features, gather_rows(text_features)[0]) * lamp.scale()
        logits_per_text = lamp.similarity(gather_rows(motion_features)[0], text_features).T * lamp.scale()
        if not return_loss:
            return LampForPreTrainingOutput(
                logits_per_motion=logits_per_motion, logits_per_text=logits_per_text, model_output=model_output
            )

        pair_ids = input_ids.masked_fill(attention_mask == 0, -1)
        captions, first = gather_rows(pair_ids, -1)
        clips, _ = gather_rows(motion_codes, IGNORED_CODE)
        positives = same_rows(pair_ids, captions) | same_rows(motion_codes, clips)
        if pair_groups is not None:
            positives |= pair_groups[:, None] == gather_rows(pair_groups[:, None])[0][:, 0]
        targets = positives
        if self.config.contrastive_targets == "diagonal":
            own = torch.arange(len(positives), device=positives.device) + first
            targets = own[:, None] == torch.arange(len(captions), device=positives.device)
        contrastive_loss = self.contrastive_loss(logits_per_motion, logits_per_text, targets)

        if negatives is None:
            negatives = (
                draw_negatives(logits_per_text, positives),
                draw_negatives(logits_per_motion, positives),
            )
        matching_loss, matching_logits = self.matching_loss(
            motion_embeds, motion_token_mask, input_ids, attention_mask, negatives
        )
        captioning_loss = self.captioning_loss(word_output, caption_ids, attention_mask)
        motion_token_loss, motion_token_logits = self.motion_token_loss(caption_ids, attention_mask, motion_codes)

        return LampForPreTrainingOutput(
            loss=contrastive_loss + matching_loss + captioning_loss + motion_token_loss,
            contrastive_loss=contrastive_loss.detach(),
            matching_loss=matching_loss.detach(),
            captioning_loss=captioning_loss.detach(),
            motion_token_loss=motion_token_loss.detach(),
            logits_per_motion=logits_per_motion,
            logits_per_text=logits_per_text,
            matching_logits=matching_logits,
            motion_token_logits=motion_token_logits,
            model_output=model_output,
        )

    def contrastive_loss(
        self, logits_per_motion: torch.Tensor, logits_per_text: torch.Tensor, positives: torch.Tensor
    ) -> torch.Tensor:
        """Smoothed cross-entropy, averaged over both directions.

        Args:
            logits_per_motion, logits_per_text: Scaled similarities `(B, N)`.
            positives: `(B, N)`, true where a pair belongs together; the target is spread evenly over those.
        """
        target = positives.float() / positives.sum(-1, keepdim=True)
        losses = [
            F.cross_entropy(logits.float(), target, reduction="sum", label_smoothing=self.config.label_smoothing)
            for logits in (logits_per_motion, logits_per_text)
        ]
        return global_mean((losses[0] + losses[1]) / 2, len(positives))

    def matching_loss(
        self,
        motion_embeds: torch.Tensor,
        motion_token_mask: torch.Tensor,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        negatives: tuple[torch.Tensor, torch.Tensor],
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Cross-entropy of true pairs and hard negatives, and its logits; `negatives` as in [`forward`]."""
        negative_motion, negative_text = negatives
        texts, motions = negative_motion >= 0, negative_text >= 0
        # Latents come from a frozen encoder: they travel between processes without gradient.
        all_embeds, _ = gather_rows(motion_embeds)
        all_masks, _ = gather_rows(motion_token_mask.long())
        all_ids, _ = gather_rows(input_ids, self.config.pad_token_id or 0)
        all_attention, _ = gather_rows(attention_mask)
        tokens, length = all_embeds.shape[1] - motion_embeds.shape[1], all_ids.shape[1] - input_ids.shape[1]
        motion_embeds = F.pad(motion_embeds, (0, 0, 0, tokens))
        motion_token_mask = F.pad(motion_token_mask.long(), (0, tokens))
        input_ids = F.pad(input_ids, (0, length), value=self.config.pad_token_id or 0)
        attention_mask = F.pad(attention_mask, (0, length))

        chosen = negative_motion[texts]
        others = negative_text[motions]
        logits = self.lamp.match(
            self.lamp.motion_to_states(torch.cat([motion_embeds, all_embeds[chosen], motion_embeds[motions]])),
            torch.cat([motion_token_mask, all_masks[chosen], motion_token_mask[motions]]),
            torch.cat([input_ids, input_ids[texts], all_ids[others]]),
            torch.cat([attention_mask, attention_mask[texts], all_attention[others]]),
        )
        labels = torch.zeros(len(logits), dtype=torch.long, device=logits.device)
        labels[: len(input_ids)] = 1
        total = F.cross_entropy(logits.float(), labels, reduction="sum")
        return global_mean(total, len(labels)), logits

    def captioning_loss(
        self, word_output: torch.Tensor, caption_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> torch.Tensor:
        """Smoothed cross-entropy of each next word; padding is neither predicted nor computed."""
        real = attention_mask[:, 1:].bool()
        logits = self.lamp.lm_head(word_output[:, :-1][real])
        total = F.cross_entropy(
            logits.float(),
            caption_ids[:, 1:][real],
            reduction="sum",
            label_smoothing=self.config.label_smoothing,
        )
        return global_mean(total, real.sum())

    def motion_token_loss(
        self, caption_ids: torch.Tensor, attention_mask: torch.Tensor, motion_codes: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Smoothed cross-entropy of the motion's tokens, one from each of the first queries, and logits (L5).

        Tokens beyond the last query are not asked for.
        """
        motion_codes = motion_codes[:, : self.config.num_query_tokens]
        query_output = self.lamp.query_words(caption_ids, attention_mask, keep=motion_codes.shape[1])
        logits = self.lamp.motion_token_head(query_output)
        total = F.cross_entropy(
            logits.float().flatten(0, 1),
            motion_codes.flatten(),
            ignore_index=IGNORED_CODE,
            reduction="sum",
            label_smoothing=self.config.label_smoothing,
        )
        return global_mean(total, (motion_codes >= 0).sum()), logits


def same_rows(rows: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Boolean `(B, N)`: is row b of `rows` `(B, L)` row n of `others` `(N, M)`? Negatives are padding."""
    rows = F.pad(rows, (0, others.shape[1] - rows.shape[1]), value=-1)
    return ((rows[:, None] == others[None]) | ((rows[:, None] < 0) & (others[None] < 0))).all(-1)


@torch.no_grad()
def draw_negatives(logits: torch.Tensor, positives: torch.Tensor) -> torch.Tensor:
    """For each row of `logits` `(B, N)` a column that is not a positive, likelier the higher, or -1 (L2)."""
    # The largest of logits with Gumbel noise is a draw from their softmax, and the noise is the same however many
    # processes share the batch.
    noise = -torch.log(
        -torch.log(uniform_rows(len(logits), logits.shape[1], logits.device).clamp(min=torch.finfo(torch.float32).tiny))
    )
    chosen = (logits.float() + noise).masked_fill(positives, -torch.inf).argmax(-1)
    return chosen.masked_fill(positives.all(-1), -1)
