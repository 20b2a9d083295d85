"""Arithmetic of windows around a TSS, and spans that neighbouring windows are cut from.

A window of length L is [tss - L/2, tss + L/2), 0-based and half-open, without a strand flip.
N genes, L positions in bp.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

import numpy as np
from numpy.typing import NDArray

from prism_ray.errors import CatalogError, Fault

Scalar = TypeVar("Scalar", bound=np.generic)

# Windows nearer than this share a fetch: reading the gap costs less than a second call.
MAX_GAP_BP = 20_000
# A span is held in memory as a whole, a few bytes a base.
MAX_SPAN_BP = 4_000_000


@dataclass(frozen=True)
class Windows:
    """Values around TSSs.

    Attributes:
        values: (N, L) float32, transformed; 0 beyond the chromosome and where the source has no value.
        n_missing: bases inside the chromosome for which the source has no value, over all windows.
    """

    values: NDArray[np.float32]
    n_missing: int


@dataclass(frozen=True)
class Span:
    """A stretch of a chromosome that holds the windows of some genes.

    Attributes:
        start: first base, at least 0.
        end: base after the last, at most the chromosome's length.
        index: (n,) int64, which genes.
    """

    start: int
    end: int
    index: NDArray[np.int64]


def half_window(window_bp: int, where: str = "window_bp") -> int:
    """Half of a window's length.

    Raises:
        CatalogError: the length is odd or under 2.
    """
    if window_bp < 2 or window_bp % 2:
        refuse(where, f"{window_bp} is not a length of a window", "use an even number of bp, 2 or more")
    return window_bp // 2


def group_spans(
    tss: NDArray[np.int64],
    window_bp: int,
    chrom_size: int,
    max_gap_bp: int = MAX_GAP_BP,
    max_span_bp: int = MAX_SPAN_BP,
) -> Iterator[Span]:
    """Spans that together hold every window, each gene in one of them; neighbouring windows share one.

    Args:
        tss: (N,), in any order.
        window_bp: length L of each window.
        chrom_size: length of the chromosome; spans are clipped to it.
        max_gap_bp: windows further apart than this do not share a span.
        max_span_bp: a span grows no longer than this, but always holds one window.
    """
    half = half_window(window_bp)
    order = np.argsort(tss, kind="stable")
    first = 0
    for position in range(1, len(order) + 1):
        if position < len(order):
            start = int(tss[order[first]]) - half
            gap = int(tss[order[position]]) - int(tss[order[position - 1]]) - window_bp
            if gap <= max_gap_bp and int(tss[order[position]]) + half - start <= max_span_bp:
                continue
        members = order[first:position]
        start = min(max(int(tss[members[0]]) - half, 0), chrom_size)
        end = max(min(int(tss[members[-1]]) + half, chrom_size), start)
        yield Span(start, end, members.astype(np.int64))
        first = position


def cut(values: NDArray[Scalar], span: Span, tss: NDArray[np.int64], window_bp: int, out: NDArray[Scalar]) -> None:
    """Copy the windows of a span's genes out of its values; what lies beyond the span is left as it is.

    Args:
        values: (span.end - span.start,).
        span: what `values` covers, and the genes to cut.
        tss: (N,) of all genes.
        window_bp: length L of each window.
        out: (N, L), rows `span.index` are written.
    """
    half = window_bp // 2
    for gene in span.index:
        start = int(tss[gene]) - half
        low, high = max(start, span.start), min(start + window_bp, span.end)
        if low < high:
            out[gene, low - start : high - start] = values[low - span.start : high - span.start]


def read_windows(
    fetch: Callable[[int, int], NDArray[Scalar]],
    tss: NDArray[np.int64],
    window_bp: int,
    chrom_size: int,
    fill: Any,
    dtype: type[Scalar],
) -> NDArray[Scalar]:
    """Windows cut from spans, one fetch a span.

    Args:
        fetch: values of [start, end) of the chromosome, (end - start,).
        tss: (N,).
        window_bp: length L of each window.
        chrom_size: length of the chromosome.
        fill: value beyond the chromosome's ends.
        dtype: type of the values.

    Returns:
        (N, L) of `dtype`.
    """
    out = np.full((len(tss), window_bp), fill, dtype=dtype)
    for span in group_spans(tss, window_bp, chrom_size):
        cut(fetch(span.start, span.end), span, tss, window_bp, out)
    return out


def refuse(where: str, problem: str, fix: str) -> NoReturn:
    """Raise a `CatalogError` with one fault, for what a reader meets after all checks passed."""
    fault = Fault(where, problem, fix)
    raise CatalogError(str(fault), [fault])
