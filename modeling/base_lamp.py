"""Base classes of all models: version of a checkpoint, checks on loading, and publishing."""

import dataclasses
import difflib
import os
from collections.abc import Iterable
from typing import Any, ClassVar

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import GenerationConfig, PreTrainedConfig, PreTrainedModel
from transformers.utils import logging

from lamp_hf.checkpoints.files import (
    WEIGHT_FILES,
    CheckpointError,
    checked_name,
    explained,
    model_class,
    stored_tensors,
)
from lamp_hf.version import __version__

from .former_checkpoints import FORMER_NAMES, has_former_names

__all__ = ["LampBaseConfig", "LampBaseModel", "PublishedProcessor"]

logger = logging.get_logger(__name__)

# Keys that transformers, or an old version of it, writes into configurations besides their fields.
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


class LampBaseConfig(PreTrainedConfig):
    """Base class of configurations, which reject unknown settings and are saved with the version of lamp_hf.

    A configuration from a newer major or minor version of lamp_hf does not load. It may have settings that this version
    does not know, and the model would run with different results.
    """

    # Model types of checkpoints that contain a model with this configuration.
    checkpoint_types: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self, **kwargs: Any) -> None:
        """Check the names of the settings.

        Raises:
            TypeError: A setting is unknown, or a part is not a configuration.
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
        """Read `config.json`.

        Raises:
            CheckpointError: The file is missing, belongs to another kind of model, or is from a newer version.
        """
        name = checked_name(pretrained_model_name_or_path, kwargs)
        with explained(name, (), kwargs):
            values, rest = super().get_config_dict(name, **kwargs)
        found, wanted = values.get("model_type"), cls.checkpoint_types or (cls.model_type,)
        if found is None:
            raise CheckpointError(
                f"{name} has no config.json with a model type, so it is not a checkpoint; use another one"
            )
        if found not in wanted:
            made_for = model_class(values) or "transformers.AutoModel"
            raise CheckpointError(
                f"{name} contains a {found!r} model, but {' or '.join(map(repr, wanted))} is needed; use another "
                f"checkpoint, or load this one as {made_for}"
            )
        _check_version(values, name)
        return values, rest

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """Create a configuration from its values; unknown settings, from older versions, are ignored with a warning.

        Raises:
            CheckpointError: The values are from a newer version of lamp_hf, or a value is invalid.
        """
        name = kwargs.get("name_or_path") or config_dict.get("_name_or_path") or "this checkpoint"
        _check_version(config_dict, name)
        if (current := model_class(config_dict)) is not None:
            config_dict = {**config_dict, "architectures": [current]}
        try:
            return super().from_dict(_known_settings(cls, config_dict, name), **kwargs)
        except (StrictDataclassError, TypeError, ValueError, AttributeError) as error:
            reason = " ".join(str(error).split())
            raise CheckpointError(f"config.json of {name} cannot be used: {reason}") from error

    def to_diff_dict(self) -> dict[str, Any]:
        """Return the values for `config.json`."""
        return super().to_diff_dict() | {"lamp_hf_version": __version__}


class LampBaseModel(PreTrainedModel):
    """Base class of models, with checks on loading and publishing with a card."""

    def post_init(self) -> None:
        super().post_init()
        self.list_unsplit_modules()

    def get_input_embeddings(self) -> Any:
        """Return the word embeddings, or `None` if the model has none; Accelerate asks every model for FSDP."""
        try:
            return super().get_input_embeddings()
        except NotImplementedError:
            return None

    def list_unsplit_modules(self) -> None:
        """List the classes that `device_map` and FSDP do not split, of this model and of the models in it.

        Classes that the model does not contain, such as those of other quantizers, are left out, because Accelerate
        does not start FSDP if one of them is missing.
        """
        models = (module for module in self.modules() if isinstance(module, PreTrainedModel))
        listed = {name for model in models for name in type(model)._no_split_modules or ()}
        self._no_split_modules = listed & {type(module).__name__ for module in self.modules()}

    @property
    def dtype(self) -> torch.dtype:
        """Type in which the model computes, without parts that always stay in float32."""
        kept = tuple(self._keep_in_fp32_modules_strict or ())
        for name, parameter in self.named_parameters():
            if parameter.is_floating_point() and not any(part in name for part in kept):
                return parameter.dtype
        return super().dtype

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls, pretrained_model_name_or_path: Any, *model_args: Any, **kwargs: Any
    ) -> Any:
        """Load a model as in transformers, also by the name of an embedded checkpoint.

        A checkpoint with missing tensors does not load, because the model would have random weights. To train new
        parts, pass settings of the configuration in `kwargs`, or `output_loading_info=True`.

        Raises:
            CheckpointError: The checkpoint has no weights, is incomplete, is damaged, contains another kind of model,
                or is from a newer version.
        """
        name = checked_name(pretrained_model_name_or_path, kwargs)
        with explained(name, (WEIGHT_FILES,), kwargs):
            options = {**kwargs, "output_loading_info": True, "ignore_mismatched_sizes": True}
            if has_former_names(stored_tensors(name, kwargs)):
                options.setdefault("key_mapping", FORMER_NAMES)
            result: Any = super().from_pretrained(name, *model_args, **options)
            if "key_mapping" not in options and has_former_names(stored_tensors(name, kwargs)):
                # The names of the tensors are only known after the download.
                result = super().from_pretrained(name, *model_args, **options, key_mapping=FORMER_NAMES)
            loaded, report = result
            if report["mismatched_keys"] and not kwargs.get("ignore_mismatched_sizes"):
                key, stored, wanted = min(report["mismatched_keys"])
                raise CheckpointError(
                    f"{name} has {len(report['mismatched_keys'])} tensors whose sizes do not match its configuration: "
                    f"{key} is {tuple(stored)}, expected {tuple(wanted)}"
                )
            if kwargs.get("output_loading_info"):
                return loaded, report
            missing = sorted(report["missing_keys"])
            if missing and not kwargs.keys() & _own_fields(loaded.config_class):
                raise CheckpointError(
                    f"{name} lacks {len(missing)} of the tensors that its configuration needs: "
                    f"{_listed(missing)}. Save or push the whole checkpoint again; to train what is missing, load it "
                    "with output_loading_info=True, which returns the model and the names"
                )
            loaded.check_tensors(stored_tensors(name, kwargs))
        return loaded

    def save_pretrained(self, save_directory: str | os.PathLike[str], **kwargs: Any) -> None:  # type: ignore[override]
        """Save the model as in transformers, with the current names of its layers.

        Raises:
            OSError: The weights cannot be written, for example because the disk is full.
        """
        try:
            super().save_pretrained(save_directory, **{"save_original_format": False, **kwargs})
        except SafetensorError as error:  # wraps the error of the system
            raise OSError(f"{save_directory}: the weights cannot be written ({error})") from error

    def check_tensors(self, stored: dict[str, tuple[str, str]]) -> None:
        """Check the loaded tensors for errors that would otherwise show late or never.

        Args:
            stored: File and safetensors type of each tensor of the checkpoint.

        Raises:
            CheckpointError: A tensor should have floating-point numbers but has whole numbers, or the reverse.
        """
        if getattr(self.config, "quantization_config", None) is not None:
            return
        tensors = self.state_dict()
        for key, (file, dtype) in stored.items():
            if key in tensors and tensors[key].is_floating_point() != dtype.startswith(("F", "BF")):
                raise CheckpointError(
                    f"{file} is damaged: {key} has the type {dtype}, expected "
                    f"{'floating-point numbers' if tensors[key].is_floating_point() else 'whole numbers'}"
                )

    def push_to_hub(self, repo_id: str, **options: Any) -> str:  # type: ignore[override]
        """Publish the model with a card; see [`lamp_hf.publishing.checkpoint.push_model`]."""
        from lamp_hf.publishing.checkpoint import push_model

        return push_model(self, repo_id, **options)


class PublishedProcessor:
    """Mixin for processors and feature extractors, which are published like models."""

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Publish the processor without a model; see [`lamp_hf.publishing.processor.push_processor`]."""
        from lamp_hf.publishing.processor import push_processor

        return push_processor(self, repo_id, **options)


