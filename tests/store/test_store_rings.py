from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prism_ray.store.rings import Ring, cut_ring, place_ring, ring_bounds, rings_of, rings_touched

EVEN = st.integers(1, 6000).map(lambda half: 2 * half)


@given(EVEN, st.data())
def test_a_window_from_rings_is_the_centre_of_the_stored_window(stored_bp: int, data: st.DataObject) -> None:
    asked_bp = data.draw(st.integers(1, stored_bp // 2)) * 2
    stored = np.arange(2 * stored_bp, dtype=np.int64).reshape(2, stored_bp)
    window = np.full((2, asked_bp), -1, np.int64)
    for ring in rings_touched(ring_bounds(stored_bp), asked_bp):
        place_ring(cut_ring(stored, ring), ring, window, np.array([0, 1]))
    start = (stored_bp - asked_bp) // 2
    np.testing.assert_array_equal(window, stored[:, start : start + asked_bp])


@given(EVEN)
def test_rings_cover_each_distance_once(window_bp: int) -> None:
    distances = [base for ring in rings_of(ring_bounds(window_bp)) for base in range(ring.start, ring.end)]
    assert distances == list(range(window_bp // 2))


@pytest.mark.parametrize(
    ("window_bp", "bounds"),
    [
        (2, (0, 1)),
        (2000, (0, 1000)),
        (2002, (0, 1000, 1001)),
        (8000, (0, 1000, 2000, 4000)),
        (10000, (0, 1000, 2000, 4000, 5000)),
        (200_000, (0, 1000, 2000, 4000, 8000, 16000, 32000, 64000, 100_000)),
    ],
)
def test_bounds_double_and_end_at_half_the_window(window_bp: int, bounds: tuple[int, ...]) -> None:
    assert ring_bounds(window_bp) == bounds


def test_a_short_window_touches_the_inner_ring_only() -> None:
    bounds = ring_bounds(200_000)
    assert rings_touched(bounds, 2000) == (Ring(0, 1000),)
    assert rings_touched(bounds, 2002) == (Ring(0, 1000), Ring(1000, 2000))


def test_a_ring_has_the_left_part_then_the_right_part() -> None:
    window = np.array([[-3, -2, -1, 0, 1, 2]])  # distances of the bases from the TSS, which is base 0
    np.testing.assert_array_equal(cut_ring(window, Ring(1, 3)), [[-3, -2, 1, 2]])


def test_rows_are_placed_where_asked() -> None:
    window = np.zeros((3, 2), np.int64)
    place_ring(np.array([[5, 6], [7, 8]]), Ring(0, 1), window, np.array([2, 0]))
    np.testing.assert_array_equal(window, [[7, 8], [0, 0], [5, 6]])


def test_column_names() -> None:
    assert Ring(1000, 2000).column("dnase") == "dnase__1000_2000"
