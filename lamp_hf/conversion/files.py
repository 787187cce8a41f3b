"""Finds the authors' checkpoint files, reads them without running code in them, and recognizes their kind.

The authors' scripts write and download files in one of two layouts:

    pretrained/                          checkpoints/<t2m or kit>/<name>/
      vq.tar or net_last.pth               opt.txt            options, "key: value" a line
      h3d-qformer.tar, kit-qformer.tar     meta/mean.npy      statistics of the motions, meta/std.npy
      t2m.tar, m2t.pth                     model/*.tar        checkpoints

The evaluator is `text_mot_match/model/finest.tar`; its statistics are in `Comp_v6_KLD*/meta` next to that folder. File
names are not reliable: the kind of a file is recognized by its contents.
"""

import pickle
import re
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from lamp_hf.files import file_digest

from .layout import EVALUATOR_PARTS, UNUSED
from .state_dicts import Tensors, flat_evaluator

__all__ = ["OriginalFile", "find_files", "find_statistics", "read_file"]

SUFFIXES = (".tar", ".pt", ".pth", ".ckpt", ".bin")
# Keys under which the authors store tensors, with the kinds found there; `net` is the key of T2M-GPT's files.
PAYLOADS = {
    "vq_model": ("motion-vqvae",),
    "net": ("motion-vqvae",),
    "motion_qformer": ("lamp",),
    "t2m_transformer": ("text-to-motion",),
    "trans": ("text-to-motion", "captioning"),
    "estimator": ("length-estimator",),
}
# Prefixes of tensor names by which a kind is recognized. If several kinds match, the first one applies.
SIGNATURES = {
    "captioning": ("opt_proj.", "opt_model.", "llm."),
    "text-to-motion": ("seqTransEncoder.", "input_process.", "output_process."),
    "lamp": ("Qformer.", "itm_head.", "motion_cls."),
    "motion-vqvae": ("vqvae.",),
    "length-estimator": ("output.",),
}
# Numbers per frame, by the name of the data set in opt.txt.
DATASETS = {"t2m": 263, "kit": 251}
# Tensor whose second size is the number of input features per frame, and how many features of a frame are not input:
# the evaluator takes no foot contacts.
FRAME_READERS = {
    "motion-vqvae": ("vqvae.encoder.model.0.weight", 0),
    "lamp": ("vq_model.vqvae.encoder.model.0.weight", 0),
    "captioning": ("motion_encoder.model.0.weight", 0),
    "evaluator": ("movement_encoder.main.0.weight", 4),
}
NAMED = 3
# Errors that torch raises for damaged files.
DAMAGE = (
    RuntimeError,
    EOFError,
    OSError,
    ValueError,
    KeyError,
    AttributeError,
    TypeError,
    zipfile.BadZipFile,
    zlib.error,
)


@dataclass
class OriginalFile:
    """A checkpoint of the authors.

    Args:
        path: Path of the file.
        kind: One of `ORIGINAL_KINDS`; `None` if it is not recognized.
        tensors: Tensors by their original names; an evaluator's names start with those of its three parts.
        sha256: Hash of the file.
        options: Contents of the `opt.txt` next to it, if there is one.
        contents: Summary of an unrecognized file.
    """

    path: Path
    kind: str | None
    tensors: Tensors
    sha256: str
    options: dict[str, str] = field(default_factory=dict)
    contents: str = ""

    @property
    def motion_dim(self) -> int | None:
        """Number of features per frame, or `None` if its tensors do not show it."""
        name, left_out = FRAME_READERS.get(self.kind or "", ("", 0))
        shape = self.tensors[name].shape if name in self.tensors else ()
        return shape[1] + left_out if len(shape) > 1 else None


def find_files(original: Path) -> list[Path]:
    """Return the file itself, or all files in a folder and its subfolders that may be checkpoints.

    Raises:
        FileNotFoundError: If the path does not exist, or the folder contains no file with a known suffix.
    """
    if original.is_file():
        return [original]
    if not original.is_dir():
        raise FileNotFoundError(f"{original}: no such file or folder; check the path")
    found = sorted(path for path in original.rglob("*") if path.suffix in SUFFIXES and path.is_file())
    if not found:
        raise FileNotFoundError(
            f"{original}: no checkpoint in this folder; expected files ending in {', '.join(SUFFIXES)}"
        )
    return found


