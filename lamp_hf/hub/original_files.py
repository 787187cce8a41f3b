"""Files of the authors' checkpoints: found, read without running anything in them, and told apart.

What their scripts write and download lies in one of two layouts:

    pretrained/                          checkpoints/<t2m or kit>/<name>/
      vq.tar or net_last.pth               opt.txt            options, "key: value" a line
      h3d-qformer.tar, kit-qformer.tar     meta/mean.npy      statistics of the motions, meta/std.npy
      t2m.tar, m2t.pth                     model/*.tar        checkpoints

The evaluator is `text_mot_match/model/finest.tar`, its statistics are those of `Comp_v6_KLD*/meta` beside it. Names
of files tell nothing for sure: what a file is, is told by what is in it.
"""

import hashlib
import pickle
import re
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

__all__ = ["OriginalFile", "find_files", "find_statistics", "read_file"]

Tensors = dict[str, torch.Tensor]

SUFFIXES = (".tar", ".pt", ".pth", ".ckpt", ".bin")
EVALUATOR_PARTS = ("movement_encoder", "text_encoder", "motion_encoder")
# Under which key of the file its authors store the tensors of a kind; T2M-GPT's files have their own.
PAYLOADS = {
    "vq_model": ("motion-vqvae",),
    "net": ("motion-vqvae",),
    "motion_qformer": ("lamp",),
    "t2m_transformer": ("text-to-motion",),
    "trans": ("text-to-motion", "captioning"),
    "estimator": ("length-estimator",),
}
# Beginnings of names that only tensors of a kind have; the first kind that has any in the file is the file's.
SIGNATURES = {
    "captioning": ("opt_proj.", "opt_model.", "llm."),
    "text-to-motion": ("seqTransEncoder.", "input_process.", "output_process."),
    "lamp": ("Qformer.", "itm_head.", "motion_cls."),
    "motion-vqvae": ("vqvae.",),
    "length-estimator": ("output.",),
}
# What a folder with one of these sub-folders calls its data set in opt.txt.
DATASETS = {"t2m": 263, "kit": 251}


@dataclass
class OriginalFile:
    """A checkpoint of the authors.

    Args:
        path: Where it lies.
        kind: One of `KINDS`; `None` if it is none of them.
        tensors: By their original names; an evaluator's with the names of its three parts before theirs.
        sha256: Of the file.
        options: What `opt.txt` beside it says, if there is one.
    """

    path: Path
    kind: str | None
    tensors: Tensors
    sha256: str
    options: dict[str, str] = field(default_factory=dict)


def find_files(original: Path) -> list[Path]:
    """The file itself, or all files in a folder and below it that may be checkpoints.

    Raises:
        FileNotFoundError: There is nothing there, or no file with one of the suffixes.
    """
    if original.is_file():
        return [original]
    if not original.is_dir():
        raise FileNotFoundError(f"{original}: no such file or folder")
    found = sorted(path for path in original.rglob("*") if path.suffix in SUFFIXES and path.is_file())
    if not found:
        raise FileNotFoundError(f"{original}: no checkpoint in this folder (looked for {' '.join(SUFFIXES)})")
    return found


def read_file(path: Path) -> OriginalFile:
    """Read a checkpoint; nothing in it is executed.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is truncated, of another format, holds more than tensors and plain values, or holds tensors of
            another kind than it says.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    content = _load(path)
    kind, tensors = _recognise(path, content)
    options = _options(path)
    return OriginalFile(path, kind, tensors, _sha256(path), options)


def _load(path: Path) -> Any:
    with path.open("rb") as file:
        start = file.read(2)
    if not start:
        raise ValueError(f"{path}: the file is empty")
    zipped = zipfile.is_zipfile(path)
    if start == b"PK" and not zipped:
        raise ValueError(f"{path}: the end of the file is missing (truncated download?)")
    try:
        # Memory-mapped, a captioner of several GB is read only where its tensors are used.
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True if zipped else None)
    except pickle.UnpicklingError as error:
        # torch names what it refused to import or to call.
        if found := re.search(r"(?:GLOBAL|Unsupported (?:global|class|type)[:\s]+)\s*(\S+\.\S+)", str(error)):
            raise ValueError(
                f"{path}: refused, for it holds {found[1].rstrip('.,')}, which is neither a tensor nor a plain value: "
                "loading it could run code"
            ) from error
        raise ValueError(f"{path}: not a checkpoint of PyTorch, or truncated") from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise ValueError(f"{path}: not a checkpoint of PyTorch, or damaged ({_first_line(error)})") from error


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:160] if lines else type(error).__name__


def _recognise(path: Path, content: Any) -> tuple[str | None, Tensors]:
    if not isinstance(content, dict):
        return None, {}
    if all(isinstance(content.get(part), dict) for part in EVALUATOR_PARTS):
        tensors = {f"{part}.{name}": value for part in EVALUATOR_PARTS for name, value in content[part].items()}
        return "evaluator", _tensors_only(path, tensors)
    for key, kinds in PAYLOADS.items():
        if isinstance(content.get(key), dict):
            found = _kind_of(content[key])
            if found not in kinds:
                held = f"tensors of a {found} checkpoint" if found else "tensors of none that lamp_hf knows"
                raise ValueError(f"{path}: {key!r} in it should be a {' or '.join(kinds)} checkpoint, it has {held}")
            return found, _tensors_only(path, content[key])
    kind = _kind_of(content)
    return kind, _tensors_only(path, content) if kind else {}


def _kind_of(names: Iterable[Any]) -> str | None:
    names = [name for name in names if isinstance(name, str)]
    return next((kind for kind, starts in SIGNATURES.items() if any(n.startswith(starts) for n in names)), None)


def _tensors_only(path: Path, values: dict[Any, Any]) -> Tensors:
    for name, value in values.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise ValueError(f"{path}: {name!r} is a {type(value).__name__}, expected a tensor")
    return values


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _home(path: Path) -> Path:
    """Folder of a checkpoint's run: the one above `model/`."""
    return path.parent.parent if path.parent.name == "model" else path.parent


def _options(path: Path) -> dict[str, str]:
    options = _home(path) / "opt.txt"
    if not options.is_file():
        return {}
    try:
        lines = options.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{options}: not text in UTF-8 ({error})") from error
    pairs = (line.split(": ", 1) for line in lines if ": " in line)
    return {key.strip(): value.strip() for key, value in pairs}


def find_statistics(files: Iterable[OriginalFile]) -> tuple[Path, Path] | None:
    """`mean.npy` and `std.npy` that lie beside the first of the files that has any, where the authors put them."""
    for file in files:
        home = _home(file.path)
        folders = [home / "meta", home]
        if file.kind == "evaluator":
            folders = [*sorted(home.parent.glob("Comp_v6_KLD*/meta")), *folders]
        for folder in folders:
            for names in (("mean.npy", "std.npy"), ("Mean.npy", "Std.npy")):
                mean, std = (folder / name for name in names)
                if mean.is_file() and std.is_file():
                    return mean, std
    return None
