"""Figures of a search: how the best value fell over trials, and the metric against each searched setting."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from prism_ray.report.style import COLOURS, LOG_AXIS_FROM, QUIET, legend_above, new_figure, shortened
from prism_ray.report.tables import search_column, searched_parameters
from prism_ray.report.values import with_value
from prism_ray.tracking.headers import StudyHeader

N_COLUMNS = 2
LONGEST_LABEL = 22


def history_info(trials: pd.DataFrame, header: StudyHeader) -> pd.DataFrame:
    """Finished trials of a search in the order of their start.

    Columns: trial (from 1, over all trials started), trial_id, value of what ranks them, best_so_far.
    """
    ranking = search_column(trials, header)
    ordered = trials.sort_values("start_time", kind="stable").reset_index(drop=True)
    ordered["trial"] = np.arange(1, len(ordered) + 1)
    usable = with_value(ordered, ranking)
    values = usable[ranking].astype("float64")
    return pd.DataFrame(
        {
            "trial": usable["trial"].to_numpy(dtype=np.int64),
            "trial_id": usable["trial_id"].to_numpy(),
            "value": values.to_numpy(),
            "best_so_far": (values.cummin() if header.direction == "minimize" else values.cummax()).to_numpy(),
        }
    )


def draw_history(info: pd.DataFrame, ranking: str) -> Figure:
    """Dots: trials; line: best so far."""
    figure, (axis,) = new_figure()
    axis.plot(info["trial"], info["value"], ".", color=QUIET, markersize=7, label="trial")
    axis.step(info["trial"], info["best_so_far"], where="post", color=COLOURS[0], linewidth=1.8, label="best so far")
    axis.set_xlabel("trial, in the order of start")
    axis.set_ylabel(ranking)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend_above(axis)
    return figure


def parameter_info(trials: pd.DataFrame, header: StudyHeader) -> pd.DataFrame:
    """Finished trials once for each searched setting.

    Columns: parameter (dotted path), setting (its value as text), position (its number; nan for text), trial_id,
    value of what ranks the trials. A setting that a trial does not have gives no row.
    """
    ranking = search_column(trials, header)
    usable = with_value(trials, ranking)
    columns = ["parameter", "setting", "position", "trial_id", "value"]
    parts = []
    for name in searched_parameters(trials):
        given = usable[usable[name].notna()]
        numeric = pd.api.types.is_numeric_dtype(given[name]) and not pd.api.types.is_bool_dtype(given[name])
        part = pd.DataFrame(
            {
                "parameter": name.removeprefix("param/"),
                "setting": [str(value) for value in given[name]],
                "position": given[name].to_numpy(dtype=np.float64) if numeric else np.nan,
                "trial_id": given["trial_id"].to_numpy(),
                "value": given[ranking].to_numpy(dtype=np.float64),
            }
        )
        if len(part):
            parts.append(part)
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def draw_parameters(info: pd.DataFrame, ranking: str) -> Figure:
    """One panel a setting."""
    names = list(dict.fromkeys(info["parameter"]))
    n_columns = min(N_COLUMNS, len(names))
    n_rows = math.ceil(len(names) / n_columns)
    figure, axes = new_figure(n_rows, n_columns, height_in=2.6 * n_rows)
    for axis in axes[len(names) :]:
        axis.remove()
    for axis, name in zip(axes, names, strict=False):
        part = info[info["parameter"] == name]
        if part["position"].notna().all():
            axis.plot(part["position"], part["value"], "o", color=COLOURS[0], markersize=4)
            low, high = part["position"].min(), part["position"].max()
            if low > 0 and high / low >= LOG_AXIS_FROM:
                axis.set_xscale("log")
        else:
            settings = sorted(set(part["setting"]))
            places = part["setting"].map(settings.index)
            axis.plot(places, part["value"], "o", color=COLOURS[0], markersize=4)
            labels = [shortened(text, LONGEST_LABEL) for text in settings]
            axis.set_xticks(range(len(settings)), labels, rotation=30, ha="right")
        axis.set_xlabel(name)
        axis.set_ylabel(ranking)
    return figure


def history_caption(info: pd.DataFrame, ranking: str) -> str:
    """What the history shows and how many trials it rests on."""
    return (
        f"{ranking} of {len(info)} finished trials in the order in which they started, and the best so far. "
        f"A line still falling at the right end says that more trials may find better settings."
    )


def parameters_caption(info: pd.DataFrame, ranking: str) -> str:
    """What the panels show and how many trials they rest on."""
    return (
        f"{ranking} of {info['trial_id'].nunique()} finished trials against each searched setting. Settings vary "
        f"together in a search: a slope here is a hint, not an effect."
    )
