"""What checkpoints of all models have in common: the version that wrote them, checks on loading, and publishing."""

import dataclasses
import difflib
import os
import re
from collections.abc import Iterable
from typing import Any, ClassVar

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import GenerationConfig, PreTrainedConfig, PreTrainedModel
from transformers.utils import logging

from lamp_hf.checkpoints.files import WEIGHT_FILES, CheckpointError, checked_name, explained, stored_tensors
from lamp_hf.version import __version__

__all__ = ["FORMER_NAMES", "LampBaseConfig", "LampBaseModel", "PublishedProcessor", "take_former_names"]

logger = logging.get_logger(__name__)

# What transformers puts into configurations besides their fields, and old versions of it put there.
TRANSFORMERS_KEYS = frozenset(GenerationConfig().to_dict()) | {
    "attn_implementation",
    "auto_map",
    "custom_pipelines",
    "experts_implementation",
    "fusion_config",
    "lamp_hf_version",
    "model_type",
    "name_or_path",
    "num_labels",
    "output_attentions",
    "per_layer_config",
    "quantization_config",
    "tie_last_hidden_states",
    "torch_dtype",
    "transformers_version",
    "transformers_weights",
    "use_cache",
}

# Layers of a LaMP that were called otherwise when lamp-small was saved, whose names of then its file keeps. Patterns of
# names and what takes their place, in the order in which to apply them, for some names have changed their meaning.
FORMER_NAMES = {
    r"motion_projection\.weight": "motion_to_states.weight",
    r"text_projection\.weight": "text_to_states.weight",
    r"motion_proj\.": "motion_projection.",
    r"text_proj\.": "text_projection.",
}
FORMER_NAME = "text_proj.weight"  # which names of then have, and those of now have not


