"""Two settings varied together, for example the weights of two losses: a map of the metric over their combinations."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from prism_ray.report.style import COLOURS, colour_bar, draw_cells, new_figure
from prism_ray.report.tables import searched_parameters
from prism_ray.report.text import number
from prism_ray.report.values import latest, with_value
from prism_ray.tracking.headers import StudyHeader

GRID_COLUMNS = ["cell_type", "row", "column", "row_value", "column_value", "n", "mean", "std"]


def grid_info(trials: pd.DataFrame, header: StudyHeader) -> pd.DataFrame:
    """Mean of the metric at each combination of two numeric settings, one row a cell type and combination.

    Columns: cell_type; row, column (dotted paths of the settings); row_value, column_value; n, mean, std of the runs.
    No row unless the arms differ in two numeric settings alone and have every combination of their values.
    """
    values = latest(with_value(trials, header.metric))
    names = searched_parameters(values)
    numeric = [name for name in names if pd.api.types.is_numeric_dtype(values[name]) and values[name].notna().all()]
    if len(names) != 2 or len(numeric) != 2:
        return pd.DataFrame(columns=GRID_COLUMNS)
    row, column = numeric
    sizes = values[row].nunique(), values[column].nunique()
    if min(sizes) < 2 or len(values.drop_duplicates([row, column])) < sizes[0] * sizes[1]:
        return pd.DataFrame(columns=GRID_COLUMNS)
    grouped = values.groupby(["cell_type", row, column], sort=True)[header.metric].agg(["size", "mean", "std"])
    info = grouped.reset_index()
    info.columns = pd.Index(["cell_type", "row_value", "column_value", "n", "mean", "std"])
    return info.assign(row=row.removeprefix("param/"), column=column.removeprefix("param/"))[GRID_COLUMNS]


def draw_grid(info: pd.DataFrame, header: StudyHeader) -> Figure:
    """A map a cell type; each cell has its mean written in it, the best one a frame."""
    cell_types = list(dict.fromkeys(info["cell_type"]))
    n_rows = info["row_value"].nunique()
    figure, axes = new_figure(len(cell_types), 1, height_in=len(cell_types) * (1.4 + 0.55 * n_rows))
    for axis, cell_type in zip(axes, cell_types, strict=True):
        means = info[info["cell_type"] == cell_type].pivot(index="row_value", columns="column_value", values="mean")
        cells = means.to_numpy(dtype=np.float64)
        texts = [[number(float(value)) for value in row] for row in cells]
        mapped = draw_cells(axis, cells, texts, header.direction, (float(cells.min()), float(cells.max())))
        best = np.unravel_index(np.argmin(cells) if header.direction == "minimize" else np.argmax(cells), cells.shape)
        corner = float(best[1]) - 0.5, float(best[0]) - 0.5
        axis.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor=COLOURS[1], linewidth=2.5, clip_on=False))
        axis.set_xticks(range(cells.shape[1]), [f"{value:g}" for value in means.columns])
        axis.set_yticks(range(cells.shape[0]), [f"{value:g}" for value in means.index])
        axis.set_xlabel(str(info["column"].iloc[0]))
        axis.set_ylabel(str(info["row"].iloc[0]))
        axis.set_title(cell_type if len(cell_types) > 1 else "")
        colour_bar(figure, mapped, axis, header.metric)
    return figure


def grid_caption(info: pd.DataFrame, header: StudyHeader) -> str:
    """What the map shows and how many runs it rests on."""
    better = "lower" if header.direction == "minimize" else "higher"
    spread = float(info["std"].mean())
    noise = "One run a combination: nothing here says how much of it is noise."
    if np.isfinite(spread):
        noise = (
            f"Runs of one combination differ by {number(spread)} (std, mean over cells): lesser differences are noise."
        )
    return (
        f"Mean {header.metric} ({better} is better) over {int(info['n'].sum())} runs at each combination of "
        f"{info['row'].iloc[0]} and {info['column'].iloc[0]}; the frame marks the best mean. {noise}"
    )
