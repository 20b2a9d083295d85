"""Tables of trials made by hand, as `fetch_trials` would return them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from prism_ray.tracking import StudyHeader
from prism_ray.tracking.fetch import TRIAL_COLUMNS
from tests.tracking_support import STUDY


def trial(
    arm: str,
    seed: int,
    value: float,
    *,
    status: str = "FINISHED",
    fold: str = "fold_1",
    cell_type: str = "K562",
    **more: Any,
) -> dict[str, Any]:
    """One trial of an arm named n<states>; its validation value is its test value unless `best` is given."""
    row = {
        "arm": arm,
        "seed": seed,
        "fold": fold,
        "cell_type": cell_type,
        "status": status,
        "trial_id": f"{arm}-{seed}-{fold}-{cell_type}",
        "test/mse": value,
        "best/mse": value,
        "param/model.n_states": int(arm[1:]) if arm[1:].isdigit() else 0,
        "param/seed": seed,
    }
    return {**row, **more}


def trials_of(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Table of trials in the order of their start."""
    names = [*TRIAL_COLUMNS, *(name for name in (rows[0] if rows else ()) if name not in TRIAL_COLUMNS)]
    table = pd.DataFrame([{name: row.get(name) for name in names} for row in rows], columns=names)
    table["start_time"] = pd.Timestamp("2026-01-01", tz="UTC") + pd.to_timedelta(range(len(rows)), unit="s")
    return table.astype(TRIAL_COLUMNS)


def search_header(n_trials: int) -> StudyHeader:
    """Header of a search over states and signals."""
    return replace(
        STUDY, name="joint_search", kind="search", baseline=None, arms=("search",), curve=None, n_trials=n_trials
    )


def search_trials(values: Sequence[tuple[float, float]]) -> pd.DataFrame:
    """Trials of a search by validation and test value: trial i has i states, signals alternate."""
    return trials_of(
        [
            trial(
                "search",
                2,
                test,
                **{
                    "trial_id": f"trial-{index}",
                    "best/mse": best,
                    "param/model.n_states": index,
                    "param/data.signals": ("h3k27ac", "h3k27ac+dnase")[index % 2],
                },
            )
            for index, (best, test) in enumerate(values)
        ]
    )
