"""Chromosome names that differ between sources only by a prefix: "1" and "chr1"."""

from __future__ import annotations

from collections.abc import Iterable

_PREFIX = "chr"


def naming_mismatch(names: Iterable[str], others: Iterable[str]) -> tuple[str, str] | None:
    """One name and the other's name for it, where two sources name a chromosome differently; else None.

    Args:
        names: chromosomes that were not found among `others`.
        others: chromosomes of the other source.
    """
    known = set(others)
    for name in names:
        twin = name.removeprefix(_PREFIX) if name.startswith(_PREFIX) else f"{_PREFIX}{name}"
        if twin in known:
            return repr(name), repr(twin)
    return None
