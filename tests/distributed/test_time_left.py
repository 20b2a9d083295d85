"""The time that a launch still takes: exact where times are proportional to costs, silent before anything is known."""

from __future__ import annotations

import heapq
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prism_ray.distributed.study_status import TrialStatus
from prism_ray.distributed.time_left import Caps, TimeLeft, ToCome
from prism_ray.distributed.time_left import time_left as time_left_under


def time_left(trials: list[TrialStatus], n_slots: int, to_come: ToCome | None = None) -> float | None:
    """Without a cap."""
    left = time_left_under(trials, n_slots, to_come)
    assert left is None or left.cap == ""
    return None if left is None else left.seconds


def trial(state: str, **known: Any) -> TrialStatus:
    return TrialStatus("", known.pop("label", "n0 seed 2"), state, known.pop("step", 0), 100, **known)  # type: ignore[arg-type]


def ended(multiply_adds: int, seconds: float, **known: Any) -> TrialStatus:
    return trial("done", multiply_adds=multiply_adds, spent_s=seconds, spent_part=1.0, **known)


class Run(NamedTuple):
    """When a trial began and ended."""

    began: float
    ended: float


def schedule(seconds: list[float], n_slots: int) -> list[Run]:
    """Each trial in its turn, on the slot that is free first."""
    free = [0.0] * n_slots
    runs = []
    for length in seconds:
        began = heapq.heappop(free)
        heapq.heappush(free, began + length)
        runs.append(Run(began, began + length))
    return runs


def seen_at(now: float, runs: list[Run], costs: list[int], evaluates: list[bool], has_pace: bool) -> list[TrialStatus]:
    """The trials as their folders tell them at a time; `planned_s` in the unit of costs."""
    found = []
    for run, cost, is_evaluation in zip(runs, costs, evaluates, strict=True):
        known: dict[str, Any] = {"evaluates": is_evaluation, "planned_s": float(cost)}
        if run.ended <= now:
            found.append(trial("done", spent_s=run.ended - run.began, spent_part=1.0, **known))
        elif run.began <= now:
            left_s = run.ended - now if has_pace and not is_evaluation else None
            found.append(trial("running", for_s=now - run.began, left_s=left_s, **known))
        else:
            found.append(trial("missing", **known))
    return found


@given(
    trials=st.lists(st.tuples(st.integers(1, 10**9), st.booleans()), min_size=1, max_size=12),
    n_slots=st.integers(1, 4),
    rate=st.floats(1e-3, 1e3),
    part=st.floats(0, 0.99),
    has_pace=st.booleans(),
)
def test_it_is_exact_from_the_first_finished_trial_on_where_times_are_proportional_to_costs(
    trials: list[tuple[int, bool]], n_slots: int, rate: float, part: float, has_pace: bool
) -> None:
    costs, evaluates = [cost for cost, _ in trials], [one for _, one in trials]
    runs = schedule([cost * rate for cost in costs], n_slots)
    end = max(run.ended for run in runs)
    first = min(run.ended for run in runs)
    now = first + part * (end - first)
    left_s = time_left(seen_at(now, runs, costs, evaluates, has_pace), n_slots)
    assert left_s is None if now >= end else left_s == pytest.approx(end - now, rel=1e-6, abs=1e-9 * end)


@given(
    costs=st.lists(st.integers(1, 1000), min_size=2, max_size=12),
    n_running=st.integers(1, 4),
    shares=st.lists(st.floats(0, 1), min_size=5, max_size=5),
)
def test_it_falls_as_time_goes_by_where_no_trial_is_late(costs: list[int], n_running: int, shares: list[float]) -> None:
    """By just the time that goes by, and by more where a trial ends before it was expected to."""
    rate = 2.0
    had = [rate * cost * share for cost, share in zip(costs[1 : 1 + n_running], shares, strict=False)]
    goes_by = shares[-1] * min(rate * cost - for_s for cost, for_s in zip(costs[1:], had, strict=False))

    def left_s(later: float, *, first_ends: bool = False) -> float:
        trials = [ended(costs[0], rate * costs[0])]
        for number, cost in enumerate(costs[1:]):
            if number == 0 and first_ends:
                trials.append(ended(cost, had[0] + later))
            elif number < len(had):
                trials.append(trial("running", multiply_adds=cost, for_s=had[number] + later))
            else:
                trials.append(trial("missing", multiply_adds=cost))
        return time_left(trials, n_running) or 0.0

    before, slack = left_s(0.0), 1e-6 * sum(costs)
    assert left_s(goes_by) == pytest.approx(before - goes_by, abs=slack)
    assert left_s(goes_by, first_ends=True) <= before - goes_by + slack


def test_trainings_and_evaluations_have_a_rate_each() -> None:
    """An evaluation of a tenth of the cost takes a hundredth of the time; one slot."""
    known = [ended(1000, 600.0), ended(100, 6.0, evaluates=True)]
    training, evaluation = trial("missing", multiply_adds=1000), trial("missing", multiply_adds=100, evaluates=True)
    assert time_left([*known, training], 1) == pytest.approx(600)
    assert time_left([*known, *[evaluation] * 3], 1) == pytest.approx(18)


def test_small_trials_that_wait_are_not_taken_for_the_large_ones_that_come_first() -> None:
    trials = [ended(200_000, 4000.0), trial("running", multiply_adds=100_000, for_s=500.0)]
    trials += [trial("missing", multiply_adds=1000)] * 10
    assert time_left(trials, 1) == pytest.approx(1500 + 10 * 20)


