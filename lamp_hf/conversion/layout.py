"""Layout of the authors' checkpoints: the tensors of each kind, by their original names and by ours.

The rules below are the only place that pairs the names (gentlefress/LaMP at 48deb9e, and MoMask's length estimator).
Both directions come from them: renaming original tensors, and the names and shapes to expect in an original file,
which are those of our own model.
"""

import re
from collections.abc import Callable, Iterable
from functools import cache

import torch
from transformers import PreTrainedModel

from lamp_hf.modeling.configuration_lamp import (
    LampConfig,
    LampTextToMotionConfig,
    LampWithLanguageModelConfig,
    MotionLengthEstimatorConfig,
    MotionTextEvaluatorConfig,
    MotionVQVAEConfig,
)
from lamp_hf.modeling.modeling_lamp import LampModel
from lamp_hf.modeling.modeling_lamp_language_model_captioning import LampWithLanguageModelForMotionCaptioning
from lamp_hf.modeling.modeling_lamp_text_to_motion import LampForTextToMotion
from lamp_hf.modeling.modeling_motion_length_estimator import MotionLengthEstimatorModel
from lamp_hf.modeling.modeling_motion_text_evaluator import MotionTextEvaluatorModel
from lamp_hf.modeling.modeling_motion_vqvae import MotionVQVAEModel

__all__ = [
    "EVALUATOR_PARTS",
    "LAMP_PARTS",
    "MODELS",
    "ORIGINAL_KINDS",
    "STORED",
    "TIES",
    "UNUSED",
    "layout_of",
    "rename",
    "rules_of",
]

Shapes = dict[str, tuple[int, ...]]
# Original name and our name. Each `*` stands for the same text in both; the first rule that fits a name applies.
Rules = list[tuple[str, str]]
AnyConfig = (
    MotionVQVAEConfig
    | LampConfig
    | LampTextToMotionConfig
    | LampWithLanguageModelConfig
    | MotionTextEvaluatorConfig
    | MotionLengthEstimatorConfig
)

MODELS: dict[str, type[PreTrainedModel]] = {
    "motion-vqvae": MotionVQVAEModel,
    "lamp": LampModel,
    "text-to-motion": LampForTextToMotion,
    "captioning": LampWithLanguageModelForMotionCaptioning,
    "evaluator": MotionTextEvaluatorModel,
    "length-estimator": MotionLengthEstimatorModel,
}
ORIGINAL_KINDS = tuple(MODELS)
EVALUATOR_PARTS = ("movement_encoder", "text_encoder", "motion_encoder")
# Tensors of LaMP that the files of other kinds repeat.
LAMP_PARTS = {
    "text-to-motion": ("Qformer.", "query_tokens"),
    "captioning": ("Qformer.", "query_tokens", "motion_encoder.", "motion_projection"),
}

# The positions of BERT, a constant; and a second copy of cls.predictions.bias, to which it is tied.
_QFORMER_UNUSED = r"Qformer\.bert\.embeddings\.position_ids|Qformer\.cls\.predictions\.decoder\.bias"
# Tensors that do not affect the outputs of a model. They may be missing, and may have any shape.
UNUSED: dict[str, re.Pattern[str]] = {
    "motion-vqvae": re.compile(r"(?!)"),
    "lamp": re.compile(_QFORMER_UNUSED),
    # Fixed sinusoids, and a layer without gradient (T6).
    "text-to-motion": re.compile(rf"{_QFORMER_UNUSED}|position_enc\.pe|clip2qformer\.(weight|bias)"),
    # A T2M-GPT and a VQ-VAE that the forward pass does not use.
    "captioning": re.compile(rf"{_QFORMER_UNUSED}|(trans_base|trans_head|vq_model)\..*"),
    "evaluator": re.compile(r"(?!)"),
    "length-estimator": re.compile(r"(?!)"),
}

# Pairs of names that are one tensor in the released code, by the kinds whose files contain both.
_BERT_TIE = ("Qformer.bert.embeddings.word_embeddings.weight", "Qformer.cls.predictions.decoder.weight")
_OPT_TIE = ("opt_model.model.decoder.embed_tokens.weight", "opt_model.lm_head.weight")
TIES = {"lamp": (_BERT_TIE,), "text-to-motion": (_BERT_TIE,), "captioning": (_BERT_TIE, _OPT_TIE)}

