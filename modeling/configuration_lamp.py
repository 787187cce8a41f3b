"""Configurations of the lamp_hf models; every default is the paper's size.

Values that exist only to reproduce the authors' released code name the fact they reproduce (V1, L6, T1 …);
their defaults are what lamp_hf does on its own.
"""

import math
from typing import Any, Literal

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig
from transformers.configuration_utils import SubConfigSpec

from .base_lamp import LampBaseConfig

__all__ = [
    "LampCaptioningConfig",
    "LampConfig",
    "LampTextToMotionConfig",
    "MotionLengthEstimatorConfig",
    "MotionTextEvaluatorConfig",
    "MotionVQVAEConfig",
]


@strict
class MotionVQVAEConfig(LampBaseConfig):
    """Configuration of [`MotionVQVAEModel`], the motion tokenizer (after T2M-GPT, section 3.1).

    Args:
        motion_dim: Numbers per frame: 263 (HumanML3D) or 251 (KIT-ML).
        hidden_size: Width of the convolutions.
        code_dim: Size of one codebook vector.
        num_codes: Vectors in the codebook; with `scalar_levels`, their product.
        num_quantizers: Codebooks. Above 1 (residual quantization, as in MoMask) each quantizes what those before it
            left over, and a token has as many codes. LaMP and the masked transformer read one code a token: they refuse
            such a tokenizer.
        quantizer_dropout: Share of training clips of which only the first few codebooks, one at least, are used, so
            that these alone give a motion too.
        scalar_levels: Finite scalar quantization (Mentzer et al., 2023): a latent becomes as many numbers, each with
            so many levels, and a token is the number of their combination; e.g. `[8, 5, 5, 5]` for 1000 codes. `None`:
            a codebook.
        num_downsampling_layers: Stride-2 stages; a token covers `2 ** num_downsampling_layers` frames.
        num_residual_layers: Residual blocks per stage.
        dilation_growth_rate: Dilation grows by this factor from block to block, largest first (V3).
        dropout: Inside residual blocks, while training.
        ema_decay: Decay of the codebook's moving averages.
        code_reset_threshold: A code whose averaged count falls below this is replaced by a row of the batch.
        reconstruction_loss_weight, position_loss_weight, velocity_loss_weight: Weights of the smooth-L1 terms
            over all features, over the joint positions alone (V5), and over frame-to-frame differences.
        trajectory_loss_weight: Weight of the smooth-L1 term over the running sums of the root's turn and of its steps:
            an error in them, small in each frame, adds up to a wrong heading.
        commitment_loss_weight: Weight of the commitment loss.
        freeze_tokens: Encoder and codebook stay as they are, so that whatever knows the tokens remains valid, and only
            the decoder learns.
        freeze_encoder: The encoder stays as it is, so that whatever reads latents, as LaMP does, remains valid;
            codebook and decoder learn.
    """

    model_type = "motion_vqvae"
    base_config_key = "motion_vqvae_config"

    motion_dim: int = 263
    hidden_size: int = 512
    code_dim: int = 512
    num_codes: int = 512
    num_quantizers: int = 1
    quantizer_dropout: float | int = 0.0
    scalar_levels: list[int] | tuple[int, ...] | None = None
    num_downsampling_layers: int = 2
    num_residual_layers: int = 3
    dilation_growth_rate: int = 3
    dropout: float | int = 0.2
    ema_decay: float | int = 0.99
    code_reset_threshold: float | int = 1.0
    reconstruction_loss_weight: float | int = 1.0
    position_loss_weight: float | int = 0.5
    velocity_loss_weight: float | int = 0.5
    trajectory_loss_weight: float | int = 0.0
    commitment_loss_weight: float | int = 0.02
    freeze_tokens: bool = False
    freeze_encoder: bool = False
    initializer_range: float | int = 0.02

    @property
    def frames_per_token(self) -> int:
        """Frames that one token stands for."""
        return 2**self.num_downsampling_layers

    @property
    def num_joints(self) -> int:
        """Joints of the skeleton: a frame holds `12 * joints - 1` numbers."""
        return (self.motion_dim + 1) // 12

    def validate_architecture(self) -> None:
        """Part of strict validation: sizes that cannot work are refused by name and value."""
        if (self.motion_dim + 1) % 12:
            raise ValueError(
                f"motion_dim={self.motion_dim} is not 12 * joints - 1; use 263 (HumanML3D) or 251 (KIT-ML)"
            )
        if self.num_quantizers < 1:
            raise ValueError(f"num_quantizers={self.num_quantizers} is below 1")
        if not 0 <= self.quantizer_dropout <= 1:
            raise ValueError(f"quantizer_dropout={self.quantizer_dropout} is outside [0, 1]")
        if self.quantizer_dropout and self.num_quantizers == 1:
            raise ValueError(
                f"quantizer_dropout={self.quantizer_dropout} leaves codebooks out, and num_quantizers=1 has one alone"
            )
        if self.scalar_levels is not None:
            self._validate_levels(list(self.scalar_levels))

    def _validate_levels(self, levels: list[int]) -> None:
        if self.num_quantizers > 1:
            raise ValueError(
                f"scalar_levels={levels} and num_quantizers={self.num_quantizers} do not go together: choose one"
            )
        if not levels or min(levels) < 2:
            raise ValueError(f"scalar_levels={levels} must be numbers of levels of 2 or more")
        if (product := math.prod(levels)) != self.num_codes:
            raise ValueError(
                f"scalar_levels={levels} make {product} codes, not num_codes={self.num_codes}: set num_codes={product}"
            )


