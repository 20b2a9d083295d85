# ruff: noqa: E501 - messages are quoted as a user reads them
from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from catalog_edits import Content, edit_table, put, rewrite, set_field, set_label, set_signal, sizes_of, write_bigwig

from prism_ray.errors import CatalogError
from prism_ray.features.catalog import check_catalog, load_catalog


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
    ],
)
def test_catalog_files_that_are_refused(genome_copy: Path, change: Callable[[Content], object], message: str) -> None:
    rewrite(genome_copy, change)
    with pytest.raises(CatalogError) as caught:
        load_catalog(genome_copy / "catalog.yaml")
    assert message in str(caught.value)
    assert len(caught.value.faults) <= 2
    assert "catalog.yaml:" in str(caught.value)


def contradict(folder: Path) -> None:
    write_bigwig(folder / "k562_dnase.bw", [(chrom, size - 10) for chrom, size in sizes_of(folder)])


def rename_chroms(folder: Path) -> None:
    write_bigwig(folder / "k562_dnase.bw", [(chrom.removeprefix("chr"), size) for chrom, size in sizes_of(folder)])


def lose_chrom(folder: Path) -> None:
    write_bigwig(folder / "k562_dnase.bw", sizes_of(folder)[1:])


def negative_track(folder: Path) -> None:
    write_bigwig(folder / "k562_dnase.bw", sizes_of(folder), -0.25)


def lose_fasta_chrom(folder: Path) -> None:
    text = (folder / "genome.fa").read_text()
    (folder / "genome.fa").write_text(text[: text.index(">chr6")])
    os.utime(folder / "genome.fa.fai", (0, 0))


def truncate_bigwig(folder: Path) -> None:
    path = folder / "k562_dnase.bw"
    path.write_bytes(path.read_bytes()[:-50])


def truncate_map(folder: Path) -> None:
    path = folder / "k562_hic.mcool"
    path.write_bytes(path.read_bytes()[:5000])


def tiny_labels(folder: Path) -> None:
    edit_table(folder, "labels.tsv", lambda table: table.assign(gene_id="x" + table["gene_id"]))


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def drop_row(name: str) -> Callable[[Path], None]:
    return lambda folder: edit_table(folder, name, lambda table: table.tail(len(table) - 1))


def repeat_row(name: str) -> Callable[[Path], None]:
    return lambda folder: edit_table(folder, name, lambda table: pd.concat([table, table.head(1)]))


def empty_table(folder: Path) -> None:
    edit_table(folder, "labels.tsv", lambda table: table.head(0))


def rename_genes(folder: Path) -> None:
    edit_table(folder, "genes.tsv", lambda table: table.assign(chrom=table["chrom"].str.removeprefix("chr")))


def rename_folds(folder: Path) -> None:
    edit_table(folder, "folds.tsv", lambda table: table.assign(chrom=table["chrom"].str.removeprefix("chr")))


