from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyBigWig
import pytest
from catalog_edits import rewrite, set_field, sizes_of, write_bigwig
from hypothesis import given, settings
from hypothesis import strategies as st

from prism_ray.errors import CatalogError, FaultList
from prism_ray.features import cage
from prism_ray.features.cage import read_cage
from prism_ray.features.catalog import check_catalog, load_catalog
from prism_ray.features.source_parts import LabelBigWig
from prism_ray.features.sources import Catalog

SIZES = {"chr1": 3000, "chr2": 500}


def write_track(path: Path, intervals: dict[str, list[tuple[int, int, float]]]) -> Path:
    file = pyBigWig.open(str(path), "w")
    file.addHeader(list(SIZES.items()))
    for chrom, rows in intervals.items():
        if rows:
            starts, ends, values = zip(*rows, strict=True)
            file.addEntries([chrom] * len(rows), list(starts), ends=list(ends), values=list(values))
    file.close()
    return path


def gene_table(rows: list[tuple[str, int, str]]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["chrom", "tss", "strand"])
    return table.assign(gene_id=[f"G{number}" for number in range(len(rows))])


def labels(folder: Path, source: LabelBigWig, genes: pd.DataFrame) -> np.ndarray:
    catalog = Catalog.model_construct()
    catalog._path = folder / "catalog.yaml"
    faults = FaultList()
    found = read_cage(catalog, source, genes, "label", faults)
    faults.raise_if_any(CatalogError)
    assert found is not None
    return found


def slow_sum(path: Path, chrom: str, tss: int, half: int) -> float:
    """Base by base, as pyBigWig gives them."""
    total = 0.0
    with pyBigWig.open(str(path)) as file:
        for base in range(tss - half, tss + half):
            if 0 <= base < SIZES[chrom]:
                value = file.values(chrom, base, base + 1)[0]
                total += 0.0 if np.isnan(value) else value
    return total


def test_a_known_answer(tmp_path: Path) -> None:
    write_track(tmp_path / "a.bw", {"chr1": [(0, 10, 1.0), (995, 1000, 2.0), (1000, 1003, 4.0)]})
    genes = gene_table([("chr1", 1000, "+"), ("chr1", 5, "-"), ("chr2", 5, "+")])
    source = LabelBigWig(bigwig="a.bw", half_width_bp=2)
    # [998, 1002), [3, 7), and a chromosome without values.
    assert labels(tmp_path, source, genes).tolist() == [2 * 2.0 + 2 * 4.0, 4.0, 0.0]
    wide = source.model_copy(update={"half_width_bp": 100})
    assert labels(tmp_path, wide, genes).tolist() == [10.0 + 12.0, 10.0, 0.0]
    log = source.model_copy(update={"transform": "log10p1"})
    np.testing.assert_allclose(labels(tmp_path, log, genes), np.log10([13.0, 5.0, 1.0]))


@settings(max_examples=50)
@given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40), st.floats(0, 1e4, width=32)), min_size=1, max_size=8),
    st.lists(st.tuples(st.sampled_from(sorted(SIZES)), st.integers(0, 499), st.sampled_from("+-")), max_size=5),
    st.integers(1, 80),
    st.integers(1, 300),
)
def test_sums_against_a_slow_oracle(
    tmp_path_factory: pytest.TempPathFactory,
    steps: list[tuple[int, int, float]],
    places: list[tuple[str, int, str]],
    half: int,
    portion: int,
) -> None:
    folder = tmp_path_factory.mktemp("cage")
    rows, position = [], 0
    for gap, length, value in steps:
        rows.append((position + gap, position + gap + length, value))
        position += gap + length
    path = write_track(folder / "a.bw", {"chr1": rows, "chr2": [(0, 1, 1.0)]})
    genes = gene_table([("chr2", 0, "+"), *places])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cage, "_PORTION", portion)
        found = labels(folder, LabelBigWig(bigwig="a.bw", half_width_bp=half), genes)
    expected = [slow_sum(path, gene.chrom, gene.tss, half) for gene in genes.itertuples()]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_each_strand_has_its_track(tmp_path: Path, sign: float) -> None:
    write_track(tmp_path / "plus.bw", {"chr1": [(100, 110, 3.0)]})
    write_track(tmp_path / "minus.bw", {"chr1": [(100, 110, sign * 5.0)]})
    genes = gene_table([("chr1", 105, "-"), ("chr1", 105, "+"), ("chr1", 2000, "-")])
    source = LabelBigWig(bigwig="plus.bw", bigwig_minus="minus.bw", half_width_bp=5, transform="log10p1")
    np.testing.assert_allclose(labels(tmp_path, source, genes), np.log10([51.0, 31.0, 1.0]))


def test_values_under_0_stay_where_nothing_is_asked_of_them(tmp_path: Path) -> None:
    write_track(tmp_path / "a.bw", {"chr1": [(100, 110, -3.0)]})
    source = LabelBigWig(bigwig="a.bw", half_width_bp=5)
    assert labels(tmp_path, source, gene_table([("chr1", 105, "+")])).tolist() == [-30.0]


