"""What the workers of a run tell each other; with one worker nothing is sent."""

from __future__ import annotations

import numpy as np
import torch
import torch.distributed
from numpy.typing import NDArray
from torch import Tensor

from prism_ray.training.reporter import Placement


def mean_over_workers(values: Tensor, placement: Placement) -> Tensor:
    """Mean of a tensor over the workers; shards are equal, so means of shards average to the batch's mean."""
    if placement.n_workers == 1:
        return values
    values = values.clone()
    torch.distributed.all_reduce(values)
    return values / placement.n_workers


def gather_rows(values: NDArray[np.float32], n_rows: int, placement: Placement) -> NDArray[np.float32]:
    """(n_rows,) values of all workers, put back in order: worker r holds rows r, r + W, r + 2W, ..."""
    if placement.n_workers == 1:
        return values
    n_each = -(-n_rows // placement.n_workers)
    # Collectives need equal shapes; what pads a short shard is cut off again below.
    mine = torch.zeros(n_each, dtype=torch.float32, device=placement.device)
    mine[: len(values)] = torch.from_numpy(values)
    parts = [torch.empty_like(mine) for _ in range(placement.n_workers)]
    torch.distributed.all_gather(parts, mine)
    interleaved: NDArray[np.float32] = torch.stack(parts, dim=1).reshape(-1).cpu().numpy()
    return interleaved[:n_rows]
