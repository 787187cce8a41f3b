"""The processes that `accelerate launch` or `torchrun` started together."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from accelerate import PartialState

__all__ = ["process_state"]


def process_state() -> "PartialState":
    """Accelerate's view of the processes; without an accelerator, they work together on CPUs."""
    import torch
    from accelerate import PartialState

    # Accelerate takes processes without an accelerator for strangers unless it is told that they mean the CPU.
    return PartialState(cpu=not torch.accelerator.is_available())
