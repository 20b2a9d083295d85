"""Labels summed from CAGE tracks around each TSS.

N genes, L positions in bp.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prism_ray.errors import CatalogError, FaultList
from prism_ray.features.genes import NO_STRAND
from prism_ray.features.genome_check import check_chroms
from prism_ray.features.signals import SignalReader, open_signal
from prism_ray.features.source_parts import LabelBigWig, SignalSource
from prism_ray.features.sources import Catalog
from prism_ray.features.tables import counted_genes
from prism_ray.features.transforms import transformed

# Windows are summed in portions of this many values, so that wide ones fit in memory.
_PORTION = 8_000_000


def open_label(file: str, path: Path) -> SignalReader:
    """Reader of a label's bigWig: raw values, none of them left out.

    Raises:
        CatalogError: the file is missing, damaged or no bigWig.
    """
    return open_signal(SignalSource(file=file, kind="bigwig", role="foreground"), path)


def check_tracks(catalog: Catalog, source: LabelBigWig, where: str, faults: FaultList) -> None:
    """Add a fault for each of a label's tracks that cannot be opened."""
    for field, file in (("bigwig", source.bigwig), ("bigwig_minus", source.bigwig_minus)):
        if file is None:
            continue
        reader = _opened(catalog.resolve(file), file, f"{where}.{field}: {file}", faults)
        if reader is not None:
            reader.close()


def _opened(path: Path, file: str, where: str, faults: FaultList) -> SignalReader | None:
    if not path.is_file():
        faults.add(where, f"{path}: no such file", "give the path from where the catalog lies")
        return None
    try:
        return open_label(file, path)
    except CatalogError as error:
        faults.extend(error.faults)
        return None


def read_cage(
    catalog: Catalog, source: LabelBigWig, genes: pd.DataFrame, where: str, faults: FaultList
) -> NDArray[np.float64] | None:
    """Transformed label of each gene, (N,) float64: the sum over [tss - half_width_bp, tss + half_width_bp).

    Bases beyond the chromosome and bases without a value count 0. A reverse-strand track counted downwards from 0
    gives the sum of what it counts.

    Args:
        catalog: resolves the paths of the tracks.
        source: the tracks, and how wide the sum is.
        genes: what `read_genes` gives.
        where: place of the label in the catalog.
        faults: takes what is wrong with the tracks; None comes back then.
    """
    before = len(faults)
    if source.bigwig_minus is not None and genes["strand"].eq(NO_STRAND).any():
        problem = "asks for the strand of each gene, and genes.columns.strand is null"
        faults.add(f"{where}.bigwig_minus", problem, "name the column with + and -, or leave bigwig_minus out")
        return None
    label = np.zeros(len(genes), dtype=np.float64)
    for field, file, rows in _files(source, genes):
        place = f"{where}.{field}: {file}"
        reader = _opened(catalog.resolve(file), file, place, faults)
        if reader is None:
            continue
        may_count_down = field == "bigwig_minus"
        sums = _sums(reader, genes.iloc[rows], 2 * source.half_width_bp, may_count_down, place, faults)
        if sums is not None:
            label[rows] = sums
    if len(faults) > before:
        return None
    if not label.any():
        width = f"within {source.half_width_bp} bp of any TSS"
        faults.add(f"{where}: {source.bigwig}", f"holds no value {width}", "give the track of this data set's assembly")
    negative = label < 0
    if source.transform == "log10p1" and negative.any():
        problem = counted_genes(negative, "the label is under 0, which log10p1 cannot take", genes["gene_id"])
        faults.add(f"{where}: {source.bigwig}", problem, "set transform: none, or give a track of counts")
    return None if len(faults) > before else transformed(label, source.transform)


def _files(source: LabelBigWig, genes: pd.DataFrame) -> Iterator[tuple[str, str, NDArray[np.int64]]]:
    """Field, file and row numbers of the genes that are read from it."""
    if source.bigwig_minus is None:
        yield "bigwig", source.bigwig, np.arange(len(genes))
        return
    minus = genes["strand"].eq("-").to_numpy(dtype=np.bool_)
    yield "bigwig", source.bigwig, np.flatnonzero(~minus)
    yield "bigwig_minus", source.bigwig_minus, np.flatnonzero(minus)


def _sums(
    opened: SignalReader, genes: pd.DataFrame, width_bp: int, may_count_down: bool, where: str, faults: FaultList
) -> NDArray[np.float64] | None:
    """Sum around each gene's TSS, (n,) float64, of one track, which is closed; None where there are faults."""
    before = len(faults)
    sums = np.zeros(len(genes), dtype=np.float64)
    try:
        with opened as reader:
            check_chroms(genes, reader.chrom_sizes, where, faults)
            if len(faults) > before:
                return None
            lowest, highest = float(getattr(reader, "lowest", 0.0)), 0.0
            for rows, values in _portions(reader, genes, width_bp):
                sums[rows] = values.sum(axis=1, dtype=np.float64)
                lowest, highest = min(lowest, float(values.min())), max(highest, float(values.max()))
    except CatalogError as error:
        faults.extend(error.faults)
        return None
    if not may_count_down or lowest >= 0:
        return sums
    if highest > 0:
        problem = f"holds values on both sides of 0, from {lowest:g} to {highest:g}"
        faults.add(where, problem, "give a track that counts the reverse strand upwards or downwards from 0")
        return None
    return -sums


def _portions(
    reader: SignalReader, genes: pd.DataFrame, width_bp: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """Row numbers and windows (n, width_bp) of some genes at a time, of one chromosome."""
    tss = genes["tss"].to_numpy(dtype=np.int64)
    chroms = genes["chrom"].to_numpy(dtype=object)
    step = max(1, _PORTION // width_bp)
    for chrom in dict.fromkeys(chroms):
        members = np.flatnonzero(chroms == chrom)
        for first in range(0, len(members), step):
            rows = members[first : first + step]
            yield rows, reader.windows(chrom, tss[rows], width_bp).values
