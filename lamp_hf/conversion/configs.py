"""Configurations of converted models: sizes from the shapes of the tensors, the rest from the authors' settings.

Every configuration has the values with which our models compute what the released code computes (V1, L1, L3, L6, T1,
T2, T4, T7).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lamp_hf.modeling.configuration_lamp import (
    LampCaptioningConfig,
    LampConfig,
    LampTextToMotionConfig,
    MotionLengthEstimatorConfig,
    MotionTextEvaluatorConfig,
    MotionVQVAEConfig,
)

from .files import DATASETS, OriginalFile
from .layout import rename, rules_of

__all__ = [
    "SETTINGS",
    "Settings",
    "captioning_config",
    "evaluator_config",
    "lamp_config",
    "length_estimator_config",
    "text_to_motion_config",
    "vqvae_config",
]

# What shapes do not tell, with the published value, and what the authors' opt.txt calls it. `None`: see below.
SETTINGS: dict[str, tuple[int | None, str | None]] = {
    "motion-vqvae.dilation_growth_rate": (3, "dilation_growth_rate"),
    "lamp.num_attention_heads": (None, None),
    "lamp.max_text_length": (32, None),
    "text-to-motion.num_attention_heads": (None, "n_heads"),
    "text-to-motion.max_text_length": (49, None),
    "text-to-motion.max_motion_tokens": (49, None),
    "captioning.num_attention_heads": (None, None),
    "captioning.lora_alpha": (32, None),
    # 32 tokens and a line break.
    "captioning.max_text_length": (33, None),
}
# BERT-base has 12 heads for 768 numbers, the masked transformer 8 for 512 or 6 for 384: each one has this many.
HEAD_SIZE = 64
# OPT's heads, by its width.
OPT_HEADS = {768: 12, 2048: 32, 2560: 32, 4096: 32, 5120: 40, 7168: 56, 9216: 72}
LORA_TARGETS = ("q_proj", "v_proj")
# Linear layers of the length estimator, between norms, activations and dropout.
LENGTH_LAYERS = ("layers.0", "layers.4", "layers.8", "classifier")


@dataclass
class Settings:
    """Looks up what shapes do not tell, and keeps what was looked up.

    Args:
        given: By the caller; comes first.
        used: Value and where it is from, for everything that was asked for.
        missing: If it is there, it gets what has no value, by the file that does not tell, instead of an error.
    """

    given: Mapping[str, int] = field(default_factory=dict)
    used: dict[str, tuple[int, str]] = field(default_factory=dict)
    missing: dict[str, Path] | None = None

    def __post_init__(self) -> None:
        if strangers := sorted(set(self.given) - set(SETTINGS)):
            raise ValueError(f"unknown settings {', '.join(strangers)}; known: {', '.join(SETTINGS)}")
        for name, value in self.given.items():
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name}={value!r} is not a whole number of at least 1")

    def get(self, name: str, file: OriginalFile, *others: OriginalFile, published: int | None = None) -> int:
        """The caller's value, that of `opt.txt` beside the first of the files that says it, or the published one.

        Raises:
            ValueError: There is none of them.
        """
        standard, option = SETTINGS[name]
        published = standard if published is None else published
        told = next((each for each in (file, *others) if option in each.options), None)
        if name in self.given:
            self.used[name] = self.given[name], "given"
        elif option is not None and told is not None:
            text = told.options[option]
            if not text.isdigit():
                raise ValueError(f"{told.path}: {option}: {text!r} in opt.txt beside it is not a whole number")
            self.used[name] = int(text), "opt.txt"
        elif published is not None:
            self.used[name] = published, "published"
        elif self.missing is not None:
            self.missing[name] = file.path
            return 1
        else:
            raise _missing({name: file.path})
        return self.used[name][0]

    def require(self) -> None:
        """Refuse what is missing, all at once.

        Raises:
            ValueError: It names the options that give what is missing.
        """
        if self.missing:
            raise _missing(self.missing)

    def heads(self, kind: str, file: OriginalFile, width: int, published: int | None) -> int:
        """Attention heads of a model `width` numbers wide; errors also where they cannot share it."""
        name = f"{kind}.num_attention_heads"
        heads = self.get(name, file, published=published)
        if width % heads:
            raise ValueError(f"{file.path}: {name}={heads} ({self.used[name][1]}) does not divide {width}, its width")
        return heads


@dataclass
class _Sizes:
    """Reads sizes from the shapes of original tensors, which are named as in our model; errors name the original.

    Args:
        file: An original checkpoint.
        prefix: Prefix of all names that are passed.
    """

    file: OriginalFile
    prefix: str = ""

    def __post_init__(self) -> None:
        assert self.file.kind is not None
        self.rules = rules_of(self.file.kind, self.file.tensors)
        self.tensors = {rename(name, self.rules): tensor for name, tensor in self.file.tensors.items()}

    def original(self, name: str) -> str | None:
        """Return the original name of one of our tensors."""
        return rename(self.prefix + name, self.rules, to_original=True)

    def shape(self, name: str, dims: int) -> tuple[int, ...]:
        """Return the shape of a tensor, which must have `dims` sizes above 0."""
        if self.prefix + name not in self.tensors:
            raise ValueError(f"{self.file.path}: the tensor {self.original(name)} is missing")
        shape = tuple(self.tensors[self.prefix + name].shape)
        if len(shape) != dims or 0 in shape:
            raise ValueError(
                f"{self.file.path}: {self.original(name)} has the shape {shape}, expected {dims} sizes above 0"
            )
        return shape

    def numbers(self, pattern: str) -> list[int]:
        """Return the numbers that stand for `#` in names, in order."""
        compiled = re.compile(re.escape(self.prefix + pattern).replace(r"\#", r"(\d+)"))
        found = {int(match[1]) for name in self.tensors if name and (match := compiled.fullmatch(name))}
        if not found:
            raise ValueError(f"{self.file.path}: no tensor {self.original(pattern.replace('#', '0'))}")
        return sorted(found)


def _check_data_set(file: OriginalFile, motion_dim: int) -> None:
    """Refuse a file whose `opt.txt` names another data set than the one of its model's frames."""
    said = file.options.get("dataset_name")
    if said in DATASETS and DATASETS[said] != motion_dim:
        raise ValueError(
            f"{file.path}: opt.txt beside it says dataset_name: {said}, whose motions have {DATASETS[said]} numbers a "
            f"frame; the tensors of its model read {motion_dim}"
        )


