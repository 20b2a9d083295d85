"""Figures that compare the arms of a study. A figure with nothing to show is None: an empty picture is never drawn."""

from __future__ import annotations

import pandas as pd

from prism_ray.report.cross_cell import cross_caption, cross_info, draw_cross
from prism_ray.report.curve import curve_caption, curve_info, draw_curve
from prism_ray.report.figure import StudyFigure
from prism_ray.report.forest import draw_forest, forest_caption, forest_info
from prism_ray.report.grid import draw_grid, grid_caption, grid_info
from prism_ray.report.removal import draw_removal, removal_caption, removal_info
from prism_ray.report.search_figures import search_figures
from prism_ray.report.subsets import draw_subsets, subset_caption, subset_info
from prism_ray.report.truncation import draw_truncation, truncation_caption, truncation_info
from prism_ray.tracking.headers import StudyHeader


def study_figures(trials: pd.DataFrame, table: pd.DataFrame, header: StudyHeader) -> list[StudyFigure]:
    """Figures of a study that have something to show.

    Args:
        trials: as `fetch_trials` returns them.
        table: as `study_table` makes it of them.
        header: of the study.
    """
    if header.kind == "search":
        return search_figures(trials, header)
    figures = [
        curve_figure(trials, header),
        subsets_figure(trials, header),
        grid_figure(trials, header),
        removal_figure(trials, table, header),
        truncation_figure(trials, header),
        cross_figure(trials, header),
        forest_figure(table, header),
    ]
    return [figure for figure in figures if figure is not None]


def curve_figure(trials: pd.DataFrame, header: StudyHeader) -> StudyFigure | None:
    """The metric along the setting of an ordered study."""
    if header.kind != "ablation":
        return None
    info = curve_info(trials, header)
    if not len(info):
        return None
    title = f"{header.metric} against {header.curve}"
    return StudyFigure("curve", title, curve_caption(info, header), info, draw_curve(info, header))


def subsets_figure(trials: pd.DataFrame, header: StudyHeader) -> StudyFigure | None:
    """The metric of each subset of signals."""
    if header.kind != "ablation":
        return None
    info = subset_info(trials, header)
    if not len(info):
        return None
    return StudyFigure("subsets", "Signals together", subset_caption(info, header), info, draw_subsets(info, header))


def grid_figure(trials: pd.DataFrame, header: StudyHeader) -> StudyFigure | None:
    """The metric over two settings varied together."""
    if header.kind != "ablation":
        return None
    info = grid_info(trials, header)
    if not len(info):
        return None
    title = f"{info['row'].iloc[0]} x {info['column'].iloc[0]}"
    return StudyFigure("grid", title, grid_caption(info, header), info, draw_grid(info, header))


def removal_figure(trials: pd.DataFrame, table: pd.DataFrame, header: StudyHeader) -> StudyFigure | None:
    """What trained models lose without an input."""
    info = removal_info(trials, table, header)
    if not len(info):
        return None
    title = "Inputs taken away from trained models"
    return StudyFigure("removal", title, removal_caption(info, header), info, draw_removal(info, header))


def truncation_figure(trials: pd.DataFrame, header: StudyHeader) -> StudyFigure | None:
    """Trained models on less of their window."""
    info = truncation_info(trials, header)
    if not len(info):
        return None
    title = "Windows cut at test"
    return StudyFigure("truncation", title, truncation_caption(info, header), info, draw_truncation(info, header))


def cross_figure(trials: pd.DataFrame, header: StudyHeader) -> StudyFigure | None:
    """Models of one cell type tested on another."""
    info = cross_info(trials, header)
    if not len(info):
        return None
    title = "Trained on one cell type, tested on another"
    return StudyFigure("cross_cell", title, cross_caption(info, header), info, draw_cross(info, header))


def forest_figure(table: pd.DataFrame, header: StudyHeader) -> StudyFigure | None:
    """Each arm's difference from its reference."""
    info = forest_info(table, header)
    if not len(info):
        return None
    title = "Arms against their references" if header.references else f"Arms against {header.baseline}"
    return StudyFigure("forest", title, forest_caption(info, header), info, draw_forest(info, header))
