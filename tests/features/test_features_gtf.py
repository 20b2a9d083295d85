# ruff: noqa: E501 - lines of GTF are quoted as they are published
from __future__ import annotations

import gzip
from pathlib import Path

import pandas as pd
import pytest
from catalog_edits import set_field
from hypothesis import given, settings
from hypothesis import strategies as st

from prism_ray.errors import CatalogError, FaultList
from prism_ray.features.catalog import check_catalog, load_catalog
from prism_ray.features.gtf import read_gtf, without_version
from prism_ray.features.source_parts import GeneGtf

GENCODE = """\
##description: evidence-based annotation of the human genome (GRCh38), version 44
#!genome-build GRCh38
chr1\tHAVANA\tgene\t11869\t14409\t.\t+\t.\tgene_id "ENSG00000290825.1"; gene_type "lncRNA"; gene_name "DDX11L2"; level 2; tag "overlaps_pseudogene";
chr1\tHAVANA\ttranscript\t11869\t14409\t.\t+\t.\tgene_id "ENSG00000290825.1"; transcript_id "ENST00000456328.2"; gene_type "lncRNA"; gene_name "DDX11L2";
chr1\tHAVANA\texon\t11869\t12227\t.\t+\t.\tgene_id "ENSG00000290825.1"; transcript_id "ENST00000456328.2";
chrX\tHAVANA\tgene\t100627108\t100639991\t.\t-\t.\tgene_id "ENSG00000000003.15"; gene_type "protein_coding"; gene_name "TSPAN6"; level 2; hgnc_id "HGNC:11858";

chrX\tHAVANA\tgene\t276322\t303356\t.\t+\t.\tgene_id "ENSG00000182378.15"; gene_type "protein_coding"; gene_name "PLCXD1"; level 2;
chrY\tHAVANA\tgene\t276322\t303356\t.\t+\t.\tgene_id "ENSG00000182378.15_PAR_Y"; gene_type "protein_coding"; gene_name "PLCXD1"; level 2; tag "PAR";
"""
ENSEMBL = """\
#!genome-build GRCh38.p14
1\thavana\tgene\t11869\t14409\t.\t+\t.\tgene_id "ENSG00000290825"; gene_version "1"; gene_name "DDX11L16"; gene_source "havana"; gene_biotype "lncRNA";
1\thavana\tgene\t65419\t71585\t.\t-\t.\tgene_id "ENSG00000186092"; gene_version "7"; gene_source "havana"; gene_biotype "protein_coding";
"""
GENE = 'chr1\tX\tgene\t{start}\t{end}\t.\t{strand}\t.\tgene_id "{name}"; gene_type "protein_coding";\n'


def read(path: Path, **settings: tuple[str, ...]) -> pd.DataFrame:
    faults = FaultList()
    genes = read_gtf(path, GeneGtf(gtf=path.name, **settings), f"genes: {path.name}", faults)
    faults.raise_if_any(CatalogError)
    assert genes is not None
    return genes


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "genes.gtf"
    path.write_text(text)
    return path


def test_gencode(tmp_path: Path) -> None:
    genes = read(written(tmp_path, GENCODE))
    assert genes.to_dict("list") == {
        "gene_id": ["ENSG00000290825", "ENSG00000000003", "ENSG00000182378", "ENSG00000182378_PAR_Y"],
        "gene_name": ["DDX11L2", "TSPAN6", "PLCXD1", "PLCXD1"],
        "chrom": ["chr1", "chrX", "chrX", "chrY"],
        "strand": ["+", "-", "+", "+"],
        # 1-based and closed: the first base of a gene on +, the last of one on -, each counted from 0.
        "tss": [11868, 100639990, 276321, 276321],
    }
    assert genes["tss"].dtype == "int64"


def test_ensembl(tmp_path: Path) -> None:
    genes = read(written(tmp_path, ENSEMBL), gene_types=("protein_coding",))
    assert genes["gene_id"].tolist() == ["ENSG00000186092"]
    assert genes["gene_name"].tolist() == ["ENSG00000186092"]
    assert genes["tss"].tolist() == [71584]


def test_types_and_chromosomes_that_are_kept(tmp_path: Path) -> None:
    path = written(tmp_path, GENCODE)
    assert len(read(path, gene_types=("protein_coding",))) == 3
    assert read(path, gene_types=("protein_coding", "lncRNA"), chroms=("chr1", "chrY"))["chrom"].tolist() == [
        "chr1",
        "chrY",
    ]


@pytest.mark.parametrize(
    ("given_id", "expected"),
    [
        ("ENSG00000000003.15", "ENSG00000000003"),
        ("ENSG00000182378.15_PAR_Y", "ENSG00000182378_PAR_Y"),
        ("ENSMUSG00000051951.6", "ENSMUSG00000051951"),
        ("ENSG00000000003", "ENSG00000000003"),
        # Sequence names of WormBase: two genes, not two versions.
        ("Y74C9A.6", "Y74C9A.6"),
    ],
)
def test_identifiers_are_without_version(given_id: str, expected: str) -> None:
    assert without_version(given_id) == expected


