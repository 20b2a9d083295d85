"""Raw contacts of one chromosome, read from the tables of a cooler.

A cooler lists the pixels of the upper triangle by row, then column, of all chromosomes together; only those
with both bins on the chromosome are taken here. n bins.

Source: cooler schema, version 3.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

# Whole rows are read at a time, as many as have this many pixels: bounds the memory, 12 bytes or so a pixel.
PIXELS_A_READ = 2_000_000

Pixels = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[Any]]


class ContactPixels:
    """Contacts among the bins of a chromosome.

    Args:
        group: the open HDF5 group of a cooler.
        first_bin: number of the chromosome's first bin in the file.
        last_bin: number after its last.
        symmetric: whether only the upper triangle is stored.

    Raises:
        OSError, KeyError: a damaged file; from the methods, too.
    """

    def __init__(self, group: Any, first_bin: int, last_bin: int, *, symmetric: bool) -> None:
        # Looking a table up by its name costs as much as reading some of it.
        self._columns, self._counts = group["pixels"]["bin2_id"], group["pixels"]["count"]
        self._first_bin = first_bin
        self._symmetric = symmetric
        self._offsets: NDArray[np.int64] = group["indexes"]["bin1_offset"][first_bin : last_bin + 1].astype(np.int64)
        self.n_bins = last_bin - first_bin

    def band(self, first: int, last: int, reach: int) -> NDArray[np.float64]:
        """Contacts among the bins [first, last) of the chromosome, (n, n); 0 where there is none.

        Pairs of bins more than `reach` bins apart are 0, too: most pixels of a deep map, which nobody looks at.
        """
        side = last - first
        matrix = np.zeros(side * side, dtype=np.float64)
        for row, column, count in self._read(first, last):
            distance = column - row
            kept = np.flatnonzero((distance <= reach) & (distance >= -reach) & (column >= first) & (column < last))
            row, column, count = row[kept] - first, column[kept] - first, count[kept]
            matrix += np.bincount(row * side + column, count, side * side)
            if self._symmetric:
                mirrored = row != column
                matrix += np.bincount(column[mirrored] * side + row[mirrored], count[mirrored], side * side)
        return matrix.reshape(side, side)

    def sums(self, weight: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
        """Sum of each row of the whole chromosome's matrix, (n_bins,), of c_ij w_i w_j where weights are given."""
        total = np.zeros(self.n_bins, dtype=np.float64)
        for row, column, count in self._read(0, self.n_bins):
            inside = (column >= 0) & (column < self.n_bins)
            row, column, count = row[inside], column[inside], count[inside].astype(np.float64)
            if weight is not None:
                count = count * (weight[row] * weight[column])
            total += np.bincount(row, count, self.n_bins)
            if self._symmetric:
                mirrored = row != column
                total += np.bincount(column[mirrored], count[mirrored], self.n_bins)
        return total

    def _read(self, first: int, last: int) -> Iterator[Pixels]:
        """Rows and columns, from the chromosome's first bin, and counts of the rows [first, last)."""
        while first < last:
            fits = int(np.searchsorted(self._offsets, self._offsets[first] + PIXELS_A_READ, side="right")) - 1
            stop = min(max(fits, first + 1), last)
            part = slice(int(self._offsets[first]), int(self._offsets[stop]))
            row = np.repeat(np.arange(first, stop), np.diff(self._offsets[first : stop + 1]))
            column = self._columns[part].astype(np.int64, copy=False)
            column -= self._first_bin
            yield row, column, self._counts[part]
            first = stop


def margin_weights(pixels: ContactPixels, kind: Literal["vc", "vc_sqrt"]) -> NDArray[np.float64]:
    """Weights w of vanilla coverage, (n_bins,): the contact of two bins is c_ij w_i w_j; NaN for bins without contacts.

    w_i is in proportion to 1 / v_i (vc) or 1 / sqrt(v_i) (vc_sqrt), v_i being the sum of row i of the chromosome's
    matrix, and such that the sum over the matrix stays what it is.

    Source: Lieberman-Aiden et al. 2009; the scale is that of Juicer.
    """
    margins = pixels.sums()
    empty = margins == 0
    safe = np.where(empty, 1.0, margins)
    weight = np.where(empty, 0.0, 1.0 / (safe if kind == "vc" else np.sqrt(safe)))
    if not empty.all():
        weight *= np.sqrt(margins.sum() / pixels.sums(weight).sum())
    return np.where(empty, np.nan, weight)
