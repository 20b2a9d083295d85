"""Device code of what stands around the scan on NVIDIA GPUs, in Triton: convolution with SiLU, and the gate.

Walk order, directions and the legend are those of `triton_kernels`. Besides:
    taps        (G, K, E)      the last on the position itself
    u, du, dpre (G, B, L, E)   output of the convolution, its gradient, the gradient before SiLU
"""

# Triton resolves the annotations of a kernel as its own: arguments have none but tl.constexpr.
# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False, disallow-untyped-calls=False

from __future__ import annotations

import triton.language as tl

from prism_ray.model.scan.triton_kernels import _sigmoid, jit


@jit
def convolve(
    x,
    taps,
    bias,
    du,
    result,
    parts,
    n_genes,
    n_positions,
    n_channels,
    N_TAPS: tl.constexpr,
    FIRST: tl.constexpr,
    BACKWARD: tl.constexpr,
    TILE: tl.constexpr,
    BLOCK_E: tl.constexpr,
):
    """One tile of silu(bias + causal convolution), grid (tiles, G * B, channel blocks), into result.

    BACKWARD: result is dpre, and parts, (G, B, tiles, K + 1, E), the tile's share in the gradients of taps and bias.
    """
    item = tl.program_id(1).to(tl.int64)
    direction = tl.program_id(1) // n_genes
    gene = (tl.program_id(1) % n_genes).to(tl.int64)
    channel = tl.program_id(2) * BLOCK_E + tl.arange(0, BLOCK_E)
    is_channel = channel < n_channels
    k = tl.program_id(0) * TILE + tl.arange(0, TILE)
    stride = 1 - 2 * (FIRST + direction)
    position = tl.where(stride < 0, n_positions - 1 - k, k)
    cells = (k < n_positions)[:, None] & is_channel[None, :]
    from_x = (gene * n_positions + position)[:, None] * n_channels + channel[None, :]
    at = (item * n_positions + position)[:, None] * n_channels + channel[None, :]
    offset = tl.load(bias + direction * n_channels + channel, mask=is_channel, other=0.0)
    before = tl.zeros((TILE, BLOCK_E), dtype=tl.float32) + offset[None, :]
    for back in tl.static_range(N_TAPS):
        tap = tl.load(
            taps + (direction * N_TAPS + N_TAPS - 1 - back) * n_channels + channel, mask=is_channel, other=0.0
        )
        seen = cells & (k >= back)[:, None]
        value = tl.load(x + from_x - stride * back * n_channels, mask=seen, other=0.0).to(tl.float32)
        before += tap[None, :] * value
    gate = _sigmoid(before)
    if BACKWARD:
        upstream = tl.load(du + at, mask=cells, other=0.0).to(tl.float32)
        slope = tl.where(cells, upstream * gate * (1.0 + before * (1.0 - gate)), 0.0)
        tl.store(result + at, slope, mask=cells)
        row = (item * tl.num_programs(0) + tl.program_id(0)) * (N_TAPS + 1)
        for back in tl.static_range(N_TAPS):
            seen = cells & (k >= back)[:, None]
            value = tl.load(x + from_x - stride * back * n_channels, mask=seen, other=0.0).to(tl.float32)
            share = tl.sum(slope * value, axis=0)
            tl.store(parts + (row + N_TAPS - 1 - back) * n_channels + channel, share, mask=is_channel)
        tl.store(parts + (row + N_TAPS) * n_channels + channel, tl.sum(slope, axis=0), mask=is_channel)
    else:
        tl.store(result + at, before * gate, mask=cells)


@jit
def convolve_input(
    dpre,
    taps,
    dx,
    n_genes,
    n_positions,
    n_channels,
    N_TAPS: tl.constexpr,
    N_DIRECTIONS: tl.constexpr,
    FIRST: tl.constexpr,
    TILE: tl.constexpr,
    BLOCK_E: tl.constexpr,
):
    """One tile of the convolution's gradient in x, added over directions; grid (tiles, B, channel blocks)."""
    gene = tl.program_id(1).to(tl.int64)
    channel = tl.program_id(2) * BLOCK_E + tl.arange(0, BLOCK_E)
    is_channel = channel < n_channels
    position = tl.program_id(0) * TILE + tl.arange(0, TILE)
    cells = (position < n_positions)[:, None] & is_channel[None, :]
    total = tl.zeros((TILE, BLOCK_E), dtype=tl.float32)
    for direction in tl.static_range(N_DIRECTIONS):
        stride = 1 - 2 * (FIRST + direction)
        item = direction * n_genes + gene
        for back in tl.static_range(N_TAPS):
            tap = tl.load(
                taps + (direction * N_TAPS + N_TAPS - 1 - back) * n_channels + channel, mask=is_channel, other=0.0
            )
            later = position + stride * back
            reached = cells & ((later >= 0) & (later < n_positions))[:, None]
            at = (item * n_positions + later)[:, None] * n_channels + channel[None, :]
            total += tap[None, :] * tl.load(dpre + at, mask=reached, other=0.0).to(tl.float32)
    own = (gene * n_positions + position)[:, None] * n_channels + channel[None, :]
    tl.store(dx + own, total, mask=cells)


@jit
def gate_forward(y, z, both, gated, n_values, BLOCK: tl.constexpr):
    """Sum of the two directions in y, (2, B, L, E), and that sum times silu(z); grid (blocks,)."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    valid = at < n_values
    total = tl.load(y + at, mask=valid, other=0.0).to(tl.float32)
    total += tl.load(y + n_values + at, mask=valid, other=0.0).to(tl.float32)
    gate = tl.load(z + at, mask=valid, other=0.0).to(tl.float32)
    tl.store(both + at, total, mask=valid)
    tl.store(gated + at, total * gate * _sigmoid(gate), mask=valid)


@jit
def gate_backward(dgated, both, z, dboth, dz, n_values, BLOCK: tl.constexpr):
    """Gradients of the gate in the sum and in z; grid (blocks,)."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    valid = at < n_values
    upstream = tl.load(dgated + at, mask=valid, other=0.0).to(tl.float32)
    total = tl.load(both + at, mask=valid, other=0.0).to(tl.float32)
    gate = tl.load(z + at, mask=valid, other=0.0).to(tl.float32)
    open_ = _sigmoid(gate)
    tl.store(dboth + at, upstream * gate * open_, mask=valid)
    tl.store(dz + at, upstream * total * open_ * (1.0 + gate * (1.0 - open_)), mask=valid)
