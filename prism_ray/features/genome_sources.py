"""Every track and FASTA of a catalog, opened once: what it holds of which chromosomes, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from prism_ray.errors import CatalogError, FaultList
from prism_ray.features.cage import open_label
from prism_ray.features.gene_windows import GeneWindowReader
from prism_ray.features.genes import natural_order
from prism_ray.features.genome_check import Genome, check_chroms
from prism_ray.features.sequence import ensure_index
from prism_ray.features.signals import open_signal
from prism_ray.features.source_parts import LabelBigWig, SignalSource
from prism_ray.features.sources import Catalog
from prism_ray.features.tables import counted_genes


def read_genomes(catalog: Catalog, faults: FaultList) -> list[Genome]:
    """Chromosome lengths of the FASTA and of every track that has them; makes the FASTA index where there is none.

    A label's track that cannot be opened is left to `read_cell_type`, which says why.
    """
    return [*_sequence(catalog, faults), *_signals(catalog, faults), *_labels(catalog)]


def _sequence(catalog: Catalog, faults: FaultList) -> Iterator[Genome]:
    if catalog.sequence is None:
        return
    path = catalog.resolve(catalog.sequence.fasta)
    where = f"{catalog.path}: sequence.fasta"
    if not path.is_file():
        faults.add(where, f"{path}: no such file", "give a FASTA file, or leave `sequence` out")
        return
    try:
        sizes = ensure_index(path)
    except CatalogError as error:
        faults.extend(error.faults)
        return
    yield Genome(f"{where} ({path.name})", sizes, catalog.sequence.partial, holds_tss=True)


def _signals(catalog: Catalog, faults: FaultList) -> Iterator[Genome]:
    for where, source, path in _named_signals(catalog):
        if source.kind == "gene_windows":
            continue
        if not path.is_file():
            faults.add(where, f"{path}: no such file", "give the path from where the catalog lies")
            continue
        try:
            with open_signal(source, path) as reader:
                sizes = dict(reader.chrom_sizes)
                lowest = getattr(reader, "lowest", 0)
        except CatalogError as error:
            faults.extend(error.faults)
            continue
        if lowest < 0 and source.transform != "none":
            problem = f"{path.name} holds values under 0, which {source.transform} cannot take"
            faults.add(where, problem, "set transform: none")
        # A bedGraph says where its intervals end, not where its chromosomes do.
        yield Genome(f"{where} ({path.name})", sizes, partial=source.kind == "bedgraph")


def _labels(catalog: Catalog) -> Iterator[Genome]:
    for name, cell in catalog.cell_types.items():
        if not isinstance(cell.label, LabelBigWig):
            continue
        for field in ("bigwig", "bigwig_minus"):
            file = getattr(cell.label, field)
            if file is None or not (path := catalog.resolve(file)).is_file():
                continue
            try:
                with open_label(file, path) as reader:
                    sizes = dict(reader.chrom_sizes)
            except CatalogError:
                continue
            where = f"{catalog.path}: cell_types.{name}.label.{field} ({path.name})"
            # Which of its chromosomes are needed depends on the strands of the genes.
            yield Genome(where, sizes, holds_genes=False)


def _named_signals(catalog: Catalog) -> Iterator[tuple[str, SignalSource, Path]]:
    """Place in the catalog, settings and path of every signal."""
    for cell_name, cell in catalog.cell_types.items():
        for name, source in cell.signals.items():
            where = f"{catalog.path}: cell_types.{cell_name}.signals.{name}"
            yield where, source, catalog.resolve(source.file)


def check_gene_windows(
    catalog: Catalog, genes: pd.DataFrame | None, chrom_sizes: Mapping[str, int], faults: FaultList
) -> None:
    """Add a fault for each signal of kind gene_windows that cannot be opened, or does not hold every gene.

    Args:
        catalog: the catalog.
        genes: what `read_genes` gives; without it the files are opened and no more.
        chrom_sizes: length of each chromosome in bp, from the sources that know it.
        faults: takes the faults.
    """
    for where, source, path in _named_signals(catalog):
        if source.kind != "gene_windows":
            continue
        try:
            with GeneWindowReader(path, source.transform) as reader:
                if genes is not None:
                    _check_windows(reader, genes, chrom_sizes, f"{where} ({path.name})", faults)
        except CatalogError as error:
            faults.extend(error.faults)


def _check_windows(
    reader: GeneWindowReader, genes: pd.DataFrame, chrom_sizes: Mapping[str, int], where: str, faults: FaultList
) -> None:
    before = len(faults)
    check_chroms(genes, reader.chrom_sizes, where, faults)
    if len(faults) > before:
        return
    unknown = [chrom for chrom in natural_order(genes["chrom"]) if chrom not in chrom_sizes]
    if unknown:
        problem = f"does not say how long {', '.join(unknown)} is, and no other source does"
        faults.add(where, problem, "name a FASTA as `sequence`, or a bigWig")
    chroms, tss = genes["chrom"].to_numpy(dtype=object), genes["tss"].to_numpy(dtype=np.int64)
    lost = np.zeros(len(genes), dtype=np.bool_)
    for chrom in natural_order(genes["chrom"]):
        rows = np.flatnonzero(chroms == chrom)
        lost[rows] = ~reader.holds(chrom, tss[rows])
    if lost.any():
        names = genes["gene_id"] + " at " + genes["chrom"] + "_" + genes["tss"].astype(str)
        problem = counted_genes(lost, "there is no data set <chrom>_<tss>", names)
        faults.add(where, problem, "check tss_base (0 or 1) of a gene table, or leave these genes out")
