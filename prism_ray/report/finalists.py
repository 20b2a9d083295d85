"""A search's trials by what they are for: proposals, which look, and finalists, which are compared."""

from __future__ import annotations

import pandas as pd

from prism_ray.report.tables import search_column
from prism_ray.report.text import number
from prism_ray.study.designs import WARM_ARM
from prism_ray.study.finalists import BASELINE_ARM, FINALIST_ARM
from prism_ray.tracking.headers import StudyHeader


def own_trials(trials: pd.DataFrame, header: StudyHeader) -> pd.DataFrame:
    """The trials that a study's table is made of: of a search all but its finalists and its baseline."""
    if header.kind != "search":
        return trials
    own: pd.DataFrame = trials[~trials["arm"].str.startswith(f"{FINALIST_ARM}-") & (trials["arm"] != BASELINE_ARM)]
    return own


def finalists_header(header: StudyHeader) -> StudyHeader | None:
    """The finalists of a search as an ablation of their own; None where it has none, or has not chosen them yet."""
    if not header.finalist_seeds or not header.arms:
        return None
    n_trials = len(header.arms) * len(header.finalist_seeds)
    return StudyHeader(
        **{**vars(header), "kind": "ablation", "seeds": header.finalist_seeds, "n_trials": n_trials, "curve": None}
    )


def search_notes(trials: pd.DataFrame, header: StudyHeader) -> list[str]:
    """What a reader of a search must know before believing its table."""
    if header.kind != "search":
        return []
    notes = []
    if header.finalist_seeds:
        seeds = ", ".join(map(str, header.finalist_seeds))
        notes.append(
            f"Only the finalists are compared, trained again over the seeds {seeds}. Trials of the search itself are "
            "not: each was trained once, and chosen or stopped by its validation value."
        )
    n_known = int(trials["arm"].str.startswith(f"{WARM_ARM}-").sum())
    if n_known:
        notes.append(f"The search knew {n_known} finished trials of the workspace before its first proposal.")
    if header.second_metric is not None:
        notes.append(
            f"The table is the Pareto front of {search_column(trials, header)} and {header.second_metric}: no other "
            "trial of the search is as good in both. Its finalists are both ends of the front and, between them, those "
            "at equal distances in the order of the first."
        )
    return notes


def search_counts_sentence(counts: dict[str, int]) -> str:
    """How many proposals a search rests on, by how they ended."""
    return (
        f"{counts['finished']} of {counts['planned']} proposals complete, {counts['pruned']} pruned; "
        f"{counts['failed']} failed, {counts['running']} running, {counts['missing']} not started."
    )


def finalists_sentence(table: pd.DataFrame) -> str:
    """How many trials of the finalists there are."""
    finished, planned = (int(table[name].sum()) for name in ("n_finished", "n_planned"))
    return f"{number(finished)} of {number(planned)} trials of the finalists and the baseline finished."
