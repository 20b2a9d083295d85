"""An arm's difference from the baseline fold by fold, the genes of chrX apart from the autosomes.

Most test genes of the published fold lie on chrX, whose dosage is regulated as a whole: a difference that only they
show is no difference of genes at large.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from prism_ray.report.genes import PairedFold, Predictions, paired_folds, pairs_of_genes
from prism_ray.report.style import (
    COLOURS,
    LABEL_WIDTH,
    MARKERS,
    QUIET,
    ROW_HEIGHT_IN,
    legend_above,
    new_figure,
    wrapped,
)
from prism_ray.statistics import FoldPredictions, gene_effects
from prism_ray.tracking.headers import StudyHeader

SEX_CHROMS = ("chrX", "chrY", "X", "Y")
AUTOSOMES = "autosomes"
FOLD_COLUMNS = ["cell_type", "arm", "fold", "chroms", "n_runs", "n_genes", "difference", "low", "high"]
_FEWEST_GENES = 20
"""Genes below which a part of a fold gets no interval of its own."""
MOST_ARMS = 6
"""Arms that a figure shows, in the order of the study; the table beside it has all."""


def fold_info(runs: pd.DataFrame, predictions: Predictions, header: StudyHeader) -> pd.DataFrame:
    """Differences by fold and kind of chromosome, one row a cell type, arm, fold and part; see `FOLD_COLUMNS`.

    chroms is `autosomes` or the sex chromosome; low and high are the BCa bootstrap interval over genes. A part of a
    fold with fewer than 20 genes is left out. No row where there is nothing to hold apart: one fold of autosomes alone.
    """
    metric = header.metric.removeprefix("test/")
    places, parts = [], []
    for cell_type in header.cell_types:
        for arm, reference in pairs_of_genes(header, cell_type):
            for fold in paired_folds(runs, predictions, cell_type, arm, reference):
                for chroms, part in _parts(fold):
                    places.append([cell_type, arm, fold.fold, chroms])
                    parts.append([part])
    rows = [
        [*place, effect.n_runs, effect.n_genes, effect.difference, effect.low, effect.high]
        for place, effect in zip(places, gene_effects(parts, metric), strict=True)
    ]
    info = pd.DataFrame(rows, columns=FOLD_COLUMNS)
    return info if len(info.drop_duplicates(["fold", "chroms"])) > 1 else info.iloc[:0]


def draw_folds(info: pd.DataFrame, header: StudyHeader) -> Figure:
    """A panel an arm and cell type, of the first `MOST_ARMS` arms: one line a fold and kind of chromosome."""
    shown = info[info["arm"].isin(list(dict.fromkeys(info["arm"]))[:MOST_ARMS])]
    panels = list(shown.groupby(["cell_type", "arm"], sort=False))
    most = max(len(part) for _, part in panels)
    figure, axes = new_figure(len(panels), 1, height_in=len(panels) * (1.0 + ROW_HEIGHT_IN * most))
    kinds = list(dict.fromkeys(info["chroms"]))
    for axis, ((cell_type, arm), part) in zip(axes, panels, strict=True):
        axis.axvline(0.0, color=QUIET, linewidth=1, zorder=0)
        places = np.arange(len(part))
        for index, kind in enumerate(kinds):
            chosen = (part["chroms"] == kind).to_numpy()
            one = part[chosen]
            axis.errorbar(
                one["difference"],
                places[chosen],
                xerr=np.vstack([one["difference"] - one["low"], one["high"] - one["difference"]]),
                fmt=MARKERS[index % len(MARKERS)],
                color=COLOURS[index % len(COLOURS)],
                markersize=5,
                capsize=2,
                label=kind,
            )
        labels = [f"{row['fold']}, {row['chroms']} ({row['n_genes']} genes)" for row in part.to_dict("records")]
        axis.set_yticks(places, labels)
        axis.set_ylim(len(part) - 0.5, -0.5)
        title = f"{arm}, {cell_type}" if len(header.cell_types) > 1 else str(arm)
        axis.set_xlabel(wrapped(f"difference of {title} in {header.metric} from {header.compared_with}", LABEL_WIDTH))
        if axis is axes[0] and len(kinds) > 1:
            legend_above(axis)
    return figure


def fold_caption(info: pd.DataFrame, header: StudyHeader) -> str:
    """What the lines show and how many genes and runs they rest on."""
    n_genes = info.drop_duplicates(["cell_type", "fold", "chroms"])["n_genes"].sum()
    n_folds, n_arms = info["fold"].nunique(), info["arm"].nunique()
    text = (
        f"Difference in {header.metric} from {header.compared_with} in {n_folds} fold{'s' if n_folds > 1 else ''} "
        f"({int(n_genes)} test genes), sex chromosomes apart, with 95 % bootstrap intervals over genes; the runs are "
        f"taken as they are. A difference that only one fold or only chrX shows is not one of genes at large."
    )
    return text if n_arms <= MOST_ARMS else f"{text} The first {MOST_ARMS} of {n_arms} arms; the table has all."


def _parts(fold: PairedFold) -> list[tuple[str, FoldPredictions]]:
    """Genes of the autosomes and of each sex chromosome that has enough of them."""
    kinds = np.where(np.isin(fold.chrom.astype(str), SEX_CHROMS), fold.chrom.astype(str), AUTOSOMES)
    both = fold.predictions
    parts = []
    for kind in sorted(set(kinds)):
        chosen = kinds == kind
        if chosen.sum() >= _FEWEST_GENES:
            taken = FoldPredictions(both.arm[:, chosen], both.baseline[:, chosen], both.label[chosen])
            parts.append((str(kind), taken))
    return parts
