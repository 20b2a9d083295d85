"""Device code of the scan's gradients for NVIDIA GPUs, in Triton: one tile of positions at a time.

Everything of a tile lies in registers, a channel a thread with all positions of the tile, so that recurrences over
positions stay in a thread. Sums over channels are made by the tensor cores: a product with a matrix that has ones in
one row (`_add_rows`). Sums over positions are written as parts and added by the caller: no atomics, the same bits every
time.

The legend is that of `triton_kernels`; W is L rounded up to whole tiles. Besides:
    BC, dBC     (G, B, 2 N, W)   B, then C, by walk order, float32
"""

# Triton resolves the annotations of a kernel as its own: arguments have none but tl.constexpr.
# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False, disallow-untyped-calls=False

from __future__ import annotations

import triton.language as tl

from prism_ray.model.scan.triton_kernels import LOG2_E, _exp2, jit


@jit
def _rows(start, stride, channel, n_channels, k, HOP: tl.constexpr, n_positions, COUNT: tl.constexpr):
    """Values of COUNT positions from walk position k on, HOP apart, as (BLOCK_E, COUNT), zeros beyond the window.

    Put together from one load a position: a load of the whole would spread a channel's positions over threads.
    """
    if COUNT == 2:
        here = channel < tl.where(k < n_positions, n_channels, 0)
        even = tl.load(start + channel, mask=here, other=0.0).to(tl.float32)
        here = channel < tl.where(k + HOP < n_positions, n_channels, 0)
        odd = tl.load(start + stride + channel, mask=here, other=0.0).to(tl.float32)
        return tl.join(even, odd)
    else:
        even = _rows(start, 2 * stride, channel, n_channels, k, 2 * HOP, n_positions, COUNT // 2)
        odd = _rows(start + stride, 2 * stride, channel, n_channels, k + HOP, 2 * HOP, n_positions, COUNT // 2)
        return tl.reshape(tl.join(even, odd), (channel.shape[0], COUNT))


@jit
def _chain(state_1, before_1, decay_1, state_2, before_2, decay_2):
    """Two stretches of the recurrence as one: state, state before the last position's input, product of decays."""
    carried = decay_2 * state_1
    return carried + state_2, carried + before_2, decay_1 * decay_2


@jit
def _chain_flow(flow_1, into_1, decay_1, open_1, flow_2, into_2, decay_2, open_2):
    """The same from the other end: what flows out, what flows into the last position, products with it and without."""
    return decay_2 * flow_1 + flow_2, open_2 * flow_1 + into_2, decay_1 * decay_2, decay_1 * open_2


@jit
def _slope(step):
    """Derivative of softplus from its value, 1 - exp(-step), without cancellation where the step is small."""
    series = 1.0 - step / 7.0
    series = 1.0 - step / 6.0 * series
    series = 1.0 - step / 5.0 * series
    series = 1.0 - step / 4.0 * series
    series = 1.0 - step / 3.0 * series
    series = 1.0 - step / 2.0 * series
    return tl.where(step < 0.3, step * series, 1.0 - _exp2(step * -LOG2_E))


@jit
def _add_rows(chosen, values, total, HALF: tl.constexpr):
    """Total, (N, TILE), plus the sum over channels of values, (E, TILE), in the row that has ones in chosen, (N, E).

    The tensor cores take three digits of a float32: enough for a sum that is rounded to half precision afterwards
    (HALF), three times for all digits.
    """
    if HALF:
        return tl.dot(chosen, values, total, input_precision="tf32")
    else:
        return tl.dot(chosen, values, total, input_precision="tf32x3")


@jit
def tile_gradients(
    u,
    step,
    BC,
    A,
    D,
    dy,
    states,
    adjoints,
    du,
    draw,
    dBC,
    dA_parts,
    dD_parts,
    dbias_parts,
    n_genes,
    n_positions,
    n_channels,
    n_state,
    first_tile,
    n_tiles,
    n_walked,
    FIRST: tl.constexpr,
    HALF: tl.constexpr,
    TILE: tl.constexpr,
    BLOCK_E: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """Gradients of one tile, grid (tiles, G * B); the first is tile `first_tile` of the window.

    Written: du, draw (of the step size before softplus) and dBC; by tile, (G, B, T, N, E) and (G, B, T, E), the
    gradients of A, D and bias.
    """
    tile = tl.program_id(0)
    item = tl.program_id(1).to(tl.int64)
    direction = tl.program_id(1) // n_genes
    gene = (tl.program_id(1) % n_genes).to(tl.int64)
    index = tl.arange(0, TILE)
    begin = (first_tile + tile) * TILE
    stride = 1 - 2 * (FIRST + direction)
    start = tl.where(stride < 0, n_positions - 1 - begin, begin)
    of_tile = item * n_tiles + tile
    hop = stride * n_channels
    row_of_state = tl.arange(0, BLOCK_N)
    # Zero that adds nothing whatever it is added to, minus zero included: the compiler can leave it out.
    nothing = tl.full((BLOCK_E, TILE), -0.0, tl.float32)
    ones = tl.full((BLOCK_E, TILE), 1.0, tl.float32)
    dB = tl.zeros((BLOCK_N, TILE), dtype=tl.float32)
    dC = tl.zeros((BLOCK_N, TILE), dtype=tl.float32)
    lines = item * 2 * n_state * n_walked + begin + index
    for block in range(tl.cdiv(n_channels, BLOCK_E)):
        channel = block * BLOCK_E + tl.arange(0, BLOCK_E)
        is_channel = channel < n_channels
        base = (item * n_positions + start) * n_channels
        taken = _rows(step + base, hop, channel, n_channels, begin, 1, n_positions, TILE)
        out = _rows(
            dy + (gene * n_positions + start) * n_channels, hop, channel, n_channels, begin, 1, n_positions, TILE
        )
        gain = taken * _rows(u + base, hop, channel, n_channels, begin, 1, n_positions, TILE)
        dstep = tl.zeros((BLOCK_E, TILE), dtype=tl.float32)
        dgain = tl.zeros((BLOCK_E, TILE), dtype=tl.float32)
        for n in range(n_state):
            rate = tl.load(A + (direction * n_state + n) * n_channels + channel, mask=is_channel, other=0.0)
            into = tl.load(BC + lines + n * n_walked)[None, :]
            out_of = tl.load(BC + lines + (n_state + n) * n_walked)[None, :]
            border = (of_tile * n_state + n) * n_channels + channel
            earlier = tl.load(states + border, mask=is_channel, other=0.0)[:, None]
            later = tl.load(adjoints + border, mask=is_channel, other=0.0)[:, None]
            decay = _exp2(taken * (rate * LOG2_E)[:, None])
            # What comes from the tile before enters with the first position, what comes from behind with the last.
            from_before = tl.where((index == 0)[None, :], decay * earlier, nothing)
            h, before, _ = tl.associative_scan((from_before + gain * into, from_before, decay), 1, _chain)
            from_out = out * out_of
            from_behind = tl.where((index == 0)[None, :], later, nothing)
            backwards = tl.flip(decay, 1)
            flow = backwards * (tl.flip(from_out, 1) + from_behind)
            _, incoming, _, _ = tl.associative_scan((flow, from_behind, backwards, ones), 1, _chain_flow)
            g = tl.flip(incoming, 1) + from_out
            chosen = tl.where(row_of_state[:, None] + tl.zeros((BLOCK_N, BLOCK_E), tl.int32) == n, 1.0, 0.0)
            dB = _add_rows(chosen, g * gain, dB, HALF)
            dC = _add_rows(chosen, out * h, dC, HALF)
            dgain += g * into
            of_exponent = g * before
            dstep += of_exponent * rate[:, None]
            tl.store(dA_parts + border, tl.sum(of_exponent * taken, axis=1), mask=is_channel)
        # Read again: its registers are worth more to the loop over states.
        value = _rows(u + base, hop, channel, n_channels, begin, 1, n_positions, TILE)
        is_position = begin + index < n_positions
        skip = tl.load(D + direction * n_channels + channel, mask=is_channel, other=0.0)
        cells = is_channel[:, None] & is_position[None, :]
        at = base + stride * index[None, :] * n_channels + channel[:, None]
        of_raw = (dgain * value + dstep) * _slope(taken)
        tl.store(draw + at, of_raw, mask=cells)
        tl.store(du + at, dgain * taken + skip[:, None] * out, mask=cells)
        own = of_tile * n_channels + channel
        tl.store(dD_parts + own, tl.sum(out * value, axis=1), mask=is_channel)
        tl.store(dbias_parts + own, tl.sum(of_raw, axis=1), mask=is_channel)
    line = dBC + lines[None, :] + row_of_state[:, None] * n_walked
    filled = (row_of_state < n_state)[:, None] & (index >= 0)[None, :]
    tl.store(line, dB, mask=filled)
    tl.store(line + n_state * n_walked, dC, mask=filled)
