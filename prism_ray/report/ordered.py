"""Arms along one setting, for example the number of background states: which is the simplest that does as well."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from prism_ray.report.values import latest, selection_column, with_value
from prism_ray.statistics import one_standard_error, summarize
from prism_ray.tracking.headers import StudyHeader

_NOT_SERIES = {"param/seed", "param/data.fold", "param/data.cell_type"}


@dataclass(frozen=True)
class Line:
    """Runs of an ordered study that make one curve.

    Attributes:
        cell_type: of the runs.
        series: other settings in which the arms differ, as text; empty for one curve a cell type.
        runs: one a place (arm, seed, fold), with `position`, the setting's value.
        chosen: smallest position within one standard error of the best on validation; None where it cannot be told.
        chosen_on: column it was chosen by; empty where there is none.
    """

    cell_type: str
    series: str
    runs: pd.DataFrame
    chosen: float | None
    chosen_on: str


def lines_of(trials: pd.DataFrame, header: StudyHeader) -> list[Line]:
    """Curves of an ordered study; none where the study is not ordered or its setting is no number."""
    column = f"param/{header.curve}"
    values = latest(with_value(trials, header.metric))
    if header.curve is None or column not in values or not pd.api.types.is_numeric_dtype(values[column]):
        return []
    values = values[values[column].notna()]
    values = values.assign(position=values[column].astype("float64"))
    series = _series(values, column)
    lines = []
    for (cell_type, name), runs in values.groupby([values["cell_type"], series], sort=False):
        lines.append(Line(str(cell_type), str(name), runs, *_choice(runs, header)))
    return lines


def chosen_arms(trials: pd.DataFrame, header: StudyHeader) -> set[tuple[str, str]]:
    """(cell type, arm) of each line's chosen position; empty where nothing is chosen."""
    found = set()
    for line in lines_of(trials, header):
        if line.chosen is not None:
            arms = line.runs.loc[line.runs["position"] == line.chosen, "arm"]
            found |= {(line.cell_type, str(arm)) for arm in arms}
    return found


def _series(values: pd.DataFrame, curve_column: str) -> pd.Series:
    """(n,) text of the other settings in which arms differ: the runs of one text make one curve."""
    # A setting that differs between runs of one position is what distinguishes the curves.
    names = [name for name in values.columns if name.startswith("param/") and name not in _NOT_SERIES | {curve_column}]
    arms = values.drop_duplicates("arm")
    repeated = arms[arms.duplicated(curve_column, keep=False)]
    differing = (
        [name for name in names if repeated.groupby(curve_column)[name].nunique(dropna=False).max() > 1]
        if len(repeated)
        else []
    )
    texts = [
        ", ".join(f"{name.removeprefix('param/')} {row[name]}" for name in differing)
        for row in values[["arm", *differing]].to_dict("records")
    ]
    return pd.Series(texts, index=values.index, name="series", dtype="object")


def _choice(group: pd.DataFrame, header: StudyHeader) -> tuple[float | None, str]:
    selection = selection_column(header.metric)
    usable = with_value(group, selection)
    if not len(usable):
        return None, ""
    by_position = [(float(position), runs) for position, runs in usable.groupby("position")]  # type: ignore[arg-type]
    summaries = [summarize(runs[selection].to_numpy(dtype=np.float64)) for _, runs in by_position]
    chosen = one_standard_error([position for position, _ in by_position], summaries, header.direction)
    return chosen, selection if chosen is not None else ""