@strict
class LampConfig(LampBaseConfig):
    """Configuration of [`LampModel`]: a Q-Former that reads motion and text (LaMP, section 3.2).

    Args:
        vocab_size: Word pieces, `[DEC]` included (30522 of BERT and one more).
        bos_token_id: Id of `[DEC]`, which starts a caption that the model writes.
        eos_token_id: Id of `[SEP]`, which ends it.
        hidden_size, num_hidden_layers, num_attention_heads, intermediate_size: As in BERT.
        query_intermediate_size: Width of the queries' own feed-forward; `None` means `intermediate_size`.
        cross_attention_frequency: Every n-th layer, from the first, cross-attends to motion.
        num_query_tokens: Learned queries: as many as the motion tokens of the longest clip (49 × 4 = 196 frames).
        motion_hidden_size: Width to which motion features are projected before cross-attention.
        projection_dim: Size of the shared space of the contrastive task.
        max_text_length: Word pieces that a caption may have, special tokens included.
        label_smoothing: In the contrastive and the two generative losses, none in matching (L7).
        logit_scale_init_value: Start of the learned log temperature, ln(1/0.07) (L3).
        mask_motion_padding: `False` lets padded frames be seen, as the released code does (L6).
        mask_text_padding: `False` lets padded words be seen in the text condition, as released (T4).
        contrastive_targets: What belongs together in the contrastive loss. `"equal_pairs"`: each pair, and pairs of
            equal captions, of equal motions, or of one `pair_groups` number, among which the target is spread evenly.
            `"diagonal"`: each motion and its own caption alone, as in the released code.
        separate_motion_encoder: `True` keeps a motion encoder apart from the tokenizer's: the released
            checkpoints hold two with different weights (L1).
        freeze_word_embeddings: Word embeddings, and the tied output layer, stay as pretrained.
    """

    model_type = "lamp"
    base_config_key = "lamp_config"
    checkpoint_types = ("lamp", "lamp_text_to_motion")
    sub_configs_defaults = {"motion_vqvae_config": SubConfigSpec(MotionVQVAEConfig)}

    motion_vqvae_config: Any = None  # a MotionVQVAEConfig, or its values
    vocab_size: int = 30523
    pad_token_id: int | None = 0
    bos_token_id: int | None = 30522
    eos_token_id: int | None = 102
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    query_intermediate_size: int | None = None
    cross_attention_frequency: int = 2
    max_position_embeddings: int = 512
    hidden_dropout_prob: float | int = 0.1
    attention_probs_dropout_prob: float | int = 0.1
    layer_norm_eps: float = 1e-12
    num_query_tokens: int = 49
    motion_hidden_size: int = 1408
    projection_dim: int = 512
    max_text_length: int = 32
    label_smoothing: float | int = 0.1
    logit_scale_init_value: float | int = 2.6592
    mask_motion_padding: bool = True
    mask_text_padding: bool = True
    contrastive_targets: Literal["equal_pairs", "diagonal"] = "equal_pairs"
    separate_motion_encoder: bool = False
    freeze_word_embeddings: bool = False
    initializer_range: float | int = 0.02
    tie_word_embeddings: bool = True

    def validate_architecture(self) -> None:
        """Part of strict validation: sizes that cannot work are refused by name and value."""
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size={self.hidden_size} is not a multiple of num_attention_heads={self.num_attention_heads}"
            )
        if self.max_text_length > self.max_position_embeddings:
            raise ValueError(
                f"max_text_length={self.max_text_length} exceeds max_position_embeddings={self.max_position_embeddings}"
            )
        if isinstance(tokenizer := self.motion_vqvae_config, MotionVQVAEConfig) and tokenizer.num_quantizers > 1:
            raise ValueError(
                f"the motion tokenizer has num_quantizers={tokenizer.num_quantizers}, several codes a token; LaMP and "
                "the masked transformer read one: train a tokenizer with num_quantizers=1, or with scalar_levels"
            )


