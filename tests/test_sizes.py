"""Bytes in words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prism_ray.sizes import size_text


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (64 << 10, "64 KiB"),
        (1_500_000, "1.43 MiB"),
        (1023 << 20, "1,023 MiB"),
        (20 << 30, "20 GiB"),
        (24.6 * 2**30, "24.6 GiB"),
        (3000 << 40, "3,000 TiB"),
    ],
)
def test_sizes_in_words(n_bytes: float, text: str) -> None:
    assert size_text(n_bytes) == text


@given(st.integers(0, 10**18))
def test_what_is_said_is_within_half_a_percent(n_bytes: int) -> None:
    value, unit = size_text(n_bytes).split()
    said = float(value.replace(",", "")) * 1024 ** ["B", "KiB", "MiB", "GiB", "TiB"].index(unit)
    assert said == pytest.approx(n_bytes, rel=0.005)
