"""Configurations of the lamp_hf models; every default is the size in the paper.

A value that exists only to reproduce the authors' released code gives the number of the difference (V1, L6, T1 …). Its
default does not reproduce that code.
"""

import math
import os
from typing import Any, Literal

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig
from transformers.configuration_utils import SubConfigSpec

from lamp_hf.checkpoints.files import CheckpointError

from .base_lamp import LampBaseConfig

__all__ = [
    "LampConfig",
    "LampTextToMotionConfig",
    "LampWithLanguageModelConfig",
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
        num_quantizers: Number of codebooks. Above 1 (residual quantization, as in MoMask), each codebook quantizes the
            residual of the codebooks before it, and a token has one code per codebook. LaMP reads the first code.
        quantizer_dropout: Share of training clips that use only the first few codebooks (at least one), so that these
            codebooks alone can reconstruct a motion.
        scalar_levels: Finite scalar quantization (Mentzer et al., 2023): the number of levels of each number that a
            latent is projected to. A token is one combination of levels; `[8, 5, 5, 5]` makes 1000 codes. `None` uses a
            codebook.
        num_downsampling_layers: Number of stride-2 stages; a token covers `2 ** num_downsampling_layers` frames.
        num_residual_layers: Residual blocks per stage.
        dilation_growth_rate: Dilation grows by this factor from block to block, largest first (V3).
        dropout: Dropout rate inside residual blocks.
        ema_decay: Decay of the codebook's moving averages.
        code_reset_threshold: A code whose averaged count falls below this is replaced by a row of the batch.
        reconstruction_loss_weight, position_loss_weight, velocity_loss_weight: Weights of the smooth-L1 terms
            over all features, over the joint positions alone (V5), and over frame-to-frame differences.
        trajectory_loss_weight: Weight of the smooth-L1 term over the running sums of the root's rotation and steps.
            Errors in them are small in each frame but add up to a wrong heading.
        foot_loss_weight: Weight of the mean distance per frame by which feet in contact with the floor slide, in the
            unit of the skeleton (meters for HumanML3D). Needs `motion_std` in training.
        commitment_loss_weight: Weight of the commitment loss.
        freeze_tokens: Freeze the encoder and the codebook and train only the decoder. Models that use the tokens remain
            valid.
        freeze_encoder: Freeze the encoder and train the codebook and the decoder. Models that read latents, such as
            LaMP, remain valid.
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
    foot_loss_weight: float | int = 0.0
    commitment_loss_weight: float | int = 0.02
    freeze_tokens: bool = False
    freeze_encoder: bool = False
    initializer_range: float | int = 0.02

    @property
    def frames_per_token(self) -> int:
        """Number of frames per token."""
        return 2**self.num_downsampling_layers

    @property
    def num_joints(self) -> int:
        """Number of joints; a frame has `12 * joints - 1` numbers."""
        return (self.motion_dim + 1) // 12

    def validate_architecture(self) -> None:
        """Check the sizes; part of strict validation.

        Raises:
            ValueError: A size is invalid; the message gives its name and value.
        """
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
                f"quantizer_dropout={self.quantizer_dropout} needs several codebooks, but num_quantizers=1; set it to 0"
            )
        if self.scalar_levels is not None:
            self._validate_levels(list(self.scalar_levels))

    def _validate_levels(self, levels: list[int]) -> None:
        if self.num_quantizers > 1:
            raise ValueError(
                f"scalar_levels={levels} and num_quantizers={self.num_quantizers} cannot be combined; choose one"
            )
        if not levels or min(levels) < 2:
            raise ValueError(f"scalar_levels={levels} is invalid; give a list of numbers, each at least 2")
        if (product := math.prod(levels)) != self.num_codes:
            raise ValueError(
                f"scalar_levels={levels} make {product} codes, not num_codes={self.num_codes}; set num_codes={product}"
            )


