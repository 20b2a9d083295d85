"""The genes of a catalog: where the transcription of each one starts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from prism_ray.errors import FaultList
from prism_ray.features.gtf import read_gtf
from prism_ray.features.source_parts import GeneGtf, GeneTable
from prism_ray.features.sources import Catalog
from prism_ray.features.tables import counted, counted_genes, numbers, read_table

GENE_COLUMNS = ("gene_id", "gene_name", "chrom", "tss", "strand")
NO_STRAND = "."
"""Strand of every gene of a table without strands."""
_STRAND_FIX = "name the column with + and -, or leave strand_aware out"


def natural_order(chroms: Iterable[str]) -> list[str]:
    """Chromosome names, each once, with numbers in order: chr2 before chr10 before chrX."""

    def key(name: str) -> list[tuple[bool, int, str]]:
        parts = re.findall(r"\d+|\D+", name)
        return [(not part.isdigit(), int(part) if part.isdigit() else 0, part) for part in parts]

    return sorted(set(chroms), key=key)


def read_genes(catalog: Catalog, where: str, faults: FaultList) -> pd.DataFrame | None:
    """Genes of a catalog, from its table or its GTF; None where there are faults.

    Returns:
        Columns gene_id, gene_name, chrom (text), tss (int64, 0-based) and strand (+ or -; `.` where the table has no
        strands), sorted by chromosome in natural order, tss and gene_id.
    """
    source = catalog.genes
    path, place = catalog.resolve(source.file), f"{where}: {source.file}"
    if isinstance(source, GeneGtf):
        genes = read_gtf(path, source, place, faults)
    else:
        genes = _read_gene_table(path, source, where, faults)
        if catalog.strand_aware and source.columns.strand is None:
            problem = "asks for the strand of each gene, and genes.columns.strand is null"
            faults.add(f"{catalog.path}: strand_aware", problem, _STRAND_FIX)
    return None if genes is None else sort_genes(genes[list(GENE_COLUMNS)])


def _read_gene_table(path: Path, source: GeneTable, where: str, faults: FaultList) -> pd.DataFrame | None:
    names = {key: column for key, column in source.columns.model_dump().items() if column is not None}
    table = read_table(path, names.values(), where, faults)
    if table is None:
        return None
    before = len(faults)
    place = f"{where}: {source.table}"
    genes = pd.DataFrame({key: table[column].str.strip() for key, column in names.items()})
    if "gene_name" not in genes:
        genes["gene_name"] = genes["gene_id"]
    _check_text(genes, place, faults)
    if "strand" not in genes:
        genes["strand"] = NO_STRAND
    tss = numbers(genes["tss"], "tss", place, faults)
    absent = np.isnan(tss)
    if absent.any() and len(faults) == before:
        faults.add(place, counted(absent, "there is no tss", genes["gene_id"]))
    fraction = ~absent & (tss != np.floor(tss))
    if fraction.any():
        faults.add(place, counted(fraction, "tss is not a whole number", genes["tss"]))
    if len(faults) > before:
        return None
    genes["tss"] = tss.astype(np.int64) - source.tss_base
    return genes


def sort_genes(genes: pd.DataFrame) -> pd.DataFrame:
    """The same rows by chromosome in natural order, tss and gene_id; index from 0."""
    rank = {chrom: position for position, chrom in enumerate(natural_order(genes["chrom"]))}
    ordered = genes.assign(_rank=genes["chrom"].map(rank)).sort_values(["_rank", "tss", "gene_id"], kind="stable")
    return ordered.drop(columns="_rank").reset_index(drop=True)


def _check_text(genes: pd.DataFrame, where: str, faults: FaultList) -> None:
    for column in ("gene_id", "chrom"):
        empty = genes[column].eq("").to_numpy(dtype=np.bool_)
        if empty.any():
            faults.add(where, counted(empty, f"{column} is empty", genes["gene_id"]))
    twice = genes["gene_id"].duplicated(keep=False).to_numpy(dtype=np.bool_)
    if twice.any():
        faults.add(where, counted(twice, "gene_id is not unique", genes["gene_id"]), "keep one row a gene")
    if "strand" not in genes:
        return
    strand = ~genes["strand"].isin(["+", "-"]).to_numpy(dtype=np.bool_)
    if strand.any():
        problem = counted(strand, "strand is neither + nor -", genes["strand"])
        faults.add(where, problem, "write + or -; set columns.strand: null for a table without strands")


def check_positions(genes: pd.DataFrame, chrom_sizes: Mapping[str, int], where: str, faults: FaultList) -> None:
    """Add a fault where a TSS lies outside its chromosome; chromosomes of unknown length are left to others."""
    size = genes["chrom"].map(dict(chrom_sizes)).to_numpy(dtype=np.float64)
    tss = genes["tss"].to_numpy()
    outside = (tss < 0) | (tss >= size)
    if outside.any():
        place = genes["gene_id"] + " at " + genes["chrom"] + ":" + genes["tss"].astype(str)
        faults.add(
            where,
            counted_genes(outside, "the TSS lies outside its chromosome", place),
            "check the assembly, and tss_base (0 or 1) of a gene table",
        )
