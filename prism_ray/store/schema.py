"""`store.json`: what a feature store holds, and the version of how it holds it.

Version `MAJOR.MINOR`. A minor version only adds fields, which an older reader passes over; a major version changes
what the old fields or columns mean, and an older or newer reader refuses it.

1.1 added: signals in files of their own (`added`), settings of contact maps, `strand_aware` and `blacklist`.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from pydantic import ConfigDict, Field, ValidationError

from prism_ray.documents import StrictModel, faults_of
from prism_ray.errors import FaultList, StoreError
from prism_ray.splits import Role
from prism_ray.store.place import StorePlace

SCHEMA_VERSION = "1.1"
DESCRIPTION_FILE = "store.json"
SUCCESS_FILE = "_SUCCESS"
REPORT_FILE = "build_report.json"
ADDED_FOLDER = "added"

Dtype = Literal["float32", "float16"]


class StoreModel(StrictModel):
    """Base of the parts of `store.json`; fields of a later minor version are passed over."""

    model_config = ConfigDict(extra="ignore")


class SignalDescription(StoreModel):
    """One signal; the same name, transform and type in every cell type."""

    name: str
    """Name of the signal and first part of its columns' names."""
    role: Literal["foreground", "background"]
    """Whether the signal marks active elements or describes the background chromatin state."""
    transform: Literal["none", "log1p", "log10p1"]
    """What was applied to the raw values before they were stored."""
    dtype: Dtype
    """Type that the values are stored in."""


class SourceDescription(StoreModel):
    """File that a signal of one cell type, or the DNA, came from."""

    file: str
    """Name of the file, without its folder."""
    kind: str
    """Format, for example bigwig."""
    md5: str
    """MD5 of its bytes, hexadecimal."""
    accession: str = ""
    """Public identifier, for example of ENCODE; empty where the catalog gives none."""
    settings: dict[str, bool | int | str | None] = Field(default_factory=dict)
    """Contact maps: resolution, balance, marginal, pseudocount and quality, as the catalog says."""


class LabelDescription(StoreModel):
    """What the label of a cell type is."""

    source: str
    """File and column that it came from."""
    transform: Literal["none", "log10p1"]
    """What was applied to the raw values before they were stored."""


class CellTypeDescription(StoreModel):
    """One cell type of a store."""

    n_genes: int
    """Genes, which are rows, of the cell type."""
    label: LabelDescription
    """Its label."""
    sources: dict[str, SourceDescription]
    """File of each signal that the cell type has, by signal, in the order of the store's signals."""


class FileEntry(StoreModel):
    """One Parquet file: the genes of a cell type on a chromosome."""

    cell_type: str
    """Cell type of its genes."""
    chrom: str
    """Chromosome of its genes."""
    rows: int
    """Genes in the file."""
    bytes: int
    """Size of the file."""
    sha256: str
    """SHA-256 of the file's bytes, hexadecimal."""
    footer_sha256: str
    """SHA-256 of the Parquet footer, which says where every column is and in how many bytes."""
    content_sha256: str
    """SHA-256 of the rows' values, whatever the compression or the version of the Parquet writer."""

    @property
    def path(self) -> str:
        """Path inside the store, with Hive names; what a file system may refuse is percent-encoded."""
        return f"cell_type={quote(self.cell_type, safe='')}/chrom={quote(self.chrom, safe='')}/part-0.parquet"


class AddedEntry(FileEntry):
    """One Parquet file of a signal that was added later: the genes of a partition, in the partition's order."""

    signal: str
    """Name of the signal."""

    @property
    def path(self) -> str:
        """Path inside the store."""
        return f"{added_folder(self.signal, self.cell_type)}/{super().path}"


def added_folder(signal: str, cell_type: str) -> str:
    """Folder, inside the store, of the files of a signal that was added to a cell type."""
    return f"{ADDED_FOLDER}/{quote(signal, safe='')}@{quote(cell_type, safe='')}"


