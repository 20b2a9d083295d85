"""What a catalog says: the raw files of a data set, what each one is, and how it is read.

Coordinates are 0-based and half-open. Paths are as written in the catalog; `Catalog.resolve` turns
them into paths from where the catalog file lies.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, PrivateAttr, Tag, field_validator, model_validator

from prism_ray.documents import StrictModel

Text = Annotated[str, Field(min_length=1)]
Md5 = Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
Transform = Literal["none", "log1p", "log10p1"]

_SIGNAL_NAME = re.compile(r"^[a-z0-9]+(_[a-z0-9]+)*$")
_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._+-]*$")
_CONTACT_ONLY = ("resolution", "balance", "pseudocount", "quality")


class SequenceSource(StrictModel):
    """The genome's DNA."""

    fasta: Text
    """FASTA file, plain or bgzip."""
    md5: Md5 | None = None
    """MD5 of the file, checked where given."""
    partial: bool = False
    """Whether the file may hold less of a chromosome than the other sources say there is; what it lacks reads as N."""


class GeneColumns(StrictModel):
    """Names of the columns of the gene table."""

    gene_id: Text = "gene_id"
    """Identifier, one row each."""
    gene_name: Text | None = "gene_name"
    """Symbol; null where the table has none, the identifier is then shown instead."""
    chrom: Text = "chrom"
    """Chromosome."""
    tss: Text = "tss"
    """Position of the transcription start site."""
    strand: Text = "strand"
    """Strand, + or -."""


class GeneSource(StrictModel):
    """The gene table."""

    table: Text
    """TSV or CSV file, by suffix; .gz is allowed."""
    columns: GeneColumns = GeneColumns()
    """Where the table's columns are named differently."""
    tss_base: Literal[0, 1] = 0
    """Number of a chromosome's first base in the table: 0, or 1 as in GTF."""
    md5: Md5 | None = None
    """MD5 of the file, checked where given."""


class FoldTable(StrictModel):
    """Folds in a table with one row a chromosome and one column a fold."""

    table: Text
    """TSV or CSV file; values train, valid, validation or test."""
    chrom: Text = "chrom"
    """Name of the column with the chromosome."""
    names: tuple[Text, ...] | None = None
    """Columns that are folds; all but the chromosome's where not given."""
    md5: Md5 | None = None
    """MD5 of the file, checked where given."""


class FoldRoles(StrictModel):
    """One fold; chromosomes that it does not name are for training."""

    validation: tuple[Text, ...]
    """Chromosomes on which models are chosen."""
    test: tuple[Text, ...]
    """Chromosomes that are looked at once."""


class LabelSource(StrictModel):
    """The measured expression that is predicted."""

    table: Text
    """TSV or CSV file with one row a gene."""
    column: Text
    """Name of the column with the value."""
    gene_id: Text = "gene_id"
    """Name of the column with the gene's identifier."""
    transform: Literal["none", "log10p1"] = "none"
    """What is done to the value: nothing, or log10(1 + x)."""
    missing: Literal["refuse", "drop"] = "refuse"
    """Genes without a value: a fault, or left out and counted."""
    md5: Md5 | None = None
    """MD5 of the file, checked where given."""


class ScalarSource(StrictModel):
    """Numbers that describe a gene as a whole."""

    table: Text
    """TSV or CSV file with one row a gene."""
    columns: tuple[Text, ...] = Field(min_length=1)
    """Names of the columns, in the order of the model's input."""
    gene_id: Text = "gene_id"
    """Name of the column with the gene's identifier."""
    md5: Md5 | None = None
    """MD5 of the file, checked where given."""

    @field_validator("columns")
    @classmethod
    def _unique(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) < len(value):
            raise ValueError(f"{list(value)} names one of them twice")
        return value


class SignalSource(StrictModel):
    """One track along the genome."""

    file: Text
    """The file."""
    kind: Literal["bigwig", "bedgraph", "cooler"]
    """Its format."""
    role: Literal["foreground", "background"]
    """Foreground marks active elements; background describes the chromatin state around them."""
    transform: Transform = "none"
    """What is done to a value x: nothing, ln(1 + x) or log10(1 + x)."""
    dtype: Literal["float32", "float16"] = "float32"
    """Type in the feature store."""
    missing: Literal["zero"] = "zero"
    """What stands where the file has no value."""
    accession: Text | None = None
    """Where the file comes from, for example its ENCODE accession."""
    md5: Md5 | None = None
    """MD5 of the file, checked where given."""
    resolution: int | None = Field(default=None, ge=1)
    """Contact maps: bin size in bp; needed for .mcool."""
    balance: bool | Text = True
    """Contact maps: balanced (by the column `weight`, or the one named) or raw contacts."""
    pseudocount: Literal["powerlaw", "none"] = "powerlaw"
    """Contact maps: whether the contact expected at a distance is added."""
    quality: bool = True
    """Contact maps: whether all contacts of a gene with hardly any near its TSS are set to 0."""

    @model_validator(mode="after")
    def _contact_settings(self) -> SignalSource:
        given = [name for name in _CONTACT_ONLY if name in self.model_fields_set]
        if self.kind != "cooler" and given:
            raise ValueError(f"{', '.join(given)} would have no effect: kind is {self.kind}, not cooler")
        return self


class CellType(StrictModel):
    """What was measured in one cell type."""

    label: LabelSource
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


def _kind_of_folds(value: object) -> str:
    # The brackets mark the tag as a branch of a union, so that it does not show in a fault's place.
    return (
        "folds[table]"
        if isinstance(value, FoldTable) or (isinstance(value, dict) and "table" in value)
        else "folds[inline]"
    )


Folding = Annotated[
    Annotated[FoldTable, Tag("folds[table]")] | Annotated[dict[Text, FoldRoles], Tag("folds[inline]")],
    Discriminator(_kind_of_folds),
]


class Catalog(StrictModel):
    """One data set, as its catalog file says; `path` is that file."""

    name: Text
    """Name of the data set."""
    assembly: Text
    """Genome assembly of every file, for example hg38."""
    sequence: SequenceSource | None = None
    """DNA; without it the feature store has none."""
    genes: GeneSource
    """The genes."""
    folds: Folding
    """Which chromosomes train, validate and test."""
    window_bp: int = Field(ge=2, le=2_000_000)
    """Length of the stored window, in bp; even."""
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

    @property
    def path(self) -> Path:
        """The catalog file."""
        return self._path

    def resolve(self, file: str) -> Path:
        """Path of a file that the catalog names, from where the catalog lies."""
        return self._path.parent / file

    def files(self) -> dict[str, str | None]:
        """Every file named, as written, with its expected MD5 or None; each once, in the order of the catalog."""
        named: list[tuple[str, str | None]] = []
        if self.sequence is not None:
            named.append((self.sequence.fasta, self.sequence.md5))
        named.append((self.genes.table, self.genes.md5))
        if isinstance(self.folds, FoldTable):
            named.append((self.folds.table, self.folds.md5))
        for cell in self.cell_types.values():
            named.append((cell.label.table, cell.label.md5))
            if cell.scalars is not None:
                named.append((cell.scalars.table, cell.scalars.md5))
            named.extend((signal.file, signal.md5) for signal in cell.signals.values())
        files: dict[str, str | None] = {}
        for file, md5 in named:
            files[file] = files.get(file) or md5
        return files

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
                return {name: canonical(item, name) for name, item in value.items() if name != "md5"}
            if key in ("table", "file", "fasta"):
                return known[str(self.resolve(value))]
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
