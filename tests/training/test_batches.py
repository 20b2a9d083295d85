"""Order of genes and content of batches."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from prism_ray.store import GeneArrays
from prism_ray.training.batches import TrainingOrder, make_batch


@given(n_genes=st.integers(1, 50), batch_size=st.integers(1, 8), seed=st.integers(0, 5), n_epochs=st.integers(1, 4))
def test_no_gene_twice_in_an_epoch_and_full_batches(n_genes: int, batch_size: int, seed: int, n_epochs: int) -> None:
    if n_genes < batch_size:
        return
    index = np.arange(100, 100 + n_genes)
    order = TrainingOrder(index, batch_size, seed)
    for epoch in range(n_epochs):
        first = epoch * order.steps_per_epoch
        rows = np.concatenate([order.rows(first + step) for step in range(order.steps_per_epoch)])
        assert len(rows) == order.steps_per_epoch * batch_size
        assert len(set(rows)) == len(rows)
        assert set(rows) <= set(index)


def test_any_step_without_those_before_it() -> None:
    index = np.arange(20)
    walked = TrainingOrder(index, 3, 5)
    steps = [walked.rows(step).tolist() for step in range(15)]
    assert [TrainingOrder(index, 3, 5).rows(step).tolist() for step in range(15)] == steps


def test_seeds_and_epochs_differ() -> None:
    index = np.arange(32)
    first = TrainingOrder(index, 32, 2)
    assert first.rows(0).tolist() != first.rows(1).tolist()
    assert first.rows(0).tolist() != TrainingOrder(index, 32, 22).rows(0).tolist()


def test_batch_holds_the_rows_asked(arrays: GeneArrays) -> None:
    rows = np.array([7, 3])
    batch = make_batch(arrays, rows, torch.device("cpu"))
    assert batch.sequence is not None
    assert batch.signals is not None
    assert batch.scalars is not None
    assert arrays.sequence is not None
    np.testing.assert_array_equal(batch.signals.numpy(), arrays.signals[rows])
    np.testing.assert_array_equal(batch.label.numpy(), arrays.label[rows])
    for gene, row in enumerate(rows):
        for position in range(arrays.window_bp):
            code = arrays.sequence[row, position]
            expected = [float(code == base) for base in range(4)]
            assert batch.sequence[gene, position].tolist() == expected
