"""Configurations of converted models: sizes from the shapes of the tensors, the rest from the authors' settings.

Every configuration has the values with which our models reproduce the outputs of the released code (V1, L1, L3, L6,
T1, T2, T4, T7).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lamp_hf.modeling.configuration_lamp import (
    LampConfig,
    LampTextToMotionConfig,
    LampWithLanguageModelConfig,
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

# Values that shapes do not show: the published value (`None`: it depends on a width, see below), and the key in the
# authors' opt.txt (`None`: it has none).
SETTINGS: dict[str, tuple[int | None, str | None]] = {
    "motion-vqvae.dilation_growth_rate": (3, "dilation_growth_rate"),
    "lamp.num_attention_heads": (None, None),
    "lamp.max_text_length": (32, None),
    "text-to-motion.num_attention_heads": (None, "n_heads"),
    "text-to-motion.max_text_length": (49, None),
    "text-to-motion.max_motion_tokens": (49, None),
    "captioning.num_attention_heads": (None, None),
    "captioning.lora_alpha": (32, None),
    # 32 tokens and a line break
    "captioning.max_text_length": (33, None),
    "evaluator.padded_frames": (196, "max_motion_length"),
    "evaluator.max_text_length": (20, "max_text_len"),
}
# Width of one attention head in the published models: BERT-base has 12 heads at width 768, the masked transformer 8 at
# 512 or 6 at 384.
HEAD_SIZE = 64
# Number of OPT's attention heads, by its width.
OPT_HEADS = {768: 12, 2048: 32, 2560: 32, 4096: 32, 5120: 40, 7168: 56, 9216: 72}
LORA_TARGETS = ("q_proj", "v_proj")
# Linear layers of the length estimator. Norms, activations and dropout are between them.
LENGTH_LAYERS = ("layers.0", "layers.4", "layers.8", "classifier")


@dataclass
class Settings:
    """Looks up values that tensor shapes do not show, and records them.

    Args:
        given: Values from the caller, which take precedence.
        used: Value and its source, for every setting that was looked up.
        missing: If not `None`, settings without a value are collected here with their file, instead of raising.
    """

    given: Mapping[str, int] = field(default_factory=dict)
    used: dict[str, tuple[int, str]] = field(default_factory=dict)
    missing: dict[str, Path] | None = None

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.given) - set(SETTINGS)):
            raise ValueError(f"unknown settings: {', '.join(unknown)}; the known settings are {', '.join(SETTINGS)}")
        for name, value in self.given.items():
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name}={value!r} is not a positive whole number")

    def get(self, name: str, file: OriginalFile, *others: OriginalFile, published: int | None = None) -> int:
        """Return the caller's value, else the first one in an `opt.txt` next to the files, else the published one.

        Raises:
            ValueError: If there is no such value, or `opt.txt` does not contain a whole number.
        """
        standard, option = SETTINGS[name]
        published = standard if published is None else published
        source = next((each for each in (file, *others) if option in each.options), None)
        if name in self.given:
            self.used[name] = self.given[name], "given"
        elif option is not None and source is not None:
            text = source.options[option]
            if not text.isdigit():
                raise ValueError(
                    f"{source.path}: {option}: {text!r} in the opt.txt next to it is not a whole number; correct it, "
                    f"or  pass --set {name}=NUMBER"
                )
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
        """Report all missing settings at once.

        Raises:
            ValueError: If any setting is missing; the message contains the options to pass.
        """
        if self.missing:
            raise _missing(self.missing)

    def heads(self, kind: str, file: OriginalFile, width: int, published: int | None) -> int:
        """Return the number of attention heads of a model.

        Raises:
            ValueError: If the number is missing, or does not divide `width`.
        """
        name = f"{kind}.num_attention_heads"
        heads = self.get(name, file, published=published)
        if width % heads:
            raise ValueError(f"{file.path}: {name}={heads} ({self.used[name][1]}) does not divide its width, {width}")
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
    """Raise an error if the data set in `opt.txt` has another number of features per frame than the tensors."""
    name = file.options.get("dataset_name")
    if name in DATASETS and DATASETS[name] != motion_dim:
        raise ValueError(
            f"{file.path}: the opt.txt next to it says dataset_name: {name}, whose motions have {DATASETS[name]} "
            f"numbers per frame, but its tensors expect {motion_dim}; put the checkpoint next to its own opt.txt"
        )


def _missing(names: Mapping[str, Path]) -> ValueError:
    problems = "; ".join(f"{path}: cannot infer {name} from its tensors" for name, path in names.items())
    return ValueError(f"{problems} (not a published size); pass " + " ".join(f"--set {name}=NUMBER" for name in names))


def vqvae_config(
    file: OriginalFile, settings: Settings, prefix: str = "", own: OriginalFile | None = None
) -> MotionVQVAEConfig:
    """Return the configuration of a motion tokenizer.

    Args:
        file: Its own file, or a LaMP that contains it.
        settings: Values that its tensors do not show.
        prefix: Prefix of its tensors in our model.
        own: Its own file, if `file` is a LaMP. The `opt.txt` next to it takes precedence.

    Raises:
        ValueError: If tensors are missing or do not fit a known data set.
    """
    sizes = _Sizes(file, prefix)
    sources = (file,) if own is None else (own, file)
    hidden, motion_dim, _ = sizes.shape("encoder.conv_in.weight", 3)
    if motion_dim not in DATASETS.values():
        raise ValueError(
            f"{file.path}: {sizes.original('encoder.conv_in.weight')} reads {motion_dim} numbers per frame, expected "
            "263 (HumanML3D) or 251 (KIT-ML)"
        )
    for each in sources:
        _check_data_set(each, motion_dim)
    num_codes, code_dim = sizes.shape("quantizer.codebook", 2)
    return MotionVQVAEConfig(
        motion_dim=motion_dim,
        hidden_size=hidden,
        code_dim=code_dim,
        num_codes=num_codes,
        num_downsampling_layers=len(sizes.numbers("encoder.downsample.#.weight")),
        num_residual_layers=len(sizes.numbers("encoder.blocks.0.#.conv1.weight")),
        dilation_growth_rate=settings.get("motion-vqvae.dilation_growth_rate", *sources),
    )


def _heads(width: int) -> int | None:
    return width // HEAD_SIZE if width % HEAD_SIZE == 0 else None


def lamp_config(
    file: OriginalFile, settings: Settings, tokenizer: OriginalFile | None = None, **changes: Any
) -> LampConfig:
    """Return the configuration of a LaMP.

    Args:
        file: Its file.
        settings: Values that its tensors do not show.
        tokenizer: The motion tokenizer's own file, if there is one. The `opt.txt` next to it is from its training.
        changes: Values that differ in the model built on this LaMP.
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
    """Return the configuration of a masked transformer and the LaMP that it was trained on.

    `tokenizer` is the motion tokenizer's own file, as in [`lamp_config`].
    """
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
        length_hidden_sizes=None,  # the released estimator takes features of another model
    )


