"""Text to motion: a masked transformer over motion tokens, conditioned on texts by LaMP (LaMP, section 3.3)."""

from dataclasses import dataclass
from typing import Any, Self, cast

import torch
from torch import nn
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers.utils.generic import ModelOutput
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from .base_lamp import LampBaseModel
from .configuration_generation_lamp import MaskedMotionGenerationConfig
from .configuration_lamp import LampTextToMotionConfig
from .distributed import global_mean, uniform_rows
from .generation_lamp import MaskedMotionGenerationMixin
from .masked_motion_transformer import (
    MaskedMotionAttention,
    MaskedMotionLayer,
    MaskedMotionTransformer,
    ResidualMotionTransformer,
)
from .masking_lamp import MaskingDraws, mask_codes
from .modeling_lamp import LampEmbeddingsMixin, LampModel
from .modeling_motion_length_estimator import MotionLengthEstimator
from .motion_quantizers import IGNORED_CODE, first_codes
from .text_conditions import masked_mean, new_text_encoder, text_features

__all__ = ["LampForTextToMotion", "LampForTextToMotionOutput"]


@dataclass
class LampForTextToMotionOutput(ModelOutput):
    """Result of [`LampForTextToMotion`].

    Args:
        loss: Sum of the losses below, `()`.
        token_loss: Cross-entropy of the masked tokens, `()`; with several codes per token, of the first code.
        residual_loss: Cross-entropy of the codes of one later codebook, drawn for each motion, `()`; `None` if the
            tokenizer has one codebook.
        length_loss: Cross-entropy of the number of tokens, `()`; `None` without a length estimator.
        token_accuracy: Share of the masked tokens whose most likely code is correct, `()`.
        logits: Logits of each token, `(B, n, num_codes)`; with several codes per token, of the first code.
        length_logits: Logits of each number of tokens, from 1, `(B, max_motion_tokens)`.
        condition: Conditions of the texts, `(B, H)`.
        hidden_states: With `output_hidden_states`, the input of the first layer of the masked transformer and the
            output of each layer, `(B, 1 + n, hidden_size)`; the condition comes before the tokens.
        attentions: With `output_attentions` and `attn_implementation="eager"`, the attention weights of each layer,
            `(B, heads, 1 + n, 1 + n)`.
    """

    loss: torch.Tensor | None = None
    token_loss: torch.Tensor | None = None
    residual_loss: torch.Tensor | None = None
    length_loss: torch.Tensor | None = None
    token_accuracy: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    length_logits: torch.Tensor | None = None
    condition: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


