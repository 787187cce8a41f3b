"""LoRA for text-to-motion models: an adapter is trained while all other weights stay frozen."""

from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model_state_dict
from peft.tuners.lora import LoraModel
from safetensors.torch import save_file

from lamp_hf.checkpoints.embedded import portable_name
from lamp_hf.modeling.modeling_lamp_text_to_motion import LampForTextToMotion

__all__ = ["ADAPTER_FOLDER", "add_lora", "save_lora"]

ADAPTER_FOLDER = "adapter"
ADAPTER_NAME = "default"
# The modules that compute tokens and lengths from LaMP's text features.
ADAPTED = (
    "masked_transformer.",
    "residual_transformer.",
    "length_estimator.",
    "text_to_condition",
    "words_to_condition",
)


def add_lora(model: LampForTextToMotion, *, rank: int = 16, alpha: int | None = None) -> LoraModel:
    """Add an adapter to the trained linear layers: all but LaMP's.

    Args:
        model: Changed in place: all weights except the adapter's are frozen.
        rank: Rank of the adapter's matrices.
        alpha: Scale of the adapter. Defaults to twice the rank.

    Returns:
        The adapter's wrapper; its `merge_and_unload` merges the adapter into the model.
    """
    targets = [
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and name.startswith(ADAPTED) and module.weight.requires_grad
    ]
    config = LoraConfig(r=rank, lora_alpha=2 * rank if alpha is None else alpha, target_modules=targets)
    return LoraModel(model, config, ADAPTER_NAME)


def save_lora(model: LampForTextToMotion, lora: LoraModel, folder: Path, base: str) -> None:
    """Save the adapter in peft's format.

    `model.load_adapter(folder)` adds it to the base again. The base must have the motion tokenizer that the adapter was
    trained with.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = lora.peft_config[ADAPTER_NAME]
    config.base_model_name_or_path = portable_name(base)
    config.inference_mode = True
    config.save_pretrained(str(folder))
    tensors = get_peft_model_state_dict(model, adapter_name=ADAPTER_NAME)
    tensors = {f"base_model.model.{name}": tensor.contiguous().cpu() for name, tensor in tensors.items()}
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
