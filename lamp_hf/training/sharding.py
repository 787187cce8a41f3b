"""Models whose weights FSDP has sharded over the processes."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.distributed.fsdp import FSDPModule

__all__ = ["is_sharded", "whole_weights"]


def is_sharded(model: nn.Module) -> bool:
    """Return whether FSDP2 has sharded a model."""
    return any(isinstance(module, FSDPModule) for module in model.modules())


@contextmanager
def whole_weights(model: nn.Module) -> Iterator[None]:
    """Gather the weights of a sharded model in every process, and shard them again on exit.

    FSDP gathers weights for `forward` only. Evaluation also calls other methods, such as `generate`. All processes must
    make the same calls, because layers may gather their weights again.
    """
    sharded = [module for module in model.modules() if isinstance(module, FSDPModule)]
    for module in sharded:
        module.unshard()
    try:
        yield
    finally:
        for module in sharded:
            module.reshard()
