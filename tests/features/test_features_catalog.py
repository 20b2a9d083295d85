from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from catalog_edits import Content, edit_table, rewrite, set_field, set_label, set_signal, sizes_of, write_bigwig

from prism_ray.errors import CatalogError, FaultList
from prism_ray.features.catalog import check_catalog, load_catalog, source_digests
from prism_ray.features.genes import natural_order
from prism_ray.features.genome_check import Genome, check_assembly, known_assembly


def test_what_the_files_hold(tiny_genome: Path) -> None:
    catalog = load_catalog(tiny_genome / "catalog.yaml")
    data = check_catalog(catalog, 2000)
    assert data.catalog is catalog
    assert list(data.chrom_sizes.items()) == sizes_of(tiny_genome)
    assert data.folds.names == tuple(f"fold_{number}" for number in range(1, 7))
    assert list(data.cell_types) == ["K562", "GM12878"]
    cell = data.cell_types["K562"]
    assert list(cell.genes.columns) == ["gene_id", "gene_name", "chrom", "tss", "strand", "label"]
    assert list(cell.genes.index) == list(range(24))
    assert cell.genes["tss"].dtype == np.int64
    assert cell.genes["label"].dtype == np.float32
    assert cell.n_dropped == 0
    assert cell.scalars.shape == (24, 9)
    assert cell.scalars.dtype == np.float32
    assert cell.scalar_names[-1] == "promoter_activity"
    labels = pd.read_csv(tiny_genome / "labels.tsv", sep="\t", index_col="gene_id")["K562"]
    np.testing.assert_allclose(cell.genes["label"], labels.loc[cell.genes["gene_id"]], rtol=1e-6)
    scalars = pd.read_csv(tiny_genome / "scalars_K562.tsv", sep="\t", index_col="gene_id")
    np.testing.assert_allclose(cell.scalars, scalars.loc[cell.genes["gene_id"], list(cell.scalar_names)], rtol=1e-6)


def test_genes_are_in_natural_order_whatever_the_table_says(genome_copy: Path) -> None:
    for name in ("genes.tsv", "labels.tsv", "scalars_K562.tsv"):
        edit_table(genome_copy, name, lambda table: table.sample(frac=1, random_state=len(table.columns)))
    genes = check_catalog(load_catalog(genome_copy / "catalog.yaml"), 2000).cell_types["K562"].genes
    assert genes["gene_id"].tolist() == [f"SIMG{number:08d}" for number in range(1, 25)]


def test_natural_order() -> None:
    assert natural_order(["chrX", "chr10", "chr2", "chr2", "chrM", "chr1"]) == ["chr1", "chr2", "chr10", "chrM", "chrX"]


def test_one_based_positions_columns_csv_and_compression(genome_copy: Path) -> None:
    genes = pd.read_csv(genome_copy / "genes.tsv", sep="\t")
    plain = check_catalog(load_catalog(genome_copy / "catalog.yaml"), 2000).cell_types["K562"].genes
    renamed = genes.rename(columns={"tss": "start", "gene_id": "ensembl"}).drop(columns="gene_name")
    renamed.assign(start=renamed["start"] + 1).to_csv(genome_copy / "genes.csv.gz", index=False)
    columns = {"gene_id": "ensembl", "tss": "start", "gene_name": None}
    set_field("genes", {"table": "genes.csv.gz", "columns": columns, "tss_base": 1})(genome_copy)
    found = check_catalog(load_catalog(genome_copy / "catalog.yaml"), 2000).cell_types["K562"].genes
    pd.testing.assert_frame_equal(found.drop(columns="gene_name"), plain.drop(columns="gene_name"))
    assert found["gene_name"].tolist() == found["gene_id"].tolist()


def test_labels_are_transformed_and_genes_without_one_dropped(genome_copy: Path) -> None:
    rewrite(genome_copy, lambda content: content["cell_types"].pop("GM12878"))
    set_label(transform="log10p1", missing="drop")(genome_copy)
    edit_table(genome_copy, "labels.tsv", lambda table: table.assign(K562=["", "NA", "99"] + ["9"] * 21).head(23))
    # A gene that is dropped needs no scalars.
    edit_table(genome_copy, "scalars_K562.tsv", lambda table: table.tail(22))
    cell = check_catalog(load_catalog(genome_copy / "catalog.yaml"), 2000).cell_types["K562"]
    assert cell.n_dropped == 3
    assert cell.genes["gene_id"].iloc[0] == "SIMG00000003"
    assert cell.genes["label"].tolist() == [2.0] + [1.0] * 20
    assert list(cell.genes.index) == list(range(21))
    assert cell.scalars.shape == (21, 9)