@strict
class LampConfig(LampBaseConfig):
    """Configuration of [`LampModel`]: a Q-Former that reads motion and text (LaMP, section 3.2).

    Args:
        vocab_size: Number of word pieces, including `[DEC]` (30522 of BERT and one more).
        pad_token_id: Id of `[PAD]`.
        bos_token_id: Id of `[DEC]`, which starts a generated caption.
        eos_token_id: Id of `[SEP]`, which ends a generated caption.
        hidden_size, num_hidden_layers, num_attention_heads, intermediate_size: As in BERT.
        query_intermediate_size: Width of the queries' own feed-forward; defaults to `intermediate_size`.
        cross_attention_frequency: Every n-th layer, from the first, cross-attends to motion.
        num_query_tokens: Number of learned queries, equal to the motion tokens of the longest clip (49 × 4 = 196
            frames).
        motion_hidden_size: Width to which motion latents are projected before cross-attention.
        projection_dim: Size of the shared space of the contrastive task.
        max_text_length: Largest number of word pieces of a caption, including special tokens.
        contrastive_loss_weight, matching_loss_weight, captioning_loss_weight, motion_token_loss_weight: Weights of the
            four losses, for ablations. A task with the weight 0 is left out of pretraining.
        label_smoothing: Label smoothing of the contrastive and the two generative losses; matching has none (L7).
        logit_scale_init_value: Initial value of the learned log temperature, ln(1/0.07) (L3).
        mask_motion_padding: Whether padded frames are masked. The released code does not mask them (L6).
        mask_text_padding: Whether padded words are masked in the text condition. The released code does not mask them
            (T4).
        contrastive_targets: Positives of the contrastive loss. With `"equal_pairs"`, pairs with equal captions, equal
            motions or the same `pair_groups` number are positives too, and the target is spread evenly over them. With
            `"diagonal"`, as in the released code, the only positive of a motion is its own caption.
        separate_motion_encoder: Whether LaMP has a motion encoder besides the tokenizer's. The released checkpoints
            have two, with different weights (L1).
        freeze_word_embeddings: Whether to freeze the word embeddings and the output layer tied to them.
    """

    model_type = "lamp"
    base_config_key = "lamp_config"
    checkpoint_types = ("lamp", "lamp_text_to_motion")
    sub_configs_defaults = {"motion_vqvae_config": SubConfigSpec(MotionVQVAEConfig)}

    motion_vqvae_config: Any = None  # a MotionVQVAEConfig or a dictionary of its values
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
    contrastive_loss_weight: float | int = 1.0
    matching_loss_weight: float | int = 1.0
    captioning_loss_weight: float | int = 1.0
    motion_token_loss_weight: float | int = 1.0
    label_smoothing: float | int = 0.1
    logit_scale_init_value: float | int = 2.6592
    mask_motion_padding: bool = True
    mask_text_padding: bool = True
    contrastive_targets: Literal["equal_pairs", "diagonal"] = "equal_pairs"
    separate_motion_encoder: bool = False
    freeze_word_embeddings: bool = False
    initializer_range: float | int = 0.02
    tie_word_embeddings: bool = True

    @classmethod
    def get_config_dict(
        cls, pretrained_model_name_or_path: str | os.PathLike[str], **kwargs: Any
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Read `config.json` of a LaMP, or of a text-to-motion model that reads texts with its LaMP.

        Raises:
            CheckpointError: See [`LampBaseConfig`]; or the checkpoint tokenizes texts for another text encoder.
        """
        values, rest = super().get_config_dict(pretrained_model_name_or_path, **kwargs)
        refuse_other_condition(values.get("text_condition", "lamp"), pretrained_model_name_or_path)
        return values, rest

    def validate_architecture(self) -> None:
        """Check the sizes; part of strict validation.

        Raises:
            ValueError: A size is invalid; the message gives its name and value.
        """
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size={self.hidden_size} is not a multiple of num_attention_heads={self.num_attention_heads}"
            )
        if self.max_text_length > self.max_position_embeddings:
            raise ValueError(
                f"max_text_length={self.max_text_length} exceeds max_position_embeddings={self.max_position_embeddings}"
            )
        names = [f"{task}_loss_weight" for task in ("contrastive", "matching", "captioning", "motion_token")]
        for name in names:
            if getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)} is negative; use 0 to leave the task out")
        if not any(getattr(self, name) for name in names):
            raise ValueError(f"{', '.join(names)} are all 0, so there is nothing to learn; set at least one above 0")


def refuse_other_condition(text_condition: str, name: object) -> None:
    """Refuse to use LaMP in a checkpoint that tokenizes texts for another text encoder.

    Raises:
        CheckpointError: The text condition is not LaMP's.
    """
    if text_condition != "lamp":
        raise CheckpointError(
            f"{name or 'the checkpoint'} tokenizes texts for its own text encoder (text_condition={text_condition!r}), "
            "so its LaMP cannot read or write them; use the checkpoint of the LaMP that it was trained from"
        )


@strict
class LampTextToMotionConfig(LampBaseConfig):
    """Configuration of [`LampForTextToMotion`]: a masked transformer over motion tokens (LaMP, section 3.3).

    Args:
        lamp_config: Configuration of the LaMP that reads the texts, or a dictionary of its values.
        hidden_size, num_hidden_layers, num_attention_heads, intermediate_size, dropout: Sizes of the masked
            transformer.
        num_residual_hidden_layers: Number of layers of the residual transformer, which predicts the codes of all
            codebooks after the first. Not used with one codebook, as in the paper.
        attention_bias: `"causal"` (paper), `"none"`, or `"soft_causal"`, which adds 1 to the scores of past
            and present as the released code does (T1).
        mask_token_padding: Whether padded tokens are masked. The released code does not mask them (T2).
        condition_dropout: Share of training captions replaced by the empty condition, for guidance.
        condition_on_words: Whether to add a learned projection of the mean word state to the condition. The paper uses
            only the queries. The queries of a small LaMP lose details that matter little to its own tasks, such as the
            style of a motion. Only with LaMP's condition.
        train_text_to_condition: Whether to train the layer through which the queries read the text, as in the released
            code. If not, it is a copy of LaMP's own layer, the queries' states of a text never change, and training
            computes them once for each text. Only with LaMP's condition.
        text_condition: Text encoder that gives the condition. With `"lamp"`, as in the paper, it is LaMP. For
            comparison, `"clip"` uses the projected features of a CLIP text model, and `"sentence-embedding"` the pooled
            states of a sentence encoder, of unit length. Both are frozen and saved with the model.
        text_encoder_config: Configuration of that CLIP text model or sentence encoder, or a dictionary of its values;
            `None` with LaMP's condition.
        text_pooling: Pooling of the sentence encoder: `"mean"` over the words, or the state of the first token
            (`"cls"`).
        train_token_embeddings: Whether to train the token embeddings. If not, they are the codebook of the tokenizer
            (T7).
        max_motion_tokens: Longest sequence generated in one piece (49 tokens are 196 frames).
        length_hidden_sizes: Widths of the hidden layers of the length estimator. With `None` there is no estimator, and
            every call must give a length. The released estimator is a separate model:
            [`MotionLengthEstimatorModel`].
    """

    model_type = "lamp_text_to_motion"
    sub_configs_defaults = {"lamp_config": SubConfigSpec(LampConfig)}

    lamp_config: Any = None  # a LampConfig or a dictionary of its values
    text_encoder_config: Any = None  # a configuration that AutoConfig knows or a dictionary of its values
    hidden_size: int = 512
    num_hidden_layers: int = 8
    num_residual_hidden_layers: int = 4
    num_attention_heads: int = 8
    intermediate_size: int = 1024
    dropout: float | int = 0.2
    layer_norm_eps: float = 1e-5
    attention_bias: Literal["causal", "soft_causal", "none"] = "causal"
    mask_token_padding: bool = True
    condition_dropout: float | int = 0.1
    condition_on_words: bool = False
    train_text_to_condition: bool = True
    text_condition: Literal["lamp", "clip", "sentence-embedding"] = "lamp"
    text_pooling: Literal["mean", "cls"] = "mean"
    train_token_embeddings: bool = False
    max_motion_tokens: int = 49
    length_hidden_sizes: list[int] | tuple[int, ...] | None = (512, 256, 128)
    initializer_range: float | int = 0.02

    def __post_init__(self, **kwargs: Any) -> None:
        if isinstance(self.text_encoder_config, dict):
            values = {name: value for name, value in self.text_encoder_config.items() if name != "dtype"}
            self.text_encoder_config = AutoConfig.for_model(**values)
        super().__post_init__(**kwargs)

    def get_text_config(self, decoder: bool | None = None, encoder: bool | None = None) -> Any:
        """Return the configuration of the text encoder that gives the condition.

        Its `vocab_size` changes when word embeddings are resized.
        """
        return self.lamp_config if self.text_encoder_config is None else self.text_encoder_config

    @property
    def freezes_text_features(self) -> bool:
        """True if training does not change the features of texts; see [`LampForTextToMotion.summarize_text`]."""
        return self.text_condition != "lamp" or not self.train_text_to_condition

    @property
    def condition_size(self) -> int:
        """Size of the condition."""
        config = self.get_text_config()
        return config.projection_dim if self.text_condition == "clip" else config.hidden_size

    @property
    def mask_text_padding(self) -> bool:
        """Whether padded words are masked; only LaMP's condition can leave them unmasked (T4)."""
        return self.text_encoder_config is not None or self.lamp_config.mask_text_padding

    @property
    def motion_vqvae_config(self) -> MotionVQVAEConfig:
        """Configuration of the motion tokenizer inside LaMP."""
        return self.lamp_config.motion_vqvae_config

    @property
    def num_codes(self) -> int:
        """Number of codes of a codebook, without mask and padding."""
        return self.motion_vqvae_config.num_codes

    @property
    def num_quantizers(self) -> int:
        """Number of codes per motion token; the masked transformer predicts the first."""
        return self.motion_vqvae_config.num_quantizers

    @property
    def motion_mask_token_id(self) -> int:
        """Id of the mask token: one after the last code."""
        return self.num_codes

    @property
    def motion_pad_token_id(self) -> int:
        """Id of the padding token: two after the last code."""
        return self.num_codes + 1

    def validate_architecture(self) -> None:
        """Check the sizes; part of strict validation.

        Raises:
            ValueError: A size is invalid; the message gives its name and value.
        """
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size={self.hidden_size} is not a multiple of num_attention_heads={self.num_attention_heads}"
            )
        self._validate_condition()

    def _validate_condition(self) -> None:
        kind, encoder = self.text_condition, self.text_encoder_config
        if (kind == "lamp") != (encoder is None):
            raise ValueError(
                f"text_condition={kind!r} {'needs a' if encoder is None else 'has no'} text_encoder_config; create the "
                "model with from_lamp(lamp, text_encoder, …), or with a recipe that starts from a LaMP"
            )
        if encoder is not None and self.condition_on_words:
            raise ValueError(f"condition_on_words=True needs text_condition='lamp', not {kind!r}; set one of the two")
        if kind == "clip" and encoder.model_type != "clip_text_model":
            raise ValueError(
                f"text_condition='clip' needs a CLIP text model, but text_encoder_config is a {encoder.model_type!r}; "
                "choose another model, or 'sentence-embedding'"
            )
        if kind == "sentence-embedding" and encoder.is_encoder_decoder:
            raise ValueError(
                f"text_condition='sentence-embedding' needs an encoder, but {encoder.model_type!r} also has a decoder; "
                "choose another model"
            )


