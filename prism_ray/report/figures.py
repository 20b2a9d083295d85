"""Which figures a study has: each with what it draws and what it says."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure

from prism_ray.report.by_chrom import draw_folds, fold_caption, fold_info
from prism_ray.report.curve import curve_caption, curve_info, draw_curve
from prism_ray.report.forest import draw_forest, forest_caption, forest_info
from prism_ray.report.genes import Predictions
from prism_ray.report.grid import draw_grid, grid_caption, grid_info
from prism_ray.report.importance import draw_importance, importance_caption, importance_info
from prism_ray.report.parallel import draw_parallel, parallel_caption, parallel_info
from prism_ray.report.predicted import (
    draw_predicted,
    draw_residuals,
    predicted_caption,
    predicted_info,
    residual_caption,
    residual_info,
    shown_arms,
)
from prism_ray.report.search import (
    draw_history,
    draw_parameters,
    history_caption,
    history_info,
    parameter_info,
    parameters_caption,
)
from prism_ray.report.subsets import draw_subsets, subset_caption, subset_info
from prism_ray.report.tables import search_column
from prism_ray.tracking.headers import StudyHeader


@dataclass(frozen=True)
class StudyFigure:
    """A figure of a report.

    Attributes:
        name: of its files.
        title: above it.
        caption: what to see and how many runs it rests on.
        info: what is drawn.
        figure: the drawing.
    """

    name: str
    title: str
    caption: str
    info: pd.DataFrame
    figure: Figure


def study_figures(trials: pd.DataFrame, table: pd.DataFrame, header: StudyHeader) -> list[StudyFigure]:
    """Figures of a study that have something to show: an empty picture is never drawn.

    Args:
        trials: as `fetch_trials` returns them.
        table: as `study_table` makes it of them.
        header: of the study.
    """
    return _search_figures(trials, header) if header.kind == "search" else _arm_figures(trials, table, header)


def _arm_figures(trials: pd.DataFrame, table: pd.DataFrame, header: StudyHeader) -> list[StudyFigure]:
    figures = []
    if header.kind == "ablation":
        figures += _varied_figures(trials, header)
    forest = forest_info(table, header)
    if len(forest):
        title = "Arms against their references" if header.references else f"Arms against {header.baseline}"
        figures.append(
            StudyFigure("forest", title, forest_caption(forest, header), forest, draw_forest(forest, header))
        )
    return figures


def _varied_figures(trials: pd.DataFrame, header: StudyHeader) -> list[StudyFigure]:
    """Figures along the settings in which trained arms differ."""
    figures = []
    curve = curve_info(trials, header)
    if len(curve):
        title = f"{header.metric} against {header.curve}"
        figures.append(StudyFigure("curve", title, curve_caption(curve, header), curve, draw_curve(curve, header)))
    subsets = subset_info(trials, header)
    if len(subsets):
        drawn = draw_subsets(subsets, header)
        figures.append(StudyFigure("subsets", "Signals together", subset_caption(subsets, header), subsets, drawn))
    grid = grid_info(trials, header)
    if len(grid):
        title = f"{grid['row'].iloc[0]} x {grid['column'].iloc[0]}"
        figures.append(StudyFigure("grid", title, grid_caption(grid, header), grid, draw_grid(grid, header)))
    return figures


def gene_figures(
    runs: pd.DataFrame, table: pd.DataFrame, predictions: Predictions, header: StudyHeader
) -> list[StudyFigure]:
    """Figures of what a study predicts for single genes, as far as there are predictions.

    Args:
        runs: as `finished_runs` gives them.
        table: as `study_table` makes it.
        predictions: of these runs.
        header: of the study.
    """
    figures = []
    folds = fold_info(runs, predictions, header)
    if len(folds):
        drawn = draw_folds(folds, header)
        figures.append(StudyFigure("folds", "Fold by fold", fold_caption(folds, header), folds, drawn))
    predicted = predicted_info(runs, predictions, header)
    arms = tuple(arm for arm in shown_arms(table, header) if arm in set(predicted["arm"]))
    if not arms:
        return figures
    caption, drawn = predicted_caption(predicted, arms), draw_predicted(predicted, arms)
    figures.append(StudyFigure("predicted", "Predicted against observed", caption, predicted, drawn))
    residuals = residual_info(predicted)
    caption, drawn = residual_caption(residuals, arms), draw_residuals(residuals, arms)
    figures.append(StudyFigure("residuals", "Errors along expression", caption, residuals, drawn))
    return figures


def _search_figures(trials: pd.DataFrame, header: StudyHeader) -> list[StudyFigure]:
    figures = []
    ranking = search_column(trials, header)
    history = history_info(trials, header)
    if len(history):
        caption = history_caption(history, ranking)
        figures.append(StudyFigure("history", "Best so far", caption, history, draw_history(history, ranking)))
    settings = parameter_info(trials, header)
    if len(settings):
        caption = parameters_caption(settings, ranking)
        drawn = draw_parameters(settings, ranking)
        figures.append(StudyFigure("settings", "Searched settings", caption, settings, drawn))
    importance = importance_info(trials, header)
    if len(importance):
        caption, drawn = importance_caption(importance, ranking), draw_importance(importance)
        figures.append(StudyFigure("importance", "Which settings matter", caption, importance, drawn))
    parallel = parallel_info(trials, header)
    if len(parallel):
        caption, drawn = parallel_caption(parallel, ranking), draw_parallel(parallel, header, ranking)
        figures.append(StudyFigure("parallel", "Settings of the best trials", caption, parallel, drawn))
    return figures
