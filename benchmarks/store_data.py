"""A genome to measure stores on: dense tracks over whole chromosomes, as sequencing gives them, and many genes."""

from __future__ import annotations

from pathlib import Path

import cooler
import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray

from prism_ray.features.simulate_files import STEP_BP, write_bigwig, write_fasta

CELL_TYPE = "K562"
SIGNALS = ("h3k27ac", "dnase", "hic")
SCALARS = tuple(f"scalar_{number}" for number in range(9))
CHROMS = ("chr1", "chr2", "chr3", "chr4")
BIN_BP = 5000
_REACH_BP = 2_000_000
_FOLDS = {"fold_1": {"validation": ["chr3"], "test": ["chr4"]}}


def make_genome(folder: Path, chrom_bp: int, seed: int = 0) -> None:
    """Write FASTA, two bigWigs of one value in 10 bp everywhere, and a contact map, over four chromosomes."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    sizes = dict.fromkeys(CHROMS, chrom_bp)
    write_fasta(folder / "genome.fa", {chrom: rng.integers(0, 4, chrom_bp).astype(np.uint8) for chrom in CHROMS})
    everywhere = {chrom: np.ones(chrom_bp // STEP_BP, dtype=np.bool_) for chrom in CHROMS}
    for name in SIGNALS[:2]:
        write_bigwig(folder / f"{name}.bw", sizes, {chrom: _coverage(rng, chrom_bp) for chrom in CHROMS}, everywhere)
    _write_map(folder / "hic.cool", sizes, rng)


def _coverage(rng: np.random.Generator, chrom_bp: int) -> NDArray[np.float64]:
    """Fold change over a background, one value in 10 bp: noise everywhere, and peaks here and there."""
    track = rng.gamma(0.7, 0.9, chrom_bp // STEP_BP)
    for centre in rng.integers(0, len(track), chrom_bp // 20_000):
        track[max(centre - 40, 0) : centre + 40] += rng.gamma(2.0, 6.0)
    return track


def _write_map(path: Path, sizes: dict[str, int], rng: np.random.Generator) -> None:
    """A balanced contact map of 5 kb bins with contacts to 2 Mb, about as many a bin as a deep experiment gives."""
    bins, pixels, offset = [], [], 0
    for chrom, size in sizes.items():
        start = np.arange(0, size, BIN_BP)
        bins.append(pd.DataFrame({"chrom": chrom, "start": start, "end": np.minimum(start + BIN_BP, size)}))
        for distance in range(min(_REACH_BP // BIN_BP, len(start))):
            first = np.arange(len(start) - distance) + offset
            count = rng.poisson(400.0 * (distance + 1.0) ** -0.87, len(first))
            pixels.append(pd.DataFrame({"bin1_id": first, "bin2_id": first + distance, "count": count}))
        offset += len(start)
    table = pd.concat(pixels, ignore_index=True)
    table = table[table["count"] > 0].sort_values(["bin1_id", "bin2_id"], ignore_index=True)
    all_bins = pd.concat(bins, ignore_index=True).assign(weight=0.02)
    cooler.create_cooler(str(path), all_bins, table, assembly="bench1", ordered=True)


def make_catalog(folder: Path, name: str, n_genes: int, chrom_bp: int, window_bp: int) -> Path:
    """Catalog of evenly many genes a chromosome, at random places, over the files of `make_genome`."""
    rng = np.random.default_rng(n_genes)
    per_chrom = n_genes // len(CHROMS)
    genes = pd.DataFrame(
        {
            "gene_id": [f"{chrom}_{number:05d}" for chrom in CHROMS for number in range(per_chrom)],
            "chrom": [chrom for chrom in CHROMS for _ in range(per_chrom)],
            "tss": np.concatenate([np.sort(rng.integers(1000, chrom_bp - 1000, per_chrom)) for _ in CHROMS]),
            "strand": "+",
            "label": rng.gamma(1.0, 1.0, per_chrom * len(CHROMS)),
        }
    )
    for scalar in SCALARS:
        genes[scalar] = rng.normal(size=len(genes))
    genes.to_csv(folder / f"{name}.tsv", sep="\t", index=False)
    table = f"{name}.tsv"
    hic = {"file": "hic.cool", "kind": "cooler", "role": "background", "transform": "log10p1"}
    signals = {
        "h3k27ac": {"file": "h3k27ac.bw", "kind": "bigwig", "role": "foreground"},
        "dnase": {"file": "dnase.bw", "kind": "bigwig", "role": "background"},
        "hic": hic,
    }
    content = {
        "schema": 1,
        "name": name,
        "assembly": "bench1",
        "sequence": {"fasta": "genome.fa"},
        "genes": {"table": table, "columns": {"gene_name": None}},
        "folds": _FOLDS,
        "window_bp": window_bp,
        "cell_types": {
            CELL_TYPE: {
                "label": {"table": table, "column": "label"},
                "scalars": {"table": table, "columns": list(SCALARS)},
                "signals": signals,
            }
        },
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path
