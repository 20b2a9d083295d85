"""Content of batches."""

import numpy as np
import torch

from prism_ray.store import GeneArrays
from prism_ray.training.batches import make_batch


def test_batch_holds_the_rows_asked(arrays: GeneArrays) -> None:
    rows = np.array([7, 3])
    batch = make_batch(arrays.take(rows), torch.device("cpu"))
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