@pytest.mark.parametrize(
    ("settings", "strand", "message"),
    [
        (
            {"bigwig": "under.bw", "transform": "log10p1"},
            "+",
            "label: under.bw: the label is under 0, which log10p1 cannot take in 1 of 1 genes: 'G0'; set",
        ),
        (
            {"bigwig": "up.bw", "bigwig_minus": "mixed.bw"},
            "-",
            "label.bigwig_minus: mixed.bw: holds values on both sides of 0, from -2 to 3; give a track that counts",
        ),
        (
            {"bigwig": "up.bw", "bigwig_minus": "up.bw"},
            ".",
            "label.bigwig_minus: asks for the strand of each gene, and genes.columns.strand is null; name the column",
        ),
        ({"bigwig": "nowhere.bw"}, "+", "label.bigwig: nowhere.bw: {0}/nowhere.bw: no such file"),
        ({"bigwig": "text.bw"}, "+", "{0}/text.bw: is not a bigWig"),
        ({"bigwig": "infinite.bw"}, "+", "{0}/infinite.bw: chr1:100: the value inf cannot be used"),
        ({"bigwig": "elsewhere.bw"}, "+", "label: elsewhere.bw: holds no value within 192 bp of any TSS; give the"),
    ],
)
def test_tracks_that_are_refused(tmp_path: Path, settings: dict[str, str], strand: str, message: str) -> None:
    write_track(tmp_path / "up.bw", {"chr1": [(100, 110, 3.0)]})
    write_track(tmp_path / "under.bw", {"chr1": [(100, 110, -3.0)]})
    write_track(tmp_path / "mixed.bw", {"chr1": [(100, 110, 3.0), (110, 120, -2.0)]})
    write_track(tmp_path / "infinite.bw", {"chr1": [(100, 110, np.inf)]})
    write_track(tmp_path / "elsewhere.bw", {"chr2": [(100, 110, 3.0)]})
    (tmp_path / "text.bw").write_text("chr1 100 110 3\n")
    with pytest.raises(CatalogError) as caught:
        labels(tmp_path, LabelBigWig(**settings), gene_table([("chr1", 105, strand)]))
    assert message.format(tmp_path) in str(caught.value)


def test_a_chromosome_that_the_track_lacks(tmp_path: Path) -> None:
    write_track(tmp_path / "a.bw", {"chr1": [(100, 110, 3.0)]})
    with pytest.raises(CatalogError, match=r"label.bigwig: a.bw: has no chr3, where 1 of 2 genes are"):
        labels(tmp_path, LabelBigWig(bigwig="a.bw"), gene_table([("chr1", 105, "+"), ("chr3", 105, "+")]))
    # The track of a strand holds what the genes on it need.
    file = pyBigWig.open(str(tmp_path / "b.bw"), "w")
    file.addHeader([("chr2", 500)])
    file.addEntries(["chr2"], [0], ends=[500], values=[1.0])
    file.close()
    genes = gene_table([("chr1", 105, "+"), ("chr2", 250, "-")])
    source = LabelBigWig(bigwig="a.bw", bigwig_minus="b.bw", half_width_bp=5)
    assert labels(tmp_path, source, genes).tolist() == [30.0, 10.0]
    with pytest.raises(CatalogError, match=r"chromosomes are named 'chr1' here and '1' in the gene table"):
        labels(tmp_path, source, genes.assign(chrom=["1", "chr2"]))


def use_cage(folder: Path, **settings: object) -> None:
    label = {"bigwig": "cage.bw", "half_width_bp": 5, **settings}
    rewrite(folder, lambda content: content["cell_types"]["K562"].update(label=label))


def test_a_catalog_with_a_track_as_label(genome_copy: Path) -> None:
    write_bigwig(genome_copy / "cage.bw", sizes_of(genome_copy), 9.9)
    use_cage(genome_copy, transform="log10p1")
    catalog = load_catalog(genome_copy / "catalog.yaml")
    cell = check_catalog(catalog, 2000).cell_types["K562"]
    assert cell.genes["label"].dtype == np.float32
    assert cell.n_dropped == 0
    np.testing.assert_allclose(cell.genes["label"], np.log10(100.0), rtol=1e-6)
    digest = catalog.digest()
    use_cage(genome_copy, transform="log10p1", bigwig_minus="cage.bw")
    assert load_catalog(genome_copy / "catalog.yaml").digest() != digest


def test_a_label_track_of_another_assembly(genome_copy: Path) -> None:
    write_bigwig(genome_copy / "cage.bw", [(chrom, size + 7) for chrom, size in sizes_of(genome_copy)])
    use_cage(genome_copy)
    with pytest.raises(CatalogError, match=r"label.bigwig \(cage.bw\): chr1 has .*; use files of one assembly"):
        check_catalog(load_catalog(genome_copy / "catalog.yaml"), 2000)


def test_genes_without_a_strand_have_no_track_of_their_own(genome_copy: Path) -> None:
    write_bigwig(genome_copy / "cage.bw", sizes_of(genome_copy))
    set_field("genes", {"table": "genes.tsv", "columns": {"strand": None}})(genome_copy)
    use_cage(genome_copy)
    genes = check_catalog(load_catalog(genome_copy / "catalog.yaml"), 2000).cell_types["K562"].genes
    assert set(genes["strand"]) == {"."}
    use_cage(genome_copy, bigwig_minus="cage.bw")
    with pytest.raises(CatalogError, match=r"cell_types.K562.label.bigwig_minus: asks for the strand of each gene"):
        check_catalog(load_catalog(genome_copy / "catalog.yaml"), 2000)
