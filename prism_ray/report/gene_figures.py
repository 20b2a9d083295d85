"""Figures of what a study says of single test genes. A figure with nothing to show is None."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from prism_ray.report.by_chrom import draw_folds, fold_caption, fold_info
from prism_ray.report.figure import StudyFigure
from prism_ray.report.genes import Predictions
from prism_ray.report.predicted import (
    draw_predicted,
    draw_residuals,
    predicted_caption,
    predicted_info,
    residual_caption,
    residual_info,
    shown_arms,
)
from prism_ray.report.states import draw_states, state_info, state_runs, states_caption
from prism_ray.tracking.headers import StudyHeader


def gene_figures(
    runs: pd.DataFrame, table: pd.DataFrame, predictions: Predictions, header: StudyHeader
) -> list[StudyFigure]:
    """Figures of what a study predicts for single genes, as far as there are predictions.

    Args:
        runs: as `finished_runs` gives them.
        table: as `arm_table` makes it.
        predictions: of these runs.
        header: of the study.
    """
    predicted = predicted_info(runs[runs["arm"].isin(shown_arms(table, header))], predictions, header)
    figures = [
        folds_figure(runs, predictions, header),
        predicted_figure(predicted, table, header),
        residuals_figure(predicted, table, header),
    ]
    return [figure for figure in figures if figure is not None]


def folds_figure(runs: pd.DataFrame, predictions: Predictions, header: StudyHeader) -> StudyFigure | None:
    """Differences fold by fold, sex chromosomes apart."""
    info = fold_info(runs, predictions, header)
    if not len(info):
        return None
    return StudyFigure("folds", "Fold by fold", fold_caption(info, header), info, draw_folds(info, header))


def predicted_figure(predicted: pd.DataFrame, table: pd.DataFrame, header: StudyHeader) -> StudyFigure | None:
    """Predicted against observed; of `predicted_info`."""
    arms = _arms(predicted, table, header)
    if not arms:
        return None
    shown = predicted[predicted["arm"].isin(arms)].reset_index(drop=True)
    caption, drawn = predicted_caption(shown, arms), draw_predicted(shown, arms)
    return StudyFigure("predicted", "Predicted against observed", caption, shown, drawn)


def residuals_figure(predicted: pd.DataFrame, table: pd.DataFrame, header: StudyHeader) -> StudyFigure | None:
    """Errors along expression; of `predicted_info`."""
    arms = _arms(predicted, table, header)
    if not arms:
        return None
    info = residual_info(predicted)
    caption, drawn = residual_caption(info, arms), draw_residuals(info, arms)
    return StudyFigure("residuals", "Errors along expression", caption, info, drawn)


def states_figure(
    runs: pd.DataFrame,
    table: pd.DataFrame,
    predictions: Predictions,
    weights: Mapping[str, pd.DataFrame],
    header: StudyHeader,
) -> StudyFigure | None:
    """Weights of the background states of the first of `state_runs` that keeps them.

    Args:
        runs, table, predictions: as for `gene_figures`.
        weights: as `fetch_state_weights` gives them.
        header: of the study.
    """
    able = state_runs(runs, table, header)
    able = able[able["run_id"].isin(list(weights)) & able["run_id"].isin(list(predictions))]
    if not len(able):
        return None
    run = able.iloc[0]
    info = state_info(weights[run["run_id"]], predictions[run["run_id"]], run)
    return StudyFigure("states", "Learned background states", states_caption(info), info, draw_states(info))


def _arms(predicted: pd.DataFrame, table: pd.DataFrame, header: StudyHeader) -> tuple[str, ...]:
    return tuple(arm for arm in shown_arms(table, header) if arm in set(predicted["arm"]))
