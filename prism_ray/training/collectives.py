"""What the workers of a run tell each other; with one worker nothing is sent.

All raise a `WorkerLostError` where another worker is gone.
"""

from __future__ import annotations

import platform
import zlib
from collections.abc import Iterable, Sequence

import numpy as np
import torch
import torch.distributed
from numpy.typing import NDArray
from torch import Tensor, nn

from prism_ray.model.exchange import exchanging, sum_in_place
from prism_ray.training.order import share_of_rows
from prism_ray.training.reporter import Placement


def sum_over_workers(values: Tensor, placement: Placement) -> Tensor:
    """Sum of a tensor over the workers; equal on all of them."""
    if placement.n_workers == 1:
        return values
    values = values.clone()
    sum_in_place(values)
    return values


def any_worker(flags: Sequence[bool], placement: Placement) -> list[bool]:
    """Which of the flags are set on at least one worker; equal on all of them."""
    if placement.n_workers == 1:
        return list(flags)
    counts = sum_over_workers(torch.tensor(flags, dtype=torch.int32, device=placement.device), placement)
    return [bool(count) for count in counts.tolist()]


def average_gradients(parameters: Iterable[nn.Parameter], placement: Placement) -> None:
    """Put the mean of the workers' gradients in place of each one's own, in one exchange.

    Shares are equal, so the mean of the gradients of shares is the gradient of the global batch's mean loss.
    """
    if placement.n_workers == 1:
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    together = sum_over_workers(torch.cat([gradient.flatten() for gradient in gradients]), placement)
    together /= placement.n_workers
    start = 0
    for gradient in gradients:
        gradient.copy_(together[start : start + gradient.numel()].view_as(gradient))
        start += gradient.numel()


def count_hosts(placement: Placement) -> int:
    """Machines that the workers of a run are on; equal on all of them."""
    if placement.n_workers == 1:
        return 1
    mine = torch.tensor([zlib.crc32(platform.node().encode())], dtype=torch.int64, device=placement.device)
    parts = [torch.empty_like(mine) for _ in range(placement.n_workers)]
    torch.distributed.all_gather(parts, mine)
    return len({int(part) for part in parts})


def take_from_first(model: nn.Module, placement: Placement) -> None:
    """Give every worker the weights and buffers of rank 0.

    They are drawn from one seed, but another kind of processor may round otherwise.
    """
    if placement.n_workers == 1:
        return
    with exchanging():
        for values in model.state_dict().values():
            torch.distributed.broadcast(values, src=0)


def gather_rows(values: NDArray[np.float32], n_rows: int, placement: Placement) -> NDArray[np.float32]:
    """(n_rows, ...) values of all workers, put back in order: worker r holds the rows `share_of_rows` gives it."""
    if placement.n_workers == 1:
        return values
    n_each = len(range(n_rows)[share_of_rows(n_rows, 0, placement.n_workers)])
    # Collectives need equal shapes; what pads a short shard is cut off again below.
    mine = torch.zeros((n_each, *values.shape[1:]), dtype=torch.float32, device=placement.device)
    mine[: len(values)] = torch.from_numpy(values)
    parts = [torch.empty_like(mine) for _ in range(placement.n_workers)]
    with exchanging():
        torch.distributed.all_gather(parts, mine)
    together: NDArray[np.float32] = torch.cat(parts).cpu().numpy()
    return together[:n_rows]