def _own_fields(config_class: type) -> set[str]:
    """Return the settings of a configuration class that `PreTrainedConfig` does not have."""
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
    described = []
    for name in unknown:
        nearest = difflib.get_close_matches(name, known, n=1)
        described.append(f"{name}; did you mean {nearest[0]}?" if nearest else name)
    return ", ".join(described)


def _known_settings(config_class: type[PreTrainedConfig], values: dict[str, Any], name: object) -> dict[str, Any]:
    """Return the values without unknown settings, also in sub-configurations."""
    unknown = _unknown(config_class, values)
    if unknown:
        logger.warning(
            f"config.json of {name} has settings that {config_class.__name__} does not know; they are ignored: "
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


def _check_version(values: dict[str, Any], name: object) -> None:
    wrote = values.get("lamp_hf_version")
    if isinstance(wrote, str) and _minor(wrote) > _minor(__version__):
        raise CheckpointError(
            f"{name} was written by lamp_hf {wrote}; this is lamp_hf {__version__}, which may not know all of "
            "its settings; upgrade with: pip install --upgrade lamp_hf"
        )


def _minor(version: str) -> tuple[int, ...]:
    """Return the major and the minor version."""
    return tuple(int("".join(filter(str.isdigit, part)) or 0) for part in version.split(".")[:2])
