"""Tables that answer a study: the best trials of a search, an arm a row of any other."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from prism_ray.statistics import (
    holm,
    minimal_detectable_effect,
    paired_differences,
    paired_effect,
    sign_test,
    summarize,
)
from prism_ray.study.designs import WARM_ARM
from prism_ray.study.finalists import Outcome, pareto_front
from prism_ray.study.search_spec import Objective
from prism_ray.tracking.headers import PRUNED, StudyHeader

N_BEST_TRIALS = 10
TRIAL_PLACE = ("rank", "trial_id", "cell_type", "seed", "fold")
"""First columns of a table of best trials; the one after them ranks it."""
PAIR = ["seed", "fold"]
_PLACE = ["cell_type", "arm", *PAIR]
_NOT_SEARCHED = {"param/seed", "param/data.fold", "param/data.cell_type"}
_METRIC_NAME = re.compile(r"[^\w\-. /:]")


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


def arm_table(trials: pd.DataFrame, header: StudyHeader) -> pd.DataFrame:
    """Arms of a study, one row a cell type and arm, in the order of the study.

    Columns: cell_type, arm; n_planned, n_finished (with a value), n_failed (failed, killed, or finished without a
    value), n_running, n_missing (never started); mean, std, ci_low, ci_high of the metric; n_pairs, difference,
    difference_low, difference_high, p, p_holm, p_sign against the arm's reference over (seed, fold) pairs, and
    detectable, the smallest true difference found with 80 % power; nan where not defined.
    Holm's correction runs over the arms of a cell type.
    """
    values = latest(with_value(trials, header.metric))
    parts = []
    for cell_type in header.cell_types:
        rows = [_arm_row(trials, values, header, cell_type, arm) for arm in header.arms_on(cell_type)]
        for row, adjusted in zip(rows, holm([float(row["p"]) for row in rows]), strict=True):
            row["p_holm"] = adjusted
        parts += rows
    return pd.DataFrame(parts, columns=ARM_COLUMNS)


ARM_COLUMNS = [
    "cell_type",
    "arm",
    "n_planned",
    "n_finished",
    "n_failed",
    "n_running",
    "n_missing",
    "mean",
    "std",
    "ci_low",
    "ci_high",
    "n_pairs",
    "difference",
    "difference_low",
    "difference_high",
    "p",
    "p_holm",
    "p_sign",
    "detectable",
]


def _arm_row(
    trials: pd.DataFrame, values: pd.DataFrame, header: StudyHeader, cell_type: str, arm: str
) -> dict[str, Any]:
    ours = _of_arm(trials, cell_type, arm)
    by_pair = _by_pair(_of_arm(values, cell_type, arm), header.metric)
    summary = summarize(list(by_pair.values()))
    started = _pairs(ours)
    still_running = _pairs(ours[ours["status"].isin(["RUNNING", "SCHEDULED"])]) - set(by_pair)
    n_planned = len(header.seeds) * len(header.folds)
    row: dict[str, Any] = {
        "cell_type": cell_type,
        "arm": arm,
        "n_planned": n_planned,
        "n_finished": summary.n,
        "n_failed": len(started - set(by_pair) - still_running),
        "n_running": len(still_running),
        "n_missing": max(0, n_planned - len(started)),
        "mean": summary.mean,
        "std": summary.std,
        "ci_low": summary.low,
        "ci_high": summary.high,
    }
    return {**row, **_against_reference(values, by_pair, header, cell_type, arm)}


def _against_reference(
    values: pd.DataFrame, by_pair: Mapping[tuple[int, str], float], header: StudyHeader, cell_type: str, arm: str
) -> dict[str, float]:
    other = header.reference(arm)
    reference = {} if other is None else _by_pair(_of_arm(values, cell_type, other), header.metric)
    differences = paired_differences(by_pair, reference)
    effect = paired_effect(differences)
    return {
        "n_pairs": effect.difference.n,
        "difference": effect.difference.mean,
        "difference_low": effect.difference.low,
        "difference_high": effect.difference.high,
        "p": effect.p,
        "p_sign": sign_test(differences).p if effect.difference.n else float("nan"),
        "detectable": minimal_detectable_effect(effect.difference.std, effect.difference.n),
    }


def _of_arm(trials: pd.DataFrame, cell_type: str, arm: str) -> pd.DataFrame:
    return trials[(trials["cell_type"] == cell_type) & (trials["arm"] == arm)]


def arm_pairs(values: pd.DataFrame, cell_type: str, arm: str, metric: str) -> dict[tuple[int, str], float]:
    """The metric of an arm's runs by (seed, fold); of one run a place, as `latest` gives them."""
    return _by_pair(_of_arm(values, cell_type, arm), metric)


def _by_pair(trials: pd.DataFrame, metric: str) -> dict[tuple[int, str], float]:
    pairs = zip(trials["seed"].tolist(), trials["fold"].tolist(), strict=True)
    return dict(zip(pairs, trials[metric].astype("float64").tolist(), strict=True))


