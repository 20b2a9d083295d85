"""What an evaluation changed about each arm's input, read from its trials' settings; for the figures of evaluations.

Arms of an evaluation are named MODEL__ARM; MODEL__intact is the model as trained.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from prism_ray.report.values import latest, with_value
from prism_ray.study.evaluations import BETWEEN
from prism_ray.tracking.headers import StudyHeader

_EMPTY = ("", "none")
CHANGE_COLUMNS = ["arm", "model", "removed", "remove_by", "window_bp", "trained_bp", "on"]


def changes_info(trials: pd.DataFrame, header: StudyHeader) -> pd.DataFrame:
    """What each arm of an evaluation with a finished trial was given, one row an arm.

    Columns: arm; model (its name before `__`); removed (names of signals and scalars joined by ` + `, empty for none),
    remove_by; window_bp that the model was given (its own where it was not cut) and trained_bp, nan where not known;
    on (cell type that it was evaluated on, empty for its own). No row for a study of another kind.
    """
    if header.kind != "evaluation":
        return pd.DataFrame(columns=CHANGE_COLUMNS)
    values = latest(with_value(trials, header.metric)).drop_duplicates("arm")
    removed = [_names(values, "signals"), _names(values, "scalars")]
    cut, trained = (_number(values, f"param/{name}") for name in ("evaluation.window_bp", "data.window_bp"))
    ways = _text(values, "param/evaluation.remove_by")
    rows = []
    for place, arm in enumerate(values["arm"].astype(str)):
        names = [name for part in removed for name in part[place]]
        given = trained[place] if np.isnan(cut[place]) or cut[place] == 0 else cut[place]
        model = arm.partition(BETWEEN)[0]
        on = header.evaluated_on.get(arm, "")
        rows.append([arm, model, " + ".join(names), ways[place] if names else "", given, trained[place], on])
    return pd.DataFrame(rows, columns=CHANGE_COLUMNS)


def _names(values: pd.DataFrame, kind: str) -> list[list[str]]:
    texts = _text(values, f"param/evaluation.{kind}")
    return [[] if text in _EMPTY else text.split("+") for text in texts]


def _text(values: pd.DataFrame, column: str) -> list[str]:
    """A setting as text; empty where a trial does not say, which means that it is at its default."""
    if column not in values:
        return [""] * len(values)
    return ["" if pd.isna(value) else str(value) for value in values[column]]


def _number(values: pd.DataFrame, column: str) -> list[float]:
    if column not in values:
        return [float("nan")] * len(values)
    return [float("nan") if pd.isna(value) else float(value) for value in values[column]]
