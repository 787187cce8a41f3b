"""Checkpoints from before a layer of LaMP got its current name or shape; they load bit for bit."""

import re
from collections.abc import Iterable
from typing import Any

import torch
from transformers import WeightConverter
from transformers.conversion_mapping import register_checkpoint_conversion_mapping
from transformers.core_model_loading import ConversionOps

__all__ = ["FORMER_NAMES", "has_former_names", "take_former_names", "take_former_shapes"]

# Former names of layers of LaMP, which are still in the file of lamp-small: patterns and replacements. The order
# matters, because some names have changed their meaning.
FORMER_NAMES = {
    r"motion_projection\.weight": "motion_to_states.weight",
    r"text_projection\.weight": "text_to_states.weight",
    r"motion_proj\.": "motion_projection.",
    r"text_proj\.": "text_projection.",
}
FORMER_NAME = "text_proj.weight"  # a name that only old checkpoints contain
FORMER_SCALAR = "logit_scale"  # a tensor that had no dimensions; it has one now


class AsVector(ConversionOps):
    """Give a tensor without dimensions one; other tensors stay as they are."""

    def convert(
        self, input_dict: dict[str, Any], source_patterns: list[str], target_patterns: list[str], **kwargs: Any
    ) -> dict[str, Any]:
        [tensors] = input_dict.values()
        tensor = tensors[0] if isinstance(tensors, list) else tensors
        return {target_patterns[0]: tensor.reshape(-1)}

    @property
    def reverse_op(self) -> ConversionOps:
        return AsVector()


register_checkpoint_conversion_mapping("lamp", [WeightConverter(FORMER_SCALAR, FORMER_SCALAR, [AsVector()])], True)


def has_former_names(names: Iterable[str]) -> bool:
    """Return whether tensors have names from [`FORMER_NAMES`]."""
    return any(name.endswith(FORMER_NAME) for name in names)


def take_former_names(module: torch.nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """Rename tensors; hook of `load_state_dict` for runs that were started before the names changed."""
    if f"{prefix}{FORMER_NAME}" not in state_dict:
        return
    tensors = {name: state_dict.pop(name) for name in list(state_dict) if name.startswith(prefix)}
    for name, tensor in tensors.items():
        own = name.removeprefix(prefix)
        for pattern, replacement in FORMER_NAMES.items():
            own = re.sub(f"^{pattern}", replacement, own)
        state_dict[prefix + own] = tensor


def take_former_shapes(module: torch.nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """Give tensors their current shape; hook of `load_state_dict` for runs started before the shape changed."""
    if (name := f"{prefix}{FORMER_SCALAR}") in state_dict:
        state_dict[name] = state_dict[name].reshape(-1)
