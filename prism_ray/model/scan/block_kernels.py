"""What surrounds the scan in a block, on the CPU: depthwise convolution with SiLU, and the gate.

Both directions are written in the order in which positions are taken: position p of that order is t = p, or
t = L - 1 - p for the reverse direction. In this order every convolution is causal and none needs a flip.

Legend: B genes (times copies), L positions, E channels, K taps, G channel groups, T positions a chunk, W = E
rounded up to 16. Arrays are float32 and flat:
    x, y, dy, dx     (B, L, E)
    weight           (K, W)    zeros in the padding, as in bias
    bias             (W,)
    dweight, dbias   (B, K, W), (B, W)    a gene's part, added to
"""

from __future__ import annotations

from typing import Any

import numpy as np

from prism_ray.model.scan.simd import (
    WIDTH,
    aligned_zeros,
    compiled,
    fill,
    load,
    load_some,
    multiply_add,
    part,
    sigmoid,
    store,
    store_some,
)

CHUNK = 32
"""Positions that are held at once, T."""

Shape = tuple[int, int, int, int, int]
"""B, L, E, K, G."""

_ZERO, _ONE = np.float32(0.0), np.float32(1.0)


@part
def gather(
    source: Any, base: int, stride: int, n_positions: int, n_channels: int, first: int, n_rows: int, valid: int, to: Any
) -> None:
    """Copy positions first .. first + n_rows - 1 (in the order taken) of sixteen channels; zeros outside the window."""
    for i in range(n_rows):
        p = first + i
        if 0 <= p < n_positions:
            store(to, i * WIDTH, load_some(source, base + stride * p * n_channels, valid))
        else:
            store(to, i * WIDTH, fill(_ZERO))


@part
def convolve(rows: Any, first: int, weight: Any, column: int, padded: int, n_taps: int, bias: Any) -> Any:
    """Convolution for the position whose taps begin at row `first` of `rows`."""
    value = bias
    for k in range(n_taps):
        value = multiply_add(load(rows, (first + k) * WIDTH), load(weight, k * padded + column), value)
    return value


