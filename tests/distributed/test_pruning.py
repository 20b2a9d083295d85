"""Trials that judge themselves at rungs, by what others left there; files and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from prism_ray.distributed.pruning import PRUNED_NAME, Pruned, Pruning, read_pruned, write_pruned
from prism_ray.errors import CheckpointError
from prism_ray.study.halving import SuccessiveHalving
from prism_ray.study.search_spec import Objective

N_STEPS = 100
CURVE = ((10, 5.0), (20, 4.0), (40, 3.0), (70, 2.0), (100, 1.0))


@pytest.fixture
def pruning(tmp_path: Path) -> Pruning:
    """Rungs at 10, 30 and 90 of 100 steps."""
    return Pruning("search-1", SuccessiveHalving(3, 0.1), Objective("val/mse", "minimize"), tmp_path / "rungs")


def history(*points: tuple[int, float]) -> list[dict[str, float]]:
    """As a run reports it: training losses between validations."""
    found: list[dict[str, float]] = []
    for step, value in points:
        found += [{"step": float(step), "train/loss": 9.0}, {"step": float(step), "val/mse": value}]
    return found


def until_stopped(pruning: Pruning, trial: str, *points: tuple[int, float]) -> Pruned | None:
    for number in range(1, len(points) + 1):
        pruned = pruning.judge(trial, history(*points[:number]), N_STEPS)
        if pruned is not None:
            return pruned
    return None


def test_the_first_goes_on_and_a_worse_one_is_stopped_at_its_first_rung(pruning: Pruning) -> None:
    assert until_stopped(pruning, "good", *CURVE) is None
    worse = until_stopped(pruning, "worse", *((step, value + 1) for step, value in CURVE))
    assert worse == Pruned("search-1", 10, N_STEPS, "val/mse", 6.0, ((10, 6.0),))
    assert str(worse) == "stopped after 10 of 100 steps with val/mse 6"
    assert until_stopped(pruning, "better", *((step, value - 1) for step, value in CURVE)) is None


def test_a_trial_is_judged_by_the_best_that_it_has_reached(pruning: Pruning) -> None:
    assert until_stopped(pruning, "steady", (10, 2.0), (30, 2.0)) is None
    # A validation that is worse than an earlier one takes nothing back.
    assert until_stopped(pruning, "noisy", (10, 1.0), (30, 9.0)) is None
    assert pruning.standings(history((1, 3.0), (2, 1.0), (3, 2.0))) == [(1, 3.0), (2, 1.0), (3, 1.0)]
    highest = Pruning("s", pruning.rule, Objective("val/pearson_r", "maximize"), pruning.rungs)
    assert highest.standings([{"step": 1, "val/pearson_r": 0.5}, {"step": 2, "val/pearson_r": 0.1}])[-1] == (2, 0.5)


def test_a_trial_is_judged_once_a_rung(pruning: Pruning) -> None:
    assert pruning.judge("first", history((10, 2.0)), N_STEPS) is None
    assert pruning.judge("second", history((10, 1.0)), N_STEPS) is None
    # Worse than the second by now, but past the rung.
    assert pruning.judge("first", history((10, 2.0), (20, 2.0)), N_STEPS) is None
    # Its process died right after it was judged: at the same step it is judged again.
    assert pruning.judge("first", history((10, 2.0)), N_STEPS) is not None


def test_nothing_is_judged_before_the_first_rung_at_the_end_or_without_a_number(pruning: Pruning) -> None:
    assert until_stopped(pruning, "good", *CURVE) is None
    for step in (9, 100):
        assert pruning.judge("bad", history((step, 99.0)), N_STEPS) is None
    assert pruning.judge("bad", history((10, float("nan"))), N_STEPS) is None
    assert pruning.judge("bad", history((10, 99.0)), N_STEPS) is not None


def test_runs_that_were_trained_before_are_known_at_the_rungs(pruning: Pruning) -> None:
    pruning.enter("found", history(*CURVE), N_STEPS)
    pruned = until_stopped(pruning, "later", (10, 4.9), (30, 4.5))
    assert pruned is not None
    # The found one was at 4 after 20 steps, and at 3 at its first validation past the rung of 30.
    assert pruned.curve == ((10, 4.9), (30, 4.5))


def test_searches_have_their_own_verdicts(pruning: Pruning, tmp_path: Path) -> None:
    folder = tmp_path / "trial"
    assert pruning.pruned(folder) is None
    stopped = Pruned("search-1", 10, N_STEPS, "val/mse", 6.0, ((10, 6.0),))
    write_pruned(folder, stopped)
    assert read_pruned(folder) == pruning.pruned(folder) == stopped
    other = Pruning("search-2", pruning.rule, pruning.objective, pruning.rungs)
    assert other.pruned(folder) is None


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"search": 1, "curve": [1]}'])
def test_a_damaged_verdict_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / PRUNED_NAME).write_text(text)
    with pytest.raises(CheckpointError, match=r"pruned\.json: cannot be read .*delete it"):
        read_pruned(tmp_path)
