"""What checkpoints of all models have in common: the version that wrote them, checks on loading, and publishing."""

import os
from typing import Any, ClassVar

from transformers import PreTrainedConfig, PreTrainedModel

from lamp_hf import __version__
from lamp_hf.checkpoint_files import WEIGHT_FILES, CheckpointError, explained

__all__ = ["LampBaseConfig", "LampBaseModel", "PublishedProcessor"]


class LampBaseConfig(PreTrainedConfig):
    """A configuration that is saved with the version of lamp_hf, and read if that is no newer than this one.

    Newer is a higher major or minor version. It may have settings that this version does not know; configurations
    keep unknown settings and nobody reads them, so that the model would run and give something else.
    """

    # Model types whose checkpoints hold a model of this configuration.
    checkpoint_types: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def get_config_dict(
        cls, pretrained_model_name_or_path: str | os.PathLike[str], **kwargs: Any
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """What `config.json` holds.

        Raises:
            CheckpointError: There is none, it is that of another kind of model, or of a newer version.
        """
        values, rest = super().get_config_dict(pretrained_model_name_or_path, **kwargs)
        name = str(pretrained_model_name_or_path)
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
        """A configuration of its values.

        Raises:
            CheckpointError: A newer version of lamp_hf wrote them.
        """
        _refuse_newer(config_dict, kwargs.get("name_or_path") or config_dict.get("_name_or_path") or "this checkpoint")
        return super().from_dict({key: x for key, x in config_dict.items() if key != "lamp_hf_version"}, **kwargs)

    def to_diff_dict(self) -> dict[str, Any]:
        """What `config.json` will hold."""
        return super().to_diff_dict() | {"lamp_hf_version": __version__}


class LampBaseModel(PreTrainedModel):
    """A model that says clearly why a checkpoint does not load, and is published with a card."""

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls, pretrained_model_name_or_path: Any, *model_args: Any, **kwargs: Any
    ) -> Any:
        """As for any model of transformers.

        Raises:
            CheckpointError: The checkpoint has no weights, holds another kind of model, or is too new.
        """
        with explained(pretrained_model_name_or_path, (WEIGHT_FILES,), kwargs):
            return super().from_pretrained(pretrained_model_name_or_path, *model_args, **kwargs)

    def push_to_hub(self, repo_id: str, **options: Any) -> str:  # type: ignore[override]
        """Publish the model with a card; see [`lamp_hf.hub.publish.push_model`]."""
        from lamp_hf.hub.publish import push_model

        return push_model(self, repo_id, **options)


class PublishedProcessor:
    """For what prepares the input of a model: published as models are."""

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Publish it alone; see [`lamp_hf.hub.publish.push_processor`]."""
        from lamp_hf.hub.publish import push_processor

        return push_processor(self, repo_id, **options)


def _refuse_newer(values: dict[str, Any], name: object) -> None:
    wrote = values.get("lamp_hf_version")
    if wrote is not None and _minor(wrote) > _minor(__version__):
        raise CheckpointError(
            f"{name} was written by lamp_hf {wrote}; this is lamp_hf {__version__}, which may not know all of its "
            "settings: pip install --upgrade lamp_hf"
        )


def _minor(version: str) -> tuple[int, ...]:
    """Major and minor version."""
    return tuple(int("".join(filter(str.isdigit, part)) or 0) for part in version.split(".")[:2])