def test_folds_written_in_the_catalog(genome_copy: Path) -> None:
    set_field("folds", {"only": {"validation": ["chr1"], "test": ["chr2", "chr3"]}})(genome_copy)
    folds = check_catalog(load_catalog(genome_copy / "catalog.yaml"), 2000).folds
    assert folds.names == ("only",)
    assert folds.roles("only") == {
        "chr1": "validation", "chr2": "test", "chr3": "test", "chr4": "train", "chr5": "train", "chr6": "train",
    }  # fmt: skip


def test_columns_that_are_no_folds_can_be_left_out(genome_copy: Path) -> None:
    edit_table(genome_copy, "folds.tsv", lambda table: table.assign(source="read"))
    set_field("folds", {"table": "folds.tsv", "names": ["fold_2"]})(genome_copy)
    assert check_catalog(load_catalog(genome_copy / "catalog.yaml"), 2000).folds.names == ("fold_2",)


def test_without_dna_scalars_or_signals(genome_copy: Path) -> None:
    def strip(content: Content) -> None:
        content["sequence"] = None
        for cell in content["cell_types"].values():
            del cell["scalars"], cell["signals"]["hic"], cell["signals"]["dnase"]

    rewrite(genome_copy, strip)
    data = check_catalog(load_catalog(genome_copy / "catalog.yaml"), 2000)
    assert data.catalog.sequence is None
    assert data.cell_types["K562"].scalars.shape == (24, 0)
    assert data.chrom_sizes == dict(sizes_of(genome_copy))


def test_partial_fasta_is_allowed_where_it_is_said(genome_copy: Path) -> None:
    last = [(chrom, size + 5000) for chrom, size in sizes_of(genome_copy)]
    for name in ("k562_h3k27ac.bw", "k562_dnase.bw", "gm12878_h3k27ac.bw", "gm12878_dnase.bw"):
        write_bigwig(genome_copy / name, last)
    rewrite(genome_copy, lambda content: [cell["signals"].pop("hic") for cell in content["cell_types"].values()])
    with pytest.raises(CatalogError, match="use files of one assembly"):
        check_catalog(load_catalog(genome_copy / "catalog.yaml"), 2000)
    set_field("sequence", {"fasta": "genome.fa", "partial": True})(genome_copy)
    assert list(check_catalog(load_catalog(genome_copy / "catalog.yaml"), 2000).chrom_sizes.items()) == last
    (genome_copy / "genome.fa").write_text("".join(f">{chrom}\nACGT\n" for chrom, _ in last))
    os.utime(genome_copy / "genome.fa.fai", (0, 0))
    with pytest.raises(CatalogError, match="the TSS lies outside its chromosome in 24 of 24 genes"):
        check_catalog(load_catalog(genome_copy / "catalog.yaml"), 2000)


def test_bedgraph_signal(genome_copy: Path) -> None:
    lines = "".join(f"{chrom}\t10\t20\t1.5\n" for chrom, _ in sizes_of(genome_copy))
    (genome_copy / "track.bedgraph").write_text(lines)
    set_signal("dnase", file="track.bedgraph", kind="bedgraph")(genome_copy)
    assert list(check_catalog(load_catalog(genome_copy / "catalog.yaml"), 2000).chrom_sizes.items()) == sizes_of(
        genome_copy
    )


def test_blacklist_and_strands_are_settings_of_the_data(genome_copy: Path) -> None:
    plain = load_catalog(genome_copy / "catalog.yaml").digest()
    (genome_copy / "artefacts.bed").write_text("chr1\t5\t9\nchrUn\t0\t9\n")
    set_field("blacklist", {"bed": "artefacts.bed"})(genome_copy)
    catalog = load_catalog(genome_copy / "catalog.yaml")
    check_catalog(catalog, 2000)
    masked = catalog.digest()
    (genome_copy / "artefacts.bed").write_text("chr1\t5\t10\n")
    other = catalog.digest()
    set_field("strand_aware", True)(genome_copy)
    turned = load_catalog(genome_copy / "catalog.yaml")
    check_catalog(turned, 2000)
    assert len({plain, masked, other, turned.digest()}) == 4