@strict
class LampWithLanguageModelConfig(LampBaseConfig):
    """Configuration of [`LampWithLanguageModelForMotionCaptioning`] (LaMP, section 3.4).

    Args:
        lamp_config: Configuration of the LaMP that reads the motions, or a dictionary of its values.
        lamp_name: Folder, Hub id or embedded name of that LaMP, which is frozen and not saved with this model. With
            `None`, LaMP is part of this model: it is trained, as in the paper, and saved.
        language_model_config: Configuration of the language model that writes the captions, or a dictionary of its
            values.
        language_model_name: Folder or Hub id of its pretrained weights, which are not saved with this model. With
            `None` they are saved.
        lora_rank, lora_alpha, lora_dropout: Settings of the adapter in the language model; rank 0 means no adapter.
        lora_target_modules: Layers that the adapter changes; with `None`, peft chooses them by the model's type.
        bos_token_id: First token of every caption; `None` for no such token.
        eos_token_id: Last token of every caption, a line break in the released code.
        pad_token_id: Id of the padding token.
        max_text_length: Largest number of tokens of a caption, including its first and last token.
    """

    model_type = "lamp_captioning"  # in the configurations of existing checkpoints
    sub_configs_defaults = {
        "lamp_config": SubConfigSpec(LampConfig),
        "language_model_config": SubConfigSpec(AutoConfig, model_type="opt"),
    }

    lamp_config: Any = None  # a LampConfig or a dictionary of its values
    lamp_name: str | None = None
    language_model_config: Any = None  # a configuration that AutoConfig knows or a dictionary of its values
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
        """Return the language model's configuration, whose `vocab_size` changes when word embeddings are resized."""
        return self.language_model_config.get_text_config(decoder=decoder, encoder=encoder)

    @property
    def embedding_size(self) -> int:
        """Size of the word embeddings of the language model and of the soft prompt."""
        text_config = self.get_text_config(decoder=True)
        return getattr(text_config, "word_embed_proj_dim", None) or text_config.hidden_size


