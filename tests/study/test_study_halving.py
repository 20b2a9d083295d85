"""Successive halving: known rungs and decisions, and what holds for any values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prism_ray.study.halving import SuccessiveHalving

RULES = st.builds(SuccessiveHalving, st.integers(2, 6), st.floats(0.001, 0.999))


@pytest.mark.parametrize(
    ("reduction", "min_fraction", "n_steps", "rungs"),
    [
        (3, 0.1, 10_000, (1000, 3000, 9000)),
        (3, 0.1, 30, (3, 9, 27)),
        (4, 0.05, 50_000, (2500, 10_000, 40_000)),
        (2, 0.5, 8, (4,)),
        (3, 0.1, 4, (1, 2, 4)[:2]),
        (3, 0.1, 1, ()),
    ],
)
def test_rungs(reduction: int, min_fraction: float, n_steps: int, rungs: tuple[int, ...]) -> None:
    assert SuccessiveHalving(reduction, min_fraction).rungs(n_steps) == rungs


@given(RULES, st.integers(1, 100_000))
def test_rungs_rise_and_lie_before_the_end(rule: SuccessiveHalving, n_steps: int) -> None:
    rungs = rule.rungs(n_steps)
    assert list(rungs) == sorted(set(rungs))
    assert all(0 < rung < n_steps for rung in rungs)
    if n_steps > 1 and rule.min_fraction * n_steps <= n_steps - 1:
        assert rungs


@given(RULES, st.integers(1, 1000), st.integers(0, 1100))
def test_a_trial_is_judged_at_the_last_rung_behind_it(rule: SuccessiveHalving, n_steps: int, step: int) -> None:
    rung = rule.rung_at(step, n_steps)
    behind = [one for one in rule.rungs(n_steps) if one <= step]
    assert rung == (behind[-1] if behind and step < n_steps else None)


def test_known_decisions() -> None:
    rule = SuccessiveHalving(3, 0.1)
    assert not rule.stops(9.0, [], "minimize")
    assert rule.stops(2.0, [1.0], "minimize")
    assert not rule.stops(0.5, [1.0], "minimize")
    assert not rule.stops(1.0, [1.0], "minimize")
    # Of six the best two go on.
    assert not rule.stops(2.0, [1.0, 3.0, 4.0, 5.0, 6.0], "minimize")
    assert rule.stops(3.5, [1.0, 3.0, 4.0, 5.0, 6.0], "minimize")
    assert rule.stops(0.1, [0.5], "maximize")
    assert not rule.stops(0.9, [0.5], "maximize")


@given(RULES, st.lists(st.floats(-10, 10), min_size=1, max_size=40, unique=True))
def test_of_different_values_judged_by_all_the_best_part_goes_on(rule: SuccessiveHalving, values: list[float]) -> None:
    kept = [
        value
        for index, value in enumerate(values)
        if not rule.stops(value, values[:index] + values[index + 1 :], "minimize")
    ]
    assert sorted(kept) == sorted(values)[: max(1, len(values) // rule.reduction)]


@given(RULES, st.floats(-10, 10), st.lists(st.floats(-10, 10), max_size=20))
def test_directions_mirror_each_other(rule: SuccessiveHalving, value: float, others: list[float]) -> None:
    mirrored = rule.stops(-value, [-other for other in others], "maximize")
    assert rule.stops(value, others, "minimize") == mirrored
