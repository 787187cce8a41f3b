"""The files of a checkpoint, and clear errors if they are missing or damaged."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lamp_hf.checkpoints.embedded import resolve_checkpoint
from lamp_hf.hub.errors import HubError, clear_hub_errors

__all__ = [
    "CONFIG_FILES",
    "EXTRACTOR_FILES",
    "INDEX_FILE",
    "PROCESSOR_FILES",
    "WEIGHT_FILES",
    "CheckpointError",
    "checked_name",
    "explained",
    "model_class",
    "stored_tensors",
]

# For each part of a checkpoint, the files of which it needs one.
CONFIG_FILES = ("config.json",)
INDEX_FILE = "model.safetensors.index.json"
WEIGHT_FILES = ("model.safetensors", INDEX_FILE)
EXTRACTOR_FILES = ("processor_config.json", "preprocessor_config.json")
TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "words.json")
PROCESSOR_FILES = (EXTRACTOR_FILES, TOKENIZER_FILES)
JSON_FILES = (
    *CONFIG_FILES,
    *EXTRACTOR_FILES,
    "generation_config.json",
    "tokenizer_config.json",
    "tokenizer.json",
    INDEX_FILE,
)

# Former names of model classes, which are still in config.json of old checkpoints.
FORMER_CLASSES = {
    "LampForMotionCaptioning": "LampWithLanguageModelForMotionCaptioning",
    "LampForMotionToText": "LampDecoderForMotionCaptioning",
}

# How long to wait for the Hub to say whether it has a repository.
HUB_TIMEOUT_S = 10.0

# The errors of code that reads a value that it was not written for.
VALUE_ERRORS = (TypeError, ValueError, AttributeError, KeyError, IndexError, OverflowError)


class CheckpointError(Exception):
    """A checkpoint that is incomplete or damaged, contains another kind of model, or needs a newer version of lamp_hf.

    It is neither a ValueError nor an OSError: `pipeline()` of transformers catches those, tries the next class, and
    ends with the tracebacks of all classes.
    """


def model_class(config: Mapping[str, Any]) -> str | None:
    """Return the current name of the class of a checkpoint's model, or `None` if the configuration does not name it.

    Args:
        config: Content of `config.json`.
    """
    match config.get("architectures"):
        case [str(name), *_]:
            return FORMER_CLASSES.get(name, name)
    return None


def checked_name(name: Any, options: Mapping[str, Any]) -> Any:
    """Return the folder, file or Hub id that `from_pretrained` reads for a name.

    A name that does not exist is refused at once; transformers would ask the Hub for each of a dozen files, five times.

    Args:
        name: Name given to `from_pretrained`.
        options: Keyword arguments of `from_pretrained`.

    Raises:
        FileNotFoundError: The name is neither a folder nor an embedded checkpoint nor a Hub id.
        HubError: The Hub has no such repository, or cannot be reached.
    """
    if name is None or os.path.exists(name):
        return name
    found = resolve_checkpoint(str(name))
    if not os.path.exists(found):
        _ask_hub(found, options)
    return found


def _ask_hub(repo_id: str, options: Mapping[str, Any]) -> None:
    from huggingface_hub import HfApi, constants, try_to_load_from_cache

    cached = {name: options[name] for name in ("cache_dir", "revision") if options.get(name) is not None}
    prefix = f"{options['subfolder']}/" if options.get("subfolder") else ""
    with clear_hub_errors(repo_id):
        files = (*JSON_FILES, "adapter_config.json")
        if any(isinstance(try_to_load_from_cache(repo_id, prefix + file, **cached), str) for file in files):
            return
        if constants.HF_HUB_OFFLINE or options.get("local_files_only"):
            raise HubError(
                f"{repo_id} is neither a local folder nor in the cache, and the Hub is not asked because "
                f"{'HF_HUB_OFFLINE is set' if constants.HF_HUB_OFFLINE else 'local_files_only=True was passed'}"
            )
        api = HfApi(token=options.get("token"))
        api.repo_info(repo_id, revision=options.get("revision"), timeout=HUB_TIMEOUT_S)


@contextmanager
def explained(
    name: str | os.PathLike[str],
    needed: tuple[tuple[str, ...], ...],
    options: Mapping[str, Any],
    blamed: tuple[str, ...] = (),
) -> Iterator[None]:
    """Name the missing or damaged files if loading fails.

    Args:
        name: Folder or Hub id of the checkpoint.
        needed: For each part of the checkpoint, the files of which it needs one.
        options: Keyword arguments of `from_pretrained`.
        blamed: Files to name if no file is missing or damaged, but a value in one of them is invalid.

    Raises:
        CheckpointError: Files are missing or damaged.
    """
    try:
        yield
    except (CheckpointError, HubError):
        raise
    except Exception as error:
        if (files := _files(name, options)) is None:
            raise
        missing = [" or ".join(part) for part in needed if not files.keys() & set(part)]
        if missing:
            raise CheckpointError(
                f"{name} is incomplete: it has no {', and no '.join(missing)}. Found: "
                f"{', '.join(sorted(files)) or 'nothing'}. Save or push the whole checkpoint again"
            ) from error
        if (damage := _damage(files)) is not None:
            raise CheckpointError(f"{damage}. Save, download or convert the checkpoint again") from error
        if blamed and isinstance(error, VALUE_ERRORS):
            there = " or ".join(file for file in blamed if file in files)
            reason = " ".join(str(error).split())
            raise CheckpointError(f"{there} of {name} cannot be used: {type(error).__name__}: {reason}") from error
        raise


def stored_tensors(name: Any, options: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Return the file and the type of each tensor of a checkpoint, the type as safetensors names it, such as `F32`.

    Args:
        name: Folder or Hub id of the checkpoint.
        options: Keyword arguments of `from_pretrained`.
    """
    from safetensors import safe_open

    found: dict[str, tuple[str, str]] = {}
    for path in (_files(name, options, look=False) or {}).values():
        if path is not None and path.suffix == ".safetensors" and path.stem.startswith("model"):
            with safe_open(path, framework="np") as stored:
                found |= {key: (str(path), stored.get_slice(key).get_dtype()) for key in stored.keys()}  # noqa: SIM118
    return found


