"""Names of tensors in the authors' released checkpoints, mapped to ours.

Each function takes the state dict of one kind of checkpoint and returns one that our model loads; a tensor that
is neither used nor known to be unused is an error.
"""

import re

import torch

Tensors = dict[str, torch.Tensor]


def _unknown(names: list[str], kind: str) -> ValueError:
    shown = ", ".join(sorted(names)[:5])
    return ValueError(f"{len(names)} tensors do not belong to an original {kind} checkpoint: {shown}")


def _rename(original: Tensors, rules: list[tuple[str, str]]) -> tuple[Tensors, list[str]]:
    """Apply the first matching rule to every name; return the renamed tensors and the names no rule took."""
    renamed: Tensors = {}
    strangers = []
    for name, tensor in original.items():
        for pattern, replacement in rules:
            if match := re.fullmatch(pattern, name):
                renamed[match.expand(replacement)] = tensor
                break
        else:
            strangers.append(name)
    return renamed, strangers


def vqvae_state_dict(original: Tensors, *, num_downsampling_layers: int = 2) -> Tensors:
    """Tensors of an original VQ-VAE (`vqvae.…`) under the names of `MotionVQVAEModel`.

    The moving averages are not in the released files (V1): training goes on from counts of one.
    """
    last_encoder = 2 + num_downsampling_layers
    last_block = 1 + num_downsampling_layers
    rules = [
        (r"vqvae\.encoder\.model\.0\.(weight|bias)", r"encoder.conv_in.\1"),
        (rf"vqvae\.encoder\.model\.{last_encoder}\.(weight|bias)", r"encoder.conv_out.\1"),
        (r"vqvae\.encoder\.model\.(\d+)\.0\.(weight|bias)", r"encoder.downsample.\1.\2"),
        (
            r"vqvae\.encoder\.model\.(\d+)\.1\.model\.(\d+)\.(conv\d)\.(weight|bias)",
            r"encoder.blocks.\1.\2.\3.\4",
        ),
        (r"vqvae\.decoder\.model\.0\.(weight|bias)", r"decoder.conv_in.\1"),
        (rf"vqvae\.decoder\.model\.{last_block + 1}\.(weight|bias)", r"decoder.conv_hidden.\1"),
        (rf"vqvae\.decoder\.model\.{last_block + 3}\.(weight|bias)", r"decoder.conv_out.\1"),
        (
            r"vqvae\.decoder\.model\.(\d+)\.0\.model\.(\d+)\.(conv\d)\.(weight|bias)",
            r"decoder.blocks.\1.\2.\3.\4",
        ),
        (r"vqvae\.decoder\.model\.(\d+)\.2\.(weight|bias)", r"decoder.upsample.\1.\2"),
        (r"vqvae\.quantizer\.codebook", "quantizer.codebook"),
    ]
    renamed, strangers = _rename(original, rules)
    if strangers:
        raise _unknown(strangers, "VQ-VAE")
    # The originals count their blocks from 2, after the first convolution and its activation.
    counted = re.compile(r"((?:encoder|decoder)\.(?:downsample|blocks|upsample)\.)(\d+)(.*)")
    tensors = {
        (f"{m[1]}{int(m[2]) - 2}{m[3]}" if (m := counted.fullmatch(name)) else name): tensor
        for name, tensor in renamed.items()
    }
    tensors["quantizer.code_count"] = torch.ones(len(tensors["quantizer.codebook"]))
    tensors["quantizer.initialized"] = torch.ones((), dtype=torch.bool)
    return tensors


_LAMP_RULES = [
    (r"Qformer\.bert\.(embeddings\.(?:word|position)_embeddings\.weight)", r"qformer.\1"),
    (r"Qformer\.bert\.embeddings\.LayerNorm\.(weight|bias)", r"qformer.embeddings.layernorm.\1"),
    (
        r"Qformer\.bert\.(encoder\.layer\.\d+\.(?:cross)?attention)\.self\.(query|key|value)\.(weight|bias)",
        r"qformer.\1.attention.\2.\3",
    ),
    (r"Qformer\.bert\.(encoder\.layer\.\d+\..*)", r"qformer.\1"),
    (r"Qformer\.cls\.predictions\.bias", "lm_head.decoder.bias"),
    (r"Qformer\.cls\.predictions\.decoder\.weight", "lm_head.decoder.weight"),
    (r"Qformer\.cls\.predictions\.transform\.dense\.(weight|bias)", r"lm_head.dense.\1"),
    (r"Qformer\.cls\.predictions\.transform\.LayerNorm\.(weight|bias)", r"lm_head.layer_norm.\1"),
    (r"query_tokens", "query_tokens"),
    (r"(motion|text)_proj\.(weight|bias)", r"\1_projection.\2"),
    (r"(motion|text)_projection", r"\1_to_states.weight"),
    (r"itm_head\.(weight|bias)", r"matching_head.\1"),
    (r"motion_cls\.weight", "motion_token_head.weight"),
    (r"temp", "logit_scale"),
]
# Saved twice, or constant.
_LAMP_UNUSED = {"Qformer.bert.embeddings.position_ids", "Qformer.cls.predictions.decoder.bias"}