FAULTS: list[tuple[str, Callable[[Path], object], str]] = [
    (
        "no fasta",
        remove("genome.fa"),
        "catalog.yaml: sequence.fasta: {0}/genome.fa: no such file; give a FASTA file, or leave `sequence` out",
    ),
    (
        "no track",
        remove("k562_dnase.bw"),
        "catalog.yaml: cell_types.K562.signals.dnase: {0}/k562_dnase.bw: no such file",
    ),
    ("no table", remove("labels.tsv"), "catalog.yaml: cell_types.K562.label: {0}/labels.tsv: no such file"),
    ("truncated track", truncate_bigwig, "{0}/k562_dnase.bw: is cut short"),
    ("truncated map", truncate_map, "{0}/k562_hic.mcool: is not a cooler file, or is cut short"),
    ("wrong md5", set_signal("dnase", md5="0" * 32), "{0}/k562_dnase.bw: has MD5 "),
    ("track of another kind", set_signal("dnase", file="genes.tsv"), "{0}/genes.tsv: is not a bigWig"),
    (
        "negative track",
        negative_track,
        "k562_dnase.bw holds values under 0, which log1p cannot take; set transform: none",
    ),
    (
        "chrom names of a track",
        rename_chroms,
        "chromosomes are named '1' here and 'chr1' in the gene table; name them alike",
    ),
    (
        "chrom names of the genes",
        rename_genes,
        "chromosomes are named 'chr1' here and '1' in the gene table; name them alike",
    ),
    ("chrom absent from a track", lose_chrom, "(k562_dnase.bw): has no chr1, where 4 of 24 genes are"),
    ("chrom absent from the fasta", lose_fasta_chrom, "(genome.fa): has no chr6, where 4 of 24 genes are"),
    ("lengths contradict", contradict, "(k562_dnase.bw): chr1 has "),
    (
        "tss outside",
        put("genes.tsv", "tss", 0, "99999999"),
        "the TSS lies outside its chromosome in 1 of 24 genes: 'SIMG00000001 at chr1:99999999'",
    ),
    ("tss negative", put("genes.tsv", "tss", 0, "-1"), "the TSS lies outside its chromosome in 1 of 24 genes"),
    ("tss a fraction", put("genes.tsv", "tss", 0, "10.5"), "tss is not a whole number in 1 of 24 rows: '10.5' (row 1)"),
    ("tss a word", put("genes.tsv", "tss", 0, "x"), "tss is not a finite number in 1 of 24 rows: 'x' (row 1)"),
    ("tss missing", put("genes.tsv", "tss", 0, ""), "there is no tss in 1 of 24 rows"),
    (
        "gene twice",
        put("genes.tsv", "gene_id", 1, "SIMG00000001"),
        "gene_id is not unique in 2 of 24 rows: 'SIMG00000001' (row 1), 'SIMG00000001' (row 2)",
    ),
    ("gene without id", put("genes.tsv", "gene_id", 1, ""), "gene_id is empty in 1 of 24 rows"),
    ("bad strand", put("genes.tsv", "strand", 2, "."), "strand is neither + nor - in 1 of 24 rows: '.' (row 3)"),
    ("gene on unknown chrom", put("genes.tsv", "chrom", 2, "chr77"), "has no chr77, where 1 of 24 genes are"),
    (
        "unknown gene column",
        set_field("genes", {"table": "genes.tsv", "columns": {"tss": "TSS"}}),
        "has no column 'TSS'; use one of chrom, gene_id, gene_name, strand, tss. Did you mean 'tss'?",
    ),
    ("unknown suffix", set_field("genes", {"table": "genes.xlsx"}), "is neither TSV nor CSV by its name"),
    (
        "unknown label column",
        set_label(column="K526"),
        "has no column 'K526'; use one of GM12878, K562, gene_id. Did you mean 'K562'?",
    ),
    ("empty table", empty_table, "labels.tsv holds no rows"),
    (
        "label a word",
        put("labels.tsv", "K562", 0, "high"),
        "the label is not a finite number in 1 of 24 rows: 'high' (row 1)",
    ),
    ("label infinite", put("labels.tsv", "K562", 0, "inf"), "the label is not a finite number in 1 of 24 rows"),
    (
        "label missing",
        put("labels.tsv", "K562", 0, "NaN"),
        "there is no label in 1 of 24 genes: 'SIMG00000001'; add them, or set missing: drop",
    ),
    ("gene without label row", drop_row("labels.tsv"), "there is no label in 1 of 24 genes: 'SIMG00000001'"),
    ("label twice", repeat_row("labels.tsv"), "gene_id is not unique in 2 of 25 rows"),
    (
        "labels of other genes",
        tiny_labels,
        "no gene of the gene table has a label; gene ids there look like 'SIMG00000001', here like 'xSIMG00000001'",
    ),
    (
        "unknown scalar",
        lambda folder: rewrite(
            folder, lambda c: [cell["scalars"].update(columns=["utr5_len", "gcc"]) for cell in c["cell_types"].values()]
        ),
        "has no column 'gcc'",
    ),
    (
        "scalars differ",
        lambda folder: rewrite(folder, lambda c: c["cell_types"]["K562"]["scalars"].update(columns=["utr5_len"])),
        "give every cell type the same, in the same order",
    ),
    (
        "scalar missing",
        put("scalars_K562.tsv", "cds_len", 3, ""),
        "column cds_len: there is no value in 1 of 24 genes: 'SIMG00000004'",
    ),
    (
        "scalar a word",
        put("scalars_K562.tsv", "cds_len", 3, "long"),
        "cds_len is not a finite number in 1 of 24 rows: 'long' (row 4)",
    ),
    (
        "gene without scalars",
        drop_row("scalars_K562.tsv"),
        "there is no row for the gene in 1 of 24 genes: 'SIMG00000001'",
    ),
    (
        "signals differ",
        set_signal("dnase", transform="none"),
        "cell_types.GM12878.signals.dnase.transform: is log1p, in K562 it is none",
    ),
    (
        "two roles",
        set_field("folds", {"a": {"validation": ["chr1"], "test": ["chr1"]}}),
        "folds.a: chr1 is given twice: validation and test",
    ),
    ("two rows of a chrom", repeat_row("folds.tsv"), "chr1 has more than one row, so it could have two roles"),
    (
        "unknown fold chrom",
        set_field("folds", {"a": {"validation": ["chr1"], "test": ["chr99"]}}),
        "chr99 is not a chromosome of these data; use one of chr1, chr2",
    ),
    ("fold chrom names", rename_folds, "chromosomes are named '1' here and 'chr1' in the genome; name them alike"),
    (
        "chrom without a role",
        drop_row("folds.tsv"),
        "catalog.yaml: folds.fold_1: has no role for chr1, where there are genes",
    ),
    ("unknown role", put("folds.tsv", "fold_2", 0, "trian"), "column fold_2: 'trian' (chr1) is not a role"),
    (
        "unknown fold column",
        set_field("folds", {"table": "folds.tsv", "names": ["fold_77"]}),
        "has no column 'fold_77'",
    ),
    ("unknown fold chrom column", set_field("folds", {"table": "folds.tsv", "chrom": "seq"}), "has no column 'seq'"),
    ("no folds", set_field("folds", {}), "folds: holds no fold"),
    (
        "no such resolution",
        set_signal("hic", resolution=2000),
        "k562_hic.mcool: has no resolution 2000; set resolution to one of 1000, 5000, 10000",
    ),
    (
        "no resolution",
        lambda folder: rewrite(folder, lambda c: c["cell_types"]["K562"]["signals"]["hic"].pop("resolution")),
        "holds several resolutions and none is asked for",
    ),
    ("no such weights", set_signal("hic", balance="KR"), "has no balancing weights 'KR'"),
]


