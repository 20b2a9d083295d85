"""Device code of the selective scan for NVIDIA GPUs, in Triton: both directions in one launch, any length.

Positions are taken in walk order: the k-th position of a direction is k, or L - 1 - k from right to left. Nothing is
ever flipped in memory. A window is walked by one program, or, where there are too few programs to fill a GPU, cut
into spans that run at the same time: `sweep` takes each from a state of zero, `join_spans` carries the states over
the spans, and a second sweep starts from the right state. The gradient with respect to the state obeys the same
recurrence in the other order, so the same two kernels make it. With both known at the borders of tiles of TILE
positions, `tile_gradients` (in `triton_tile_kernels`) works on one tile at a time.

A sweep keeps a state of (N, BLOCK_E) in one warp: with 32 channels a thread has all states of its channel, with fewer
the states are dealt out to 32 / BLOCK_E threads. All arithmetic is float32.

Legend: G directions, B genes (times copies), L positions, E channels, N state size, R rank of the step size,
P = R + 2 N, S spans, T tiles. Arrays are contiguous:
    x, dy, y of one gate         (B, L, E)
    u, y, du, draw               (G, B, L, E)
    step                         (G, B, L, E)   after bias and softplus, float32
    packed                       (G, B, L, P)   of a position: R values of the step size, then B, then C
    A; D, bias                   (G, N, E); (G, E)
    ends, starts; sums           (G, B, S, N, E); (G, B, S, E)
    borders (state, adjoint)     (G, B, T, N, E)   of the tiles of some spans
"""

# Triton resolves the annotations of a kernel as its own: arguments have none but tl.constexpr.
# Tuples grow in unrolled loops, where a local cannot be annotated either.
# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False, disallow-untyped-calls=False
# mypy: disable-error-code="assignment,var-annotated"

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import triton
import triton.language as tl

# Without types of its own, triton.jit would make every kernel untyped.
jit: Callable[[Callable[..., Any]], Any] = triton.jit

LOG2_E = tl.constexpr(1.4426950408889634)

# The interpreter knows no assembly. Compiled code flushes denormal results to zero: without that, each exponential
# costs three more instructions.
_INTERPRETED = tl.constexpr(os.environ.get("TRITON_INTERPRET") == "1")


@jit
def _exp2(value):
    """2 to the power of value."""
    if _INTERPRETED:
        return tl.exp2(value)
    else:
        return tl.inline_asm_elementwise(
            "ex2.approx.ftz.f32 $0, $1;", "=r,r", [value], dtype=tl.float32, is_pure=True, pack=1
        )


@jit
def _softplus(raw):
    """log(1 + exp(raw)); log1p(x) = 2 artanh(x / (2 + x)), whose series ends quickly for x in [0, 1]."""
    x = tl.exp(-tl.abs(raw))
    s = x / (2.0 + x)
    square = s * s
    series = 1.0 / 15.0
    series = series * square + 1.0 / 13.0
    series = series * square + 1.0 / 11.0
    series = series * square + 1.0 / 9.0
    series = series * square + 1.0 / 7.0
    series = series * square + 1.0 / 5.0
    series = series * square + 1.0 / 3.0
    # NaN is passed on by the first term: maximum alone may drop it.
    return tl.where(raw > 0.0, raw, raw * 0.0) + 2.0 * s * (1.0 + square * series)


@jit
def _sigmoid(value):
    return 1.0 / (1.0 + tl.exp(-value))