class LampForTextToMotion(LampEmbeddingsMixin, LampBaseModel, MaskedMotionGenerationMixin):
    """Generates motions from texts with a masked transformer on a frozen [`LampModel`].

    Texts are `input_ids` and `attention_mask` `(B, L)`. Motions are token ids `motion_codes` `(B, n)`, -100 on padding,
    which is on the right. With a residual tokenizer, whose tokens have K codes, they are `(B, n, K)`: the masked
    transformer predicts the first code of each token, and a residual transformer predicts the others, one after the
    other (MoMask, Guo et al., CVPR 2024). Below, H is `config.condition_size`, the hidden size of LaMP in the paper.

    A checkpoint contains LaMP and its motion tokenizer, so `LampModel.from_pretrained` can load it too. With another
    `config.text_condition`, it also contains that text encoder, and the texts are tokenized for it instead of LaMP.
    """

    config: LampTextToMotionConfig
    config_class = LampTextToMotionConfig
    _keys_to_ignore_on_load_unexpected = [r"^reference_token_ids$"]  # still in lamp-small, but unused
    base_model_prefix = "lamp"
    main_input_name = "input_ids"
    input_modalities = ["text", "motion"]
    output_modalities = ("motion",)
    supports_gradient_checkpointing = True
    accepts_loss_kwargs = False
    generation_config_class = MaskedMotionGenerationConfig
    _supports_sdpa = True
    _supports_attention_backend = True
    _no_split_modules = ["MaskedMotionLayer"]
    _can_record_outputs = {
        "hidden_states": OutputRecorder(MaskedMotionLayer, layer_name="masked_transformer"),
        "attentions": OutputRecorder(MaskedMotionAttention, index=1, layer_name="masked_transformer"),
    }

    def __init__(self, config: LampTextToMotionConfig):
        super().__init__(config)
        lamp_config = config.lamp_config
        self.lamp = cast(LampModel, LampModel._from_config(lamp_config))
        # A frozen encoder that takes the place of LaMP's text side, for comparison.
        self.text_encoder = None if config.text_encoder_config is None else new_text_encoder(config)
        self.text_to_condition = (
            nn.Linear(lamp_config.hidden_size, lamp_config.motion_hidden_size) if self.text_encoder is None else None
        )
        self.words_to_condition = (
            nn.Linear(lamp_config.hidden_size, lamp_config.hidden_size) if config.condition_on_words else None
        )
        # Frozen embeddings are the codebook of the tokenizer and need no copy (T7).
        self.token_embeddings = (
            nn.Embedding(config.num_codes + 2, config.motion_vqvae_config.code_dim)
            if config.train_token_embeddings
            else None
        )
        self.masked_transformer = MaskedMotionTransformer(config)
        self.residual_transformer = ResidualMotionTransformer(config) if config.num_quantizers > 1 else None
        self.length_estimator = None
        if config.length_hidden_sizes is not None:
            self.length_estimator = MotionLengthEstimator(
                config.condition_size,
                config.length_hidden_sizes,
                config.max_motion_tokens,
                float(config.dropout),
            )
        self.post_init()
        self._freeze()

    @classmethod
    def from_lamp(
        cls, lamp: LampModel, text_encoder: PreTrainedModel | None = None, **values: Any
    ) -> "LampForTextToMotion":
        """Create a model on a copy of a pretrained LaMP.

        Args:
            lamp: LaMP to copy; its `text_to_states` initializes `text_to_condition`.
            text_encoder: Text encoder to copy, for a `text_condition` other than `"lamp"`.
            values: Values of [`LampTextToMotionConfig`], other than `lamp_config` and `text_encoder_config`.
        """
        encoder_config = None if text_encoder is None else text_encoder.config.to_dict()
        config = LampTextToMotionConfig(lamp_config=lamp.config.to_dict(), text_encoder_config=encoder_config, **values)
        model = cls(config)
        model.lamp.load_state_dict(lamp.state_dict())
        if text_encoder is not None:
            cast(PreTrainedModel, model.text_encoder).load_state_dict(text_encoder.state_dict())
        with torch.no_grad():
            if model.text_to_condition is not None:
                model.text_to_condition.weight.copy_(lamp.text_to_states.weight)
                model.text_to_condition.bias.zero_()
            if model.token_embeddings is not None:
                model.token_embeddings.weight.zero_()
                codes = torch.arange(model.config.num_codes, device=lamp.device)
                vectors = lamp.motion_vqvae.quantizer.lookup_first(codes)
                model.token_embeddings.weight[: model.config.num_codes] = vectors
        return model

    def get_input_embeddings(self) -> nn.Module:
        """Return the word embeddings of the text encoder that gives the condition."""
        return super().get_input_embeddings() if self.text_encoder is None else self.text_encoder.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        if self.text_encoder is None:
            super().set_input_embeddings(value)
        else:
            self.text_encoder.set_input_embeddings(value)

    def get_output_embeddings(self) -> Any:
        return super().get_output_embeddings() if self.text_encoder is None else None

    def _freeze(self) -> None:
        for module in (self.lamp, self.text_encoder):
            if module is not None:
                module.requires_grad_(False)
                module.eval()  # the released code leaves LaMP's dropout on (T6)
        if self.text_to_condition is not None:
            self.text_to_condition.requires_grad_(self.config.train_text_to_condition)

    def train(self, mode: bool = True) -> Self:
        """Set training mode; LaMP and the text encoder stay frozen and in evaluation mode."""
        super().train(mode)
        self._freeze()
        return self

    def summarize_text(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        text_hidden_states: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the features of texts from which [`get_text_condition`] computes the condition.

        They never change if `config.freezes_text_features`, so training may cache them.

        Args:
            input_ids, attention_mask: Texts, `(B, L)`.
            text_hidden_states: Output of `LampModel.encode_text`, `(B, L, H)`, instead of `input_ids`. Only with LaMP's
                condition.

        Returns:
            With LaMP's condition, the mean of the queries after they have read the text, and the mean word state,
            `(B, 2, H)`. With another `config.text_condition`, the features of that text encoder, `(B, 1, H)`.

        Raises:
            ValueError: The texts are missing.
        """
        if self.text_encoder is not None:
            if input_ids is None:
                raise ValueError("the text is missing: give input_ids or condition")
            return text_features(self.text_encoder, self.config, input_ids, attention_mask).to(self.dtype)[:, None]
        if text_hidden_states is None:
            if input_ids is None:
                raise ValueError("the text is missing: give input_ids, text_hidden_states or condition")
            with torch.no_grad():
                text_hidden_states = self.lamp.encode_text(input_ids, attention_mask)
        text_hidden_states = text_hidden_states.to(self.dtype)
        states = cast(nn.Linear, self.text_to_condition)(text_hidden_states)
        queries = self.lamp.query_text(states, attention_mask).mean(1)
        return torch.stack([queries, masked_mean(text_hidden_states, attention_mask)], 1)

    def get_text_condition(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        text_hidden_states: torch.Tensor | None = None,
        text_summary: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the condition `(B, H)`: the mean of LaMP's queries after they have read the text (T4).

        With `config.condition_on_words`, a projection of the mean word state is added. With another
        `config.text_condition`, the condition is the features of that text encoder.

        Args:
            input_ids, attention_mask, text_hidden_states: Texts; see [`summarize_text`].
            text_summary: Output of [`summarize_text`], instead of the texts.

        Raises:
            ValueError: The texts are missing.
        """
        if text_summary is None:
            text_summary = self.summarize_text(input_ids, attention_mask, text_hidden_states)
        text_summary = text_summary.to(self.dtype)
        condition = text_summary[:, 0]
        if self.words_to_condition is not None:
            condition = condition + self.words_to_condition(text_summary[:, 1])
        return condition

    def predict_tokens(
        self, token_ids: torch.Tensor, condition: torch.Tensor, token_mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return logits `(B, n, num_codes)` of all tokens; with several codes per token, of the first code.

        Args:
            token_ids: Codes, `config.motion_mask_token_id` or `config.motion_pad_token_id`, `(B, n)`.
            condition: Conditions, `(B, H)`; zeros are the empty condition.
            token_mask: `(B, n)`, 1 on real tokens; `None` if all are real.
        """
        if self.token_embeddings is not None:
            embeds = self.token_embeddings(token_ids)
        else:
            is_code = token_ids < self.config.num_codes
            # Mask and padding are rows of zeros (T7).
            embeds = self.lamp.motion_vqvae.quantizer.lookup_first(token_ids.where(is_code, 0)) * is_code[..., None]
        return self.masked_transformer(embeds.to(self.dtype), condition.to(self.dtype), token_mask)

    def predict_residuals(
        self,
        motion_codes: torch.Tensor,
        condition: torch.Tensor,
        codebooks: torch.Tensor,
        token_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return logits `(B, n, num_codes)` of the codes of one codebook for each motion.

        Args:
            motion_codes: Codes, `(B, n, K)` or fewer in the last dimension; codes of the codebook to predict and of
                later codebooks are ignored.
            condition: Conditions, `(B, H)`; zeros are the empty condition.
            codebooks: Index of the codebook to predict for each motion, at least 1, `(B,)`.
            token_mask: `(B, n)`, 1 on real tokens; `None` if all are real.

        Raises:
            ValueError: The tokenizer has only one codebook.
        """
        if self.residual_transformer is None:
            raise ValueError("num_quantizers=1: the tokenizer has only one codebook; use predict_tokens")
        order = torch.arange(motion_codes.shape[-1], device=motion_codes.device)
        known = motion_codes.masked_fill(order >= codebooks[:, None, None], IGNORED_CODE)
        quantizer = self.lamp.motion_vqvae.quantizer
        embeds, code_vectors = quantizer.lookup(known), quantizer.code_vectors(codebooks)
        return self.residual_transformer(
            embeds.to(self.dtype), condition.to(self.dtype), codebooks, code_vectors.to(self.dtype), token_mask
        )

    @capture_outputs
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        motion_codes: torch.Tensor | None = None,
        motion_values: torch.Tensor | None = None,
        motion_attention_mask: torch.Tensor | None = None,
        text_hidden_states: torch.Tensor | None = None,
        text_summary: torch.Tensor | None = None,
        condition: torch.Tensor | None = None,
        draws: MaskingDraws | None = None,
        token_targets: torch.Tensor | None = None,
        generator: torch.Generator | None = None,
        return_loss: bool = True,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
    ) -> LampForTextToMotionOutput:
        """Mask tokens of B motions and predict them, and the lengths of the motions, from their texts.

        Args:
            input_ids, attention_mask, text_hidden_states, text_summary: Texts; see [`get_text_condition`].
            condition: Conditions, `(B, H)`, instead of the texts.
            motion_codes: Token ids, `(B, n)`, or `(B, n, K)` with a residual tokenizer.
            motion_values, motion_attention_mask: Motions, instead of `motion_codes`; see [`MotionVQVAEModel`].
            draws: Random numbers that decide which tokens are masked; drawn by default.
            token_targets: Target probabilities of each code, `(B, n, num_codes)`, instead of the codes themselves; with
                a residual tokenizer, of the first codebook.
            generator: Generator of `draws` and of the dropped texts, on the device of the codes.
            return_loss: Whether to compute the losses.
            output_attentions, output_hidden_states: Whether to return those of the masked transformer.

        Raises:
            ValueError: The motion or the text is missing, or a motion is empty or longer than `max_motion_tokens`.

        Example:

        ```python
        >>> import torch
        >>> from lamp_hf import LampForTextToMotion, LampProcessor

        >>> model = LampForTextToMotion.from_pretrained("lamp-small")
        >>> processor = LampProcessor.from_pretrained("lamp-small")
        >>> inputs = processor(text="a person waves")
        >>> output = model(**inputs, motion_codes=torch.randint(model.config.num_codes, (1, 12)))
        >>> output.loss.shape, output.logits.shape == (1, 12, model.config.num_codes)
        (torch.Size([]), True)

        >>> generated = model.generate(**inputs, num_tokens=12, seed=7)
        >>> processor.post_process_motion(generated.motion_values, generated.motion_attention_mask)[0].num_frames
        48

        ```
        """
        if motion_codes is None:
            if motion_values is None:
                raise ValueError("the motion is missing: give motion_codes or motion_values")
            motion_codes = self.lamp.encode_motion(motion_values, motion_attention_mask).motion_codes
        if motion_codes.ndim != (3 if self.config.num_quantizers > 1 else 2):
            raise ValueError(
                f"motion_codes {tuple(motion_codes.shape)} do not fit a tokenizer with "
                f"num_quantizers={self.config.num_quantizers}; give (B, n), or (B, n, num_quantizers) if it is "
                "above 1"
            )
        num_tokens = (first_codes(motion_codes) >= 0).sum(-1)
        if not torch.compiler.is_compiling():  # reading a length would break the graph
            self._check_lengths(num_tokens)
            # Remove columns that are padding in every row: they cost time and change nothing.
            motion_codes = motion_codes[:, : int(num_tokens.max())]
        if condition is None:
            condition = self.get_text_condition(input_ids, attention_mask, text_hidden_states, text_summary)

        first = first_codes(motion_codes)
        if draws is None:
            draws = MaskingDraws.draw(first, self.config.num_codes, generator)
        token_ids, labels = mask_codes(first, draws, self.config.num_codes)
        dropped_condition = condition
        if self.training and self.config.condition_dropout:
            chance = uniform_rows(len(condition), 1, motion_codes.device, generator)
            dropped_condition = condition * (chance >= self.config.condition_dropout).to(condition)
        logits = self.predict_tokens(token_ids, dropped_condition, first >= 0)
        length_logits = None
        if self.length_estimator is not None:
            # The length loss does not change the condition, which is trained for the tokens.
            length_logits = self.length_estimator(condition.detach().to(self.dtype))

        loss = token_loss = residual_loss = length_loss = token_accuracy = None
        if return_loss:
            predicted = labels >= 0
            count = predicted.sum()
            targets = labels if token_targets is None else token_targets[:, : labels.shape[1]].transpose(1, 2)
            errors = F.cross_entropy(logits.float().transpose(1, 2), targets, reduction="none")
            loss = token_loss = global_mean((errors * predicted).sum(), count)
            hits = (logits.detach().argmax(-1) == labels) & predicted
            token_accuracy = hits.sum() / count.clamp(min=1)
            if self.residual_transformer is not None:
                residual_loss = self._residual_loss(motion_codes, dropped_condition, draws)
                loss = loss + residual_loss
            if length_logits is not None:
                total = F.cross_entropy(length_logits.float(), num_tokens - 1, reduction="sum")
                length_loss = global_mean(total, len(num_tokens))
                loss = loss + length_loss
        return LampForTextToMotionOutput(
            loss=loss,
            token_loss=None if token_loss is None else token_loss.detach(),
            residual_loss=None if residual_loss is None else residual_loss.detach(),
            length_loss=None if length_loss is None else length_loss.detach(),
            token_accuracy=token_accuracy,
            logits=logits,
            length_logits=length_logits,
            condition=condition,
        )

    def _residual_loss(self, motion_codes: torch.Tensor, condition: torch.Tensor, draws: MaskingDraws) -> torch.Tensor:
        """Compute the cross-entropy of the codes of one codebook after the first, drawn for each motion."""
        if draws.depth is None:
            raise ValueError("draws.depth is missing: it decides which codebook is predicted; use MaskingDraws.draw")
        codebooks = 1 + (draws.depth * (self.config.num_quantizers - 1)).long()
        logits = self.predict_residuals(motion_codes, condition, codebooks, first_codes(motion_codes) >= 0)
        codes = motion_codes.gather(-1, codebooks[:, None, None].expand(-1, motion_codes.shape[1], 1)).squeeze(-1)
        errors = F.cross_entropy(
            logits.float().flatten(0, 1), codes.flatten(), ignore_index=IGNORED_CODE, reduction="sum"
        )
        return global_mean(errors, (codes >= 0).sum())

    def _check_lengths(self, num_tokens: torch.Tensor) -> None:
        shortest, longest = int(num_tokens.min()), int(num_tokens.max())
        if longest > self.config.max_motion_tokens:
            raise ValueError(
                f"a motion of {longest} tokens is longer than max_motion_tokens={self.config.max_motion_tokens}; "
                "crop it"
            )
        if shortest < 1:
            raise ValueError("a motion has no tokens; every row of motion_codes needs at least one code")
