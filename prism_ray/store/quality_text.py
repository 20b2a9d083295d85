"""What a build's report says to people: warnings first of all, and tables for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prism_ray.sizes import size_text
from prism_ray.store.regions import FEWEST_GENES

if TYPE_CHECKING:
    from prism_ray.store.quality import BuildReport, CellTypeReport, SignalReport

WEAK_CORRELATION = 0.05
MUCH_MISSING = 0.2
MUCH_UNKNOWN = 0.01
MOST_LABELS = 0.5
BELOW_FLANKS = -3.0
"""Standard errors by which a profile lies lower at the TSS than beside it before that is said."""
_N_SHOWN = 5


def report_warnings(report: BuildReport) -> tuple[str, ...]:
    """What a user should look at before training on the store, cell type by cell type."""
    found = []
    for cell_type, cell in report.cell_types.items():
        found += [f"{cell_type}: {text}" for text in cell_type_warnings(cell)]
    return tuple(found)


def cell_type_warnings(cell: CellTypeReport) -> list[str]:
    """What to look at in one cell type: its label, its DNA, then its signals in order."""
    found = _label_warnings(cell) + _dna_warnings(cell)
    for name, signal in cell.signals.items():
        found += _signal_warnings(name, signal)
        own = [collapse for collapse in cell.collapses if collapse.signal == name]
        found += [collapse.to_text() for collapse in own[:_N_SHOWN]]
        if len(own) > _N_SHOWN:
            found.append(f"{name}: {len(own) - _N_SHOWN} more such regions, listed in the build report")
    found += [
        f"{one} and {two} are nearly the same at every TSS (r > 0.999): are these the same file?"
        for one, two in cell.same_signals
    ]
    return found + _missing_warnings(cell)


def _label_warnings(cell: CellTypeReport) -> list[str]:
    label = cell.label
    if label.commonest_fraction <= MOST_LABELS:
        return []
    share = f"{label.commonest_fraction:.0%} of the genes have the label {label.commonest:.3g}"
    return [f"{share}: are genes without a measurement stored as if they had that value?"]


def _dna_warnings(cell: CellTypeReport) -> list[str]:
    n_unknown = cell.n_mostly_unknown or 0
    if n_unknown <= MUCH_UNKNOWN * cell.n_genes:
        return []
    return [f"{n_unknown} of {cell.n_genes} windows are more than half N: is the FASTA hard-masked?"]


def _signal_warnings(name: str, signal: SignalReport) -> list[str]:
    if signal.correlation is None:
        return [f"{name} or the label is the same for all genes"]
    if abs(signal.correlation) < WEAK_CORRELATION:
        text = f"{name} at the TSS hardly correlates with the label (r = {signal.correlation:.3f})"
        return [f"{text}: is the assembly right, and does the track belong to this cell type?"]
    below = signal.centre_excess is not None and signal.centre_excess < BELOW_FLANKS
    if below and signal.correlation > WEAK_CORRELATION:
        means = f"{signal.centre_mean:.3g} against {signal.flank_mean:.3g}"
        text = f"{name} is lower at the TSS of expressed genes than 1 to 5 kb from it ({means})"
        return [f"{text}: right for a mark of gene bodies; for a promoter mark, are the TSS of the same assembly?"]
    return []


def _missing_warnings(cell: CellTypeReport) -> list[str]:
    much = [
        f"{name} ({signal.missing_fraction:.0%})"
        for name, signal in cell.signals.items()
        if signal.missing_fraction is not None and signal.missing_fraction > MUCH_MISSING
    ]
    if not much:
        return []
    text = f"more than 20 % of the bases have no value, which is stored as 0, in {', '.join(much)}"
    return [f"{text}: right for a track of peaks; a coverage track is cut off, or of another assembly"]


def report_text(report: BuildReport) -> str:
    """Tables for a terminal, then every warning."""
    lines = [f"{report.name}: window {report.window_bp:,} bp, {size_text(report.bytes)}, digest {report.digest[:12]}"]
    for cell_type, cell in report.cell_types.items():
        lines += ["", *_cell_type_lines(cell_type, cell)]
    lines += ["", "Folds are by chromosome: no window reaches from one part of a fold into another."]
    lines += [f"warning: {warning}" for warning in report.warnings]
    return "\n".join(lines)


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
        lines.append(f"  {'signal':<20} {'missing':>9} {'r at TSS':>9}  {'weakest chromosome':<20}{'float16 loss':>13}")
    for name, signal in cell.signals.items():
        correlation = "constant" if signal.correlation is None else f"{signal.correlation:.3f}"
        missing = "-" if signal.missing_fraction is None else f"{signal.missing_fraction:.2%}"
        loss = "-" if signal.float16_loss is None else f"{signal.float16_loss:.1e}"
        lines.append(f"  {name:<20} {missing:>9} {correlation:>9}  {weakest_chromosome(cell, signal):<20}{loss:>13}")
    return lines


def weakest_chromosome(cell: CellTypeReport, signal: SignalReport) -> str:
    """Chromosome of 20 genes or more where a signal follows the label least, with r, as text; `-` without one."""
    known = {
        chrom: r
        for chrom, r in signal.chrom_correlations.items()
        if r is not None and cell.genes_per_chrom[chrom] >= FEWEST_GENES
    }
    if not known or signal.correlation is None:
        return "-"
    sign = 1.0 if signal.correlation >= 0.0 else -1.0
    weakest = min(known, key=lambda chrom: sign * known[chrom])
    return f"{weakest} {known[weakest]:.3f}"
