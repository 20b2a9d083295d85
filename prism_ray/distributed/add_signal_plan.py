"""What adding a track to a finished store has to do, checked against the store and the track's file before work."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import prism_ray.store
from prism_ray import __version__
from prism_ray.distributed.build_plan import describe_signal
from prism_ray.errors import CatalogError, ConfigError, FaultList, did_you_mean
from prism_ray.features.catalog import load_catalog
from prism_ray.features.genome_check import Genome, check_assembly, check_genes, merge_sizes
from prism_ray.features.genome_sources import check_gene_windows, read_genomes
from prism_ray.features.remote import fetch
from prism_ray.features.source_parts import SignalSource
from prism_ray.features.sources import Catalog, file_md5
from prism_ray.features.urls import is_remote
from prism_ray.store import Store
from prism_ray.store.schema import Dtype, FileEntry, SignalDescription, SourceDescription

_ALIKE = ("role", "transform")


@dataclass(frozen=True)
class AddPlan:
    """A track for one cell type of a store; plain values, so that it can be sent to a worker.

    Attributes:
        store: folder of the store, absolute.
        catalog: that names the track.
        cell_type: which cell type.
        signal: name of the track.
        dtype: type it is stored in; None while that is to be measured.
        md5s: MD5 of its files, by path.
        partitions: files of the cell type's genes, in store order.
        chrom_sizes: length of each chromosome in bp.
        window_bp: length of the stored window.
    """

    store: Path
    catalog: Catalog
    cell_type: str
    signal: str
    dtype: Dtype | None
    md5s: Mapping[str, str]
    partitions: tuple[FileEntry, ...]
    chrom_sizes: Mapping[str, int]
    window_bp: int

    @property
    def key(self) -> str:
        """Identifies the files that are written: work that was interrupted goes on from those of the same key."""
        said = self.catalog.cell_types[self.cell_type].signals[self.signal].model_dump_json(exclude={"file", "md5"})
        rows = [entry.sha256 for entry in self.partitions]
        parts = (__version__, said, str(self.dtype), str(self.window_bp), *sorted(self.md5s.values()), *rows)
        return hashlib.sha256(" ".join(parts).encode()).hexdigest()

    def describe(self) -> tuple[SignalDescription, SourceDescription]:
        """What `store.json` will say of the track."""
        source = self.catalog.cell_types[self.cell_type].signals[self.signal]
        assert self.dtype is not None
        signal = SignalDescription(name=self.signal, role=source.role, transform=source.transform, dtype=self.dtype)
        return signal, describe_signal(self.catalog, source, self.md5s)


def plan_additions(store_path: Path, catalog_path: Path, signal: str) -> list[AddPlan]:
    """A plan for each cell type that the catalog gives the track for and the store has without it.

    Raises:
        StoreError: no sound store.
        CatalogError, ConfigError: everything that keeps the track from being added.
    """
    store = prism_ray.store.open(store_path.absolute())
    catalog = load_catalog(catalog_path.absolute())
    faults = FaultList()
    wanted = _wanted(catalog, store, signal, faults)
    faults.raise_if_any(ConfigError)
    narrowed = {cell_type: _narrowed(catalog, cell_type, signal) for cell_type in wanted}
    for one in narrowed.values():
        fetch_tracks(one)
    _check_settings(catalog, store, faults)
    plans = [_plan(one, cell_type, signal, store, faults) for cell_type, one in narrowed.items()]
    faults.raise_if_any(CatalogError)
    return plans


def _narrowed(catalog: Catalog, cell_type: str, signal: str) -> Catalog:
    """The catalog with one track of one cell type, and without DNA: no other file of it is looked at."""
    cell = catalog.cell_types[cell_type]
    alone = cell.model_copy(update={"signals": {signal: cell.signals[signal]}})
    return catalog.model_copy(update={"sequence": None, "cell_types": {cell_type: alone}})


def fetch_tracks(catalog: Catalog) -> None:
    """Make sure that the tracks and the blacklist of a catalog are on this machine.

    Raises:
        CatalogError: a URL that cannot be fetched.
    """
    named = [(source.file, source.md5) for cell in catalog.cell_types.values() for source in cell.signals.values()]
    if catalog.blacklist is not None:
        named.append((catalog.blacklist.bed, catalog.blacklist.md5))
    for file, md5 in named:
        if is_remote(file):
            fetch(file, md5)


def _plan(catalog: Catalog, cell_type: str, signal: str, store: Store, faults: FaultList) -> AddPlan:
    """Plan for one cell type; of no use where faults were added."""
    assert isinstance(store.path, Path), "a store that is written is in a folder"
    source = catalog.cell_types[cell_type].signals[signal]
    said = store.description
    genes = store.genes(cell_type)
    where = f"{catalog.path}: cell_types.{cell_type}.signals.{signal}"
    _check_like_store(store, signal, where, source, faults)
    tracks = read_genomes(catalog, faults)
    check_assembly(said.assembly, tracks, faults)
    merge_sizes([Genome(str(store.path), dict(said.chrom_sizes)), *tracks], faults)
    check_genes(genes, tracks, faults)
    check_gene_windows(catalog, genes, said.chrom_sizes, faults)
    paths = [catalog.resolve(file) for file in catalog.expanded(source.file)]
    md5s = {str(path): file_md5(path) for path in paths if path.is_file()}
    for path, found in md5s.items():
        if source.md5 not in (None, found):
            fix = "fetch the file again, or mend the catalog"
            faults.add(path, f"has MD5 {found}, the catalog says {source.md5}", fix)
    return AddPlan(
        store=store.path,
        catalog=catalog,
        cell_type=cell_type,
        signal=signal,
        dtype=_dtype(store, signal, source.dtype),
        md5s=md5s,
        partitions=said.files_of(cell_type),
        chrom_sizes=said.chrom_sizes,
        window_bp=store.window_bp,
    )


def _dtype(store: Store, signal: str, stated: str) -> Dtype | None:
    known = {each.name: each.dtype for each in store.description.signals}
    if signal in known:
        return known[signal]
    return None if stated == "auto" else ("float16" if stated == "float16" else "float32")


def _wanted(catalog: Catalog, store: Store, signal: str, faults: FaultList) -> list[str]:
    """Cell types to add the track to."""
    naming = [name for name, cell in catalog.cell_types.items() if signal in cell.signals]
    if not naming:
        known = {name for cell in catalog.cell_types.values() for name in cell.signals}
        faults.add(str(catalog.path), f"no cell type has a signal {signal!r}", did_you_mean(signal, known))
        return []
    shared = [name for name in naming if name in store.cell_types]
    if not shared:
        fix = did_you_mean(naming[0], store.cell_types)
        faults.add(str(catalog.path), f"gives {signal} for {', '.join(naming)}, which the store has not", fix)
    wanted = [name for name in shared if signal not in store.signals_of(name)]
    if shared and not wanted:
        faults.add(
            f"{store.path}: {signal}",
            f"is there already for {', '.join(shared)}",
            "give the new track another name; what a store holds is never changed",
        )
    return wanted


def _check_settings(catalog: Catalog, store: Store, faults: FaultList) -> None:
    """What holds for all tracks of a store has to hold for the new one."""
    said = store.description
    if catalog.assembly != said.assembly:
        faults.add(f"{catalog.path}: assembly", f"is {catalog.assembly}, the store's is {said.assembly}")
    if catalog.strand_aware != said.strand_aware:
        faults.add(
            f"{catalog.path}: strand_aware",
            f"is {str(catalog.strand_aware).lower()}, the store was built with {str(said.strand_aware).lower()}",
            "tracks of one store are turned alike",
        )
    listed = None if catalog.blacklist is None else file_md5(catalog.resolve(catalog.blacklist.bed))
    if listed != (None if said.blacklist is None else said.blacklist.md5):
        faults.add(
            f"{catalog.path}: blacklist",
            "is not the one that the store was built with",
            "tracks of one store are masked alike",
        )


def _check_like_store(store: Store, signal: str, where: str, source: SignalSource, faults: FaultList) -> None:
    """A signal that other cell types have means the same in all."""
    for known in store.description.signals:
        for name in _ALIKE if known.name == signal else ():
            here, there = getattr(source, name), getattr(known, name)
            if here != there:
                faults.add(
                    f"{where}.{name}", f"is {here}, in the store it is {there}", "one signal means the same everywhere"
                )
