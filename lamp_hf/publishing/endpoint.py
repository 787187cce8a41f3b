"""The files with which Hugging Face Inference Endpoints run a checkpoint."""

from collections.abc import Callable

from lamp_hf.checkpoints.tasks import tasks_of
from lamp_hf.version import __version__

from .checkpoint_folder import CheckpointFolder

__all__ = ["endpoint_files"]

MARK = "# Every push with lamp_hf writes this file. Delete this line to keep changes of your own.\n"
HANDLER = f'''"""Run this model on Hugging Face Inference Endpoints."""

{MARK}from lamp_hf.serving import EndpointHandler

__all__ = ["EndpointHandler"]
'''
FILES = {"handler.py": HANDLER, "requirements.txt": f"{MARK}lamp_hf>={__version__}\n"}
SERVED = ("text-to-motion", "motion-captioning")  # an endpoint has no motions to search


def endpoint_files(
    checkpoint: CheckpointFolder, has_processor: bool, there: Callable[[str], str | None]
) -> tuple[dict[str, bytes], tuple[str, ...]]:
    """Return the files to publish, and the names of the repository's files that do not fit the checkpoint.

    Files that a user wrote are kept, the repository's or else the folder's. The other ones have a line that says so.

    Args:
        checkpoint: The checkpoint.
        has_processor: Whether the repository will have a processor, without which there is no pipeline.
        there: Returns a text file of the repository, or `None` if there is no such file.
    """
    served = has_processor and not set(SERVED).isdisjoint(tasks_of(str(checkpoint.config.get("model_type"))))
    files: dict[str, bytes] = {}
    stale = []
    for name, text in FILES.items():
        old = there(name)
        if old is not None and MARK not in old:
            continue
        if served:
            own = checkpoint.files[name].read_text(encoding="utf-8") if name in checkpoint.files else text
            files[name] = (text if MARK in own else own).encode()
        elif old is not None:
            stale.append(name)
    return files, tuple(stale)