@strict
class MotionLengthEstimatorConfig(LampBaseConfig):
    """Configuration of [`MotionLengthEstimatorModel`], which predicts the length of a motion from features of its text.

    Args:
        input_size: Size of the text features.
        hidden_sizes: Widths of the hidden layers.
        max_motion_tokens: Largest number of tokens that can be predicted.
        frames_per_token: Number of frames per token.
        dropout: Dropout rate after each hidden layer.
        text_encoder_name: Hub id of the model whose projected text features are the input.
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
    """Configuration of [`MotionTextEvaluatorModel`], the evaluation networks of the field (T2M, section 5.1).

    Args:
        motion_dim: Numbers per frame: 263 (HumanML3D) or 251 (KIT-ML); the last four, the foot contacts, are not used.
        movement_hidden_size, movement_size: Widths of the first and the second convolution.
        motion_hidden_size, text_hidden_size: Widths of the recurrent networks, per direction.
        projection_dim: Size of the shared space.
        text_input: Form of the texts. With `"glove"`, as in the released checkpoints, they are word vectors and one-hot
            part-of-speech tags, or the token ids of a [`GloveTokenizer`]; with `"embeddings"`, they are token ids, and
            the model has word embeddings.
        word_embedding_size: Size of a word vector or word embedding.
        num_pos_tags: Number of part-of-speech tags; only used with `"glove"`.
        num_word_vectors: Number of GloVe vectors that the model contains, for token ids; only used with `"glove"`. With
            0, texts must be given as word vectors.
        vocab_size, pad_token_id: Number of word pieces and id of the padding token; only used with `"embeddings"`.
        freeze_word_embeddings: Whether to freeze the word embeddings.
        dropout: Dropout rate after each convolution.
        mask_motion_padding: Whether the convolutions mask padded frames. The released code does not mask them, and the
            last features of a clip depend on its padding.
        padded_frames: Number of frames to which shorter motions are padded with zeros before the convolutions, `None`
            for no padding. The released code pads to 196. Only with `mask_motion_padding=False`.
        loss_margin: Distance above which a mismatched pair adds nothing to the loss.
        mismatches: Mismatched pairs in training. `"shifted"`, as in the original training, compares each text with one
            motion, from the batch shifted by a random number of rows. `"all"` compares it with all other motions, which
            is the mean over all shifts.
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
    num_word_vectors: int = 0
    vocab_size: int = 30523
    pad_token_id: int | None = 0
    freeze_word_embeddings: bool = False
    dropout: float | int = 0.2
    layer_norm_eps: float = 1e-5
    mask_motion_padding: bool = True
    padded_frames: int | None = None
    loss_margin: float | int = 10.0
    mismatches: Literal["shifted", "all"] = "shifted"

    @property
    def frames_per_token(self) -> int:
        """Number of frames per token of the movement encoder, which has two convolutions of stride 2."""
        return 4

    def validate_architecture(self) -> None:
        """Check the sizes; part of strict validation.

        Raises:
            ValueError: A size is invalid; the message gives its name and value.
        """
        if (self.motion_dim + 1) % 12:
            raise ValueError(
                f"motion_dim={self.motion_dim} is not 12 * joints - 1; use 263 (HumanML3D) or 251 (KIT-ML)"
            )
        if self.loss_margin <= 0:
            raise ValueError(f"loss_margin={self.loss_margin} is not positive")