@jit
def step_sizes(
    delta,
    packed,
    weight,
    bias,
    step,
    n_genes,
    n_positions,
    n_channels,
    n_state,
    RANK: tl.constexpr,
    TILE: tl.constexpr,
    BLOCK_E: tl.constexpr,
):
    """Step sizes of some positions, grid (position blocks, G * B, channel blocks): softplus(raw + bias).

    raw is the first R values of packed times weight, (G, R, E), or delta, (G, B, L, E), where R is 0.
    """
    item = tl.program_id(1).to(tl.int64)
    direction = tl.program_id(1) // n_genes
    channel = tl.program_id(2) * BLOCK_E + tl.arange(0, BLOCK_E)
    position = tl.program_id(0) * TILE + tl.arange(0, TILE)
    is_channel = channel < n_channels
    is_position = position < n_positions
    cells = is_position[:, None] & is_channel[None, :]
    rows = item * n_positions + position
    at = rows[:, None] * n_channels + channel[None, :]
    raw = tl.zeros((TILE, BLOCK_E), dtype=tl.float32)
    raw += tl.load(bias + direction * n_channels + channel, mask=is_channel, other=0.0)[None, :]
    if RANK == 0:
        raw += tl.load(delta + at, mask=cells, other=0.0).to(tl.float32)
    for r in tl.static_range(RANK):
        values = tl.load(packed + rows * (RANK + 2 * n_state) + r, mask=is_position, other=0.0).to(tl.float32)
        weights = tl.load(weight + (direction * RANK + r) * n_channels + channel, mask=is_channel, other=0.0)
        raw += values[:, None] * weights[None, :]
    tl.store(step + at, _softplus(raw), mask=cells)


@jit
def _position(
    steps, values, lines, row, source, k, n_positions, channel, n_channels, state, n_state, n_packed, BOTH: tl.constexpr
):
    """What a sweep reads of a position: step, u or dy, B or C, and C where BOTH; zeros outside the window."""
    is_inside = (k >= 0) & (k < n_positions)
    here = channel < tl.where(is_inside, n_channels, 0)
    states_here = state < tl.where(is_inside, n_state, 0)
    taken = tl.load(steps + row * n_channels, mask=here, other=0.0)
    value = tl.load(values + source * n_channels, mask=here, other=0.0)
    first = tl.load(lines + row * n_packed, mask=states_here, other=0.0)
    second = first
    if BOTH:
        second = tl.load(lines + row * n_packed + n_state, mask=states_here, other=0.0)
    return taken, value, first, second


@jit
def _four(
    steps,
    values,
    lines,
    row,
    source,
    hop,
    k,
    k_hop,
    n_positions,
    channel,
    n_channels,
    state,
    n_state,
    n_packed,
    BOTH: tl.constexpr,
):
    """`_position` of four positions in the order of the walk."""
    read = ()
    for j in tl.static_range(4):
        at, at_source, at_k = row + j * hop, source + j * hop, k + j * k_hop
        read += (
            _position(
                steps,
                values,
                lines,
                at,
                at_source,
                at_k,
                n_positions,
                channel,
                n_channels,
                state,
                n_state,
                n_packed,
                BOTH,
            ),
        )
    return read


