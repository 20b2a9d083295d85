from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from prism_ray.errors import StoreError
from prism_ray.store.quality import (
    BuildReport,
    CellTypeCounts,
    CellTypeReport,
    GeneSummary,
    cell_type_report,
    examine,
    read_counts,
)
from prism_ray.store.quality_text import cell_type_warnings, weakest_chromosome
from prism_ray.store.schema import FileEntry
from prism_ray.store.tally import PartitionRecord, PartitionTally
from prism_ray.store.write import GeneRows
from tests.store.factory import Recipe, make_store


def rows(
    tss: list[int], label: list[float], signal: list[float], codes: int | None = 0, window_bp: int = 4
) -> GeneRows:
    n = len(tss)
    genes = pd.DataFrame(
        {"gene_id": [f"g{i}" for i in range(n)], "tss": np.array(tss), "label": np.array(label, np.float32)}
    )
    values = np.repeat(np.array(signal, np.float32)[:, None], window_bp, axis=1)
    sequence = None if codes is None else np.full((n, window_bp), codes, np.uint8)
    return GeneRows(genes, np.zeros((n, 0), np.float32), sequence, {"a": values})


def record(part: GeneRows, chrom: str = "chr1", n_missing: int = 0, chrom_size: int = 1000) -> PartitionRecord:
    tally = PartitionTally(chrom_size, 4)
    tally.add(part, {"a": n_missing}, {})
    entry = FileEntry(
        cell_type="K562",
        chrom=chrom,
        rows=len(part.genes),
        bytes=1,
        sha256="0",
        footer_sha256="0",
        content_sha256="0",
    )
    return PartitionRecord(entry=entry, statistics=tally.statistics())


def test_windows_beyond_the_chromosome_are_counted() -> None:
    part = rows([1, 2, 500, 998, 999], [0, 1, 2, 3, 4], [0, 0, 0, 0, 0])
    statistics = record(part).statistics
    assert statistics.n_padded == 2
    assert statistics.n_inside == 3 + 4 + 4 + 4 + 3


def test_unknown_bases_do_not_count_what_lies_beyond_the_chromosome() -> None:
    part = rows([1, 500], [0, 1], [0, 0], codes=0)
    assert part.sequence is not None
    part.sequence[0, 0] = 4  # beyond the start
    part.sequence[1, 2] = 4
    assert record(part).statistics.n_unknown_bases == 1
    assert record(rows([500], [0], [0], codes=None)).statistics.n_unknown_bases is None


def test_report_of_a_cell_type() -> None:
    one = record(rows([10, 20, 30], [1, 2, 3], [1, 2, 3]), "chr1", n_missing=6)
    two = record(rows([10, 20], [4, 5], [4, 5]), "chr2", n_missing=0)
    report = cell_type_report([one, two], {"a": "log1p"}, n_dropped=7)
    assert (report.n_genes, report.n_dropped, report.n_padded) == (5, 7, 0)
    assert report.genes_per_chrom == {"chr1": 3, "chr2": 2}
    assert report.label.quartiles == (2.0, 3.0, 4.0)
    assert (report.label.minimum, report.label.mean, report.label.maximum) == (1.0, 3.0, 5.0)
    assert report.label.std == pytest.approx(np.sqrt(2))
    assert report.signals["a"].missing_fraction == 6 / 20
    assert report.signals["a"].correlation == pytest.approx(1.0)
    assert report.unknown_bases_fraction == 0.0


def test_a_raw_track_is_compared_by_its_logarithm() -> None:
    signal, label = [0.0, 9.99, 999.99], [-2.0, 1.0, 3.0]
    part = record(rows([10, 20, 30], label, signal))
    assert cell_type_report([part], {"a": "none"}, 0).signals["a"].correlation == pytest.approx(1.0, abs=1e-6)
    linear = np.corrcoef(signal, label)[0, 1]
    assert cell_type_report([part], {"a": "log1p"}, 0).signals["a"].correlation == pytest.approx(linear, abs=1e-6)


def test_a_raw_track_with_negative_values_is_compared_as_it_is() -> None:
    part = record(rows([10, 20, 30], [1.0, 2.0, 4.0], [-1.0, 0.0, 2.0]))
    assert cell_type_report([part], {"a": "none"}, 0).signals["a"].correlation == pytest.approx(1.0)


