from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from prism_ray.store.quality import BuildReport, cell_type_report
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
    for part in ("window 4 bp", "2.5 MB", "4 genes on 1 chromosomes, 2 without a label left out", "std 1.118", "1.000"):
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
