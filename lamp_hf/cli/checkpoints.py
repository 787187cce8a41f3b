"""Finding the checkpoint for a command and checking that it fits the task."""

from lamp_hf.checkpoints.tasks import MODEL_TYPES

__all__ = ["find_checkpoint"]


def find_checkpoint(model: str | None, task: str) -> str:
    """Return the folder or Hub id to load for `--model`; without it, the default checkpoint.

    Raises:
        CheckpointError: If the checkpoint is incomplete, or was written by a newer version.
        OSError: If the checkpoint does not exist.
        ValueError: If the checkpoint contains a model for another task.
    """
    import transformers
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    from lamp_hf.checkpoints.embedded import DEFAULT_CHECKPOINT, resolve_checkpoint
    from lamp_hf.checkpoints.files import CONFIG_FILES, explained
    from lamp_hf.hub.errors import clear_hub_errors

    transformers.logging.disable_progress_bar()
    transformers.logging.set_verbosity_error()  # our own error describes a bad checkpoint in one line
    checkpoint = resolve_checkpoint(model or DEFAULT_CHECKPOINT)
    try:
        with explained(checkpoint, (CONFIG_FILES,), {}):
            model_type = transformers.AutoConfig.from_pretrained(checkpoint, trust_remote_code=False).model_type
    except OSError as error:
        with clear_hub_errors(checkpoint):
            if isinstance(error.__cause__, HfHubHTTPError | LocalEntryNotFoundError):
                raise error.__cause__ from None
        raise OSError(f"{checkpoint} cannot be loaded: {error}") from error
    if model_type not in MODEL_TYPES[task]:
        raise ValueError(
            f"{checkpoint} contains a {model_type!r} model; {task} needs one of {', '.join(MODEL_TYPES[task])}"
        )
    return checkpoint
