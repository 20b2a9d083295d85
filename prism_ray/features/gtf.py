"""Genes of a genome's annotation in GTF, as GENCODE and Ensembl publish it.

GTF counts bases from 1 and includes both ends; what comes back is 0-based. A gene's transcription starts at its first
base on the forward strand, and at its last base on the reverse strand.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from prism_ray.errors import FaultList, did_you_mean
from prism_ray.features.naming import naming_mismatch
from prism_ray.features.source_parts import GeneGtf

_N_FIELDS = 9
_LISTED = 3
_ATTRIBUTE = re.compile(r'(\w+)\s+(?:"([^"]*)"|([^\s";]+))')
_VERSION = re.compile(r"^(ENS[A-Z]*\d+)\.\d+")
_TYPE_ATTRIBUTES = ("gene_type", "gene_biotype")
_FIX = "give a GTF of GENCODE or Ensembl, as it was published"


@dataclass(frozen=True)
class _Gene:
    """One record of the feature `gene`; start and end as in the file, 1-based and closed."""

    line: int
    chrom: str
    start: int
    end: int
    strand: str
    gene_id: str
    gene_name: str
    gene_type: str

    @property
    def tss(self) -> int:
        """First transcribed base, 0-based."""
        return (self.end if self.strand == "-" else self.start) - 1


def without_version(gene_id: str) -> str:
    """An Ensembl identifier without its version; what follows the version stays, as in ENSG00000182378_PAR_Y.

    Identifiers of others are left as they are: in them, a number after a dot may tell two genes apart.
    """
    return _VERSION.sub(r"\1", gene_id)


def read_gtf(path: Path, source: GeneGtf, where: str, faults: FaultList) -> pd.DataFrame | None:
    """Genes of a GTF file that the catalog keeps, in the order of the file; None where there are faults.

    Args:
        path: the file.
        source: which gene types and chromosomes are kept.
        where: place in the catalog that names the file, and the file.
        faults: takes what is wrong with it.

    Returns:
        Columns gene_id (without version), gene_name (the identifier where the file has none), chrom, tss (int64,
        0-based) and strand (+ or -).
    """
    if not path.is_file():
        faults.add(where, f"{path}: no such file", "give the path of a GTF file, from where the catalog lies")
        return None
    before = len(faults)
    try:
        found, malformed = _records(path)
    except (OSError, EOFError, ValueError) as error:
        faults.add(where, f"{path} cannot be read as GTF ({error})", _FIX)
        return None
    if malformed:
        faults.add(where, f"{len(malformed)} lines are malformed, first {malformed[0]}", _FIX)
    elif not found:
        faults.add(where, "holds no record of the feature gene", _FIX)
    if len(faults) > before:
        return None
    genes = _kept(found, source, where, faults)
    if len(faults) == before:
        _check_kept(genes, source, where, faults)
    if len(faults) > before:
        return None
    columns = {name: [getattr(gene, name) for gene in genes] for name in ("gene_id", "gene_name", "chrom", "strand")}
    table = pd.DataFrame(columns, dtype="str")
    table["tss"] = pd.Series([gene.tss for gene in genes], dtype="int64")
    return table


def _records(path: Path) -> tuple[list[_Gene], list[str]]:
    """Genes of a file, and what is wrong with each malformed line."""
    genes, malformed = [], []
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            # Of millions of lines few are genes: the others are told apart without parsing them.
            head = line.split(b"\t", 3)
            if len(head) == 4:
                if head[2] != b"gene" or line.startswith(b"#"):
                    continue
                gene = _gene(line.decode("utf-8").rstrip("\r\n"), number)
                if isinstance(gene, _Gene):
                    genes.append(gene)
                else:
                    malformed.append(f"line {number}: {gene}")
            elif line.strip() and not line.startswith(b"#"):
                malformed.append(f"line {number}: {len(head)} fields between tabs, not {_N_FIELDS}")
    return genes, malformed


def _gene(line: str, number: int) -> _Gene | str:
    """A gene, or what is wrong with its line."""
    fields = line.split("\t")
    if len(fields) != _N_FIELDS:
        return f"{len(fields)} fields between tabs, not {_N_FIELDS}"
    chrom, _, _, start, end, _, strand, _, attributes = fields
    if not (start.isdecimal() and end.isdecimal() and int(start) >= 1):
        return f"start {start!r} and end {end!r} are not two numbers from 1 on"
    if int(end) < int(start):
        return f"end {end} is before start {start}"
    named = {match[1]: match[2] if match[2] is not None else match[3] for match in _ATTRIBUTE.finditer(attributes)}
    gene_id = without_version(named.get("gene_id", ""))
    if not gene_id or not chrom:
        return "there is no gene_id" if chrom else "there is no chromosome"
    gene_type = next((named[name] for name in _TYPE_ATTRIBUTES if name in named), "")
    gene_name = named.get("gene_name") or gene_id
    return _Gene(number, chrom, int(start), int(end), strand, gene_id, gene_name, gene_type)


def _kept(genes: list[_Gene], source: GeneGtf, where: str, faults: FaultList) -> list[_Gene]:
    """Genes of the types and chromosomes that are asked for; names that no gene has are faults."""
    types = {gene.gene_type for gene in genes if gene.gene_type}
    if source.gene_types and not types:
        faults.add(where, f"states no {' or '.join(_TYPE_ATTRIBUTES)} of its genes", "leave gene_types out")
    else:
        _check_known(source.gene_types, types, "gene type", where, faults)
    chroms = {gene.chrom for gene in genes}
    if mismatch := naming_mismatch((chrom for chrom in source.chroms if chrom not in chroms), chroms):
        faults.add(where, f"has no chromosome {mismatch[0]}, which it names {mismatch[1]}", "mend chroms")
    else:
        _check_known(source.chroms, chroms, "chromosome", where, faults)
    return [
        gene
        for gene in genes
        if (not source.gene_types or gene.gene_type in source.gene_types)
        and (not source.chroms or gene.chrom in source.chroms)
    ]


def _check_known(asked: Iterable[str], known: set[str], what: str, where: str, faults: FaultList) -> None:
    for name in asked:
        if name not in known:
            faults.add(where, f"has no gene of the {what} {name!r}", did_you_mean(name, known))


def _check_kept(genes: list[_Gene], source: GeneGtf, where: str, faults: FaultList) -> None:
    if not genes:
        asked = f"gene_types {', '.join(source.gene_types)} and chroms {', '.join(source.chroms)}"
        faults.add(where, f"has no gene of {asked} together", "ask for less")
    stray = [gene for gene in genes if gene.strand not in ("+", "-")]
    if stray:
        shown = _shown((f"{gene.gene_id} has {gene.strand!r}", gene.line) for gene in stray)
        faults.add(where, f"strand is neither + nor - in {len(stray)} of {len(genes)} genes: {shown}", _FIX)
    seen: dict[str, list[_Gene]] = {}
    for gene in genes:
        seen.setdefault(gene.gene_id, []).append(gene)
    twice = [gene for same in seen.values() if len(same) > 1 for gene in same]
    if twice:
        shown = _shown((repr(gene.gene_id), gene.line) for gene in twice)
        problem = f"gene_id is not unique in {len(twice)} of {len(genes)} genes: {shown}"
        faults.add(where, problem, "keep one record a gene, or leave a chromosome out with chroms")


def _shown(places: Iterable[tuple[str, int]]) -> str:
    """The first few texts, each with its line."""
    texts = [f"{text} (line {line})" for text, line in places]
    return ", ".join(texts[:_LISTED]) + (", ..." if len(texts) > _LISTED else "")
