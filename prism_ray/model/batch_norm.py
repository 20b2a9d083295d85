"""Batch normalisation whose statistics cover the genes of all data-parallel workers."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from prism_ray.model.exchange import sum_in_place


class SyncBatchNorm1d(nn.BatchNorm1d):
    """`nn.BatchNorm1d` over all workers: 2 workers with 4 genes normalise as 1 worker with 8.

    State and results are those of `nn.BatchNorm1d` in evaluation, in a plain process and with one
    worker. PyTorch's own synchronised layer runs on GPUs only; this one needs an all-reduce, which
    gloo has too. Every worker must run the layer equally often, as for any collective.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalised `input`, (B, C, L), in its dtype; statistics in float32 at least."""
        if not (self.training and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
            return super().forward(input)
        values = input.float() if input.dtype in (torch.bfloat16, torch.float16) else input
        count = values.new_tensor([values.shape[0] * values.shape[2]])
        sums = _sum_over_workers(torch.cat([values.sum(dim=(0, 2)), count]))
        total = sums[-1].detach()
        mean = sums[:-1] / total  # (C,)
        centred = values - mean[:, None]
        # A second reduction, not E[x^2] - E[x]^2: raw signals have means far above their spread.
        squares = _sum_over_workers(centred.square().sum(dim=(0, 2)))
        variance = squares / total
        self._follow(mean.detach(), variance.detach() * total / (total - 1).clamp(min=1))
        normed = centred * torch.rsqrt(variance + self.eps)[:, None]
        return (normed * self.weight[:, None] + self.bias[:, None]).to(input.dtype)

    @torch.no_grad()
    def _follow(self, mean: Tensor, unbiased_variance: Tensor) -> None:
        """Move the running statistics towards those of this batch."""
        assert self.momentum is not None
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
        self.running_var.lerp_(unbiased_variance.to(self.running_var.dtype), self.momentum)


def _sum_over_workers(local: Tensor) -> Tensor:
    total: Tensor = _SumOverWorkers.apply(local)  # type: ignore[no-untyped-call]
    return total


class _SumOverWorkers(torch.autograd.Function):
    """Sum over workers. What a worker adds reaches every worker's loss, so gradients are summed too."""

    @staticmethod
    def forward(ctx: Any, local: Tensor) -> Tensor:
        total = local.clone()
        sum_in_place(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        sum_in_place(total)
        return total