def test_windows_that_were_cut_before(genome_copy: Path) -> None:
    genes = check_catalog(load_catalog(genome_copy / "catalog.yaml"), 2000).cell_types["K562"].genes
    for chrom, rows in genes.groupby("chrom"):
        with h5py.File(genome_copy / f"dnase_{chrom}.h5", "w") as file:
            for tss in rows["tss"]:
                file[f"{chrom}_{tss}"] = np.ones(2000, dtype=np.float32)
    set_signal("dnase", file="dnase_{chrom}.h5", kind="gene_windows")(genome_copy)
    catalog = load_catalog(genome_copy / "catalog.yaml")
    data = check_catalog(catalog, 2000)
    assert list(data.chrom_sizes.items()) == sizes_of(genome_copy)
    digest = catalog.digest()
    assert str(genome_copy / "dnase_chr6.h5") in source_digests(catalog)
    with h5py.File(genome_copy / "dnase_chr6.h5", "r+") as file:
        next(iter(file.values()))[0] = 7
    assert catalog.digest() != digest


@pytest.mark.parametrize(
    ("assembly", "known"),
    [
        ("hg38", "hg38"),
        ("GRCh38", "hg38"),
        ("GRCh38.p14", "hg38"),
        ("GRCh37", "hg19"),
        ("mm10", "mm10"),
        ("GRCm39", "mm39"),
        ("T2T-CHM13v2.0", "hs1"),
        ("simulated", None),
        ("hg38full", None),
    ],
)
def test_names_of_assemblies(assembly: str, known: str | None) -> None:
    assert known_assembly(assembly) == known


@pytest.mark.parametrize(
    ("assembly", "sizes", "problem"),
    [
        ("hg38", {"chr1": 249_250_621}, "has chr1 of 249,250,621 bp, which is hg19; the catalog says hg38"),
        ("hg38", {"1": 249_250_621}, "has 1 of 249,250,621 bp, which is hg19; the catalog says hg38"),
        ("hg19", {"chr2": 5, "chrX": 156_040_895}, "has chrX of 156,040,895 bp, which is hg38; the catalog says hg19"),
        ("mm39", {"chr1": 195_471_971}, "has chr1 of 195,471,971 bp, which is mm10; the catalog says mm39"),
        ("hg38", {"chr1": 248_956_422, "chrX": 156_040_895}, None),
        ("hg38", {"chr1": 1_000_000}, None),
        ("my_genome", {"chr1": 249_250_621}, None),
    ],
)
def test_lengths_that_contradict_the_assembly(assembly: str, sizes: dict[str, int], problem: str | None) -> None:
    faults = FaultList()
    check_assembly(assembly, [Genome("here", sizes)], faults)
    assert [fault.problem for fault in faults.faults] == ([] if problem is None else [problem])


def test_digest_follows_content_and_settings_but_not_places(genome_copy: Path, tmp_path: Path) -> None:
    catalog = load_catalog(genome_copy / "catalog.yaml")
    md5s = source_digests(catalog)
    assert md5s[str(genome_copy / "genes.tsv")] == hashlib.md5((genome_copy / "genes.tsv").read_bytes()).hexdigest()
    digest = catalog.digest()
    assert len(digest) == 64
    assert catalog.digest(md5s) == digest
    moved = tmp_path / "elsewhere"
    shutil.move(genome_copy, moved)
    (moved / "genes.tsv").rename(moved / "places.tsv")
    set_field("genes", {"table": "places.tsv", "md5": md5s[str(genome_copy / "genes.tsv")]})(moved)
    assert load_catalog(moved / "catalog.yaml").digest() == digest
    set_signal("dnase", transform="none")(moved)
    changed = load_catalog(moved / "catalog.yaml").digest()
    assert changed != digest
    (moved / "labels.tsv").write_text((moved / "labels.tsv").read_text() + "\n")
    assert load_catalog(moved / "catalog.yaml").digest() not in (digest, changed)
