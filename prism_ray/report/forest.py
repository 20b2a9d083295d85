"""The forest of arms: each arm's paired difference from the baseline with its interval."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from prism_ray.report.style import COLOURS, INK, LABEL_WIDTH, QUIET, ROW_HEIGHT_IN, new_figure, wrapped
from prism_ray.tracking.headers import StudyHeader

_NAME_WIDTH = 36
_MOST_TICKS = 5
FOREST_COLUMNS = ["cell_type", "arm", "n_pairs", "difference", "difference_low", "difference_high", "p_holm"]


def forest_info(table: pd.DataFrame, header: StudyHeader) -> pd.DataFrame:
    """Arms with at least one pair, from the arm table, in the order of the study; no row without a baseline."""
    if header.baseline is None:
        return pd.DataFrame(columns=FOREST_COLUMNS)
    rows = table[(table["arm"] != header.baseline) & (table["n_pairs"] > 0)]
    return rows[FOREST_COLUMNS].reset_index(drop=True)


def draw_forest(info: pd.DataFrame, header: StudyHeader) -> Figure:
    """One line an arm; the vertical line is the baseline."""
    figure, (axis,) = new_figure(height_in=1.1 + ROW_HEIGHT_IN * len(info))
    rows = np.arange(len(info))
    low = (info["difference"] - info["difference_low"]).to_numpy(dtype=np.float64)
    high = (info["difference_high"] - info["difference"]).to_numpy(dtype=np.float64)
    axis.axvline(0.0, color=QUIET, linewidth=1, zorder=0)
    axis.errorbar(
        info["difference"],
        rows,
        xerr=np.nan_to_num(np.vstack([low, high])),
        fmt="o",
        color=COLOURS[0],
        markersize=6,
        capsize=3,
    )
    several = info["cell_type"].nunique() > 1
    names = [f"{row.arm} ({row.cell_type})" if several else str(row.arm) for row in info.itertuples()]
    labels = [f"{name} ({n} pairs)" for name, n in zip(names, info["n_pairs"], strict=True)]
    axis.set_yticks(rows, [_in_lines(label) for label in labels])
    axis.set_ylim(len(info) - 0.5, -0.5)
    axis.xaxis.set_major_locator(MaxNLocator(_MOST_TICKS))
    # Below the whole figure: beside long names the axes are too narrow for it.
    text = wrapped(f"difference in {header.metric} from {header.compared_with}", LABEL_WIDTH)
    figure.supxlabel(text, color=INK, fontsize="medium")
    return figure


def forest_caption(info: pd.DataFrame, header: StudyHeader) -> str:
    """What the forest shows and how many pairs it rests on."""
    side = "left" if header.direction == "minimize" else "right"
    return (
        f"Difference in {header.metric} of each arm from {header.compared_with}, paired by seed and fold, with 95 % t "
        f"intervals where there are two pairs or more ({int(info['n_pairs'].sum())} pairs in all). Arms {side} of the "
        f"line do better; an interval that crosses the line leaves the sign open."
    )


def _in_lines(label: str) -> str:
    """A label in two lines where it is long: names of arms with two parts break between them."""
    if len(label) <= _NAME_WIDTH or "__" not in label:
        return wrapped(label, LABEL_WIDTH)
    first, _, second = label.partition("__")
    return f"{first}\n{second}"
