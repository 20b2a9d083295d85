"""The curve of an ordered study: a metric against one setting, for example the number of background states."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import ScaledTranslation

from prism_ray.report.ordered import lines_of
from prism_ray.report.style import COLOURS, MARKERS, QUIET, legend_above, new_figure, number_axis
from prism_ray.statistics import summarize
from prism_ray.tracking.headers import StudyHeader

DOT_SHIFT_PT = 7
"""Distance of single runs from their mean, so that its interval does not hide them."""
CURVE_COLUMNS = [
    "cell_type",
    "series",
    "position",
    "arm",
    "seed",
    "fold",
    "value",
    "n",
    "mean",
    "ci_low",
    "ci_high",
    "chosen",
    "chosen_on",
]


def curve_info(trials: pd.DataFrame, header: StudyHeader) -> pd.DataFrame:
    """Runs of an ordered study with the statistics of their position, one row a finished run.

    Columns: cell_type; series (other settings in which the arms differ, empty for one curve); position (the
    setting's value); arm, seed, fold; value of the metric; n, mean, ci_low, ci_high of all runs at that place;
    chosen, whether the one-standard-error rule on validation chooses this position; chosen_on, the column it was
    chosen by (empty where no run has it, or the best position has one run). No row where the setting is no number.
    """
    parts = []
    for line in lines_of(trials, header):
        for position, runs in line.runs.groupby("position"):
            summary = summarize(runs[header.metric].to_numpy(dtype=np.float64))
            parts += [
                {
                    "cell_type": line.cell_type,
                    "series": line.series,
                    "position": position,
                    "arm": run["arm"],
                    "seed": run["seed"],
                    "fold": run["fold"],
                    "value": float(run[header.metric]),
                    "n": summary.n,
                    "mean": summary.mean,
                    "ci_low": summary.low,
                    "ci_high": summary.high,
                    "chosen": line.chosen == position,
                    "chosen_on": line.chosen_on,
                }
                for run in runs.to_dict("records")
            ]
    return pd.DataFrame(parts, columns=CURVE_COLUMNS)


def draw_curve(info: pd.DataFrame, header: StudyHeader) -> Figure:
    """Mean with its interval at each position, single runs as dots, the chosen position ringed."""
    cell_types = list(dict.fromkeys(info["cell_type"]))
    figure, axes = new_figure(n_rows=len(cell_types), height_in=3.4 * len(cell_types))
    for axis, cell_type in zip(axes, cell_types, strict=True):
        part = info[info["cell_type"] == cell_type]
        for index, (name, line) in enumerate(part.groupby("series", sort=False)):
            _draw_line(axis, line, str(name), index)
        _label(axis, part, header, cell_type if len(cell_types) > 1 else "")
    return figure


def curve_caption(info: pd.DataFrame, header: StudyHeader) -> str:
    """What the curve shows, how many runs it rests on, and how its position was chosen."""
    better = "lower" if header.direction == "minimize" else "higher"
    text = (
        f"{header.metric} against {header.curve} ({better} is better). Dots: {len(info)} single runs; "
        f"markers: their means with 95 % t intervals where there are two runs or more."
    )
    marked = info[info["chosen"].astype(bool)]
    if not len(marked):
        return f"{text} No position is marked: the validation metric is missing, or the best position has one run."
    places = ", ".join(_place(row) for row in marked.drop_duplicates(["cell_type", "series"]).to_dict("records"))
    return (
        f"{text} Ring: smallest position within one standard error of the best mean {marked['chosen_on'].iloc[0]}, "
        f"which the test genes do not enter: {places}."
    )


def _place(row: dict[Any, Any]) -> str:
    text = f"{row['position']:g}"
    details = ", ".join(part for part in (row["cell_type"], row["series"]) if part)
    return f"{text} ({details})"


def _draw_line(axis: Axes, line: pd.DataFrame, name: str, index: int) -> None:
    colour, marker = COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]
    assert axis.figure is not None
    aside = ScaledTranslation(DOT_SHIFT_PT / 72, 0, axis.figure.dpi_scale_trans)
    axis.plot(line["position"], line["value"], ".", color=QUIET, markersize=5, transform=axis.transData + aside)
    # Matplotlib leaves what is drawn in shifted coordinates out of the axis limits.
    axis.update_datalim(line[["position", "value"]].to_numpy(dtype=np.float64))
    means = line.drop_duplicates("position").sort_values("position")
    half = np.nan_to_num((means["ci_high"] - means["ci_low"]).to_numpy(dtype=np.float64) / 2)
    axis.errorbar(
        means["position"],
        means["mean"],
        yerr=half,
        color=colour,
        marker=marker,
        markersize=6,
        linewidth=1.6,
        capsize=3,
        label=name or None,
    )
    chosen = means[means["chosen"].astype(bool)]
    axis.plot(chosen["position"], chosen["mean"], "o", color=colour, markersize=15, markerfacecolor="none")


def _label(axis: Axes, part: pd.DataFrame, header: StudyHeader, title: str) -> None:
    # Lengths of windows are ratios of each other at any scale.
    number_axis(axis, sorted(set(part["position"])), always_log=str(header.curve).endswith("_bp"))
    axis.set_xlabel(str(header.curve))
    axis.set_ylabel(header.metric)
    axis.set_title(title)
    if part["series"].astype(bool).any():
        legend_above(axis)
