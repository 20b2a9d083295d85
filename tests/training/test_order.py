"""Order of genes: full batches, no gene twice, found from any step, and near each other where windows are asked for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from prism_ray.training.order import BLOCK_GENES, TrainingOrder

chromosomes = st.lists(st.integers(1, 150), min_size=2, max_size=4)


def genes(sizes: list[int]) -> tuple[NDArray[np.str_], NDArray[np.int64]]:
    """Chromosome of every gene, and the training genes: all but those of the second chromosome."""
    chrom = np.repeat([f"chr{number}" for number in range(len(sizes))], sizes)
    return chrom, np.flatnonzero(chrom != "chr1").astype(np.int64)


@given(
    sizes=chromosomes,
    batch_size=st.integers(1, 8),
    seed=st.integers(0, 5),
    shuffle_genes=st.integers(0, 200),
    n_epochs=st.integers(1, 3),
)
def test_no_gene_twice_in_an_epoch_and_full_batches(
    sizes: list[int], batch_size: int, seed: int, shuffle_genes: int, n_epochs: int
) -> None:
    chrom, index = genes(sizes)
    if len(index) < batch_size:
        return
    order = TrainingOrder(index, chrom, batch_size, seed, shuffle_genes)
    assert order.steps_per_epoch == len(index) // batch_size
    for epoch in range(n_epochs):
        first = epoch * order.steps_per_epoch
        rows = np.concatenate([order.rows(first + step) for step in range(order.steps_per_epoch)])
        assert len(rows) == order.steps_per_epoch * batch_size
        assert len(set(rows)) == len(rows)
        assert set(rows) <= set(index)


@given(
    sizes=chromosomes,
    batch_size=st.integers(1, 8),
    shuffle_genes=st.integers(0, 200),
    first=st.integers(0, 60),
    n_steps=st.integers(0, 120),
)
def test_windows_are_the_steps_in_order_and_hold_few_blocks(
    sizes: list[int], batch_size: int, shuffle_genes: int, first: int, n_steps: int
) -> None:
    chrom, index = genes(sizes)
    if len(index) < batch_size:
        return
    order = TrainingOrder(index, chrom, batch_size, 2, shuffle_genes)
    windows = list(order.windows(range(first, first + n_steps)))
    assert [step for window in windows for step in window] == list(range(first, first + n_steps))
    starts = np.concatenate([np.arange(size) // BLOCK_GENES for size in sizes])
    block = np.unique(np.stack([np.unique(chrom, return_inverse=True)[1], starts]), axis=1, return_inverse=True)[1]
    # Blocks at the two ends of a window may be shared with its neighbours; short ones lie at the ends of chromosomes.
    n_short = sum(size % BLOCK_GENES > 0 for size in sizes)
    for window in windows:
        assert window
        assert window.start // order.steps_per_epoch == (window.stop - 1) // order.steps_per_epoch
        rows = np.concatenate([order.rows(step) for step in window])
        assert len(rows) <= order.window_genes()
        if shuffle_genes:
            assert len(rows) <= -(-shuffle_genes // batch_size) * batch_size
            assert len(set(block.reshape(-1)[rows])) <= len(rows) // BLOCK_GENES + 2 + n_short
    if windows and shuffle_genes == 0:
        assert order.window_genes() == order.steps_per_epoch * batch_size


@pytest.mark.parametrize("shuffle_genes", [0, 9, 64])
def test_any_step_without_those_before_it(shuffle_genes: int) -> None:
    chrom, index = genes([100, 20, 90])
    walked = TrainingOrder(index, chrom, 3, 5, shuffle_genes)
    steps = [walked.rows(step).tolist() for step in range(150)]
    for step in (0, 7, 62, 63, 149):
        assert TrainingOrder(index, chrom, 3, 5, shuffle_genes).rows(step).tolist() == steps[step]


@pytest.mark.parametrize("shuffle_genes", [0, 16])
def test_seeds_and_epochs_differ(shuffle_genes: int) -> None:
    chrom, index = genes([32, 5])
    first = TrainingOrder(index, chrom, 32, 2, shuffle_genes)
    assert first.rows(0).tolist() != first.rows(1).tolist()
    assert first.rows(0).tolist() != TrainingOrder(index, chrom, 32, 22, shuffle_genes).rows(0).tolist()


def test_without_windows_an_epoch_is_one_permutation() -> None:
    """The order that results are recorded under: NumPy's permutation by seed and epoch."""
    chrom, index = genes([40, 5, 30])
    order = TrainingOrder(index, chrom, 7, 22)
    for epoch in (0, 3):
        rows = np.concatenate([order.rows(epoch * 10 + step) for step in range(10)])
        np.testing.assert_array_equal(rows, np.random.default_rng((22, epoch)).permutation(index))


def test_windows_by_a_slow_plain_reading_of_the_rule() -> None:
    sizes, batch_size, seed = [130, 10, 70], 4, 7
    chrom, index = genes(sizes)
    blocks = [range(0, 64), range(64, 128), range(128, 130), range(140, 204), range(204, 210)]
    order = TrainingOrder(index, chrom, batch_size, seed, shuffle_genes=42)
    rng = np.random.default_rng((seed, 1))
    stream = [row for number in rng.permutation(len(blocks)) for row in blocks[number]]
    expected: list[int] = []
    while stream:
        expected += rng.permutation(stream[:44]).tolist()  # 42 genes in whole batches of 4
        stream = stream[44:]
    rows = np.concatenate([order.rows(50 + step) for step in range(50)])
    assert rows.tolist() == expected[:200]


def test_shares_of_the_workers_make_the_batch() -> None:
    chrom, index = genes([40, 5])
    order = TrainingOrder(index, chrom, 8, 2, 16)
    for step in (0, 6):
        shares = [order.share(step, rank, 4) for rank in range(4)]
        assert [len(share) for share in shares] == [2, 2, 2, 2]
        np.testing.assert_array_equal(np.concatenate(shares), order.rows(step))


@given(
    sizes=chromosomes,
    n_each=st.integers(1, 4),
    n_workers=st.integers(1, 4),
    seed=st.integers(0, 5),
    shuffle_genes=st.integers(0, 100),
)
def test_no_worker_sees_a_gene_twice_in_an_epoch_nor_one_of_anothers(
    sizes: list[int], n_each: int, n_workers: int, seed: int, shuffle_genes: int
) -> None:
    chrom, index = genes(sizes)
    if len(index) < n_each * n_workers:
        return
    # Each worker has an order of its own: nothing but seed and step may decide it.
    orders = [TrainingOrder(index, chrom, n_each * n_workers, seed, shuffle_genes) for _ in range(n_workers)]
    n_steps = orders[0].steps_per_epoch
    for epoch in range(2):
        steps = range(epoch * n_steps, (epoch + 1) * n_steps)
        seen = [order.share(step, rank, n_workers) for step in steps for rank, order in enumerate(orders)]
        assert {len(share) for share in seen} == {n_each}
        rows = np.concatenate(seen)
        assert len(set(rows.tolist())) == len(rows) == n_steps * n_each * n_workers
