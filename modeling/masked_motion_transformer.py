"""Transformers that predict motion tokens from a condition and the visible tokens (LaMP, section 3.3)."""

import math

import torch
from torch import nn
from torch.nn import functional as F
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from .configuration_lamp import LampTextToMotionConfig
from .modeling_lamp_qformer import HIDDEN, eager_attention_forward

__all__ = ["MaskedMotionAttention", "MaskedMotionLayer", "MaskedMotionTransformer", "ResidualMotionTransformer"]


def sinusoidal_positions(length: int, size: int, like: torch.Tensor) -> torch.Tensor:
    """Return position vectors `(length, size)`, sines in even columns and cosines in odd ones, in the type of `like`.

    They are computed for each call, so that checkpoints do not need a buffer for them.
    """
    steps = torch.arange(0, size, 2, device=like.device, dtype=torch.float32)
    frequencies = torch.exp(steps * (-math.log(10000.0) / size))
    angles = torch.arange(length, device=like.device, dtype=torch.float32)[:, None] * frequencies
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(1)[:, :size].to(like.dtype)


def attention_bias(kind: str, length: int, token_mask: torch.Tensor | None, like: torch.Tensor) -> torch.Tensor | None:
    """Return the bias of the attention scores of the condition followed by the tokens.

    Args:
        kind: `attention_bias` of the configuration.
        length: Number of tokens n.
        token_mask: `(B, n)`, true on real tokens; `None` if all are real.
        like: Tensor with the type and the device of the bias.

    Returns:
        The bias, `(B or 1, 1, 1 or n + 1, n + 1)`, or `None` if there is no bias.
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
        self.is_causal = False  # all masks are part of the bias
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


class MotionTransformer(nn.Module):
    """Transformer over the condition followed by the tokens; subclasses add a classifier (T3)."""

    def __init__(self, config: LampTextToMotionConfig, num_layers: int):
        super().__init__()
        self.config = config
        width = config.hidden_size
        self.condition_projection = nn.Linear(config.condition_size, width)
        self.token_projection = nn.Linear(config.motion_vqvae_config.code_dim, width)
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(MaskedMotionLayer(config) for _ in range(num_layers))
        self.head = nn.Linear(width, width)
        self.head_norm = nn.LayerNorm(width, eps=config.lamp_config.layer_norm_eps)

    def read(self, token_embeds: torch.Tensor, condition: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """Return the states of all tokens, `(B, n, hidden_size)`.

        Args:
            token_embeds: `(B, n, code_dim)`.
            condition: `(B, hidden_size)`.
            mask: `(B, n)`, 1 on real tokens; `None` if all are real.
        """
        tokens = self.token_projection(token_embeds)
        length, width = tokens.shape[1:]
        tokens = self.dropout(tokens + sinusoidal_positions(length, width, tokens))
        hidden = torch.cat([condition[:, None], tokens], 1)
        if not self.config.mask_token_padding:
            mask = None  # padded tokens are visible, as in the released code (T2)
        bias = attention_bias(self.config.attention_bias, length, mask, hidden)
        for layer in self.layers:
            hidden = layer(hidden, bias)
        return self.head_norm(F.gelu(self.head(hidden[:, 1:])))


class MaskedMotionTransformer(MotionTransformer):
    """Predicts every motion token from the visible tokens and a condition (T3)."""

    def __init__(self, config: LampTextToMotionConfig):
        super().__init__(config, config.num_hidden_layers)
        self.classifier = nn.Linear(config.hidden_size, config.num_codes)

    def forward(
        self, token_embeds: torch.Tensor, condition: torch.Tensor, token_mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return the logits of all tokens, `(B, n, num_codes)`.

        Args:
            token_embeds: `(B, n, code_dim)`.
            condition: `(B, H)`; zeros are the empty condition (T4).
            token_mask: `(B, n)`, 1 on real tokens; `None` if all are real.
        """
        return self.classifier(self.read(token_embeds, self.condition_projection(condition), token_mask))


class CodebookClassifier(nn.Module):
    """Scores the codes of a codebook by the similarity of their vectors with a projection of the state.

    Codes with similar vectors get similar scores before any training, and the classifier needs few parameters.
    """

    def __init__(self, hidden_size: int, code_dim: int, num_codebooks: int, num_codes: int):
        super().__init__()
        self.projection = nn.Linear(hidden_size, code_dim)
        self.biases = nn.Embedding(num_codebooks, num_codes)

    def forward(self, states: torch.Tensor, code_vectors: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Return logits `(B, n, num_codes)`.

        Args:
            states: `(B, n, hidden_size)`.
            code_vectors: Vectors of the codes of each motion's codebook, `(B, num_codes, code_dim)`.
            rows: Bias of each motion's codebook, `(B,)`.
        """
        vectors = F.rms_norm(code_vectors, code_vectors.shape[1:])  # those of later codebooks are shorter
        return self.projection(states) @ vectors.transpose(1, 2) + self.biases(rows)[:, None]


class ResidualMotionTransformer(MotionTransformer):
    """Predicts the codes of one codebook of a residual tokenizer from the codes of the codebooks before it.

    After the residual transformer of MoMask (Guo et al., CVPR 2024, section 3.3). The masked transformer predicts the
    first codebook.
    """

    def __init__(self, config: LampTextToMotionConfig):
        super().__init__(config, config.num_residual_hidden_layers)
        self.codebook_embeddings = nn.Embedding(config.num_quantizers - 1, config.hidden_size)
        self.classifier = CodebookClassifier(
            config.hidden_size, config.motion_vqvae_config.code_dim, config.num_quantizers - 1, config.num_codes
        )

    def forward(
        self,
        token_embeds: torch.Tensor,
        condition: torch.Tensor,
        codebooks: torch.Tensor,
        code_vectors: torch.Tensor,
        token_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the logits of all codes of one codebook for each motion, `(B, n, num_codes)`.

        Args:
            token_embeds: Sum of the code vectors of the codebooks before it, `(B, n, code_dim)`.
            condition: `(B, H)`; zeros are the empty condition.
            codebooks: Index of the codebook to predict for each motion, at least 1, `(B,)`.
            code_vectors: Vectors of the codes of that codebook, `(B, num_codes, code_dim)`.
            token_mask: `(B, n)`, 1 on real tokens; `None` if all are real.
        """
        rows = codebooks - 1
        condition = self.condition_projection(condition) + self.codebook_embeddings(rows)
        return self.classifier(self.read(token_embeds, condition, token_mask), code_vectors, rows)