@jit
def sweep(
    u,
    step,
    packed,
    A,
    D,
    dy,
    starts,
    ends,
    sums,
    y,
    borders,
    n_genes,
    n_positions,
    n_channels,
    n_state,
    rank,
    span_length,
    n_spans,
    first_span,
    n_tiles,
    FIRST: tl.constexpr,
    ADJOINT: tl.constexpr,
    TASK: tl.constexpr,
    BORDERS: tl.constexpr,
    TILE: tl.constexpr,
    BLOCK_E: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """Walk one span, grid (spans, G * B, channel blocks), to one of three ends.

    TASK "ends": from zero, fill ends and sums (of the step size). "output": from starts, fill y. "borders": from
    starts, and nothing else. BORDERS: fill the state at each tile's start too; ADJOINT, what flows into each tile from
    the position after it.

    Four positions are read while the four before them are walked: few programs run at a time, so each has to hide
    itself the time that memory takes.
    """
    BOTH: tl.constexpr = TASK == "output"
    span = tl.program_id(0) + first_span
    item = tl.program_id(1).to(tl.int64)
    direction = tl.program_id(1) // n_genes
    gene = (tl.program_id(1) % n_genes).to(tl.int64)
    channel = tl.program_id(2) * BLOCK_E + tl.arange(0, BLOCK_E)
    is_channel = channel < n_channels
    state = tl.arange(0, BLOCK_N)
    cell = (state < n_state)[:, None] & is_channel[None, :]
    size = n_state * n_channels
    place = state[:, None] * n_channels + channel[None, :]
    rates = tl.load(A + direction * size + place, mask=cell, other=0.0) * LOG2_E
    skip = tl.load(D + direction * n_channels + channel, mask=is_channel, other=0.0)
    h = tl.zeros((BLOCK_N, BLOCK_E), dtype=tl.float32)
    if TASK != "ends":
        h = tl.load(starts + (item * n_spans + span) * size + place, mask=cell, other=0.0)
    total = tl.zeros((BLOCK_E,), dtype=tl.float32)
    used_tiles = (tl.minimum(span_length, n_positions - span * span_length) + TILE - 1) // TILE
    # One position further is k + k_hop in walk order, and hop rows further in memory.
    k_hop = -1 if ADJOINT else 1
    stride = 1 - 2 * (FIRST + direction)
    hop = stride * k_hop
    k = span * span_length + (used_tiles * TILE - 1 if ADJOINT else 0)
    position = tl.where(stride < 0, n_positions - 1 - k, k)
    row = item * n_positions + position
    # The gradient of y is that of both directions.
    source = gene * n_positions + position if ADJOINT else row
    steps = step + channel
    values = (dy if ADJOINT else u) + channel
    n_packed = rank + 2 * n_state
    lines = packed + rank + (n_state if ADJOINT else 0) + state
    ahead = _four(
        steps,
        values,
        lines,
        row,
        source,
        hop,
        k,
        k_hop,
        n_positions,
        channel,
        n_channels,
        state,
        n_state,
        n_packed,
        BOTH,
    )
    for group in range(used_tiles * (TILE // 4)):
        if BORDERS:
            if group % (TILE // 4) == 0:
                turn = group // (TILE // 4)
                tile = used_tiles - 1 - turn if ADJOINT else turn
                border = item * n_tiles + (span - first_span) * (span_length // TILE) + tile
                tl.store(borders + border * size + place, h, mask=cell)
        now = ahead
        row_ahead, source_ahead, k_ahead = row + 4 * hop, source + 4 * hop, k + 4 * k_hop
        ahead = _four(
            steps,
            values,
            lines,
            row_ahead,
            source_ahead,
            hop,
            k_ahead,
            k_hop,
            n_positions,
            channel,
            n_channels,
            state,
            n_state,
            n_packed,
            BOTH,
        )
        for j in tl.static_range(4):
            taken, value, first, second = now[j]
            value = value.to(tl.float32)
            decay = _exp2(taken[None, :] * rates)
            if ADJOINT:
                h = decay * (h + value[None, :] * first.to(tl.float32)[:, None])
            else:
                h = decay * h + (taken * value)[None, :] * first.to(tl.float32)[:, None]
            if BOTH:
                result = tl.sum(h * second.to(tl.float32)[:, None], axis=0) + skip * value
                here = channel < tl.where(k + j < n_positions, n_channels, 0)
                tl.store(y + (row + j * hop) * n_channels + channel, result, mask=here)
            total += taken
        row, source, k = row_ahead, source_ahead, k_ahead
    if TASK == "ends":
        tl.store(ends + (item * n_spans + span) * size + place, h, mask=cell)
        tl.store(sums + (item * n_spans + span) * n_channels + channel, total, mask=is_channel)


@jit
def join_spans(
    ends,
    sums,
    A,
    starts,
    n_genes,
    n_channels,
    n_state,
    n_spans,
    ADJOINT: tl.constexpr,
    BLOCK_E: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """Fill starts, the state at the start of each span, from each span's own end; grid (G * B, channel blocks)."""
    item = tl.program_id(0).to(tl.int64)
    direction = tl.program_id(0) // n_genes
    channel = tl.program_id(1) * BLOCK_E + tl.arange(0, BLOCK_E)
    state = tl.arange(0, BLOCK_N)
    is_channel = channel < n_channels
    cell = (state < n_state)[:, None] & is_channel[None, :]
    place = state[:, None] * n_channels + channel[None, :]
    rates = tl.load(A + direction * n_state * n_channels + place, mask=cell, other=0.0) * LOG2_E
    h = tl.zeros((BLOCK_N, BLOCK_E), dtype=tl.float32)
    for turn in range(n_spans):
        span = item * n_spans + (n_spans - 1 - turn if ADJOINT else turn)
        at = span * n_state * n_channels + place
        tl.store(starts + at, h, mask=cell)
        total = tl.load(sums + span * n_channels + channel, mask=is_channel, other=0.0)
        h = _exp2(total[None, :] * rates) * h + tl.load(ends + at, mask=cell, other=0.0)