def _missing(names: Mapping[str, Path]) -> ValueError:
    said = "; ".join(f"{path}: its tensors do not tell {name}" for name, path in names.items())
    return ValueError(
        f"{said}. Their sizes are none of the published ones, so give it as a setting: "
        + " ".join(f"--set {name}=NUMBER" for name in names)
    )


def vqvae_config(
    file: OriginalFile, settings: Settings, prefix: str = "", own: OriginalFile | None = None
) -> MotionVQVAEConfig:
    """Of the motion tokenizer in a file of its own, or under `prefix` in a LaMP's, whose `own` file tells more."""
    sizes = _Sizes(file, prefix)
    told_by = (file,) if own is None else (own, file)
    hidden, motion_dim, _ = sizes.shape("encoder.conv_in.weight", 3)
    if motion_dim not in DATASETS.values():
        raise ValueError(
            f"{file.path}: {sizes.original('encoder.conv_in.weight')} reads {motion_dim} numbers per frame, expected "
            "263 (HumanML3D) or 251 (KIT-ML)"
        )
    for each in told_by:
        _check_data_set(each, motion_dim)
    num_codes, code_dim = sizes.shape("quantizer.codebook", 2)
    return MotionVQVAEConfig(
        motion_dim=motion_dim,
        hidden_size=hidden,
        code_dim=code_dim,
        num_codes=num_codes,
        num_downsampling_layers=len(sizes.numbers("encoder.downsample.#.weight")),
        num_residual_layers=len(sizes.numbers("encoder.blocks.0.#.conv1.weight")),
        dilation_growth_rate=settings.get("motion-vqvae.dilation_growth_rate", *told_by),
    )


def _heads(width: int) -> int | None:
    return width // HEAD_SIZE if width % HEAD_SIZE == 0 else None


def lamp_config(
    file: OriginalFile, settings: Settings, tokenizer: OriginalFile | None = None, **changes: Any
) -> LampConfig:
    """Of a LaMP.

    Args:
        file: Of it.
        settings: What its tensors do not tell.
        tokenizer: The motion tokenizer's own file, if there is one: the `opt.txt` beside it is that of its training.
        changes: Values that the model on it has otherwise.
    """
    sizes = _Sizes(file)
    layer = "qformer.encoder.layer"
    vocab_size, hidden = sizes.shape("qformer.embeddings.word_embeddings.weight", 2)
    crossed = sizes.numbers(f"{layer}.#.crossattention.attention.key.weight")
    num_layers = len(sizes.numbers(f"{layer}.#.attention.attention.key.weight"))
    intermediate, _ = sizes.shape(f"{layer}.0.intermediate.dense.weight", 2)
    query_intermediate, _ = sizes.shape(f"{layer}.0.intermediate_query.dense.weight", 2)
    values: dict[str, Any] = {
        "motion_vqvae_config": vqvae_config(file, settings, "motion_vqvae.", tokenizer),
        "vocab_size": vocab_size,
        "bos_token_id": vocab_size - 1,  # [DEC] is the last word piece (L9)
        "hidden_size": hidden,
        "num_hidden_layers": num_layers,
        "num_attention_heads": settings.heads("lamp", file, hidden, _heads(hidden)),
        "intermediate_size": intermediate,
        "query_intermediate_size": None if query_intermediate == intermediate else query_intermediate,
        "cross_attention_frequency": crossed[1] - crossed[0] if len(crossed) > 1 else num_layers,
        "max_position_embeddings": sizes.shape("qformer.embeddings.position_embeddings.weight", 2)[0],
        "num_query_tokens": sizes.shape("query_tokens", 3)[1],
        "motion_hidden_size": sizes.shape("motion_to_states.weight", 2)[1],
        "projection_dim": sizes.shape("text_projection.weight", 2)[0],
        "separate_motion_encoder": True,  # L1
        "mask_motion_padding": False,  # L6
        "mask_text_padding": False,  # T4
    }
    if "max_text_length" not in changes:
        changes["max_text_length"] = settings.get("lamp.max_text_length", file)
    return LampConfig(**values, **changes)