def _pairs(trials: pd.DataFrame) -> set[tuple[int, str]]:
    return set(zip(trials["seed"].tolist(), trials["fold"].tolist(), strict=True))


def searched_parameters(trials: pd.DataFrame) -> list[str]:
    """Columns of the settings that differ between trials: what a search varied."""
    names = [name for name in trials.columns if name.startswith("param/") and name not in _NOT_SEARCHED]
    return [name for name in names if trials[name].nunique(dropna=False) > 1]


def search_column(trials: pd.DataFrame, header: StudyHeader) -> str:
    """Column that ranks a search's trials: validation where it is known, since the test genes choose nothing."""
    column = selection_column(header.metric)
    return column if column in trials else header.metric


def front_trials(trials: pd.DataFrame, header: StudyHeader) -> pd.DataFrame:
    """Of a search's finished trials those on the Pareto front of its two objectives, best of the first one first."""
    first, second = search_column(trials, header), header.second_metric
    assert second is not None
    usable = with_value(with_value(trials, first), second).drop_duplicates("trial_id", keep="last")
    outcomes = [
        Outcome({"row": row}, (float(one), float(other)))
        for row, (one, other) in enumerate(zip(usable[first], usable[second], strict=True))
    ]
    objectives = (Objective(first, header.direction), Objective(second, header.second_direction or "minimize"))
    front: pd.DataFrame = usable.iloc[[one.values["row"] for one in pareto_front(outcomes, objectives)]]
    return front


def best_trials_table(trials: pd.DataFrame, header: StudyHeader, n_best: int = N_BEST_TRIALS) -> pd.DataFrame:
    """Best trials of a search, best first; of one with two objectives the whole Pareto front.

    Columns: rank, trial_id, cell_type, seed, fold, what ranks (see `search_column`), the second objective, the study's
    metric, and each searched setting by its dotted path.
    """
    ranking = search_column(trials, header)
    if header.second_metric is None:
        usable = with_value(trials, ranking)
        ordered = usable.sort_values(ranking, ascending=header.direction == "minimize", kind="stable").head(n_best)
    else:
        ordered = front_trials(trials, header)
    metrics = [name for name in dict.fromkeys([ranking, header.second_metric, header.metric]) if name in ordered]
    kept = ordered[[*TRIAL_PLACE[1:], *metrics, *searched_parameters(trials)]]
    table = kept.rename(columns=lambda name: name.removeprefix("param/")).reset_index(drop=True)
    table.insert(0, "rank", range(1, len(table) + 1))
    return table


def study_table(trials: pd.DataFrame, header: StudyHeader) -> pd.DataFrame:
    """`best_trials_table` of a search, `arm_table` of any other study."""
    return best_trials_table(trials, header) if header.kind == "search" else arm_table(trials, header)


def count_trials(trials: pd.DataFrame, header: StudyHeader) -> dict[str, int]:
    """Trials planned, and of these finished with a value, pruned by a search, failed, running and never started.

    Of a search its proposals are counted: not its finalists, and not what it knew before.
    """
    if header.kind == "search":
        trials = trials[~trials["arm"].str.startswith(f"{WARM_ARM}-")]
    ranked_by = search_column(trials, header) if header.kind == "search" else header.metric
    n_finished = with_value(trials, ranked_by)["trial_id"].nunique()
    with_values = set(with_value(trials, ranked_by)["trial_id"])
    rest = trials[~trials["trial_id"].isin(with_values)]
    n_running = rest[rest["status"].isin(["RUNNING", "SCHEDULED"])]["trial_id"].nunique()
    n_pruned = rest[rest["outcome"] == PRUNED]["trial_id"].nunique()
    n_failed = rest["trial_id"].nunique() - n_running - n_pruned
    planned = header.n_trials if header.n_proposals is None else header.n_proposals
    return {
        "planned": planned,
        "finished": int(n_finished),
        "pruned": int(n_pruned),
        "failed": int(n_failed),
        "running": int(n_running),
        "missing": max(0, planned - int(n_finished) - int(n_pruned) - int(n_failed) - int(n_running)),
    }


def summary_metrics(table: pd.DataFrame, header: StudyHeader) -> dict[str, float]:
    """Numbers for the parent run: `arm/<arm>/<metric>_mean` and so on, or `search/<metric>_best`; finite ones only."""
    if header.kind == "search":
        if not len(table):
            return {}
        ranking = str(table.columns[len(TRIAL_PLACE)])
        return {f"search/{_flat(ranking)}_best": float(table[ranking].iloc[0])}
    metric = _flat(header.metric)
    found: dict[str, float] = {}
    for row in table.to_dict("records"):
        place = f"arm/{row['arm']}" + (f"/{row['cell_type']}" if len(header.cell_types) > 1 else "")
        place = _METRIC_NAME.sub("_", place)
        found[f"{place}/n_finished"] = float(row["n_finished"])
        for column in ("mean", "std", "difference", "p_holm"):
            if np.isfinite(row[column]):
                found[f"{place}/{metric}_{column}"] = float(row[column])
    return found


def _flat(metric: str) -> str:
    return metric.replace("/", "_")
