"""A small store written from arrays made here, and those arrays: what a reader must give back."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prism_ray.store.layout import GeneRows, Layout
from prism_ray.store.quality import BuildReport, cell_type_report
from prism_ray.store.rings import ring_bounds
from prism_ray.store.schema import (
    CellTypeDescription,
    Dtype,
    LabelDescription,
    SignalDescription,
    SourceDescription,
    StoreDescription,
)
from prism_ray.store.staging import Staging, write_record
from prism_ray.store.tally import PartitionRecord, PartitionTally
from prism_ray.store.write import PartitionWriter

KEY = "key"
SOURCE = SourceDescription(file="made.bw", kind="bigwig", md5="0" * 32)


@dataclass
class Recipe:
    """What a store is made of."""

    window_bp: int = 5000
    cell_types: tuple[str, ...] = ("K562", "GM12878")
    chroms: tuple[str, ...] = ("chr1", "chr2", "chr10", "chrX")
    n_genes: int = 6
    signals: dict[str, Dtype] = field(
        default_factory=lambda: {"h3k27ac": "float32", "dnase": "float16", "hic": "float32"}
    )
    sequence: bool = True
    lacking: dict[str, str] = field(default_factory=dict)
    """A signal that a cell type has not, by cell type."""
    scalars: tuple[str, ...] = ("utr5_len", "cds_gc")
    folds: dict[str, dict[str, str]] = field(
        default_factory=lambda: {"fold_1": {"chr1": "validation", "chr2": "test", "chr10": "train", "chrX": "train"}}
    )
    scale: float = 1.0
    seed: int = 0

    def signals_of(self, cell_type: str) -> dict[str, Dtype]:
        return {name: dtype for name, dtype in self.signals.items() if self.lacking.get(cell_type) != name}

    def layout(self, cell_type: str) -> Layout:
        signals = tuple(self.signals_of(cell_type).items())
        return Layout(self.window_bp, signals, self.sequence, len(self.scalars))


@dataclass
class Partition:
    """Genes of one cell type on one chromosome, as they were written."""

    cell_type: str
    chrom: str
    rows: GeneRows


def make_rows(recipe: Recipe, cell_type: str, chrom: str) -> GeneRows:
    rng = np.random.default_rng([recipe.seed, *map(ord, cell_type + chrom)])
    n, length = recipe.n_genes, recipe.window_bp
    genes = pd.DataFrame(
        {
            "gene_id": [f"{chrom}_gene{number}" for number in range(n)],
            "gene_name": [f"G{number}" for number in range(n)],
            "tss": np.arange(n, dtype=np.int64) * 700 + 100,
            "strand": ["+-"[number % 2] for number in range(n)],
            "label": rng.random(n).astype(np.float32),
        }
    )
    signals: dict[str, NDArray[np.float32]] = {
        name: (recipe.scale * rng.random((n, length))).astype(np.float32) for name in recipe.signals_of(cell_type)
    }
    sequence = rng.integers(0, 5, (n, length)).astype(np.uint8) if recipe.sequence else None
    return GeneRows(genes, rng.random((n, len(recipe.scalars))).astype(np.float32), sequence, signals)


def part_of(rows: GeneRows, part: slice) -> GeneRows:
    sequence = None if rows.sequence is None else rows.sequence[part]
    signals = {name: values[part] for name, values in rows.signals.items()}
    return GeneRows(rows.genes[part], rows.scalars[part], sequence, signals)


def write_partition(folder: Path, layout: Layout, partition: Partition, key: str = KEY) -> PartitionRecord:
    tally = PartitionTally(10**7, layout.window_bp)
    with PartitionWriter(folder, partition.cell_type, partition.chrom, layout) as writer:
        for group in layout.row_groups(len(partition.rows.genes)):
            rows = part_of(partition.rows, group)
            tally.add(rows, dict.fromkeys(rows.signals, 0), writer.write(rows))
        record = PartitionRecord(entry=writer.close(), statistics=tally.statistics())
    write_record(folder, key, record)
    return record


def describe(recipe: Recipe, records: list[PartitionRecord]) -> StoreDescription:
    return StoreDescription(
        builder_version="0.0.0",
        name="made",
        assembly="made1",
        catalog_digest="0" * 64,
        window_bp=recipe.window_bp,
        ring_bounds=ring_bounds(recipe.window_bp),
        sequence=SOURCE if recipe.sequence else None,
        signals=tuple(
            SignalDescription(name=name, role="foreground", transform="none", dtype=dtype)
            for name, dtype in recipe.signals.items()
        ),
        scalar_names=recipe.scalars,
        cell_types={
            cell_type: CellTypeDescription(
                n_genes=recipe.n_genes * len(recipe.chroms),
                label=LabelDescription(source="labels.tsv: made", transform="none"),
                sources=dict.fromkeys(recipe.signals_of(cell_type), SOURCE),
            )
            for cell_type in recipe.cell_types
        },
        folds=recipe.folds,  # type: ignore[arg-type]
        chrom_sizes=dict.fromkeys(recipe.chroms, 10**7),
        files=tuple(record.entry for record in records),
    )


def report_of(recipe: Recipe, description: StoreDescription, records: list[PartitionRecord]) -> BuildReport:
    cells = {}
    for cell_type in recipe.cell_types:
        own = [record for record in records if record.entry.cell_type == cell_type]
        cells[cell_type] = cell_type_report(own, dict.fromkeys(recipe.signals_of(cell_type), "none"), 0)
    n_bytes = sum(record.entry.bytes for record in records)
    return BuildReport(
        name="made", digest=description.digest(), window_bp=recipe.window_bp, bytes=n_bytes, cell_types=cells
    )


def make_store(out: Path, recipe: Recipe | None = None) -> list[Partition]:
    """Write a store to `out` and give what was put into it, in store order."""
    recipe = recipe or Recipe()
    partitions = [
        Partition(cell_type, chrom, make_rows(recipe, cell_type, chrom))
        for cell_type in recipe.cell_types
        for chrom in recipe.chroms
    ]
    with Staging(out, KEY) as staging:
        records = [
            write_partition(staging.path, recipe.layout(partition.cell_type), partition) for partition in partitions
        ]
        description = describe(recipe, records)
        staging.finish(description, report_of(recipe, description, records))
    return partitions
