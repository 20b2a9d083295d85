"""Device code of the selective scan for NVIDIA GPUs, in Triton: both directions in one launch, any length.

Positions are taken in walk order: the k-th position of a direction is k, or L - 1 - k from right to left. Nothing is
ever flipped in memory. The window is cut into spans of SPAN positions, which run at the same time: `sweep` takes
each from a state of zero, `join_spans` carries the states over the spans, and a second sweep starts from the right
state. The gradient with respect to the state obeys the same recurrence in the other order, so the same two kernels
make it. With both known at the borders of tiles of TILE positions, `tile_gradients` works on one tile at a time.

A sweep keeps a state of (N, BLOCK_E) with the channels across threads, so that sums over states stay in a thread;
this holds where BLOCK_E is 32 times the number of warps. Sums over channels and positions are written as parts and
added by the caller: no atomics, and the same bits every time. All arithmetic is float32.

Legend: G directions, B genes (times copies), L positions, E channels, N state size, R rank of the step size,
P = R + 2 N, S spans, T tiles. Arrays are contiguous:
    x, dy, y of one gate         (B, L, E)
    u, y, du, draw               (G, B, L, E)
    delta                        (G, B, L, E)   step size before bias and softplus, read where GIVEN
    packed                       (G, B, L, P)   of a position: R values of the step size, then B, then C
    weight; A; D, bias           (G, R, E); (G, N, E); (G, E)
    ends, starts; sums           (G, B, S, N, E); (G, B, S, E)
    borders (state, adjoint)     (G, B, T, N, E)   of the tiles of some spans
"""

# Triton resolves the annotations of a kernel as its own: arguments have none but tl.constexpr.
# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False, disallow-untyped-calls=False

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import triton
import triton.language as tl

# Without types of its own, triton.jit would make every kernel untyped.
jit: Callable[[Callable[..., Any]], Any] = triton.jit

LOG2_E = tl.constexpr(1.4426950408889634)


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
def _chain(decay_1, state_1, decay_2, state_2):
    """Two stretches of the recurrence as one: the product of decays, and the state from zero."""
    return decay_1 * decay_2, decay_2 * state_1 + state_2


@jit
def _chain_before(decay_1, state_1, before_1, decay_2, state_2, before_2):
    """As `_chain`, with the state as it is before the last position's own input is added."""
    carried = decay_2 * state_1
    return decay_1 * decay_2, carried + state_2, carried + before_2