@strict
class LampTextToMotionConfig(LampBaseConfig):
    """Configuration of [`LampForTextToMotion`]: a masked transformer over motion tokens (LaMP, section 3.3).

    Args:
        hidden_size, num_hidden_layers, num_attention_heads, intermediate_size, dropout: The masked transformer.
        attention_bias: `"causal"` (paper), `"none"`, or `"soft_causal"`, which adds 1 to the scores of past
            and present as the released code does (T1).
        mask_token_padding: `False` lets padded tokens be seen, as the released code does (T2).
        condition_dropout: Share of training captions replaced by the empty condition, for guidance.
        condition_on_words: Adds a learned projection of the mean word state to the condition. The paper has the
            queries alone; a small LaMP's forget what matters less to its own tasks, such as the style.
        train_token_embeddings: `False` keeps the token embeddings equal to the VQ-VAE's codebook (T7).
        max_motion_tokens: Longest sequence generated in one piece (49 tokens are 196 frames).
        length_hidden_sizes: Hidden layers of the length estimator; `None`: there is none, and every motion is asked for
            with its length. The released one reads features of another text encoder and is a model of its own.
    """

    model_type = "lamp_text_to_motion"
    sub_configs_defaults = {"lamp_config": SubConfigSpec(LampConfig)}

    lamp_config: Any = None  # a LampConfig, or its values
    hidden_size: int = 512
    num_hidden_layers: int = 8
    num_attention_heads: int = 8
    intermediate_size: int = 1024
    dropout: float | int = 0.2
    layer_norm_eps: float = 1e-5
    attention_bias: Literal["causal", "soft_causal", "none"] = "causal"
    mask_token_padding: bool = True
    condition_dropout: float | int = 0.1
    condition_on_words: bool = False
    train_token_embeddings: bool = False
    max_motion_tokens: int = 49
    length_hidden_sizes: list[int] | tuple[int, ...] | None = (512, 256, 128)
    initializer_range: float | int = 0.02

    def get_text_config(self, decoder: bool | None = None, encoder: bool | None = None) -> LampConfig:
        """The part that knows words: LaMP's. Resized word embeddings change its `vocab_size`."""
        return self.lamp_config

    @property
    def motion_vqvae_config(self) -> MotionVQVAEConfig:
        """Configuration of the motion tokenizer inside LaMP."""
        return self.lamp_config.motion_vqvae_config

    @property
    def num_codes(self) -> int:
        """Motion tokens, without mask and padding."""
        return self.motion_vqvae_config.num_codes

    @property
    def mask_token_id(self) -> int:
        """Id of the mask token: one after the last code."""
        return self.num_codes

    @property
    def pad_token_id_motion(self) -> int:
        """Id of the padding token: two after the last code."""
        return self.num_codes + 1

    def validate_architecture(self) -> None:
        """Part of strict validation: sizes that cannot work are refused by name and value."""
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size={self.hidden_size} is not a multiple of num_attention_heads={self.num_attention_heads}"
            )


@strict
class LampCaptioningConfig(LampBaseConfig):
    """Configuration of [`LampForMotionCaptioning`]: a language model that LaMP tells of motions (LaMP, section 3.4).

    Args:
        lamp_config: Of the LaMP that reads the motions.
        lamp_name: Folder, Hub id or embedded name of that LaMP, which stays frozen and is not stored again.
            `None`: LaMP is part of this model, learns along as in the paper, and is saved with it.
        language_model_config: Of the language model that writes the captions.
        language_model_name: Folder or Hub id of its pretrained weights, which are not stored again. `None`: they
            are saved with this model.
        lora_rank, lora_alpha, lora_dropout: Of the adapter in the language model; rank 0 means no adapter.
        lora_target_modules: Layers that the adapter changes; `None` lets peft choose by the model's type.
        bos_token_id: Begins every caption; `None`: nothing does.
        eos_token_id: Ends it: a line break in the released code.
        max_text_length: Tokens of a caption, its beginning and end included.
    """

    model_type = "lamp_captioning"
    sub_configs_defaults = {
        "lamp_config": SubConfigSpec(LampConfig),
        "language_model_config": SubConfigSpec(AutoConfig, model_type="opt"),
    }

    lamp_config: Any = None  # a LampConfig, or its values
    lamp_name: str | None = None
    language_model_config: Any = None  # a configuration that AutoConfig knows, or its values
    language_model_name: str | None = None
    lora_rank: int = 16
    lora_alpha: float | int = 32
    lora_dropout: float | int = 0.05
    lora_target_modules: list[str] | tuple[str, ...] | None = ("q_proj", "v_proj")
    bos_token_id: int | None = 2
    eos_token_id: int | None = 50118
    pad_token_id: int | None = 1
    max_text_length: int = 32
    initializer_range: float | int = 0.02

    def get_text_config(self, decoder: bool | None = None, encoder: bool | None = None) -> Any:
        """The part that knows words: the language model's. Resized word embeddings change its `vocab_size`."""
        return self.language_model_config.get_text_config(decoder=decoder, encoder=encoder)

    @property
    def embedding_size(self) -> int:
        """Size of the language model's word embeddings, and so of its soft prompt."""
        text_config = self.get_text_config(decoder=True)
        return getattr(text_config, "word_embed_proj_dim", None) or text_config.hidden_size


