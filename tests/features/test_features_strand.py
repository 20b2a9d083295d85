from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from prism_ray.features.strand import turn_sequence, turn_track

A, C, G, T, N = range(5)


def test_a_known_answer() -> None:
    codes = np.array([[A, C, G, N], [A, C, G, N]], dtype=np.uint8)
    assert turn_sequence(codes, ["+", "-"]).tolist() == [[A, C, G, N], [N, C, G, T]]
    values = np.array([[1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 4.0]], dtype=np.float32)
    assert turn_track(values, ["+", "-"]).tolist() == [[1, 2, 3, 4], [4, 3, 2, 1]]


@settings(max_examples=50)
@given(arrays.arrays(np.uint8, st.tuples(st.integers(0, 5), st.integers(1, 9)), elements=st.integers(0, 4)), st.data())
def test_every_base_against_a_slow_oracle(codes: np.ndarray, data: st.DataObject) -> None:
    n, length = codes.shape
    strand = data.draw(st.lists(st.sampled_from("+-"), min_size=n, max_size=n))
    pair = {A: T, C: G, G: C, T: A, N: N}
    turned = turn_sequence(codes.copy(), np.array(strand, dtype=object))
    track = turn_track(codes.astype(np.float32), strand)
    for gene in range(n):
        for position in range(length):
            mirrored = codes[gene, length - 1 - position]
            reverse = strand[gene] == "-"
            assert turned[gene, position] == (pair[int(mirrored)] if reverse else codes[gene, position])
            assert track[gene, position] == (mirrored if reverse else codes[gene, position])
    assert (turn_sequence(turned, strand) == codes).all()
    assert (turn_track(track, strand) == codes).all()
    assert turned.dtype == np.uint8
    assert track.dtype == np.float32


def test_where_the_tss_is() -> None:
    window_bp = 10
    at_tss = np.zeros((2, window_bp), dtype=np.float32)
    at_tss[:, window_bp // 2] = 1
    turned = turn_track(at_tss, ["+", "-"])
    assert turned.argmax(axis=1).tolist() == [window_bp // 2, window_bp // 2 - 1]


def test_a_gene_without_a_strand_cannot_be_turned() -> None:
    values = np.zeros((2, 4), dtype=np.float32)
    with pytest.raises(ValueError, match="a gene has no strand"):
        turn_track(values, ["+", "."])
    with pytest.raises(ValueError, match="2 windows and 1 strands"):
        turn_sequence(values.astype(np.uint8), ["+"])
