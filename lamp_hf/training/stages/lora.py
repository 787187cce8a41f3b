"""The light way to teach a text-to-motion model: an adapter learns, everything else stays as it is."""

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
# All that turns LaMP's reading of a text into tokens and lengths.
ADAPTED = ("masked_transformer.", "length_estimator.", "text_to_condition", "words_to_condition")


def add_lora(model: LampForTextToMotion, *, rank: int = 16, alpha: int | None = None) -> LoraModel:
    """Put an adapter around the linear layers of the masked transformer, the length estimator and the text condition.

    Args:
        model: It is changed in place; from now on only the adapter learns.
        rank: Of the adapter's matrices.
        alpha: Scale; twice the rank by default.

    Returns:
        What saves the adapter, or makes it part of the model (`merge_and_unload`).
    """
    targets = [
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and name.startswith(ADAPTED)
    ]
    config = LoraConfig(r=rank, lora_alpha=2 * rank if alpha is None else alpha, target_modules=targets)
    return LoraModel(model, config, ADAPTER_NAME)


def save_lora(model: LampForTextToMotion, lora: LoraModel, folder: Path, base: str) -> None:
    """Write the adapter in peft's format.

    `model.load_adapter(folder)` puts it onto the base again, which needs the motion tokenizer it was trained with.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = lora.peft_config[ADAPTER_NAME]
    config.base_model_name_or_path = portable_name(base)
    config.inference_mode = True
    config.save_pretrained(str(folder))
    tensors = get_peft_model_state_dict(model, adapter_name=ADAPTER_NAME)
    tensors = {f"base_model.model.{name}": tensor.contiguous().cpu() for name, tensor in tensors.items()}
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
