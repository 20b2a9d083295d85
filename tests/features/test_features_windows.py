from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prism_ray.errors import CatalogError
from prism_ray.features.windows import group_spans, read_windows


@st.composite
def layouts(draw: st.DrawFn) -> tuple[int, np.ndarray, int]:
    size = draw(st.integers(1, 300))
    tss = draw(st.lists(st.integers(0, size - 1), max_size=12))
    return size, np.array(tss, dtype=np.int64), 2 * draw(st.integers(1, 200))


@given(layouts(), st.integers(0, 50), st.integers(1, 200))
def test_each_gene_has_one_span_that_holds_its_window(
    layout: tuple[int, np.ndarray, int], max_gap_bp: int, max_span_bp: int
) -> None:
    size, tss, window_bp = layout
    spans = list(group_spans(tss, window_bp, size, max_gap_bp, max_span_bp))
    assert sorted(gene for span in spans for gene in span.index.tolist()) == list(range(len(tss)))
    for span in spans:
        assert 0 <= span.start <= span.end <= size
        assert span.end - span.start <= max(max_span_bp, window_bp)
        for gene in span.index:
            assert span.start <= max(tss[gene] - window_bp // 2, 0)
            assert span.end >= min(tss[gene] + window_bp // 2, size)


@given(layouts())
def test_windows_are_those_of_reading_base_by_base(layout: tuple[int, np.ndarray, int]) -> None:
    size, tss, window_bp = layout
    chromosome = np.arange(1, size + 1)
    expected = [
        [chromosome[base] if 0 <= base < size else -1 for base in range(t - window_bp // 2, t + window_bp // 2)]
        for t in tss
    ]
    found = read_windows(lambda start, end: chromosome[start:end], tss, window_bp, size, -1, np.int64)
    assert found.shape == (len(tss), window_bp)
    assert found.tolist() == expected


def test_neighbours_share_a_span_and_strangers_do_not() -> None:
    tss = np.array([100_000, 5000, 5200])
    spans = list(group_spans(tss, 1000, 1_000_000, max_gap_bp=500))
    assert [(span.start, span.end, span.index.tolist()) for span in spans] == [
        (4500, 5700, [1, 2]),
        (99_500, 100_500, [0]),
    ]


@pytest.mark.parametrize("window_bp", [0, -2, 7])
def test_a_window_is_even_and_positive(window_bp: int) -> None:
    with pytest.raises(CatalogError, match=rf"window_bp: {window_bp} is not a length of a window; use an even number"):
        list(group_spans(np.array([5]), window_bp, 10))
