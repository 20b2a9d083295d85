"""What a catalog may ask of a build beyond the usual, against a reader that looks up one base at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pyBigWig
import pytest
import yaml

import prism_ray.store
from prism_ray.cli import main
from prism_ray.distributed import build
from prism_ray.distributed.build import build_store
from prism_ray.distributed.build_plan import plan_build
from prism_ray.errors import CatalogError
from prism_ray.features.sequence import encode, reverse_complement
from prism_ray.store import Store
from tests.distributed.inline_partitions import without_ray
from tests.features.geneexp_files import EXPRESSION, HIC_BP, SIZES, make_benchmark

WINDOW_BP = 3000
HALF = WINDOW_BP // 2
Edit = Callable[[Callable[[dict[str, Any]], object]], Path]


@pytest.fixture(scope="module", autouse=True)
def _inline() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        without_ray(patch, build)
        yield


@pytest.fixture(scope="module")
def plain(simulated_catalog: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The store of the catalog as it is."""
    out = tmp_path_factory.mktemp("plain") / "store"
    with pytest.MonkeyPatch.context() as patch:
        without_ray(patch, build)
        build_store(simulated_catalog, out, WINDOW_BP)
    return prism_ray.store.open(out)


def test_strand_aware_windows(edited: Edit, plain: Store, tmp_path: Path) -> None:
    build_store(edited(lambda c: c.update(strand_aware=True)), tmp_path / "store", WINDOW_BP)
    store = prism_ray.store.open(tmp_path / "store")
    assert (store.description.strand_aware, plain.description.strand_aware) == (True, False)
    signals = plain.signals_of("K562")
    minus = (plain.genes("K562")["strand"] == "-").to_numpy()
    assert 0 < minus.sum() < len(minus)
    for window_bp in (WINDOW_BP, 2000, 400):
        forward, turned = (each.load(window_bp, signals, "K562") for each in (plain, store))
        assert forward.sequence is not None
        assert turned.sequence is not None
        np.testing.assert_array_equal(turned.signals[~minus], forward.signals[~minus])
        np.testing.assert_array_equal(turned.sequence[~minus], forward.sequence[~minus])
        np.testing.assert_array_equal(turned.signals[minus], forward.signals[minus][:, ::-1])
        np.testing.assert_array_equal(turned.sequence[minus], reverse_complement(forward.sequence[minus]))


def test_blacklisted_bases_read_as_zero(edited: Edit, plain: Store, tmp_path: Path) -> None:
    genes = plain.genes("K562")
    first = genes.iloc[0]
    start, end = int(first["tss"]) - 120, int(first["tss"]) + 333
    catalog = edited(lambda c: c.update(blacklist={"bed": "blacklist.bed"}))
    (catalog.parent / "blacklist.bed").write_text(f"{first['chrom']}\t{start}\t{end}\n")
    report = build_store(catalog, tmp_path / "store", WINDOW_BP)
    store = prism_ray.store.open(tmp_path / "store")
    assert store.description.blacklist is not None
    assert store.description.blacklist.file == "blacklist.bed"
    expected, found = (each.load(WINDOW_BP, ["dnase", "hic"], "K562") for each in (plain, store))
    masked = expected.signals.copy()
    inside = np.zeros(masked.shape[:2], dtype=np.bool_)
    for row, (chrom, tss) in enumerate(zip(genes["chrom"], genes["tss"], strict=True)):
        position = np.arange(tss - HALF, tss + HALF)
        inside[row] = (chrom == first["chrom"]) & (position >= start) & (position < end)
    assert masked[inside, 0].any(), "the test masks something"
    masked[inside, 0] = 0.0
    np.testing.assert_array_equal(found.signals, masked)
    before = plain.path / "build_report.json"
    assert report.cell_types["K562"].signals["dnase"].missing_fraction > _missing(before)


def _missing(report: Path) -> float:
    content = yaml.safe_load(report.read_text())
    return float(content["cell_types"]["K562"]["signals"]["dnase"]["missing_fraction"])


def test_labels_from_a_track(edited: Edit, plain: Store, tmp_path: Path) -> None:
    label = {"bigwig": "k562_dnase.bw", "half_width_bp": 192, "transform": "log10p1"}
    catalog = edited(lambda c: c["cell_types"]["K562"].update(label=label))
    build_store(catalog, tmp_path / "store", WINDOW_BP)
    store = prism_ray.store.open(tmp_path / "store")
    genes = store.genes("K562")
    with pyBigWig.open(str(catalog.parent / "k562_dnase.bw")) as file:
        sizes = file.chroms()
        for row in genes.itertuples():
            low, high = max(row.tss - 192, 0), min(row.tss + 192, sizes[row.chrom])
            values = np.nan_to_num([file.values(row.chrom, at, at + 1)[0] for at in range(low, high)])
            assert row.label == pytest.approx(np.log10(1.0 + values.sum()), rel=1e-6)
    said = store.description.cell_types["K562"].label
    assert said.source == "k562_dnase.bw: sum over 192 bp on both sides of the TSS"
    assert store.description.cell_types["GM12878"].label == plain.description.cell_types["GM12878"].label


def test_genes_from_an_annotation(edited: Edit, plain: Store, tmp_path: Path) -> None:
    catalog = edited(lambda c: c.update(genes={"gtf": "genes.gtf", "gene_types": ["protein_coding"]}))
    genes = plain.genes("K562")
    lines = []
    for row in genes.itertuples():
        # 1-based and closed: the first base of transcription is the start on +, the end on -.
        start, end = (row.tss + 1, row.tss + 500) if row.strand == "+" else (max(row.tss - 500, 1), row.tss + 1)
        said = f'gene_id "{row.gene_id}"; gene_type "protein_coding"; gene_name "{row.gene_name}";'
        lines.append(f"{row.chrom}\tHAVANA\tgene\t{start}\t{end}\t.\t{row.strand}\t.\t{said}\n")
    (catalog.parent / "genes.gtf").write_text("##description: made\n" + "".join(lines))
    build_store(catalog, tmp_path / "store", WINDOW_BP)
    pd.testing.assert_frame_equal(prism_ray.store.open(tmp_path / "store").genes("K562"), genes)