def read_file(path: Path) -> OriginalFile:
    """Read a checkpoint without running code in it.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the file is damaged, has another format, contains more than tensors and plain values, or
            contains tensors of another kind than its key says.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; check the path")
    content = _load(path)
    kind, tensors = _recognize(path, content)
    if kind is None:
        return OriginalFile(path, None, {}, file_digest(path), contents=_contents(content))
    _check_tensors(path, kind, tensors)
    return OriginalFile(path, kind, tensors, file_digest(path), _options(path))


def _load(path: Path) -> Any:
    with path.open("rb") as file:
        start = file.read(2)
    if not start:
        raise ValueError(f"{path}: the file is empty; download it again")
    zipped = zipfile.is_zipfile(path)
    if start == b"PK" and not zipped:
        raise ValueError(f"{path}: the end of the file is missing; download it again")
    try:
        if zipped:
            _check_sums(path)
        # Memory mapping reads only the tensors that are used, from captioners of several GB.
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True if zipped else None)
    except pickle.UnpicklingError as error:
        # torch names the object that it did not import, without a module for Python's built-in functions.
        if found := re.search(r"GLOBAL (\S+)", str(error)):
            raise ValueError(
                f"{path}: contains {found[1]}, which is neither a tensor nor a plain value, so loading it could run "
                "code, and it was not loaded; if you trust its source, read it with torch.load(…, weights_only=False) "
                "and save only its dictionaries of tensors with torch.save"
            ) from error
        raise ValueError(
            f"{path}: not a PyTorch checkpoint, or truncated (no code in it was run); download it again"
        ) from error
    except DAMAGE as error:
        raise ValueError(
            f"{path}: not a PyTorch checkpoint, or damaged ({_first_line(error)}); download it again"
        ) from error


def _check_sums(path: Path) -> None:
    """Verify the checksums of the parts of a file, which torch does not."""
    with zipfile.ZipFile(path) as file:
        if (part := file.testzip()) is not None:
            raise ValueError(f"{part}: wrong checksum")


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:160] if lines else type(error).__name__


def _recognize(path: Path, content: Any) -> tuple[str | None, dict[Any, Any]]:
    if not isinstance(content, dict):
        return None, {}
    if all(isinstance(content.get(part), dict) for part in EVALUATOR_PARTS):
        return "evaluator", dict(flat_evaluator(content))
    for key, kinds in PAYLOADS.items():
        if isinstance(content.get(key), dict):
            found = _kind_of(content[key])
            if found is not None and found not in kinds:
                raise ValueError(
                    f"{path}: the key {key!r} should contain a {' or '.join(kinds)} checkpoint, but contains tensors "
                    f"of a {found} checkpoint; download the file again"
                )
            return found, content[key]
    return _kind_of(content), content


def _kind_of(names: Iterable[Any]) -> str | None:
    names = [name for name in names if isinstance(name, str)]
    return next((kind for kind, starts in SIGNATURES.items() if any(n.startswith(starts) for n in names)), None)


def _contents(content: Any) -> str:
    """Summarize the contents of an unrecognized file."""
    if not isinstance(content, dict):
        return f"a {type(content).__name__}"
    key = next((key for key in PAYLOADS if isinstance(content.get(key), dict)), None)
    names = list(map(str, content if key is None else content[key]))
    shown = ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
    return f"{shown or 'nothing'}{'' if key is None else f' under {key!r}'}"


def _check_tensors(path: Path, kind: str, values: dict[Any, Any]) -> None:
    """Check that all values that are used are dense tensors of floating-point numbers."""
    for name, value in values.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise ValueError(
                f"{path}: {name!r} has the type {type(value).__name__}, expected a tensor; save the file with tensors "
                "only"
            )
        if not UNUSED[kind].fullmatch(name) and not (value.layout == torch.strided and value.is_floating_point()):
            found = value.dtype if value.layout == torch.strided else value.layout
            raise ValueError(
                f"{path}: {name} is a {str(found).removeprefix('torch.')} tensor, expected a dense floating-point "
                "tensor; convert it (for example with .to_dense().float()) and save the file again"
            )


def _home(path: Path) -> Path:
    """Return the folder of a checkpoint's run: the parent of `model/`."""
    return path.parent.parent if path.parent.name == "model" else path.parent


def _options(path: Path) -> dict[str, str]:
    options = _home(path) / "opt.txt"
    if not options.is_file():
        return {}
    try:
        lines = options.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{options}: not UTF-8 text ({error}); save it as UTF-8") from error
    pairs = (line.split(": ", 1) for line in lines if ": " in line)
    return {key.strip(): value.strip() for key, value in pairs}


def find_statistics(files: Iterable[OriginalFile]) -> tuple[Path, Path] | None:
    """Return `mean.npy` and `std.npy` of the first file that has them, in the folders where the authors put them."""
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
