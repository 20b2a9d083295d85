"""The catalog of the published benchmark, made from a miniature of its files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pyBigWig
import pytest
import yaml

from prism_ray.errors import CatalogError
from prism_ray.features import benchmark_files
from prism_ray.features.benchmark import SCALARS, BenchmarkSummary, write_benchmark_catalog
from prism_ray.features.benchmark_files import write_new_files
from prism_ray.features.catalog import check_catalog, load_catalog
from prism_ray.features.sequence import open_sequence
from prism_ray.features.signals import open_signal
from tests.features.geneexp_files import EXPRESSION, GENE_LIST, N_GENES, SIZES, SPLIT, make_benchmark

WINDOW_BP = 4000
CELLS = ["K562", "GM12878"]


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the miniature. Not to be changed."""
    folder = tmp_path_factory.mktemp("geneexp") / "data"
    make_benchmark(folder)
    return folder


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "data"))


def write(folder: Path, **settings: object) -> BenchmarkSummary:
    return write_benchmark_catalog(folder, CELLS, folder.parent / "out" / "catalog.yaml", **settings)


@pytest.fixture(scope="session")
def written(original: Path) -> Path:
    out = original.parent / "catalogs" / "catalog.yaml"
    found = write_benchmark_catalog(original, CELLS, out)
    assert found == BenchmarkSummary(
        out, N_GENES, ("chr1", "chr2", "chr10", "chrX"), tuple(f"fold_{k}" for k in range(1, 13)), ("K562", "GM12878")
    )
    return out


def test_what_is_written(written: Path) -> None:
    assert sorted(path.name for path in written.parent.iterdir()) == [
        "catalog.yaml",
        "catalog_GM12878_expression.tsv",
        "catalog_K562_expression.tsv",
        "catalog_folds.tsv",
        "catalog_genes.tsv",
    ]
    content = yaml.safe_load(written.read_text())
    assert content["window_bp"] == 2000
    assert content["assembly"] == "hg38"
    assert content["sequence"] == {"fasta": "../data/hg38/hg38.ml.fa"}
    assert content["genes"] == {"table": "catalog_genes.tsv", "columns": {"strand": None}}
    cell = content["cell_types"]["GM12878"]
    assert cell["label"] == {
        "table": "catalog_GM12878_expression.tsv",
        "column": "GM12878_CAGE_128*3_sum",
        "transform": "log10p1",
    }
    assert cell["scalars"] == {"table": "catalog_GM12878_expression.tsv", "columns": list(SCALARS)}
    home = "../data/promo_enhan_inter"
    assert cell["signals"] == {
        "h3k27ac": {
            "file": f"{home}/H3K27ac/GM12878/ENCFF798KYP.bigWig",
            "kind": "bigwig",
            "role": "foreground",
            "accession": "ENCFF798KYP",
        },
        "dnase": {
            "file": f"{home}/DNase-seq/GM12878/ENCFF960FMM.bigWig",
            "kind": "bigwig",
            "role": "background",
            "accession": "ENCFF960FMM",
        },
        "hic": {
            "file": f"{home}/HiC/GM12878/hic_feat_{{chrom}}.h5",
            "kind": "gene_windows",
            "role": "background",
            "transform": "log10p1",
        },
    }


def test_labels_scalars_and_folds_are_those_of_the_files(original: Path, written: Path) -> None:
    data = check_catalog(load_catalog(written), WINDOW_BP)
    expression = pd.read_csv(original / EXPRESSION, index_col="ENSID", dtype=str)
    split = pd.read_csv(original / SPLIT, index_col="ENSID")
    for cell, found in data.cell_types.items():
        genes = found.genes
        assert len(genes) == N_GENES
        assert set(genes["strand"]) == {"."}
        path = original / GENE_LIST.format(cell=cell)
        listed = pd.read_csv(path, sep="\t", index_col="symbol", dtype=str)
        for row, gene in genes.iterrows():
            own = expression.loc[gene["gene_id"]]
            place = listed.loc[gene["gene_name"]]
            assert gene["gene_name"] == split.loc[gene["gene_id"], "Gene name"]
            assert (gene["chrom"], gene["tss"]) == (place["chr"], int(place["tss"]))
            assert gene["label"] == np.float32(np.log10(1 + float(own[f"{cell}_CAGE_128*3_sum"])))
            activity = np.sqrt(float(place["H3K27ac.RPM.TSS1Kb"]) * float(place["DHS.RPM.TSS1Kb"]))
            expected = [*(float(own[name]) for name in SCALARS[:-1]), activity]
            assert found.scalars[row].tolist() == np.array(expected, dtype=np.float32).tolist()
        assert found.scalar_names == SCALARS
        roles = {"train": "train", "valid": "validation", "test": "test"}
        for fold in range(1, 13):
            by_chrom = data.folds.roles(f"fold_{fold}")
            for _, gene in genes.iterrows():
                assert by_chrom[gene["chrom"]] == roles[split.loc[gene["gene_id"], f"fold_{fold}"]]