def test_a_type_by_measure(edited: Edit, plain: Store, tmp_path: Path) -> None:
    """float16 where rounding costs little, float32 where it costs much, in all cell types alike."""

    def ask(content: dict[str, Any]) -> None:
        for cell in content["cell_types"].values():
            cell["signals"]["dnase"]["dtype"] = cell["signals"]["h3k27ac"]["dtype"] = "auto"
            cell["signals"]["h3k27ac"]["transform"] = "none"

    catalog = edited(ask)
    track = catalog.parent / "gm12878_h3k27ac.bw"
    with pyBigWig.open(str(track)) as old:
        sizes = list(old.chroms().items())
    with pyBigWig.open(str(track), "w") as new:
        new.addHeader(sizes)
        for chrom, size in sizes:
            # Beyond the range of float16.
            new.addEntries([chrom], [0], [size], [70_000.0])
    said: list[str] = []
    build_store(catalog, tmp_path / "store", WINDOW_BP, on_progress=lambda progress: said.append(progress.message))
    store = prism_ray.store.open(tmp_path / "store")
    types = {signal.name: signal.dtype for signal in store.description.signals}
    assert types == {"h3k27ac": "float32", "dnase": "float16", "hic": "float32"}
    assert any(line.startswith("dnase is stored as float16: float16 would lose") for line in said)
    exact, rounded = (each.load(WINDOW_BP, ["dnase"], "K562").signals for each in (plain, store))
    np.testing.assert_array_equal(rounded, exact.astype(np.float16).astype(np.float32))


def test_types_by_measure_are_part_of_what_is_built(simulated_catalog: Path) -> None:
    plan = plan_build(simulated_catalog)
    assert plan.with_types({"dnase": "float16"}).key != plan.with_types({"dnase": "float32"}).key


def test_settings_of_contact_maps_are_in_the_description(plain: Store) -> None:
    settings = plain.description.cell_types["K562"].sources["hic"].settings
    assert settings == {
        "resolution": 1000,
        "balance": True,
        "marginal": "none",
        "pseudocount": "powerlaw",
        "quality": True,
    }
    assert plain.description.cell_types["K562"].sources["dnase"].settings == {}


def test_a_window_is_the_same_from_a_short_and_from_a_long_store(
    simulated_catalog: Path, plain: Store, tmp_path: Path
) -> None:
    build_store(simulated_catalog, tmp_path / "long", 40_000)
    long = prism_ray.store.open(tmp_path / "long")
    for window_bp in (2, 700, 2000, WINDOW_BP):
        one, other = (each.load(window_bp, each.signals, "K562") for each in (plain, long))
        np.testing.assert_array_equal(one.signals, other.signals)
        np.testing.assert_array_equal(one.sequence, other.sequence)


def test_strand_aware_needs_strands(edited: Edit, tmp_path: Path) -> None:
    def no_strand(content: dict[str, Any]) -> None:
        content["strand_aware"] = True
        content["genes"].setdefault("columns", {})["strand"] = None

    with pytest.raises(CatalogError, match="strand"):
        build_store(edited(no_strand), tmp_path / "store", WINDOW_BP)


def test_encode_and_reverse_complement_know_each_other() -> None:
    np.testing.assert_array_equal(reverse_complement(encode(b"AACGTN")), encode(b"NACGTT"))


def test_the_published_benchmark_end_to_end(tmp_path: Path) -> None:
    """Its miniature, through the commands of a user: contacts come from its own files, gene by gene."""
    folder = tmp_path / "data"
    genes = make_benchmark(folder).set_index("gene_id")
    catalog, out = tmp_path / "catalog.yaml", tmp_path / "store"
    cells = ["--cell-type", "K562", "--cell-type", "GM12878"]
    assert main(["catalog", "from-geneexp", str(folder), *cells, "--out", str(catalog)]) == 0
    assert main(["build", str(catalog), "--out", str(out), "--window-bp", str(HIC_BP)]) == 0
    store = prism_ray.store.open(out)
    assert store.signals == ("h3k27ac", "dnase", "hic")
    assert (len(store.scalar_names), len(store.folds.names)) == (9, 12)
    for cell_type in ("K562", "GM12878"):
        arrays = store.load(HIC_BP, ["hic"], cell_type)
        for row, (gene_id, chrom) in enumerate(zip(arrays.gene_id, arrays.chrom, strict=True)):
            tss = int(genes.loc[gene_id, "tss"])
            path = folder / "promo_enhan_inter" / "HiC" / cell_type / f"hic_feat_{chrom}.h5"
            with h5py.File(path) as file:
                raw = np.nan_to_num(file[f"{chrom}_{tss}"][:])
            position = np.arange(tss - HIC_BP // 2, tss + HIC_BP // 2)
            expected = np.where((position >= 0) & (position < SIZES[chrom]), np.log10(1.0 + raw), 0.0)
            np.testing.assert_allclose(arrays.signals[row, :, 0], expected, rtol=1e-6, atol=1e-7)
    cage = pd.read_csv(folder / EXPRESSION).set_index("ENSID")["K562_CAGE_128*3_sum"]
    labels = store.genes("K562").set_index("gene_id")["label"]
    np.testing.assert_allclose(labels, np.log10(1.0 + cage[labels.index]), rtol=1e-6)