@strict
class MotionLengthEstimatorConfig(LampBaseConfig):
    """Configuration of [`MotionLengthEstimatorModel`], which tells how long a motion is from features of its text.

    Args:
        input_size: Size of a text's features.
        hidden_sizes: Hidden layers.
        max_motion_tokens: Largest number of tokens.
        frames_per_token: Frames that a token stands for.
        dropout: While training.
        text_encoder_name: Hub id of the model whose projected text features go in.
    """

    model_type = "motion_length_estimator"

    input_size: int = 512
    hidden_sizes: list[int] | tuple[int, ...] = (512, 256, 128)
    max_motion_tokens: int = 49
    frames_per_token: int = 4
    dropout: float | int = 0.2
    text_encoder_name: str | None = "openai/clip-vit-base-patch32"


@strict
class MotionTextEvaluatorConfig(LampBaseConfig):
    """Configuration of [`MotionTextEvaluatorModel`], the networks that judge generated motions (T2M, section 5.1).

    Args:
        motion_dim: Numbers per frame: 263 (HumanML3D) or 251 (KIT-ML); the last four, foot contacts, are not read.
        movement_hidden_size, movement_size: Widths of the first and the second convolution.
        motion_hidden_size, text_hidden_size: Widths of the recurrent networks, each way.
        projection_dim: Size of the shared space.
        text_input: `"glove"`: texts come as word vectors and one-hot part-of-speech tags, as in the released
            checkpoints. `"embeddings"`: they come as word pieces, whose embeddings belong to the model.
        word_embedding_size: Size of a word vector, or of a word piece's embedding.
        num_pos_tags: Part-of-speech tags; of no use to `"embeddings"`.
        vocab_size, pad_token_id: Of the word pieces; of no use to `"glove"`.
        freeze_word_embeddings: Word pieces keep the embeddings they started from.
        dropout: After each convolution, while training.
        mask_motion_padding: `False` lets the convolutions see padded frames, as the released code does: the last
            tokens of a clip then depend on whether frames were padded.
        loss_margin: Distance beyond which motion and text that do not belong together cost nothing.
        mismatches: What these are: `"shifted"` sets each text against one motion, its batch shifted by a random
            number of rows as in the original training; `"all"` against all, which is the mean over all shifts.
    """

    model_type = "motion_text_evaluator"

    motion_dim: int = 263
    movement_hidden_size: int = 512
    movement_size: int = 512
    motion_hidden_size: int = 1024
    text_hidden_size: int = 512
    projection_dim: int = 512
    text_input: Literal["glove", "embeddings"] = "glove"
    word_embedding_size: int = 300
    num_pos_tags: int = 15
    vocab_size: int = 30523
    pad_token_id: int | None = 0
    freeze_word_embeddings: bool = False
    dropout: float | int = 0.2
    layer_norm_eps: float = 1e-5
    mask_motion_padding: bool = True
    loss_margin: float | int = 10.0
    mismatches: Literal["shifted", "all"] = "shifted"

    @property
    def frames_per_token(self) -> int:
        """Frames that one token of the movement encoder stands for: two convolutions of stride 2."""
        return 4

    def validate_architecture(self) -> None:
        """Part of strict validation: sizes that cannot work are refused by name and value."""
        if (self.motion_dim + 1) % 12:
            raise ValueError(
                f"motion_dim={self.motion_dim} is not 12 * joints - 1; use 263 (HumanML3D) or 251 (KIT-ML)"
            )
        if self.loss_margin <= 0:
            raise ValueError(f"loss_margin={self.loss_margin} is not positive")
