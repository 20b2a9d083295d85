"""Standardised effects, detectable ones and the pairs that they need, against published values and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from prism_ray.statistics import effect_size, minimal_detectable_effect, pairs_needed


def test_effect_size_by_hand() -> None:
    # Mean 2, standard deviation 1, five pairs: J = Gamma(2) / (sqrt(2) Gamma(1.5)) = 0.797885.
    sample = np.array([-1.0, -0.5, 0.0, 0.5, 1.0])
    sample = sample / sample.std(ddof=1) + 2.0
    assert effect_size(sample).d == pytest.approx(2 * 0.7978846, rel=1e-6)


@settings(max_examples=40)
@given(st.lists(st.floats(-5, 5), min_size=2, max_size=12).filter(lambda v: np.ptp(v) > 1e-2))
def test_the_interval_of_an_effect_inverts_the_noncentral_t(sample: list[float]) -> None:
    size = effect_size(sample)
    n = len(sample)
    t = np.mean(sample) / stats.sem(sample)
    for end, tail in ((size.low, 0.975), (size.high, 0.025)):
        assert stats.nct.cdf(t, n - 1, end * math.sqrt(n)) == pytest.approx(tail, abs=1e-6)
    assert size.low < t / math.sqrt(n) < size.high
    mirrored = effect_size([-value for value in sample])
    assert (mirrored.low, mirrored.high) == (pytest.approx(-size.high, abs=1e-6), pytest.approx(-size.low, abs=1e-6))


@pytest.mark.parametrize(("t", "n"), [(-82.08324494325095, 2), (-67.37187455767989, 3), (142.52082477835387, 2)])
def test_where_the_noncentral_t_underflows_on_the_way_the_interval_is_found(t: float, n: int) -> None:
    """The search for it passes shifts, 27, 7.5 and -15.9, at which SciPy gives nan."""
    sample = np.linspace(-1, 1, n)
    sample = sample / sample.std(ddof=1) + t / math.sqrt(n)
    size = effect_size(sample)
    for end, tail in ((size.low, 0.975), (size.high, 0.025)):
        assert stats.nct.cdf(t, n - 1, end * math.sqrt(n)) == pytest.approx(tail, abs=1e-6)


def test_an_effect_without_spread_or_pairs_has_no_size() -> None:
    for sample in ([], [1.0], [0.5, 0.5, 0.5]):
        size = effect_size(sample)
        assert math.isnan(size.d)
        assert math.isnan(size.low)
        assert math.isnan(size.high)
    # Two pairs: the interval exists, the mean of d does not.
    two = effect_size([1.0, 2.0])
    assert math.isnan(two.d)
    assert two.low < two.high


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("n", [2, 5, 20])
def test_the_interval_of_a_huge_effect_is_its_limit(n: int, sign: int) -> None:
    """Differences that vary by rounding alone have a t beyond what a noncentral t can be computed for."""
    base = np.resize([-1.0, 1.0], n) + np.linspace(0, 0.1, n)
    base = (base - base.mean()) / base.std(ddof=1) * sign
    below, above, rounding = (effect_size(base + sign * t / math.sqrt(n)) for t in (0.999e4, 1.001e4, 1e15))
    for name in ("low", "high"):
        # On both sides of where the limit takes over, and far beyond it, the interval grows with d.
        assert getattr(above, name) / getattr(below, name) == pytest.approx(1.001 / 0.999, rel=1e-6)
        assert getattr(rounding, name) / getattr(above, name) == pytest.approx(1e15 / 1.001e4, rel=0.2)
    for size in (below, above, rounding):
        assert size.low < size.high


@pytest.mark.parametrize("n", [2, 3, 5, 12, 60])
def test_minimal_detectable_effect_has_the_stated_power(n: int) -> None:
    effect = minimal_detectable_effect(0.01, n)
    critical = stats.t.ppf(0.975, n - 1)
    shift = effect / (0.01 / math.sqrt(n))
    power = stats.nct.sf(critical, n - 1, shift)
    assert power == pytest.approx(0.8, abs=2e-3)


def test_minimal_detectable_effect_by_simulation() -> None:
    effect = minimal_detectable_effect(1.0, 5)
    draws = np.random.default_rng(0).normal(effect, 1.0, (20_000, 5))
    found = (stats.ttest_1samp(draws, 0.0, axis=1).pvalue < 0.05).mean()
    assert found == pytest.approx(0.8, abs=0.012)


def test_minimal_detectable_effect_needs_two_pairs() -> None:
    assert math.isnan(minimal_detectable_effect(0.01, 1))
    assert math.isnan(minimal_detectable_effect(math.nan, 5))
    assert minimal_detectable_effect(0.0, 5) == 0.0


# Sample sizes of the one-sample t test in Cohen 1988 and in R's power.t.test(type = "one.sample"), rounded up.
@pytest.mark.parametrize(("d", "power", "n"), [(0.2, 0.8, 199), (0.5, 0.8, 34), (0.8, 0.8, 15), (0.5, 0.9, 44)])
def test_pairs_needed_equals_published_tables(d: float, power: float, n: int) -> None:
    assert pairs_needed(1.0, d, power=power) == n
    assert pairs_needed(0.004, -0.004 * d, power=power) == n


@settings(max_examples=30)
@given(st.integers(2, 200))
def test_so_many_pairs_are_needed_for_what_so_many_detect(n: int) -> None:
    effect = minimal_detectable_effect(1.0, n)
    assert pairs_needed(1.0, effect * 1.0001) == n
    if n > 2:
        assert pairs_needed(1.0, effect * 0.9999) == n + 1


def test_pairs_that_no_study_has_are_not_counted() -> None:
    assert pairs_needed(1.0, 1e-6) is None
    assert pairs_needed(1.0, 0.0) is None
    assert pairs_needed(math.nan, 1.0) is None
    assert pairs_needed(1.0, math.nan) is None
    assert pairs_needed(0.0, 0.1) == 2