_Change = Callable[[torch.Tensor], torch.Tensor]
_TRANSPOSED: tuple[_Change, _Change] = (lambda tensor: tensor.T.contiguous(), lambda tensor: tensor.T)
# The first class of the original length estimator is a motion of no tokens, which ours does not have.
_FIRST_ROW: tuple[_Change, _Change] = (lambda tensor: tensor[1:], lambda tensor: torch.cat([tensor[:1], tensor]))
# Tensors whose values we store differently, by their original names: the change to ours, and one to their shape.
STORED: dict[str, tuple[_Change, _Change]] = {
    "motion_projection": _TRANSPOSED,
    "text_projection": _TRANSPOSED,
    # The original multiplies similarities by it, ours by exp(logit_scale) (L3).
    "temp": (lambda tensor: tensor.log().reshape(1), lambda tensor: tensor.exp().reshape(())),
    "output.11.weight": _FIRST_ROW,
    "output.11.bias": _FIRST_ROW,
}

_LAMP: Rules = [
    ("query_tokens", "query_tokens"),
    ("Qformer.bert.embeddings.LayerNorm.*", "qformer.embeddings.layernorm.*"),
    ("Qformer.bert.embeddings.*", "qformer.embeddings.*"),
    ("Qformer.bert.encoder.layer.*.attention.self.*", "qformer.encoder.layer.*.attention.attention.*"),
    ("Qformer.bert.encoder.layer.*.crossattention.self.*", "qformer.encoder.layer.*.crossattention.attention.*"),
    ("Qformer.bert.encoder.*", "qformer.encoder.*"),
    ("Qformer.cls.predictions.bias", "lm_head.decoder.bias"),
    ("Qformer.cls.predictions.decoder.weight", "lm_head.decoder.weight"),
    ("Qformer.cls.predictions.transform.dense.*", "lm_head.dense.*"),
    ("Qformer.cls.predictions.transform.LayerNorm.*", "lm_head.layer_norm.*"),
    ("motion_proj.*", "motion_projection.*"),
    ("text_proj.*", "text_projection.*"),
    ("motion_projection", "motion_to_states.weight"),
    ("text_projection", "text_to_states.weight"),
    ("itm_head.*", "matching_head.*"),
    ("motion_cls.weight", "motion_token_head.weight"),
    ("temp", "logit_scale"),
]
# Rules of each kind, in addition to those of the LaMP and the motion tokenizer that it contains.
_OWN: dict[str, Rules] = {
    "text-to-motion": [
        ("text2former.*", "text_to_condition.*"),
        ("token_emb.weight", "token_embeddings.weight"),
        ("cond_emb.*", "masked_transformer.condition_projection.*"),
        ("input_process.poseEmbedding.*", "masked_transformer.token_projection.*"),
        ("seqTransEncoder.layers.*.self_attn.in_proj_*", "masked_transformer.layers.*.attention.qkv.*"),
        ("seqTransEncoder.layers.*.self_attn.out_proj.*", "masked_transformer.layers.*.attention.out_proj.*"),
        ("seqTransEncoder.layers.*.linear1.*", "masked_transformer.layers.*.fc1.*"),
        ("seqTransEncoder.layers.*.linear2.*", "masked_transformer.layers.*.fc2.*"),
        ("seqTransEncoder.layers.*.norm1.*", "masked_transformer.layers.*.attention_norm.*"),
        ("seqTransEncoder.layers.*.norm2.*", "masked_transformer.layers.*.output_norm.*"),
        ("output_process.dense.*", "masked_transformer.head.*"),
        ("output_process.LayerNorm.*", "masked_transformer.head_norm.*"),
        ("output_process.poseFinal.*", "masked_transformer.classifier.*"),
    ],
    "captioning": [
        ("opt_proj.*", "projection.*"),
        ("opt_model.*", "language_model.base_model.model.*"),
    ],
    "evaluator": [
        ("movement_encoder.main.0.*", "movement_encoder.conv1.*"),
        ("movement_encoder.main.3.*", "movement_encoder.conv2.*"),
        ("movement_encoder.out_net.*", "movement_encoder.projection.*"),
        ("text_encoder.pos_emb.*", "pos_projection.*"),
        ("*_encoder.hidden", "*_encoder.initial_state"),
        ("*_encoder.input_emb.*", "*_encoder.input_projection.*"),
        ("*_encoder.gru.*", "*_encoder.gru.*"),
        ("*_encoder.output_net.0.*", "*_encoder.fc1.*"),
        ("*_encoder.output_net.1.*", "*_encoder.layer_norm.*"),
        ("*_encoder.output_net.3.*", "*_encoder.fc2.*"),
    ],
    "length-estimator": [
        ("output.11.*", "length_estimator.classifier.*"),
        ("output.*", "length_estimator.layers.*"),
    ],
}


