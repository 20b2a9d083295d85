"""Selective scan on the CPU, forward and backward, over sixteen channels at a time.

Positions are taken in chunks. At a chunk's start the forward pass keeps the state, and the backward pass, which
takes the chunks in the other order, recomputes the states of one chunk from there: memory for states is a
chunk's share of what the whole window would need.

Within a chunk and sixteen channels, the loop over states is outside and the loop over positions inside, so that
the state is a register. What is summed over channels (gradients of B and C) is summed lane by lane first and
across lanes once a chunk.

A work item is one gene (copy) and one group of channels, item = gene * G + group; items are independent. Groups
follow from shapes, never from the number of threads, and so does the order of every sum.

Legend: B genes (times copies), L positions, E channels, N state size, G channel groups, T positions a chunk,
K blocks of 16 channels (the last may be partial), W = 16 K. Arrays are float32 and flat:
    u, delta, y, du, ddelta   (B, L, E)    delta is before bias and softplus
    B, C                      (B, L, N)
    A                         (N, W)       zeros in the padding, as in D and bias
    D, bias                   (W,)
    kept                      (B, ceil(L / T), K, N, 16)    state at the start of each chunk
    dA; dD, dbias             (B, N, W); (B, W)             a gene's part
    dB, dC                    (G, B, L, N)                  a group's part
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
    lane_sum,
    load,
    load_some,
    multiply_add,
    sigmoid,
    softplus,
    store,
    store_some,
)

CHUNK = 32
"""Positions between two kept states, T."""

Shape = tuple[int, int, int, int, int]
"""B, L, E, N, G."""

_ROOM = CHUNK * WIDTH
_ZERO = np.float32(0.0)


@compiled
def scan_forward(items: tuple[int, int], shape: Shape, reverse: bool, inputs: Any, y: Any, kept: Any) -> None:
    """Fill y, and kept where it is not empty, for items[0] to items[1] - 1; inputs are u, delta, A, B, C, D, bias."""
    _, n_positions, n_channels, n_state, n_groups = shape
    u, delta, A, B, C, D, bias = inputs
    n_blocks = (n_channels + WIDTH - 1) // WIDTH
    padded = n_blocks * WIDTH
    n_chunks = (n_positions + CHUNK - 1) // CHUNK
    stride = -1 if reverse else 1
    step, gain, total = aligned_zeros(_ROOM), aligned_zeros(_ROOM), aligned_zeros(_ROOM)
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
                    at = (start + stride * i) * n_channels + column
                    value = load_some(u, at, valid)
                    width = softplus(load_some(delta, at, valid) + offset)
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
                        row = (start + stride * i) * n_state + n
                        decay = exp2(load(step, i * WIDTH) * rate)
                        h = multiply_add(decay, h, load(gain, i * WIDTH) * fill(B[row]))
                        store(total, i * WIDTH, multiply_add(h, fill(C[row]), load(total, i * WIDTH)))
                    store(state, place, h)
                for i in range(size):
                    store_some(y, (start + stride * i) * n_channels + column, valid, load(total, i * WIDTH))


@compiled
def scan_backward(items: tuple[int, int], shape: Shape, reverse: bool, inputs: Any, dy: Any, gradients: Any) -> None:
    """Gradients for items[0] to items[1] - 1.

    Inputs are u, delta, A, B, C, D, bias, kept; gradients are du, ddelta, dB, dC, which are written, and dA, dD,
    dbias, which are zeros on entry and added to.
    """
    n_genes, n_positions, n_channels, n_state, n_groups = shape
    dB, dC = gradients[2], gradients[3]
    n_blocks = (n_channels + WIDTH - 1) // WIDTH
    n_chunks = (n_positions + CHUNK - 1) // CHUNK
    carried = aligned_zeros(n_blocks * WIDTH * n_state)
    dB_lanes, dC_lanes = aligned_zeros(_ROOM * n_state), aligned_zeros(_ROOM * n_state)
    room = aligned_zeros(_N_BUFFERS * _ROOM)
    for item in range(items[0], items[1]):
        gene, group = item // n_groups, item % n_groups
        carried[:] = _ZERO
        for chunk in range(n_chunks - 1, -1, -1):
            size = min(CHUNK, n_positions - chunk * CHUNK)
            start = gene * n_positions + (n_positions - 1 - chunk * CHUNK if reverse else chunk * CHUNK)
            where = (gene, chunk, n_chunks, start, -1 if reverse else 1, size)
            dB_lanes[:] = _ZERO
            dC_lanes[:] = _ZERO
            for block in range(group * n_blocks // n_groups, (group + 1) * n_blocks // n_groups):
                _backward_block(block, where, shape, inputs, dy, gradients, room, carried, dB_lanes, dC_lanes)
            first_row = group * n_genes * n_positions + start
            for i in range(size):
                row = (first_row + where[4] * i) * n_state
                for n in range(n_state):
                    at = (n * CHUNK + i) * WIDTH
                    dB[row + n] = lane_sum(load(dB_lanes, at))
                    dC[row + n] = lane_sum(load(dC_lanes, at))


# Buffers of one chunk and sixteen channels, at these multiples of _ROOM.
_VALUE, _DY, _STEP, _GAIN, _SLOPE, _DSTEP, _DGAIN, _DECAY, _STATE = (k * _ROOM for k in range(9))
_N_BUFFERS = 10  # the states of a chunk are one more than its positions


@compiled
def _backward_block(
    block: int,
    where: tuple[int, int, int, int, int, int],
    shape: Shape,
    inputs: Any,
    dy: Any,
    gradients: Any,
    room: Any,
    carried: Any,
    dB_lanes: Any,
    dC_lanes: Any,
) -> None:
    """One chunk of one block of channels; `carried` holds the gradient that flows in from the later chunk."""
    gene, chunk, n_chunks, start, stride, size = where
    n_channels, n_state = shape[2], shape[3]
    u, delta, A, B, C, D, bias, kept = inputs
    du, ddelta, _, _, dA, dD, dbias = gradients
    padded = (n_channels + WIDTH - 1) // WIDTH * WIDTH
    column = block * WIDTH
    valid = min(WIDTH, n_channels - column)
    skip, offset = load(D, column), load(bias, column)
    for i in range(size):
        at, k = (start + stride * i) * n_channels + column, i * WIDTH
        value = load_some(u, at, valid)
        raw = load_some(delta, at, valid) + offset
        width = softplus(raw)
        store(room, _VALUE + k, value)
        store(room, _DY + k, load_some(dy, at, valid))
        store(room, _STEP + k, width)
        store(room, _GAIN + k, width * value)
        store(room, _SLOPE + k, sigmoid(raw))
        store(room, _DSTEP + k, fill(_ZERO))
        store(room, _DGAIN + k, fill(_ZERO))
    for n in range(n_state):
        place = (block * n_state + n) * WIDTH
        h = load(kept, (gene * n_chunks + chunk) * padded * n_state + place)
        store(room, _STATE, h)
        rate = load(A, n * padded + column)
        exponent = rate * fill(LOG2_E)
        for i in range(size):
            k = i * WIDTH
            decay = exp2(load(room, _STEP + k) * exponent)
            h = multiply_add(decay, h, load(room, _GAIN + k) * fill(B[(start + stride * i) * n_state + n]))
            store(room, _DECAY + k, decay)
            store(room, _STATE + WIDTH + k, h)
        carry = load(carried, place)
        rate_gradient = load(dA, (gene * n_state + n) * padded + column)
        for i in range(size - 1, -1, -1):
            row, k = (start + stride * i) * n_state + n, i * WIDTH
            lane = n * _ROOM + k
            out = load(room, _DY + k)
            g = multiply_add(out, fill(C[row]), carry)
            store(dC_lanes, lane, multiply_add(out, load(room, _STATE + WIDTH + k), load(dC_lanes, lane)))
            store(dB_lanes, lane, multiply_add(g, load(room, _GAIN + k), load(dB_lanes, lane)))
            store(room, _DGAIN + k, multiply_add(g, fill(B[row]), load(room, _DGAIN + k)))
            carry = g * load(room, _DECAY + k)
            into_exponent = carry * load(room, _STATE + k)
            store(room, _DSTEP + k, multiply_add(into_exponent, rate, load(room, _DSTEP + k)))
            rate_gradient = multiply_add(into_exponent, load(room, _STEP + k), rate_gradient)
        store(carried, place, carry)
        store(dA, (gene * n_state + n) * padded + column, rate_gradient)
    skip_gradient, offset_gradient = load(dD, gene * padded + column), load(dbias, gene * padded + column)
    for i in range(size):
        at, k = (start + stride * i) * n_channels + column, i * WIDTH
        value, out, into_gain = load(room, _VALUE + k), load(room, _DY + k), load(room, _DGAIN + k)
        into_raw = multiply_add(into_gain, value, load(room, _DSTEP + k)) * load(room, _SLOPE + k)
        store_some(ddelta, at, valid, into_raw)
        store_some(du, at, valid, multiply_add(into_gain, load(room, _STEP + k), skip * out))
        skip_gradient = multiply_add(out, value, skip_gradient)
        offset_gradient = offset_gradient + into_raw
    store(dD, gene * padded + column, skip_gradient)
    store(dbias, gene * padded + column, offset_gradient)
