"""From a claim and the runs to a verdict, by a rule that is written down before the runs.

The rule, at a confidence level of 95 %:

- A claim that an arm is better (or worse) is `equivalent` where a margin was declared and the difference is shown to
  lie within it: too small to matter, whatever its sign. Else it is `supported` where the corrected p is under 5 % and
  the difference has the claimed sign, and `contradicted` where it has the other one.
- A claim that an arm makes no difference is `supported` where the difference is shown to lie within the margin, and
  `contradicted` where the whole interval lies outside of it.
- Everything else is `inconclusive`: the runs settle nothing, and the smallest difference that they would have found
  says how much they could have settled.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from numpy.typing import ArrayLike

from prism_ray.errors import Fault, InputError
from prism_ray.statistics.equivalence import equivalence_test
from prism_ray.statistics.power import minimal_detectable_effect, pairs_needed
from prism_ray.statistics.runs import LEVEL, paired_effect

Expectation = Literal["better", "worse", "same"]
Verdict = Literal["supported", "contradicted", "equivalent", "inconclusive"]


@dataclass(frozen=True)
class Judgement:
    """A verdict and what it rests on.

    Attributes:
        verdict: see the rule above.
        n_pairs: pairs of runs.
        difference, low, high: mean difference, arm minus baseline, with its t interval; nan where not defined.
        p: p that decided on a difference, corrected for the other claims.
        p_equivalent: p of the test for a difference within the margin; nan without a margin.
        detectable: smallest true difference found with a power of 80 %.
        n_needed: pairs that would find the declared margin, or without one the difference that was seen, with a power
            of 80 %; None where no number of runs is worth it.
    """

    verdict: Verdict
    n_pairs: int
    difference: float
    low: float
    high: float
    p: float
    p_equivalent: float
    detectable: float
    n_needed: int | None


def judge(
    differences: ArrayLike,
    expectation: Expectation,
    direction: Literal["minimize", "maximize"],
    *,
    margin: float | None = None,
    p_corrected: float | None = None,
    level: float = LEVEL,
) -> Judgement:
    """Verdict on a claim about an arm from its (n,) paired differences to the baseline.

    Args:
        expectation: what is claimed of the arm.
        direction: whether less or more of the metric is better.
        margin: largest difference that does not matter, in the metric's unit; needed to claim `same`.
        p_corrected: p of the difference after correction for the study's other claims; the paired t test's where not
            given.

    Raises:
        InputError: a difference is not finite, the margin is not above 0, or `same` is claimed without one.
    """
    if expectation == "same" and margin is None:
        fault = Fault(
            "margin", "is missing", "a claim of no difference needs the largest difference that does not matter"
        )
        raise InputError(str(fault), [fault])
    effect = paired_effect(differences, level)
    summary = effect.difference
    p = effect.p if p_corrected is None else p_corrected
    equivalence = None if margin is None else equivalence_test(differences, margin, level)
    is_within = equivalence is not None and equivalence.p < 1 - level
    sign = 1.0 if (expectation == "better") == (direction == "maximize") else -1.0
    verdict: Verdict = "inconclusive"
    if expectation == "same":
        assert margin is not None
        if is_within:
            verdict = "supported"
        elif summary.low > margin or summary.high < -margin:
            verdict = "contradicted"
    elif is_within:
        verdict = "equivalent"
    elif p < 1 - level:
        verdict = "supported" if sign * summary.mean > 0 else "contradicted"
    return Judgement(
        verdict=verdict,
        n_pairs=summary.n,
        difference=summary.mean,
        low=summary.low,
        high=summary.high,
        p=p,
        p_equivalent=math.nan if equivalence is None else equivalence.p,
        detectable=minimal_detectable_effect(summary.std, summary.n, level),
        n_needed=pairs_needed(summary.std, summary.mean if margin is None else margin, level),
    )
