"""Bytes as people say them."""

from __future__ import annotations

_UNITS = (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10))


def size_text(n_bytes: float) -> str:
    """A number of bytes in the largest unit of 1024 that it has one of, with three figures: `28.1 MiB`, `64 KiB`."""
    for unit, length in _UNITS:
        value = n_bytes / length
        if value >= 1:
            # Three figures of 1,000 and more would be written with an exponent.
            return f"{value:,.0f} {unit}" if value >= 999.5 else f"{value:.3g} {unit}"
    return f"{n_bytes:.0f} B"