def test_measured_seconds_come_before_multiply_adds_and_only_where_all_were_measured() -> None:
    """A small model's step takes longer than its multiply-adds say."""
    known = ended(1000, 50.0, planned_s=40.0)
    waits = trial("missing", multiply_adds=100, planned_s=20.0)
    assert time_left([known, waits], 1) == pytest.approx(25.0)
    assert time_left([known, trial("missing", multiply_adds=100)], 1) == pytest.approx(5.0)


def test_a_trial_that_went_on_from_a_checkpoint_is_expected_to_take_the_rest() -> None:
    known = trial("done", multiply_adds=100, spent_s=30.0, spent_part=0.25)
    assert time_left([known, trial("interrupted", multiply_adds=100, from_part=0.5)], 1) == pytest.approx(60.0)
    assert time_left([known, trial("running", multiply_adds=100, from_part=0.5, for_s=10.0)], 1) == pytest.approx(50.0)


def test_slots_that_nobody_uses_are_filled_and_those_that_are_used_count() -> None:
    running = [trial("running", for_s=60.0, left_s=60.0), trial("running", for_s=20.0, left_s=100.0)]
    assert time_left([*running, trial("missing")], 2) == pytest.approx(60 + 120)
    assert time_left([*running, trial("missing")], 3) == pytest.approx(120)
    assert time_left([*running, trial("missing")], 0) == pytest.approx(60 + 120), "as many as run"


@pytest.mark.parametrize(
    "trials",
    [
        [],
        [ended(100, 10.0)],
        [trial("missing", multiply_adds=100)],
        [trial("running", multiply_adds=100, for_s=5.0)],
        # Trained for another study, or in an earlier launch, on who knows what.
        [trial("done", multiply_adds=100, train_s=50.0), trial("running", multiply_adds=100, for_s=5.0)],
        [trial("failed", multiply_adds=100), trial("missing", multiply_adds=100)],
    ],
)
def test_it_says_nothing_before_there_is_anything_to_go_by(trials: list[TrialStatus]) -> None:
    assert time_left(trials, 2) is None


def test_with_nobody_to_run_them_trials_that_wait_take_no_time_that_can_be_said() -> None:
    assert time_left([ended(100, 10.0), trial("missing", multiply_adds=100)], 0) is None


def test_proposals_to_come_take_what_those_that_ended_did_pruned_ones_too() -> None:
    """A proposal in full takes 100 s; one ended, one was pruned after a tenth of it; two and a long finalist follow."""
    known: dict[str, Any] = {"multiply_adds": 1000, "label": "proposal-a seed 2"}
    whole = trial("done", spent_s=100.0, spent_part=1.0, **known)
    pruned = trial("pruned", step=10, spent_s=10.0, spent_part=0.1, **known)
    assert time_left([whole, pruned], 1, ToCome(n_proposals=2)) == pytest.approx(2 * 55)
    assert time_left([whole, pruned], 1, ToCome(2, 1, 400)) == pytest.approx(2 * 55 + 400)
    # A finalist that is known is no proposal.
    finalist = trial("missing", multiply_adds=4000, label="finalist-a seed 2")
    assert time_left([whole, pruned, finalist], 1, ToCome(2)) == pytest.approx(2 * 55 + 400)


@given(
    costs=st.lists(st.integers(1, 1000), min_size=1, max_size=12),
    n_slots=st.integers(1, 4),
    part=st.floats(0, 1.5),
)
def test_gpu_hours_end_the_launch_when_its_trials_have_run_for_them(
    costs: list[int], n_slots: int, part: float
) -> None:
    trials = [ended(1, 2.0), *(trial("missing", multiply_adds=cost) for cost in costs)]
    runs, cap_s = schedule([2.0 * cost for cost in costs], n_slots), 2.0 * sum(costs) * part
    left = time_left_under(trials, n_slots, caps=Caps(trial_s=cap_s))
    assert left is not None
    if part > 1.001:
        assert left == TimeLeft(pytest.approx(max(run.ended for run in runs)))  # type: ignore[arg-type]
    if part < 0.999:
        used = sum(min(run.ended, left.seconds) - min(run.began, left.seconds) for run in runs)
        assert left.cap == "gpu_hours"
        assert used == pytest.approx(cap_s, rel=1e-6, abs=1e-9)


def test_the_cap_that_is_reached_first_ends_the_launch() -> None:
    trials = [ended(1, 10.0), trial("running", multiply_adds=10, for_s=40.0, left_s=60.0)]
    trials += [trial("missing", multiply_adds=10)] * 2
    # One slot until 60 + 100, the other until 100.
    for caps, expected in (
        (Caps(), (160.0, "")),
        (Caps(wall_s=160.0, trial_s=260.0), (160.0, "")),
        (Caps(wall_s=159.0, trial_s=259.0), (159.0, "gpu_hours")),
        (Caps(wall_s=150.0, trial_s=259.0), (150.0, "wall_hours")),
        (Caps(wall_s=150.0, trial_s=100.0), (50.0, "gpu_hours")),
        (Caps(wall_s=-5.0), (0.0, "wall_hours")),
        (Caps(trial_s=-5.0), (0.0, "gpu_hours")),
    ):
        assert time_left_under(trials, 2, caps=caps) == expected
