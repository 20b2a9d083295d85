"""What a build found in its data: enough to see a wrong assembly, a wrong unit, a shifted region or an empty track.

N genes in store order.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from prism_ray.errors import FaultList, StoreError
from prism_ray.store.place import StorePlace
from prism_ray.store.precision import Rounding
from prism_ray.store.quality_text import report_text, report_warnings
from prism_ray.store.regions import FEWEST_GENES, Collapse, GeneTrack, chrom_correlations, find_collapses, pearson
from prism_ray.store.schema import REPORT_FILE, StoreModel
from prism_ray.store.tally import PartitionRecord

SAME_CORRELATION = 0.999
_LOG_OFFSET = 0.01


class LabelReport(StoreModel):
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
    commonest: float
    """The value that most genes have."""
    commonest_fraction: float
    """Part of the genes that have it."""


class SignalCounts(StoreModel):
    """What only the build can count of a signal: null where its report is lost or of an earlier version."""

    missing_fraction: float | None = None
    """Part of the bases inside chromosomes for which the source has no value."""
    chrom_missing: dict[str, float] | None = None
    """The same by chromosome."""
    float16_loss: float | None = None
    """Rounding error as a part of the standard deviation; null where it is stored as float32."""
    float16_largest_error: float | None = None
    """Largest rounding error, in the signal's unit."""


class SignalReport(SignalCounts):
    """One signal of a cell type."""

    correlation: float | None
    """Pearson correlation of its mean around the TSS with the label; null where one of them is constant."""
    chrom_correlations: dict[str, float | None]
    """The same by chromosome."""
    centre_mean: float | None
    """Mean in the 2 kb around the TSS over the third of the genes with the highest label; null below 4 kb windows."""
    flank_mean: float | None
    """Mean 1 to 5 kb from the TSS, or to the window's end, over the same genes."""
    centre_excess: float | None
    """Their difference in standard errors, paired by gene; null too where it cannot be told."""


class CellTypeCounts(StoreModel):
    """What only the build can count of a cell type: null where its report is lost or of an earlier version."""

    n_dropped: int | None = None
    """Genes without a label, left out because the catalog says so."""
    n_padded: int | None = None
    """Genes whose window reaches beyond an end of a chromosome."""
    unknown_bases_fraction: float | None = None
    """Part of the bases inside chromosomes whose letter is N; null where there is no DNA."""
    n_mostly_unknown: int | None = None
    """Genes with N for more than half of the bases inside the chromosome; null where there is no DNA."""
    signals: Mapping[str, SignalCounts] = {}
    """Its signals."""


class CellTypeReport(CellTypeCounts):
    """One cell type."""

    n_genes: int
    """Genes in the store."""
    genes_per_chrom: dict[str, int]
    """Genes by chromosome."""
    label: LabelReport
    """Its label."""
    signals: Mapping[str, SignalReport]
    """Its signals."""
    collapses: tuple[Collapse, ...]
    """Regions and chromosomes where a signal does not follow the label as it does elsewhere; see `regions`."""
    same_signals: tuple[tuple[str, str], ...]
    """Pairs of signals whose means around the TSS correlate above 0.999: probably one file under two names."""


class BuildReport(StoreModel):
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
        return report_warnings(self)

    def to_text(self) -> str:
        """Tables for people."""
        return report_text(self)

    def write(self, folder: Path) -> None:
        """Write it into a store's folder as JSON."""
        text = json.dumps(self.model_dump(mode="json"), indent=1)
        (folder / REPORT_FILE).write_text(text + "\n", encoding="utf-8")


class _StoredCounts(StoreModel):
    """The part of a written report that cannot be found again in the store."""

    cell_types: dict[str, CellTypeCounts]


@dataclass(frozen=True)
class GeneSummary:
    """What the findings of a cell type rest on.

    Attributes:
        chrom: (N,) text.
        tss: (N,) int64, 0-based.
        label: (N,) float64.
        centres: (N,) float64 by signal, mean of the stored values around the TSS.
        flanks: (N,) float64 by signal, mean of both flanks; empty where the window is below 4 kb.
    """

    chrom: NDArray[np.str_]
    tss: NDArray[np.int64]
    label: NDArray[np.float64]
    centres: Mapping[str, NDArray[np.float64]]
    flanks: Mapping[str, NDArray[np.float64]]


def cell_type_report(
    records: Iterable[PartitionRecord], transforms: Mapping[str, str], n_dropped: int
) -> CellTypeReport:
    """Report of one cell type.

    Args:
        records: its partitions, in store order.
        transforms: transform of each signal, by name.
        n_dropped: genes left out for want of a label.
    """
    parts = list(records)
    return examine(_summary(parts, transforms), transforms, _counts(parts, transforms, n_dropped))


def examine(genes: GeneSummary, transforms: Mapping[str, str], counts: CellTypeCounts) -> CellTypeReport:
    """Report of one cell type from what is known of its genes.

    Args:
        genes: in store order.
        transforms: transform of each signal, by name.
        counts: what the build counted.
    """
    compared = {name: comparable(genes.centres[name], transform) for name, transform in transforms.items()}
    names, n_genes = np.unique(genes.chrom, return_counts=True)
    n_by_chrom = dict(zip(names.tolist(), n_genes.tolist(), strict=True))
    known = {name: counts.signals.get(name, SignalCounts()) for name in transforms}
    return CellTypeReport(
        **counts.model_dump(exclude={"signals"}),
        n_genes=len(genes.label),
        genes_per_chrom={name: n_by_chrom[name] for name in dict.fromkeys(genes.chrom.tolist())},
        label=_label_report(genes.label),
        signals={name: _signal_report(name, genes, values, known[name]) for name, values in compared.items()},
        collapses=find_collapses(genes.chrom, genes.tss, genes.label, compared),
        same_signals=_same_signals(compared),
    )


