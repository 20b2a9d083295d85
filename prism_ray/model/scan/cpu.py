"""The compiled CPU kernels as differentiable PyTorch operations; float32 only.

Kernels run on a few plain threads that take turns with PyTorch's own: numba's parallel back ends start a second
thread pool that oversubscribes the cores and does not survive a fork. The number of threads is PyTorch's, and
no result depends on it.
"""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from prism_ray.model.scan import block_kernels, scan_kernels
from prism_ray.model.scan.simd import WIDTH

Flat = npt.NDArray[np.float32]

_ITEMS = 16
"""Work items to reach by cutting channels into groups, where there are fewer genes."""

_LEAST_VALUES_PER_THREAD = 2**14
"""Under so many values a thread, handing work over takes longer than doing it."""


def selective_scan(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, delta_bias: Tensor, reverse: bool
) -> Tensor:
    """State-space recurrence along L; see `prism_ray.model.scan.selective_scan`."""
    unprojected = u.new_empty(0, u.shape[2])
    packed = torch.cat([B, C], dim=-1)
    y: Tensor = _Scan.apply(u, delta, packed, unprojected, A, D, delta_bias, reverse)  # type: ignore[no-untyped-call]
    return y


def projected_scan(
    u: Tensor, projected: Tensor, step_weight: Tensor, A: Tensor, D: Tensor, delta_bias: Tensor, reverse: bool
) -> Tensor:
    """Selective scan of parameters that come out of one projection; see `prism_ray.model.scan.projected_scan`."""
    no_delta = u.new_empty(0)
    y: Tensor = _Scan.apply(u, no_delta, projected, step_weight.t(), A, D, delta_bias, reverse)  # type: ignore[no-untyped-call]
    return y


def causal_conv_silu(x: Tensor, weight: Tensor, bias: Tensor, reverse: bool) -> Tensor:
    """Depthwise causal convolution, then SiLU; see `prism_ray.model.scan.causal_conv_silu`."""
    y: Tensor = _ConvSilu.apply(x, weight, bias, reverse)  # type: ignore[no-untyped-call]
    return y


def gated_sum(forward: Tensor, backward: Tensor, z: Tensor) -> Tensor:
    """(forward + backward) * silu(z); see `prism_ray.model.scan.gated_sum`."""
    y: Tensor = _GatedSum.apply(forward, backward, z)  # type: ignore[no-untyped-call]
    return y