def test_only_the_centre_counts_for_the_correlation() -> None:
    tally = PartitionTally(10**6, 6000)
    part = rows([10_000], [1.0], [0.0], window_bp=6000)
    part.signals["a"][0, :2000] = 100.0
    part.signals["a"][0, 2000:4000] = np.arange(2000)
    tally.add(part, {"a": 0}, {})
    assert tally.statistics().signals["a"].centre_means == (999.5,)


def report(correlation_label: list[float], signal: list[float]) -> BuildReport:
    part = record(rows([10, 20, 30, 40], correlation_label, signal))
    cell = cell_type_report([part], {"a": "log1p"}, 2)
    return BuildReport(name="made", digest="f" * 64, window_bp=4, bytes=2_500_000, cell_types={"K562": cell})


def test_a_weak_correlation_is_warned_of() -> None:
    good = report([1, 2, 3, 4], [1, 2, 3, 4])
    assert good.warnings == ()
    assert "warning" not in good.to_text()
    weak = report([1, -1, -1, 1], [1, 2, 3, 4])
    (warning,) = weak.warnings
    assert warning.startswith("K562: a at the TSS hardly correlates with the label (r = 0.000): is the assembly right")
    assert f"warning: {warning}" in weak.to_text()


def test_a_constant_track_is_warned_of() -> None:
    constant = report([1, 2, 3, 4], [5, 5, 5, 5])
    assert constant.cell_types["K562"].signals["a"].correlation is None
    assert constant.warnings == ("K562: a or the label is the same for all genes",)
    assert "constant" in constant.to_text()


def test_text_says_what_a_user_looks_for() -> None:
    text = report([1, 2, 3, 4], [1, 2, 3, 4]).to_text()
    for part in (
        "window 4 bp",
        "2.38 MiB",
        "4 genes on 1 chromosomes, 2 without a label left out",
        "std 1.118",
        "1.000",
    ):
        assert part in text, part
    assert "no window reaches from one part of a fold into another" in text


def test_the_report_lies_in_the_store(tmp_path: Path) -> None:
    make_store(tmp_path / "store", Recipe(window_bp=10))
    text = (tmp_path / "store" / "build_report.json").read_text()
    stored = BuildReport.model_validate_json(text)
    assert stored.cell_types["K562"].n_genes == 24
    loss = stored.cell_types["K562"].signals["dnase"].float16_loss
    assert loss is not None
    assert 0 < loss < 1e-3
    assert stored.cell_types["K562"].signals["hic"].float16_loss is None


# -- what a careful reader of the data would want to be warned of


N_GENES = 400


def summary(label: NDArray[np.float64] | None = None, **centres: NDArray[np.float64]) -> GeneSummary:
    """Genes on four chromosomes of 100 with the label and signals given; a signal follows the label by default."""
    random = np.random.default_rng(0)
    label = random.standard_normal(N_GENES) if label is None else label
    own = {"good": label + 0.5 * random.standard_normal(N_GENES), **centres}
    chrom = np.repeat([f"chr{number}" for number in (1, 2, 10, 21)], 100)
    tss = np.tile(np.arange(100) * 30_000 + 5000, 4)
    return GeneSummary(chrom, tss, label, own, {})


def report_of(genes: GeneSummary, counts: CellTypeCounts | None = None) -> CellTypeReport:
    return examine(genes, dict.fromkeys(genes.centres, "log1p"), counts or CellTypeCounts())


def test_clean_data_gives_no_warning() -> None:
    found = report_of(summary())
    assert cell_type_warnings(found) == []
    assert found.genes_per_chrom == {"chr1": 100, "chr2": 100, "chr10": 100, "chr21": 100}
    assert list(found.signals["good"].chrom_correlations) == ["chr1", "chr2", "chr10", "chr21"]


