"""What a build has to do: the partitions of a catalog, checked before any of them is written."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from prism_ray import __version__
from prism_ray.errors import CatalogError, FaultList
from prism_ray.features.catalog import Catalog, CatalogData, CellTypeData, check_catalog, load_catalog, source_digests
from prism_ray.features.sources import CellType, SignalSource
from prism_ray.store.rings import ring_bounds
from prism_ray.store.schema import (
    SCHEMA_VERSION,
    CellTypeDescription,
    FileEntry,
    LabelDescription,
    SignalDescription,
    SourceDescription,
    StoreDescription,
)
from prism_ray.store.write import Layout


@dataclass(frozen=True)
class Partition:
    """Genes of one cell type on one chromosome.

    Attributes:
        start: row of its first gene among the genes of the cell type.
        end: row after its last gene.
    """

    cell_type: str
    chrom: str
    start: int
    end: int

    @property
    def n_genes(self) -> int:
        """Genes of the partition."""
        return self.end - self.start


@dataclass(frozen=True)
class BuildPlan:
    """Everything a worker needs to write any partition; plain values, so that it can be sent to it.

    Attributes:
        catalog: with an absolute path: a worker has another working folder.
        chrom_sizes: length of each chromosome in bp.
        cell_types: genes, labels and scalars, by cell type.
        folds: role of each chromosome, by fold.
        window_bp: length of the stored window.
        md5s: MD5 of every file, by its path.
        catalog_digest: digest of the catalog and its files.
        partitions: in store order.
    """

    catalog: Catalog
    chrom_sizes: dict[str, int]
    cell_types: dict[str, CellTypeData]
    folds: dict[str, dict[str, str]]
    window_bp: int
    md5s: dict[str, str]
    catalog_digest: str
    partitions: tuple[Partition, ...]

    @property
    def key(self) -> str:
        """Identifies the files that the build writes: a build of the same key may go on from them."""
        parts = (SCHEMA_VERSION, __version__, self.catalog_digest, str(self.window_bp))
        return hashlib.sha256(" ".join(parts).encode()).hexdigest()

    def layout(self, cell_type: str) -> Layout:
        """Columns of the files of a cell type."""
        return Layout(
            window_bp=self.window_bp,
            signals=tuple((name, source.dtype) for name, source in self.sources(cell_type).items()),
            has_sequence=self.catalog.sequence is not None,
            n_scalars=len(self.cell_types[cell_type].scalar_names),
        )

    def sources(self, cell_type: str) -> dict[str, SignalSource]:
        """Signals of a cell type, in the order that the whole store has them in."""
        own = self.catalog.cell_types[cell_type].signals
        return {name: own[name] for name in self.signals() if name in own}

    def signals(self) -> dict[str, SignalSource]:
        """Signals that any cell type has; role, transform and type are the same in all that have it."""
        signals: dict[str, SignalSource] = {}
        for cell in self.catalog.cell_types.values():
            for name, source in cell.signals.items():
                signals.setdefault(name, source)
        return signals

    def describe(self, files: tuple[FileEntry, ...]) -> StoreDescription:
        """What `store.json` says of the store, given its files in store order."""
        fasta = self.catalog.sequence
        scalar_names = next(iter(self.cell_types.values())).scalar_names
        return StoreDescription.model_validate(
            {
                "builder_version": __version__,
                "name": self.catalog.name,
                "assembly": self.catalog.assembly,
                "catalog_digest": self.catalog_digest,
                "window_bp": self.window_bp,
                "ring_bounds": ring_bounds(self.window_bp),
                "sequence": None if fasta is None else self._source(fasta.fasta, "fasta"),
                "signals": tuple(
                    SignalDescription(name=name, role=source.role, transform=source.transform, dtype=source.dtype)
                    for name, source in self.signals().items()
                ),
                "scalar_names": scalar_names,
                "cell_types": {name: self._cell_type(name, cell) for name, cell in self.catalog.cell_types.items()},
                "folds": self.folds,
                "chrom_sizes": self.chrom_sizes,
                "files": files,
            }
        )

    def _cell_type(self, name: str, cell: CellType) -> CellTypeDescription:
        label = LabelDescription(
            source=f"{Path(cell.label.table).name}: {cell.label.column}", transform=cell.label.transform
        )
        sources = {
            signal: self._source(source.file, source.kind, source.accession or "")
            for signal, source in self.sources(name).items()
        }
        return CellTypeDescription(n_genes=len(self.cell_types[name].genes), label=label, sources=sources)

    def _source(self, file: str, kind: str, accession: str = "") -> SourceDescription:
        md5 = self.md5s[str(self.catalog.resolve(file))]
        return SourceDescription(file=Path(file).name, kind=kind, md5=md5, accession=accession)


def plan_build(catalog_path: Path, window_bp: int | None = None) -> BuildPlan:
    """Plan of a build; every file of the catalog has been opened and checked.

    Args:
        catalog_path: the catalog file.
        window_bp: length of the stored window; the catalog's own where not given.

    Raises:
        CatalogError: everything that is wrong with the catalog and its files.
    """
    length = window_bp if window_bp is not None else load_catalog(catalog_path).window_bp
    data = check_catalog(load_catalog(catalog_path), length)
    _refuse_empty(catalog_path, data)
    catalog = load_catalog(catalog_path.absolute())
    md5s = source_digests(catalog)
    return BuildPlan(
        catalog=catalog,
        chrom_sizes=data.chrom_sizes,
        cell_types=data.cell_types,
        folds=data.folds.to_json(),
        window_bp=length,
        md5s=md5s,
        catalog_digest=catalog.digest(md5s),
        partitions=tuple(part for name, cell in data.cell_types.items() for part in _partitions(name, cell)),
    )


def _partitions(cell_type: str, cell: CellTypeData) -> list[Partition]:
    chroms = cell.genes["chrom"].tolist()
    # Genes are sorted by chromosome, so each chromosome is one run of rows.
    starts = [0, *(row for row in range(1, len(chroms)) if chroms[row] != chroms[row - 1]), len(chroms)]
    return [Partition(cell_type, chroms[start], start, end) for start, end in pairwise(starts)]


def _refuse_empty(catalog_path: Path, data: CatalogData) -> None:
    faults = FaultList()
    for name, cell in data.cell_types.items():
        if not len(cell.genes):
            faults.add(f"{catalog_path}: cell_types.{name}", "has no gene with a label", "give labels for its genes")
    faults.raise_if_any(CatalogError)
