"""The inner part of a bidirectional block as one differentiable operation on the CPU; float32 only.

Kept for the backward pass are its inputs, the projections of both directions (step size, B and C) and the states at
the chunks' starts. Work goes over stretches of positions (see `inner_kernels`), whose sizes follow from shapes alone,
so that no result depends on the number of threads.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from prism_ray.model.scan import inner_kernels, product_kernels
from prism_ray.model.scan.buffers import borrow
from prism_ray.model.scan.reference import DirectionWeights
from prism_ray.model.scan.scan_kernels import CHUNK
from prism_ray.model.scan.simd import WIDTH
from prism_ray.model.scan.threads import Flat, flat, over_parts, padded, share

_STRETCH_VALUES = 2**22
"""Values of a stretch's buffer, 16 MiB: large enough to make whole genes of 2 kb work for several threads."""

_ENOUGH_GENES = 8
"""Genes in a stretch from which on each is one work item: groups of channels cost a sum over them."""

_ITEMS = 16
"""Work items to reach by cutting channels into groups, where a stretch has fewer genes."""


def bidirectional_inner(x: Tensor, z: Tensor, left: DirectionWeights, right: DirectionWeights) -> Tensor:
    """(left_to_right(x) + right_to_left(x)) * silu(z); see `prism_ray.model.scan.bidirectional_inner`."""
    out: Tensor = _Inner.apply(x, z, *left, *right)  # type: ignore[no-untyped-call]
    return out


class _Inner(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, z: Tensor, *weights: Tensor) -> Tensor:
        x, z = x.contiguous(), z.contiguous()
        out = borrow(*x.shape)
        differentiable = any(ctx.needs_input_grad)
        kept = []
        for number, side in enumerate(_sides(weights)):
            kept.append(_forward(x, z, side, out, reverse=number == 1, keep=differentiable))
        if differentiable:
            packed, states = zip(*kept, strict=True)
            ctx.save_for_backward(x, z, *weights, *packed, *states)
        return out

    @staticmethod
    def backward(ctx: Any, dout: Tensor) -> tuple[Tensor, ...]:
        x, z, *others = ctx.saved_tensors
        n_weights = len(DirectionWeights._fields)
        weights, (*packed, states_left, states_right) = others[: 2 * n_weights], others[2 * n_weights :]
        dout = dout.contiguous()
        dx, dz = borrow(*x.shape), borrow(*z.shape)
        gradients: list[Tensor] = []
        for number, side in enumerate(_sides(weights)):
            kept = (packed[number], (states_left, states_right)[number])
            gradients += _backward(x, z, side, kept, dout, (dx, dz), reverse=number == 1)
        return dx, dz, *gradients


def _sides(weights: Any) -> tuple[DirectionWeights, DirectionWeights]:
    n_weights = len(DirectionWeights._fields)
    return DirectionWeights(*weights[:n_weights]), DirectionWeights(*weights[n_weights:])


def _shape(x: Tensor, side: DirectionWeights) -> inner_kernels.Shape:
    return (x.shape[1], x.shape[2], side.A.shape[1], side.dt_weight.shape[1], side.conv_weight.shape[1])