def _vqvae(stages: int) -> Rules:
    """Return the rules of a motion tokenizer with this many stages, which the original numbers from 2."""
    last = stages + 2
    rules = [
        ("encoder.model.0.*", "encoder.conv_in.*"),
        (f"encoder.model.{last}.*", "encoder.conv_out.*"),
        ("decoder.model.0.*", "decoder.conv_in.*"),
        (f"decoder.model.{last}.*", "decoder.conv_hidden.*"),
        (f"decoder.model.{last + 2}.*", "decoder.conv_out.*"),
        ("quantizer.codebook", "quantizer.codebook"),
    ]
    for stage in range(stages):
        rules += [
            (f"encoder.model.{stage + 2}.0.*", f"encoder.downsample.{stage}.*"),
            (f"encoder.model.{stage + 2}.1.model.*", f"encoder.blocks.{stage}.*"),
            (f"decoder.model.{stage + 2}.0.model.*", f"decoder.blocks.{stage}.*"),
            (f"decoder.model.{stage + 2}.2.*", f"decoder.upsample.{stage}.*"),
        ]
    return rules


def rules_of(kind: str, names: Iterable[str]) -> Rules:
    """Return the renaming rules of one kind of file.

    Args:
        kind: One of `ORIGINAL_KINDS`.
        names: All names in a file or in one of our models; they show how many stages its motion tokenizer has.
    """
    stage = re.compile(r".*encoder\.(?:model\.(\d+)\.0|downsample\.(\d+))\.weight")
    stages = len({match[1] or match[2] for name in names if (match := stage.fullmatch(name))}) or 1
    vqvae = _vqvae(stages)
    if kind == "motion-vqvae":
        return [(f"vqvae.{original}", ours) for original, ours in vqvae]
    lamp = [(f"vq_model.vqvae.{original}", f"motion_vqvae.{ours}") for original, ours in vqvae]
    lamp += [(f"motion_{original}", f"motion_{ours}") for original, ours in vqvae if ours.startswith("encoder.")]
    lamp += _LAMP
    if kind == "lamp":
        return lamp
    parts = LAMP_PARTS.get(kind, ())
    return [*((original, f"lamp.{ours}") for original, ours in lamp if original.startswith(parts)), *_OWN[kind]]


@cache
def _pattern(rule: str) -> re.Pattern[str]:
    return re.compile(re.escape(rule).replace(r"\*", "(.+)"))


def rename(name: str, rules: Rules, *, to_original: bool = False) -> str | None:
    """Return our name of an original tensor, or the reverse; `None` if no rule fits."""
    for original, ours in rules:
        source, target = (ours, original) if to_original else (original, ours)
        if match := _pattern(source).fullmatch(name):
            return target.replace("*", "{}").format(*match.groups())
    return None


def layout_of(config: AnyConfig) -> Shapes:
    """Return names and shapes of the tensors in an original checkpoint whose converted model has this configuration.

    The shapes are those of our model, built without memory for its weights. Tensors that are not used (`UNUSED`) are
    left out. A captioner's language model is under `opt_model.`, its adapted layers under the names of recent versions
    of peft.
    """
    kind = next(kind for kind, model in MODELS.items() if model.config_class is type(config))
    with torch.device("meta"):
        tensors = MODELS[kind](config).state_dict()
    rules = rules_of(kind, tensors)
    named = {rename(name, rules, to_original=True): tensor for name, tensor in tensors.items()}
    # Without an original name: counts of the motion tokenizer's codes, and what another file contains.
    return {
        name: tuple((STORED[name][1](tensor) if name in STORED else tensor).shape)
        for name, tensor in named.items()
        if name is not None
    }
