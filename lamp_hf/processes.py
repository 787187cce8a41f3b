"""Access to the processes that `accelerate launch` or `torchrun` started together."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from accelerate import PartialState

__all__ = ["process_state", "progress_bar"]

T = TypeVar("T")


def process_state() -> "PartialState":
    """Return Accelerate's state of the processes. Without an accelerator, they work together on CPUs."""
    import torch
    from accelerate import PartialState

    # Without an accelerator, Accelerate connects the processes only if `cpu=True` is passed.
    return PartialState(cpu=not torch.accelerator.is_available())


def progress_bar(items: Iterable[T], desc: str, unit: str) -> Iterator[T]:
    """Yield items and show a progress bar in the main process, unless transformers' progress bars are disabled."""
    from transformers.utils.logging import tqdm

    yield from tqdm(items, desc=desc, unit=unit, disable=not process_state().is_local_main_process)
