"""Where a run takes its genes from, and how workers share those that are evaluated."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from prism_ray.config import RunConfig
from prism_ray.splits import Split
from prism_ray.store import GeneArrays
from prism_ray.training.loop import train
from prism_ray.training.order import TrainingOrder, share_of_rows
from prism_ray.training.sources import GeneTable, MemorySource, as_source


def test_memory_gives_the_rows_of_the_order(config: RunConfig, arrays: GeneArrays, split: Split) -> None:
    order = TrainingOrder.of(config, split, arrays.chrom)
    source = MemorySource(arrays)
    for rank in (0, 1):
        shares = list(source.training_shares(order, range(3, 9), rank, 2))
        assert len(shares) == 6
        for step, share in zip(range(3, 9), shares, strict=True):
            rows = order.rows(step)[rank * 4 : rank * 4 + 4]
            np.testing.assert_array_equal(share.signals, arrays.signals[rows])
            assert share.gene_id.tolist() == arrays.gene_id[rows].tolist()
    chunks = list(source.chunks(np.array([5, 1, 9]), 2))
    assert [chunk.gene_id.tolist() for chunk in chunks] == [["g05", "g01"], ["g09"]]


def test_the_table_says_what_the_arrays_are(arrays: GeneArrays) -> None:
    genes = as_source(arrays).genes
    assert (genes.inputs.n_signals, genes.inputs.n_scalars, genes.inputs.sequence) == (2, 2, True)
    assert genes.window_bp == arrays.window_bp


@dataclass(frozen=True)
class Watched:
    """A source that says when its stream is closed, and may fail at a step."""

    inner: MemorySource
    said: list[str]
    fail_at: int | None = None

    @property
    def genes(self) -> GeneTable:
        return self.inner.genes

    def training_shares(
        self, order: TrainingOrder, steps: range, rank: int, n_workers: int
    ) -> Generator[GeneArrays, None, None]:
        try:
            for step, share in zip(steps, self.inner.training_shares(order, steps, rank, n_workers), strict=True):
                if step == self.fail_at:
                    raise OSError("the disk is gone")
                yield share
        finally:
            self.said.append("closed")

    def chunks(self, rows: NDArray[np.int64], size: int) -> Generator[GeneArrays, None, None]:
        yield from self.inner.chunks(rows, size)


def test_any_source_trains_to_the_same_numbers_and_is_closed(
    config: RunConfig, arrays: GeneArrays, split: Split
) -> None:
    source = Watched(MemorySource(arrays), [])
    assert train(config, source, split).metrics == train(config, arrays, split).metrics
    assert source.said == ["closed"]


def test_a_source_that_fails_ends_the_run_with_its_error(config: RunConfig, arrays: GeneArrays, split: Split) -> None:
    source = Watched(MemorySource(arrays), [], fail_at=5)
    with pytest.raises(OSError, match="the disk is gone"):
        train(config, source, split)
    assert source.said == ["closed"]


def test_windows_are_another_order_of_genes_and_another_run(
    config: RunConfig, arrays: GeneArrays, split: Split
) -> None:
    windowed = config.model_copy(update={"training": config.training.model_copy(update={"shuffle_genes": 16})})
    assert windowed.fingerprint() != config.fingerprint()
    assert train(windowed, arrays, split).metrics != train(config, arrays, split).metrics


@given(n_rows=st.integers(0, 40), n_workers=st.integers(1, 7))
def test_shares_of_evaluated_rows_follow_each_other(n_rows: int, n_workers: int) -> None:
    shares = [range(n_rows)[share_of_rows(n_rows, rank, n_workers)] for rank in range(n_workers)]
    assert [row for share in shares for row in share] == list(range(n_rows))
    # What gather_rows pads to: only the last shares are short, so cutting the end off is enough.
    n_each = len(shares[0])
    assert all(len(share) == n_each for share in shares if share and share.stop != n_rows)
