"""Whether a setting makes no difference that matters: absence of a significant effect does not show it, this does."""

from __future__ import annotations

import math
from dataclasses import dataclass

from numpy.typing import ArrayLike
from scipy import stats

from prism_ray.errors import Fault, InputError
from prism_ray.statistics.runs import LEVEL, NAN, summarize


@dataclass(frozen=True)
class Equivalence:
    """Two one-sided tests of paired differences against a margin (TOST).

    Attributes:
        margin: differences between -margin and margin do not matter.
        p: p of the weaker of the two tests; below 1 - level the true difference lies within the margin. nan with
            fewer than two pairs.
        low, high: interval of level 2 level - 1 (90 % at 95 %), which lies within the margin exactly where p is below
            1 - level; nan with fewer than two pairs.
    """

    margin: float
    p: float
    low: float
    high: float


def equivalence_test(differences: ArrayLike, margin: float, level: float = LEVEL) -> Equivalence:
    """Test that the true mean of (n,) paired differences lies within the margin.

    Source: Schuirmann 1987.

    Raises:
        InputError: a difference is not finite, or the margin is not above 0.
    """
    if not (math.isfinite(margin) and margin > 0):
        fault = Fault("margin", f"{margin} is no margin", "give the largest difference that does not matter, above 0")
        raise InputError(str(fault), [fault])
    summary = summarize(differences, 2 * level - 1)
    if summary.n < 2:
        return Equivalence(margin, NAN, NAN, NAN)
    if summary.std == 0:
        return Equivalence(margin, 0.0 if abs(summary.mean) < margin else 1.0, summary.low, summary.high)
    freedom, error = summary.n - 1, summary.standard_error
    above_lower = float(stats.t.sf((summary.mean + margin) / error, freedom))
    below_upper = float(stats.t.cdf((summary.mean - margin) / error, freedom))
    return Equivalence(margin, max(above_lower, below_upper), summary.low, summary.high)
