"""How much of a search's best tenth each setting explains."""

from __future__ import annotations

from typing import Any

import numpy as np
import optuna
import pandas as pd
from matplotlib.figure import Figure
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

from prism_ray.report.style import COLOURS, LOG_AXIS_FROM, ROW_HEIGHT_IN, new_figure
from prism_ray.report.tables import search_column, searched_parameters
from prism_ray.report.values import with_value
from prism_ray.tracking.headers import StudyHeader

IMPORTANCE_COLUMNS = ["parameter", "importance", "n_trials"]
FEWEST_TRIALS = 20
"""Finished trials below which an importance is noise and none is given."""


def importance_info(trials: pd.DataFrame, header: StudyHeader) -> pd.DataFrame:
    """Importance of each searched setting for being among the best trials, the largest first.

    Columns: parameter (dotted path); importance (parts of 1 over the settings that all trials have); n_trials that
    have the setting. One that only some trials have, as its condition did not always hold, is judged among these,
    beside all others, and its number of trials says so. No row with fewer than 20 finished trials.

    Source: PED-ANOVA (Watanabe et al. 2023, arXiv 2304.10255), as Optuna has it; it asks what distinguishes the best
    tenth of the trials and needs no model of the rest.
    """
    ranking = search_column(trials, header)
    usable = with_value(trials, ranking)
    names = [name for name in searched_parameters(usable) if usable[name].notna().sum() >= FEWEST_TRIALS]
    rows = []
    for part in dict.fromkeys(tuple(usable.index[usable[name].notna()]) for name in names):
        group = usable.loc[list(part)]
        complete = [name for name in names if group[name].notna().all() and group[name].nunique() > 1]
        asked = [name for name in names if tuple(usable.index[usable[name].notna()]) == part and name in complete]
        if not asked or group[ranking].nunique() < 2:
            continue
        found = _importances(group, complete, ranking, header)
        rows += [[name.removeprefix("param/"), found[name], len(group)] for name in asked]
    info = pd.DataFrame(rows, columns=IMPORTANCE_COLUMNS)
    return info.sort_values("importance", ascending=False, kind="stable").reset_index(drop=True)


def draw_importance(info: pd.DataFrame) -> Figure:
    """A bar a setting."""
    figure, (axis,) = new_figure(height_in=1.0 + ROW_HEIGHT_IN * len(info))
    axis.barh(range(len(info)), info["importance"], color=COLOURS[0], height=0.6)
    several = info["n_trials"].nunique() > 1
    labels = [f"{row['parameter']} ({row['n_trials']} trials)" if several else row["parameter"] for row in _rows(info)]
    axis.set_yticks(range(len(info)), labels)
    axis.set_ylim(len(info) - 0.5, -0.5)
    axis.set_xlabel("importance (PED-ANOVA)")
    return figure


def importance_caption(info: pd.DataFrame, ranking: str) -> str:
    """What the bars show and how many trials they rest on."""
    return (
        f"How much each setting decides whether a trial is among the best tenth by {ranking}, over "
        f"{int(info['n_trials'].max())} finished trials (PED-ANOVA). A setting varied over a wide range looks more "
        f"important than the same one over a narrow range; an importance is not an effect."
    )


def _importances(group: pd.DataFrame, names: list[str], ranking: str, header: StudyHeader) -> dict[str, float]:
    # Optuna announces each study on stderr.
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction=header.direction)
    distributions = {name: _distribution(group[name]) for name in names}
    for row in _rows(group):
        values = {name: row[name] if _is_number(group[name]) else str(row[name]) for name in names}
        study.add_trial(
            optuna.trial.create_trial(params=values, distributions=distributions, value=float(row[ranking]))
        )
    evaluator = optuna.importance.PedAnovaImportanceEvaluator()
    return optuna.importance.get_param_importances(study, evaluator=evaluator, params=names)


def _distribution(values: pd.Series) -> BaseDistribution:
    """The range that the trials covered; the study file's own is not kept with the runs."""
    if not _is_number(values):
        return CategoricalDistribution(sorted(set(values.astype(str))))
    numbers = values.to_numpy(dtype=np.float64)
    is_log = numbers.min() > 0 and numbers.max() / numbers.min() >= LOG_AXIS_FROM
    return FloatDistribution(float(numbers.min()), float(numbers.max()), log=bool(is_log))


def _is_number(values: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]
