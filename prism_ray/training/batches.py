"""From gene arrays to tensors.

B genes of a batch, L positions in bp, S signals, K scalars.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from prism_ray.store import GeneArrays

# Row by base code (A C G T N): N, the last, is all zeros.
_ONE_HOT = torch.cat([torch.eye(4), torch.zeros(1, 4)])
# Its rows as one element of 16 bytes each.
_ONE_HOT_ROWS = _ONE_HOT.view(torch.complex128).reshape(5)


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


def make_batch(arrays: GeneArrays, device: torch.device) -> Batch:
    """Batch of all genes of `arrays`, in their order, on `device`; the arrays must be writable."""
    sequence = signals = scalars = None
    if arrays.sequence is not None:
        codes = torch.from_numpy(arrays.sequence).to(device)
        # An element a base is copied in a third of the time that a row of four takes.
        rows = _ONE_HOT_ROWS.to(device).index_select(0, codes.reshape(-1).int())
        sequence = rows.view(torch.float32).reshape(*codes.shape, 4)  # (B, L, 4)
    if arrays.signals.shape[2]:
        signals = torch.from_numpy(arrays.signals).to(device)  # (B, L, S)
    if arrays.scalars.shape[1]:
        scalars = torch.from_numpy(arrays.scalars).to(device)  # (B, K)
    label = torch.from_numpy(arrays.label).to(device)  # (B,)
    return Batch(sequence, signals, scalars, label)