def text_to_motion_config(
    file: OriginalFile, lamp: OriginalFile, settings: Settings, tokenizer: OriginalFile | None = None
) -> LampTextToMotionConfig:
    """Of a masked transformer and the LaMP that it was trained on; `tokenizer` as in [`lamp_config`]."""
    sizes = _Sizes(file, "masked_transformer.")
    width, _ = sizes.shape("token_projection.weight", 2)
    max_text_length = settings.get("text-to-motion.max_text_length", file)
    inner = lamp_config(lamp, settings, tokenizer, max_text_length=max_text_length)
    _check_data_set(file, inner.motion_vqvae_config.motion_dim)
    return LampTextToMotionConfig(
        lamp_config=inner,
        hidden_size=width,
        num_hidden_layers=len(sizes.numbers("layers.#.fc1.weight")),
        num_attention_heads=settings.heads("text-to-motion", file, width, _heads(width)),
        intermediate_size=sizes.shape("layers.0.fc1.weight", 2)[0],
        attention_bias="soft_causal",  # T1
        mask_token_padding=False,  # T2
        train_token_embeddings=True,  # T7
        max_motion_tokens=settings.get("text-to-motion.max_motion_tokens", file),
        length_hidden_sizes=None,  # the released estimator reads another model's features
    )


def captioning_config(
    file: OriginalFile,
    lamp: OriginalFile,
    settings: Settings,
    eos_token_id: int,
    tokenizer: OriginalFile | None = None,
) -> LampCaptioningConfig:
    """Of a captioner and the LaMP that it was trained on; captions end with `eos_token_id`, a line break.

    `tokenizer` is the motion tokenizer's file, as in [`lamp_config`].
    """
    sizes = _Sizes(file, "language_model.base_model.model.model.decoder.")
    vocab_size, embedding = sizes.shape("embed_tokens.weight", 2)
    positions, width = sizes.shape("embed_positions.weight", 2)
    layers = sizes.numbers("layers.#.fc1.weight")
    adapted = f"layers.{layers[0]}.self_attn.q_proj.lora_A.default.weight"
    inner = lamp_config(lamp, settings, tokenizer)
    _check_data_set(file, inner.motion_vqvae_config.motion_dim)
    return LampCaptioningConfig(
        lamp_config=inner,
        language_model_config={
            "model_type": "opt",
            "vocab_size": vocab_size,
            "hidden_size": width,
            "word_embed_proj_dim": embedding,
            "num_hidden_layers": len(layers),
            "num_attention_heads": settings.heads("captioning", file, width, OPT_HEADS.get(width)),
            "ffn_dim": sizes.shape(f"layers.{layers[0]}.fc1.weight", 2)[0],
            "max_position_embeddings": positions - 2,
        },
        lora_rank=sizes.shape(adapted, 2)[0],
        lora_alpha=settings.get("captioning.lora_alpha", file),
        lora_target_modules=LORA_TARGETS,
        eos_token_id=eos_token_id,
        max_text_length=settings.get("captioning.max_text_length", file),
    )


def evaluator_config(file: OriginalFile) -> MotionTextEvaluatorConfig:
    """Of the networks that judge."""
    sizes = _Sizes(file)
    movement_hidden, channels, _ = sizes.shape("movement_encoder.conv1.weight", 3)
    if channels + 4 not in DATASETS.values():
        raise ValueError(
            f"{file.path}: {sizes.original('movement_encoder.conv1.weight')} reads {channels} numbers per frame, "
            "expected 259 (HumanML3D without foot contacts) or 247 (KIT-ML)"
        )
    _check_data_set(file, channels + 4)
    word_size, tags = sizes.shape("pos_projection.weight", 2)
    return MotionTextEvaluatorConfig(
        motion_dim=channels + 4,
        movement_hidden_size=movement_hidden,
        movement_size=sizes.shape("movement_encoder.projection.weight", 2)[0],
        motion_hidden_size=sizes.shape("motion_encoder.input_projection.weight", 2)[0],
        text_hidden_size=sizes.shape("text_encoder.input_projection.weight", 2)[0],
        projection_dim=sizes.shape("motion_encoder.fc2.weight", 2)[0],
        text_input="glove",
        word_embedding_size=word_size,
        num_pos_tags=tags,
        mask_motion_padding=False,
    )


def length_estimator_config(file: OriginalFile) -> MotionLengthEstimatorConfig:
    """Of the length estimator; its first class, a motion of no tokens, is none of ours."""
    sizes = _Sizes(file, "length_estimator.")
    layers = [sizes.shape(f"{layer}.weight", 2) for layer in LENGTH_LAYERS]
    return MotionLengthEstimatorConfig(
        input_size=layers[0][1],
        hidden_sizes=[size for size, _ in layers[:-1]],
        max_motion_tokens=layers[-1][0] - 1,
    )
