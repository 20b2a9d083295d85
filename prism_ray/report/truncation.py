"""Trained models given a shorter window than they were trained on: how much of it they use."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from prism_ray.report.changed import changes_info
from prism_ray.report.style import COLOURS, MARKERS, QUIET, legend_above, new_figure, number_axis
from prism_ray.report.values import latest, with_value
from prism_ray.statistics import summarize
from prism_ray.tracking.headers import StudyHeader

TRUNCATION_COLUMNS = [
    "cell_type",
    "model",
    "trained_bp",
    "window_bp",
    "arm",
    "seed",
    "fold",
    "value",
    "n",
    "mean",
    "ci_low",
    "ci_high",
]

_DODGE = 1.05
"""Ratio of the places of two models that were given the same window."""


def truncation_info(trials: pd.DataFrame, header: StudyHeader) -> pd.DataFrame:
    """Runs of models at the windows that they were given, one row a finished run, shortest window first.

    Columns: cell_type; model, trained_bp; window_bp that it was given; arm, seed, fold, value of the metric; n, mean,
    ci_low, ci_high of all runs of that model and window. No row where no window was cut; arms whose input was changed
    in another way are left out.
    """
    changes = changes_info(trials, header)
    changes = changes[(changes["removed"] == "") & (changes["on"] == "") & changes["window_bp"].notna()]
    cut = set(changes.loc[changes["window_bp"] < changes["trained_bp"], "model"])
    values = latest(with_value(trials, header.metric))
    merged = values.merge(changes[changes["model"].isin(cut)], on="arm")
    rows = []
    for (cell_type, model, window), runs in merged.groupby(["cell_type", "model", "window_bp"], sort=True):
        spread = summarize(runs[header.metric].to_numpy(dtype=np.float64))
        for run in runs.to_dict("records"):
            place = [cell_type, model, run["trained_bp"], window, run["arm"], run["seed"], run["fold"]]
            rows.append([*place, float(run[header.metric]), spread.n, spread.mean, spread.low, spread.high])
    return pd.DataFrame(rows, columns=TRUNCATION_COLUMNS)


def draw_truncation(info: pd.DataFrame, header: StudyHeader) -> Figure:
    """A line a model over the windows that it was given; a ring where it has all that it was trained on."""
    cell_types = list(dict.fromkeys(info["cell_type"]))
    models = list(dict.fromkeys(info.sort_values("trained_bp", kind="stable")["model"]))
    figure, axes = new_figure(len(cell_types), 1, height_in=3.8 * len(cell_types))
    for axis, cell_type in zip(axes, cell_types, strict=True):
        part = info[info["cell_type"] == cell_type]
        for index, model in enumerate(models):
            # Models of one window stand beside each other; their means often lie upon each other.
            aside = _DODGE ** (index - (len(models) - 1) / 2)
            runs = part[part["model"] == model]
            axis.plot(runs["window_bp"] * aside, runs["value"], ".", color=QUIET, markersize=4, zorder=1)
            line = runs.drop_duplicates("window_bp").sort_values("window_bp")
            half = np.nan_to_num((line["ci_high"] - line["ci_low"]).to_numpy(dtype=np.float64) / 2)
            colour = COLOURS[index % len(COLOURS)]
            axis.errorbar(
                line["window_bp"] * aside,
                line["mean"],
                yerr=half,
                color=colour,
                marker=MARKERS[index % len(MARKERS)],
                markersize=5,
                linewidth=1.6,
                capsize=3,
                label=model,
            )
            whole = line[line["window_bp"] == line["trained_bp"]]
            axis.plot(
                whole["window_bp"] * aside, whole["mean"], "o", color=colour, markersize=13, markerfacecolor="none"
            )
        number_axis(axis, sorted(set(part["window_bp"])), always_log=True)
        axis.set_xlabel("window given at test, bp")
        axis.set_ylabel(header.metric)
        axis.set_title(cell_type if len(cell_types) > 1 else "")
    legend_above(axes[0])
    return figure


def truncation_caption(info: pd.DataFrame, header: StudyHeader) -> str:
    """What the lines show and how many runs they rest on."""
    better = "lower" if header.direction == "minimize" else "higher"
    return (
        f"{header.metric} ({better} is better) of trained models given less of their window at test. Dots: {len(info)} "
        f"single runs; markers: their means with 95 % t intervals where there are two runs or more; ring: the whole "
        f"window that the model was trained on. A line that is level from its ring down to a shorter window does not "
        f"use what was cut off."
    )
