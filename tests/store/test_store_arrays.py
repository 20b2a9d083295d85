from __future__ import annotations

import numpy as np
import pytest

from prism_ray.store import GeneArrays


def arrays(sequence: bool = True) -> GeneArrays:
    return GeneArrays(
        gene_id=np.array(["a", "b", "c"]),
        chrom=np.array(["chr1", "chr1", "chr2"]),
        sequence=np.arange(12, dtype=np.uint8).reshape(3, 4) if sequence else None,
        signals=np.arange(24, dtype=np.float32).reshape(3, 4, 2),
        scalars=np.arange(3, dtype=np.float32).reshape(3, 1),
        label=np.array([0, 1, 2], dtype=np.float32),
        signal_names=("dnase", "hic"),
        scalar_names=("cds_gc",),
        window_bp=4,
    )


@pytest.mark.parametrize(
    ("index", "expected"),
    [([2, 0, 2], [2, 0, 2]), ([], []), ([True, False, True], [0, 2]), (np.array([1], np.int32), [1])],
)
def test_take_gives_the_rows_asked_for(index: object, expected: list[int]) -> None:
    whole = arrays()
    part = whole.take(index)  # type: ignore[arg-type]
    rows = np.array(expected, np.int64)
    assert len(part) == len(expected)
    for name in ("gene_id", "chrom", "sequence", "signals", "scalars", "label"):
        np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[rows])
    assert (part.signal_names, part.scalar_names, part.window_bp) == (("dnase", "hic"), ("cds_gc",), 4)


def test_take_copies() -> None:
    whole = arrays()
    whole.take([0]).signals[:] = -1
    assert whole.signals.min() == 0


def test_take_without_sequence() -> None:
    assert arrays(sequence=False).take([1]).sequence is None


def test_take_refuses_fractions() -> None:
    with pytest.raises(TypeError):
        arrays().take([0.5])


def test_nbytes_counts_every_array() -> None:
    whole = arrays()
    assert whole.nbytes - arrays(sequence=False).nbytes == 12
    assert whole.nbytes == 12 + 24 * 4 + 3 * 4 + 3 * 4 + whole.gene_id.nbytes + whole.chrom.nbytes
