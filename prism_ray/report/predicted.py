"""Predicted against observed expression, and where along expression an arm errs."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from prism_ray.report.genes import Predictions
from prism_ray.report.style import COLOURS, MARKERS, QUIET, colour_bar, count_colours, legend_above, new_figure, wrapped
from prism_ray.tracking.headers import StudyHeader

N_TENTHS = 10
_HEXAGONS = 40
_TITLE_WIDTH = 24

PREDICTED_COLUMNS = ["cell_type", "arm", "fold", "gene_id", "chrom", "label", "prediction", "n_runs"]
RESIDUAL_COLUMNS = ["cell_type", "arm", "tenth", "n_genes", "label", "residual", "squared_error"]


def predicted_info(runs: pd.DataFrame, predictions: Predictions, header: StudyHeader) -> pd.DataFrame:
    """Each test gene with its mean prediction over an arm's runs, one row a cell type, arm, fold and gene.

    Args:
        runs: as `finished_runs` gives them.
        predictions: of these runs.
    """
    parts = []
    for row in runs.to_dict("records"):
        if row["run_id"] in predictions and row["arm"] in header.arms:
            place = {name: row[name] for name in ("cell_type", "arm", "fold")}
            parts.append(predictions[row["run_id"]].assign(**place))
    if not parts:
        return pd.DataFrame(columns=PREDICTED_COLUMNS)
    genes = pd.concat(parts, ignore_index=True)
    keys = ["cell_type", "arm", "fold", "gene_id"]
    grouped = genes.groupby(keys, sort=False, observed=True)
    info = grouped.agg(
        chrom=("chrom", "first"), label=("label", "first"), prediction=("prediction", "mean"), n_runs=("label", "size")
    )
    return info.reset_index()[PREDICTED_COLUMNS]


def shown_arms(table: pd.DataFrame, header: StudyHeader) -> tuple[str, ...]:
    """The baseline and the best of the other arms, by their mean on the first cell type: a picture each.

    An arm that is evaluated on another cell type has not all cell types, and other genes beside it.
    """
    of_first = table[(table["cell_type"] == header.cell_types[0]) & table["mean"].notna()]
    of_first = of_first[~of_first["arm"].isin(list(header.evaluated_on))]
    if not len(of_first):
        return ()
    ranked = of_first.sort_values("mean", ascending=header.direction == "minimize", kind="stable")["arm"].tolist()
    others = [arm for arm in ranked if arm != header.baseline]
    return (*(arm for arm in ranked if arm == header.baseline), *others[:1])


def draw_predicted(info: pd.DataFrame, arms: tuple[str, ...]) -> Figure:
    """A map of genes an arm and cell type: how many have this observed and this predicted expression."""
    panels = [(cell_type, arm) for cell_type in dict.fromkeys(info["cell_type"]) for arm in arms]
    n_columns = len(arms)
    n_rows = len(panels) // n_columns
    # A panel alone stands at the left, as large as one of two: the pages' columns are wide.
    figure, axes = new_figure(n_rows, max(2, n_columns), height_in=3.2 * n_rows)
    if n_columns == 1:
        for spare in axes[1::2]:
            spare.remove()
        axes = axes[::2]
    shown = info[info["arm"].isin(arms)]
    low = float(min(shown["label"].min(), shown["prediction"].min()))
    high = float(max(shown["label"].max(), shown["prediction"].max()))
    for axis, (cell_type, arm) in zip(axes, panels, strict=True):
        part = shown[(shown["cell_type"] == cell_type) & (shown["arm"] == arm)]
        mapped = axis.hexbin(
            part["label"],
            part["prediction"],
            gridsize=_HEXAGONS,
            extent=(low, high, low, high),
            mincnt=1,
            cmap=count_colours(),
            linewidths=0,
        )
        axis.plot([low, high], [low, high], color=QUIET, linewidth=1)
        title = arm if info["cell_type"].nunique() == 1 else f"{arm}, {cell_type}"
        axis.set_title(wrapped(title, _TITLE_WIDTH), fontsize="medium")
        axis.set_xlabel("observed")
        axis.set_ylabel("predicted")
        axis.set_aspect("equal")
        if len(part):
            colour_bar(figure, mapped, axis, "genes", whole=True)
    return figure


def predicted_caption(info: pd.DataFrame, arms: tuple[str, ...]) -> str:
    """What the map shows and how many genes and runs it rests on."""
    shown = info[info["arm"].isin(arms)]
    runs = shown.groupby(["cell_type", "arm", "fold"], observed=True)["n_runs"].max().sum()
    n_genes = shown.drop_duplicates(["cell_type", "fold", "gene_id"]).shape[0]
    return (
        f"Predicted against observed expression of {n_genes} test genes; a prediction is the mean over an arm's runs "
        f"({int(runs)} runs in all). On the line both are equal; a cloud flatter than the line shrinks to the mean."
    )


def residual_info(predicted: pd.DataFrame) -> pd.DataFrame:
    """Errors by expression, one row a cell type, arm and tenth of the genes.

    Columns: tenth (1 the least expressed), n_genes, label (its mean), residual (mean of prediction - label),
    squared_error (mean). Genes of all folds together; fewer tenths where labels are equal.

    Args:
        predicted: as `predicted_info` gives it.
    """
    parts = []
    for (cell_type, arm), part in predicted.groupby(["cell_type", "arm"], sort=False, observed=True):
        tenth = pd.qcut(part["label"], N_TENTHS, labels=False, duplicates="drop")
        residual = part["prediction"] - part["label"]
        columns = pd.DataFrame({"label": part["label"], "residual": residual, "squared_error": residual**2})
        grouped = columns.groupby(tenth.to_numpy())
        means = grouped.mean().assign(n_genes=grouped.size(), tenth=lambda rows: rows.index + 1)
        parts.append(means.assign(cell_type=str(cell_type), arm=str(arm)))
    if not parts:
        return pd.DataFrame(columns=RESIDUAL_COLUMNS)
    return pd.concat(parts, ignore_index=True)[RESIDUAL_COLUMNS].astype({"tenth": np.int64})


def draw_residuals(info: pd.DataFrame, arms: tuple[str, ...]) -> Figure:
    """Mean residual and mean squared error along expression, a line an arm."""
    cell_types = list(dict.fromkeys(info["cell_type"]))
    figure, axes = new_figure(len(cell_types), 2, height_in=3.0 * len(cell_types))
    for row, cell_type in enumerate(cell_types):
        for axis, column, label in zip(
            axes[2 * row : 2 * row + 2],
            ("residual", "squared_error"),
            ("mean of predicted - observed", "mean squared error"),
            strict=True,
        ):
            for index, arm in enumerate(arms):
                part = info[(info["cell_type"] == cell_type) & (info["arm"] == arm)]
                marker = MARKERS[index % len(MARKERS)]
                axis.plot(part["label"], part[column], color=COLOURS[index], marker=marker, markersize=4, label=arm)
            axis.set_xlabel("observed expression" + (f", {cell_type}" if len(cell_types) > 1 else ""))
            axis.set_ylabel(label)
        axes[2 * row].axhline(0.0, color=QUIET, linewidth=1, zorder=0)
        legend_above(axes[2 * row])
    return figure


def residual_caption(info: pd.DataFrame, arms: tuple[str, ...]) -> str:
    """What the lines show and how many genes they rest on."""
    n_genes = int(info[info["arm"] == arms[0]]["n_genes"].sum())
    return (
        f"Errors of {' and '.join(arms)} by tenths of observed expression ({n_genes} test genes). Left: above 0 "
        f"expression is predicted too high; a line that falls from left to right shrinks to the mean. Right: the part "
        f"of expression in which the error lies."
    )