def captioning_config(
    file: OriginalFile,
    lamp: OriginalFile,
    settings: Settings,
    eos_token_id: int,
    tokenizer: OriginalFile | None = None,
) -> LampWithLanguageModelConfig:
    """Return the configuration of a captioner and the LaMP that it was trained on.

    `eos_token_id` is the line break that ends captions. `tokenizer` is the motion tokenizer's own file, as in
    [`lamp_config`].
    """
    sizes = _Sizes(file, "language_model.base_model.model.model.decoder.")
    vocab_size, embedding = sizes.shape("embed_tokens.weight", 2)
    positions, width = sizes.shape("embed_positions.weight", 2)
    layers = sizes.numbers("layers.#.fc1.weight")
    adapted = f"layers.{layers[0]}.self_attn.q_proj.lora_A.default.weight"
    inner = lamp_config(lamp, settings, tokenizer)
    _check_data_set(file, inner.motion_vqvae_config.motion_dim)
    return LampWithLanguageModelConfig(
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


def evaluator_config(file: OriginalFile, settings: Settings) -> MotionTextEvaluatorConfig:
    """Return the configuration of an evaluator, without GloVe vectors."""
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
        padded_frames=settings.get("evaluator.padded_frames", file),
    )


def length_estimator_config(file: OriginalFile) -> MotionLengthEstimatorConfig:
    """Return the configuration of a length estimator, without the original's first class, a motion of no tokens."""
    sizes = _Sizes(file, "length_estimator.")
    layers = [sizes.shape(f"{layer}.weight", 2) for layer in LENGTH_LAYERS]
    return MotionLengthEstimatorConfig(
        input_size=layers[0][1],
        hidden_sizes=[size for size, _ in layers[:-1]],
        max_motion_tokens=layers[-1][0] - 1,
    )