@compiled
def conv_forward(items: tuple[int, int], shape: Shape, reverse: bool, inputs: Any, y: Any) -> None:
    """Fill y for items[0] to items[1] - 1, item = gene * G + group; inputs are x, weight, bias."""
    _, n_positions, n_channels, n_taps, n_groups = shape
    x, weight, bias = inputs
    n_blocks = (n_channels + WIDTH - 1) // WIDTH
    padded = n_blocks * WIDTH
    stride = -1 if reverse else 1
    rows = aligned_zeros((CHUNK + n_taps) * WIDTH)
    for item in range(items[0], items[1]):
        gene, group = item // n_groups, item % n_groups
        origin = (gene * n_positions + (n_positions - 1 if reverse else 0)) * n_channels
        for first in range(0, n_positions, CHUNK):
            size = min(CHUNK, n_positions - first)
            for block in range(group * n_blocks // n_groups, (group + 1) * n_blocks // n_groups):
                column = block * WIDTH
                valid = min(WIDTH, n_channels - column)
                base = origin + column
                before = first - (n_taps - 1)
                gather(x, base, stride, n_positions, n_channels, before, size + n_taps - 1, valid, rows)
                offset = load(bias, column)
                for i in range(size):
                    value = convolve(rows, i, weight, column, padded, n_taps, offset)
                    store_some(y, base + stride * (first + i) * n_channels, valid, value * sigmoid(value))


@compiled
def conv_backward(items: tuple[int, int], shape: Shape, reverse: bool, inputs: Any, dy: Any, gradients: Any) -> None:
    """Gradients for items[0] to items[1] - 1; inputs are x, weight, bias; gradients are dx, dweight, dbias."""
    _, n_positions, n_channels, n_taps, n_groups = shape
    dx = gradients[0]
    x, weight = inputs[0], inputs[1]
    n_blocks = (n_channels + WIDTH - 1) // WIDTH
    padded = n_blocks * WIDTH
    stride = -1 if reverse else 1
    halo = n_taps - 1
    rows = aligned_zeros((CHUNK + 2 * halo) * WIDTH)
    inner = aligned_zeros((CHUNK + halo) * WIDTH)
    for item in range(items[0], items[1]):
        gene, group = item // n_groups, item % n_groups
        origin = (gene * n_positions + (n_positions - 1 if reverse else 0)) * n_channels
        for first in range(0, n_positions, CHUNK):
            size = min(CHUNK, n_positions - first)
            for block in range(group * n_blocks // n_groups, (group + 1) * n_blocks // n_groups):
                column = block * WIDTH
                valid = min(WIDTH, n_channels - column)
                base = origin + column
                # The gradient of x at the chunk's end comes from the positions after it too.
                gather(x, base, stride, n_positions, n_channels, first - halo, size + 2 * halo, valid, rows)
                gather(dy, base, stride, n_positions, n_channels, first, size + halo, valid, inner)
                _through_silu(rows, inner, size + halo, inputs, column, padded, n_taps)
                _weight_gradients(rows, inner, size, gene, column, padded, n_taps, gradients)
                for i in range(size):
                    value = fill(_ZERO)
                    for k in range(n_taps):
                        later = load(inner, (i + halo - k) * WIDTH)
                        value = multiply_add(later, load(weight, k * padded + column), value)
                    store_some(dx, base + stride * (first + i) * n_channels, valid, value)


@part
def _through_silu(rows: Any, inner: Any, n_rows: int, inputs: Any, column: int, padded: int, n_taps: int) -> None:
    """Turn the gradient of silu(v) in `inner` into that of v, the convolution of `rows`."""
    _, weight, bias = inputs
    offset = load(bias, column)
    for i in range(n_rows):
        value = convolve(rows, i, weight, column, padded, n_taps, offset)
        s = sigmoid(value)
        slope = s * multiply_add(value, fill(_ONE) - s, fill(_ONE))
        store(inner, i * WIDTH, load(inner, i * WIDTH) * slope)


@part
def _weight_gradients(
    rows: Any, inner: Any, size: int, gene: int, column: int, padded: int, n_taps: int, gradients: Any
) -> None:
    """Add a chunk's part to the gradients of weight and bias."""
    _, dweight, dbias = gradients
    for k in range(n_taps):
        at = (gene * n_taps + k) * padded + column
        total = load(dweight, at)
        for i in range(size):
            total = multiply_add(load(inner, i * WIDTH), load(rows, (i + k) * WIDTH), total)
        store(dweight, at, total)
    total = load(dbias, gene * padded + column)
    for i in range(size):
        total = total + load(inner, i * WIDTH)
    store(dbias, gene * padded + column, total)


@compiled
def gate_forward(items: tuple[int, int], forward: Any, backward: Any, z: Any, y: Any) -> None:
    """Fill y = (forward + backward) * silu(z) for the blocks of sixteen values items[0] to items[1] - 1."""
    for item in range(items[0], items[1]):
        at = item * WIDTH
        valid = min(WIDTH, y.size - at)
        gate = load_some(z, at, valid)
        both = load_some(forward, at, valid) + load_some(backward, at, valid)
        store_some(y, at, valid, both * gate * sigmoid(gate))


@compiled
def gate_backward(items: tuple[int, int], forward: Any, backward: Any, z: Any, dy: Any, dboth: Any, dz: Any) -> None:
    """Gradients of forward and backward, which are the same, and of z."""
    for item in range(items[0], items[1]):
        at = item * WIDTH
        valid = min(WIDTH, dy.size - at)
        gate, out = load_some(z, at, valid), load_some(dy, at, valid)
        both = load_some(forward, at, valid) + load_some(backward, at, valid)
        s = sigmoid(gate)
        store_some(dboth, at, valid, out * gate * s)
        store_some(dz, at, valid, out * both * s * multiply_add(gate, fill(_ONE) - s, fill(_ONE)))
