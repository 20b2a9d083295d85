"""Chromosomes of a catalog's sources, compared: with each other, with the genes and with the assembly's name."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import pandas as pd

from prism_ray.errors import FaultList
from prism_ray.features.genes import check_positions, natural_order
from prism_ray.features.naming import naming_mismatch

# Lengths in bp of chromosomes that tell assemblies apart. Source: UCSC chrom.sizes.
_MARKS: dict[str, dict[str, int]] = {
    "hg18": {"chr1": 247_249_719, "chrX": 154_913_754},
    "hg19": {"chr1": 249_250_621, "chrX": 155_270_560},
    "hg38": {"chr1": 248_956_422, "chrX": 156_040_895},
    "hs1": {"chr1": 248_387_328, "chrX": 154_259_566},
    "mm9": {"chr1": 197_195_432, "chrX": 166_650_296},
    "mm10": {"chr1": 195_471_971, "chrX": 171_031_299},
    "mm39": {"chr1": 195_154_279, "chrX": 169_476_592},
}
_ALSO_CALLED = {
    "ncbi36": "hg18",
    "grch37": "hg19",
    "grch38": "hg38",
    "t2t-chm13v2": "hs1",
    "chm13v2": "hs1",
    "mgscv37": "mm9",
    "ncbim37": "mm9",
    "grcm38": "mm10",
    "grcm39": "mm39",
}


@dataclass(frozen=True)
class Genome:
    """Chromosome lengths of one source, for comparison with the others.

    Attributes:
        where: place in the catalog, and name of the file.
        sizes: length of each chromosome in bp.
        partial: whether a chromosome may be longer than the source says.
        holds_tss: whether every TSS has to lie within these lengths all the same.
        holds_genes: whether every chromosome with a gene has to be there.
    """

    where: str
    sizes: dict[str, int]
    partial: bool = False
    holds_tss: bool = False
    holds_genes: bool = True


def merge_sizes(genomes: Collection[Genome], faults: FaultList) -> dict[str, int]:
    """Length of each chromosome that any source knows; sources that contradict each other are faults."""
    sizes: dict[str, int] = {}
    said_by: dict[str, str] = {}
    for genome in sorted(genomes, key=lambda item: item.partial):
        differing = []
        for chrom, size in genome.sizes.items():
            known = sizes.setdefault(chrom, size)
            said_by.setdefault(chrom, genome.where)
            if size > known or (size < known and not genome.partial):
                differing.append(f"{chrom} has {size} bp here and {known} bp in {said_by[chrom]}")
        if differing:
            more = f", and {len(differing) - 1} more such chromosomes" if len(differing) > 1 else ""
            faults.add(genome.where, f"{differing[0]}{more}", "use files of one assembly")
    return {chrom: sizes[chrom] for chrom in natural_order(sizes)}


def check_genes(genes: pd.DataFrame, genomes: Collection[Genome], faults: FaultList) -> None:
    """Add a fault for each source that lacks chromosomes with genes, or a TSS that it has to hold."""
    for genome in genomes:
        if genome.holds_genes:
            check_chroms(genes, genome.sizes, genome.where, faults)
    for genome in genomes:
        # A FASTA may be partial, but holds at least the TSS of every gene.
        if genome.partial and genome.holds_tss:
            check_positions(genes, genome.sizes, genome.where, faults)


def check_chroms(genes: pd.DataFrame, sizes: Mapping[str, int], where: str, faults: FaultList) -> None:
    """Add a fault where a source lacks chromosomes on which there are genes.

    Args:
        genes: what `read_genes` gives, or a part of it.
        sizes: chromosomes of the source.
        where: place in the catalog, and name of the file.
        faults: takes the fault.
    """
    lost = [chrom for chrom in natural_order(genes["chrom"]) if chrom not in sizes]
    if not lost:
        return
    if mismatch := naming_mismatch(lost, sizes):
        problem = f"chromosomes are named {mismatch[1]} here and {mismatch[0]} in the gene table"
        faults.add(where, problem, "name them alike")
        return
    n_genes = int(genes["chrom"].isin(lost).sum())
    problem = f"has no {', '.join(lost)}, where {n_genes} of {len(genes)} genes are"
    faults.add(where, problem, "give a file of the whole genome, or leave these genes out")


def check_assembly(assembly: str, genomes: Collection[Genome], faults: FaultList) -> None:
    """Add a fault for each source whose chromosomes have the length of another assembly than the catalog names.

    Assemblies that are not known here, and lengths that are no known assembly's, are left alone.
    """
    stated = known_assembly(assembly)
    if stated is None:
        return
    for genome in genomes:
        for chrom, size in genome.sizes.items():
            name = chrom if chrom.startswith("chr") else f"chr{chrom}"
            found = [other for other, marks in _MARKS.items() if marks.get(name) == size]
            if found and stated not in found:
                problem = f"has {chrom} of {size:,} bp, which is {found[0]}; the catalog says {assembly}"
                faults.add(genome.where, problem, "use files of one assembly, and name it")
                break


def known_assembly(assembly: str) -> str | None:
    """UCSC's name of an assembly, whatever its patch: GRCh38.p14 is hg38; None for one that is not known here."""
    stem = re.split(r"[._ ]", assembly.strip().lower())[0]
    return stem if stem in _MARKS else _ALSO_CALLED.get(stem)
