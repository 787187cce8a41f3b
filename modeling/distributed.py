"""Gathering of rows, counts and random numbers for losses over several processes."""

from typing import Any

import torch
import torch.distributed as dist
from torch.nn import functional as F

__all__ = ["gather_rows", "global_mean", "mean_error", "num_processes", "uniform_rows"]


def num_processes() -> int:
    """Return the number of processes that train together, 1 without `torch.distributed`."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


class _GatherEqual(torch.autograd.Function):
    """Stacks the equally shaped tensors of all processes; the gradient is the sum over all processes."""

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
        rows: Rows, `(B, …)`; sizes may differ between processes, but not the number of dimensions.
        padding_value: Value that fills the other dimensions up to the largest size.

    Returns:
        The rows of all processes, and the index of the first row of this process.
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
    """Return the share of this process in the mean over the items of all processes.

    Data-parallel training averages the losses of its processes. With unequal counts this is not the mean over all
    items, unless each process divides by the joint count.

    Args:
        total: Sum over the items of this process, `()`.
        count: Number of items of this process.
    """
    joint = torch.as_tensor(count, device=total.device, dtype=torch.float32)
    if num_processes() > 1:
        joint = joint.clone()
        dist.all_reduce(joint)
    return total * num_processes() / joint.clamp(min=1)


def mean_error(errors: torch.Tensor, real: torch.Tensor, joint: bool) -> torch.Tensor:
    """Return the mean of errors where `real` is true.

    Other errors are set to zero, not left out, because a tensor whose size depends on its values does not compile.

    Args:
        errors: `(B, S, D)`.
        real: `(B, S)`, true on real positions.
        joint: Whether to average over the errors of all processes; see [`global_mean`].
    """
    total, count = (errors.float().sum(-1) * real).sum(), real.sum() * errors.shape[-1]
    return global_mean(total, count) if joint else total / count.clamp(min=1)


def uniform_rows(
    rows: int, columns: int, device: torch.device | str, generator: torch.Generator | None = None
) -> torch.Tensor:
    """Draw the random numbers that one process would draw for these rows of the joint batch.

    All processes draw the numbers of the joint batch and keep their own rows. Training gives all of them the same seed,
    and they stay in step unless other draws, such as dropout, depend on the number of rows of a process.

    Args:
        rows, columns: Size for this process; both may differ between processes.
        device: Device of the numbers.
        generator: Generator of this process only.

    Returns:
        Numbers uniform in [0, 1), `(rows, columns)`.
    """
    if generator is not None or num_processes() == 1:
        return torch.rand(rows, columns, device=device, generator=generator)
    own = torch.tensor([rows, columns], device=device)
    sizes = [torch.empty_like(own) for _ in range(num_processes())]
    dist.all_gather(sizes, own)
    counts, widths = torch.stack(sizes).T.tolist()
    first = sum(counts[: dist.get_rank()])
    return torch.rand(sum(counts), max(widths), device=device)[first : first + rows, :columns]
