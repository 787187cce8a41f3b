"""The checkpoints embedded in the package: their names and their folders."""

from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import Any

__all__ = [
    "DEFAULT_CHECKPOINT",
    "embedded_checkpoint",
    "embedded_path",
    "is_embedded",
    "locate_text_encoder",
    "portable_name",
    "resolve_checkpoint",
]

CHECKPOINTS_FOLDER = Path(__file__).resolve().parent
DEFAULT_CHECKPOINT = "lamp-small"


def embedded_checkpoint(name: str = DEFAULT_CHECKPOINT) -> Path:
    """Return the folder of an embedded checkpoint, for `from_pretrained`.

    Args:
        name: Name of the checkpoint.

    Raises:
        ValueError: The package has no checkpoint of this name.
    """
    path = CHECKPOINTS_FOLDER / name
    if not (path / "config.json").is_file():
        raise ValueError(f"no checkpoint {name!r} in this package; available: {', '.join(_embedded()) or 'none'}")
    return path


def resolve_checkpoint(name_or_path: str) -> str:
    """Return what `from_pretrained` loads: for the name of an embedded checkpoint, its folder.

    Folders and Hub ids are returned unchanged. A folder in the current directory takes precedence over an embedded
    checkpoint or a Hub id of the same name. A name is not a Hub id if its first part is an existing folder.

    Args:
        name_or_path: Name of an embedded checkpoint, folder, or Hub id.

    Raises:
        FileNotFoundError: The name is none of these.
    """
    if Path(name_or_path).is_dir():
        return name_or_path
    if (folder := embedded_path(name_or_path)) != name_or_path:
        return str(folder)
    path = Path(name_or_path)
    if len(path.parts) == 2 and not path.is_absolute() and path.parts[0] not in (".", "..", "~"):
        if not path.parent.is_dir():
            return name_or_path
        near = get_close_matches(path.name, sorted(each.name for each in path.parent.iterdir() if each.is_dir()))
        raise FileNotFoundError(
            f"{name_or_path} does not exist, but the folder {path.parent} does"
            + (f"; did you mean {path.parent / near[0]}?" if near else "")
        )
    known = ", ".join(_embedded()) or "none"
    near = get_close_matches(name_or_path, _embedded(), n=1)
    raise FileNotFoundError(
        f"{name_or_path} is neither a folder nor a checkpoint of this package ({known}) nor a Hub id (owner/name)"
        + (f"; did you mean {near[0]}?" if near else "")
    )


def embedded_path(name: Any) -> Any:
    """Return the folder of an embedded checkpoint for its name, and any other value unchanged."""
    if isinstance(name, str) and is_embedded(name) and not Path(name).is_dir():
        return str(CHECKPOINTS_FOLDER / name)
    return name


def is_embedded(name: str) -> bool:
    """Return whether the package has a checkpoint of this name."""
    return Path(name).name == name and (CHECKPOINTS_FOLDER / name / "config.json").is_file()


def portable_name(name_or_path: str) -> str:
    """Return a name that works on other machines: for the folder of an embedded checkpoint, its name."""
    path = Path(name_or_path)
    return path.name if path.is_dir() and path.resolve().parent == CHECKPOINTS_FOLDER else name_or_path


def _embedded() -> list[str]:
    return sorted(config.parent.name for config in CHECKPOINTS_FOLDER.glob("*/config.json"))


def locate_text_encoder(name: str) -> str:
    """Return the folder or the Hub id of a BERT-like text encoder.

    Args:
        name: Folder, Hub id, or `package:NAME` for the encoder inside an installed package.

    Raises:
        ModuleNotFoundError: The package is not installed.
    """
    if not name.startswith("package:"):
        return name
    package = name.removeprefix("package:")
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(
            f"the text encoder comes from the package {package.replace('_', '-')}, which is not installed: "
            "pip install 'lamp_hf[train]', or 'lamp_hf[evaluate]' for metrics"
        )
    return str(Path(spec.origin).parent / "model")
