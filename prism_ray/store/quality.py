"""What a build found in its data: enough to see a wrong assembly, a wrong unit or an empty track at once."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from prism_ray.documents import StrictModel
from prism_ray.store.precision import Rounding
from prism_ray.store.schema import REPORT_FILE
from prism_ray.store.tally import PartitionRecord, SignalStatistics

WEAK_CORRELATION = 0.05
_LOG_OFFSET = 0.01


class LabelReport(StrictModel):
    """Distribution of a label."""

    minimum: float
    """Smallest value."""
    quartiles: tuple[float, float, float]
    """25 %, 50 % and 75 % quantile."""
    mean: float
    """Mean."""
    std: float
    """Standard deviation, with n in the denominator."""
    maximum: float
    """Largest value."""


class SignalReport(StrictModel):
    """One signal of a cell type."""

    missing_fraction: float
    """Part of the bases inside chromosomes for which the source has no value."""
    correlation: float | None
    """Pearson correlation of its mean around the TSS with the label; null where one of them is constant."""
    float16_loss: float | None
    """Rounding error as a part of the standard deviation; null where it is stored as float32."""
    float16_largest_error: float | None
    """Largest rounding error, in the signal's unit."""


class CellTypeReport(StrictModel):
    """One cell type."""

    n_genes: int
    """Genes in the store."""
    n_dropped: int
    """Genes without a label, left out because the catalog says so."""
    n_padded: int
    """Genes whose window reaches beyond an end of a chromosome."""
    unknown_bases_fraction: float | None
    """Part of the bases inside chromosomes whose letter is N; null where there is no DNA."""
    genes_per_chrom: dict[str, int]
    """Genes by chromosome."""
    label: LabelReport
    """Its label."""
    signals: dict[str, SignalReport]
    """Its signals."""


class BuildReport(StrictModel):
    """What a build wrote and found."""

    name: str
    """Name of the data set, from its catalog."""
    digest: str
    """Digest of the store."""
    window_bp: int
    """Length of the stored window in bp."""
    bytes: int
    """Size of all Parquet files."""
    cell_types: dict[str, CellTypeReport]
    """Cell types by name."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a user should look at before training on the store."""
        found = []
        for cell_type, cell in self.cell_types.items():
            for name, signal in cell.signals.items():
                if signal.correlation is None:
                    found.append(f"{cell_type}: {name} or the label is the same for all genes")
                elif abs(signal.correlation) < WEAK_CORRELATION:
                    r = f"{signal.correlation:.3f}"
                    text = f"{cell_type}: {name} at the TSS hardly correlates with the label (r = {r})"
                    found.append(f"{text}: is the assembly right, and does the track belong to this cell type?")
        return tuple(found)

    def to_text(self) -> str:
        """Tables for people."""
        lines = [f"{self.name}: window {self.window_bp:,} bp, {self.bytes / 1e6:,.1f} MB, digest {self.digest[:12]}"]
        for cell_type, cell in self.cell_types.items():
            lines += ["", *_cell_type_lines(cell_type, cell)]
        lines += ["", "Folds are by chromosome: no window reaches from one part of a fold into another."]
        lines += [f"warning: {warning}" for warning in self.warnings]
        return "\n".join(lines)

    def write(self, folder: Path) -> None:
        """Write it into a store's folder as JSON."""
        text = json.dumps(self.model_dump(mode="json"), indent=1)
        (folder / REPORT_FILE).write_text(text + "\n", encoding="utf-8")


def _cell_type_lines(cell_type: str, cell: CellTypeReport) -> list[str]:
    dropped = f", {cell.n_dropped} without a label left out" if cell.n_dropped else ""
    dna = "no DNA" if cell.unknown_bases_fraction is None else f"{cell.unknown_bases_fraction:.2%} of bases unknown"
    label = cell.label
    low, middle, high = label.quartiles
    lines = [
        f"{cell_type}: {cell.n_genes:,} genes on {len(cell.genes_per_chrom)} chromosomes{dropped}; "
        f"{cell.n_padded} windows padded at a chromosome's end; {dna}",
        f"  label: min {label.minimum:.3f}, quartiles {low:.3f} {middle:.3f} {high:.3f}, max {label.maximum:.3f}, "
        f"mean {label.mean:.3f}, std {label.std:.3f}",
    ]
    if cell.signals:
        lines.append(f"  {'signal':<20} {'missing':>9} {'r at TSS':>9} {'float16 loss':>13}")
    for name, signal in cell.signals.items():
        correlation = "constant" if signal.correlation is None else f"{signal.correlation:.3f}"
        loss = "-" if signal.float16_loss is None else f"{signal.float16_loss:.1e}"
        lines.append(f"  {name:<20} {signal.missing_fraction:>9.2%} {correlation:>9} {loss:>13}")
    return lines


def cell_type_report(records: Iterable[PartitionRecord], transforms: dict[str, str], n_dropped: int) -> CellTypeReport:
    """Report of one cell type.

    Args:
        records: its partitions, in store order.
        transforms: transform of each signal, by name.
        n_dropped: genes left out for want of a label.
    """
    parts = list(records)
    labels = np.array([value for part in parts for value in part.statistics.labels])
    unknown = [part.statistics.n_unknown_bases for part in parts]
    n_inside = sum(part.statistics.n_inside for part in parts)
    known = [count for count in unknown if count is not None]
    return CellTypeReport(
        n_genes=len(labels),
        n_dropped=n_dropped,
        n_padded=sum(part.statistics.n_padded for part in parts),
        unknown_bases_fraction=_fraction(sum(known), n_inside) if known else None,
        genes_per_chrom={part.entry.chrom: part.entry.rows for part in parts},
        label=_label_report(labels),
        signals={
            name: _signal_report([part.statistics.signals[name] for part in parts], transform, labels)
            for name, transform in transforms.items()
        },
    )


def _label_report(labels: NDArray[np.float64]) -> LabelReport:
    low, middle, high = (float(value) for value in np.quantile(labels, (0.25, 0.5, 0.75)))
    return LabelReport(
        minimum=float(labels.min()),
        quartiles=(low, middle, high),
        mean=float(labels.mean()),
        std=float(labels.std()),
        maximum=float(labels.max()),
    )


def _signal_report(parts: list[SignalStatistics], transform: str, labels: NDArray[np.float64]) -> SignalReport:
    means = np.array([value for part in parts for value in part.centre_means])
    # Raw coverage is skewed: its logarithm is what is near linear in a label that is itself a logarithm.
    if transform == "none" and means.min() >= 0.0:
        means = np.log10(means + _LOG_OFFSET)
    rounding = [part.rounding for part in parts if part.rounding is not None]
    total = sum(rounding, start=Rounding())
    return SignalReport(
        missing_fraction=_fraction(sum(part.n_missing for part in parts), sum(part.n_inside for part in parts)),
        correlation=_pearson(means, labels),
        float16_loss=total.loss if rounding else None,
        float16_largest_error=total.largest_error if rounding else None,
    )


def _fraction(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _pearson(x: NDArray[np.float64], y: NDArray[np.float64]) -> float | None:
    x, y = x - x.mean(), y - y.mean()
    scale = math.sqrt(float(np.dot(x, x)) * float(np.dot(y, y)))
    return float(np.dot(x, y)) / scale if scale > 0.0 else None
