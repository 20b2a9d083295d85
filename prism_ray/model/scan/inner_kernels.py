"""The inner part of a bidirectional block on the CPU, a stretch of positions at a time.

A stretch is a few whole genes, or some chunks of one long gene. What is needed of it for a moment only (the input
of the scan and its gradient) is in a buffer that stays in the cache; the matrix products between the kernels run
on that buffer. Backward, the stretch's u = silu(convolution) and the scan's output are recomputed.

Positions are counted in the order in which a direction takes them, p = t or, for the reverse direction,
p = L - 1 - t; a stretch holds positions first .. last - 1, the first at a chunk's start. Its buffers are in the
order of t. A work item is a gene of the stretch and a group of channels, item = gene * G + group, as in scan_kernels.

Legend: as in scan_kernels, and M genes and Q positions of the stretch, K taps. Arrays are float32 and flat:
    x, z, out, dout, dx, dz    (B, L, E)
    u, du                      (M, Q, E)           of the stretch
    packed                     (B, L, P)
    dpacked                    (G, M, Q, P)        a group's part
    state, carried             (M, K, N, 16)       what flows from one stretch of a gene into the next
    dv                         (M, K - 1, W)       the gradient before the SiLU at the stretch after this one
    taps; offset               (K, W); (W,)        convolution; zeros in the padding
    dtaps, doffset             (B, K, W), (B, W)   a gene's part, added to
"""

from __future__ import annotations

from typing import Any

import numpy as np

