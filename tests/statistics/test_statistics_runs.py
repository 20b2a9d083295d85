from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from prism_ray.errors import InputError
from prism_ray.statistics import (
    Summary,
    holm,
    one_standard_error,
    paired_differences,
    paired_effect,
    probability_of_improvement,
    sign_test,
    summarize,
)

values = st.lists(st.floats(-100, 100, allow_nan=False), min_size=2, max_size=30).filter(lambda v: np.ptp(v) > 1e-3)


@given(values)
def test_summary_equals_scipy(sample: list[float]) -> None:
    summary = summarize(sample)
    low, high = stats.t.interval(0.95, len(sample) - 1, loc=np.mean(sample), scale=stats.sem(sample))
    assert (summary.low, summary.high) == (pytest.approx(low), pytest.approx(high))
    assert summary.std == pytest.approx(np.std(sample, ddof=1))
    assert summary.standard_error == pytest.approx(stats.sem(sample))


def test_summary_by_hand() -> None:
    summary = summarize([1.0, 2.0, 3.0])
    # t(0.975, 2) = 4.302653, std 1, standard error 1 / sqrt(3).
    assert summary == Summary(3, 2.0, 1.0, pytest.approx(2 - 2.484138, abs=1e-6), pytest.approx(4.484138, abs=1e-6))


def test_summary_of_too_few_runs_has_no_interval() -> None:
    assert summarize([]).n == 0
    assert math.isnan(summarize([]).mean)
    one = summarize([0.5])
    assert (one.n, one.mean) == (1, 0.5)
    assert math.isnan(one.std)
    assert math.isnan(one.low)
    assert math.isnan(one.standard_error)


def test_equal_values_have_no_spread_whatever_their_rounding() -> None:
    assert summarize([0.1, 0.1, 0.1]) == Summary(3, 0.1, 0.0, 0.1, 0.1)


def test_values_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(InputError, match="1 of 2 values are not finite"):
        summarize([0.1, math.nan])


def test_pairs_are_what_both_have() -> None:
    arm = {(2, "fold_1"): 1.0, (22, "fold_1"): 2.0, (222, "fold_1"): 3.0}
    baseline = {(22, "fold_1"): 0.5, (2, "fold_1"): 0.25, (7, "fold_1"): 9.0}
    assert paired_differences(arm, baseline).tolist() == [0.75, 1.5]


@given(values, st.integers(0, 2**31))
def test_paired_effect_equals_scipy(arm: list[float], seed: int) -> None:
    baseline = np.asarray(arm) + np.random.default_rng(seed).normal(0, 1, len(arm))
    effect = paired_effect(np.asarray(arm) - baseline)
    oracle = stats.ttest_rel(arm, baseline)
    assert effect.t == pytest.approx(oracle.statistic, rel=1e-6)
    assert effect.p == pytest.approx(oracle.pvalue, rel=1e-6)
    interval = oracle.confidence_interval(0.95)
    assert (effect.difference.low, effect.difference.high) == pytest.approx((interval.low, interval.high))


def test_paired_effect_without_spread() -> None:
    same = paired_effect([0.0, 0.0])
    assert (same.t, same.p) == (0.0, 1.0)
    shifted = paired_effect([-0.25, -0.25])
    assert (shifted.t, shifted.p) == (-math.inf, 0.0)
    assert math.isnan(paired_effect([0.25]).p)
    assert paired_effect([]).difference.n == 0


@given(st.lists(st.sampled_from([-1.0, 0.0, 2.0]), min_size=1, max_size=25))
def test_sign_test_equals_the_exact_binomial_test(differences: list[float]) -> None:
    test = sign_test(differences)
    nonzero = [value for value in differences if value]
    if not nonzero:
        assert (test.n, test.p) == (0, 1.0)
        return
    oracle = stats.binomtest(sum(value > 0 for value in nonzero), len(nonzero)).pvalue
    assert test.p == pytest.approx(oracle)
    assert test.p >= test.floor or math.isclose(test.p, test.floor)


def test_five_pairs_cannot_go_below_their_floor() -> None:
    test = sign_test([0.1, 0.2, 0.3, 0.4, 0.5])
    assert test.p == test.floor == 0.0625
    assert sign_test([0.1]).floor == 1.0


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    adjusted = holm([0.01, math.nan, 0.04])
    assert adjusted[0] == pytest.approx(0.02)
    assert math.isnan(adjusted[1])
    assert adjusted[2] == pytest.approx(0.04)
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_equals_its_definition(p_values: list[float]) -> None:
    """A test's adjusted p is the largest (m - j) p_(j) of the tests that come no later in the order of p."""
    m = len(p_values)
    ordered = sorted(p_values)
    for p, adjusted in zip(p_values, holm(p_values), strict=True):
        last = max(index for index, other in enumerate(ordered) if other == p)
        assert adjusted == pytest.approx(max(min(1.0, (m - j) * ordered[j]) for j in range(last + 1)))
        assert p <= adjusted <= 1.0


def _runs(mean: float, std: float, n: int = 4) -> Summary:
    return Summary(n, mean, std, math.nan, math.nan)


def test_one_standard_error_takes_the_simplest_that_does_as_well() -> None:
    # Best mean at 4: 0.176, standard error 0.004 / 2: what is at or under 0.178 does as well.
    runs = [_runs(0.186, 0.001), _runs(0.1779, 0.001), _runs(0.176, 0.004), _runs(0.177, 0.001)]
    assert one_standard_error([0, 2, 4, 8], runs, "minimize") == 2
    assert one_standard_error([8, 4, 2, 0], runs[::-1], "minimize") == 2
    assert one_standard_error([0, 2, 4, 8], [_runs(1 - run.mean, run.std) for run in runs], "maximize") == 2


def test_one_standard_error_needs_a_spread_of_the_best() -> None:
    assert one_standard_error([], [], "minimize") is None
    assert one_standard_error([0, 2], [_runs(0.2, 0.1), _runs(0.1, math.nan, n=1)], "minimize") is None
    assert one_standard_error([0, 2], [summarize([]), _runs(0.1, 0.01)], "minimize") == 2


@given(values, values, st.sampled_from(["minimize", "maximize"]))
def test_probability_of_improvement_is_the_u_statistic(arm: list[float], baseline: list[float], direction: str) -> None:
    u = stats.mannwhitneyu(arm, baseline).statistic / (len(arm) * len(baseline))
    found = probability_of_improvement(arm, baseline, direction)  # type: ignore[arg-type]
    assert found == pytest.approx(u if direction == "maximize" else 1 - u)


def test_probability_of_improvement_needs_runs_of_both() -> None:
    assert math.isnan(probability_of_improvement([], [1.0], "minimize"))
    assert probability_of_improvement([1.0], [1.0], "minimize") == 0.5
    assert probability_of_improvement([0.5, 2.0], [1.0], "minimize") == 0.5