def test_windows_are_those_of_the_files(original: Path, written: Path) -> None:
    catalog = load_catalog(written)
    data = check_catalog(catalog, WINDOW_BP)
    half = WINDOW_BP // 2
    for cell, found in data.cell_types.items():
        signals = catalog.cell_types[cell].signals
        for _, gene in found.genes.iterrows():
            chrom, tss = gene["chrom"], int(gene["tss"])
            inside = [0 <= base < SIZES[chrom] for base in range(tss - half, tss + half)]
            for name in ("h3k27ac", "dnase"):
                path = catalog.resolve(signals[name].file)
                with pyBigWig.open(str(path)) as track:
                    values = np.nan_to_num(track.values(chrom, max(tss - half, 0), min(tss + half, SIZES[chrom])))
                with open_signal(signals[name], path, data.chrom_sizes) as reader:
                    row = reader.windows(chrom, np.array([tss]), WINDOW_BP).values[0]
                assert row[inside].tolist() == values.astype(np.float32).tolist()
                assert not row[~np.array(inside)].any()
            path = original / "promo_enhan_inter" / "HiC" / cell / f"hic_feat_{chrom}.h5"
            with h5py.File(path) as file:
                contacts = np.log10(1 + file[f"{chrom}_{tss}"][4000 - half : 4000 + half].astype(np.float64))
            hic = signals["hic"]
            with open_signal(hic, catalog.resolve(hic.file), data.chrom_sizes) as reader:
                row = reader.windows(chrom, np.array([tss]), WINDOW_BP).values[0]
            np.testing.assert_array_equal(row, np.where(inside, contacts, 0).astype(np.float32))
    with open_sequence(original / "hg38" / "hg38.ml.fa") as dna:
        assert dna.chrom_sizes == SIZES


def test_the_same_files_give_the_same_bytes(original: Path, written: Path, tmp_path: Path) -> None:
    write_benchmark_catalog(original, CELLS, tmp_path / "catalog.yaml")
    for name in ("genes", "folds", "K562_expression", "GM12878_expression"):
        assert (tmp_path / f"catalog_{name}.tsv").read_bytes() == written.with_name(f"catalog_{name}.tsv").read_bytes()


def test_rna_labels(original: Path, tmp_path: Path) -> None:
    write_benchmark_catalog(original, ["K562"], tmp_path / "rna.yaml", label="rna")
    data = check_catalog(load_catalog(tmp_path / "rna.yaml"))
    expression = pd.read_csv(original / EXPRESSION, index_col="ENSID", dtype=str)
    genes = data.cell_types["K562"].genes
    assert genes["label"].tolist() == expression.loc[genes["gene_id"], "Actual_K562"].astype(np.float32).tolist()


def test_lengths_may_be_given_by_assembly(folder: Path) -> None:
    (folder / "chr_length.json").write_text(json.dumps({"hg19": {"chr1": 5}, "hg38": SIZES}))
    assert write(folder).n_genes == N_GENES


