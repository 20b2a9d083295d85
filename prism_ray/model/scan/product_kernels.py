"""Products of many rows with a small matrix, and of many rows with many rows, on the CPU.

Libraries choose how they cut such a product by the number of threads, and with it the rounding. Here every value is
summed in one order.

Legend: M rows, H inner size, F columns, W = F rounded up to 16, J slices of SLICE rows. Arrays are float32 and flat:
    rows      (M, H)
    matrix    (H, W)    zeros in the padding
    out       (M, F)    from row `first` on
    others    (M, F)
    parts     (J, H, W)
"""

from __future__ import annotations

from typing import Any

import numpy as np

from prism_ray.model.scan.simd import WIDTH, compiled, fill, load, load_some, multiply_add, part, store, store_some

ROWS = 64
"""Rows a work item."""

SLICE = 512
"""Rows a work item of `transposed_product`."""

_ZERO = np.float32(0.0)


@compiled
def product(
    items: tuple[int, int], sizes: tuple[int, int, int, int], add: bool, rows: Any, matrix: Any, out: Any
) -> None:
    """Write rows @ matrix to out, or add it, for work items items[0] to items[1] - 1; sizes are M, H, F, first."""
    n_rows, inner, n_columns, first = sizes
    padded = (n_columns + WIDTH - 1) // WIDTH * WIDTH
    for begin in range(items[0] * ROWS, min(n_rows, items[1] * ROWS), ROWS):
        end = min(n_rows, begin + ROWS)
        whole = begin + (end - begin) // 8 * 8
        for column in range(0, n_columns, WIDTH):
            valid = min(WIDTH, n_columns - column)
            for row in range(begin, whole, 8):
                _eight(row, (inner, n_columns, first, padded, column, valid), add, rows, matrix, out)
            for row in range(whole, end):
                total = fill(_ZERO)
                for h in range(inner):
                    total = multiply_add(fill(rows[row * inner + h]), load(matrix, h * padded + column), total)
                _put(out, (first + row) * n_columns + column, valid, add, total)


@part
def _put(out: Any, at: int, valid: int, add: bool, value: Any) -> None:
    if add:
        value = load_some(out, at, valid) + value
    store_some(out, at, valid, value)


@part
def _eight(row: int, sizes: tuple[int, int, int, int, int, int], add: bool, rows: Any, matrix: Any, out: Any) -> None:
    """Eight rows at once: as many sums are under way as it takes to keep the multipliers busy."""
    inner, n_columns, first, padded, column, valid = sizes
    a = b = c = d = e = f = g = k = fill(_ZERO)
    at = row * inner
    for h in range(inner):
        value, i = load(matrix, h * padded + column), at + h
        a = multiply_add(fill(rows[i]), value, a)
        b = multiply_add(fill(rows[i + inner]), value, b)
        c = multiply_add(fill(rows[i + 2 * inner]), value, c)
        d = multiply_add(fill(rows[i + 3 * inner]), value, d)
        e = multiply_add(fill(rows[i + 4 * inner]), value, e)
        f = multiply_add(fill(rows[i + 5 * inner]), value, f)
        g = multiply_add(fill(rows[i + 6 * inner]), value, g)
        k = multiply_add(fill(rows[i + 7 * inner]), value, k)
    to = (first + row) * n_columns + column
    _put(out, to, valid, add, a)
    _put(out, to + n_columns, valid, add, b)
    _put(out, to + 2 * n_columns, valid, add, c)
    _put(out, to + 3 * n_columns, valid, add, d)
    _put(out, to + 4 * n_columns, valid, add, e)
    _put(out, to + 5 * n_columns, valid, add, f)
    _put(out, to + 6 * n_columns, valid, add, g)
    _put(out, to + 7 * n_columns, valid, add, k)


@compiled
def transposed_product(items: tuple[int, int], sizes: tuple[int, int, int], rows: Any, others: Any, parts: Any) -> None:
    """Fill parts, a slice's share of rows.T @ others, for slices items[0] to items[1] - 1; sizes are M, H, F."""
    n_rows, inner, n_columns = sizes
    padded = (n_columns + WIDTH - 1) // WIDTH * WIDTH
    for item in range(items[0], items[1]):
        begin, end = item * SLICE, min(n_rows, (item + 1) * SLICE)
        for column in range(0, n_columns, WIDTH):
            valid = min(WIDTH, n_columns - column)
            for h in range(0, inner // 8 * 8, 8):
                where = (begin, end, h, inner, n_columns, column, valid)
                _eight_transposed(where, padded, rows, others, parts, (item * inner + h) * padded + column)
            for h in range(inner // 8 * 8, inner):
                total = fill(_ZERO)
                for row in range(begin, end):
                    value = load_some(others, row * n_columns + column, valid)
                    total = multiply_add(fill(rows[row * inner + h]), value, total)
                store(parts, (item * inner + h) * padded + column, total)


@part
def _eight_transposed(
    where: tuple[int, int, int, int, int, int, int], padded: int, rows: Any, others: Any, parts: Any, to: int
) -> None:
    """Eight values of the inner size at once, as in `_eight`."""
    begin, end, first, inner, n_columns, column, valid = where
    a = b = c = d = e = f = g = k = fill(_ZERO)
    for row in range(begin, end):
        value, i = load_some(others, row * n_columns + column, valid), row * inner + first
        a = multiply_add(fill(rows[i]), value, a)
        b = multiply_add(fill(rows[i + 1]), value, b)
        c = multiply_add(fill(rows[i + 2]), value, c)
        d = multiply_add(fill(rows[i + 3]), value, d)
        e = multiply_add(fill(rows[i + 4]), value, e)
        f = multiply_add(fill(rows[i + 5]), value, f)
        g = multiply_add(fill(rows[i + 6]), value, g)
        k = multiply_add(fill(rows[i + 7]), value, k)
    store(parts, to, a)
    store(parts, to + padded, b)
    store(parts, to + 2 * padded, c)
    store(parts, to + 3 * padded, d)
    store(parts, to + 4 * padded, e)
    store(parts, to + 5 * padded, f)
    store(parts, to + 6 * padded, g)
    store(parts, to + 7 * padded, k)
