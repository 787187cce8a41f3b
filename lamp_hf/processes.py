"""The processes that `accelerate launch` or `torchrun` started together."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from accelerate import PartialState

__all__ = ["process_state", "progress_bar"]

T = TypeVar("T")


def process_state() -> "PartialState":
    """Accelerate's view of the processes; without an accelerator, they work together on CPUs."""
    import torch
    from accelerate import PartialState

    # Accelerate takes processes without an accelerator for strangers unless it is told that they mean the CPU.
    return PartialState(cpu=not torch.accelerator.is_available())


def progress_bar(items: Iterable[T], desc: str, unit: str) -> Iterator[T]:
    """Items under a progress bar: one for all processes, none where transformers is told to show none."""
    from transformers.utils.logging import tqdm

    yield from tqdm(items, desc=desc, unit=unit, disable=not process_state().is_local_main_process)
