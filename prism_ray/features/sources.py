"""What a catalog says: the raw files of a data set, what each one is, and how it is read.

Paths are as written in the catalog; `Catalog.resolve` turns them into paths from where the catalog file lies, and URLs
into their place in the cache.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from glob import escape
from pathlib import Path
from typing import Annotated, Any

from pydantic import Discriminator, Field, PrivateAttr, Tag, field_validator, model_validator

from prism_ray.documents import StrictModel
from prism_ray.features.remote import cache_path
from prism_ray.features.source_parts import (
    CHROM_PLACE,
    Blacklist,
    FoldRoles,
    FoldTable,
    GeneGtf,
    GeneTable,
    LabelBigWig,
    LabelTable,
    ScalarSource,
    SequenceSource,
    SignalSource,
    Text,
)
from prism_ray.features.urls import is_remote

_SIGNAL_NAME = re.compile(r"^[a-z0-9]+(_[a-z0-9]+)*$")
_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._+-]*$")
_FILE_FIELDS = ("table", "file", "fasta", "gtf", "bed", "bigwig", "bigwig_minus")
_MD5_FIELDS = ("md5", "md5_minus")
_MASKED_KINDS = {"bigwig", "bedgraph"}


def _branch(value: object, field: str, first: type, key: str, names: tuple[str, str]) -> str:
    """Which of two forms a part has: the first where it has `key`.

    The brackets mark the tag as a branch of a union, so that it does not show in a fault's place.
    """
    is_first = isinstance(value, first) or (isinstance(value, dict) and key in value)
    return f"{field}[{names[0] if is_first else names[1]}]"


def _kind_of_label(value: object) -> str:
    return _branch(value, "label", LabelBigWig, "bigwig", ("bigwig", "table"))


def _kind_of_genes(value: object) -> str:
    return _branch(value, "genes", GeneGtf, "gtf", ("gtf", "table"))


def _kind_of_folds(value: object) -> str:
    return _branch(value, "folds", FoldTable, "table", ("table", "inline"))


Label = Annotated[
    Annotated[LabelTable, Tag("label[table]")] | Annotated[LabelBigWig, Tag("label[bigwig]")],
    Discriminator(_kind_of_label),
]
Genes = Annotated[
    Annotated[GeneTable, Tag("genes[table]")] | Annotated[GeneGtf, Tag("genes[gtf]")],
    Discriminator(_kind_of_genes),
]
Folding = Annotated[
    Annotated[FoldTable, Tag("folds[table]")] | Annotated[dict[Text, FoldRoles], Tag("folds[inline]")],
    Discriminator(_kind_of_folds),
]


class CellType(StrictModel):
    """What was measured in one cell type."""

    label: Label
    """The measured expression."""
    scalars: ScalarSource | None = None
    """Numbers that describe a gene as a whole."""
    signals: dict[Text, SignalSource] = Field(default_factory=dict)
    """Tracks by name."""

    @field_validator("signals")
    @classmethod
    def _names(cls, value: dict[str, SignalSource]) -> dict[str, SignalSource]:
        bad = [name for name in value if not _SIGNAL_NAME.match(name) or name == "sequence"]
        if bad:
            raise ValueError(
                f"signals cannot be named {', '.join(map(repr, bad))}: a name is lower-case letters, digits and single "
                "underscores between them (h3k27ac, atac_rep1), and not 'sequence'"
            )
        return value


class Catalog(StrictModel):
    """One data set, as its catalog file says; `path` is that file."""

    name: Text
    """Name of the data set."""
    assembly: Text
    """Genome assembly of every file, for example hg38."""
    sequence: SequenceSource | None = None
    """DNA; without it the feature store has none."""
    genes: Genes
    """The genes."""
    folds: Folding
    """Which chromosomes train, validate and test."""
    window_bp: int = Field(ge=2, le=2_000_000)
    """Length of the stored window, in bp; even."""
    strand_aware: bool = False
    """Whether windows of genes on the reverse strand are turned: DNA as reverse complement, tracks flipped."""
    blacklist: Blacklist | None = None
    """Regions in which bigWig and bedGraph tracks read as 0, as if they had no value there."""
    cell_types: dict[Text, CellType] = Field(min_length=1)
    """What was measured, by cell type."""
    _path: Path = PrivateAttr(default=Path("catalog.yaml"))

    @field_validator("window_bp")
    @classmethod
    def _even(cls, value: int) -> int:
        if value % 2:
            raise ValueError(f"{value} is odd; a window has as many bases before the TSS as from it on")
        return value

    @field_validator("cell_types")
    @classmethod
    def _names(cls, value: dict[str, CellType]) -> dict[str, CellType]:
        bad = [name for name in value if not _NAME.match(name)]
        if bad:
            raise ValueError(f"cell types cannot be named {', '.join(map(repr, bad))}: use letters, digits and . _ + -")
        return value

    @model_validator(mode="after")
    def _something_to_mask(self) -> Catalog:
        kinds = {signal.kind for cell in self.cell_types.values() for signal in cell.signals.values()}
        if self.blacklist is not None and not kinds & _MASKED_KINDS:
            raise ValueError("blacklist would have no effect: no signal is a bigwig or a bedgraph")
        return self

    @property
    def path(self) -> Path:
        """The catalog file."""
        return self._path

    def resolve(self, file: str) -> Path:
        """Path of a file that the catalog names: from where the catalog lies, or in the cache for a URL."""
        return cache_path(file) if is_remote(file) else self._path.parent / file

    def expanded(self, file: str) -> tuple[str, ...]:
        """Files that a name with {chrom} stands for, of those that exist, in order; any other name alone."""
        if CHROM_PLACE not in file:
            return (file,)
        before, after = file.split(CHROM_PLACE, 1)
        folder = self._path.parent / Path(f"{before}x").parent
        stem = Path(f"{before}x").name[:-1]
        found = (path.name for path in folder.glob(f"{escape(stem)}*{escape(after)}"))
        return tuple(sorted(f"{before.removesuffix(stem)}{name}" for name in found))

    def files(self) -> dict[str, str | None]:
        """Every file named, as written, with its expected MD5 or None; each once, in the order of the catalog."""
        files: dict[str, str | None] = {}
        for file, md5 in self._named():
            for one in self.expanded(file):
                files[one] = files.get(one) or md5
        return files

    def _named(self) -> Iterator[tuple[str, str | None]]:
        """Files as the catalog names them, in its order."""
        if self.sequence is not None:
            yield self.sequence.fasta, self.sequence.md5
        yield self.genes.file, self.genes.md5
        if isinstance(self.folds, FoldTable):
            yield self.folds.table, self.folds.md5
        if self.blacklist is not None:
            yield self.blacklist.bed, self.blacklist.md5
        for cell in self.cell_types.values():
            if isinstance(cell.label, LabelBigWig):
                yield cell.label.bigwig, cell.label.md5
                if cell.label.bigwig_minus is not None:
                    yield cell.label.bigwig_minus, cell.label.md5_minus
            else:
                yield cell.label.table, cell.label.md5
            if cell.scalars is not None:
                yield cell.scalars.table, cell.scalars.md5
            yield from ((signal.file, signal.md5) for signal in cell.signals.values())

    def digest(self, md5s: Mapping[str, str] | None = None) -> str:
        """SHA-256 over what the catalog says and over the content of every file it names; 64 hexadecimal digits.

        Where the files lie does not count: a data set that was moved keeps its digest.

        Args:
            md5s: `source_digests(catalog)`, where it is already known; else every file is read.
        """
        known = source_digests(self) if md5s is None else md5s

        def canonical(value: Any, key: str = "") -> Any:
            if isinstance(value, dict):
                # A declared MD5 is a check of what is hashed here anyway.
                return {name: canonical(item, name) for name, item in value.items() if name not in _MD5_FIELDS}
            if key in _FILE_FIELDS and value is not None:
                return [known[str(self.resolve(file))] for file in self.expanded(value)]
            return value

        text = json.dumps(canonical(self.model_dump(mode="json")), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def source_digests(catalog: Catalog) -> dict[str, str]:
    """MD5 of every file of a catalog, by its resolved path; the files are streamed.

    Raises:
        OSError: a file cannot be read; `check_catalog` says so in its own words before.
    """
    paths = [catalog.resolve(file) for file in catalog.files()]
    return {str(path): file_md5(path) for path in paths}


def file_md5(path: Path) -> str:
    """MD5 of a file's content, 32 hexadecimal digits."""
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