from prism_ray.model.scan.block_kernels import convolve, gather
from prism_ray.model.scan.scan_kernels import (
    CHUNK,
    DGAIN,
    DSTEP,
    DY,
    GAIN,
    N_BUFFERS,
    ROOM,
    SLOPE,
    STEP,
    VALUE,
    close_chunk,
    raw_step,
    through_states,
)
from prism_ray.model.scan.simd import (
    LOG2_E,
    WIDTH,
    aligned_zeros,
    ask_for,
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

Shape = tuple[int, int, int, int, int]
"""L, E, N, R, K."""

Stretch = tuple[int, int, int, int, int, bool]
"""First gene, M, first position, last position, G, whether the direction is reverse."""

_ZERO, _ONE = np.float32(0.0), np.float32(1.0)


@part
def _place(item: int, p: int, shape: Shape, stretch: Stretch) -> Any:
    """Gene within the stretch, its row at position p in arrays of all positions and in the stretch's buffers."""
    first_gene, _, first, last, n_groups, reverse = stretch
    gene, n_positions = item // n_groups, shape[0]
    row = (first_gene + gene) * n_positions + (n_positions - 1 - p if reverse else p)
    own_row = gene * (last - first) + (last - 1 - p if reverse else p - first)
    return gene, row, own_row


@compiled
def convolve_stretch(items: tuple[int, int], shape: Shape, stretch: Stretch, inputs: Any, u: Any) -> None:
    """Fill u for items[0] to items[1] - 1; inputs are x, taps, offset."""
    n_positions, n_channels, _, _, n_taps = shape
    first_gene, _, first, last, n_groups, reverse = stretch
    x, taps, offset = inputs
    n_blocks = (n_channels + WIDTH - 1) // WIDTH
    stride = -1 if reverse else 1
    rows = aligned_zeros((CHUNK + n_taps) * WIDTH)
    for item in range(items[0], items[1]):
        group = item % n_groups
        origin = ((first_gene + item // n_groups) * n_positions + (n_positions - 1 if reverse else 0)) * n_channels
        for begin in range(first, last, CHUNK):
            size = min(CHUNK, last - begin)
            own_row = _place(item, begin, shape, stretch)[2]
            for block in range(group * n_blocks // n_groups, (group + 1) * n_blocks // n_groups):
                column = block * WIDTH
                valid = min(WIDTH, n_channels - column)
                before = begin - (n_taps - 1)
                gather(x, origin + column, stride, n_positions, n_channels, before, size + n_taps - 1, valid, rows)
                shift = load(offset, column)
                for i in range(size):
                    value = convolve(rows, i, taps, column, n_blocks * WIDTH, n_taps, shift)
                    store_some(u, (own_row + stride * i) * n_channels + column, valid, value * sigmoid(value))


@compiled
def scan_stretch(items: tuple[int, int], shape: Shape, stretch: Stretch, inputs: Any, results: Any) -> None:
    """Scan a stretch for items[0] to items[1] - 1.

    Inputs are u, z, packed, weight, A, D, bias; results are out, state, and kept where it is not empty. The direction
    from left to right writes what it has into out; the reverse one, which comes second, adds its own and applies the
    gate.
    """
    n_positions, n_channels, n_state, rank, _ = shape
    first_gene, _, first, last, n_groups, reverse = stretch
    u, z, packed, weight, A, D, bias = inputs
    out, state, kept = results
    n_packed = rank + 2 * n_state
    n_blocks = (n_channels + WIDTH - 1) // WIDTH
    padded = n_blocks * WIDTH
    n_chunks = (n_positions + CHUNK - 1) // CHUNK
    stride = -1 if reverse else 1
    step, gain, total = aligned_zeros(ROOM), aligned_zeros(ROOM), aligned_zeros(ROOM)
    for item in range(items[0], items[1]):
        group = item % n_groups
        for begin in range(first, last, CHUNK):
            size = min(CHUNK, last - begin)
            gene, row, own_row = _place(item, begin, shape, stretch)
            of_chunk = ((first_gene + gene) * n_chunks + begin // CHUNK) * padded * n_state
            for block in range(group * n_blocks // n_groups, (group + 1) * n_blocks // n_groups):
                column = block * WIDTH
                valid = min(WIDTH, n_channels - column)
                skip, offset = load(D, column), load(bias, column)
                for i in range(size):
                    value = load_some(u, (own_row + stride * i) * n_channels + column, valid)
                    raw = raw_step(u, packed, weight, 0, (row + stride * i) * n_packed, column, valid, (rank, padded))
                    width = softplus(raw + offset)
                    store(step, i * WIDTH, width)
                    store(gain, i * WIDTH, width * value)
                    store(total, i * WIDTH, skip * value)
                for n in range(n_state):
                    rate = load(A, n * padded + column) * fill(LOG2_E)
                    place = (block * n_state + n) * WIDTH
                    h = load(state, gene * padded * n_state + place)
                    if kept.size:
                        store(kept, of_chunk + place, h)
                    for i in range(size):
                        into = (row + stride * i) * n_packed + rank + n
                        decay = exp2(load(step, i * WIDTH) * rate)
                        h = multiply_add(decay, h, load(gain, i * WIDTH) * fill(packed[into]))
                        store(total, i * WIDTH, multiply_add(h, fill(packed[into + n_state]), load(total, i * WIDTH)))
                    store(state, gene * padded * n_state + place, h)
                for i in range(size):
                    at = (row + stride * i) * n_channels + column
                    value = load(total, i * WIDTH)
                    if reverse:
                        gate = load_some(z, at, valid)
                        value = (load_some(out, at, valid) + value) * gate * sigmoid(gate)
                    store_some(out, at, valid, value)


@compiled
def scan_stretch_backward(
    items: tuple[int, int], shape: Shape, stretch: Stretch, inputs: Any, dout: Any, gradients: Any
) -> None:
    """Gradients of a stretch's scan and gate for items[0] to items[1] - 1; stretches come from the last to the first.

    Inputs are u, z, packed, weight, A, D, bias, kept; gradients are du, dz, dpacked, which are written (dz is added to
    by the reverse direction, which comes second), carried, and dweight, dA, dD, dbias, which are added to.
    """
    n_positions, n_channels, n_state, rank, _ = shape
    first_gene, n_genes, first, last, n_groups, reverse = stretch
    dpacked, carried, dA = gradients[2], gradients[3], gradients[5]
    n_packed = rank + 2 * n_state
    n_blocks = (n_channels + WIDTH - 1) // WIDTH
    per_gene = n_blocks * WIDTH * n_state
    n_chunks = (n_positions + CHUNK - 1) // CHUNK
    by_lane = aligned_zeros((n_packed + WIDTH - 1) // WIDTH * WIDTH * ROOM)
    room = aligned_zeros(N_BUFFERS * ROOM)
    output = aligned_zeros(2 * ROOM)
    scan_shape = (0, n_positions, n_channels, n_state, rank, n_groups)
    scan_inputs = (inputs[0], inputs[0], inputs[2], inputs[3], inputs[4], inputs[5], inputs[6], inputs[7])
    du, dweight, dD, dbias = gradients[0], gradients[4], gradients[6], gradients[7]
    scan_gradients = (du, du, dpacked, dweight, dA, dD, dbias)  # its step sizes are projected: none are written
    stride = -1 if reverse else 1
    for item in range(items[0], items[1]):
        group = item % n_groups
        for chunk in range((last - 1) // CHUNK, first // CHUNK - 1, -1):
            size = min(CHUNK, last - chunk * CHUNK)
            gene, row, own_row = _place(item, chunk * CHUNK, shape, stretch)
            where = (first_gene + gene, chunk, n_chunks, row, stride, size)
            carry = carried[gene * per_gene : (gene + 1) * per_gene]
            by_lane[:] = _ZERO
            for block in range(group * n_blocks // n_groups, (group + 1) * n_blocks // n_groups):
                _open_chunk(block, where, own_row, shape, inputs, dout, gradients[1], room, output)
                for n in range(0, n_state, 2):
                    through_states(n, block, where, scan_shape, scan_inputs, room, carry, by_lane, dA, output)
                close_chunk(block, where, own_row, scan_shape, scan_inputs, room, by_lane, scan_gradients)
                _close_gate(block, where, reverse, n_channels, output, gradients[1])
            first_row = group * n_genes * (last - first) + own_row
            for i in range(size):
                at = (first_row + stride * i) * n_packed
                for p in range(0, n_packed, WIDTH):
                    sums = lane_sums(by_lane, p * ROOM + i * WIDTH, ROOM)
                    store_some(dpacked, at + p, min(WIDTH, n_packed - p), sums)


@part
def _open_chunk(
    block: int, where: Any, own_row: int, shape: Shape, inputs: Any, dout: Any, dz: Any, room: Any, output: Any
) -> None:
    """Fill the buffers with what the states need of a chunk; output: the skip's part, then what takes it to dz."""
    _, _, _, row, stride, size = where
    _, n_channels, n_state, rank, _ = shape
    u, z, packed, weight, _, D, bias, _ = inputs
    padded = (n_channels + WIDTH - 1) // WIDTH * WIDTH
    column = block * WIDTH
    valid = min(WIDTH, n_channels - column)
    offset, skip = load(bias, column), load(D, column)
    for i in range(size):
        t, k = row + stride * i, i * WIDTH
        raw = raw_step(u, packed, weight, 0, t * (rank + 2 * n_state), column, valid, (rank, padded)) + offset
        width, value = softplus(raw), load_some(u, (own_row + stride * i) * n_channels + column, valid)
        at = t * n_channels + column
        gate, out = load_some(z, at, valid), load_some(dout, at, valid)
        s = sigmoid(gate)
        # A row's next channels are asked for while the states of these are at work: rows lie too far apart to guess.
        for array in (z, dout, dz):
            ask_for(array, at + WIDTH)
        ask_for(u, (own_row + stride * i) * n_channels + column + WIDTH)
        store(room, VALUE + k, value)
        store(room, DY + k, out * gate * s)
        store(output, ROOM + k, out * s * multiply_add(gate, fill(_ONE) - s, fill(_ONE)))
        store(room, STEP + k, width)
        store(room, GAIN + k, width * value)
        store(room, SLOPE + k, sigmoid(raw))
        store(room, DSTEP + k, fill(_ZERO))
        store(room, DGAIN + k, fill(_ZERO))
        store(output, k, skip * value)


@part
def _close_gate(block: int, where: Any, reverse: bool, n_channels: int, output: Any, dz: Any) -> None:
    """Gradient of the gate from a direction's part of the output."""
    _, _, _, row, stride, size = where
    column = block * WIDTH
    valid = min(WIDTH, n_channels - column)
    for i in range(size):
        at, k = (row + stride * i) * n_channels + column, i * WIDTH
        value = load(output, k) * load(output, ROOM + k)
        if reverse:
            value = load_some(dz, at, valid) + value
        store_some(dz, at, valid, value)


@compiled
def convolve_stretch_backward(
    items: tuple[int, int], shape: Shape, stretch: Stretch, inputs: Any, du: Any, gradients: Any
) -> None:
    """Gradients of a stretch's convolution for items[0] to items[1] - 1; stretches come from the last to the first.

    Inputs are x, taps, offset; gradients are dx, which is written by the direction from left to right and added to by
    the reverse one, dv, dtaps and doffset, which are added to.
    """
    n_positions, n_channels, _, _, n_taps = shape
    first_gene, _, first, last, n_groups, reverse = stretch
    x, dv = inputs[0], gradients[1]
    n_blocks = (n_channels + WIDTH - 1) // WIDTH
    padded = n_blocks * WIDTH
    halo = n_taps - 1
    stride = -1 if reverse else 1
    rows = aligned_zeros((CHUNK + halo) * WIDTH)
    inner = aligned_zeros((CHUNK + halo) * WIDTH)
    for item in range(items[0], items[1]):
        gene, group = item // n_groups, item % n_groups
        origin = ((first_gene + gene) * n_positions + (n_positions - 1 if reverse else 0)) * n_channels
        for begin in range((last - 1) // CHUNK * CHUNK, first - 1, -CHUNK):
            size = min(CHUNK, last - begin)
            own_row = _place(item, begin, shape, stretch)[2]
            for block in range(group * n_blocks // n_groups, (group + 1) * n_blocks // n_groups):
                column = block * WIDTH
                valid = min(WIDTH, n_channels - column)
                base, own = origin + column, gene * halo * padded + column
                gather(x, base, stride, n_positions, n_channels, begin - halo, size + halo, valid, rows)
                for i in range(size):
                    at = (own_row + stride * i) * n_channels + column
                    store(inner, i * WIDTH, load_some(du, at, valid))
                for k in range(halo):
                    store(inner, (size + k) * WIDTH, load(dv, own + k * padded))
                _through_silu(rows, inner, size, first_gene + gene, column, padded, n_taps, inputs, gradients)
                for i in range(size):
                    at = base + stride * (begin + i) * n_channels
                    value = load_some(gradients[0], at, valid) if reverse else fill(_ZERO)
                    for k in range(n_taps):
                        later = load(inner, (i + halo - k) * WIDTH)
                        value = multiply_add(later, load(inputs[1], k * padded + column), value)
                    store_some(gradients[0], at, valid, value)
                for k in range(halo):
                    store(dv, own + k * padded, load(inner, k * WIDTH))


@part
def _through_silu(
    rows: Any, inner: Any, size: int, gene: int, column: int, padded: int, n_taps: int, inputs: Any, gradients: Any
) -> None:
    """Turn the gradient of silu(v) in `inner` into that of v, the convolution of `rows`; add those of the weights."""
    _, taps, offset = inputs
    _, _, dtaps, doffset = gradients
    shift, own = load(offset, column), gene * padded + column
    shift_gradient = load(doffset, own)
    for i in range(size):
        value = convolve(rows, i, taps, column, padded, n_taps, shift)
        s = sigmoid(value)
        into = load(inner, i * WIDTH) * s * multiply_add(value, fill(_ONE) - s, fill(_ONE))
        store(inner, i * WIDTH, into)
        shift_gradient = shift_gradient + into
    store(doffset, own, shift_gradient)
    for k in range(n_taps):
        at = (gene * n_taps + k) * padded + column
        total = load(dtaps, at)
        for i in range(size):
            total = multiply_add(load(inner, i * WIDTH), load(rows, (i + k) * WIDTH), total)
        store(dtaps, at, total)
