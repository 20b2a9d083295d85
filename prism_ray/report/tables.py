"""Tables that answer a study: the best trials of a search, an arm a row of any other."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from prism_ray.report.ordered import chosen_arms
from prism_ray.report.values import arm_pairs, latest, of_arm, selection_column, with_value
from prism_ray.statistics import (
    effect_size,
    holm,
    minimal_detectable_effect,
    paired_differences,
    paired_effect,
    probability_of_improvement,
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
_NOT_SEARCHED = {"param/seed", "param/data.fold", "param/data.cell_type"}
_METRIC_NAME = re.compile(r"[^\w\-. /:]")


def arm_table(trials: pd.DataFrame, header: StudyHeader) -> pd.DataFrame:
    """Arms of a study, one row a cell type and arm, in the order of the study.

    Columns: cell_type, arm; n_planned, n_finished (with a value), n_failed (failed, killed, or finished without a
    value), n_running, n_missing (never started); mean, std, ci_low, ci_high of the metric; n_pairs, difference,
    difference_low, difference_high, p, p_holm, p_sign against the arm's reference over (seed, fold) pairs;
    effect_size (Hedges' g of the pairs) with effect_low, effect_high; improvement, the probability that a run of the
    arm is better than one of its reference in the same fold; detectable, the smallest true difference found with 80 %
    power; train_s, seconds in training steps, mean over the finished runs; chosen, whether the one-standard-error rule
    on validation chooses the arm (of an ordered study; elsewhere none is). nan where not defined.
    Holm's correction runs over the arms of a cell type.
    """
    values = latest(with_value(trials, header.metric))
    chosen = chosen_arms(trials, header)
    parts = []
    for cell_type in header.cell_types:
        rows = [_arm_row(trials, values, header, cell_type, arm) for arm in header.arms_on(cell_type)]
        for row, adjusted in zip(rows, holm([float(row["p"]) for row in rows]), strict=True):
            row["p_holm"] = adjusted
            row["chosen"] = (cell_type, row["arm"]) in chosen
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
    "effect_size",
    "effect_low",
    "effect_high",
    "improvement",
    "detectable",
    "train_s",
    "chosen",
]
COST = "cost/train_s"


def _arm_row(
    trials: pd.DataFrame, values: pd.DataFrame, header: StudyHeader, cell_type: str, arm: str
) -> dict[str, Any]:
    ours = of_arm(trials, cell_type, arm)
    by_pair = arm_pairs(values, cell_type, arm, header.metric)
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
        "train_s": _mean_cost(of_arm(values, cell_type, arm)),
    }
    return {**row, **_against_reference(values, by_pair, header, cell_type, arm)}


def _against_reference(
    values: pd.DataFrame, by_pair: Mapping[tuple[int, str], float], header: StudyHeader, cell_type: str, arm: str
) -> dict[str, float]:
    other = header.reference(arm)
    reference = {} if other is None else arm_pairs(values, cell_type, other, header.metric)
    differences = paired_differences(by_pair, reference)
    effect, size = paired_effect(differences), effect_size(differences)
    return {
        "n_pairs": effect.difference.n,
        "difference": effect.difference.mean,
        "difference_low": effect.difference.low,
        "difference_high": effect.difference.high,
        "p": effect.p,
        "p_sign": sign_test(differences).p if effect.difference.n else float("nan"),
        "effect_size": size.d,
        "effect_low": size.low,
        "effect_high": size.high,
        "improvement": _improvement(by_pair, reference, header),
        "detectable": minimal_detectable_effect(effect.difference.std, effect.difference.n),
    }


def _improvement(
    ours: Mapping[tuple[int, str], float], theirs: Mapping[tuple[int, str], float], header: StudyHeader
) -> float:
    """Probability of improvement, mean over the folds that both have: values of two folds do not compare."""
    by_fold = [
        [[value for (_, fold), value in runs.items() if fold == wanted] for runs in (ours, theirs)]
        for wanted in header.folds
    ]
    found = [probability_of_improvement(arm, other, header.direction) for arm, other in by_fold if arm and other]
    return float(np.mean(found)) if found else float("nan")


def _mean_cost(runs: pd.DataFrame) -> float:
    """Mean seconds in training steps; nan where no run says."""
    return float(runs[COST].astype("float64").mean()) if COST in runs else float("nan")


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
