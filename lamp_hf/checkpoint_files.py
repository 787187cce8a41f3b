"""Which files make a checkpoint, and the error where some are missing."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["CONFIG_FILES", "PROCESSOR_FILES", "WEIGHT_FILES", "CheckpointError", "explained"]

# Of each part of a checkpoint one of these is needed.
CONFIG_FILES = ("config.json",)
WEIGHT_FILES = ("model.safetensors", "model.safetensors.index.json")
EXTRACTOR_FILES = ("processor_config.json", "preprocessor_config.json")
TOKENIZER_FILES = ("tokenizer.json", "vocab.txt")
PROCESSOR_FILES = (EXTRACTOR_FILES, TOKENIZER_FILES)


class CheckpointError(Exception):
    """A checkpoint that is incomplete, holds another kind of model, or comes from a newer version of lamp_hf.

    No ValueError and no OSError: those are what `pipeline()` of transformers expects of one of several possible
    classes, and answers with the tracebacks of all of them.
    """


@contextmanager
def explained(
    name: str | os.PathLike[str], needed: tuple[tuple[str, ...], ...], options: Mapping[str, Any]
) -> Iterator[None]:
    """Where loading fails because files are missing, say which.

    Args:
        name: Folder or Hub id of the checkpoint.
        needed: For each part, files of which one must be there.
        options: Keyword arguments of `from_pretrained`.

    Raises:
        CheckpointError: Files are missing.
    """
    try:
        yield
    except (OSError, ValueError, TypeError) as error:
        if (files := _files(name, options)) is None:
            raise
        missing = [" or ".join(part) for part in needed if not files.intersection(part)]
        if not missing:
            raise
        raise CheckpointError(
            f"{name} is incomplete: it has no {', and no '.join(missing)}. Found: "
            f"{', '.join(sorted(files)) or 'nothing'}. Save or push the whole checkpoint again"
        ) from error


def _files(name: str | os.PathLike[str], options: Mapping[str, Any]) -> set[str] | None:
    """Files of a checkpoint, or `None` where the Hub does not tell."""
    folder = options.get("subfolder") or ""
    if Path(name).is_dir():
        return {path.name for path in Path(name, folder).glob("*") if path.is_file()}
    from huggingface_hub import HfApi

    try:
        names = HfApi(token=options.get("token")).list_repo_files(str(name), revision=options.get("revision"))
    except Exception:  # no connection, no such repository: the first error says it
        return None
    prefix = f"{folder}/" if folder else ""
    return {file.removeprefix(prefix) for file in names if file.startswith(prefix)}
