"""The checkpoints that travel with the package: their names and where they lie."""

from pathlib import Path

__all__ = ["DEFAULT_CHECKPOINT", "embedded_checkpoint", "is_embedded", "portable_name", "resolve_checkpoint"]

CHECKPOINTS_FOLDER = Path(__file__).resolve().parent / "checkpoints"
DEFAULT_CHECKPOINT = "lamp-small"


def embedded_checkpoint(name: str = DEFAULT_CHECKPOINT) -> Path:
    """Folder of a checkpoint of the package, from which `from_pretrained` loads.

    Raises:
        ValueError: The package has no checkpoint of this name.
    """
    path = CHECKPOINTS_FOLDER / name
    if not (path / "config.json").is_file():
        raise ValueError(f"no checkpoint {name!r} in this package; found: {', '.join(_embedded()) or 'none'}")
    return path


def resolve_checkpoint(name_or_path: str) -> str:
    """What `from_pretrained` takes: the folder of an embedded checkpoint for its name, folders and Hub ids as given.

    A folder of that name in the current directory comes first, as with Hub ids.

    Raises:
        FileNotFoundError: It is none of them.
    """
    if Path(name_or_path).is_dir():
        return name_or_path
    if is_embedded(name_or_path):
        return str(CHECKPOINTS_FOLDER / name_or_path)
    if len(Path(name_or_path).parts) == 2 and not name_or_path.startswith((".", "/", "~")):
        return name_or_path
    found = ", ".join(_embedded()) or "none"
    raise FileNotFoundError(
        f"{name_or_path} is neither a folder nor a checkpoint of this package ({found}) nor a Hub id (owner/name)"
    )


def is_embedded(name: str) -> bool:
    """Whether a checkpoint of this name travels with the package."""
    return Path(name).name == name and (CHECKPOINTS_FOLDER / name / "config.json").is_file()


def portable_name(name_or_path: str) -> str:
    """A name by which [`resolve_checkpoint`] finds it on other machines: embedded checkpoints lose their folder."""
    path = Path(name_or_path)
    return path.name if path.is_dir() and path.resolve().parent == CHECKPOINTS_FOLDER else name_or_path


def _embedded() -> list[str]:
    return sorted(config.parent.name for config in CHECKPOINTS_FOLDER.glob("*/config.json"))
