"""The parts of a catalog: each kind of file that it may name, and how that is read.

Coordinates are 0-based and half-open. A file is a path from where the catalog lies, or a URL (s3://, gs://, https://).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from prism_ray.documents import StrictModel
from prism_ray.features.urls import is_remote, shown, why_refused


def _readable(file: str) -> str:
    """The same file; a URL that is never fetched is refused before any work starts."""
    if is_remote(file) and (why := why_refused(file)):
        raise ValueError(f"{shown(file)} {why[0]}; {why[1]}")
    return file


Text = Annotated[str, Field(min_length=1)]
File = Annotated[str, Field(min_length=1), AfterValidator(_readable)]
Md5 = Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
Transform = Literal["none", "log1p", "log10p1"]

_CONTACT_SETTINGS = ("resolution", "balance", "marginal", "pseudocount", "quality")
CHROM_PLACE = "{chrom}"
"""Stands for the chromosome in the path of a signal with one file a chromosome."""


class SequenceSource(StrictModel):
    """The genome's DNA."""

    fasta: File
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
    strand: Text | None = "strand"
    """Strand, + or -; null where the table has none: windows and labels by strand are then refused."""


class GeneTable(StrictModel):
    """The genes, from a table."""

    table: File
    """TSV, CSV or Parquet file, by suffix; .gz is allowed for text."""
    columns: GeneColumns = GeneColumns()
    """Where the table's columns are named differently."""
    tss_base: Literal[0, 1] = 0
    """Number of a chromosome's first base in the table: 0, or 1 as in GTF."""
    md5: Md5 | None = None
    """MD5 of the file, checked where given."""

    @property
    def file(self) -> str:
        """The file, as written."""
        return self.table


class GeneGtf(StrictModel):
    """The genes, from the annotation of a genome."""

    gtf: File
    """GTF file of GENCODE or Ensembl; .gz is allowed. Records of the feature `gene` are genes."""
    gene_types: tuple[Text, ...] = ()
    """Values of the attribute gene_type (GENCODE) or gene_biotype (Ensembl) that are kept; empty for all."""
    chroms: tuple[Text, ...] = ()
    """Chromosomes whose genes are kept; empty for all."""
    md5: Md5 | None = None
    """MD5 of the file, checked where given."""

    @property
    def file(self) -> str:
        """The file, as written."""
        return self.gtf


class Blacklist(StrictModel):
    """Regions where tracks are artefacts."""

    bed: File
    """BED file, .gz is allowed; the first three columns are read."""
    md5: Md5 | None = None
    """MD5 of the file, checked where given."""


class FoldTable(StrictModel):
    """Folds in a table with one row a chromosome and one column a fold."""

    table: File
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


class LabelTable(StrictModel):
    """The measured expression that is predicted, from a table."""

    table: File
    """TSV, CSV or Parquet file with one row a gene."""
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


class LabelBigWig(StrictModel):
    """The measured expression that is predicted, summed from a CAGE track around each TSS."""

    bigwig: File
    """bigWig of both strands, or of the forward strand where `bigwig_minus` is given."""
    bigwig_minus: File | None = None
    """bigWig of the reverse strand: genes on it are read from here. Its values may be counted downwards from 0."""
    half_width_bp: int = Field(default=192, ge=1, le=100_000)
    """The sum is over [tss - half_width_bp, tss + half_width_bp); bases without a value count 0."""
    transform: Literal["none", "log10p1"] = "none"
    """What is done to the sum: nothing, or log10(1 + x)."""
    md5: Md5 | None = None
    """MD5 of `bigwig`, checked where given."""
    md5_minus: Md5 | None = None
    """MD5 of `bigwig_minus`, checked where given."""

    @model_validator(mode="after")
    def _md5_of_a_file(self) -> LabelBigWig:
        if self.md5_minus is not None and self.bigwig_minus is None:
            raise ValueError("md5_minus would have no effect: there is no bigwig_minus")
        return self


class ScalarSource(StrictModel):
    """Numbers that describe a gene as a whole."""

    table: File
    """TSV, CSV or Parquet file with one row a gene."""
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

    file: File
    """The file; for gene_windows with {chrom} where the chromosome's name stands."""
    kind: Literal["bigwig", "bedgraph", "cooler", "gene_windows"]
    """Its format. gene_windows: HDF5, a data set `<chrom>_<tss>` a gene, one value a base, the TSS in the middle."""
    role: Literal["foreground", "background"]
    """Foreground marks active elements; background describes the chromatin state around them."""
    transform: Transform = "none"
    """What is done to a value x: nothing, ln(1 + x) or log10(1 + x)."""
    dtype: Literal["float32", "float16", "auto"] = "float32"
    """Type in the feature store; auto: float16 where what rounding costs is within bounds, else float32."""
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
    marginal: Literal["none", "vc", "vc_sqrt"] = "none"
    """Contact maps: divide raw contacts by the sums of both bins (vanilla coverage), or by their square roots."""
    pseudocount: Literal["powerlaw", "none"] = "powerlaw"
    """Contact maps: whether the contact expected at a distance is added."""
    quality: bool = True
    """Contact maps: whether all contacts of a gene with hardly any near its TSS are set to 0."""

    @model_validator(mode="after")
    def _contact_settings(self) -> SignalSource:
        given = [name for name in _CONTACT_SETTINGS if name in self.model_fields_set]
        if self.kind != "cooler" and given:
            raise ValueError(f"{', '.join(given)} would have no effect: kind is {self.kind}, not cooler")
        if self.marginal != "none" and self.balance:
            raise ValueError(
                f"marginal: {self.marginal} normalises raw contacts, and balance asks for stored weights; "
                "set balance: false, or leave marginal out"
            )
        return self

    @model_validator(mode="after")
    def _one_file_a_chromosome(self) -> SignalSource:
        place = self.file.rpartition("/")[2].count(CHROM_PLACE)
        if self.kind != "gene_windows":
            if CHROM_PLACE in self.file:
                raise ValueError(f"file {self.file!r} has {CHROM_PLACE}, and kind is {self.kind}: it is one file")
            return self
        if is_remote(self.file):
            raise ValueError("gene_windows cannot be fetched: which chromosomes have a file is seen in a folder only")
        if place != 1 or self.file.count(CHROM_PLACE) != 1:
            problem = f"file {self.file!r} does not have {CHROM_PLACE} once in its name"
            raise ValueError(f"{problem}: gene_windows has one file a chromosome")
        if self.md5 is not None:
            raise ValueError("md5 would have no effect: gene_windows has one file a chromosome")
        return self

    @property
    def contact_settings(self) -> dict[str, Any]:
        """Settings of a contact map by name; empty for a signal of another kind."""
        return {name: getattr(self, name) for name in _CONTACT_SETTINGS} if self.kind == "cooler" else {}