def edit(name: str, change: Callable[[pd.DataFrame], pd.DataFrame | None]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        separator = "\t" if name.endswith(".txt") else ","
        table = pd.read_csv(folder / name, sep=separator, dtype=str)
        changed = change(table)
        (table if changed is None else changed).to_csv(folder / name, sep=separator, index=False)

    return spoil


def put(name: str, column: str, row: int, value: str) -> Callable[[Path], None]:
    def change(table: pd.DataFrame) -> None:
        table.loc[row, column] = value

    return edit(name, change)


def drop_data_set(folder: Path) -> None:
    with h5py.File(folder / "promo_enhan_inter/HiC/K562/hic_feat_chrX.h5", "r+") as file:
        del file[next(iter(file))]


def remove(name: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return spoil


def add(name: str, text: str = "") -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)

    return spoil


K562_LIST = GENE_LIST.format(cell="K562")
LAST_THREE = slice(-3, None)
FAULTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "no expression table": (remove(EXPRESSION), "fromXpresso.csv: no such file"),
    "a lost label column": (
        edit(EXPRESSION, lambda table: table.drop(columns="K562_CAGE_128*3_sum")),
        "has no column 'K562_CAGE_128*3_sum'",
    ),
    "a lost scalar": (edit(EXPRESSION, lambda table: table.drop(columns="CDSGC")), "has no column 'CDSGC'"),
    "an id twice": (
        edit(EXPRESSION, lambda table: pd.concat([table, table[:1]])),
        "ENSID is not unique in 2 of 21 genes",
    ),
    "a label that is no number": (
        put(EXPRESSION, "K562_CAGE_128*3_sum", 1, "many"),
        "K562_CAGE_128*3_sum is not a finite number in 1 of 20 rows: 'many' (row 2)",
    ),
    "an empty scalar": (put(EXPRESSION, "UTR5GC", 1, ""), "there is no UTR5GC in 1 of 20 genes"),
    "no split table": (remove(SPLIT), "split_18377genes.csv: no such file"),
    "no fold column": (edit(SPLIT, lambda table: table[["ENSID", "Gene name"]]), "has no column named fold_1, fold_2"),
    "no symbol column": (
        edit(SPLIT, lambda table: table.rename(columns={"Gene name": "name"})),
        "has no column 'Gene name'",
    ),
    "genes without roles": (
        edit(SPLIT, lambda table: table[4:]),
        "there is no row for the gene in 4 of 20 genes: ",
    ),
    "an id twice in the split": (edit(SPLIT, lambda table: pd.concat([table, table[:1]])), "ENSID is not unique in 2"),
    "an empty symbol": (put(SPLIT, "Gene name", 3, ""), "there is no Gene name in 1 of 20 genes"),
    "an unknown role": (put(SPLIT, "fold_3", 0, "maybe"), "fold_3 is not one of train, valid, test in 1 of 20 genes"),
    "two roles": (
        edit(SPLIT, lambda table: table.assign(fold_7=["train"] * 19 + ["test"])),
        "split_18377genes.csv, column fold_7: genes of chr",
    ),
    "no gene list": (remove(K562_LIST), "holds 0 GeneList.txt of K562; keep one, in a folder named K562_..."),
    "two gene lists": (add("promo_enhan_inter/K562/GeneList.txt"), "holds 2 GeneList.txt of K562: "),
    "genes without a symbol": (
        edit(K562_LIST, lambda table: table[:-4]),
        "there is no row for the symbol in 4 of 20 genes: 'GENE0', 'GENE1', 'GENE2', ...",
    ),
    "a symbol twice": (
        edit(K562_LIST, lambda table: pd.concat([table, table[LAST_THREE]])),
        "the symbol has more than one row in 3 of 20 genes: 'GENE0', 'GENE1', 'GENE2'",
    ),
    "a tss that is no position": (put(K562_LIST, "tss", 3, "12.5"), "tss is missing or unusable in 1 of 20 genes"),
    "a lost activity": (
        put(K562_LIST, "DHS.RPM.TSS1Kb", 3, ""),
        "DHS.RPM.TSS1Kb is missing or unusable in 1 of 20 genes",
    ),
    "an activity under 0": (
        put(K562_LIST, "H3K27ac.RPM.TSS1Kb", 3, "-1"),
        "H3K27ac.RPM.TSS1Kb is missing or unusable in 1 of 20 genes",
    ),
    "cell types that differ": (
        put(K562_LIST, "tss", 3, "77"),
        "GeneList.txt of GM12878: the TSS is not where K562 has it in 1 of 20 genes",
    ),
    "no bigWig folder": (
        remove("promo_enhan_inter/H3K27ac/K562"),
        "no such folder: no H3K27ac of 'K562'; use one of GM12878",
    ),
    "two bigWigs": (
        add("promo_enhan_inter/DNase-seq/K562/ENCFF000AAA.bigWig"),
        "holds 2 bigWig files (ENCFF000AAA.bigWig, ENCFF414OGC.bigWig); keep exactly one",
    ),
    "no bigWig": (remove("promo_enhan_inter/DNase-seq/K562/ENCFF414OGC.bigWig"), "holds 0 bigWig files; keep exactly"),
    "no contacts": (
        remove("promo_enhan_inter/HiC/K562"),
        "HiC/K562/hic_feat_{chrom}.h5: no such file for any chromosome",
    ),
    "contacts of a chromosome are lost": (
        remove("promo_enhan_inter/HiC/K562/hic_feat_chr2.h5"),
        "there is no data set for the gene in 5 of 20 genes: 'chr2_",
    ),
    "contacts of a gene are lost": (drop_data_set, "there is no data set for the gene in 1 of 20 genes: 'chrX_"),
    "no FASTA": (remove("hg38/hg38.ml.fa"), "hg38/hg38.ml.fa: no such file"),
    "no lengths": (remove("chr_length.json"), "chr_length.json: cannot be read as JSON"),
    "lengths that are none": (add("chr_length.json", '{"chr1": "long"}'), "chr_length.json: is not lengths by chromos"),
    "another assembly": (
        add("chr_length.json", json.dumps({**SIZES, "chr2": 5})),
        "chr_length.json: chr2 has 5 bp here and 24000 bp in hg38/hg38.ml.fa; use files of one assembly",
    ),
    "a chromosome without length": (
        add("chr_length.json", json.dumps({"chr1": 30_000, "chr2": 24_000, "chrX": 16_000, "chrM": 9})),
        "chr_length.json: has no chr10, where there are genes",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults(folder: Path, fault: str) -> None:
    spoil, message = FAULTS[fault]
    spoil(folder)
    with pytest.raises(CatalogError) as caught:
        write(folder)
    assert message in str(caught.value)
    assert not (folder.parent / "out").exists()


def test_all_faults_are_said_together(folder: Path) -> None:
    for name in ("an empty scalar", "no gene list", "two bigWigs", "another assembly"):
        FAULTS[name][0](folder)
    with pytest.raises(CatalogError) as caught:
        write(folder)
    assert len(caught.value.faults) == 4
    for name in ("an empty scalar", "no gene list", "two bigWigs", "another assembly"):
        assert FAULTS[name][1] in str(caught.value)


def test_arguments_that_cannot_be_used(folder: Path) -> None:
    (folder / "catalog_folds.tsv").write_text("x")
    with pytest.raises(CatalogError) as caught:
        write_benchmark_catalog(folder / "nowhere", ["K562", "K562", "../x"], folder / "catalog.txt")
    said = str(caught.value)
    assert "catalog.txt: is no name of a catalog; name it catalog.yaml" in said
    assert "cell types: K562 is given twice" in said
    assert "cell types: '../x' is no name of one" in said
    assert "nowhere: is not a folder; give the folder of the data set xingyusu/GeneExp" in said
    assert "catalog_folds.tsv: exists; remove it, or give another name" in said


def test_nothing_is_overwritten(folder: Path) -> None:
    write(folder)
    home = folder.parent / "out"
    before = {path: path.read_bytes() for path in home.iterdir()}
    (home / "catalog.yaml").unlink()
    with pytest.raises(CatalogError, match=r"(?s)4 faults:.*catalog_genes.tsv: exists"):
        write(folder)
    del before[home / "catalog.yaml"]
    assert {path: path.read_bytes() for path in home.iterdir()} == before


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_nothing_is_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    real = Path.rename

    def fail_on_the_second(path: Path, target: Path) -> Path:
        if target.name == "b":
            raise error
        return real(path, target)

    monkeypatch.setattr(benchmark_files.Path, "rename", fail_on_the_second)
    expected = CatalogError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected) as caught:
        write_new_files({tmp_path / "a": "1", tmp_path / "b": "2"})
    assert list(tmp_path.iterdir()) == []
    if expected is CatalogError:
        assert "b: cannot be written (No space left on device)" in str(caught.value)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CatalogError, match="cannot be written"):
        write_new_files({tmp_path / "file" / "a": "1"})