def read_counts(store: StorePlace) -> dict[str, CellTypeCounts]:
    """What the build of a store counted, by cell type; empty where its report is not there.

    Raises:
        StoreError: the report is damaged.
    """
    path = store / REPORT_FILE
    faults = FaultList()
    if not path.is_file():
        return {}
    try:
        return _StoredCounts.model_validate_json(path.read_text(encoding="utf-8")).cell_types
    except (OSError, ValueError, ValidationError) as problem:
        first = str(problem).splitlines()[0]
        faults.add(str(path), f"cannot be read as a build report ({first})", "restore it, or remove it to go without")
    faults.raise_if_any(StoreError)
    raise AssertionError("a fault that was not raised")


def comparable(means: NDArray[np.float64], transform: str) -> NDArray[np.float64]:
    """Means around the TSS, (N,), as they are compared with a label: log10(x + 0.01) of raw coverage."""
    # Raw coverage is skewed: its logarithm is what is near linear in a label that is itself a logarithm.
    if transform == "none" and len(means) and means.min() >= 0.0:
        return np.log10(means + _LOG_OFFSET)
    return means


def _summary(parts: list[PartitionRecord], transforms: Mapping[str, str]) -> GeneSummary:
    centres, flanks = {}, {}
    for name in transforms:
        own = [part.statistics.signals[name] for part in parts]
        centres[name] = np.array([value for part in own for value in part.centre_means])
        if all(part.flank_means is not None for part in own):
            flanks[name] = np.array([value for part in own for value in part.flank_means or ()])
    return GeneSummary(
        chrom=np.repeat([part.entry.chrom for part in parts], [len(part.statistics.labels) for part in parts]),
        tss=np.array([value for part in parts for value in part.statistics.tss], dtype=np.int64),
        label=np.array([value for part in parts for value in part.statistics.labels]),
        centres=centres,
        flanks=flanks,
    )


def _counts(parts: list[PartitionRecord], transforms: Mapping[str, str], n_dropped: int) -> CellTypeCounts:
    unknown = [n for part in parts if (n := part.statistics.n_unknown_bases) is not None]
    mostly = [n for part in parts if (n := part.statistics.n_mostly_unknown) is not None]
    n_inside = sum(part.statistics.n_inside for part in parts)
    return CellTypeCounts(
        n_dropped=n_dropped,
        n_padded=sum(part.statistics.n_padded for part in parts),
        unknown_bases_fraction=_fraction(sum(unknown), n_inside) if unknown else None,
        n_mostly_unknown=sum(mostly) if mostly else None,
        signals={name: _signal_counts(parts, name) for name in transforms},
    )


def _signal_counts(parts: list[PartitionRecord], name: str) -> SignalCounts:
    own = {part.entry.chrom: part.statistics.signals[name] for part in parts}
    rounding = [part.rounding for part in own.values() if part.rounding is not None]
    total = sum(rounding, start=Rounding())
    return SignalCounts(
        missing_fraction=_fraction(
            sum(part.n_missing for part in own.values()), sum(part.n_inside for part in own.values())
        ),
        chrom_missing={chrom: _fraction(part.n_missing, part.n_inside) for chrom, part in own.items()},
        float16_loss=total.loss if rounding else None,
        float16_largest_error=total.largest_error if rounding else None,
    )


def _label_report(labels: NDArray[np.float64]) -> LabelReport:
    low, middle, high = (float(value) for value in np.quantile(labels, (0.25, 0.5, 0.75)))
    values, n_genes = np.unique(labels, return_counts=True)
    return LabelReport(
        minimum=float(labels.min()),
        quartiles=(low, middle, high),
        mean=float(labels.mean()),
        std=float(labels.std()),
        maximum=float(labels.max()),
        commonest=float(values[n_genes.argmax()]),
        commonest_fraction=float(n_genes.max() / len(labels)),
    )


def _signal_report(name: str, genes: GeneSummary, compared: NDArray[np.float64], counts: SignalCounts) -> SignalReport:
    centre = flank = excess = None
    if name in genes.flanks:
        high = genes.label >= np.quantile(genes.label, 2.0 / 3.0)
        centre, flank = float(genes.centres[name][high].mean()), float(genes.flanks[name][high].mean())
        excess = _paired_excess(genes.centres[name][high] - genes.flanks[name][high])
    return SignalReport(
        **counts.model_dump(),
        correlation=pearson(compared, genes.label),
        chrom_correlations=chrom_correlations(GeneTrack(genes.chrom, genes.tss, genes.label, compared)),
        centre_mean=centre,
        flank_mean=flank,
        centre_excess=excess,
    )


def _paired_excess(differences: NDArray[np.float64]) -> float | None:
    """Mean difference over its standard error; None for too few genes, or where all differ alike."""
    if len(differences) < FEWEST_GENES or np.ptp(differences) == 0.0:
        return None
    return float(differences.mean() / (differences.std(ddof=1) / np.sqrt(len(differences))))


def _same_signals(compared: Mapping[str, NDArray[np.float64]]) -> tuple[tuple[str, str], ...]:
    found = []
    for one, two in combinations(compared, 2):
        correlation = pearson(compared[one], compared[two]) if len(compared[one]) >= FEWEST_GENES else None
        if correlation is not None and correlation > SAME_CORRELATION:
            found.append((one, two))
    return tuple(found)


def _fraction(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
