"""Selective scan on the CPU, forward and backward, over sixteen channels at a time.

Positions are taken in chunks. At a chunk's start the forward pass keeps the state, and the backward pass, which
takes the chunks in the other order, recomputes the states of one chunk from there: memory for states is a
chunk's share of what the whole window would need.

Within a chunk and sixteen channels, the loop over states is outside and the loop over positions inside, so that
the state is a register. What is summed over channels (the gradient of `packed`) is summed lane by lane first and
across lanes once a chunk.

A work item is one gene (copy) and one group of channels, item = gene * G + group; items are independent. Groups
follow from shapes, never from the number of threads, and so does the order of every sum.

The step size is either given, or projected here from R values a position (R = 0: given): that costs the scan a few
per cent, and spares a matrix product of a shape that libraries are slow at and two tensors of the size of u.

Legend: B genes (times copies), L positions, E channels, N state size, R rank of the step size, P = R + 2 N,
G channel groups, T positions a chunk, K blocks of 16 channels (the last may be partial), W = 16 K. Arrays are
float32 and flat:
    u, y, du                  (B, L, E)
    delta, ddelta             (B, L, E)    step size before bias and softplus; empty where R > 0
    packed                    (B, L, P)    of a position: R values of the step size, then B, then C
    weight                    (R, W)       projection to the step size; zeros in the padding, as in A, D and bias
    A                         (N, W)
    D, bias                   (W,)
    kept                      (B, ceil(L / T), K, N, 16)    state at the start of each chunk
    dpacked                   (G, B, L, P)                  a group's part
    dweight; dA; dD, dbias    (B, R, W); (B, N, W); (B, W)  a gene's part
"""

from __future__ import annotations

from typing import Any

import numpy as np

from prism_ray.model.scan.simd import (
    LOG2_E,
    WIDTH,
    aligned_zeros,
    compiled,
    exp2,
    fill,
    lane_sums,
    load,
    load_some,
    multiply_add,
    part,
    sigmoid,
    softplus,
    store,
    store_some,
)

CHUNK = 32
"""Positions between two kept states, T."""

Shape = tuple[int, int, int, int, int, int]
"""B, L, E, N, R, G."""

ROOM = CHUNK * WIDTH
_ZERO = np.float32(0.0)


@part
def raw_step(delta: Any, packed: Any, weight: Any, at: int, row: int, column: int, valid: int, sizes: Any) -> Any:
    """Step size of sixteen channels before bias and softplus; `at` and `row` say where in delta and packed."""
    rank, padded = sizes
    if rank == 0:
        return load_some(delta, at, valid)
    raw = fill(packed[row]) * load(weight, column)
    for r in range(1, rank):
        raw = multiply_add(fill(packed[row + r]), load(weight, r * padded + column), raw)
    return raw