class LampBaseConfig(PreTrainedConfig):
    """A configuration that knows its own settings, and is saved with the version of lamp_hf.

    One of a newer version of lamp_hf, by its major or minor version, is not read: it may have settings that this
    version does not know, and the model would run and give something else.
    """

    # Model types whose checkpoints hold a model of this configuration.
    checkpoint_types: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self, **kwargs: Any) -> None:
        """Refuse what is not a setting.

        Raises:
            TypeError: A setting is not known, or a part is not a configuration.
        """
        if unknown := _unknown(type(self), kwargs):
            raise TypeError(f"{type(self).__name__} does not know {_with_nearest(type(self), unknown)}")
        for name in self.sub_configs_defaults or {}:
            if not isinstance(part := getattr(self, name), dict | PreTrainedConfig | None):
                raise TypeError(f"{name}={part!r} is not a configuration, a dict of its values or None")
        super().__post_init__(**kwargs)

    @classmethod
    def get_config_dict(
        cls, pretrained_model_name_or_path: str | os.PathLike[str], **kwargs: Any
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """What `config.json` holds.

        Raises:
            CheckpointError: There is none, it is that of another kind of model, or of a newer version.
        """
        name = checked_name(pretrained_model_name_or_path, kwargs)
        with explained(name, (), kwargs):
            values, rest = super().get_config_dict(name, **kwargs)
        found, wanted = values.get("model_type"), cls.checkpoint_types or (cls.model_type,)
        if found is None:
            raise CheckpointError(f"{name} has no config.json that names its model type: it holds no checkpoint")
        if found not in wanted:
            made_for = (values.get("architectures") or ["transformers.AutoModel"])[0]
            raise CheckpointError(
                f"{name} holds a {found!r} model where {' or '.join(map(repr, wanted))} is needed; name another "
                f"checkpoint, or load this one as {made_for}"
            )
        _refuse_newer(values, name)
        return values, rest

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """A configuration of its values. Settings that are not known, of older versions, are left out and told.

        Raises:
            CheckpointError: A newer version of lamp_hf wrote them, or a value cannot be one of its setting.
        """
        name = kwargs.get("name_or_path") or config_dict.get("_name_or_path") or "this checkpoint"
        _refuse_newer(config_dict, name)
        try:
            return super().from_dict(_known_settings(cls, config_dict, name), **kwargs)
        except (StrictDataclassError, TypeError, ValueError, AttributeError) as error:
            reason = " ".join(str(error).split())
            raise CheckpointError(f"config.json of {name} cannot be used: {reason}") from error

    def to_diff_dict(self) -> dict[str, Any]:
        """What `config.json` will hold."""
        return super().to_diff_dict() | {"lamp_hf_version": __version__}


class LampBaseModel(PreTrainedModel):
    """A model that says clearly why a checkpoint does not load, and is published with a card."""

    @property
    def dtype(self) -> torch.dtype:
        """Type in which the model computes; parts that always stay in float32 do not count."""
        kept = tuple(self._keep_in_fp32_modules_strict or ())
        for name, parameter in self.named_parameters():
            if parameter.is_floating_point() and not any(part in name for part in kept):
                return parameter.dtype
        return super().dtype

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls, pretrained_model_name_or_path: Any, *model_args: Any, **kwargs: Any
    ) -> Any:
        """As for any model of transformers, by the name of an embedded checkpoint too.

        A checkpoint from which tensors are missing is refused: the model would run on random numbers. Whoever gives
        other settings than the checkpoint's in `kwargs`, or asks for `output_loading_info`, means to train what is new.

        Raises:
            CheckpointError: The checkpoint has no weights, or not all of them, is damaged, holds another kind of model,
                or is too new.
        """
        name = checked_name(pretrained_model_name_or_path, kwargs)
        with explained(name, (WEIGHT_FILES,), kwargs):
            options = {**kwargs, "output_loading_info": True, "ignore_mismatched_sizes": True}
            if has_former_names(stored_tensors(name, kwargs)):
                options.setdefault("key_mapping", FORMER_NAMES)
            result: Any = super().from_pretrained(name, *model_args, **options)
            if "key_mapping" not in options and has_former_names(stored_tensors(name, kwargs)):
                # Only now, downloaded, it can be seen.
                result = super().from_pretrained(name, *model_args, **options, key_mapping=FORMER_NAMES)
            loaded, report = result
            if report["mismatched_keys"] and not kwargs.get("ignore_mismatched_sizes"):
                key, stored, wanted = min(report["mismatched_keys"])
                raise CheckpointError(
                    f"{name} holds tensors of other sizes than its configuration asks for "
                    f"({len(report['mismatched_keys'])}): {key} is {tuple(stored)}, expected {tuple(wanted)}"
                )
            if kwargs.get("output_loading_info"):
                return loaded, report
            missing = sorted(report["missing_keys"])
            if missing and not kwargs.keys() & _own_fields(loaded.config_class):
                raise CheckpointError(
                    f"{name} lacks {len(missing)} of the tensors that its configuration asks for: "
                    f"{_listed(missing)}. Save or push the whole checkpoint again; to train what is missing, load it "
                    "with output_loading_info=True, which returns the model and what is missing"
                )
            loaded.check_tensors(stored_tensors(name, kwargs))
        return loaded

    def save_pretrained(self, save_directory: str | os.PathLike[str], **kwargs: Any) -> None:  # type: ignore[override]
        """As for any model of transformers, by the names that its layers have now.

        Raises:
            OSError: The weights cannot be written, as on a full disk.
        """
        try:
            super().save_pretrained(save_directory, **{"save_original_format": False, **kwargs})
        except SafetensorError as error:  # which wraps what the system says
            raise OSError(f"{save_directory}: the weights cannot be written ({error})") from error

    def check_tensors(self, stored: dict[str, tuple[str, str]]) -> None:
        """Check what was loaded, where a wrong value would show later, or never.

        Args:
            stored: File and type, as safetensors names it, of each tensor of the checkpoint.

        Raises:
            CheckpointError: A tensor is not of the kind that it was saved as.
        """
        if getattr(self.config, "quantization_config", None) is not None:
            return
        tensors = self.state_dict()
        for key, (file, dtype) in stored.items():
            if key in tensors and tensors[key].is_floating_point() != dtype.startswith(("F", "BF")):
                raise CheckpointError(
                    f"{file} is damaged: it holds {key} as {dtype}, expected "
                    f"{'floating-point numbers' if tensors[key].is_floating_point() else 'whole numbers'}"
                )

    def push_to_hub(self, repo_id: str, **options: Any) -> str:  # type: ignore[override]
        """Publish the model with a card; see [`lamp_hf.publishing.checkpoint.push_model`]."""
        from lamp_hf.publishing.checkpoint import push_model

        return push_model(self, repo_id, **options)


