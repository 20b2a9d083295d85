"""RMSNorm on the CPU in one pass each way.

Legend: M rows (genes times positions), D channels, J ranges of ROWS rows. Arrays are float32 and flat:
    x, y, dy, dx    (M, D)
    weight          (W,)      D rounded up to 16, zeros in the padding
    dweight         (J, W)    a range's part
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from prism_ray.model.scan.simd import (
    WIDTH,
    compiled,
    fill,
    lane_sum,
    load,
    load_some,
    multiply_add,
    part,
    store,
    store_some,
)

ROWS = 256
"""Rows a work item."""

_ZERO = np.float32(0.0)


@part
def _scale(x: Any, row: int, n_channels: int, eps: float) -> Any:
    """1 / sqrt(mean of squares + eps) of one row."""
    total = fill(_ZERO)
    for column in range(0, n_channels, WIDTH):
        value = load_some(x, row * n_channels + column, min(WIDTH, n_channels - column))
        total = multiply_add(value, value, total)
    return np.float32(1.0 / math.sqrt(lane_sum(total) / n_channels + eps))


@compiled
def norm_forward(items: tuple[int, int], n_rows: int, n_channels: int, eps: float, x: Any, weight: Any, y: Any) -> None:
    """Fill y for the ranges items[0] to items[1] - 1."""
    for row in range(items[0] * ROWS, min(n_rows, items[1] * ROWS)):
        scale = fill(_scale(x, row, n_channels, eps))
        for column in range(0, n_channels, WIDTH):
            at, valid = row * n_channels + column, min(WIDTH, n_channels - column)
            store_some(y, at, valid, load_some(x, at, valid) * scale * load(weight, column))


@compiled
def norm_backward(
    items: tuple[int, int], n_rows: int, n_channels: int, eps: float, inputs: Any, dx: Any, dweight: Any
) -> None:
    """Fill dx and add to dweight for the ranges items[0] to items[1] - 1; inputs are x, weight, dy."""
    x, weight, dy = inputs
    padded = weight.size
    for item in range(items[0], items[1]):
        for row in range(item * ROWS, min(n_rows, (item + 1) * ROWS)):
            r = _scale(x, row, n_channels, eps)
            scale, total = fill(r), fill(_ZERO)
            for column in range(0, n_channels, WIDTH):
                at, valid = row * n_channels + column, min(WIDTH, n_channels - column)
                value, into = load_some(x, at, valid), load_some(dy, at, valid)
                total = multiply_add(into * load(weight, column), value, total)
                own = item * padded + column
                store(dweight, own, multiply_add(into, value * scale, load(dweight, own)))
            along = fill(np.float32(-lane_sum(total) / n_channels * r * r * r))
            for column in range(0, n_channels, WIDTH):
                at, valid = row * n_channels + column, min(WIDTH, n_channels - column)
                into = load_some(dy, at, valid) * load(weight, column) * scale
                store_some(dx, at, valid, multiply_add(load_some(x, at, valid), along, into))
