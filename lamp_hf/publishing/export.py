"""Export a finished run as a small checkpoint to publish: half-precision weights, no training state."""

import json
import shutil
from pathlib import Path

import torch
from transformers import AutoModel, AutoProcessor

from lamp_hf.files import atomic_folder

__all__ = ["export_checkpoint"]


def export_checkpoint(run: str | Path, output: str | Path, *, dtype: torch.dtype = torch.float16) -> Path:
    """Write the model and the processor of a run with weights in half precision.

    The configuration keeps float32, so `from_pretrained` computes in float32: on a CPU half precision is slower.

    Args:
        run: Folder of a finished training run, or any checkpoint.
        output: Folder to write to. Other files in it, such as a model card, are kept. Files of the same names are
            replaced once everything is written.
        dtype: Type of the stored weights.

    Returns:
        `output`.

    Raises:
        ValueError: `output` is the folder of the run or a parent of it, which would be overwritten.
    """
    output = Path(output)
    if output.resolve() in (Path(run).resolve(), *Path(run).resolve().parents):
        raise ValueError(f"{output} contains the run itself; export to another folder")
    model = AutoModel.from_pretrained(run, dtype=torch.float32, trust_remote_code=False)
    processor = AutoProcessor.from_pretrained(run, trust_remote_code=False)
    with atomic_folder(output) as partial:
        model.to(dtype).save_pretrained(partial)
        processor.save_pretrained(partial)
        config = json.loads((partial / "config.json").read_text(encoding="utf-8"))
        (partial / "config.json").write_text(json.dumps(_published(config), indent=2) + "\n", encoding="utf-8")
        if output.is_dir():
            _keep(output, partial)
    return output


def _keep(folder: Path, new: Path) -> None:
    """Copy the files of a folder that are not in the folder that replaces it."""
    shutil.copytree(
        folder,
        new,
        symlinks=True,
        dirs_exist_ok=True,
        ignore=lambda parent, names: [
            name for name in names if (new / Path(parent).relative_to(folder) / name).is_file()
        ],
    )


def _published(config: dict) -> dict:
    """Return the configuration with every `dtype` set to float32, and without local folders."""
    return {
        key: _published(value) if isinstance(value, dict) else ("float32" if key == "dtype" else value)
        for key, value in config.items()
        if key != "_name_or_path"
    }
