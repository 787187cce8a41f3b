"""What the losses of several processes share: rows, counts and the place of a process among them."""

from typing import Any

import torch
import torch.distributed as dist
from torch.nn import functional as F

__all__ = ["gather_rows", "global_mean", "num_processes"]


def num_processes() -> int:
    """Processes that train together; one outside `torch.distributed`."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


class _GatherEqual(torch.autograd.Function):
    """All processes' tensors of one shape, stacked; the gradient is the sum of all processes' gradients."""

    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor) -> torch.Tensor:
        gathered = [torch.empty_like(tensor) for _ in range(num_processes())]
        dist.all_gather(gathered, tensor.contiguous())
        return torch.stack(gathered)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> torch.Tensor:
        gradient = grad_outputs[0].contiguous()
        dist.all_reduce(gradient)
        return gradient[dist.get_rank()]


def gather_rows(rows: torch.Tensor, padding_value: float = 0) -> tuple[torch.Tensor, int]:
    """Concatenate the rows of all processes, in their order, with gradient.

    Args:
        rows: `(B, …)`; sizes may differ between processes, the number of dimensions may not.
        padding_value: Fills the other dimensions up to the largest size.

    Returns:
        The rows of all processes, and the index at which this process's own begin.
    """
    if num_processes() == 1:
        return rows, 0
    shape = torch.tensor(rows.shape, device=rows.device)
    shapes = _GatherEqual.apply(shape)
    target = shapes.amax(0)
    padding = [amount for size in (target - shape).flip(0).tolist() for amount in (0, size)]
    gathered = _GatherEqual.apply(F.pad(rows, padding, value=padding_value))
    counts = shapes[:, 0].tolist()
    parts = [part[:count] for part, count in zip(gathered, counts, strict=True)]
    return torch.cat(parts), sum(counts[: dist.get_rank()])


def global_mean(total: torch.Tensor, count: int | torch.Tensor) -> torch.Tensor:
    """Share of this process in the mean over all processes.

    Data-parallel training averages the losses of its processes: with unequal counts that is not the mean over
    all items, unless each process divides by the joint count.

    Args:
        total: Sum over this process's items, `()`.
        count: How many they are.
    """
    joint = torch.as_tensor(count, device=total.device, dtype=torch.float32)
    if num_processes() > 1:
        joint = joint.clone()
        dist.all_reduce(joint)
    return total * num_processes() / joint.clamp(min=1)
