# ruff: noqa: E501 - messages are quoted as a user reads them
from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from catalog_edits import Content, rewrite

from prism_ray.errors import CatalogError
from prism_ray.features.catalog import load_catalog


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("schema"), "schema is missing; write schema: 1"),
        (lambda c: c.update(schema=2), "schema: 2 is not a known version of catalogs"),
        (lambda c: c.pop("folds"), "folds: is missing"),
        (lambda c: c.update(fold={}), "fold: is not a known field; use one of assembly"),
        (lambda c: c.update(window_bp=2001), "window_bp: 2001 is odd"),
        (lambda c: c.update(window_bp="2000"), "window_bp: '2000': input should be a valid integer"),
        (lambda c: c.update(cell_types={}), "cell_types"),
        (lambda c: c["cell_types"].update({"a/b": c["cell_types"]["K562"]}), "cell types cannot be named 'a/b'"),
        (
            lambda c: c["genes"].update(columns={"tsss": "x"}),
            "genes.columns.tsss: is not a known field; use one of chrom, gene_id, gene_name, strand, tss. Did you mean 'tss'?",
        ),
        (lambda c: c["genes"].update(tss_base=2), "genes.tss_base"),
        (lambda c: c["cell_types"]["K562"].pop("label"), "cell_types.K562.label: is missing"),
        (
            lambda c: c["cell_types"]["K562"]["label"].update(transform="log2"),
            "cell_types.K562.label.transform: 'log2'",
        ),
        (lambda c: c["cell_types"]["K562"]["scalars"].update(columns=["a", "a"]), "names one of them twice"),
        (
            lambda c: c["cell_types"]["K562"]["signals"].update({"H3__x": c["cell_types"]["K562"]["signals"]["hic"]}),
            "signals cannot be named 'H3__x'",
        ),
        (
            lambda c: c["cell_types"]["K562"]["signals"].update(
                {"sequence": c["cell_types"]["K562"]["signals"]["hic"]}
            ),
            "signals cannot be named 'sequence'",
        ),
        (
            lambda c: c["cell_types"]["K562"]["signals"]["dnase"].update(kind="bigbed"),
            "cell_types.K562.signals.dnase.kind: 'bigbed'",
        ),
        (
            lambda c: c["cell_types"]["K562"]["signals"]["dnase"].update(resolution=5),
            "cell_types.K562.signals.dnase: resolution would have no effect: kind is bigwig, not cooler",
        ),
        (lambda c: c["cell_types"]["K562"]["signals"]["dnase"].update(md5="abc"), "cell_types.K562.signals.dnase.md5"),
        (lambda c: c["cell_types"]["K562"]["signals"]["dnase"].update(roll="x"), "Did you mean 'role'?"),
        (
            lambda c: c.update(folds={"a": {"validation": ["chr1"], "tests": []}}),
            "folds.a.tests: is not a known field; use one of test, validation. Did you mean 'test'?",
        ),
        (
            lambda c: c.update(folds={"table": "folds.tsv", "crom": "x"}),
            "folds.crom: is not a known field; use one of chrom, md5, names, table. Did you mean 'chrom'?",
        ),
        (lambda c: c.update(folds=["chr1"]), "folds"),
        (
            lambda c: c.update(genes={"gtf": "a.gtf", "gene_type": ["x"]}),
            "genes.gene_type: is not a known field; use one of chroms, gene_types, gtf, md5. Did you mean 'gene_types'?",
        ),
        (lambda c: c.update(genes={"gtf": "a.gtf", "table": "a.tsv"}), "genes.table: is not a known field"),
        (lambda c: c.update(blacklist={"bed": ""}), "blacklist.bed"),
        (
            lambda c: c.update(
                blacklist={"bed": "a.bed"},
                cell_types={"K562": {"label": c["cell_types"]["K562"]["label"]}},
            ),
            "blacklist would have no effect: no signal is a bigwig or a bedgraph",
        ),
        (
            lambda c: c["cell_types"]["K562"].update(label={"bigwig": "a.bw", "md5_minus": "0" * 32}),
            "cell_types.K562.label: md5_minus would have no effect: there is no bigwig_minus",
        ),
        (lambda c: c.update(strand_aware="yes"), "strand_aware: 'yes': input should be a valid boolean"),
        (
            lambda c: c["cell_types"]["K562"].update(label={"bigwig": "a.bw", "half_width_bp": 0}),
            "cell_types.K562.label.half_width_bp: 0: input should be greater than or equal to 1",
        ),
        (
            lambda c: c["cell_types"]["K562"].update(label={"bigwig": "a.bw", "column": "K562"}),
            "cell_types.K562.label.column: is not a known field; use one of bigwig, bigwig_minus, half_width_bp, md5",
        ),
        (
            lambda c: c["cell_types"]["K562"]["signals"]["hic"].update(marginal="vc"),
            "marginal: vc normalises raw contacts, and balance asks for stored weights; set balance: false",
        ),
        (
            lambda c: c["cell_types"]["K562"]["signals"]["dnase"].update(kind="gene_windows"),
            "file 'k562_dnase.bw' does not have {chrom} once in its name: gene_windows has one file a chromosome",
        ),
        (
            lambda c: c["cell_types"]["K562"]["signals"]["dnase"].update(file="{chrom}/a.h5", kind="gene_windows"),
            "file '{chrom}/a.h5' does not have {chrom} once in its name",
        ),
        (
            lambda c: c["cell_types"]["K562"]["signals"]["dnase"].update(
                file="{chrom}.h5", kind="gene_windows", md5="0" * 32
            ),
            "md5 would have no effect: gene_windows has one file a chromosome",
        ),
        (
            lambda c: c["cell_types"]["K562"]["signals"]["dnase"].update(
                file="s3://bucket/{chrom}.h5", kind="gene_windows"
            ),
            "gene_windows cannot be fetched",
        ),
        (
            lambda c: c["cell_types"]["K562"]["signals"]["dnase"].update(file="{chrom}.bw"),
            "file '{chrom}.bw' has {chrom}, and kind is bigwig: it is one file",
        ),
        (
            lambda c: c["sequence"].update(fasta="http://example.org/genome.fa"),
            "sequence.fasta: http://example.org/genome.fa is not encrypted: anyone on the way could change the file; use https://",
        ),
    ],
)
def test_catalog_files_that_are_refused(
    tiny_genome: Path, tmp_path: Path, change: Callable[[Content], object], message: str
) -> None:
    shutil.copy(tiny_genome / "catalog.yaml", tmp_path)
    rewrite(tmp_path, change)
    with pytest.raises(CatalogError) as caught:
        load_catalog(tmp_path / "catalog.yaml")
    assert message in str(caught.value)
    assert len(caught.value.faults) <= 2
    assert "catalog.yaml:" in str(caught.value)