def _files(name: Any, options: Mapping[str, Any], look: bool = True) -> dict[str, Path | None] | None:
    """Return the files of a checkpoint by name, with `None` for files that are not on this machine.

    Args:
        name: Folder or Hub id of the checkpoint.
        options: Keyword arguments of `from_pretrained`.
        look: Ask the Hub for the list of files, rather than return only those in the cache.

    Returns:
        The files, or `None` if the Hub does not answer.
    """
    if name is None:
        return None
    folder = options.get("subfolder") or ""
    if Path(name).is_dir():
        return {path.name: path for path in Path(name, folder).glob("*") if path.is_file()}
    from huggingface_hub import HfApi, try_to_load_from_cache

    prefix = f"{folder}/" if folder else ""
    names = [*JSON_FILES, *WEIGHT_FILES, *TOKENIZER_FILES]
    try:
        if look:
            api = HfApi(token=options.get("token"))
            there = api.list_repo_files(str(name), revision=options.get("revision"))
            names = [file.removeprefix(prefix) for file in there if file.startswith(prefix)]
        cached = {key: options[key] for key in ("cache_dir", "revision") if options.get(key) is not None}
        paths = {file: try_to_load_from_cache(str(name), prefix + file, **cached) for file in names}
    except Exception:  # no connection or no such repository: the original error says so
        return None
    files = {file: Path(path) if isinstance(path, str) else None for file, path in paths.items()}
    return files if look else {file: path for file, path in files.items() if path is not None}


def _damage(files: Mapping[str, Path | None]) -> str | None:
    """Return the first fault in the files of a checkpoint, or `None` if there is none."""
    for name, path in files.items():
        if path is None:
            continue
        if name in JSON_FILES:
            fault = _json_fault(path, files)
        elif path.suffix == ".safetensors":
            fault = _safetensors_fault(path)
        else:
            continue
        if fault is not None:
            return f"{path} is damaged: {fault}"
    return None


def _json_fault(path: Path, files: Mapping[str, Path | None]) -> str | None:
    """Return what is wrong with a JSON file of a checkpoint, or `None`."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        return f"it is not JSON ({error})"
    if not isinstance(values, dict):
        return f"it contains a {type(values).__name__}, expected an object with named values"
    if path.name == "tokenizer.json":
        from tokenizers import Tokenizer

        try:
            Tokenizer.from_file(str(path))
        except Exception as error:  # tokenizers raises nothing narrower
            return str(error)
    if path.name == "processor_config.json" and not isinstance(part := values.get("feature_extractor", {}), dict):
        return f"feature_extractor is a {type(part).__name__}, expected an object with named values"
    if path.name == INDEX_FILE:
        shards = values.get("weight_map")
        if not isinstance(shards, dict) or not all(isinstance(shard, str) for shard in shards.values()):
            return "its weight_map does not name the file of each tensor"
        if gone := sorted(set(shards.values()) - files.keys()):
            return f"it names {gone[0]}, which is missing"
    return None


def _safetensors_fault(path: Path) -> str | None:
    """Return what is wrong with a weight file, or `None`."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as stored:
            stored.keys()
    except (SafetensorError, OSError, ValueError) as error:
        return f"it is not a readable safetensors file ({error}); it has {path.stat().st_size:,} bytes"
    return None
