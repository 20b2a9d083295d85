"""Readers on the real tracks, against the numbers that came with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from prism_ray.features.catalog import check_catalog, load_catalog
from prism_ray.features.sequence import one_hot, open_sequence
from prism_ray.features.signals import open_signal


def write_catalog(path: Path, pack: Path, **changes: object) -> Path:
    content = {
        "schema": 1,
        "name": "real",
        "assembly": "hg38",
        "genes": {"table": f"{pack}/tables/genes_18413.tsv.gz", "columns": {"chrom": "chrom_hg38", "tss": "tss_hg38"}},
        "folds": {"table": f"{pack}/tables/chrom_folds_epinformer.csv", "names": ["fold_11"]},
        "window_bp": 2000,
        "cell_types": {
            "K562": {
                "label": {
                    "table": f"{pack}/tables/genes_18413.tsv.gz",
                    "column": "log10_K562_TPM_plus1",
                    "missing": "drop",
                },
                "signals": {
                    "h3k27ac": {
                        "file": f"{pack}/hg38/K562_H3K27ac.peaks.lifted_hg38.bw",
                        "kind": "bigwig",
                        "role": "foreground",
                    }
                },
            }
        },
    } | changes
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


@pytest.mark.slow
def test_h3k27ac_at_the_tss_against_expression(real_pack: Path, tmp_path: Path) -> None:
    catalog = load_catalog(write_catalog(tmp_path / "catalog.yaml", real_pack))
    data = check_catalog(catalog)
    genes, source = data.cell_types["K562"].genes, catalog.cell_types["K562"].signals["h3k27ac"]
    assert (len(genes), data.cell_types["K562"].n_dropped) == (17_603, 810)
    assert len(data.folds.split("fold_11", genes["chrom"].tolist()).test) == 1097
    level = np.zeros(len(genes))
    with open_signal(source, catalog.resolve(source.file)) as reader:
        for chrom, part in genes.groupby("chrom"):
            level[part.index] = reader.windows(str(chrom), part["tss"].to_numpy(), 2000).values.mean(axis=1)
    assert abs(np.corrcoef(np.log10(level + 0.01), genes["label"])[0, 1] - 0.787) < 0.002


def test_part_of_a_chromosome_as_bgzip(real_pack: Path, tmp_path: Path) -> None:
    fasta = real_pack / "hg38" / "chr1_0_9800000.lifted_hg38.fa.gz"
    genes = {
        "table": str(real_pack / "hg38" / "chr1_0_9800000_genes.tsv"),
        "columns": {"chrom": "chrom_hg38", "tss": "tss_hg38"},
    }
    path = write_catalog(
        tmp_path / "catalog.yaml", real_pack, genes=genes, sequence={"fasta": str(fasta), "partial": True}
    )
    data = check_catalog(load_catalog(path))
    assert data.chrom_sizes["chr1"] == 248_956_422
    tss = data.cell_types["K562"].genes["tss"].to_numpy()
    assert len(tss) == 103
    with open_sequence(fasta) as reader:
        share = one_hot(reader.windows("chr1", tss, 500)).mean(axis=(0, 1))
    assert share[1] + share[2] > 0.6  # promoters are rich in C and G