@settings(max_examples=50)
@given(
    st.lists(st.tuples(st.integers(1, 10**9), st.integers(0, 10**6), st.sampled_from("+-")), min_size=1, max_size=20)
)
def test_what_was_written_comes_back(
    tmp_path_factory: pytest.TempPathFactory, places: list[tuple[int, int, str]]
) -> None:
    path = tmp_path_factory.mktemp("gtf") / "a.gtf.gz"
    lines = [
        GENE.format(start=start, end=start + length, strand=strand, name=f"G{number}")
        for number, (start, length, strand) in enumerate(places)
    ]
    with gzip.open(path, "wt", newline="\r\n") as stream:
        stream.write("".join(lines))
    genes = read(path)
    assert genes["gene_id"].tolist() == [f"G{number}" for number in range(len(places))]
    for tss, strand, (start, length, written_strand) in zip(genes["tss"], genes["strand"], places, strict=True):
        assert strand == written_strand
        first, last = start - 1, start + length - 1  # 0-based, both included
        assert tss == (first if strand == "+" else last)


GOOD = GENE.format(start=5, end=9, strand="+", name="A")
FAULTS = [
    ("", "genes: genes.gtf: holds no record of the feature gene; give a GTF of GENCODE or Ensembl"),
    (GOOD.replace("gene\t5", "exon\t5"), "holds no record of the feature gene"),
    (
        GOOD + "chr1 X gene 5 9\nchr1\tX\tgene\t5\n",
        "2 lines are malformed, first line 2: 1 fields between tabs, not 9; give a GTF",
    ),
    (GOOD.replace("\t+\t", "\t"), "1 lines are malformed, first line 1: 8 fields between tabs, not 9"),
    (GOOD.replace("5\t9", "9\t5"), "line 1: end 5 is before start 9"),
    (GOOD.replace("5\t9", "0\t5"), "line 1: start '0' and end '5' are not two numbers from 1 on"),
    (GOOD.replace("5\t9", "-5\tx"), "line 1: start '-5' and end 'x' are not two numbers from 1 on"),
    (GOOD.replace("gene_id", "geneid"), "line 1: there is no gene_id"),
    (GOOD.replace("chr1", ""), "line 1: there is no chromosome"),
    (GOOD.replace("\t+\t", "\t.\t"), "strand is neither + nor - in 1 of 1 genes: A has '.' (line 1)"),
    (
        "#\n" + GOOD.replace('"A"', '"ENSG01.1"') + GOOD.replace('"A"', '"ENSG01.2"'),
        "gene_id is not unique in 2 of 2 genes: 'ENSG01' (line 2), 'ENSG01' (line 3); keep one record a gene",
    ),
]


@pytest.mark.parametrize(("text", "message"), FAULTS)
def test_malformed_files(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(CatalogError) as caught:
        read(written(tmp_path, text))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"gene_types": ("protein-coding",)},
            "has no gene of the gene type 'protein-coding'; use one of lncRNA, protein_coding. Did you mean 'protein_coding'?",
        ),
        ({"chroms": ("chr2",)}, "has no gene of the chromosome 'chr2'; use one of chr1, chrX, chrY"),
        ({"chroms": ("1", "X")}, "has no chromosome '1', which it names 'chr1'; mend chroms"),
        (
            {"chroms": ("chrY",), "gene_types": ("lncRNA",)},
            "has no gene of gene_types lncRNA and chroms chrY together; ask for less",
        ),
    ],
)
def test_types_and_chromosomes_that_are_not_there(
    tmp_path: Path, settings: dict[str, tuple[str, ...]], message: str
) -> None:
    with pytest.raises(CatalogError) as caught:
        read(written(tmp_path, GENCODE), **settings)
    assert message in str(caught.value)


def test_a_file_without_gene_types(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match=r"states no gene_type or gene_biotype of its genes; leave gene_types out"):
        read(written(tmp_path, GOOD.replace("gene_type", "kind")), gene_types=("protein_coding",))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match=r"nowhere.gtf: no such file"):
        read(tmp_path / "nowhere.gtf")
    whole = gzip.compress(GENCODE.encode() * 50)
    for name, content in {
        "short.gtf.gz": whole[:-20],
        "plain.gtf.gz": GENCODE.encode(),
        "latin.gtf": GOOD.replace('"A"', '"\u00e9"').encode("latin-1"),
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CatalogError, match=f"{name} cannot be read as GTF"):
            read(tmp_path / name)


def test_a_catalog_with_a_gtf_has_the_genes_of_its_table(genome_copy: Path) -> None:
    plain = check_catalog(load_catalog(genome_copy / "catalog.yaml"), 2000).cell_types["K562"].genes
    lines = []
    for gene in plain.itertuples():
        start, end = (gene.tss, gene.tss + 30) if gene.strand == "+" else (gene.tss - 30, gene.tss)
        attributes = f'gene_id "{gene.gene_id}"; gene_name "{gene.gene_name}";'
        lines.append(f"{gene.chrom}\tX\tgene\t{start + 1}\t{end + 1}\t.\t{gene.strand}\t.\t{attributes}\n")
    (genome_copy / "genes.gtf").write_text("".join(reversed(lines)))
    set_field("genes", {"gtf": "genes.gtf"})(genome_copy)
    catalog = load_catalog(genome_copy / "catalog.yaml")
    pd.testing.assert_frame_equal(check_catalog(catalog, 2000).cell_types["K562"].genes, plain)
    assert len(catalog.digest()) == 64
