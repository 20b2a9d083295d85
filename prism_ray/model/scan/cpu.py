"""The compiled CPU kernels as differentiable PyTorch operations; float32 only."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from prism_ray.model.scan import block_kernels, scan_kernels
from prism_ray.model.scan.inner import bidirectional_inner
from prism_ray.model.scan.simd import WIDTH
from prism_ray.model.scan.surroundings import products, rms_norm
from prism_ray.model.scan.threads import Flat, flat, over_parts, padded, share

__all__ = [
    "bidirectional_inner",
    "causal_conv_silu",
    "gated_sum",
    "products",
    "projected_scan",
    "rms_norm",
    "selective_scan",
]

_ITEMS = 16
"""Work items to reach by cutting channels into groups, where there are fewer genes."""


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
        share(scan_kernels.scan_forward, n_items, u.numel() * n_state, shape, reverse, inputs, flat(y), kept)
        if differentiable:
            ctx.save_for_backward(u, delta, packed, weight, A, D, bias)
            ctx.kept, ctx.shape, ctx.reverse = kept, shape, reverse
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors  # once: a recomputed block gives them out a single time
        u, delta, packed = saved[:3]
        n_genes, _, n_channels, n_state, rank, n_groups = ctx.shape
        width = -(-n_channels // WIDTH) * WIDTH
        dy = dy.contiguous()
        du, ddelta, dpacked = torch.empty_like(u), torch.empty_like(delta), packed.new_empty(n_groups, *packed.shape)
        dweight, dA = (np.zeros((n_genes, rows, width), dtype=np.float32) for rows in (rank, n_state))
        dD, dbias = (np.zeros((n_genes, width), dtype=np.float32) for _ in range(2))
        parts = (dweight, dA, dD, dbias)
        gradients = (flat(du), flat(ddelta), flat(dpacked), *(part.ravel() for part in parts))
        inputs = (*_scan_inputs(*saved), ctx.kept)
        kernel = scan_kernels.scan_backward
        share(kernel, n_genes * n_groups, u.numel() * n_state, ctx.shape, ctx.reverse, inputs, flat(dy), gradients)
        of_weight, of_A, of_D, of_bias = (over_parts(part, n_channels) for part in parts)
        packed_total = dpacked[0] if n_groups == 1 else dpacked.sum(dim=0)
        return du, ddelta, packed_total, of_weight, of_A.t(), of_D, of_bias, None


def _scan_inputs(
    u: Tensor, delta: Tensor, packed: Tensor, weight: Tensor, A: Tensor, D: Tensor, bias: Tensor
) -> tuple[Flat, ...]:
    return (flat(u), flat(delta), flat(packed), padded(weight), padded(A.t()), padded(D), padded(bias))


class _ConvSilu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, reverse: bool) -> Tensor:
        x = x.contiguous()
        shape = (*x.shape, weight.shape[1], _n_groups(x.shape[0], -(-x.shape[2] // WIDTH)))
        y = torch.empty_like(x)
        inputs = (flat(x), padded(weight.t()), padded(bias))
        share(block_kernels.conv_forward, x.shape[0] * shape[4], x.numel(), shape, reverse, inputs, flat(y))
        ctx.save_for_backward(x, weight, bias)
        ctx.shape, ctx.reverse = shape, reverse
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias = ctx.saved_tensors
        n_genes, _, n_channels, n_taps, n_groups = ctx.shape
        width = -(-n_channels // WIDTH) * WIDTH
        dy = dy.contiguous()
        dx = torch.empty_like(x)
        dweight = np.zeros((n_genes, n_taps, width), dtype=np.float32)
        dbias = np.zeros((n_genes, width), dtype=np.float32)
        inputs = (flat(x), padded(weight.t()), padded(bias))
        gradients = (flat(dx), dweight.ravel(), dbias.ravel())
        kernel = block_kernels.conv_backward
        share(kernel, n_genes * n_groups, x.numel(), ctx.shape, ctx.reverse, inputs, flat(dy), gradients)
        return dx, over_parts(dweight, n_channels).t(), over_parts(dbias, n_channels), None


class _GatedSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, forward: Tensor, backward: Tensor, z: Tensor) -> Tensor:
        forward, backward, z = forward.contiguous(), backward.contiguous(), z.contiguous()
        y = torch.empty_like(z)
        n_items = -(-y.numel() // WIDTH)
        share(block_kernels.gate_forward, n_items, y.numel(), flat(forward), flat(backward), flat(z), flat(y))
        ctx.save_for_backward(forward, backward, z)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, ...]:
        forward, backward, z = ctx.saved_tensors
        dy = dy.contiguous()
        dboth, dz = torch.empty_like(z), torch.empty_like(z)
        n_items = -(-z.numel() // WIDTH)
        arrays = (flat(tensor) for tensor in (forward, backward, z, dy, dboth, dz))
        share(block_kernels.gate_backward, n_items, z.numel(), *arrays)
        return dboth, dboth, dz


def _n_groups(n_genes: int, n_blocks: int) -> int:
    """Groups of channels a gene, from shapes alone: a few genes still make work for all threads."""
    return min(n_blocks, -(-_ITEMS // n_genes))
