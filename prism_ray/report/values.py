"""Values of finished trials: which of them count, and one a place."""

from __future__ import annotations

import numpy as np
import pandas as pd

_PLACE = ["cell_type", "arm", "seed", "fold"]


def selection_column(metric: str) -> str:
    """Column by which settings may be chosen: the chosen network's validation value for a `test/` metric."""
    return f"best/{metric.removeprefix('test/')}" if metric.startswith("test/") else metric


def with_value(trials: pd.DataFrame, column: str) -> pd.DataFrame:
    """Finished trials whose `column` is a finite number, one a place (cell type, arm, seed, fold): the latest."""
    if column not in trials:
        return trials.iloc[:0].assign(**{column: pd.Series(dtype="float64")})
    usable: pd.DataFrame = trials[
        (trials["status"] == "FINISHED") & np.isfinite(trials[column].to_numpy(dtype=np.float64))
    ]
    return usable.sort_values("start_time", kind="stable")


def latest(trials: pd.DataFrame) -> pd.DataFrame:
    """One row a place (cell type, arm, seed, fold): its last."""
    return trials.drop_duplicates(_PLACE, keep="last")


def of_arm(trials: pd.DataFrame, cell_type: str, arm: str) -> pd.DataFrame:
    """Trials of an arm on a cell type."""
    return trials[(trials["cell_type"] == cell_type) & (trials["arm"] == arm)]


def arm_pairs(values: pd.DataFrame, cell_type: str, arm: str, metric: str) -> dict[tuple[int, str], float]:
    """The metric of an arm's runs by (seed, fold); of one run a place, as `latest` gives them."""
    runs = of_arm(values, cell_type, arm)
    places = zip(runs["seed"].tolist(), runs["fold"].tolist(), strict=True)
    return dict(zip(places, runs[metric].astype("float64").tolist(), strict=True))
