"""Original state dicts, converted to those of our models.

Each function takes the tensors of one kind of checkpoint and returns those that our model loads. A tensor that is
neither used nor known to be unused is an error.
"""

from collections.abc import Mapping

import torch

from .layout import EVALUATOR_PARTS, STORED, UNUSED, rename, rules_of

Tensors = dict[str, torch.Tensor]


def _convert(original: Tensors, kind: str) -> Tensors:
    """Rename tensors, and change the values that we store differently."""
    rules = rules_of(kind, original)
    converted: Tensors = {}
    unknown = []
    for name, tensor in original.items():
        if UNUSED[kind].fullmatch(name):
            continue
        ours = rename(name, rules)
        if ours is None:
            unknown.append(name)
        else:
            converted[ours] = STORED[name][0](tensor) if name in STORED else tensor
    if unknown:
        shown = ", ".join(sorted(unknown)[:5])
        raise ValueError(f"{len(unknown)} tensors do not belong to an original {kind} checkpoint: {shown}")
    for name in [name for name in converted if name.endswith("quantizer.codebook")]:
        # The moving averages are not in the released files (V1): training continues from counts of one.
        quantizer = name.removesuffix("codebook")
        converted[f"{quantizer}code_count"] = torch.ones(len(converted[name]))
        converted[f"{quantizer}initialized"] = torch.ones((), dtype=torch.bool)
    return converted


def _with_lamp(converted: Tensors, lamp: Tensors) -> Tensors:
    """Add LaMP's tensors, except those that the model's own file repeats."""
    return {f"lamp.{name}": tensor for name, tensor in lamp_state_dict(lamp).items()} | converted


def vqvae_state_dict(original: Tensors) -> Tensors:
    """Convert the tensors of an original VQ-VAE (`vqvae.…`) to those of `MotionVQVAEModel`."""
    return _convert(original, "motion-vqvae")


def lamp_state_dict(original: Tensors) -> Tensors:
    """Convert the tensors of an original LaMP to those of `LampModel` with `separate_motion_encoder=True` (L1)."""
    return _convert(original, "lamp")


def text_to_motion_state_dict(original: Tensors, lamp: Tensors) -> Tensors:
    """Convert the tensors of an original masked transformer to those of `LampForTextToMotion`.

    That model has `train_token_embeddings=True`, because the file contains its own token embeddings (T7). The length
    estimator is in another file and reads other features: none of its tensors are included.

    Args:
        original: Tensors of the masked transformer's file, which repeats the Q-Former but not its heads.
        lamp: Tensors of the original LaMP that it was trained on.
    """
    return _with_lamp(_convert(original, "text-to-motion"), lamp)


def captioning_state_dict(original: Tensors, lamp: Tensors) -> Tensors:
    """Convert the tensors of an original captioner to those of a captioner that contains LaMP and the language model.

    Args:
        original: Tensors of the captioner's file, which repeats the Q-Former but not LaMP's heads.
        lamp: Tensors of the original LaMP that it was trained on.
    """
    rest, first, second = split_language_models(original)
    return _with_lamp(_convert(rest | (first or second), "captioning"), lamp)


def split_language_models(original: Tensors) -> tuple[Tensors, Tensors, Tensors]:
    """Split a captioner's tensors into those outside the language model and the two copies of the language model.

    The released code stores the language model under two names, each with its adapter. Both copies are returned under
    `opt_model.` and the names of recent versions of peft; old versions give an adapted layer its plain name.
    """
    copies: dict[str, Tensors] = {"opt_model.": {}, "llm.base_model.model.": {}}
    rest: Tensors = {}
    for name, tensor in original.items():
        prefix = next((prefix for prefix in copies if name.startswith(prefix)), None)
        if prefix is None:
            rest[name] = tensor
            continue
        layer, _, last = name.removeprefix(prefix).rpartition(".")
        if f"{prefix}{layer}.lora_A.default.weight" in original:
            layer = f"{layer}.base_layer"
        copies[prefix][f"opt_model.{layer}.{last}"] = tensor
    first, second = copies.values()
    return rest, first, second


def length_estimator_state_dict(original: Tensors) -> Tensors:
    """Convert the tensors of an original length estimator (`output.…`) to those of `MotionLengthEstimator`.

    The original's first class, a motion of no tokens, is left out.
    """
    converted = _convert(original, "length-estimator")
    return {name.removeprefix("length_estimator."): tensor for name, tensor in converted.items()}


def evaluator_state_dict(original: Tensors) -> Tensors:
    """Convert the tensors of an original T2M evaluator to those of `MotionTextEvaluatorModel`.

    That model has `text_input="glove"`, and `mask_motion_padding=False` to give the original's features.

    Args:
        original: Tensors of the evaluator's three parts, as [`flat_evaluator`] returns them.
    """
    return _convert(original, "evaluator")


def flat_evaluator(original: Mapping[str, Tensors]) -> Tensors:
    """Return the tensors of an evaluator's file in one dictionary, with `movement_encoder.`, … before their names.

    The training state in the file is left out.
    """
    return {f"{part}.{name}": tensor for part in EVALUATOR_PARTS for name, tensor in original[part].items()}