def lamp_state_dict(original: Tensors, *, num_downsampling_layers: int = 2) -> Tensors:
    """Tensors of an original LaMP under the names of `LampModel` with `separate_motion_encoder=True` (L1).

    The original multiplies similarities by `temp`, ours by the exponential of `logit_scale` (L3).
    """
    tokenizer, encoder = {}, {}
    for name, tensor in original.items():
        if name.startswith("vq_model."):
            tokenizer[name.removeprefix("vq_model.")] = tensor
        elif name.startswith("motion_encoder."):
            encoder["vqvae." + name.removeprefix("motion_")] = tensor
    rest = {
        name: tensor
        for name, tensor in original.items()
        if not name.startswith(("vq_model.", "motion_encoder.")) and name not in _LAMP_UNUSED
    }
    tensors, strangers = _rename(rest, _LAMP_RULES)
    if strangers:
        raise _unknown(strangers, "LaMP")
    for name in ("motion_to_states.weight", "text_to_states.weight"):
        tensors[name] = tensors[name].T.contiguous()
    tensors["logit_scale"] = tensors["logit_scale"].log()
    converted = vqvae_state_dict(tokenizer, num_downsampling_layers=num_downsampling_layers)
    tensors |= {f"motion_vqvae.{name}": tensor for name, tensor in converted.items()}
    encoder["vqvae.quantizer.codebook"] = tokenizer["vqvae.quantizer.codebook"]  # none of its own
    converted = vqvae_state_dict(encoder, num_downsampling_layers=num_downsampling_layers)
    tensors |= {f"motion_{name}": tensor for name, tensor in converted.items() if name.startswith("encoder.")}
    return tensors


_TEXT_TO_MOTION_RULES = [
    (r"text2former\.(weight|bias)", r"text_to_condition.\1"),
    (r"token_emb\.weight", "token_embeddings.weight"),
    (r"cond_emb\.(weight|bias)", r"masked_transformer.condition_projection.\1"),
    (r"input_process\.poseEmbedding\.(weight|bias)", r"masked_transformer.token_projection.\1"),
    (
        r"seqTransEncoder\.(layers\.\d+)\.self_attn\.in_proj_(weight|bias)",
        r"masked_transformer.\1.attention.qkv.\2",
    ),
    (
        r"seqTransEncoder\.(layers\.\d+)\.self_attn\.out_proj\.(weight|bias)",
        r"masked_transformer.\1.attention.out_proj.\2",
    ),
    (r"seqTransEncoder\.(layers\.\d+)\.linear(\d)\.(weight|bias)", r"masked_transformer.\1.fc\2.\3"),
    (r"seqTransEncoder\.(layers\.\d+)\.norm1\.(weight|bias)", r"masked_transformer.\1.attention_norm.\2"),
    (r"seqTransEncoder\.(layers\.\d+)\.norm2\.(weight|bias)", r"masked_transformer.\1.output_norm.\2"),
    (r"output_process\.dense\.(weight|bias)", r"masked_transformer.head.\1"),
    (r"output_process\.LayerNorm\.(weight|bias)", r"masked_transformer.head_norm.\1"),
    (r"output_process\.poseFinal\.(weight|bias)", r"masked_transformer.classifier.\1"),
]
# The fixed positions, and a layer that takes no part (T6).
_TEXT_TO_MOTION_UNUSED = {"position_enc.pe", "clip2qformer.weight", "clip2qformer.bias"}


def text_to_motion_state_dict(original: Tensors, lamp: Tensors, *, num_downsampling_layers: int = 2) -> Tensors:
    """Tensors of an original masked transformer under the names of `LampForTextToMotion`.

    That model has `train_token_embeddings=True`, for the file holds token embeddings of its own (T7). The length
    estimator is in another file, and reads other features: none of its tensors are here.

    Args:
        original: Of the masked transformer's file, which repeats the Q-Former but not its heads.
        lamp: Of the original LaMP that it was trained on.
        num_downsampling_layers: Of the tokenizer.
    """
    prefixes = ("Qformer.", "query_tokens")
    qformer = {n: t for n, t in original.items() if n.startswith(prefixes) and n not in _LAMP_UNUSED}
    rest = {
        name: tensor
        for name, tensor in original.items()
        if not name.startswith(prefixes) and name not in _TEXT_TO_MOTION_UNUSED
    }
    renamed, strangers = _rename(qformer, _LAMP_RULES)
    tensors, more = _rename(rest, _TEXT_TO_MOTION_RULES)
    if strangers or more:
        raise _unknown(strangers + more, "text-to-motion")
    converted = lamp_state_dict(lamp, num_downsampling_layers=num_downsampling_layers) | renamed
    return tensors | {f"lamp.{name}": tensor for name, tensor in converted.items()}