def has_former_names(names: Iterable[str]) -> bool:
    """Whether tensors are called as in [`FORMER_NAMES`]."""
    return any(name.endswith(FORMER_NAME) for name in names)


def take_former_names(module: torch.nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """Hook of `load_state_dict`, for runs that began before the names changed and go on."""
    if f"{prefix}{FORMER_NAME}" not in state_dict:
        return
    tensors = {name: state_dict.pop(name) for name in list(state_dict) if name.startswith(prefix)}
    for name, tensor in tensors.items():
        own = name.removeprefix(prefix)
        for pattern, replacement in FORMER_NAMES.items():
            own = re.sub(f"^{pattern}", replacement, own)
        state_dict[prefix + own] = tensor


class PublishedProcessor:
    """For what prepares the input of a model: published as models are."""

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Publish it alone; see [`lamp_hf.publishing.processor.push_processor`]."""
        from lamp_hf.publishing.processor import push_processor

        return push_processor(self, repo_id, **options)


def _own_fields(config_class: type) -> set[str]:
    """Settings of a configuration that are not those of every configuration."""
    return {field.name for field in dataclasses.fields(config_class)} - {
        field.name for field in dataclasses.fields(PreTrainedConfig)
    }


def _unknown(config_class: type, names: Iterable[str]) -> list[str]:
    fields = {field.name for field in dataclasses.fields(config_class)}
    return [
        name
        for name in names
        if not (name in fields or name in TRANSFORMERS_KEYS or name.startswith("_") or hasattr(config_class, name))
    ]


def _with_nearest(config_class: type, unknown: Iterable[str]) -> str:
    known = _own_fields(config_class)
    told = []
    for name in unknown:
        nearest = difflib.get_close_matches(name, known, n=1)
        told.append(f"{name}; did you mean {nearest[0]}?" if nearest else name)
    return " ".join(told) if len(told) == 1 else ", ".join(told)


def _known_settings(config_class: type[PreTrainedConfig], values: dict[str, Any], name: object) -> dict[str, Any]:
    """Values without those that are not settings; parts likewise."""
    unknown = _unknown(config_class, values)
    if unknown:
        logger.warning(
            f"config.json of {name} has settings that {config_class.__name__} does not know, and that are not used: "
            f"{_with_nearest(config_class, unknown)}"
        )
    known = {key: value for key, value in values.items() if key not in unknown and key != "lamp_hf_version"}
    for key, spec in (config_class.sub_configs_defaults or {}).items():
        part_class = spec.config_class
        if isinstance(known.get(key), dict) and issubclass(part_class, LampBaseConfig):
            known[key] = _known_settings(part_class, known[key], name)
    return known


def _listed(names: list[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _refuse_newer(values: dict[str, Any], name: object) -> None:
    wrote = values.get("lamp_hf_version")
    if isinstance(wrote, str) and _minor(wrote) > _minor(__version__):
        raise CheckpointError(
            f"{name} was written by lamp_hf {wrote}; this is lamp_hf {__version__}, which may not know all of its "
            "settings: pip install --upgrade lamp_hf"
        )


def _minor(version: str) -> tuple[int, ...]:
    """Major and minor version."""
    return tuple(int("".join(filter(str.isdigit, part)) or 0) for part in version.split(".")[:2])
