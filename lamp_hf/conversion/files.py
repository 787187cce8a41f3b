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
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from .layout import EVALUATOR_PARTS, UNUSED
from .state_dicts import Tensors, flat_evaluator

__all__ = ["OriginalFile", "find_files", "find_statistics", "read_file"]

SUFFIXES = (".tar", ".pt", ".pth", ".ckpt", ".bin")
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
# The tensor whose second size is how many numbers of a frame a kind reads; the evaluator reads no foot contacts.
FRAME_READERS = {
    "motion-vqvae": ("vqvae.encoder.model.0.weight", 0),
    "lamp": ("vq_model.vqvae.encoder.model.0.weight", 0),
    "captioning": ("motion_encoder.model.0.weight", 0),
    "evaluator": ("movement_encoder.main.0.weight", 4),
}
NAMED = 3
# What reading a damaged file ends in.
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
        path: Where it lies.
        kind: One of `KINDS`; `None` if it is none of them.
        tensors: By their original names; an evaluator's with the names of its three parts before theirs.
        sha256: Of the file.
        options: What `opt.txt` beside it says, if there is one.
        stranger: What it holds, if it is of no kind.
    """

    path: Path
    kind: str | None
    tensors: Tensors
    sha256: str
    options: dict[str, str] = field(default_factory=dict)
    stranger: str = ""

    @property
    def motion_dim(self) -> int | None:
        """Numbers of a frame that its tensors read, if they tell."""
        name, left_out = FRAME_READERS.get(self.kind or "", ("", 0))
        shape = self.tensors[name].shape if name in self.tensors else ()
        return shape[1] + left_out if len(shape) > 1 else None


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
        ValueError: It is damaged, of another format, holds more than tensors and plain values, or holds tensors of
            another kind than it says.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    content = _load(path)
    kind, tensors = _recognize(path, content)
    if kind is None:
        return OriginalFile(path, None, {}, _sha256(path), stranger=_contents(content))
    _check_tensors(path, kind, tensors)
    return OriginalFile(path, kind, tensors, _sha256(path), _options(path))


def _load(path: Path) -> Any:
    with path.open("rb") as file:
        start = file.read(2)
    if not start:
        raise ValueError(f"{path}: the file is empty")
    zipped = zipfile.is_zipfile(path)
    if start == b"PK" and not zipped:
        raise ValueError(f"{path}: the end of the file is missing (truncated download?)")
    try:
        if zipped:
            _check_sums(path)
        # Memory-mapped, a captioner of several GB is read only where its tensors are used.
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True if zipped else None)
    except pickle.UnpicklingError as error:
        # torch names what it refused to import, functions of Python's own without their module.
        if found := re.search(r"GLOBAL (\S+)", str(error)):
            raise ValueError(
                f"{path}: refused, because it holds {found[1]}, which is neither a tensor nor a plain value: loading "
                "it could run code, and none was run. If you trust whoever made it, read it with "
                "torch.load(…, weights_only=False) and save its dictionaries of tensors alone with torch.save"
            ) from error
        raise ValueError(f"{path}: not a checkpoint of PyTorch, or truncated; nothing in it was run") from error
    except DAMAGE as error:
        raise ValueError(f"{path}: not a checkpoint of PyTorch, or damaged ({_first_line(error)})") from error


def _check_sums(path: Path) -> None:
    """Check what torch does not look at: the checksums of the parts of a file."""
    with zipfile.ZipFile(path) as file:
        if (part := file.testzip()) is not None:
            raise ValueError(f"{part} in it is not what was written: its checksum differs")


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
                    f"{path}: {key!r} in it should be a {' or '.join(kinds)} checkpoint, it has tensors of a {found} "
                    "checkpoint"
                )
            return found, content[key]
    return _kind_of(content), content


def _kind_of(names: Iterable[Any]) -> str | None:
    names = [name for name in names if isinstance(name, str)]
    return next((kind for kind, starts in SIGNATURES.items() if any(n.startswith(starts) for n in names)), None)


def _contents(content: Any) -> str:
    """What a file of no kind holds, to recognize it by."""
    if not isinstance(content, dict):
        return f"a {type(content).__name__}"
    key = next((key for key in PAYLOADS if isinstance(content.get(key), dict)), None)
    names = list(map(str, content if key is None else content[key]))
    shown = ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
    return f"{shown or 'nothing'}{'' if key is None else f' under {key!r}'}"


def _check_tensors(path: Path, kind: str, values: dict[Any, Any]) -> None:
    """Check that what is used are tensors of real numbers, stored one after the other."""
    for name, value in values.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise ValueError(f"{path}: {name!r} is a {type(value).__name__}, expected a tensor")
        if not UNUSED[kind].fullmatch(name) and not (value.layout == torch.strided and value.is_floating_point()):
            what = value.dtype if value.layout == torch.strided else value.layout
            raise ValueError(
                f"{path}: {name} is a tensor of {str(what).removeprefix('torch.')}, expected a dense one of "
                "floating-point numbers: save it as such, as by .to_dense().float()"
            )


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