class StoreDescription(StoreModel):
    """All that `store.json` says, but for its digest."""

    schema_version: str = SCHEMA_VERSION
    """Version of the layout, MAJOR.MINOR."""
    builder_version: str
    """Version of prism-ray that wrote the store."""
    name: str
    """Name of the data set, from its catalog."""
    assembly: str
    """Genome assembly of all coordinates."""
    catalog_digest: str
    """Digest of the catalog and of every file that it names."""
    window_bp: int
    """Length of the stored window in bp, centred on the TSS."""
    ring_bounds: tuple[int, ...]
    """Bounds of the rings in bp from the TSS."""
    sequence: SourceDescription | None
    """The DNA's file, or null for a store without DNA."""
    signals: tuple[SignalDescription, ...]
    """Signals that any cell type has, in the catalog's order."""
    scalar_names: tuple[str, ...]
    """Scalar features a gene, the same in each cell type."""
    cell_types: dict[str, CellTypeDescription]
    """Cell types by name."""
    folds: dict[str, dict[str, Role]]
    """Role of each chromosome, by fold."""
    chrom_sizes: dict[str, int]
    """Length of each chromosome in bp."""
    files: tuple[FileEntry, ...]
    """Every Parquet file: by cell type, then by chromosome in natural order."""
    added: tuple[AddedEntry, ...] = ()
    """Files of signals that were added to the finished store, in the order of adding."""
    strand_aware: bool = False
    """Whether windows of genes on the reverse strand are turned, so that all are read in their gene's direction."""
    blacklist: SourceDescription | None = None
    """File of the regions in which tracks read as 0; null where none are."""

    @property
    def signal_names(self) -> tuple[str, ...]:
        """Names of the signals that any cell type has, in the catalog's order."""
        return tuple(signal.name for signal in self.signals)

    @property
    def has_sequence(self) -> bool:
        """Whether the store has DNA."""
        return self.sequence is not None

    def files_of(self, cell_type: str) -> tuple[FileEntry, ...]:
        """Files of a cell type, in store order."""
        return tuple(entry for entry in self.files if entry.cell_type == cell_type)

    def added_to(self, entry: FileEntry) -> dict[str, AddedEntry]:
        """Files with more signals of the genes of a partition, by signal."""
        return {
            added.signal: added
            for added in self.added
            if (added.cell_type, added.chrom) == (entry.cell_type, entry.chrom)
        }

    @property
    def all_files(self) -> tuple[FileEntry, ...]:
        """Every Parquet file, those of added signals too."""
        return (*self.files, *self.added)

    def with_signal(
        self, cell_type: str, signal: SignalDescription, source: SourceDescription, entries: tuple[FileEntry, ...]
    ) -> StoreDescription:
        """The description of the store with one more signal of a cell type, which is in files of its own."""
        signals = self.signals if signal.name in self.signal_names else (*self.signals, signal)
        cell = self.cell_types[cell_type]
        known = {**cell.sources, signal.name: source}
        sources = {each.name: known[each.name] for each in signals if each.name in known}
        added = tuple(AddedEntry(**entry.model_dump(), signal=signal.name) for entry in entries)
        return self.model_copy(
            update={
                "schema_version": SCHEMA_VERSION,
                "signals": signals,
                "cell_types": {**self.cell_types, cell_type: cell.model_copy(update={"sources": sources})},
                "added": (*self.added, *added),
            }
        )

    def digest(self) -> str:
        """SHA-256 of what decides a run's numbers: values, names, folds; not files, versions or row groups."""
        content: dict[str, Any] = {
            "schema_major": self.schema_version.split(".")[0],
            "assembly": self.assembly,
            "window_bp": self.window_bp,
            "has_sequence": self.has_sequence,
            "signals": [signal.model_dump(mode="json") for signal in self.signals],
            "scalar_names": self.scalar_names,
            "cell_types": {name: [cell.label.transform, *cell.sources] for name, cell in self.cell_types.items()},
            "folds": self.folds,
            "rows": [[entry.cell_type, entry.chrom, entry.rows, entry.content_sha256] for entry in self.files],
        }
        if self.added:
            content["added"] = [
                [entry.signal, entry.cell_type, entry.chrom, entry.content_sha256] for entry in self.added
            ]
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def to_json(self) -> str:
        """Text of `store.json`: the description and its digest; the same description gives the same bytes."""
        return json.dumps({**self.model_dump(mode="json"), "digest": self.digest()}, indent=1) + "\n"


def write_description(store: Path, description: StoreDescription) -> None:
    """Write `store.json`, in one act: a reader finds the old one or the new one."""
    temporary = store / f".{DESCRIPTION_FILE}.writing"
    temporary.write_text(description.to_json(), encoding="utf-8")
    temporary.replace(store / DESCRIPTION_FILE)


def read_description(store: StorePlace) -> StoreDescription:
    """Description of the store in a folder, or in a bucket.

    Raises:
        StoreError: not a finished store, one of another major version, or a `store.json` that was changed.
    """
    faults = FaultList()
    path = store / DESCRIPTION_FILE
    if not store.is_dir():
        faults.add(str(store), "no such folder", "give the folder that `prism-ray build --out` wrote")
    elif not (store / SUCCESS_FILE).is_file():
        fix = "build it again into another folder, or give the folder that `prism-ray build --out` wrote"
        faults.add(str(store), f"has no {SUCCESS_FILE} mark: it is no store, or its build did not end", fix)
    elif not path.is_file():
        faults.add(str(path), "no such file", "the store is damaged: build it again")
    faults.raise_if_any(StoreError)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        faults.add(str(path), f"cannot be read as JSON ({problem})", "the store is damaged: build it again")
        data = None
    if not faults and not isinstance(data, dict):
        faults.add(str(path), "holds no description", "the store is damaged: build it again")
    faults.raise_if_any(StoreError)
    assert isinstance(data, dict)
    _check_version(path, data.get("schema_version"))
    return _validated(path, data)


def _check_version(path: StorePlace, version: object) -> None:
    major = SCHEMA_VERSION.split(".")[0]
    if isinstance(version, str) and version.split(".")[0] == major:
        return
    faults = FaultList()
    if isinstance(version, str) and re.fullmatch(r"\d+\.\d+", version):
        newer = int(version.split(".")[0]) > int(major)
        advice = "install a later prism-ray" if newer else "install the prism-ray that wrote it"
        faults.add(
            f"{path}: schema_version",
            f"{version} is not a layout that this version reads ({major}.x)",
            f"build the store again from its catalog, or {advice}",
        )
    else:
        faults.add(f"{path}: schema_version", f"{version!r} is not a version", f"a store of this version has {major}.x")
    faults.raise_if_any(StoreError)


def _validated(path: StorePlace, data: dict[str, Any]) -> StoreDescription:
    faults = FaultList()
    digest = data.get("digest")
    try:
        description = StoreDescription.model_validate_json(json.dumps(data))
    except ValidationError as problem:
        faults.extend(
            faults_of(problem, StoreDescription, lambda place: f"{path}: {'.'.join(str(part) for part in place)}")
        )
        faults.raise_if_any(StoreError)
        raise
    if digest != description.digest():
        faults.add(
            f"{path}: digest",
            f"{digest!r} is not the digest of what the file says: it was changed after the build",
            "restore the file, or build the store again",
        )
    faults.raise_if_any(StoreError)
    return description
