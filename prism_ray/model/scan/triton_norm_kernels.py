"""Device code of RMSNorm for NVIDIA GPUs, in Triton: one pass each way, rounding to half precision on the way out.

Legend: M rows (genes times positions), D channels, J blocks of rows. Arrays are contiguous:
    x, dx       (M, D)   float32
    y, dy       (M, D)   float32 or half precision
    scale       (M,)     1 / sqrt(mean of squares + eps), float32
    parts       (J, D)   a block's share in the gradient of the weight, float32
"""

# Triton resolves the annotations of a kernel as its own: arguments have none but tl.constexpr.
# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False, disallow-untyped-calls=False

from __future__ import annotations

import triton.language as tl

from prism_ray.model.scan.triton_kernels import jit


@jit
def norm_forward(x, weight, y, scale, n_rows, n_channels, eps, ROWS: tl.constexpr, BLOCK_D: tl.constexpr):
    """Fill y and scale; grid (row blocks,)."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    channel = tl.arange(0, BLOCK_D)
    is_row = row < n_rows
    cells = is_row[:, None] & (channel < n_channels)[None, :]
    at = row[:, None] * n_channels + channel[None, :]
    value = tl.load(x + at, mask=cells, other=0.0)
    factor = 1.0 / tl.sqrt(tl.sum(value * value, axis=1) / n_channels + eps)
    gain = tl.load(weight + channel, mask=channel < n_channels, other=0.0)
    tl.store(y + at, value * factor[:, None] * gain[None, :], mask=cells)
    tl.store(scale + row, factor, mask=is_row)


@jit
def norm_backward(
    dy,
    x,
    weight,
    scale,
    dx,
    parts,
    n_rows,
    n_channels,
    ROWS: tl.constexpr,
    TURNS: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Fill dx and parts; a program takes TURNS blocks of ROWS rows, grid (J,)."""
    channel = tl.arange(0, BLOCK_D)
    is_channel = channel < n_channels
    gain = tl.load(weight + channel, mask=is_channel, other=0.0)
    of_weight = tl.zeros((BLOCK_D,), dtype=tl.float32)
    for turn in range(TURNS):
        row = (tl.program_id(0).to(tl.int64) * TURNS + turn) * ROWS + tl.arange(0, ROWS)
        is_row = row < n_rows
        cells = is_row[:, None] & is_channel[None, :]
        at = row[:, None] * n_channels + channel[None, :]
        upstream = tl.load(dy + at, mask=cells, other=0.0).to(tl.float32)
        factor = tl.load(scale + row, mask=is_row, other=0.0)
        normed = tl.load(x + at, mask=cells, other=0.0) * factor[:, None]
        of_weight += tl.sum(upstream * normed, axis=0)
        weighted = upstream * gain[None, :]
        along = tl.sum(weighted * normed, axis=1) / n_channels
        tl.store(dx + at, factor[:, None] * (weighted - normed * along[:, None]), mask=cells)
    tl.store(parts + tl.program_id(0) * n_channels + channel, of_weight, mask=is_channel)
