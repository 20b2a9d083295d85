"""Inputs taken away from trained models: how much each model misses them, for example with and without states."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from prism_ray.report.changed import changes_info
from prism_ray.report.style import (
    COLOURS,
    HATCHES,
    INK,
    LABEL_WIDTH,
    PAPER,
    QUIET,
    ROW_HEIGHT_IN,
    legend_above,
    new_figure,
    wrapped,
)
from prism_ray.tracking.headers import StudyHeader

REMOVAL_COLUMNS = [
    "cell_type",
    "remove_by",
    "removed",
    "model",
    "arm",
    "n_pairs",
    "difference",
    "difference_low",
    "difference_high",
    "p_holm",
]
_WAYS = {"zero": "set to zero", "shuffle": "another gene's", "mean": "mean over training genes"}


def removal_info(trials: pd.DataFrame, table: pd.DataFrame, header: StudyHeader) -> pd.DataFrame:
    """What each model loses without an input, one row a cell type, way of removing, input and model.

    Columns: remove_by (`zero`, `shuffle`, `mean`), removed (names joined by ` + `), model, arm; n_pairs, difference
    from the same model as trained with its interval, and p_holm, as in the arm table. No row where nothing was removed.

    Args:
        trials: as `fetch_trials` returns them.
        table: as `arm_table` makes it of them.
        header: of the study.
    """
    changes = changes_info(trials, header)
    changes = changes[(changes["removed"] != "") & (changes["on"] == "") & _is_whole(changes)]
    merged = table[table["n_pairs"] > 0].merge(changes, on="arm")
    ways = [way for way in _WAYS if way in set(merged["remove_by"])]
    order = merged.assign(way=merged["remove_by"].map(ways.index)).sort_values(["cell_type", "way"], kind="stable")
    return order[REMOVAL_COLUMNS].reset_index(drop=True)


def draw_removal(info: pd.DataFrame, header: StudyHeader) -> Figure:
    """A panel a cell type and way of removing; a bar an input and model, bars of one input beside each other."""
    panels = list(info.groupby(["cell_type", "remove_by"], sort=False))
    models = list(dict.fromkeys(info["model"]))
    most = max(part["removed"].nunique() for _, part in panels)
    height = 1.1 + ROW_HEIGHT_IN * most * max(1.0, 0.5 * len(models))
    figure, axes = new_figure(len(panels), 1, height_in=0.4 + height * len(panels))
    reach = _reach(info)
    for axis, ((cell_type, way), part) in zip(axes, panels, strict=True):
        _draw_bars(axis, part, models)
        axis.set_xlim(*reach)
        title = _WAYS[str(way)] + (f", {cell_type}" if info["cell_type"].nunique() > 1 else "")
        axis.set_title(title, fontsize="medium", loc="right")
    axes[-1].set_xlabel(wrapped(f"change of {header.metric} from the same model as trained", LABEL_WIDTH))
    if len(models) > 1:
        legend_above(axes[0])
    return figure


def removal_caption(info: pd.DataFrame, header: StudyHeader) -> str:
    """What the bars show and how many pairs of runs they rest on."""
    side = "right" if header.direction == "minimize" else "left"
    models = " and ".join(dict.fromkeys(info["model"]))
    return (
        f"Change of {header.metric} when an input is taken away from the trained models {models}, each against itself "
        f"as trained, with 95 % t intervals where there are two pairs or more ({int(info['n_pairs'].sum())} pairs in "
        f"all). The further a bar reaches to the {side}, the more the model leaned on that input; bars of one input "
        f"side by side say whether the models lean on it alike."
    )


def _is_whole(changes: pd.DataFrame) -> pd.Series:
    """Whether an arm's window is the one that its model was trained on, or not known."""
    return (changes["window_bp"] == changes["trained_bp"]) | changes["trained_bp"].isna()


def _reach(info: pd.DataFrame) -> tuple[float, float]:
    """Ends of an axis that all panels share."""
    ends = info[["difference", "difference_low", "difference_high"]].to_numpy(dtype=np.float64)
    low, high = min(0.0, float(np.nanmin(ends))), max(0.0, float(np.nanmax(ends)))
    room = 0.04 * (high - low) or 1.0
    return low - room, high + room


def _draw_bars(axis: Axes, part: pd.DataFrame, models: list[str]) -> None:
    inputs = list(dict.fromkeys(part["removed"]))
    thickness = 0.8 / len(models)
    axis.axvline(0.0, color=QUIET, linewidth=1, zorder=0)
    for index, model in enumerate(models):
        rows = part[part["model"] == model]
        places = np.array([inputs.index(name) for name in rows["removed"]], dtype=np.float64)
        # Lists: matplotlib before 3.11 warns of arrays of one value each.
        error = [
            (rows["difference"] - rows["difference_low"]).tolist(),
            (rows["difference_high"] - rows["difference"]).tolist(),
        ]
        axis.barh(
            places + (index - (len(models) - 1) / 2) * thickness,
            rows["difference"],
            height=0.9 * thickness,
            color=COLOURS[index % len(COLOURS)],
            hatch=HATCHES[index % len(HATCHES)],
            edgecolor=PAPER,
            linewidth=0.5,
            xerr=error,
            error_kw={"ecolor": INK, "capsize": 2, "elinewidth": 1},
            label=model,
        )
    axis.set_yticks(range(len(inputs)), [wrapped(f"without {name}", 30) for name in inputs])
    axis.set_ylim(len(inputs) - 0.5, -0.5)