@jit
def sweep(
    u,
    delta,
    packed,
    weight,
    A,
    D,
    bias,
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
    n_spans,
    first_span,
    n_tiles,
    FIRST: tl.constexpr,
    ADJOINT: tl.constexpr,
    GIVEN: tl.constexpr,
    TASK: tl.constexpr,
    SPAN: tl.constexpr,
    TILE: tl.constexpr,
    BLOCK_E: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_R: tl.constexpr,
):
    """Walk one span, grid (spans, G * B, channel blocks), to one of three ends.

    TASK "ends": from zero, fill ends and sums (of the step size). "output": from starts, fill y. "borders": from
    starts, fill the state at each tile's start; ADJOINT, what flows into each tile from the position after it.
    """
    span = tl.program_id(0) + first_span
    item = tl.program_id(1).to(tl.int64)
    direction = tl.program_id(1) // n_genes
    gene = tl.program_id(1) % n_genes
    channel = tl.program_id(2) * BLOCK_E + tl.arange(0, BLOCK_E)
    is_channel = channel < n_channels
    state = tl.arange(0, BLOCK_N)
    is_state = state < n_state
    low = tl.arange(0, BLOCK_R)
    cell = is_state[:, None] & is_channel[None, :]
    own = direction * n_channels + channel
    rates = tl.load(A + (direction * n_state + state)[:, None] * n_channels + channel[None, :], mask=cell, other=0.0)
    rates = rates * LOG2_E
    offset = tl.load(bias + own, mask=is_channel, other=0.0)
    skip = tl.load(D + own, mask=is_channel, other=0.0)
    projection = tl.load(
        weight + (direction * rank + low)[:, None] * n_channels + channel[None, :],
        mask=(low < rank)[:, None] & is_channel[None, :],
        other=0.0,
    )
    place = state[:, None] * n_channels + channel[None, :]
    size = n_state * n_channels
    h = tl.zeros((BLOCK_N, BLOCK_E), dtype=tl.float32)
    if TASK != "ends":
        h = tl.load(starts + (item * n_spans + span) * size + place, mask=cell, other=0.0)
    total = tl.zeros((BLOCK_E,), dtype=tl.float32)
    n_packed = rank + 2 * n_state
    in_span = tl.minimum(SPAN, n_positions - span * SPAN)
    used_tiles = (in_span + TILE - 1) // TILE
    for turn in range(used_tiles):
        tile = used_tiles - 1 - turn if ADJOINT else turn
        if TASK == "borders":
            border = item * n_tiles + (span - first_span) * (SPAN // TILE) + tile
            tl.store(borders + border * size + place, h, mask=cell)
        for j in range(TILE):
            k = span * SPAN + tile * TILE + (TILE - 1 - j if ADJOINT else j)
            # Beyond the window no channel, state or rank is left: everything is masked.
            inside = tl.where(k < n_positions, 1, 0)
            position = tl.where(FIRST + direction == 1, n_positions - 1 - k, k)
            row = item * n_positions + position
            here = channel < n_channels * inside
            states_here = state < n_state * inside
            at = row * n_channels + channel
            line = packed + row * n_packed
            if GIVEN:
                raw = tl.load(delta + at, mask=here, other=0.0).to(tl.float32)
            else:
                values = tl.load(line + low, mask=low < rank * inside, other=0.0).to(tl.float32)
                raw = tl.sum(values[:, None] * projection, axis=0)
            step = tl.where(here, _softplus(raw + offset), 0.0)
            decay = tl.exp2(step[None, :] * rates)
            if ADJOINT:
                out_of = tl.load(line + rank + n_state + state, mask=states_here, other=0.0).to(tl.float32)
                out = tl.load(
                    dy + (gene.to(tl.int64) * n_positions + position) * n_channels + channel, mask=here, other=0.0
                ).to(tl.float32)
                h = decay * (h + out[None, :] * out_of[:, None])
            else:
                into = tl.load(line + rank + state, mask=states_here, other=0.0).to(tl.float32)
                value = tl.load(u + at, mask=here, other=0.0).to(tl.float32)
                h = decay * h + (step * value)[None, :] * into[:, None]
                if TASK == "output":
                    out_of = tl.load(line + rank + n_state + state, mask=states_here, other=0.0)
                    result = tl.sum(h * out_of.to(tl.float32)[:, None], axis=0) + skip * value
                    tl.store(y + at, result, mask=here)
            total += step
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
        h = tl.exp2(total[None, :] * rates) * h + tl.load(ends + at, mask=cell, other=0.0)


@jit
def _steps(
    delta,
    packed,
    weight,
    rows,
    channel,
    offset,
    is_position,
    direction,
    n_channels,
    rank,
    n_packed,
    GIVEN: tl.constexpr,
):
    """Step size before softplus of a tile, (TILE, BLOCK_E)."""
    is_channel = channel < n_channels
    cells = is_position[:, None] & is_channel[None, :]
    raw = tl.zeros(cells.shape, dtype=tl.float32) + offset[None, :]
    if GIVEN:
        raw += tl.load(delta + rows[:, None] * n_channels + channel[None, :], mask=cells, other=0.0).to(tl.float32)
    else:
        for r in range(rank):
            values = tl.load(packed + rows * n_packed + r, mask=is_position, other=0.0).to(tl.float32)
            weights = tl.load(weight + (direction * rank + r) * n_channels + channel, mask=is_channel, other=0.0)
            raw += values[:, None] * weights[None, :]
    return raw


@jit
def tile_gradients(
    u,
    delta,
    packed,
    weight,
    A,
    D,
    bias,
    dy,
    states,
    adjoints,
    du,
    draw,
    dBC_parts,
    dA_parts,
    dD_parts,
    dbias_parts,
    n_genes,
    n_positions,
    n_channels,
    n_state,
    rank,
    first,
    n_tiles,
    FIRST: tl.constexpr,
    GIVEN: tl.constexpr,
    TILE: tl.constexpr,
    BLOCK_E: tl.constexpr,
):
    """Gradients of one tile, grid (tiles, G * B, channel blocks); the first tile starts at walk position `first`.

    Written: du and draw (of the step size before softplus); in parts, by channel block, (blocks, G, B, T TILE, 2 N)
    in walk order, of B and C; by tile, (G, B, T, N, E) and (G, B, T, E), of A, D and bias.
    """
    tile = tl.program_id(0)
    item = tl.program_id(1).to(tl.int64)
    direction = tl.program_id(1) // n_genes
    gene = tl.program_id(1) % n_genes
    channel = tl.program_id(2) * BLOCK_E + tl.arange(0, BLOCK_E)
    is_channel = channel < n_channels
    index = tl.arange(0, TILE)
    k = first + tile * TILE + index
    is_position = k < n_positions
    stride = 1 - 2 * (FIRST + direction)
    position = tl.where(stride < 0, n_positions - 1 - k, k)
    rows = item * n_positions + position
    cells = is_position[:, None] & is_channel[None, :]
    at = rows[:, None] * n_channels + channel[None, :]
    n_packed = rank + 2 * n_state
    own = direction * n_channels + channel
    offset = tl.load(bias + own, mask=is_channel, other=0.0)
    skip = tl.load(D + own, mask=is_channel, other=0.0)
    value = tl.load(u + at, mask=cells, other=0.0).to(tl.float32)
    from_gene = gene.to(tl.int64) * n_positions + position
    out = tl.load(dy + from_gene[:, None] * n_channels + channel[None, :], mask=cells, other=0.0).to(tl.float32)
    raw = _steps(
        delta, packed, weight, rows, channel, offset, is_position, direction, n_channels, rank, n_packed, GIVEN
    )
    step = tl.where(cells, _softplus(raw), 0.0)
    gain = step * value
    follows = (k + 1 < n_positions) & (index < TILE - 1)
    raw_next = _steps(
        delta, packed, weight, rows + stride, channel, offset, follows, direction, n_channels, rank, n_packed, GIVEN
    )
    # A decay of exp(0) = 1 after the last position: what flows in from there has passed its decay.
    step_next = tl.where(follows[:, None] & is_channel[None, :], _softplus(raw_next), 0.0)
    dstep = tl.zeros((TILE, BLOCK_E), dtype=tl.float32)
    dgain = tl.zeros((TILE, BLOCK_E), dtype=tl.float32)
    part = (tl.program_id(2).to(tl.int64) * tl.num_programs(1) + item) * n_tiles * TILE + tile * TILE + index
    for n in range(n_state):
        rate = tl.load(A + (direction * n_state + n) * n_channels + channel, mask=is_channel, other=0.0)
        into = tl.load(packed + rows * n_packed + rank + n, mask=is_position, other=0.0).to(tl.float32)
        out_of = tl.load(packed + rows * n_packed + rank + n_state + n, mask=is_position, other=0.0).to(tl.float32)
        border = ((item * n_tiles + tile) * n_state + n) * n_channels + channel
        earlier = tl.load(states + border, mask=is_channel, other=0.0)
        later = tl.load(adjoints + border, mask=is_channel, other=0.0)
        exponent = rate * LOG2_E
        decay = tl.exp2(step * exponent[None, :])
        added = gain * into[:, None]
        through, _, before = tl.associative_scan((decay, added, tl.zeros_like(added)), 0, _chain_before)
        before += through * earlier[None, :]  # decay times the state before, without the cancellation of h - added
        decay_next = tl.exp2(step_next * exponent[None, :])
        through, g = tl.associative_scan((decay_next, out * out_of[:, None]), 0, _chain, reverse=True)
        g += through * later[None, :]
        tl.store(dBC_parts + part * (2 * n_state) + n, tl.sum(g * gain, axis=1), mask=is_position)
        tl.store(
            dBC_parts + part * (2 * n_state) + n_state + n, tl.sum(out * (before + added), axis=1), mask=is_position
        )
        dgain += g * into[:, None]
        of_exponent = g * before
        dstep += of_exponent * rate[None, :]
        tl.store(dA_parts + border, tl.sum(of_exponent * step, axis=0), mask=is_channel)
    of_raw = tl.where(cells, (dgain * value + dstep) * _sigmoid(raw), 0.0)
    tl.store(draw + at, of_raw, mask=cells)
    tl.store(du + at, dgain * step + skip[None, :] * out, mask=cells)
    of_tile = (item * n_tiles + tile) * n_channels + channel
    tl.store(dD_parts + of_tile, tl.sum(out * value, axis=0), mask=is_channel)
    tl.store(dbias_parts + of_tile, tl.sum(of_raw, axis=0), mask=is_channel)
