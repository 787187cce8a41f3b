"""Text to motion: a masked transformer over motion tokens, told by LaMP what a text says (section 3.3)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self, cast

import torch
from torch import nn
from torch.nn import functional as F
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.utils.generic import ModelOutput
from transformers.utils.output_capturing import capture_outputs

from .base_lamp import LampBaseModel
from .configuration_lamp import LampTextToMotionConfig
from .distributed import global_mean, uniform_rows
from .generation_lamp import MaskedMotionGenerationConfig, MaskedMotionGenerationMixin
from .modeling_lamp import LampEmbeddingsMixin, LampModel
from .modeling_lamp_qformer import HIDDEN, eager_attention_forward
from .motion_quantizers import IGNORED_CODE

__all__ = [
    "LampForTextToMotion",
    "LampForTextToMotionOutput",
    "MaskedMotionTransformer",
    "MaskingDraws",
    "MotionLengthEstimator",
    "mask_codes",
]

# Of the tokens to be guessed, this share shows a random code, and of the others this share shows the mask
# (T5).
RANDOM_SHARE = 0.1
MASK_SHARE = 0.88


@dataclass
class LampForTextToMotionOutput(ModelOutput):
    """Result of [`LampForTextToMotion`].

    Args:
        loss: Sum of the two losses below, `()`; without a length estimator, the first.
        token_loss: Cross-entropy of the masked tokens, `()`.
        length_loss: Cross-entropy of the number of tokens, `()`.
        token_accuracy: Share of the masked tokens whose likeliest code is the right one, `()`.
        logits: Of each token, `(B, n, num_codes)`.
        length_logits: Of each number of tokens, from 1, `(B, max_motion_tokens)`.
        condition: What the texts said, `(B, H)`.
        hidden_states: With `output_hidden_states`, what the masked transformer's first layer is given and what each
            layer gives, `(B, 1 + n, hidden_size)`; the condition comes before the tokens.
        attentions: With `output_attentions` and `attn_implementation="eager"`, of each layer
            `(B, heads, 1 + n, 1 + n)`.
    """

    loss: torch.Tensor | None = None
    token_loss: torch.Tensor | None = None
    length_loss: torch.Tensor | None = None
    token_accuracy: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    length_logits: torch.Tensor | None = None
    condition: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


def sinusoidal_positions(length: int, size: int, like: torch.Tensor) -> torch.Tensor:
    """Position vectors `(length, size)`: sines in even places, cosines in odd ones, in the type of `like`.

    Computed where used: a table kept in a buffer would have to be saved or restored with every checkpoint.
    """
    steps = torch.arange(0, size, 2, device=like.device, dtype=torch.float32)
    frequencies = torch.exp(steps * (-math.log(10000.0) / size))
    angles = torch.arange(length, device=like.device, dtype=torch.float32)[:, None] * frequencies
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(1)[:, :size].to(like.dtype)


def attention_bias(kind: str, length: int, token_mask: torch.Tensor | None, like: torch.Tensor) -> torch.Tensor | None:
    """What is added to the attention scores of the condition followed by the tokens.

    Args:
        kind: `attention_bias` of the configuration.
        length: Number of tokens n.
        token_mask: `(B, n)`, true on real tokens; `None`: all are.
        like: Gives type and device.

    Returns:
        `(B or 1, 1, 1 or n + 1, n + 1)`, or `None` where nothing is to be added.
    """
    size = length + 1
    past = torch.ones(size, size, dtype=torch.bool, device=like.device).tril()
    bias: torch.Tensor | None = None
    if kind == "causal":
        bias = (~past).to(like.dtype)[None, None] * HIDDEN
    elif kind == "soft_causal":
        bias = past.to(like.dtype)[None, None]  # the released code adds its 0/1 mask to the scores (T1)
    if token_mask is not None:
        padding = (~F.pad(token_mask.bool(), (1, 0), value=True)).to(like.dtype)[:, None, None] * HIDDEN
        bias = padding if bias is None else bias + padding
    return bias


class MaskedMotionAttention(nn.Module):
    """Self-attention over the condition and the tokens."""

    def __init__(self, config: LampTextToMotionConfig):
        super().__init__()
        self.config = config
        self.head_size = config.hidden_size // config.num_attention_heads
        self.scaling = self.head_size**-0.5
        self.dropout = config.dropout
        self.is_causal = False  # whatever is hidden is in the bias
        self.qkv = nn.Linear(config.hidden_size, 3 * config.hidden_size)
        self.out_proj = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, hidden: torch.Tensor, bias: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor | None]:
        batch, size, width = hidden.shape
        qkv = self.qkv(hidden).view(batch, size, 3, -1, self.head_size).permute(2, 0, 3, 1, 4)
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention_forward)
        output, weights = attend(
            self,
            qkv[0],
            qkv[1],
            qkv[2],
            bias,
            dropout=self.dropout if self.training else 0.0,
            scaling=self.scaling,
            is_causal=False,
        )
        return self.out_proj(output.reshape(batch, size, width)), weights


class MaskedMotionLayer(GradientCheckpointingLayer):
    """Attention and feed-forward, each followed by the sum with its input and a LayerNorm (T3)."""

    def __init__(self, config: LampTextToMotionConfig):
        super().__init__()
        self.attention = MaskedMotionAttention(config)
        self.attention_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size)
        self.output_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, hidden: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        hidden = self.attention_norm(hidden + self.dropout(self.attention(hidden, bias)[0]))
        inner = self.fc2(self.dropout(F.gelu(self.fc1(hidden))))
        return self.output_norm(hidden + self.dropout(inner))


class MaskedMotionTransformer(nn.Module):
    """Guesses every motion token from the tokens it sees and a condition (T3)."""

    def __init__(self, config: LampTextToMotionConfig):
        super().__init__()
        self.config = config
        lamp_config, width = config.lamp_config, config.hidden_size
        self.condition_projection = nn.Linear(lamp_config.hidden_size, width)
        self.token_projection = nn.Linear(config.motion_vqvae_config.code_dim, width)
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(MaskedMotionLayer(config) for _ in range(config.num_hidden_layers))
        self.head = nn.Linear(width, width)
        self.head_norm = nn.LayerNorm(width, eps=lamp_config.layer_norm_eps)
        self.classifier = nn.Linear(width, config.num_codes)

    def forward(
        self, token_embeds: torch.Tensor, condition: torch.Tensor, token_mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Logits of all tokens.

        Args:
            token_embeds: `(B, n, code_dim)`.
            condition: `(B, H)`; zeros are the empty condition (T4).
            token_mask: `(B, n)`, 1 on real tokens; `None`: all are.

        Returns:
            `(B, n, num_codes)`.
        """
        tokens = self.token_projection(token_embeds)
        length, width = tokens.shape[1:]
        tokens = self.dropout(tokens + sinusoidal_positions(length, width, tokens))
        hidden = torch.cat([self.condition_projection(condition)[:, None], tokens], 1)
        if not self.config.mask_token_padding:
            token_mask = None  # padded tokens are seen, as in the released code (T2)
        bias = attention_bias(self.config.attention_bias, length, token_mask, hidden)
        for layer in self.layers:
            hidden = layer(hidden, bias)
        return self.classifier(self.head_norm(F.gelu(self.head(hidden[:, 1:]))))