def _stretches(x: Tensor, *, reverse: bool) -> Iterator[inner_kernels.Stretch]:
    """Stretches of all genes, those of one gene in the order in which the direction takes them."""
    n_genes, n_positions, n_channels = x.shape
    n_blocks = -(-n_channels // WIDTH)
    n_rows = max(CHUNK, _STRETCH_VALUES // n_channels // CHUNK * CHUNK)
    at_once = max(1, n_rows // n_positions)
    for first_gene in range(0, n_genes, at_once):
        m = min(at_once, n_genes - first_gene)
        n_groups = 1 if m >= _ENOUGH_GENES else min(n_blocks, -(-_ITEMS // m))
        for first in range(0, n_positions, n_rows):
            yield (first_gene, m, first, min(n_positions, first + n_rows), n_groups, reverse)


def _first_row(x: Tensor, stretch: inner_kernels.Stretch) -> int:
    """Row of (B * L, ...) at which a stretch begins; a stretch of less than a gene holds one gene, so rows follow."""
    first_gene, _, first, last, _, reverse = stretch
    n_positions = x.shape[1]
    return first_gene * n_positions + (n_positions - last if reverse else first)


def _multiply(rows: Tensor, matrix: Flat, n_columns: int, out: Flat, *, first: int, add: bool) -> None:
    """Write rows @ matrix to rows `first` and on of out, or add it."""
    n_rows, n_inner = rows.shape
    items = -(-n_rows // product_kernels.ROWS)
    sizes = (n_rows, n_inner, n_columns, first)
    share(product_kernels.product, items, n_rows * n_columns, sizes, add, flat(rows), matrix, out)


def _multiply_transposed(rows: Tensor, others: Tensor) -> Tensor:
    """rows.T @ others, slice by slice and then their sum."""
    (n_rows, n_inner), n_columns = rows.shape, others.shape[1]
    items = -(-n_rows // product_kernels.SLICE)
    parts = np.empty((items, n_inner, -(-n_columns // WIDTH) * WIDTH), dtype=np.float32)
    sizes = (n_rows, n_inner, n_columns)
    kernel = product_kernels.transposed_product
    share(kernel, items, n_rows * n_columns, sizes, flat(rows), flat(others), parts.ravel())
    return over_parts(parts, n_columns)


def _buffer(x: Tensor, *, reverse: bool) -> Tensor:
    """Room for the largest stretch, (M * Q, E)."""
    rows = max(m * (last - first) for _, m, first, last, _, _ in _stretches(x, reverse=reverse))
    return borrow(rows, x.shape[2])


def _flat_weights(side: DirectionWeights) -> tuple[Flat, Flat, Flat, Flat]:
    return padded(side.dt_weight.t()), padded(side.A.t()), padded(side.D), padded(side.dt_bias)


def _flat_taps(side: DirectionWeights) -> tuple[Flat, Flat]:
    return padded(side.conv_weight.t()), padded(side.conv_bias)


def _forward(
    x: Tensor, z: Tensor, side: DirectionWeights, out: Tensor, *, reverse: bool, keep: bool
) -> tuple[Tensor, Tensor]:
    """Run one direction; returns what is kept of it, its projections and states (empty where not asked for)."""
    n_genes, n_positions, n_channels = x.shape
    shape = _shape(x, side)
    n_state = side.A.shape[1]
    width = -(-n_channels // WIDTH) * WIDTH
    n_chunks = -(-n_positions // CHUNK)
    packed = borrow(n_genes, n_positions, side.x_proj.shape[0])
    kept = borrow(n_genes, n_chunks, n_state * width) if keep else x.new_empty(0)
    state = np.empty(0, dtype=np.float32)
    buffer = _buffer(x, reverse=reverse)
    weights, taps = _flat_weights(side), _flat_taps(side)
    projection = padded(side.x_proj.t())
    arrays = (flat(x), flat(z), flat(packed), flat(out), flat(kept), flat(buffer))
    of_x, of_z, of_packed, of_out, of_kept, of_u = arrays
    for stretch in _stretches(x, reverse=reverse):
        _, m, first, last, n_groups, _ = stretch
        if first == 0:
            state = np.zeros(m * n_state * width, dtype=np.float32)
        u = buffer[: m * (last - first)]
        items = m * n_groups
        share(inner_kernels.convolve_stretch, items, u.numel(), shape, stretch, (of_x, *taps), of_u)
        _multiply(u, projection, packed.shape[2], of_packed, first=_first_row(x, stretch), add=False)
        inputs = (of_u, of_z, of_packed, *weights)
        results = (of_out, state, of_kept)
        share(inner_kernels.scan_stretch, items, u.numel() * n_state, shape, stretch, inputs, results)
    return packed, kept


def _backward(
    x: Tensor,
    z: Tensor,
    side: DirectionWeights,
    kept: tuple[Tensor, Tensor],
    dout: Tensor,
    into: tuple[Tensor, Tensor],
    *,
    reverse: bool,
) -> list[Tensor]:
    """Gradients of one direction's weights; those of x and z are written or added to `into`."""
    n_genes, _, n_channels = x.shape
    shape = _shape(x, side)
    n_state, rank, n_taps = shape[2], shape[3], shape[4]
    width = -(-n_channels // WIDTH) * WIDTH
    packed, states = kept
    n_packed = packed.shape[2]
    dtaps, dweight, dA = (np.zeros((n_genes, rows, width), dtype=np.float32) for rows in (n_taps, rank, n_state))
    doffset, dD, dbias = (np.zeros((n_genes, width), dtype=np.float32) for _ in range(3))
    dprojection = torch.zeros_like(side.x_proj)
    for_u, for_du = _buffer(x, reverse=reverse), _buffer(x, reverse=reverse)
    weights, taps = _flat_weights(side), _flat_taps(side)
    of_x, of_z, of_packed, of_kept, of_dout = (flat(tensor) for tensor in (x, z, packed, states, dout))
    of_dx, of_dz = (flat(tensor) for tensor in into)
    back = padded(side.x_proj)
    carried = dv = np.empty(0, dtype=np.float32)
    for stretch in reversed(list(_stretches(x, reverse=reverse))):
        _, m, first, last, n_groups, _ = stretch
        if last == x.shape[1]:
            carried = np.zeros(m * n_state * width, dtype=np.float32)
            dv = np.zeros(m * (n_taps - 1) * width, dtype=np.float32)
        n_rows, items = m * (last - first), m * n_groups
        u, du = for_u[:n_rows], for_du[:n_rows]
        by_group = borrow(n_groups, n_rows, n_packed)
        share(inner_kernels.convolve_stretch, items, u.numel(), shape, stretch, (of_x, *taps), flat(u))
        inputs = (flat(u), of_z, of_packed, *weights, of_kept)
        gradients = (flat(du), of_dz, flat(by_group), carried, *(part.ravel() for part in (dweight, dA, dD, dbias)))
        share(
            inner_kernels.scan_stretch_backward, items, u.numel() * n_state, shape, stretch, inputs, of_dout, gradients
        )
        dpacked = by_group[0] if n_groups == 1 else by_group.sum(dim=0)
        dprojection += _multiply_transposed(dpacked, u)
        _multiply(dpacked, back, n_channels, flat(du), first=0, add=True)
        through = (of_dx, dv, dtaps.ravel(), doffset.ravel())
        share(
            inner_kernels.convolve_stretch_backward, items, u.numel(), shape, stretch, (of_x, *taps), flat(du), through
        )
    of_taps, of_weight, of_A = (over_parts(part, n_channels).t() for part in (dtaps, dweight, dA))
    of_offset, of_D, of_bias = (over_parts(part, n_channels) for part in (doffset, dD, dbias))
    return list(DirectionWeights(of_taps, of_offset, dprojection, of_weight, of_bias, of_A, of_D))
