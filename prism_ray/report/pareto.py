"""Two objectives of a search against each other, and the trials that no other one beats in both."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from prism_ray.report.style import COLOURS, LOG_AXIS_FROM, QUIET, legend_above, new_figure
from prism_ray.report.tables import front_trials, search_column
from prism_ray.report.values import with_value
from prism_ray.tracking.headers import StudyHeader

PARETO_COLUMNS = ["trial_id", "first", "second", "on_front"]


def pareto_info(trials: pd.DataFrame, header: StudyHeader) -> pd.DataFrame:
    """Finished trials of a search with two objectives, one row each, in the order of the second.

    Columns: trial_id; first, second (its values); on_front (no other trial is as good in both and better in one). No
    row for a search with one objective.
    """
    first, second = search_column(trials, header), header.second_metric
    if second is None or second not in trials:
        return pd.DataFrame(columns=PARETO_COLUMNS)
    usable = with_value(with_value(trials, first), second).drop_duplicates("trial_id", keep="last")
    if not len(usable):
        return pd.DataFrame(columns=PARETO_COLUMNS)
    front = set(front_trials(trials, header)["trial_id"])
    info = pd.DataFrame(
        {
            "trial_id": usable["trial_id"].astype(str),
            "first": usable[first].astype("float64"),
            "second": usable[second].astype("float64"),
            "on_front": usable["trial_id"].isin(front),
        }
    )
    return info.sort_values("second", kind="stable").reset_index(drop=True)


def draw_pareto(info: pd.DataFrame, header: StudyHeader, ranking: str) -> Figure:
    """A dot a trial; those on the front joined by steps, so that the corner between two of them is not claimed."""
    figure, (axis,) = new_figure(height_in=3.8)
    front = info[info["on_front"].astype(bool)].sort_values("second")
    rest = info[~info["on_front"].astype(bool)]
    axis.plot(rest["second"], rest["first"], ".", color=QUIET, markersize=7, label="trial")
    where: Literal["pre", "post"] = "pre" if header.second_direction == "maximize" else "post"
    axis.step(front["second"], front["first"], where=where, color=COLOURS[0], linewidth=1.4)
    axis.plot(front["second"], front["first"], "o", color=COLOURS[0], markersize=7, label="on the front")
    seconds = info["second"].to_numpy(dtype=np.float64)
    if seconds.min() > 0 and seconds.max() / seconds.min() >= LOG_AXIS_FROM:
        axis.set_xscale("log")
    axis.set_xlabel(str(header.second_metric))
    axis.set_ylabel(ranking)
    legend_above(axis)
    return figure


def pareto_caption(info: pd.DataFrame, header: StudyHeader, ranking: str) -> str:
    """What the dots show and how many trials they rest on."""
    n_front = int(info["on_front"].sum())
    are = "is" if n_front == 1 else "are"
    return (
        f"{ranking} against {header.second_metric} of {len(info)} finished trials; {n_front} of them {are} on the "
        f"front: no other trial is as good in both and better in one. Where the steps turn from steep to flat, more "
        f"{header.second_metric} buys little. Each dot is one run: neighbours on the front may differ by noise alone."
    )
