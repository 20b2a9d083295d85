"""From gene arrays to the batches of a step.

B genes of a batch, L positions in bp, S signals, K scalars.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from prism_ray.store import GeneArrays

# Row by base code (A C G T N): N, the last, is all zeros.
_ONE_HOT = torch.cat([torch.eye(4), torch.zeros(1, 4)])


@dataclass(frozen=True)
class Batch:
    """Inputs and label of some genes on one device.

    Attributes:
        sequence: (B, L, 4) float32 one-hot, or None where the run does not see DNA.
        signals: (B, L, S) float32, or None where it sees no signal.
        scalars: (B, K) float32, or None where it sees no scalar.
        label: (B,) float32.
    """

    sequence: Tensor | None
    signals: Tensor | None
    scalars: Tensor | None
    label: Tensor


class TrainingOrder:
    """Genes of each step: every epoch is a new permutation, drawn from the seed and the epoch alone.

    The last genes of an epoch that do not fill a batch are left out of it; the next permutation brings them
    in elsewhere. Every batch is therefore full, and any step can be found without running those before it.

    Args:
        index: (N,) row numbers of the training genes.
        batch_size: genes a step over all workers.
    """

    def __init__(self, index: NDArray[np.int64], batch_size: int, seed: int) -> None:
        self._index = index
        self._batch_size = batch_size
        self._seed = seed
        self._epoch = -1
        self._order = index
        self.steps_per_epoch = len(index) // batch_size

    def rows(self, step: int) -> NDArray[np.int64]:
        """(batch_size,) row numbers of the genes of a step, counted from 0."""
        epoch, position = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._order = np.random.default_rng((self._seed, epoch)).permutation(self._index)
            self._epoch = epoch
        start = position * self._batch_size
        return self._order[start : start + self._batch_size]


def make_batch(arrays: GeneArrays, rows: NDArray[np.int64], device: torch.device) -> Batch:
    """Batch of the genes in `rows`, on `device`."""
    sequence = signals = scalars = None
    if arrays.sequence is not None:
        codes = torch.from_numpy(arrays.sequence[rows]).to(device)
        sequence = _ONE_HOT.to(device)[codes.long()]  # (B, L, 4)
    if arrays.signals.shape[2]:
        signals = torch.from_numpy(arrays.signals[rows]).to(device)  # (B, L, S)
    if arrays.scalars.shape[1]:
        scalars = torch.from_numpy(arrays.scalars[rows]).to(device)  # (B, K)
    label = torch.from_numpy(arrays.label[rows]).to(device)  # (B,)
    return Batch(sequence, signals, scalars, label)
