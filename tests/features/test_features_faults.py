# ruff: noqa: E501 - messages are quoted as a user reads them
from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from catalog_edits import Content, edit_table, put, rewrite, set_field, set_label, set_signal, sizes_of, write_bigwig

from prism_ray.errors import CatalogError
from prism_ray.features.catalog import check_catalog, load_catalog


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


def unbalance(folder: Path) -> None:
    with h5py.File(folder / "k562_hic.mcool", "r+") as file:
        del file["resolutions/1000/bins/weight"]


def write_text_track(folder: Path) -> None:
    (folder / "k562_dnase.bw").write_text("chr1\t0\t10\t1.5\n" * 20)


def build_hg19(folder: Path) -> None:
    write_bigwig(folder / "k562_dnase.bw", [("chr1", 249_250_621), *sizes_of(folder)[1:]])
    set_field("assembly", "GRCh38.p14")(folder)


def negative_label(folder: Path) -> None:
    put("labels.tsv", "K562", 3, "-0.5")(folder)
    set_label(transform="log10p1")(folder)


def cut_windows(folder: Path, change: Callable[[dict[str, list[int]]], object]) -> None:
    """Give one signal as windows around each TSS, with the positions by chromosome as `change` leaves them."""
    genes = pd.read_csv(folder / "genes.tsv", sep="\t")
    places = {str(chrom): rows["tss"].tolist() for chrom, rows in genes.groupby("chrom")}
    change(places)
    for chrom, positions in places.items():
        with h5py.File(folder / f"dnase_{chrom}.h5", "w") as file:
            for position in positions:
                file[f"{chrom}_{position}"] = np.zeros(2000, dtype=np.float32)
    set_signal("dnase", file="dnase_{chrom}.h5", kind="gene_windows")(folder)


def only_windows(folder: Path) -> None:
    cut_windows(folder, lambda places: None)
    cage = {"table": "labels.tsv", "column": "K562"}

    def strip(content: Content) -> None:
        dnase = content["cell_types"]["K562"]["signals"]["dnase"]
        content["sequence"] = None
        content["cell_types"] = {"K562": {"label": cage, "signals": {"dnase": dnase}}}

    rewrite(folder, strip)


def write_blacklist(text: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / "a.bed").write_text(text)
        set_field("blacklist", {"bed": "a.bed"})(folder)

    return change


def forget_strands(folder: Path) -> None:
    set_field("genes", {"table": "genes.tsv", "columns": {"strand": None}})(folder)
    set_field("strand_aware", True)(folder)


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
    ("unknown suffix", set_field("genes", {"table": "genes.xlsx"}), "is neither TSV, CSV nor Parquet by its name"),
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
    ("unbalanced map", unbalance, "k562_hic.mcool: has no balancing weights"),
    ("text named as a track", write_text_track, "{0}/k562_dnase.bw: is not a bigWig; give a bigWig file, or state"),
    (
        "another assembly",
        build_hg19,
        "signals.dnase (k562_dnase.bw): has chr1 of 249,250,621 bp, which is hg19; the catalog says GRCh38.p14; use files of one assembly",
    ),
    (
        "label under 0",
        negative_label,
        "column K562: the label is under 0, which log10p1 cannot take in 1 of 24 genes: 'SIMG00000004'",
    ),
    (
        "windows of no gene",
        set_signal("dnase", file="dnase_{chrom}.h5", kind="gene_windows"),
        "{0}/dnase_{{chrom}}.h5: no such file for any chromosome",
    ),
    (
        "windows of other chromosomes",
        lambda folder: cut_windows(folder, lambda places: places.pop("chr2")),
        "signals.dnase (dnase_{{chrom}}.h5): has no chr2, where 4 of 24 genes are",
    ),
    (
        "windows of other genes",
        lambda folder: cut_windows(folder, lambda places: places["chr2"].pop()),
        "signals.dnase (dnase_{{chrom}}.h5): there is no data set <chrom>_<tss> in 1 of 24 genes: 'SIMG00000008 at chr2_",
    ),
    (
        "nothing but windows",
        only_windows,
        "(dnase_{{chrom}}.h5): does not say how long chr1, chr2, chr3, chr4, chr5, chr6 is, and no other source does; name a FASTA",
    ),
    ("no blacklist", set_field("blacklist", {"bed": "a.bed"}), "{0}/a.bed: no such file; give the path of a BED file"),
    (
        "blacklist of words",
        write_blacklist("chr1 a b\n"),
        "{0}/a.bed: 1 lines are not regions, first line 1 'chr1 a b'",
    ),
    (
        "chrom names of the blacklist",
        write_blacklist("1\t5\t9\n"),
        "catalog.yaml: blacklist (a.bed): chromosomes are named '1' here and 'chr1' in the genome; name them alike",
    ),
    (
        "blacklist of another genome",
        write_blacklist("chrW\t5\t9\n"),
        "blacklist (a.bed): none of its chromosomes is in the genome, chrW for one; give that of the assembly",
    ),
    (
        "strands asked for and not given",
        forget_strands,
        "catalog.yaml: strand_aware: asks for the strand of each gene, and genes.columns.strand is null; name the column",
    ),
    ("no gtf", set_field("genes", {"gtf": "a.gtf"}), "catalog.yaml: genes: a.gtf: {0}/a.gtf: no such file"),
    (
        "no label track",
        lambda folder: rewrite(folder, lambda c: c["cell_types"]["K562"].update(label={"bigwig": "a.bw"})),
        "catalog.yaml: cell_types.K562.label.bigwig: a.bw: {0}/a.bw: no such file",
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
    # Without genes the other tables are still looked at.
    rewrite(genome_copy, lambda c: c["cell_types"]["GM12878"]["label"].update(table="gm12878_labels.tsv"))
    with pytest.raises(CatalogError) as caught:
        check_catalog(load_catalog(genome_copy / "catalog.yaml"), 2000)
    text = str(caught.value)
    for part in (
        "k562_dnase.bw: is cut short",
        "gm12878_dnase.bw: no such file",
        "strand is neither",
        "no resolution 2000",
        "'trian' (chr1) is not a role",
        "gm12878_labels.tsv: no such file",
    ):
        assert part in text
    assert text.startswith(f"{len(caught.value.faults)} faults:")


def test_folds_in_the_catalog_are_looked_at_without_genes(genome_copy: Path) -> None:
    put("genes.tsv", "strand", 2, ".")(genome_copy)
    set_field("folds", {"a": {"validation": ["chr1"], "test": ["chr99"]}})(genome_copy)
    with pytest.raises(CatalogError) as caught:
        check_catalog(load_catalog(genome_copy / "catalog.yaml"), 2000)
    assert [fault.problem.partition(" in ")[0] for fault in caught.value.faults] == [
        "strand is neither + nor -",
        "chr99 is not a chromosome of these data",
    ]


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