class MotionLengthEstimator(nn.Module):
    """Number of motion tokens that suits a condition, as a class from 1: nothing is never an answer.

    Args:
        input_size: Size of a condition.
        hidden_sizes: Widths of the hidden layers.
        max_tokens: Largest number of tokens.
        dropout: While training.
    """

    def __init__(self, input_size: int, hidden_sizes: Sequence[int], max_tokens: int, dropout: float):
        super().__init__()
        layers: list[nn.Module] = []
        for width in hidden_sizes:
            layers += [nn.Linear(input_size, width), nn.LayerNorm(width), nn.LeakyReLU(0.2)]
            layers.append(nn.Dropout(dropout))
            input_size = width
        self.layers = nn.Sequential(*layers)
        self.classifier = nn.Linear(input_size, max_tokens)

    def forward(self, condition: torch.Tensor) -> torch.Tensor:
        """Logits `(B, max_tokens)` of 1, 2, … tokens for conditions `(B, input_size)`."""
        return self.classifier(self.layers(condition))

    def num_tokens(self, condition: torch.Tensor) -> torch.Tensor:
        """Median `(B,)` of the predicted distribution: steadier than its mode."""
        shares = self(condition).float().softmax(-1).cumsum(-1)
        return (shares < 0.5).sum(-1).clamp(max=shares.shape[-1] - 1) + 1


