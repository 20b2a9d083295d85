"""Which signals together: a metric for each subset, above a matrix that says what is in it (an UpSet plot)."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from prism_ray.report.style import COLOURS, QUIET, new_figure
from prism_ray.report.values import latest, with_value
from prism_ray.statistics import summarize
from prism_ray.tracking.headers import StudyHeader

SUBSET_COLUMNS = ["cell_type", "arm", "subset", "members", "seed", "fold", "value", "n", "mean", "ci_low", "ci_high"]
SUBSET_SETTING = "param/data.signals"
_NONE = "none"
_FEWEST = 3
"""Subsets below which a matrix shows nothing that the table does not."""


def subset_info(trials: pd.DataFrame, header: StudyHeader) -> pd.DataFrame:
    """Runs of arms that differ in their signals alone, one row a finished run.

    Columns: cell_type, arm; subset (names joined by `+`, `none` for no signal), members (their number); seed, fold,
    value; n, mean, ci_low, ci_high of all runs of that subset. No row unless there are three subsets or more and each
    is of one arm: arms that differ in other settings, too, are no matter of signals.
    """
    values = latest(with_value(trials, header.metric))
    if SUBSET_SETTING not in values or values[SUBSET_SETTING].isna().any():
        return pd.DataFrame(columns=SUBSET_COLUMNS)
    by_arm = values.drop_duplicates("arm")[SUBSET_SETTING].astype(str)
    if by_arm.nunique() < _FEWEST or by_arm.duplicated().any():
        return pd.DataFrame(columns=SUBSET_COLUMNS)
    rows = []
    for (cell_type, subset), runs in values.groupby(["cell_type", SUBSET_SETTING], sort=False):
        summary = summarize(runs[header.metric].to_numpy(dtype=np.float64))
        for run in runs.to_dict("records"):
            place = [cell_type, run["arm"], subset, len(members_of(str(subset))), run["seed"], run["fold"]]
            spread = [summary.n, summary.mean, summary.low, summary.high]
            rows.append([*place, float(run[header.metric]), *spread])
    return pd.DataFrame(rows, columns=SUBSET_COLUMNS)


def members_of(subset: str) -> tuple[str, ...]:
    """Names of a subset's text."""
    return () if subset == _NONE else tuple(subset.split("+"))


def draw_subsets(info: pd.DataFrame, header: StudyHeader) -> Figure:
    """A column a subset, best first: runs and their mean above, its members below; two panels a cell type."""
    cell_types = list(dict.fromkeys(info["cell_type"]))
    names = list(dict.fromkeys(name for subset in info["subset"] for name in members_of(subset)))
    figure, axes = new_figure(2 * len(cell_types), 1, height_in=len(cell_types) * (3.0 + 0.3 * len(names)))
    for index, cell_type in enumerate(cell_types):
        part = info[info["cell_type"] == cell_type]
        means = part.drop_duplicates("subset")
        means = means.sort_values("mean", ascending=header.direction == "minimize", kind="stable")
        above, below = axes[2 * index], axes[2 * index + 1]
        _draw_values(above, part, means, header.metric + (f", {cell_type}" if len(cell_types) > 1 else ""))
        _draw_members(below, [members_of(subset) for subset in means["subset"]], names)
    return figure


def subset_caption(info: pd.DataFrame, header: StudyHeader) -> str:
    """What the columns show and how many runs they rest on."""
    better = "lower" if header.direction == "minimize" else "higher"
    return (
        f"{header.metric} ({better} is better) of {info['subset'].nunique()} subsets of signals, best first. Dots: "
        f"{len(info)} single runs; markers: their means with 95 % t intervals where there are two runs or more. "
        f"Below, filled dots say which signals a subset has: compare columns that differ by one dot."
    )


def _draw_values(axis: Axes, part: pd.DataFrame, means: pd.DataFrame, label: str) -> None:
    places = {subset: place for place, subset in enumerate(means["subset"])}
    axis.plot([places[subset] + 0.15 for subset in part["subset"]], part["value"], ".", color=QUIET, markersize=5)
    half = np.nan_to_num((means["ci_high"] - means["ci_low"]).to_numpy(dtype=np.float64) / 2)
    axis.errorbar(range(len(means)), means["mean"], yerr=half, fmt="o", color=COLOURS[0], markersize=6, capsize=3)
    axis.set_xlim(-0.6, len(means) - 0.4)
    axis.set_xticks([])
    axis.spines["bottom"].set_visible(False)
    axis.set_ylabel(label)


def _draw_members(axis: Axes, subsets: list[tuple[str, ...]], names: list[str]) -> None:
    for place, subset in enumerate(subsets):
        rows = [row for row, name in enumerate(names) if name in subset]
        axis.plot([place] * len(names), range(len(names)), "o", color=QUIET, alpha=0.3, markersize=7)
        axis.plot([place] * len(rows), rows, "-o", color=COLOURS[0], linewidth=1.6, markersize=7)
    axis.set_xlim(-0.6, len(subsets) - 0.4)
    axis.set_ylim(len(names) - 0.5, -0.5)
    axis.set_yticks(range(len(names)), names)
    axis.set_xticks([])
    for side in ("left", "bottom"):
        axis.spines[side].set_visible(False)
    axis.tick_params(left=False)