class _Scan(torch.autograd.Function):
    """Arguments as in `scan_kernels`: delta is empty where weight, (R, E), has rows."""

    @staticmethod
    def forward(
        ctx: Any,
        u: Tensor,
        delta: Tensor,
        packed: Tensor,
        weight: Tensor,
        A: Tensor,
        D: Tensor,
        bias: Tensor,
        reverse: bool,
    ) -> Tensor:
        n_genes, n_positions, n_channels = u.shape
        n_state, rank = A.shape[1], weight.shape[0]
        n_blocks = -(-n_channels // WIDTH)
        shape = (n_genes, n_positions, n_channels, n_state, rank, _n_groups(n_genes, n_blocks))
        u, delta, packed = u.contiguous(), delta.contiguous(), packed.contiguous()
        differentiable = any(ctx.needs_input_grad)
        n_kept = n_genes * -(-n_positions // scan_kernels.CHUNK) * n_blocks * n_state * WIDTH
        kept = np.empty(n_kept if differentiable else 0, dtype=np.float32)
        y = torch.empty_like(u)
        inputs = _scan_inputs(u, delta, packed, weight, A, D, bias)
        n_items = n_genes * shape[5]
        _share(scan_kernels.scan_forward, n_items, u.numel() * n_state, shape, reverse, inputs, _flat(y), kept)
        if differentiable:
            ctx.save_for_backward(u, delta, packed, weight, A, D, bias)
            ctx.kept, ctx.shape, ctx.reverse = kept, shape, reverse
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        u, delta, packed = ctx.saved_tensors[:3]
        n_genes, _, n_channels, n_state, rank, n_groups = ctx.shape
        padded = -(-n_channels // WIDTH) * WIDTH
        dy = dy.contiguous()
        du, ddelta, dpacked = torch.empty_like(u), torch.empty_like(delta), packed.new_empty(n_groups, *packed.shape)
        dweight, dA = (np.zeros((n_genes, rows, padded), dtype=np.float32) for rows in (rank, n_state))
        dD, dbias = (np.zeros((n_genes, padded), dtype=np.float32) for _ in range(2))
        parts = (dweight, dA, dD, dbias)
        gradients = (_flat(du), _flat(ddelta), _flat(dpacked), *(part.ravel() for part in parts))
        inputs = (*_scan_inputs(*ctx.saved_tensors), ctx.kept)
        kernel = scan_kernels.scan_backward
        _share(kernel, n_genes * n_groups, u.numel() * n_state, ctx.shape, ctx.reverse, inputs, _flat(dy), gradients)
        of_weight, of_A, of_D, of_bias = (_over_genes(part, n_channels) for part in parts)
        packed_total = dpacked[0] if n_groups == 1 else dpacked.sum(dim=0)
        return du, ddelta, packed_total, of_weight, of_A.t(), of_D, of_bias, None


def _scan_inputs(
    u: Tensor, delta: Tensor, packed: Tensor, weight: Tensor, A: Tensor, D: Tensor, bias: Tensor
) -> tuple[Flat, ...]:
    return (_flat(u), _flat(delta), _flat(packed), _padded(weight), _padded(A.t()), _padded(D), _padded(bias))


class _ConvSilu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, reverse: bool) -> Tensor:
        x = x.contiguous()
        shape = (*x.shape, weight.shape[1], _n_groups(x.shape[0], -(-x.shape[2] // WIDTH)))
        y = torch.empty_like(x)
        inputs = (_flat(x), _padded(weight.t()), _padded(bias))
        _share(block_kernels.conv_forward, x.shape[0] * shape[4], x.numel(), shape, reverse, inputs, _flat(y))
        ctx.save_for_backward(x, weight, bias)
        ctx.shape, ctx.reverse = shape, reverse
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias = ctx.saved_tensors
        n_genes, _, n_channels, n_taps, n_groups = ctx.shape
        padded = -(-n_channels // WIDTH) * WIDTH
        dy = dy.contiguous()
        dx = torch.empty_like(x)
        dweight = np.zeros((n_genes, n_taps, padded), dtype=np.float32)
        dbias = np.zeros((n_genes, padded), dtype=np.float32)
        inputs = (_flat(x), _padded(weight.t()), _padded(bias))
        gradients = (_flat(dx), dweight.ravel(), dbias.ravel())
        kernel = block_kernels.conv_backward
        _share(kernel, n_genes * n_groups, x.numel(), ctx.shape, ctx.reverse, inputs, _flat(dy), gradients)
        return dx, _over_genes(dweight, n_channels).t(), _over_genes(dbias, n_channels), None


class _GatedSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, forward: Tensor, backward: Tensor, z: Tensor) -> Tensor:
        forward, backward, z = forward.contiguous(), backward.contiguous(), z.contiguous()
        y = torch.empty_like(z)
        n_items = -(-y.numel() // WIDTH)
        _share(block_kernels.gate_forward, n_items, y.numel(), _flat(forward), _flat(backward), _flat(z), _flat(y))
        ctx.save_for_backward(forward, backward, z)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, ...]:
        forward, backward, z = ctx.saved_tensors
        dy = dy.contiguous()
        dboth, dz = torch.empty_like(z), torch.empty_like(z)
        n_items = -(-z.numel() // WIDTH)
        arrays = (_flat(tensor) for tensor in (forward, backward, z, dy, dboth, dz))
        _share(block_kernels.gate_backward, n_items, z.numel(), *arrays)
        return dboth, dboth, dz


def _n_groups(n_genes: int, n_blocks: int) -> int:
    """Groups of channels a gene, from shapes alone: a few genes still make work for all threads."""
    return min(n_blocks, -(-_ITEMS // n_genes))


def _share(kernel: Callable[..., None], n_items: int, n_values: int, *arguments: Any) -> None:
    """Run a kernel over all items, cut into one range a thread; this thread takes the last."""
    n_threads = min(torch.get_num_threads(), n_items, max(1, n_values // _LEAST_VALUES_PER_THREAD))
    bounds = [n_items * k // n_threads for k in range(n_threads + 1)]
    ranges = list(itertools.pairwise(bounds))
    futures = []
    if n_threads > 1:
        pool = _pool(os.getpid(), n_threads)
        futures = [pool.submit(kernel, part, *arguments) for part in ranges[:-1]]
    kernel(ranges[-1], *arguments)
    for future in futures:
        future.result()


@functools.lru_cache(maxsize=1)
def _pool(process: int, n_threads: int) -> ThreadPoolExecutor:
    """Threads of this process: after a fork the parent's are gone, so the process is part of the key."""
    return ThreadPoolExecutor(max_workers=n_threads - 1, thread_name_prefix="prism-scan")


def _flat(tensor: Tensor) -> Flat:
    """A contiguous tensor's values, shared with it."""
    values: Flat = tensor.detach().view(-1).numpy()
    return values


def _padded(tensor: Tensor) -> Flat:
    """Values with the last dimension filled up with zeros to whole vectors, flat."""
    values: Flat = tensor.detach().numpy()
    filled = np.zeros((*values.shape[:-1], -(-values.shape[-1] // WIDTH) * WIDTH), dtype=np.float32)
    filled[..., : values.shape[-1]] = values
    return filled.ravel()


def _over_genes(parts: Flat, n_channels: int) -> Tensor:
    """Sum of the genes' parts without the padding."""
    total = np.add.reduce(parts, axis=0)
    return torch.from_numpy(np.ascontiguousarray(total[..., :n_channels]))
