"""Rings: how a stored window is cut so that a shorter one is read without the longer one.

A window [tss - L/2, tss + L/2) is cut into concentric rings. Ring [a, b) has the bases at distance a to b of the
TSS on both sides: [tss - b, tss - a), then [tss + a, tss + b), so a ring column is 2 (b - a) positions wide. Bounds
are 0, 1000, 2000, 4000, ... doubling; the last is clipped to L/2.

N genes, L positions in bp.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

INNER_RING_BP = 1000
SEQUENCE = "sequence"

Scalar = TypeVar("Scalar", bound=np.generic)


@dataclass(frozen=True)
class Ring:
    """Bases at distance [start, end) of the TSS, in bp, on both sides."""

    start: int
    end: int

    @property
    def width(self) -> int:
        """Positions of the ring's column, both sides together."""
        return 2 * (self.end - self.start)

    def column(self, name: str) -> str:
        """Name of the column that holds this ring of a signal or of `sequence`."""
        return f"{name}__{self.start}_{self.end}"


def ring_bounds(window_bp: int) -> tuple[int, ...]:
    """Bounds of the rings of a window, in bp from the TSS: 0, 1000, 2000, 4000, ..., window_bp / 2."""
    half = window_bp // 2
    bounds = [0]
    bound = INNER_RING_BP
    while bound < half:
        bounds.append(bound)
        bound *= 2
    bounds.append(half)
    return tuple(bounds)


def rings_of(bounds: tuple[int, ...]) -> tuple[Ring, ...]:
    """Rings between neighbouring bounds, inner first."""
    return tuple(Ring(start, end) for start, end in pairwise(bounds))


def rings_touched(bounds: tuple[int, ...], window_bp: int) -> tuple[Ring, ...]:
    """Rings that hold bases of a window of `window_bp`, inner first."""
    return tuple(ring for ring in rings_of(bounds) if ring.start < window_bp // 2)


def cut_ring(window: NDArray[Scalar], ring: Ring) -> NDArray[Scalar]:
    """Column of a ring, (N, ring.width), from whole windows, (N, L)."""
    half = window.shape[1] // 2
    left = window[:, half - ring.end : half - ring.start]
    right = window[:, half + ring.start : half + ring.end]
    return np.concatenate([left, right], axis=1)


def place_ring(column: NDArray[Scalar], ring: Ring, window: NDArray[Scalar], rows: NDArray[np.int64] | slice) -> None:
    """Write a ring's column, (n, ring.width), into rows of windows, (N, L), as far as it reaches into them."""
    half = window.shape[1] // 2
    end = min(ring.end, half)
    n_side = ring.width // 2
    n_taken = end - ring.start
    window[rows, half - end : half - ring.start] = column[:, n_side - n_taken : n_side]
    window[rows, half + ring.start : half + end] = column[:, n_side : n_side + n_taken]