@compiled
def scan_forward(items: tuple[int, int], shape: Shape, reverse: bool, inputs: Any, y: Any, kept: Any) -> None:
    """Fill y, and kept where it is not empty, for items[0] to items[1] - 1.

    Inputs are u, delta, packed, weight, A, D, bias.
    """
    _, n_positions, n_channels, n_state, rank, n_groups = shape
    u, delta, packed, weight, A, D, bias = inputs
    n_packed = rank + 2 * n_state
    n_blocks = (n_channels + WIDTH - 1) // WIDTH
    padded = n_blocks * WIDTH
    n_chunks = (n_positions + CHUNK - 1) // CHUNK
    stride = -1 if reverse else 1
    step, gain, total = aligned_zeros(ROOM), aligned_zeros(ROOM), aligned_zeros(ROOM)
    state = aligned_zeros(padded * n_state)
    for item in range(items[0], items[1]):
        gene, group = item // n_groups, item % n_groups
        state[:] = _ZERO
        for chunk in range(n_chunks):
            size = min(CHUNK, n_positions - chunk * CHUNK)
            start = gene * n_positions + (n_positions - 1 - chunk * CHUNK if reverse else chunk * CHUNK)
            for block in range(group * n_blocks // n_groups, (group + 1) * n_blocks // n_groups):
                column = block * WIDTH
                valid = min(WIDTH, n_channels - column)
                skip, offset = load(D, column), load(bias, column)
                for i in range(size):
                    t = start + stride * i
                    at = t * n_channels + column
                    raw = raw_step(delta, packed, weight, at, t * n_packed, column, valid, (rank, padded))
                    width, value = softplus(raw + offset), load_some(u, at, valid)
                    store(step, i * WIDTH, width)
                    store(gain, i * WIDTH, width * value)
                    store(total, i * WIDTH, skip * value)
                for n in range(n_state):
                    rate = load(A, n * padded + column) * fill(LOG2_E)
                    place = (block * n_state + n) * WIDTH
                    h = load(state, place)
                    if kept.size:
                        store(kept, (gene * n_chunks + chunk) * padded * n_state + place, h)
                    for i in range(size):
                        into = (start + stride * i) * n_packed + rank + n
                        decay = exp2(load(step, i * WIDTH) * rate)
                        h = multiply_add(decay, h, load(gain, i * WIDTH) * fill(packed[into]))
                        store(total, i * WIDTH, multiply_add(h, fill(packed[into + n_state]), load(total, i * WIDTH)))
                    store(state, place, h)
                for i in range(size):
                    store_some(y, (start + stride * i) * n_channels + column, valid, load(total, i * WIDTH))


@compiled
def scan_backward(items: tuple[int, int], shape: Shape, reverse: bool, inputs: Any, dy: Any, gradients: Any) -> None:
    """Gradients for items[0] to items[1] - 1.

    Inputs are u, delta, packed, weight, A, D, bias, kept; gradients are du, ddelta, dpacked, which are written, and
    dweight, dA, dD, dbias, which are zeros on entry and added to.
    """
    n_genes, n_positions, n_channels, n_state, rank, n_groups = shape
    dpacked = gradients[2]
    n_packed = rank + 2 * n_state
    n_blocks = (n_channels + WIDTH - 1) // WIDTH
    n_chunks = (n_positions + CHUNK - 1) // CHUNK
    carried = aligned_zeros(n_blocks * WIDTH * n_state)
    by_lane = aligned_zeros((n_packed + WIDTH - 1) // WIDTH * WIDTH * ROOM)
    room = aligned_zeros(N_BUFFERS * ROOM)
    for item in range(items[0], items[1]):
        gene, group = item // n_groups, item % n_groups
        carried[:] = _ZERO
        for chunk in range(n_chunks - 1, -1, -1):
            size = min(CHUNK, n_positions - chunk * CHUNK)
            start = gene * n_positions + (n_positions - 1 - chunk * CHUNK if reverse else chunk * CHUNK)
            where = (gene, chunk, n_chunks, start, -1 if reverse else 1, size)
            by_lane[:] = _ZERO
            for block in range(group * n_blocks // n_groups, (group + 1) * n_blocks // n_groups):
                _open_chunk(block, where, shape, inputs, dy, room)
                for n in range(0, n_state, 2):
                    through_states(n, block, where, shape, inputs, room, carried, by_lane, gradients[4], None)
                close_chunk(block, where, start, shape, inputs, room, by_lane, gradients)
            first_row = group * n_genes * n_positions + start
            for i in range(size):
                row = (first_row + where[4] * i) * n_packed
                for p in range(0, n_packed, WIDTH):
                    sums = lane_sums(by_lane, p * ROOM + i * WIDTH, ROOM)
                    store_some(dpacked, row + p, min(WIDTH, n_packed - p), sums)


# Buffers of one chunk and sixteen channels, at these multiples of ROOM.
VALUE, DY, STEP, GAIN, SLOPE, DSTEP, DGAIN, DECAY, OTHER_DECAY, STATE = (k * ROOM for k in range(10))
OTHER_STATE = STATE + ROOM + WIDTH  # the states of a chunk are one more than its positions
N_BUFFERS = 13


@part
def _open_chunk(block: int, where: Any, shape: Shape, inputs: Any, dy: Any, room: Any) -> None:
    """Fill the buffers with what the states need of a chunk."""
    _, _, _, start, stride, size = where
    n_channels, n_state, rank = shape[2], shape[3], shape[4]
    u, delta, packed, weight, _, _, bias, _ = inputs
    padded = (n_channels + WIDTH - 1) // WIDTH * WIDTH
    column = block * WIDTH
    valid = min(WIDTH, n_channels - column)
    offset = load(bias, column)
    for i in range(size):
        t, k = start + stride * i, i * WIDTH
        at = t * n_channels + column
        raw = raw_step(delta, packed, weight, at, t * (rank + 2 * n_state), column, valid, (rank, padded)) + offset
        width, value = softplus(raw), load_some(u, at, valid)
        store(room, VALUE + k, value)
        store(room, DY + k, load_some(dy, at, valid))
        store(room, STEP + k, width)
        store(room, GAIN + k, width * value)
        store(room, SLOPE + k, sigmoid(raw))
        store(room, DSTEP + k, fill(_ZERO))
        store(room, DGAIN + k, fill(_ZERO))


@part
def through_states(
    first: int,
    block: int,
    where: Any,
    shape: Shape,
    inputs: Any,
    room: Any,
    carried: Any,
    by_lane: Any,
    dA: Any,
    output: Any,
) -> None:
    """Recompute states `first` and the one after it over a chunk, then take their gradients.

    Two at a time, because what they read and add to is then loaded and stored once for both; the last one of an odd
    number is alone. `carried` flows in from the chunk after this one. `output` is None, or gets the states' part of the
    scan's output added, (T, 16).
    """
    n_state = shape[3]
    two = first + 1 < n_state
    _recompute(first, two, block, where, shape, inputs, room, output)
    gene, _, _, start, stride, size = where
    n_channels, rank = shape[2], shape[4]
    packed, A = inputs[2], inputs[4]
    n_packed = rank + 2 * n_state
    padded = (n_channels + WIDTH - 1) // WIDTH * WIDTH
    place, of_rate = (block * n_state + first) * WIDTH, (gene * n_state + first) * padded + block * WIDTH
    rate = load(A, first * padded + block * WIDTH)
    carry, rate_gradient = load(carried, place), load(dA, of_rate)
    other_rate = other_carry = other_gradient = fill(_ZERO)
    if two:
        other_rate = load(A, (first + 1) * padded + block * WIDTH)
        other_carry, other_gradient = load(carried, place + WIDTH), load(dA, of_rate + padded)
    for i in range(size - 1, -1, -1):
        at, k = (start + stride * i) * n_packed + rank + first, i * WIDTH
        lane_B, lane_C = (rank + first) * ROOM + k, (rank + n_state + first) * ROOM + k
        out, gain, step = load(room, DY + k), load(room, GAIN + k), load(room, STEP + k)
        g = multiply_add(out, fill(packed[at + n_state]), carry)
        store(by_lane, lane_C, multiply_add(out, load(room, STATE + WIDTH + k), load(by_lane, lane_C)))
        store(by_lane, lane_B, multiply_add(g, gain, load(by_lane, lane_B)))
        into_gain = multiply_add(g, fill(packed[at]), load(room, DGAIN + k))
        carry = g * load(room, DECAY + k)
        into_exponent = carry * load(room, STATE + k)
        into_step = multiply_add(into_exponent, rate, load(room, DSTEP + k))
        rate_gradient = multiply_add(into_exponent, step, rate_gradient)
        if two:
            lane_B, lane_C = lane_B + ROOM, lane_C + ROOM
            g = multiply_add(out, fill(packed[at + n_state + 1]), other_carry)
            store(by_lane, lane_C, multiply_add(out, load(room, OTHER_STATE + WIDTH + k), load(by_lane, lane_C)))
            store(by_lane, lane_B, multiply_add(g, gain, load(by_lane, lane_B)))
            into_gain = multiply_add(g, fill(packed[at + 1]), into_gain)
            other_carry = g * load(room, OTHER_DECAY + k)
            into_exponent = other_carry * load(room, OTHER_STATE + k)
            into_step = multiply_add(into_exponent, other_rate, into_step)
            other_gradient = multiply_add(into_exponent, step, other_gradient)
        store(room, DGAIN + k, into_gain)
        store(room, DSTEP + k, into_step)
    store(carried, place, carry)
    store(dA, of_rate, rate_gradient)
    if two:
        store(carried, place + WIDTH, other_carry)
        store(dA, of_rate + padded, other_gradient)


@part
def _recompute(
    first: int, two: bool, block: int, where: Any, shape: Shape, inputs: Any, room: Any, output: Any
) -> None:
    """States `first` and, if two, the next over a chunk into the buffers, with their decays."""
    gene, chunk, n_chunks, start, stride, size = where
    n_channels, n_state, rank = shape[2], shape[3], shape[4]
    packed, A, kept = inputs[2], inputs[4], inputs[7]
    padded = (n_channels + WIDTH - 1) // WIDTH * WIDTH
    place = (gene * n_chunks + chunk) * padded * n_state + (block * n_state + first) * WIDTH
    h = load(kept, place)
    exponent = load(A, first * padded + block * WIDTH) * fill(LOG2_E)
    store(room, STATE, h)
    other = other_exponent = fill(_ZERO)
    if two:
        other = load(kept, place + WIDTH)
        other_exponent = load(A, (first + 1) * padded + block * WIDTH) * fill(LOG2_E)
        store(room, OTHER_STATE, other)
    for i in range(size):
        at, k = (start + stride * i) * (rank + 2 * n_state) + rank + first, i * WIDTH
        step, gain = load(room, STEP + k), load(room, GAIN + k)
        decay = exp2(step * exponent)
        h = multiply_add(decay, h, gain * fill(packed[at]))
        store(room, DECAY + k, decay)
        store(room, STATE + WIDTH + k, h)
        if two:
            decay = exp2(step * other_exponent)
            other = multiply_add(decay, other, gain * fill(packed[at + 1]))
            store(room, OTHER_DECAY + k, decay)
            store(room, OTHER_STATE + WIDTH + k, other)
        if output is not None:
            total = multiply_add(h, fill(packed[at + n_state]), load(output, k))
            if two:
                total = multiply_add(other, fill(packed[at + n_state + 1]), total)
            store(output, k, total)


@part
def close_chunk(
    block: int, where: Any, own_start: int, shape: Shape, inputs: Any, room: Any, by_lane: Any, gradients: Any
) -> None:
    """Gradients of what went into a chunk, from those of its gains and step sizes.

    `own_start` is the chunk's first row in du and ddelta, the latter of which is written at rank 0 alone.
    """
    gene, _, _, start, stride, size = where
    n_channels, n_state, rank = shape[2], shape[3], shape[4]
    _, _, packed, weight, _, D, _, _ = inputs
    du, ddelta, _, dweight, _, dD, dbias = gradients
    padded = (n_channels + WIDTH - 1) // WIDTH * WIDTH
    column = block * WIDTH
    valid = min(WIDTH, n_channels - column)
    skip, own = load(D, column), gene * padded + column
    skip_gradient, offset_gradient = load(dD, own), load(dbias, own)
    for i in range(size):
        at, k = (own_start + stride * i) * n_channels + column, i * WIDTH
        value, out, into_gain = load(room, VALUE + k), load(room, DY + k), load(room, DGAIN + k)
        into_raw = multiply_add(into_gain, value, load(room, DSTEP + k)) * load(room, SLOPE + k)
        store(room, DSTEP + k, into_raw)
        if rank == 0:
            store_some(ddelta, at, valid, into_raw)
        store_some(du, at, valid, multiply_add(into_gain, load(room, STEP + k), skip * out))
        skip_gradient = multiply_add(out, value, skip_gradient)
        offset_gradient = offset_gradient + into_raw
    store(dD, own, skip_gradient)
    store(dbias, own, offset_gradient)
    for r in range(rank):
        projection = load(weight, r * padded + column)
        of_weight = (gene * rank + r) * padded + column
        total = load(dweight, of_weight)
        for i in range(size):
            k = i * WIDTH
            into_raw = load(room, DSTEP + k)
            value = fill(packed[(start + stride * i) * (rank + 2 * n_state) + r])
            total = multiply_add(into_raw, value, total)
            store(by_lane, r * ROOM + k, multiply_add(into_raw, projection, load(by_lane, r * ROOM + k)))
        store(dweight, of_weight, total)
