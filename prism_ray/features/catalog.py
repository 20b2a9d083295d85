"""A data set's catalog: read, and checked against every file it names before any work starts.

`load_catalog` reads the YAML file; `check_catalog` opens all files and tables, reports every fault at
once, and returns what the files hold about genes, folds and chromosomes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from prism_ray.documents import read_document, validate_part
from prism_ray.errors import CatalogError, FaultList
from prism_ray.features.blacklist import check_blacklist, read_blacklist
from prism_ray.features.expression import CellTypeData, check_cell_files, read_cell_type
from prism_ray.features.folding import read_folds
from prism_ray.features.genes import check_positions, read_genes
from prism_ray.features.genome_check import check_assembly, check_genes, merge_sizes
from prism_ray.features.genome_sources import check_gene_windows, read_genomes
from prism_ray.features.remote import fetch_all
from prism_ray.features.source_parts import SignalSource
from prism_ray.features.sources import Catalog, file_md5, source_digests
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

    Fetches what lies elsewhere, and makes the FASTA index where there is none. URLs that cannot be fetched are said
    together, before the files are looked at.

    Args:
        catalog: what `load_catalog` gives.
        window_bp: length of the stored window; the catalog's own where not given.

    Raises:
        CatalogError: every fault of the files and tables.
    """
    faults = FaultList()
    half_window(catalog.window_bp if window_bp is None else window_bp)
    fetch_all(catalog, faults)
    # What was not fetched is no file: each check below would say so once more.
    faults.raise_if_any(CatalogError)
    _check_md5s(catalog, faults)
    _check_alike(catalog, faults)
    genes = read_genes(catalog, _at(catalog, "genes"), faults)
    genomes = read_genomes(catalog, faults)
    check_assembly(catalog.assembly, genomes, faults)
    chrom_sizes = merge_sizes(genomes, faults)
    _check_blacklist(catalog, chrom_sizes, faults)
    check_gene_windows(catalog, genes, chrom_sizes, faults)
    cell_types: dict[str, CellTypeData] = {}
    if genes is not None:
        check_genes(genes, genomes, faults)
        check_positions(genes, chrom_sizes, f"{_at(catalog, 'genes')}: {catalog.genes.file}", faults)
    for name, cell in catalog.cell_types.items():
        where = _at(catalog, f"cell_types.{name}")
        if genes is None:
            check_cell_files(catalog, cell, where, faults)
        elif data := read_cell_type(catalog, cell, genes, where, faults):
            cell_types[name] = data
    gene_chroms = () if genes is None else genes["chrom"]
    folds = read_folds(catalog, chrom_sizes, gene_chroms, _at(catalog, "folds"), faults)
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


def _check_blacklist(catalog: Catalog, chrom_sizes: dict[str, int], faults: FaultList) -> None:
    if catalog.blacklist is None:
        return
    path = catalog.resolve(catalog.blacklist.bed)
    try:
        blacklist = read_blacklist(path)
    except CatalogError as error:
        faults.extend(error.faults)
        return
    check_blacklist(blacklist, chrom_sizes, f"{_at(catalog, 'blacklist')} ({path.name})", faults)


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
