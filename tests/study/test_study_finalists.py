"""Which proposals of a search are trained again, and as which trials."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prism_ray.config import RunConfig
from prism_ray.study.finalists import Outcome, choose_finalists, finalist_trials, pareto_front
from prism_ray.study.halving import SuccessiveHalving
from prism_ray.study.load import load_study
from prism_ray.study.search_spec import Finalists, Objective, Search
from prism_ray.study.space import Dimension, IntRange, LogUniform, Subset
from prism_ray.study.spec import Study
from tests.study.texts import SEARCH, changed

FINALISTS = "n_trials: 12\n  finalists: {k: 2, seeds: [2, 22], patch: {training.n_steps: 100}}"
MSE = Objective("val/mse", "minimize")
R = Objective("val/pearson_r", "maximize")


@pytest.fixture
def study(tmp_path: Path) -> Study:
    path = tmp_path / "asked.yaml"
    path.write_text(changed(SEARCH, ("n_trials: 12", FINALISTS)))
    return load_study(path)


def outcome(n_states: int, *scores: float, signals: str = "h3k27ac") -> Outcome:
    values: dict[str, Any] = {"model.n_states": n_states, "data.signals": signals}
    return Outcome(values | ({"loss.alpha": 0.5} if n_states else {}), scores)


def test_the_best_by_validation_are_trained_again_beside_the_baseline(study: Study) -> None:
    chosen = choose_finalists(study, [outcome(0, 0.3), outcome(1, 0.1), outcome(2, 0.4), outcome(3, 0.2)])
    assert [one.values["model.n_states"] for one in chosen] == [1, 3]
    trials = finalist_trials(study, chosen)
    proposals = [study.config_for(one.values).fingerprint()[:8] for one in chosen]
    arms = ["baseline", *(f"finalist-{digits}" for digits in proposals)]
    assert [(trial.seed, trial.arm) for trial in trials] == [(seed, arm) for seed in (2, 22) for arm in arms]
    assert {trial.config.training.n_steps for trial in trials} == {100}
    assert {(trial.fold, trial.cell_type) for trial in trials} == {("fold_1", "K562")}
    assert [trial.config.model.n_states for trial in trials[:3]] == [2, 1, 3]
    assert study.n_trials == 12 + 3 * 2


def test_a_maximised_objective_and_fewer_proposals_than_finalists(study: Study) -> None:
    best = replace(study, objective=R)
    assert choose_finalists(best, [outcome(0, 0.3), outcome(1, 0.9), outcome(2, 0.4)])[0].scores == (0.9,)
    assert [one.scores for one in choose_finalists(best, [outcome(0, 0.3)])] == [(0.3,)]
    assert choose_finalists(study, []) == []


def test_settings_of_the_baseline_and_repeats_are_no_finalists(study: Study) -> None:
    same = Outcome({"model.n_states": 2, "data.signals": "h3k27ac+dnase", "loss.alpha": 1.0}, (0.1,))
    baseline = replace(study, baseline=study.config_for(same.values))
    # Alpha has no effect without states: two proposals, one run.
    chosen = choose_finalists(baseline, [same, outcome(0, 0.2), outcome(0, 0.2), outcome(1, 0.3)])
    assert [one.scores for one in chosen] == [(0.2,), (0.3,)]


def test_known_front() -> None:
    points = [(1.0, 5.0), (2.0, 3.0), (2.0, 4.0), (3.0, 3.0), (4.0, 1.0), (4.0, 1.0), (5.0, 2.0)]
    front = pareto_front([outcome(0, *point) for point in points], (MSE, Objective("cost/train_s", "minimize")))
    assert [one.scores for one in front] == [(1.0, 5.0), (2.0, 3.0), (4.0, 1.0)]


POINTS = st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), min_size=1, max_size=20)


@given(POINTS)
def test_the_front_is_what_nothing_beats(points: list[tuple[int, int]]) -> None:
    outcomes = [outcome(0, *map(float, point)) for point in points]
    front = {one.scores for one in pareto_front(outcomes, (MSE, R))}

    def beats(a: tuple[int, int], b: tuple[int, int]) -> bool:
        return a != b and a[0] <= b[0] and a[1] >= b[1]

    assert front == {point for point in points if not any(beats(other, point) for other in points)}


@given(st.integers(1, 30), st.integers(1, 8))
def test_finalists_of_two_objectives_are_spread_over_the_front(n_points: int, k: int) -> None:
    study = _two_objectives(k)
    outcomes = [
        Outcome({"model.n_states": 0, "data.signals": "dnase", "optimizer.learning_rate": 1e-3 * (index + 1)}, scores)
        for index, scores in enumerate((float(index), -float(index)) for index in range(n_points))
    ]
    places = [int(one.scores[0]) for one in choose_finalists(study, outcomes)]
    assert len(places) == min(k, n_points)
    assert places == sorted(set(places))
    assert places[0] == 0
    if k > 1:
        assert places[-1] == n_points - 1
        gaps = [later - earlier for earlier, later in pairwise(places)]
        assert not gaps or max(gaps) - min(gaps) <= 1


def _two_objectives(k: int) -> Study:
    space = (
        Dimension("model.n_states", IntRange(0, 8)),
        Dimension("data.signals", Subset(("h3k27ac", "dnase"), 1)),
        Dimension("optimizer.learning_rate", LogUniform(1e-4, 1.0)),
    )
    search = Search(space, "random", 30, 10, 0, finalists=Finalists(k, {}, (2,)))
    return Study(
        name="made",
        path=Path("made.yaml"),
        question="?",
        claim="?",
        source="?",
        kind="search",
        baseline=RunConfig(),
        arms=(),
        baseline_arm=None,
        changes=(),
        curve=None,
        seeds=(2,),
        folds=("fold_1",),
        cell_types=("K562",),
        objective=MSE,
        report_metric="test/mse",
        search=search,
        second_objective=Objective("cost/train_s", "minimize"),
    )


def test_digests_cover_what_changes_numbers(study: Study) -> None:
    assert study.search is not None
    search = study.search
    plain = replace(study, search=replace(search, finalists=None))
    assert plain.digest() == plain.proposals_digest() == study.proposals_digest()
    assert study.digest() != plain.digest()
    different = [
        replace(study, search=replace(search, pruner=SuccessiveHalving())),
        replace(study, search=replace(search, pruner=SuccessiveHalving(4))),
        replace(study, search=replace(search, warm_start=True)),
        replace(study, second_objective=Objective("cost/train_s", "minimize")),
    ]
    assert len({one.proposals_digest() for one in [study, *different]}) == 5
    assert replace(study, search=replace(search, n_trials=99)).digest() == study.digest()
    assert search.finalists is not None
    for finalists in (
        replace(search.finalists, k=1),
        replace(search.finalists, patch={}),
        replace(search.finalists, seeds=(3,)),
    ):
        other = replace(study, search=replace(search, finalists=finalists))
        assert other.digest() != study.digest()
        assert other.proposals_digest() == study.proposals_digest()
