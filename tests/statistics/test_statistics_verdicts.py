"""No difference that matters, and what may be said of a claim."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from prism_ray.errors import InputError
from prism_ray.statistics import Expectation, Verdict, equivalence_test, holm, judge

varied = st.lists(st.floats(-2, 2), min_size=2, max_size=12).filter(lambda v: np.ptp(v) > 1e-2)


@given(varied, st.floats(0.01, 3))
def test_equivalence_equals_two_one_sided_tests_of_scipy(sample: list[float], margin: float) -> None:
    found = equivalence_test(sample, margin)
    above = stats.ttest_1samp(sample, -margin, alternative="greater").pvalue
    below = stats.ttest_1samp(sample, margin, alternative="less").pvalue
    assert found.p == pytest.approx(max(above, below), rel=1e-6)
    if abs(found.p - 0.05) > 1e-6:
        assert (found.p < 0.05) == (-margin < found.low and found.high < margin)


def test_equivalence_without_spread_or_pairs() -> None:
    assert equivalence_test([0.1, 0.1], 0.2).p == 0.0
    assert equivalence_test([0.3, 0.3], 0.2).p == 1.0
    assert math.isnan(equivalence_test([0.1], 0.2).p)


@pytest.mark.parametrize("margin", [0.0, -1.0, math.nan, math.inf])
def test_a_margin_is_above_0(margin: float) -> None:
    with pytest.raises(InputError, match="is no margin"):
        equivalence_test([0.1, 0.2], margin)


LOWER = [-0.010, -0.012, -0.009, -0.011, -0.010]
NOISE = [0.010, -0.012, 0.009, -0.008, 0.002]
TINY = [0.0001, -0.0001, 0.0002, -0.0002, 0.0001]
TINY_LOWER = [-0.0011, -0.0010, -0.0009, -0.0010, -0.0011]


@pytest.mark.parametrize(
    ("differences", "expectation", "margin", "verdict"),
    [
        (LOWER, "better", None, "supported"),
        (LOWER, "worse", None, "contradicted"),
        (LOWER, "better", 0.005, "supported"),
        (LOWER, "same", 0.005, "contradicted"),
        (LOWER, "same", 0.020, "supported"),
        (NOISE, "better", None, "inconclusive"),
        (NOISE, "worse", 0.002, "inconclusive"),
        (NOISE, "same", 0.002, "inconclusive"),
        (TINY, "better", 0.002, "equivalent"),
        (TINY, "same", 0.002, "supported"),
        # Lower beyond doubt, and too little to matter: the margin was declared for this.
        (TINY_LOWER, "better", 0.002, "equivalent"),
        (TINY_LOWER, "better", None, "supported"),
        ([-0.01], "better", None, "inconclusive"),
        ([], "same", 0.01, "inconclusive"),
    ],
)
def test_verdicts(differences: list[float], expectation: Expectation, margin: float | None, verdict: Verdict) -> None:
    assert judge(differences, expectation, "minimize", margin=margin).verdict == verdict
    mirrored = judge([-value for value in differences], expectation, "maximize", margin=margin)
    assert mirrored.verdict == verdict


def test_a_verdict_follows_the_corrected_p() -> None:
    alone = judge(LOWER[:3], "better", "minimize")
    assert alone.verdict == "supported"
    (corrected, *_) = holm([alone.p, *[0.9] * 200])
    together = judge(LOWER[:3], "better", "minimize", p_corrected=corrected)
    assert (together.verdict, together.p) == ("inconclusive", corrected)


def test_an_open_question_says_what_would_settle_it() -> None:
    judgement = judge(NOISE, "better", "minimize", margin=0.002)
    assert judgement.n_needed is not None
    assert judgement.n_needed > len(NOISE)
    assert judgement.detectable > 0.002
    assert judgement.low < judgement.difference < judgement.high


def test_no_difference_cannot_be_claimed_without_a_margin() -> None:
    with pytest.raises(InputError, match="margin: is missing"):
        judge(NOISE, "same", "minimize")


def test_under_no_difference_wrong_verdicts_are_at_most_nominal() -> None:
    draws = np.random.default_rng(1).normal(0, 1, (1000, 5))
    verdicts = [judge(sample, "better", "minimize").verdict for sample in draws]
    for wrong in ("supported", "contradicted"):
        assert np.mean([verdict == wrong for verdict in verdicts]) == pytest.approx(0.025, abs=0.015)  # 3 std errors


def test_at_the_margin_no_difference_is_claimed_at_most_nominally() -> None:
    draws = np.random.default_rng(2).normal(1.0, 0.3, (1000, 5))
    supported = np.mean([judge(sample, "same", "minimize", margin=1.0).verdict == "supported" for sample in draws])
    assert supported <= 0.05 + 0.021