def length_estimator_state_dict(original: Tensors) -> Tensors:
    """Tensors of an original length estimator (`output.…`) under the names of `MotionLengthEstimator`.

    The original's first class, a motion of no tokens, is left out.
    """
    rules = [
        (r"output\.11\.(weight|bias)", r"classifier.\1"),
        (r"output\.(\d+)\.(weight|bias)", r"layers.\1.\2"),
    ]
    tensors, strangers = _rename(original, rules)
    if strangers:
        raise _unknown(strangers, "length estimator")
    return {n: t[1:] if n.startswith("classifier.") else t for n, t in tensors.items()}


# Of the language model only the copy without adapter names is needed; the others take no part (a T2M-GPT, the VQ-VAE).
_CAPTIONING_UNUSED = ("trans_base.", "trans_head.", "vq_model.")


def captioning_state_dict(original: Tensors, lamp: Tensors, *, num_downsampling_layers: int = 2) -> Tensors:
    """Tensors of an original captioner under the names of `LampForMotionCaptioning` with all parts of its own.

    The file holds the language model twice under two names, each with the adapter in it; one suffices.

    Args:
        original: Of the captioner's file, which repeats the Q-Former but not LaMP's heads.
        lamp: Of the original LaMP that it was trained on.
        num_downsampling_layers: Of the tokenizer.
    """
    lamp = dict(lamp)
    language_model: Tensors = {}
    strangers = []
    for name, tensor in original.items():
        if match := re.fullmatch(r"(?:opt_model|llm\.base_model\.model)\.(.+)", name):
            # An old peft calls the layer under an adapter by the layer's own name.
            adapted = f"{name.rpartition('.')[0]}.lora_A.default.weight" in original
            inner = re.sub(r"\.(weight|bias)$", r".base_layer.\1", match[1]) if adapted else match[1]
            language_model[f"language_model.base_model.model.{inner}"] = tensor
        elif match := re.fullmatch(r"opt_proj\.(weight|bias)", name):
            language_model[f"projection.{match[1]}"] = tensor
        elif name.startswith(("Qformer.", "motion_encoder.")) or name in ("query_tokens", "motion_projection"):
            lamp[name] = tensor
        elif not name.startswith(_CAPTIONING_UNUSED):
            strangers.append(name)
    if strangers:
        raise _unknown(strangers, "captioning")
    converted = lamp_state_dict(lamp, num_downsampling_layers=num_downsampling_layers)
    return language_model | {f"lamp.{name}": tensor for name, tensor in converted.items()}


_EVALUATOR_RULES = [
    (r"movement_encoder\.main\.0\.(weight|bias)", r"movement_encoder.conv1.\1"),
    (r"movement_encoder\.main\.3\.(weight|bias)", r"movement_encoder.conv2.\1"),
    (r"movement_encoder\.out_net\.(weight|bias)", r"movement_encoder.projection.\1"),
    (r"text_encoder\.pos_emb\.(weight|bias)", r"pos_projection.\1"),
    (r"(text|motion)_encoder\.hidden", r"\1_encoder.initial_state"),
    (r"(text|motion)_encoder\.input_emb\.(weight|bias)", r"\1_encoder.input_projection.\2"),
    (r"((?:text|motion)_encoder\.gru\.(?:weight|bias)_(?:ih|hh)_l0(?:_reverse)?)", r"\1"),
    (r"(text|motion)_encoder\.output_net\.0\.(weight|bias)", r"\1_encoder.fc1.\2"),
    (r"(text|motion)_encoder\.output_net\.1\.(weight|bias)", r"\1_encoder.layer_norm.\2"),
    (r"(text|motion)_encoder\.output_net\.3\.(weight|bias)", r"\1_encoder.fc2.\2"),
]


def evaluator_state_dict(original: dict[str, Tensors]) -> Tensors:
    """Tensors of an original T2M evaluator under the names of `MotionTextEvaluatorModel`.

    That model has `text_input="glove"`, and `mask_motion_padding=False` to give the original's features.

    Args:
        original: What the file holds: tensors of `movement_encoder`, `text_encoder` and `motion_encoder`; the state
            of the training beside them is not looked at.
    """
    parts = ("movement_encoder", "text_encoder", "motion_encoder")
    flat = {f"{part}.{name}": tensor for part in parts for name, tensor in original[part].items()}
    tensors, strangers = _rename(flat, _EVALUATOR_RULES)
    if strangers:
        raise _unknown(strangers, "evaluator")
    return tensors
