"""Row groups of a store: what is read at a time, and how many bytes that is.

G row groups of a cell type.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class RowGroups:
    """Row groups of a cell type with the bytes that a projection takes of each.

    Attributes:
        starts: (G,) store row of the first gene of each, ascending.
        n_bytes: (G,) compressed bytes of the columns wanted.
    """

    starts: NDArray[np.int64]
    n_bytes: NDArray[np.int64]

    def numbers(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Number of the row group that each gene is in, by its store row."""
        return np.searchsorted(self.starts, rows, side="right") - 1

    def of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Numbers of the row groups that one load of genes reads, by their store rows: each that has one, whole."""
        return np.unique(self.numbers(rows))

    def bytes_of(self, rows: NDArray[np.int64]) -> int:
        """Bytes that one load of genes reads, by their store rows."""
        return int(self.n_bytes[self.of(rows)].sum())
