"""A search's report: finalists are compared, proposals are not; pruned ones are counted as such."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

from prism_ray.report.finalists import finalists_header, own_trials, search_counts_sentence, search_notes
from prism_ray.report.tables import arm_table, best_trials_table, count_trials
from prism_ray.tracking import StudyHeader
from tests.report.made_trials import search_header, trial, trials_of

ARMS = ("baseline", "finalist-aaaaaaaa")


@pytest.fixture
def header() -> StudyHeader:
    return replace(search_header(10), arms=ARMS, baseline="baseline", n_proposals=4, finalist_seeds=(2, 22, 222))


@pytest.fixture
def trials() -> pd.DataFrame:
    finals = [
        trial(arm, seed, 1.0 + index / 10 - (0.5 if arm != "baseline" else 0.0))
        for arm in ARMS
        for index, seed in enumerate((2, 22, 222))
    ]
    own = [
        trial("proposal-aaaaaaaa", 2, 0.3),
        trial("proposal-bbbbbbbb", 2, float("nan"), status="KILLED", outcome="pruned"),
        trial("proposal-cccccccc", 2, float("nan"), status="FAILED"),
        trial("known-dddddddd", 2, 0.1),
    ]
    return trials_of([*finals, *own])


def test_finalists_are_paired_with_the_baseline(trials: pd.DataFrame, header: StudyHeader) -> None:
    compared = finalists_header(header)
    assert compared is not None
    table = arm_table(trials, compared).set_index("arm")
    assert list(table.index) == list(ARMS)
    assert table.loc["finalist-aaaaaaaa", "n_pairs"] == 3
    assert table.loc["finalist-aaaaaaaa", "difference"] == pytest.approx(-0.5)
    assert finalists_header(replace(header, arms=())) is None
    assert finalists_header(replace(header, finalist_seeds=())) is None


def test_a_search_counts_its_own_proposals(trials: pd.DataFrame, header: StudyHeader) -> None:
    own = own_trials(trials, header)
    assert len(own) == 4
    counts = count_trials(own, header)
    assert counts == {"planned": 4, "finished": 1, "pruned": 1, "failed": 1, "running": 0, "missing": 1}
    assert search_counts_sentence(counts).startswith("1 of 4 proposals complete, 1 pruned; 1 failed")
    notes = search_notes(own, header)
    assert notes[0].startswith("Only the finalists are compared")
    assert notes[1].startswith("The search knew 1 finished trials")


def test_the_table_of_two_objectives_is_the_front(header: StudyHeader) -> None:
    points = ((0.3, 5.0), (0.2, 9.0), (0.4, 6.0), (0.5, 1.0))
    trials = trials_of(
        [trial(f"proposal-{index}", 2, mse, **{"cost/train_s": cost}) for index, (mse, cost) in enumerate(points)]
    )
    two = replace(header, second_metric="cost/train_s", second_direction="minimize")
    table = best_trials_table(trials, two)
    assert list(table["best/mse"]) == [0.2, 0.3, 0.5]
    assert list(table["cost/train_s"]) == [9.0, 5.0, 1.0]