@dataclass
class MaskingDraws:
    """Random numbers that hide tokens in training, uniform in [0, 1) but for `codes`.

    Args:
        time: Decides how many tokens of a clip are guessed, `(B,)`.
        order: The tokens with the lowest numbers are, `(B, n)`.
        replace: Below `RANDOM_SHARE`, a token to be guessed shows a random code, `(B, n)`.
        hide: Below `MASK_SHARE`, another one shows the mask, else itself, `(B, n)`.
        codes: Random codes, `(B, n)`.
    """

    time: torch.Tensor
    order: torch.Tensor
    replace: torch.Tensor
    hide: torch.Tensor
    codes: torch.Tensor

    @classmethod
    def draw(
        cls, motion_codes: torch.Tensor, num_codes: int, generator: torch.Generator | None = None
    ) -> "MaskingDraws":
        """Numbers for codes `(B, n)`, by [`uniform_rows`]; the generator lives on their device."""
        rows, length = motion_codes.shape
        time, order, replace, hide, codes = (
            uniform_rows(rows, columns, motion_codes.device, generator)
            for columns in (1, length, length, length, length)
        )
        return cls(time[:, 0], order, replace, hide, (codes * num_codes).long())


def masked_mean(states: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Mean `(B, H)` of states `(B, L, H)` where `mask` `(B, L)` is 1; `None`: of all."""
    if mask is None:
        return states.mean(1)
    weights = mask.to(states.dtype)[..., None]
    return (states * weights).sum(1) / weights.sum(1)


def mask_codes(motion_codes: torch.Tensor, draws: MaskingDraws, num_codes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Hide tokens by the recipe of BERT and a cosine schedule (T5).

    How many tokens of a clip are guessed follows from its own length, not from the batch's as in the released
    code: padding changes nothing.

    Args:
        motion_codes: `(B, n)`, negative on padding.
        draws: Random numbers.
        num_codes: Of the tokenizer; the mask's id is this, the padding's one more.

    Returns:
        Token ids to show `(B, n)`, and the codes to guess, -100 elsewhere, `(B, n)`.
    """
    real = motion_codes >= 0
    share = torch.cos(draws.time * math.pi / 2)
    count = (real.sum(-1) * share).round().clamp(min=1)
    order = draws.order.masked_fill(~real, torch.inf)
    guessed = (order.argsort(-1).argsort(-1) < count[:, None]) & real
    random = guessed & (draws.replace < RANDOM_SHARE)
    hidden = guessed & ~random & (draws.hide < MASK_SHARE)
    ids = motion_codes.masked_fill(~real, num_codes + 1)
    ids = torch.where(random, draws.codes, ids).masked_fill(hidden, num_codes)
    return ids, motion_codes.masked_fill(~guessed, IGNORED_CODE)


class LampForTextToMotion(LampEmbeddingsMixin, LampBaseModel, MaskedMotionGenerationMixin):
    """Makes motions from texts: a frozen [`LampModel`], and on it what turns a text into motion tokens.

    Texts come as `input_ids` and `attention_mask` `(B, L)`; motions as token ids `motion_codes` `(B, n)`,
    -100 on padding, which is on the right. Below, H is LaMP's hidden size. A checkpoint holds all of LaMP and
    its motion tokenizer: `LampModel.from_pretrained` reads the same files.
    """

    config: LampTextToMotionConfig
    config_class = LampTextToMotionConfig
    _keys_to_ignore_on_load_unexpected = [r"^reference_token_ids$"]  # lamp-small holds them still; nothing reads them
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
    _can_record_outputs = {"hidden_states": MaskedMotionLayer, "attentions": MaskedMotionAttention}

    def __init__(self, config: LampTextToMotionConfig):
        super().__init__(config)
        lamp_config = config.lamp_config
        self.lamp = cast(LampModel, LampModel._from_config(lamp_config))
        self.text_to_condition = nn.Linear(lamp_config.hidden_size, lamp_config.motion_hidden_size)
        self.words_to_condition = (
            nn.Linear(lamp_config.hidden_size, lamp_config.hidden_size) if config.condition_on_words else None
        )
        # Frozen embeddings are the tokenizer's codebook and are not stored a second time (T7).
        self.token_embeddings = (
            nn.Embedding(config.num_codes + 2, config.motion_vqvae_config.code_dim)
            if config.train_token_embeddings
            else None
        )
        self.masked_transformer = MaskedMotionTransformer(config)
        self.length_estimator = None
        if config.length_hidden_sizes is not None:
            self.length_estimator = MotionLengthEstimator(
                lamp_config.hidden_size,
                config.length_hidden_sizes,
                config.max_motion_tokens,
                float(config.dropout),
            )
        self.post_init()
        self._freeze()

    @classmethod
    def from_lamp(cls, lamp: LampModel, **values: Any) -> "LampForTextToMotion":
        """A new model on a pretrained LaMP, of which it holds a copy.

        Args:
            lamp: Supplies all of LaMP, and the start of `text_to_condition`, its `text_to_states`.
            values: Of [`LampTextToMotionConfig`], other than `lamp_config`.
        """
        model = cls(LampTextToMotionConfig(lamp_config=lamp.config.to_dict(), **values))
        model.lamp.load_state_dict(lamp.state_dict())
        with torch.no_grad():
            model.text_to_condition.weight.copy_(lamp.text_to_states.weight)
            model.text_to_condition.bias.zero_()
            if model.token_embeddings is not None:
                model.token_embeddings.weight.zero_()
                codes = torch.arange(model.config.num_codes, device=lamp.device)
                model.token_embeddings.weight[: model.config.num_codes] = lamp.motion_vqvae.quantizer.lookup(codes)
        return model

    def _freeze(self) -> None:
        self.lamp.requires_grad_(False)
        self.lamp.eval()  # the released code trains with LaMP's dropout on (T6)

    def train(self, mode: bool = True) -> Self:
        """Set training mode; LaMP stays frozen and in evaluation mode."""
        super().train(mode)
        self._freeze()
        return self

    def get_text_condition(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        text_hidden_states: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Condition `(B, H)`: the mean of LaMP's queries after they have read the text (T4).

        With `config.condition_on_words`, a projection of the words' mean is added.

        Args:
            input_ids, attention_mask: Texts, `(B, L)`.
            text_hidden_states: `(B, L, H)`, what `LampModel.encode_text` gave for them, in place of
                `input_ids`; it never changes in training.
        """
        if text_hidden_states is None:
            if input_ids is None:
                raise ValueError("a text is missing: give input_ids, text_hidden_states or condition")
            with torch.no_grad():
                text_hidden_states = self.lamp.encode_text(input_ids, attention_mask)
        text_hidden_states = text_hidden_states.to(self.dtype)
        condition = self.lamp.query_text(self.text_to_condition(text_hidden_states), attention_mask).mean(1)
        if self.words_to_condition is not None:
            condition = condition + self.words_to_condition(masked_mean(text_hidden_states, attention_mask))
        return condition

    def predict_tokens(
        self, token_ids: torch.Tensor, condition: torch.Tensor, token_mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Logits `(B, n, num_codes)` of all tokens.

        Args:
            token_ids: `(B, n)`, codes, or `config.mask_token_id`, or `config.pad_token_id_motion`.
            condition: `(B, H)`; zeros are the empty condition.
            token_mask: `(B, n)`, 1 on real tokens; `None`: all are.
        """
        if self.token_embeddings is not None:
            embeds = self.token_embeddings(token_ids)
        else:
            is_code = token_ids < self.config.num_codes
            # Mask and padding are rows of zeros (T7).
            embeds = self.lamp.motion_vqvae.quantizer.lookup(token_ids.where(is_code, 0)) * is_code[..., None]
        return self.masked_transformer(embeds.to(self.dtype), condition.to(self.dtype), token_mask)

    @capture_outputs
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        motion_codes: torch.Tensor | None = None,
        motion_values: torch.Tensor | None = None,
        motion_attention_mask: torch.Tensor | None = None,
        text_hidden_states: torch.Tensor | None = None,
        condition: torch.Tensor | None = None,
        draws: MaskingDraws | None = None,
        token_targets: torch.Tensor | None = None,
        generator: torch.Generator | None = None,
        return_loss: bool = True,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
    ) -> LampForTextToMotionOutput:
        """Hide tokens of B motions and guess them from their texts; guess their lengths.

        Args:
            input_ids, attention_mask, text_hidden_states: The texts, as in [`get_text_condition`].
            condition: `(B, H)`, in place of the texts.
            motion_codes: Token ids, `(B, n)`.
            motion_values, motion_attention_mask: Motions in place of `motion_codes`, as in
                [`MotionVQVAEModel`].
            draws: Random numbers that hide tokens; drawn if not given.
            token_targets: How likely each code is, in place of `motion_codes` as the one that is to be guessed,
                `(B, n, num_codes)`.
            generator: Draws `draws`, and which texts are dropped; it lives on the codes' device.
            return_loss: Compute the losses.
            output_attentions, output_hidden_states: Return those of the masked transformer too.

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

        >>> made = model.generate(**inputs, num_tokens=12, seed=7)
        >>> processor.post_process_motion(made.motion_values, made.motion_attention_mask)[0].num_frames
        48

        ```
        """
        if motion_codes is None:
            if motion_values is None:
                raise ValueError("motions are missing: give motion_codes or motion_values")
            motion_codes = self.lamp.encode_motion(motion_values, motion_attention_mask).motion_codes
        num_tokens = (motion_codes >= 0).sum(-1)
        if not torch.compiler.is_compiling():  # to read a length would break the graph
            self._check_lengths(num_tokens)
            # Columns that all motions leave empty cost time and change nothing.
            motion_codes = motion_codes[:, : int(num_tokens.max())]
        if condition is None:
            condition = self.get_text_condition(input_ids, attention_mask, text_hidden_states)

        if draws is None:
            draws = MaskingDraws.draw(motion_codes, self.config.num_codes, generator)
        token_ids, labels = mask_codes(motion_codes, draws, self.config.num_codes)
        shown = condition
        if self.training and self.config.condition_dropout:
            chance = uniform_rows(len(condition), 1, motion_codes.device, generator)
            shown = condition * (chance >= self.config.condition_dropout).to(condition)
        logits = self.predict_tokens(token_ids, shown, motion_codes >= 0)
        length_logits = None
        if self.length_estimator is not None:
            # The length is learned from the condition as it is: its loss does not bend what the tokens need.
            length_logits = self.length_estimator(condition.detach().to(self.dtype))

        loss = token_loss = length_loss = token_accuracy = None
        if return_loss:
            guessed = labels >= 0
            count = guessed.sum()
            targets = labels if token_targets is None else token_targets[:, : labels.shape[1]].transpose(1, 2)
            errors = F.cross_entropy(logits.float().transpose(1, 2), targets, reduction="none")
            loss = token_loss = global_mean((errors * guessed).sum(), count)
            hits = (logits.detach().argmax(-1) == labels) & guessed
            token_accuracy = hits.sum() / count.clamp(min=1)
            if length_logits is not None:
                total = F.cross_entropy(length_logits.float(), num_tokens - 1, reduction="sum")
                length_loss = global_mean(total, len(num_tokens))
                loss = token_loss + length_loss
        return LampForTextToMotionOutput(
            loss=loss,
            token_loss=None if token_loss is None else token_loss.detach(),
            length_loss=None if length_loss is None else length_loss.detach(),
            token_accuracy=token_accuracy,
            logits=logits,
            length_logits=length_logits,
            condition=condition,
        )

    def _check_lengths(self, num_tokens: torch.Tensor) -> None:
        shortest, longest = int(num_tokens.min()), int(num_tokens.max())
        if longest > self.config.max_motion_tokens:
            raise ValueError(
                f"a motion of {longest} tokens is longer than max_motion_tokens={self.config.max_motion_tokens}: "
                "crop it"
            )
        if shortest < 1:
            raise ValueError("a motion without tokens: every row of motion_codes needs at least one code")
