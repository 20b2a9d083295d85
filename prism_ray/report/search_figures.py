"""Figures of a search's own trials. A figure with nothing to show is None."""

from __future__ import annotations

import pandas as pd

from prism_ray.report.figure import StudyFigure
from prism_ray.report.importance import draw_importance, importance_caption, importance_info
from prism_ray.report.parallel import draw_parallel, parallel_caption, parallel_info
from prism_ray.report.pareto import draw_pareto, pareto_caption, pareto_info
from prism_ray.report.search import (
    draw_history,
    draw_parameters,
    history_caption,
    history_info,
    parameter_info,
    parameters_caption,
)
from prism_ray.report.tables import search_column
from prism_ray.tracking.headers import StudyHeader


def search_figures(trials: pd.DataFrame, header: StudyHeader) -> list[StudyFigure]:
    """Figures of a search that have something to show.

    Args:
        trials: of the search itself, as `own_trials` gives them.
        header: of the study.
    """
    figures = [
        pareto_figure(trials, header),
        history_figure(trials, header),
        settings_figure(trials, header),
        importance_figure(trials, header),
        parallel_figure(trials, header),
    ]
    return [figure for figure in figures if figure is not None]


def pareto_figure(trials: pd.DataFrame, header: StudyHeader) -> StudyFigure | None:
    """Two objectives against each other."""
    info, ranking = pareto_info(trials, header), search_column(trials, header)
    if not len(info):
        return None
    caption, drawn = pareto_caption(info, header, ranking), draw_pareto(info, header, ranking)
    return StudyFigure("pareto", f"{ranking} against {header.second_metric}", caption, info, drawn)


def history_figure(trials: pd.DataFrame, header: StudyHeader) -> StudyFigure | None:
    """How the best value came down."""
    info, ranking = history_info(trials, header), search_column(trials, header)
    if not len(info):
        return None
    return StudyFigure("history", "Best so far", history_caption(info, ranking), info, draw_history(info, ranking))


def settings_figure(trials: pd.DataFrame, header: StudyHeader) -> StudyFigure | None:
    """The metric against each searched setting."""
    info, ranking = parameter_info(trials, header), search_column(trials, header)
    if not len(info):
        return None
    caption, drawn = parameters_caption(info, ranking), draw_parameters(info, ranking)
    return StudyFigure("settings", "Searched settings", caption, info, drawn)


def importance_figure(trials: pd.DataFrame, header: StudyHeader) -> StudyFigure | None:
    """Which settings decide."""
    info = importance_info(trials, header)
    if not len(info):
        return None
    caption = importance_caption(info, search_column(trials, header))
    return StudyFigure("importance", "Which settings matter", caption, info, draw_importance(info))


def parallel_figure(trials: pd.DataFrame, header: StudyHeader) -> StudyFigure | None:
    """All settings of the best trials."""
    info, ranking = parallel_info(trials, header), search_column(trials, header)
    if not len(info):
        return None
    caption, drawn = parallel_caption(info, ranking), draw_parallel(info, header, ranking)
    return StudyFigure("parallel", "Settings of the best trials", caption, info, drawn)
