"""A data set's catalog: read, and checked against every file it names before any work starts.

`load_catalog` reads the YAML file; `check_catalog` opens all files and tables, reports every fault at
once, and returns what the files hold about genes, folds and chromosomes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from prism_ray.documents import read_document, validate_part
from prism_ray.errors import CatalogError, FaultList
from prism_ray.features.expression import CellTypeData, read_cell_type
from prism_ray.features.folding import read_folds
from prism_ray.features.genes import check_positions, natural_order, read_genes
from prism_ray.features.naming import naming_mismatch
from prism_ray.features.sequence import ensure_index
from prism_ray.features.signals import open_signal
from prism_ray.features.sources import Catalog, SignalSource, file_md5, source_digests
from prism_ray.features.windows import half_window
from prism_ray.splits import Folds

__all__ = ["Catalog", "CatalogData", "CellTypeData", "check_catalog", "load_catalog", "source_digests"]

SCHEMA = 1


@dataclass(frozen=True)
class CatalogData:
    """What a catalog's files hold, apart from the tracks themselves.

    Attributes:
        catalog: the catalog.
        chrom_sizes: length of each chromosome in bp, in natural order.
        folds: roles of the chromosomes.
        cell_types: genes, labels and scalars, by cell type.
    """

    catalog: Catalog
    chrom_sizes: dict[str, int]
    folds: Folds
    cell_types: dict[str, CellTypeData]


@dataclass(frozen=True)
class _Genome:
    """Chromosome lengths of one source, for comparison with the others.

    Attributes:
        where: place in the catalog, and name of the file.
        sizes: length of each chromosome in bp.
        partial: whether a chromosome may be longer than the source says.
        holds_tss: whether every TSS has to lie within these lengths all the same.
    """

    where: str
    sizes: dict[str, int]
    partial: bool = False
    holds_tss: bool = False


def load_catalog(path: Path | str) -> Catalog:
    """The catalog of a YAML file; the files it names are not looked at.

    Raises:
        CatalogError: every fault of the file, each with its line.
    """
    document = read_document(Path(path), CatalogError)
    faults = FaultList()
    version = document.data.get("schema")
    if version is None:
        faults.add(document.where(()), "schema is missing", f"write schema: {SCHEMA}")
    elif version != SCHEMA or isinstance(version, bool):
        faults.add(
            document.where(("schema",)), f"{version!r} is not a known version of catalogs", f"write schema: {SCHEMA}"
        )
    content = {key: value for key, value in document.data.items() if key != "schema"}
    catalog = validate_part(document, (), content, Catalog, faults)
    faults.raise_if_any(CatalogError)
    assert catalog is not None
    catalog._path = Path(path)
    return catalog


def check_catalog(catalog: Catalog, window_bp: int | None = None) -> CatalogData:
    """Open everything that a catalog names and say all that is wrong with it, at once.

    Makes the FASTA index where there is none.

    Args:
        catalog: what `load_catalog` gives.
        window_bp: length of the stored window; the catalog's own where not given.

    Raises:
        CatalogError: every fault of the files and tables.
    """
    faults = FaultList()
    half_window(catalog.window_bp if window_bp is None else window_bp)
    _check_md5s(catalog, faults)
    _check_alike(catalog, faults)
    genes = read_genes(catalog, _at(catalog, "genes"), faults)
    genomes = [*_sequence_genome(catalog, faults), *_signal_genomes(catalog, faults)]
    chrom_sizes = _merge_sizes(genomes, faults)
    cell_types: dict[str, CellTypeData] = {}
    folds = None
    if genes is not None:
        _check_chroms(genes, genomes, faults)
        check_positions(genes, chrom_sizes, f"{_at(catalog, 'genes')}: {catalog.genes.table}", faults)
        _check_partial(genes, genomes, faults)
        for name, cell in catalog.cell_types.items():
            data = read_cell_type(catalog, cell, genes, _at(catalog, f"cell_types.{name}"), faults)
            if data is not None:
                cell_types[name] = data
        folds = read_folds(catalog, chrom_sizes, genes["chrom"], _at(catalog, "folds"), faults)
    faults.raise_if_any(CatalogError)
    assert folds is not None
    return CatalogData(catalog, chrom_sizes, folds, cell_types)


def _at(catalog: Catalog, place: str) -> str:
    return f"{catalog.path}: {place}"


def _check_md5s(catalog: Catalog, faults: FaultList) -> None:
    for file, expected in catalog.files().items():
        path = catalog.resolve(file)
        if expected is None or not path.is_file():
            continue
        found = file_md5(path)
        if found != expected:
            faults.add(
                str(path), f"has MD5 {found}, the catalog says {expected}", "fetch the file again, or mend the catalog"
            )


def _check_alike(catalog: Catalog, faults: FaultList) -> None:
    """What a model trained on one cell type and tested on another relies on."""
    first_name, *_ = catalog.cell_types
    first_scalars = catalog.cell_types[first_name].scalars
    known: dict[str, tuple[str, SignalSource]] = {}
    for name, cell in catalog.cell_types.items():
        names = cell.scalars.columns if cell.scalars is not None else ()
        expected = first_scalars.columns if first_scalars is not None else ()
        if names != expected:
            where = _at(catalog, f"cell_types.{name}.scalars")
            faults.add(
                where,
                f"has columns {list(names)}, {first_name} has {list(expected)}",
                "give every cell type the same, in the same order",
            )
        for signal_name, signal in cell.signals.items():
            other_name, other = known.setdefault(signal_name, (name, signal))
            for field in ("role", "transform", "dtype"):
                here, there = getattr(signal, field), getattr(other, field)
                if here != there:
                    where = _at(catalog, f"cell_types.{name}.signals.{signal_name}.{field}")
                    faults.add(
                        where,
                        f"is {here}, in {other_name} it is {there}",
                        "one signal means the same in every cell type",
                    )


def _sequence_genome(catalog: Catalog, faults: FaultList) -> Iterable[_Genome]:
    if catalog.sequence is None:
        return
    path = catalog.resolve(catalog.sequence.fasta)
    where = _at(catalog, "sequence.fasta")
    if not path.is_file():
        faults.add(where, f"{path}: no such file", "give a FASTA file, or leave `sequence` out")
        return
    try:
        sizes = ensure_index(path)
    except CatalogError as error:
        faults.extend(error.faults)
        return
    yield _Genome(f"{where} ({path.name})", sizes, catalog.sequence.partial, holds_tss=True)


def _signal_genomes(catalog: Catalog, faults: FaultList) -> Iterable[_Genome]:
    for cell_name, cell in catalog.cell_types.items():
        for name, source in cell.signals.items():
            path = catalog.resolve(source.file)
            where = _at(catalog, f"cell_types.{cell_name}.signals.{name}")
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
                faults.add(
                    where,
                    f"{path.name} holds values under 0, which {source.transform} cannot take",
                    "set transform: none",
                )
            # A bedGraph says where its intervals end, not where its chromosomes do.
            yield _Genome(f"{where} ({path.name})", sizes, partial=source.kind == "bedgraph")


def _merge_sizes(genomes: list[_Genome], faults: FaultList) -> dict[str, int]:
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


def _check_chroms(genes: pd.DataFrame, genomes: list[_Genome], faults: FaultList) -> None:
    chroms = natural_order(genes["chrom"])
    for genome in genomes:
        lost = [chrom for chrom in chroms if chrom not in genome.sizes]
        if not lost:
            continue
        if mismatch := naming_mismatch(lost, genome.sizes):
            faults.add(
                genome.where,
                f"chromosomes are named {mismatch[1]} here and {mismatch[0]} in the gene table",
                "name them alike",
            )
            continue
        n_genes = int(genes["chrom"].isin(lost).sum())
        faults.add(
            genome.where,
            f"has no {', '.join(lost)}, where {n_genes} of {len(genes)} genes are",
            "give a file of the whole genome, or leave these genes out",
        )


def _check_partial(genes: pd.DataFrame, genomes: list[_Genome], faults: FaultList) -> None:
    """A FASTA may be partial, but holds at least the TSS of every gene."""
    for genome in genomes:
        if genome.partial and genome.holds_tss:
            check_positions(genes, genome.sizes, genome.where, faults)
