"""Models of one cell type given another one's genes, signals and labels: a matrix of trained on against tested on."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure

from prism_ray.report.changed import changes_info
from prism_ray.report.style import colour_bar, draw_cells, new_figure, wrapped
from prism_ray.report.text import NOTHING, number
from prism_ray.report.values import latest, with_value
from prism_ray.statistics import summarize
from prism_ray.tracking.headers import StudyHeader

CROSS_COLUMNS = ["model", "trained_on", "tested_on", "arm", "n", "mean", "std", "ci_low", "ci_high"]
_N_COLUMNS = 2
_TITLE_WIDTH = 28


def cross_info(trials: pd.DataFrame, header: StudyHeader) -> pd.DataFrame:
    """Mean of the metric by model and pair of cell types, one row each; see `CROSS_COLUMNS`.

    Arms whose input was changed in another way are left out. No row where no model was tested on another cell type.
    """
    changes = changes_info(trials, header)
    if not (changes["on"] != "").any():
        return pd.DataFrame(columns=CROSS_COLUMNS)
    own = changes["window_bp"].eq(changes["trained_bp"]) | changes["trained_bp"].isna()
    merged = latest(with_value(trials, header.metric)).merge(changes[(changes["removed"] == "") & own], on="arm")
    rows = []
    for (model, trained_on, on, arm), runs in merged.groupby(["model", "cell_type", "on", "arm"], sort=False):
        spread = summarize(runs[header.metric].to_numpy(dtype=np.float64))
        place = [model, trained_on, on or trained_on, arm]
        rows.append([*place, spread.n, spread.mean, spread.std, spread.low, spread.high])
    return pd.DataFrame(rows, columns=CROSS_COLUMNS)


def draw_cross(info: pd.DataFrame, header: StudyHeader) -> Figure:
    """A matrix a model, its mean written in each cell; all share one range of colours."""
    models = list(dict.fromkeys(info["model"]))
    names = list(dict.fromkeys([*info["trained_on"], *info["tested_on"]]))
    n_columns = min(_N_COLUMNS, len(models))
    n_rows = math.ceil(len(models) / n_columns)
    figure, axes = new_figure(n_rows, n_columns, height_in=n_rows * (1.3 + 0.5 * len(names)))
    for axis in axes[len(models) :]:
        axis.remove()
    shown = axes[: len(models)]
    for axis, model in zip(shown, models, strict=True):
        mapped = _draw_model(axis, info[info["model"] == model], names, info["mean"], header)
        axis.set_title(wrapped(str(model), _TITLE_WIDTH), fontsize="medium")
    colour_bar(figure, mapped, shown, header.metric)
    return figure


def cross_caption(info: pd.DataFrame, header: StudyHeader) -> str:
    """What the matrices show and how many runs they rest on."""
    better = "lower" if header.direction == "minimize" else "higher"
    return (
        f"Mean {header.metric} ({better} is better) with its standard deviation over {int(info['n'].sum())} runs. "
        f"Rows: cell type that a model was trained on; columns: that whose genes, signals and labels it was tested on. "
        f"Compare within a column, where genes and labels are the same: the cell on the diagonal is what a model of "
        f"that cell type reaches, and the step away from it is what does not carry over."
    )


def _draw_model(
    axis: Axes, part: pd.DataFrame, names: list[str], all_means: pd.Series, header: StudyHeader
) -> ScalarMappable:
    cells = np.full((len(names), len(names)), math.nan)
    texts = [[NOTHING] * len(names) for _ in names]
    for row in part.to_dict("records"):
        place = names.index(row["trained_on"]), names.index(row["tested_on"])
        cells[place] = row["mean"]
        std = "" if math.isnan(row["std"]) else f"\n± {number(row['std'])}"
        texts[place[0]][place[1]] = f"{number(row['mean'])}{std}"
    ends = float(all_means.min()), float(all_means.max())
    mapped = draw_cells(axis, cells, texts, header.direction, ends)
    axis.set_xticks(range(len(names)), names)
    axis.set_yticks(range(len(names)), names)
    axis.set_xlabel("tested on")
    axis.set_ylabel("trained on")
    return mapped
