"""Inputs and label of genes as NumPy arrays: what a store's projection gives.

N genes, L positions in bp, S signals, K scalars.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class GeneArrays:
    """Inputs and label of N genes, one row each, all in one order.

    Attributes:
        gene_id: (N,) text.
        chrom: (N,) text, chromosome of the TSS.
        sequence: (N, L) uint8, A C G T N = 0 1 2 3 4, N beyond the chromosome; None where DNA was not asked for.
        signals: (N, L, S) float32 with the catalog's transform, 0 where missing or beyond the chromosome.
        scalars: (N, K) float32.
        label: (N,) float32 with the catalog's transform.
        signal_names: S names, in the order of the last axis of `signals`.
        scalar_names: K names, in the order of the last axis of `scalars`.
        window_bp: L; the window is [tss - L/2, tss + L/2), 0-based, half-open, on the forward strand.
    """

    gene_id: NDArray[np.str_]
    chrom: NDArray[np.str_]
    sequence: NDArray[np.uint8] | None
    signals: NDArray[np.float32]
    scalars: NDArray[np.float32]
    label: NDArray[np.float32]
    signal_names: tuple[str, ...]
    scalar_names: tuple[str, ...]
    window_bp: int

    def __len__(self) -> int:
        return len(self.gene_id)

    def inputs(self) -> dict[str, NDArray[Any]]:
        """What there is of `sequence`, `signals` and `scalars`, by these names."""
        arrays = {"sequence": self.sequence, "signals": self.signals, "scalars": self.scalars}
        return {name: array for name, array in arrays.items() if array is not None and array.shape[-1]}

    def take(self, index: ArrayLike) -> GeneArrays:
        """Rows `index` in that order, as copies; a boolean mask of length N is allowed too."""
        rows = np.asarray(index)
        if rows.dtype != np.bool_:
            # An empty list becomes float64 in NumPy, which no array can be indexed with.
            rows = rows.astype(np.int64, casting="same_kind") if rows.size else rows.astype(np.int64)
        return GeneArrays(
            gene_id=self.gene_id[rows],
            chrom=self.chrom[rows],
            sequence=None if self.sequence is None else self.sequence[rows],
            signals=self.signals[rows],
            scalars=self.scalars[rows],
            label=self.label[rows],
            signal_names=self.signal_names,
            scalar_names=self.scalar_names,
            window_bp=self.window_bp,
        )

    def cut(self, window_bp: int) -> GeneArrays:
        """The same genes with a shorter window around their TSS, as views.

        Args:
            window_bp: its length, even, at most L.
        """
        assert 0 < window_bp <= self.window_bp, f"a window of {self.window_bp} bp cannot be cut to {window_bp}"
        start = (self.window_bp - window_bp) // 2
        inside = slice(start, start + window_bp)
        return replace(
            self,
            sequence=None if self.sequence is None else self.sequence[:, inside],
            signals=self.signals[:, inside],
            window_bp=window_bp,
        )

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays together."""
        arrays = [self.gene_id, self.chrom, self.signals, self.scalars, self.label]
        if self.sequence is not None:
            arrays.append(self.sequence)
        return sum(array.nbytes for array in arrays)