def test_a_chromosome_of_another_assembly_is_warned_of() -> None:
    genes = summary()
    bad = genes.centres["good"].copy()
    bad[100:200] = np.random.default_rng(3).permutation(bad[100:200])
    found = report_of(summary(bad=bad))
    (collapse,) = found.collapses
    assert (collapse.signal, collapse.chrom) == ("bad", "chr2")
    (warning,) = cell_type_warnings(found)
    assert warning.startswith("bad hardly follows the label in all of chr2 (r = ")
    assert weakest_chromosome(found, found.signals["bad"]) == f"chr2 {collapse.correlation:.3f}"


def test_many_regions_are_counted_and_not_all_listed() -> None:
    genes = summary()
    found = report_of(summary(bad=genes.centres["good"]))
    collapse = report_of(summary(bad=np.where(np.arange(N_GENES) // 100 == 1, 0.0, genes.centres["good"]))).collapses[0]
    many = found.model_copy(update={"collapses": (collapse,) * 8, "same_signals": ()})
    warnings = cell_type_warnings(many)
    assert len(warnings) == 6
    assert warnings[-1] == "bad: 3 more such regions, listed in the build report"


def test_one_file_under_two_names_is_warned_of() -> None:
    genes = summary()
    found = report_of(summary(copy=1.5 * genes.centres["good"] + 0.001 * np.arange(N_GENES) / N_GENES))
    assert found.same_signals == (("good", "copy"),)
    assert cell_type_warnings(found) == [
        "good and copy are nearly the same at every TSS (r > 0.999): are these the same file?"
    ]
    near = genes.centres["good"] + 0.1 * np.random.default_rng(1).standard_normal(N_GENES)
    assert report_of(summary(near=near)).same_signals == ()


def test_a_label_that_most_genes_share_is_warned_of() -> None:
    label = np.random.default_rng(0).standard_normal(N_GENES)
    label[np.random.default_rng(1).random(N_GENES) < 0.6] = 0.0
    found = report_of(summary(label))
    assert found.label.commonest == 0.0
    assert found.label.commonest_fraction == pytest.approx((label == 0.0).mean())
    assert cell_type_warnings(found)[0].startswith("6")
    assert "of the genes have the label 0: are genes without a measurement" in cell_type_warnings(found)[0]


@pytest.mark.parametrize(("n_unknown", "said"), [(None, False), (4, False), (5, True)])
def test_windows_of_mostly_n_are_warned_of(n_unknown: int | None, said: bool) -> None:
    warnings = cell_type_warnings(report_of(summary(), CellTypeCounts(n_mostly_unknown=n_unknown)))
    assert warnings == ([f"{n_unknown} of 400 windows are more than half N: is the FASTA hard-masked?"] if said else [])


def test_much_missing_is_said_once_for_all_signals() -> None:
    genes = summary(other=np.random.default_rng(5).standard_normal(N_GENES) + 0.5 * summary().label)
    counts = CellTypeCounts.model_validate(
        {"signals": {"good": {"missing_fraction": 0.2}, "other": {"missing_fraction": 0.61}}}
    )
    (warning,) = cell_type_warnings(report_of(genes, counts))
    assert warning.startswith("more than 20 % of the bases have no value, which is stored as 0, in other (61%): right")


def peaked(offset_bp: int, window_bp: int = 8000, n: int = 150) -> PartitionRecord:
    """Genes whose signal is a peak of the label's height at a distance from the TSS."""
    random = np.random.default_rng(0)
    label = random.random(n).astype(np.float32)
    height = label + 0.1 * random.random(n).astype(np.float32)
    place = np.arange(window_bp) - window_bp // 2
    values = 0.5 * height[:, None] + height[:, None] * np.exp(-0.5 * ((place - offset_bp) / 500.0) ** 2)[None, :]
    part = rows(list(range(10_000, 10_000 + n)), label.tolist(), [0.0] * n, codes=None, window_bp=window_bp)
    part.signals["a"][:] = values
    tally = PartitionTally(10**6, window_bp)
    tally.add(part, {"a": 0}, {})
    entry = record(rows([1], [0], [0])).entry
    return PartitionRecord(entry=entry, statistics=tally.statistics())


@pytest.mark.parametrize(
    ("offset_bp", "window_bp", "said"), [(0, 8000, False), (2500, 8000, True), (2500, 3998, False)]
)
def test_a_profile_that_peaks_beside_the_tss_is_warned_of(offset_bp: int, window_bp: int, said: bool) -> None:
    found = cell_type_report([peaked(offset_bp, window_bp)], {"a": "log1p"}, 0)
    warnings = cell_type_warnings(found)
    assert len(warnings) == said
    if said:
        signal = found.signals["a"]
        assert signal.centre_mean is not None
        assert signal.flank_mean is not None
        assert signal.centre_mean < signal.flank_mean
        assert warnings[0].startswith("a is lower at the TSS of expressed genes than 1 to 5 kb from it (")
    assert (found.signals["a"].flank_mean is None) == (window_bp < 4000)


def test_flanks_reach_from_one_to_five_kb() -> None:
    part = rows([50_000], [1.0], [0.0], window_bp=12_000)
    values = part.signals["a"]
    values[0, 1000:5000] = 3.0
    values[0, 7000:11_000] = 5.0
    values[0, :1000] = values[0, 11_000:] = values[0, 5000:7000] = 1e6
    tally = PartitionTally(10**6, 12_000)
    tally.add(part, {"a": 0}, {})
    assert tally.statistics().signals["a"].flank_means == (4.0,)


def test_genes_of_mostly_n_are_counted_inside_the_chromosome() -> None:
    part = rows([1, 500, 600], [0, 1, 2], [0, 0, 0], codes=0)
    assert part.sequence is not None
    part.sequence[0, :3] = 4  # one of them lies beyond the start: 2 of 3
    part.sequence[1, :2] = 4  # 2 of 4 is no more than half
    statistics = record(part).statistics
    assert statistics.n_mostly_unknown == 1
    assert statistics.tss == (1, 500, 600)
    assert record(rows([500], [0], [0], codes=None)).statistics.n_mostly_unknown is None


def test_the_record_and_the_report_survive_json() -> None:
    part = peaked(0)
    assert PartitionRecord.model_validate_json(part.model_dump_json()) == part
    cell = cell_type_report([part], {"a": "log1p"}, 3)
    whole = BuildReport(name="made", digest="f", window_bp=8000, bytes=1, cell_types={"K562": cell})
    assert BuildReport.model_validate_json(whole.model_dump_json()) == whole


def test_text_names_the_weakest_chromosome() -> None:
    genes = summary()
    cell = report_of(genes)
    text = BuildReport(name="made", digest="f", window_bp=4, bytes=1, cell_types={"K562": cell}).to_text()
    known = cell.signals["good"].chrom_correlations
    weakest = min(known, key=lambda chrom: known[chrom] or 0.0)
    assert f"{weakest} {known[weakest]:.3f}" in text
    turned = examine(
        GeneSummary(genes.chrom, genes.tss, genes.label, {"good": -genes.centres["good"]}, {}),
        {"good": "log1p"},
        CellTypeCounts(),
    )
    assert weakest_chromosome(turned, turned.signals["good"]) == f"{weakest} {-(known[weakest] or 0.0):.3f}"


def test_counts_are_read_back_from_the_store(tmp_path: Path) -> None:
    make_store(tmp_path / "store", Recipe(window_bp=10))
    counts = read_counts(tmp_path / "store")
    assert counts["K562"].n_padded == 0
    assert counts["K562"].signals["hic"].missing_fraction == 0.0
    path = tmp_path / "store" / "build_report.json"
    path.write_text('{"cell_types": {"K562": {"n_dropped": 3, "signals": {"hic": {"missing_fraction": 0.5}}}}}')
    old = read_counts(tmp_path / "store")["K562"]
    assert (old.n_dropped, old.n_padded, old.signals["hic"].chrom_missing) == (3, None, None)
    path.unlink()
    assert read_counts(tmp_path / "store") == {}


@pytest.mark.parametrize("text", ["", "{", '{"cell_types": {"K562": {"n_dropped": "x"}}}'])
def test_a_damaged_report_is_a_fault(text: str, tmp_path: Path) -> None:
    (tmp_path / "build_report.json").write_text(text)
    with pytest.raises(
        StoreError, match=r"build_report\.json: cannot be read as a build report .*; restore it, or remove"
    ):
        read_counts(tmp_path)
