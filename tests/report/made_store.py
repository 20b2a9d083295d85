"""A store whose signals follow the label, on demand spoiled in one place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prism_ray.store.layout import GeneRows
from prism_ray.store.staging import Staging
from tests.store.factory import KEY, SOURCE, Partition, Recipe, describe, report_of, write_partition

RECIPE = Recipe(
    window_bp=4000,
    chroms=("chr1", "chr2", "chr10", "chrX"),
    n_genes=120,
    signals={"h3k27ac": "float32", "dnase": "float16"},
    scalars=(),
    sequence=False,
)
Spoil = Callable[[str, str, dict[str, NDArray[np.float32]]], None]


def untouched(cell_type: str, chrom: str, signals: dict[str, NDArray[np.float32]]) -> None:
    """Nothing is spoiled."""


def shifted(cell_type: str, chrom: str, signals: dict[str, NDArray[np.float32]]) -> None:
    """Genes 20 to 119 of chr10 have the DNase of their neighbour in K562."""
    if (cell_type, chrom) == ("K562", "chr10"):
        signals["dnase"][20:] = np.roll(signals["dnase"][20:], 1, axis=0)


def peak_rows(recipe: Recipe, cell_type: str, chrom: str) -> GeneRows:
    """Genes with a peak at the TSS whose height is the label, with some noise."""
    random = np.random.default_rng([recipe.seed, *map(ord, cell_type + chrom)])
    n, half = recipe.n_genes, recipe.window_bp // 2
    label = (1.0 + random.random(n)).astype(np.float32)
    shape = (0.2 + np.exp(-0.5 * (np.arange(-half, half) / 400.0) ** 2)).astype(np.float32)
    heights = {name: label + 0.12 * random.standard_normal(n).astype(np.float32) for name in recipe.signals}
    genes = pd.DataFrame(
        {
            "gene_id": [f"{chrom}_gene{number}" for number in range(n)],
            "gene_name": [f"G{number}" for number in range(n)],
            "tss": np.arange(n, dtype=np.int64) * 50_000 + 1000,
            "strand": ["+-"[number % 2] for number in range(n)],
            "label": label,
        }
    )
    signals = {name: heights[name][:, None] * shape[None, :] for name in recipe.signals}
    return GeneRows(genes, np.zeros((n, 0), np.float32), None, signals)


def made_store(out: Path, spoil: Spoil = untouched, recipe: Recipe = RECIPE) -> Path:
    """Write the store to `out`; each signal of each cell type has a file of its own."""
    partitions = []
    for cell_type in recipe.cell_types:
        for chrom in recipe.chroms:
            rows = peak_rows(recipe, cell_type, chrom)
            signals = {name: np.array(values) for name, values in rows.signals.items()}
            spoil(cell_type, chrom, signals)
            partitions.append(Partition(cell_type, chrom, replace(rows, signals=signals)))
    with Staging(out, KEY) as staging:
        records = [write_partition(staging.path, recipe.layout(each.cell_type), each) for each in partitions]
        description = describe(recipe, records)
        cells = {}
        for number, (cell_type, cell) in enumerate(description.cell_types.items()):
            sources = {
                name: SOURCE.model_copy(update={"file": f"{cell_type}_{name}.bw", "md5": f"{number}{place}" * 16})
                for place, name in enumerate(cell.sources)
            }
            cells[cell_type] = cell.model_copy(update={"sources": sources})
        description = description.model_copy(update={"cell_types": cells})
        staging.finish(description, report_of(recipe, description, records))
    return out
