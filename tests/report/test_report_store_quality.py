from __future__ import annotations

import json
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

import prism_ray.store
from prism_ray.errors import StoreError
from prism_ray.report.store_quality import store_warnings, write_store_report
from prism_ray.report.store_quality_figures import (
    draw_chromosomes,
    draw_labels,
    draw_profiles,
    draw_regions,
    mark_collapses,
)
from prism_ray.report.store_quality_info import (
    CHROM_COLUMNS,
    LABEL_COLUMNS,
    PROFILE_COLUMNS,
    REGION_COLUMNS,
    CellTypeInfo,
    binned,
    chrom_info,
    label_info,
    read_cell_types,
    region_info,
    thirds,
)
from prism_ray.report.store_quality_tables import chromosome_table, sources_table
from prism_ray.store import Store
from tests.report.made_store import RECIPE, made_store, shifted
from tests.store.factory import Recipe, make_store


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return prism_ray.store.open(made_store(tmp_path_factory.mktemp("quality") / "clean"))


@pytest.fixture(scope="module")
def spoiled(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return prism_ray.store.open(made_store(tmp_path_factory.mktemp("quality") / "spoiled", shifted))


@pytest.fixture(scope="module")
def cells(clean: Store) -> list[CellTypeInfo]:
    return read_cell_types(clean)


# -- what is read


def test_means_and_profiles_are_those_of_the_stored_windows(clean: Store, cells: list[CellTypeInfo]) -> None:
    arrays = clean.load(4000, ["dnase"], "GM12878", sequence=False)
    found = cells[1]
    assert found.name == "GM12878"
    np.testing.assert_allclose(found.genes.centres["dnase"], arrays.signals[:, 1000:3000, 0].mean(axis=1), rtol=1e-5)
    flanks = np.concatenate([arrays.signals[:, :1000, 0], arrays.signals[:, 3000:, 0]], axis=1).mean(axis=1)
    np.testing.assert_allclose(found.genes.flanks["dnase"], flanks, rtol=1e-5)
    order = np.sort(arrays.label)
    high = arrays.label > order[2 * len(order) // 3 - 1]
    line = found.profiles[(found.profiles["signal"] == "dnase") & (found.profiles["tertile"] == "highest third")]
    assert list(line.columns) == PROFILE_COLUMNS
    assert set(line["n_genes"]) == {160}
    assert len(line) == 80
    at = line.set_index("distance_bp")["mean"]
    # The bin [-50, 0) bp is named by its middle.
    assert at[-25] == pytest.approx(arrays.signals[high, 1950:2000, 0].mean(), rel=1e-5)
    assert at[1975] == pytest.approx(arrays.signals[high, 3950:, 0].mean(), rel=1e-5)


@pytest.mark.parametrize(("length", "n_bins", "width"), [(4000, 80, 50), (1010, 20, 50), (998, 20, 49), (10, 10, 1)])
def test_bins_lie_on_both_sides_of_the_tss(length: int, n_bins: int, width: int) -> None:
    values = np.random.default_rng(0).random((3, length)).astype(np.float32)
    distance, means = binned(values)
    assert means.shape == (3, n_bins)
    assert distance[n_bins // 2] == width // 2
    half = length // 2
    for place in (-1, 0, n_bins // 2 - 1):
        start = half + place * width
        found = means[:, n_bins // 2 + place]
        np.testing.assert_allclose(found, values[:, start : start + width].mean(axis=1), rtol=1e-6)


def test_equal_labels_stay_in_one_third() -> None:
    label = np.array([0.0] * 5 + [1.0, 2.0, 3.0, 4.0])
    assert thirds(label).tolist() == [0, 0, 0, 0, 0, 1, 2, 2, 2]
    assert set(thirds(np.ones(9)).tolist()) == {0}


def test_what_is_found_is_what_the_build_found(clean: Store, cells: list[CellTypeInfo]) -> None:
    built = json.loads((clean.path / "build_report.json").read_text())["cell_types"]
    for cell in cells:
        for name, signal in cell.report.signals.items():
            stored = built[cell.name]["signals"][name]
            # The build compares what it read, the page what is stored: float16 lies between them.
            assert signal.correlation == pytest.approx(stored["correlation"], abs=1e-4)
            assert signal.missing_fraction == stored["missing_fraction"]
            assert signal.float16_loss == stored["float16_loss"]


def test_tables_of_what_is_drawn(cells: list[CellTypeInfo]) -> None:
    labels = label_info(cells)
    assert list(labels.columns) == LABEL_COLUMNS
    assert labels.groupby("cell_type")["n_genes"].sum().to_dict() == {"K562": 480, "GM12878": 480}
    assert labels["low"].min() <= min(cell.genes.label.min() for cell in cells)
    genes = cells[0].genes
    chroms = chrom_info(cells[0])
    assert list(chroms.columns) == CHROM_COLUMNS
    (row,) = chroms[(chroms["signal"] == "dnase") & (chroms["chrom"] == "chr10")].to_dict("records")
    own = genes.chrom == "chr10"
    raw = np.log10(genes.centres["dnase"][own] + 0.01)
    assert row["correlation"] == pytest.approx(np.corrcoef(raw, genes.label[own])[0, 1])
    regions = region_info(cells[0])
    assert list(regions.columns) == REGION_COLUMNS
    first = regions.iloc[0]
    assert (first["chrom"], first["gene"], first["n_genes"], first["tss"]) == ("chr1", 40.0, 80, 2_001_000)
    raw = np.log10(genes.centres["h3k27ac"][:80] + 0.01)
    assert first["correlation"] == pytest.approx(np.corrcoef(raw, genes.label[:80])[0, 1])


def test_a_short_chromosome_is_one_window(tmp_path: Path) -> None:
    store = prism_ray.store.open(made_store(tmp_path / "store", recipe=replace(RECIPE, n_genes=30, window_bp=100)))
    regions = region_info(read_cell_types(store)[0])
    assert regions["n_genes"].tolist() == [30] * 8
    assert regions["gene"].tolist()[:4] == [15.0, 45.0, 75.0, 105.0]


def test_only_inner_rings_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = replace(RECIPE, window_bp=24_000, n_genes=2, cell_types=("K562",), chroms=("chr1", "chr2"))
    store = prism_ray.store.open(made_store(tmp_path / "store", recipe=recipe))
    windows = []
    load = Store.load

    def watched(self: Store, window_bp: int, *args: object, **options: object) -> object:
        windows.append(window_bp)
        return load(self, window_bp, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Store, "load", watched)
    monkeypatch.setattr("prism_ray.report.store_quality_info._BLOCK_BYTES", 2 * 10_000 * 4)
    (cell,) = read_cell_types(store)
    # A signal of a chromosome at a time where the memory allows no more.
    assert windows == [10_000] * 4
    assert cell.profiles["distance_bp"].abs().max() == 4975
    whole = store.load(24_000, ["dnase"], "K562", sequence=False)
    assert cell.genes.centres["dnase"] == pytest.approx(whole.signals[:, 11_000:13_000, 0].mean(axis=1), rel=1e-5)


# -- what is drawn


def test_drawings_show_every_panel(cells: list[CellTypeInfo]) -> None:
    cell = cells[0]
    labels = draw_labels(label_info(cells), {"K562": "as given", "GM12878": "log10(1 + x)"})
    assert [axis.get_title() for axis in labels.axes] == ["K562", "GM12878"]
    assert [axis.get_xlabel() for axis in labels.axes] == ["label, as given", "label, log10(1 + x)"]
    assert sum(bar.get_height() for bar in labels.axes[0].patches) == 480  # type: ignore[attr-defined]
    profiles = draw_profiles(cell.profiles, cell.transforms)
    assert [axis.get_title() for axis in profiles.axes] == ["h3k27ac", "dnase"]
    assert [axis.get_ylabel() for axis in profiles.axes] == ["unit of the track"] * 2
    assert {axis.get_xlabel() for axis in profiles.axes} == {"kb from the TSS"}
    lines = profiles.axes[0].get_lines()[:3]
    assert max(lines[2].get_ydata()) > max(lines[1].get_ydata()) > max(lines[0].get_ydata())
    assert [line.get_linestyle() for line in lines] == [":", "--", "-"]


def test_the_map_has_a_number_a_cell_and_a_cross_where_there_is_none() -> None:
    info = pd.DataFrame(
        [("a", "chr1", 9, 0.85), ("a", "chrX", 9, np.nan), ("b", "chr1", 9, -0.4), ("b", "chrX", 9, -1.0)],
        columns=CHROM_COLUMNS,
    )
    axis, bar = draw_chromosomes(info).axes
    assert [text.get_text() for text in axis.texts] == [".85", "×", "-.40", "-1.00"]
    assert [text.get_color() for text in axis.texts if text.get_text() != "×"] == ["#ffffff", "#000000", "#ffffff"]
    assert [label.get_text() for label in axis.get_xticklabels()] == ["1", "X"]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["a", "b"]
    assert bar.get_ylabel() == "Pearson r"


def test_collapsed_regions_are_marked_where_they_lie(spoiled: Store) -> None:
    cell = read_cell_types(spoiled)[0]
    overall = {name: signal.correlation for name, signal in cell.report.signals.items()}
    genes = pd.DataFrame({"chrom": cell.genes.chrom, "tss": cell.genes.tss})
    drawing = draw_regions(region_info(cell), overall, cell.genes.chrom.tolist())
    before = [len(axis.get_lines()) for axis in drawing.axes]
    mark_collapses(drawing, list(overall), cell.report.collapses, genes)
    marks = [len(axis.get_lines()) - n for axis, n in zip(drawing.axes, before, strict=True)]
    assert marks == [0, 1]
    (place,) = drawing.axes[1].get_lines()[-1].get_xdata()
    # chr10 is the third chromosome: genes 240 to 359.
    assert 260 <= place < 340


# -- the page


def page_of(store: Store, folder: Path) -> str:
    return write_store_report(store, folder / "quality.html").read_text(encoding="utf-8")


def test_a_clean_store_has_no_warnings_and_says_so(clean: Store, cells: list[CellTypeInfo], tmp_path: Path) -> None:
    assert store_warnings(clean, cells) == []
    page = page_of(clean, tmp_path)
    assert "No warnings: every check of this page passed." in page
    assert 'class="note"' not in page
    assert page == page_of(prism_ray.store.open(clean.path), tmp_path)


def test_a_shifted_region_is_at_the_top(spoiled: Store, tmp_path: Path) -> None:
    page = page_of(spoiled, tmp_path)
    assert "No warnings" not in page
    (note,) = re.findall(r'<p class="note">(.*?)</p>', page)
    assert note.startswith("K562: dnase hardly follows the label in all of chr10 (r = ")
    assert page.index(note) < page.index("<h2>Labels</h2>")
    assert "1 place where it collapses is marked" in page


def test_the_page_needs_nothing_else(clean: Store, tmp_path: Path) -> None:
    page = page_of(clean, tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["quality.html"]
    assert not re.search(r"<script|<link|<img|@import|src=\"http|href=\"http|url\(http", page)
    pictures = re.findall(r"<svg[^>]*>", page)
    assert len(pictures) == 1 + 3 * 2
    assert all('role="img"' in tag and "aria-label=" in tag for tag in pictures)
    ids = re.findall(r'\bid="([^"]*)"', page)
    assert len(ids) == len(set(ids))
    for text in ("K562_dnase.bw", "01" * 16, "made1", clean.digest, "4,000 bp", "float16", "Bonferroni"):
        assert text in page, text


def test_padded_windows_are_counted_by_chromosome(clean: Store, cells: list[CellTypeInfo]) -> None:
    rows = re.findall(r"<tr>(.*?)</tr>", chromosome_table(clean, cells[0]))[1:]
    assert [re.findall(r"<td>(.*?)</td>", row) for row in rows] == [
        [chrom, "120", "1", "0.0%", "0.0%"] for chrom in ("chr1", "chr2", "chr10", "chrX")
    ]


def test_a_lost_build_report_is_told(tmp_path: Path) -> None:
    store = prism_ray.store.open(made_store(tmp_path / "store", recipe=replace(RECIPE, n_genes=30, window_bp=100)))
    (store.path / "build_report.json").unlink()
    page = page_of(store, tmp_path)
    assert "number not recorded left out for want of a label" in page
    assert "The build report does not say which bases are missing by chromosome in h3k27ac, dnase." in page
    (store.path / "build_report.json").write_text("{")
    with pytest.raises(StoreError, match="cannot be read as a build report"):
        page_of(store, tmp_path)


def test_one_file_for_two_cell_types_is_warned_of(tmp_path: Path) -> None:
    make_store(tmp_path / "store", Recipe(window_bp=10, signals={"dnase": "float32"}))
    store = prism_ray.store.open(tmp_path / "store")
    warnings = store_warnings(store, read_cell_types(store))
    expected = "dnase of K562 and dnase of GM12878 are the same file: is one of them of another cell type?"
    assert warnings[-1] == expected
    assert expected in page_of(store, tmp_path)


def test_sources_say_format_and_settings(clean: Store) -> None:
    text = sources_table(clean)
    assert "<td>K562</td><td>label (as given)</td><td>labels.tsv: made</td>" in text
    assert "<td>GM12878</td><td>dnase</td><td>GM12878_dnase.bw</td><td>bigwig</td><td>-</td>" in text
    source = clean.description.cell_types["K562"].sources["dnase"]
    cells = dict(clean.description.cell_types)
    cells["K562"] = cells["K562"].model_copy(
        update={"sources": {"hic": source.model_copy(update={"kind": "cooler", "settings": {"resolution": 5000}})}}
    )
    other = Store(clean.path, clean.description.model_copy(update={"cell_types": cells}))
    assert "cooler (resolution 5000)" in sources_table(other)


def constant(cell_type: str, chrom: str, signals: dict[str, NDArray[np.float32]]) -> None:
    signals["dnase"][:] = 2.0


@pytest.mark.parametrize(
    "recipe",
    [
        replace(RECIPE, n_genes=1, window_bp=10),
        replace(RECIPE, n_genes=3, window_bp=2, chroms=("a", "scaffold_1")),
        replace(RECIPE, n_genes=25, window_bp=300, signals={}),
    ],
    ids=["one gene", "two bases", "no signals"],
)
def test_the_smallest_stores_have_a_page(recipe: Recipe, tmp_path: Path) -> None:
    page = page_of(prism_ray.store.open(made_store(tmp_path / "store", recipe=recipe)), tmp_path)
    assert "<h2>GM12878</h2>" in page


def test_a_constant_track_is_warned_of_and_drawn(tmp_path: Path) -> None:
    recipe = replace(RECIPE, n_genes=25, window_bp=300)
    store = prism_ray.store.open(made_store(tmp_path / "store", constant, recipe))
    page = page_of(store, tmp_path)
    assert "K562: dnase or the label is the same for all genes" in page
    assert "constant" in page


def test_many_chromosomes_fit(cells: list[CellTypeInfo]) -> None:
    names = [f"chr{number}" for number in [*range(1, 23), "X", "Y"]]
    signals = [f"signal_{number}" for number in range(10)]
    info = pd.DataFrame([(s, c, 50, 0.5) for s in signals for c in names], columns=CHROM_COLUMNS)
    drawing = draw_chromosomes(info)
    drawing.canvas.draw()
    labels = [label.get_window_extent() for label in drawing.axes[0].get_xticklabels()]
    assert all(one.x1 <= two.x0 for one, two in pairwise(labels))


def test_a_page_that_cannot_be_written_is_a_fault(clean: Store, tmp_path: Path) -> None:
    with pytest.raises(
        StoreError, match=r"no/quality\.html: cannot be written \(No such file or directory\); give anoth"
    ):
        write_store_report(clean, tmp_path / "no" / "quality.html")
    (tmp_path / "folder").mkdir()
    with pytest.raises(StoreError, match=r"cannot be written \(Is a directory\)"):
        write_store_report(clean, tmp_path / "folder")
    assert [file.name for file in tmp_path.iterdir()] == ["folder"]
