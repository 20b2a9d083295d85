"""What the quality report of a store draws, from the store's inner rings alone.

N genes in store order, L positions in bp, B bins along a window.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prism_ray.store import Store
from prism_ray.store.quality import CellTypeCounts, CellTypeReport, GeneSummary, comparable, examine, read_counts
from prism_ray.store.regions import GeneTrack, chrom_bounds, compare, window_bounds
from prism_ray.store.tally import centre_means, flank_means

PROFILE_BP = 10_000
"""Longest stretch around the TSS that is read, in bp."""
BIN_BP = 50
"""Length of a bin of a profile in bp; a tenth of the half window where that is below 500 bp."""
TERTILES = ("lowest third", "middle third", "highest third")
LABEL_BINS = 30
LABEL_COLUMNS = ["cell_type", "low", "high", "n_genes"]
PROFILE_COLUMNS = ["signal", "tertile", "n_genes", "distance_bp", "mean"]
CHROM_COLUMNS = ["signal", "chrom", "n_genes", "correlation"]
REGION_COLUMNS = ["signal", "chrom", "gene", "tss", "n_genes", "correlation"]
_FEWEST_BINS = 10
_BLOCK_BYTES = 128 << 20


@dataclass(frozen=True)
class CellTypeInfo:
    """One cell type of a store.

    Attributes:
        name: of the cell type.
        genes: TSS, label and means around the TSS of every gene.
        report: what is found in them, and what the build counted.
        profiles: mean of each signal by distance from the TSS and third of the label, columns PROFILE_COLUMNS.
        transforms: transform of each of its signals, by name.
    """

    name: str
    genes: GeneSummary
    report: CellTypeReport
    profiles: pd.DataFrame
    transforms: dict[str, str]


def read_cell_types(store: Store) -> list[CellTypeInfo]:
    """Every cell type of a store, chromosome by chromosome: 128 MiB of windows, or one signal of one, at a time.

    Raises:
        StoreError: a file or the build report is damaged.
    """
    counts = read_counts(store.path)
    transform_of: dict[str, str] = {signal.name: signal.transform for signal in store.description.signals}
    found = []
    for name in store.cell_types:
        transforms = {signal: transform_of[signal] for signal in store.signals_of(name)}
        genes, profiles = _read_cell_type(store, name)
        report = examine(genes, transforms, counts.get(name, CellTypeCounts()))
        found.append(CellTypeInfo(name, genes, report, profiles, transforms))
    return found


def label_info(cells: Sequence[CellTypeInfo]) -> pd.DataFrame:
    """Genes by label, in bins that all cell types share: columns LABEL_COLUMNS."""
    edges = np.histogram_bin_edges(np.concatenate([cell.genes.label for cell in cells]), LABEL_BINS)
    rows = []
    for cell in cells:
        n_genes = np.histogram(cell.genes.label, edges)[0]
        rows += [(cell.name, *row) for row in zip(edges[:-1], edges[1:], n_genes, strict=True)]
    return pd.DataFrame(rows, columns=LABEL_COLUMNS)


def chrom_info(cell: CellTypeInfo) -> pd.DataFrame:
    """Correlation with the label by signal and chromosome, NaN where one is constant: columns CHROM_COLUMNS."""
    rows = [
        (name, chrom, cell.report.genes_per_chrom[chrom], np.nan if r is None else r)
        for name, signal in cell.report.signals.items()
        for chrom, r in signal.chrom_correlations.items()
    ]
    return pd.DataFrame(rows, columns=CHROM_COLUMNS)


def region_info(cell: CellTypeInfo) -> pd.DataFrame:
    """Correlation with the label over windows of genes along the genome: columns REGION_COLUMNS.

    `gene` is the middle of the window, counted from the first gene of the first chromosome; a chromosome too short
    for windows is one. The correlation is NaN where signal or label is constant.
    """
    genes = cell.genes
    windows = window_bounds(genes.chrom)
    short = [
        (a, b) for a, b in chrom_bounds(genes.chrom).values() if not ((windows[:, 0] >= a) & (windows[:, 1] <= b)).any()
    ]
    bounds = np.array(sorted([*map(tuple, windows.tolist()), *short]), dtype=np.int64).reshape(-1, 2)
    parts = []
    for name, transform in cell.transforms.items():
        track = GeneTrack(genes.chrom, genes.tss, genes.label, comparable(genes.centres[name], transform))
        columns = {
            "signal": name,
            "chrom": genes.chrom[bounds[:, 0]],
            "gene": bounds.mean(axis=1),
            "tss": genes.tss[bounds.mean(axis=1).astype(np.int64)],
            "n_genes": bounds[:, 1] - bounds[:, 0],
            "correlation": compare(track, bounds).correlation,
        }
        parts.append(pd.DataFrame(columns, columns=REGION_COLUMNS))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=REGION_COLUMNS)


def thirds(label: NDArray[np.float64]) -> NDArray[np.int64]:
    """Third of each gene by its label, (N,): 0 lowest to 2 highest; equal labels are never parted."""
    low, high = np.quantile(label, (1.0 / 3.0, 2.0 / 3.0))
    return np.where(label <= low, 0, np.where(label <= high, 1, 2))


def binned(values: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Middle of each bin in bp from the TSS, (B,), and the mean of each row in it, (N, B), of windows (N, L)."""
    half = values.shape[1] // 2
    width = BIN_BP if half >= _FEWEST_BINS * BIN_BP else max(1, half // _FEWEST_BINS)
    n_side = half // width
    inner = values[:, half - n_side * width : half + n_side * width]
    means = inner.reshape(len(values), 2 * n_side, width).mean(axis=2, dtype=np.float64)
    return np.arange(-n_side, n_side) * width + width // 2, means


def _read_cell_type(store: Store, cell_type: str) -> tuple[GeneSummary, pd.DataFrame]:
    table = store.genes(cell_type)
    label = table["label"].to_numpy(np.float64)
    chrom = table["chrom"].to_numpy().astype(np.str_)
    third = thirds(label)
    names = store.signals_of(cell_type)
    centres: dict[str, list[NDArray[np.float64]]] = {name: [] for name in names}
    flanks: dict[str, list[NDArray[np.float64]]] = {name: [] for name in names}
    sums: dict[str, list[NDArray[np.float64]]] = {name: [] for name in names}
    distance = np.zeros(0, dtype=np.int64)
    for name, genes, values in _blocks(store, cell_type, names, table["gene_id"].tolist(), chrom):
        centres[name].append(centre_means(values))
        beside = flank_means(values)
        flanks[name] += [] if beside is None else [beside]
        distance, means = binned(values)
        sums[name].append(np.stack([means[third[genes] == number].sum(axis=0) for number in range(len(TERTILES))]))
    profiles = [row for name in names for row in _profile_rows(name, distance, np.sum(sums[name], axis=0), third)]
    summary = GeneSummary(
        chrom=chrom,
        tss=table["tss"].to_numpy(np.int64),
        label=label,
        centres={name: np.concatenate(parts) for name, parts in centres.items()},
        flanks={name: np.concatenate(parts) for name, parts in flanks.items() if parts},
    )
    return summary, pd.DataFrame(profiles, columns=PROFILE_COLUMNS)


def _blocks(
    store: Store, cell_type: str, names: Sequence[str], ids: list[str], chrom: NDArray[np.str_]
) -> Iterator[tuple[str, slice, NDArray[np.float32]]]:
    """Windows of each signal, chromosome by chromosome: signal, genes of the chromosome, (n, L)."""
    window_bp = min(store.window_bp, PROFILE_BP)
    for start, stop in chrom_bounds(chrom).values():
        # Loading looks all genes up once: as many signals at a time as the memory allows.
        n_signals = max(1, _BLOCK_BYTES // ((stop - start) * window_bp * 4))
        for first in range(0, len(names), n_signals):
            chosen = names[first : first + n_signals]
            arrays = store.load(window_bp, chosen, cell_type, ids[start:stop], sequence=False, scalars=())
            for index, name in enumerate(chosen):
                yield name, slice(start, stop), np.ascontiguousarray(arrays.signals[:, :, index])


def _profile_rows(
    name: str, distance: NDArray[np.int64], sums: NDArray[np.float64], third: NDArray[np.int64]
) -> list[tuple[str, str, int, int, float]]:
    """Rows of PROFILE_COLUMNS of one signal; a third that holds no gene has none."""
    rows = []
    for number, tertile in enumerate(TERTILES):
        n_genes = int((third == number).sum())
        if n_genes:
            means = (sums[number] / n_genes).tolist()
            rows += [
                (name, tertile, n_genes, place, mean) for place, mean in zip(distance.tolist(), means, strict=True)
            ]
    return rows
