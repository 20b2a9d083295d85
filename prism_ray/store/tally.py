"""What is counted while a partition is written; what a build reports is made of it.

n genes of a row group, L positions in bp.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from prism_ray.store.layout import GeneRows
from prism_ray.store.precision import Rounding
from prism_ray.store.schema import FileEntry, StoreModel

CENTRE_BP = 2000
"""Length of the stretch around the TSS over which a signal is averaged, in bp."""
FLANK_BP = 5000
"""Distance from the TSS up to which the flanks of that stretch reach, in bp, or to the window's end."""
_CODE_N = 4


class SignalStatistics(StoreModel):
    """One signal over the genes of a partition."""

    n_missing: int
    """Bases inside the chromosome for which the source has no value."""
    n_inside: int
    """Bases inside the chromosome."""
    centre_means: tuple[float, ...]
    """Mean of the stored values in the 2 kb around each TSS, or in the window where that is shorter."""
    flank_means: tuple[float, ...] | None = None
    """Mean of the stored values 1 to 5 kb from each TSS, or to the window's end; null where it is below 4 kb."""
    rounding: Rounding | None
    """What storing it as float16 cost; null where it is float32."""


class PartitionStatistics(StoreModel):
    """What was found while one partition was written."""

    n_padded: int
    """Genes whose window reaches beyond an end of the chromosome."""
    n_unknown_bases: int | None
    """Bases inside the chromosome whose letter is N; null where there is no DNA."""
    n_mostly_unknown: int | None = None
    """Genes with N for more than half of the bases that lie inside the chromosome; null where there is no DNA."""
    n_inside: int
    """Bases of all windows that lie inside the chromosome."""
    tss: tuple[int, ...]
    """TSS of each gene, 0-based, ascending."""
    labels: tuple[float, ...]
    """Label of each gene."""
    signals: dict[str, SignalStatistics]
    """Signals by name."""


class PartitionRecord(StoreModel):
    """A partition that is written: its file and its statistics."""

    entry: FileEntry
    """The file."""
    statistics: PartitionStatistics
    """What is in it."""


class PartitionTally:
    """Counts over the row groups of one partition.

    Args:
        chrom_size: length of the chromosome in bp.
        window_bp: length of the window, L.
    """

    def __init__(self, chrom_size: int, window_bp: int) -> None:
        self._chrom_size = chrom_size
        self._half = window_bp // 2
        self._n_padded = self._n_inside = 0
        self._n_unknown: int | None = None
        self._n_mostly_unknown: int | None = None
        self._tss: list[int] = []
        self._labels: list[float] = []
        self._n_missing: dict[str, int] = {}
        self._means: dict[str, list[float]] = {}
        self._flanks: dict[str, list[float]] = {}
        self._rounding: dict[str, Rounding] = {}

    def add(self, rows: GeneRows, n_missing: Mapping[str, int], rounding: Mapping[str, Rounding]) -> None:
        """Count one row group.

        Args:
            rows: what was written.
            n_missing: bases inside the chromosome without a value, by signal.
            rounding: what the writer returned for it.
        """
        tss = rows.genes["tss"].to_numpy(np.int64)
        inside = np.minimum(tss + self._half, self._chrom_size) - np.maximum(tss - self._half, 0)
        self._n_inside += int(inside.sum())
        self._n_padded += int((inside < 2 * self._half).sum())
        self._tss += tss.tolist()
        self._labels += rows.genes["label"].to_numpy(np.float64).tolist()
        if rows.sequence is not None:
            # Positions beyond the chromosome are N too, and are no unknown bases.
            unknown = (rows.sequence == _CODE_N).sum(axis=1) - (rows.sequence.shape[1] - inside)
            self._n_unknown = (self._n_unknown or 0) + int(unknown.sum())
            self._n_mostly_unknown = (self._n_mostly_unknown or 0) + int((2 * unknown > inside).sum())
        for name, values in rows.signals.items():
            self._n_missing[name] = self._n_missing.get(name, 0) + n_missing[name]
            self._means.setdefault(name, []).extend(centre_means(values).tolist())
            flanks = flank_means(values)
            if flanks is not None:
                self._flanks.setdefault(name, []).extend(flanks.tolist())
        for name, part in rounding.items():
            self._rounding[name] = self._rounding.get(name, Rounding()) + part

    def statistics(self) -> PartitionStatistics:
        """All row groups together."""
        return PartitionStatistics(
            n_padded=self._n_padded,
            n_unknown_bases=self._n_unknown,
            n_mostly_unknown=self._n_mostly_unknown,
            n_inside=self._n_inside,
            tss=tuple(self._tss),
            labels=tuple(self._labels),
            signals={
                name: SignalStatistics(
                    n_missing=self._n_missing[name],
                    n_inside=self._n_inside,
                    centre_means=tuple(means),
                    flank_means=tuple(self._flanks[name]) if name in self._flanks else None,
                    rounding=self._rounding.get(name),
                )
                for name, means in self._means.items()
            },
        )


def centre_means(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """Mean of each row over the 2 kb around the TSS, (n,), from windows (n, L); over all of a shorter window."""
    half = values.shape[1] // 2
    reach = min(half, CENTRE_BP // 2)
    means: NDArray[np.float64] = values[:, half - reach : half + reach].mean(axis=1, dtype=np.float64)
    return means


def flank_means(values: NDArray[np.float32]) -> NDArray[np.float64] | None:
    """Mean of each row over both flanks of the centre, (n,), from windows (n, L); None where L is below 4 kb."""
    half = values.shape[1] // 2
    if half < CENTRE_BP:
        return None
    inner, outer = CENTRE_BP // 2, min(half, FLANK_BP)
    left = values[:, half - outer : half - inner].mean(axis=1, dtype=np.float64)
    right = values[:, half + inner : half + outer].mean(axis=1, dtype=np.float64)
    means: NDArray[np.float64] = (left + right) / 2.0
    return means
