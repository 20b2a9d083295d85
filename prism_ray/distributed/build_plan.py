"""What a build has to do: the partitions of a catalog, checked before any of them is written."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

from prism_ray import __version__
from prism_ray.errors import CatalogError, FaultList
from prism_ray.features.catalog import Catalog, CatalogData, CellTypeData, check_catalog, load_catalog, source_digests
from prism_ray.features.source_parts import LabelBigWig, LabelTable, SignalSource
from prism_ray.features.sources import CellType
from prism_ray.store.layout import Layout
from prism_ray.store.rings import ring_bounds
from prism_ray.store.schema import (
    SCHEMA_VERSION,
    CellTypeDescription,
    Dtype,
    FileEntry,
    LabelDescription,
    SignalDescription,
    SourceDescription,
    StoreDescription,
)


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
        chosen: stored type of each signal whose catalog says auto, once it is measured.
    """

    catalog: Catalog
    chrom_sizes: dict[str, int]
    cell_types: dict[str, CellTypeData]
    folds: dict[str, dict[str, str]]
    window_bp: int
    md5s: dict[str, str]
    catalog_digest: str
    partitions: tuple[Partition, ...]
    chosen: Mapping[str, Dtype] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Identifies the files that the build writes: a build of the same key may go on from them."""
        chosen = ",".join(f"{name}={dtype}" for name, dtype in sorted(self.chosen.items()))
        parts = (SCHEMA_VERSION, __version__, self.catalog_digest, str(self.window_bp), chosen)
        return hashlib.sha256(" ".join(parts).encode()).hexdigest()

    def layout(self, cell_type: str) -> Layout:
        """Columns of the files of a cell type."""
        return Layout(
            window_bp=self.window_bp,
            signals=tuple((name, self.dtype(name)) for name in self.sources(cell_type)),
            has_sequence=self.catalog.sequence is not None,
            n_scalars=len(self.cell_types[cell_type].scalar_names),
        )

    def dtype(self, signal: str) -> Dtype:
        """Type that a signal is stored in; what the catalog leaves open has been measured before."""
        stated = self.signals()[signal].dtype
        return self.chosen[signal] if stated == "auto" else stated

    def undecided(self, cell_type: str) -> tuple[str, ...]:
        """Signals of a cell type whose stored type is still to be measured."""
        sources = self.sources(cell_type).items()
        return tuple(name for name, source in sources if source.dtype == "auto" and name not in self.chosen)

    def with_types(self, chosen: Mapping[str, Dtype]) -> BuildPlan:
        """The same plan with measured types of signals."""
        return replace(self, chosen=dict(chosen))

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
        fasta, blacklist = self.catalog.sequence, self.catalog.blacklist
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
                "strand_aware": self.catalog.strand_aware,
                "blacklist": None if blacklist is None else self._source(blacklist.bed, "bed"),
                "signals": tuple(
                    SignalDescription(name=name, role=source.role, transform=source.transform, dtype=self.dtype(name))
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
        sources = {signal: self._signal_source(source) for signal, source in self.sources(name).items()}
        return CellTypeDescription(
            n_genes=len(self.cell_types[name].genes), label=describe_label(cell.label), sources=sources
        )

    def _source(self, file: str, kind: str) -> SourceDescription:
        return SourceDescription(file=Path(file).name, kind=kind, md5=source_md5(self.catalog, file, self.md5s))

    def _signal_source(self, source: SignalSource) -> SourceDescription:
        return describe_signal(self.catalog, source, self.md5s)


def describe_label(label: LabelTable | LabelBigWig) -> LabelDescription:
    """What `store.json` says of a label."""
    if isinstance(label, LabelBigWig):
        files = [Path(file).name for file in (label.bigwig, label.bigwig_minus) if file is not None]
        text = f"{' and '.join(files)}: sum over {label.half_width_bp} bp on both sides of the TSS"
        return LabelDescription(source=text, transform=label.transform)
    return LabelDescription(source=f"{Path(label.table).name}: {label.column}", transform=label.transform)


def describe_signal(catalog: Catalog, source: SignalSource, md5s: Mapping[str, str]) -> SourceDescription:
    """What `store.json` says of a signal's file."""
    return SourceDescription(
        file=Path(source.file).name,
        kind=source.kind,
        md5=source_md5(catalog, source.file, md5s),
        accession=source.accession or "",
        settings=source.contact_settings,
    )


def source_md5(catalog: Catalog, file: str, md5s: Mapping[str, str]) -> str:
    """MD5 of a file; of the MD5s of its files for a name that stands for several."""
    found = [md5s[str(catalog.resolve(one))] for one in catalog.expanded(file)]
    return found[0] if len(found) == 1 else hashlib.md5("".join(found).encode(), usedforsecurity=False).hexdigest()


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