@pytest.mark.parametrize(
    ("spoil", "message"), [pytest.param(spoil, message, id=name) for name, spoil, message in FAULTS]
)
def test_faults_of_files(genome_copy: Path, spoil: Callable[[Path], object], message: str) -> None:
    spoil(genome_copy)
    with pytest.raises(CatalogError) as caught:
        check_catalog(load_catalog(genome_copy / "catalog.yaml"), 2000)
    assert message.format(genome_copy) in str(caught.value)


def test_all_faults_are_said_at_once(genome_copy: Path) -> None:
    truncate_bigwig(genome_copy)
    remove("gm12878_dnase.bw")(genome_copy)
    put("genes.tsv", "strand", 2, ".")(genome_copy)
    put("folds.tsv", "fold_2", 0, "trian")(genome_copy)
    set_signal("hic", resolution=2000)(genome_copy)
    with pytest.raises(CatalogError) as caught:
        check_catalog(load_catalog(genome_copy / "catalog.yaml"), 2000)
    text = str(caught.value)
    for part in (
        "k562_dnase.bw: is cut short",
        "gm12878_dnase.bw: no such file",
        "strand is neither",
        "no resolution 2000",
    ):
        assert part in text
    assert text.startswith(f"{len(caught.value.faults)} faults:")


def test_rows_are_those_of_the_file_and_not_of_the_genes_in_order(genome_copy: Path) -> None:
    for name in ("genes.tsv", "scalars_K562.tsv"):
        edit_table(genome_copy, name, lambda table: table.iloc[::-1])
    put("scalars_K562.tsv", "cds_len", 0, "long")(genome_copy)
    put("genes.tsv", "tss", 0, "-1")(genome_copy)
    with pytest.raises(CatalogError) as caught:
        check_catalog(load_catalog(genome_copy / "catalog.yaml"), 2000)
    assert "scalars_K562.tsv, column cds_len: cds_len is not a finite number in 1 of 24 rows: 'long' (row 1)" in str(
        caught.value
    )
    # Genes that are all read are in the store's order: they are named, not numbered.
    assert (
        "genes: genes.tsv: the TSS lies outside its chromosome in 1 of 24 genes: 'SIMG00000024 at chr6:-1'; check"
        in str(caught.value)
    )


@pytest.mark.parametrize("window_bp", [0, 2001])
def test_a_window_is_even(tiny_genome: Path, window_bp: int) -> None:
    with pytest.raises(CatalogError, match="is not a length of a window"):
        check_catalog(load_catalog(tiny_genome / "catalog.yaml"), window_bp)


def test_missing_catalog() -> None:
    with pytest.raises(CatalogError, match=r"nowhere.yaml: no such file"):
        load_catalog("nowhere.yaml")
