"""The checkpoints that travel with the package: their names and where they lie."""

from pathlib import Path

__all__ = ["DEFAULT_CHECKPOINT", "embedded_checkpoint", "resolve_checkpoint"]

CHECKPOINTS_FOLDER = Path(__file__).resolve().parent / "checkpoints"
DEFAULT_CHECKPOINT = "lamp-bandai-small"


def embedded_checkpoint(name: str = DEFAULT_CHECKPOINT) -> Path:
    """Folder of a checkpoint of the package, from which `from_pretrained` loads.

    Raises:
        ValueError: The package has no checkpoint of this name.
    """
    path = CHECKPOINTS_FOLDER / name
    if not (path / "config.json").is_file():
        found = sorted(config.parent.name for config in CHECKPOINTS_FOLDER.glob("*/config.json"))
        raise ValueError(f"no checkpoint {name!r} in this package; found: {', '.join(found) or 'none'}")
    return path


def resolve_checkpoint(name_or_path: str) -> str:
    """What `from_pretrained` takes: the folder of an embedded checkpoint for its name, all else as it is.

    A folder of that name in the current directory comes first, as with Hub ids.
    """
    embedded = CHECKPOINTS_FOLDER / name_or_path
    if "/" in name_or_path or Path(name_or_path).exists() or not (embedded / "config.json").is_file():
        return name_or_path
    return str(embedded)
