"""Parallel coordinates of a search: one line a trial through an axis a setting, the best trials in front."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from prism_ray.report.style import LOG_AXIS_FROM, QUIET, colour_bar, new_figure, set_off, shortened
from prism_ray.report.tables import search_column, searched_parameters
from prism_ray.report.text import number
from prism_ray.report.values import with_value
from prism_ray.tracking.headers import StudyHeader

PARALLEL_COLUMNS = ["trial_id", "rank", "value", "parameter", "setting", "height"]
_FEWEST_SETTINGS = 2
_FEWEST_TRIALS = 3
_MARKS_WIDTH = 64
"""Characters of all axes' marks beside each other."""
_BEST_PART = 0.1
"""Part of the trials that are drawn in full colour."""


def parallel_info(trials: pd.DataFrame, header: StudyHeader) -> pd.DataFrame:
    """Settings of each finished trial of a search, one row a trial and setting that it has.

    Columns: trial_id; rank (1 the best); value of what ranks; parameter (dotted path); setting (its value as text);
    height (0 to 1 along the parameter's axis, by its logarithm where it spans a factor of 20, by name for text).
    No row with fewer than three trials or two settings.
    """
    ranking = search_column(trials, header)
    usable = with_value(trials, ranking)
    names = searched_parameters(usable)
    if len(usable) < _FEWEST_TRIALS or len(names) < _FEWEST_SETTINGS:
        return pd.DataFrame(columns=PARALLEL_COLUMNS)
    ordered = usable.sort_values(ranking, ascending=header.direction == "minimize", kind="stable")
    ordered = ordered.assign(rank=np.arange(1, len(ordered) + 1))
    parts = []
    for name in names:
        given = ordered[ordered[name].notna()]
        part = given[["trial_id", "rank"]].assign(
            value=given[ranking].astype("float64"),
            parameter=name.removeprefix("param/"),
            setting=[number(value) for value in given[name]],
            height=_heights(given[name]),
        )
        parts.append(part)
    return pd.concat(parts, ignore_index=True)[PARALLEL_COLUMNS]


def draw_parallel(info: pd.DataFrame, header: StudyHeader, ranking: str) -> Figure:
    """Lines by value: the best tenth in front; a setting that a trial does not have is passed below the axes."""
    names = list(dict.fromkeys(info["parameter"]))
    figure, (axis,) = new_figure(height_in=4.2)
    values = info.drop_duplicates("trial_id")["value"]
    shades = Normalize(float(values.min()), float(values.max()))
    # The dark end is the best, whichever direction that is.
    colours = colormaps["viridis" if header.direction == "minimize" else "viridis_r"]
    n_best = max(1, round(_BEST_PART * int(info["rank"].max())))
    for _, line in sorted(info.groupby("rank"), key=lambda item: -int(str(item[0]))):
        heights = dict(zip(line["parameter"], line["height"], strict=True))
        is_best = int(line["rank"].iloc[0]) <= n_best
        axis.plot(
            range(len(names)),
            [heights.get(name, -0.12) for name in names],
            color=colours(shades(float(line["value"].iloc[0]))) if is_best else QUIET,
            alpha=1.0 if is_best else 0.25,
            linewidth=1.6 if is_best else 0.8,
            zorder=2 if is_best else 1,
        )
    _draw_axes(axis, info, names)
    colour_bar(figure, ScalarMappable(shades, colours), axis, ranking)
    return figure


def parallel_caption(info: pd.DataFrame, ranking: str) -> str:
    """What the lines show and how many trials they rest on."""
    n_trials = int(info["rank"].max())
    n_best = max(1, round(_BEST_PART * n_trials))
    return (
        f"Settings of {n_trials} finished trials; in colour the best {n_best} by {ranking}. Where the coloured lines "
        f"meet on an axis that setting matters or the search looked there most; a line below the axes has no such "
        f"setting."
    )


def _draw_axes(axis: Axes, info: pd.DataFrame, names: list[str]) -> None:
    for place, name in enumerate(names):
        axis.axvline(place, color=QUIET, linewidth=1, zorder=0)
        marks = info[info["parameter"] == name].drop_duplicates("setting").sort_values("height")
        if len(marks) > 6:
            marks = marks.iloc[[0, -1]]
        for row in marks.to_dict("records"):
            text = shortened(row["setting"], _MARKS_WIDTH // len(names))
            axis.text(place + 0.03, row["height"], text, fontsize="x-small", va="center", zorder=3, bbox=set_off())
    axis.set_xlim(-0.1, len(names) - 0.5)
    axis.set_ylim(-0.18, 1.06)
    axis.set_xticks(range(len(names)), names, rotation=20, ha="right")
    axis.set_yticks([])
    for side in ("left", "bottom"):
        axis.spines[side].set_visible(False)


def _heights(values: pd.Series) -> np.ndarray:
    """(n,) place of each value on an axis from 0 to 1."""
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
        numbers = values.to_numpy(dtype=np.float64)
        if numbers.min() > 0 and numbers.max() / numbers.min() >= LOG_AXIS_FROM:
            numbers = np.log(numbers)
    else:
        texts = values.astype(str)
        numbers = texts.map(sorted(set(texts)).index).to_numpy(dtype=np.float64)
    span = np.ptp(numbers)
    return (numbers - numbers.min()) / span if span > 0 else np.full(len(numbers), 0.5)
