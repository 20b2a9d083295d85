"""How large an effect is against its noise, how small a one would have been found, and how many pairs would find it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from numpy.typing import ArrayLike
from scipy import optimize, special, stats

from prism_ray.statistics.runs import LEVEL, NAN, summarize

POWER = 0.8
"""Probability with which a minimal detectable effect is found."""
_MOST_PAIRS = 10_000
"""Above so many pairs the effect is not worth their cost, and the search for their number ends."""

_LARGE_T = 1e4
"""From here on a noncentrality is told by its limit, which is right to seven digits."""


@dataclass(frozen=True)
class EffectSize:
    """Mean difference in standard deviations of the differences.

    Attributes:
        d: Cohen's d of pairs, corrected for the bias of few pairs (Hedges); nan where not defined.
        low, high: interval of the true d, exact for normal differences; nan where not defined.
    """

    d: float
    low: float
    high: float


def effect_size(differences: ArrayLike, level: float = LEVEL) -> EffectSize:
    """Standardised effect of (n,) paired differences; nan with fewer than two, or where they do not vary.

    Source: Hedges 1981 for the correction; interval by inverting the noncentral t distribution.

    Raises:
        InputError: a difference is not finite.
    """
    summary = summarize(differences, level)
    if summary.n < 2 or summary.std == 0:
        return EffectSize(NAN, NAN, NAN)
    freedom, root = summary.n - 1, math.sqrt(summary.n)
    d = summary.mean / summary.std
    # Gamma(f/2) / (sqrt(f/2) Gamma((f-1)/2)); 0 at one degree of freedom, where the mean of d does not exist.
    correction = 0.0
    if freedom > 1:
        correction = math.exp(special.gammaln(freedom / 2) - special.gammaln((freedom - 1) / 2)) / math.sqrt(
            freedom / 2
        )
    low, high = (_noncentrality(d * root, freedom, tail) / root for tail in (0.5 + level / 2, 0.5 - level / 2))
    return EffectSize(d * correction if freedom > 1 else NAN, low, high)


def minimal_detectable_effect(std: float, n: int, level: float = LEVEL, power: float = POWER) -> float:
    """Smallest true mean difference that a paired t test over n pairs finds with probability `power`.

    Args:
        std: standard deviation of the differences.
        n: number of pairs.
        level: confidence level; the test's size is 1 - level, two-sided.
        power: probability of finding it.

    Returns:
        The effect in the unit of `std`; nan with fewer than two pairs or where `std` is nan.
    """
    if n < 2 or math.isnan(std):
        return NAN
    critical = float(stats.t.ppf(0.5 + level / 2, n - 1))
    highest = critical + 1.0
    while _power(highest, n, level) < power:
        highest *= 1.5
    shift = float(optimize.brentq(lambda value: _power(value, n, level) - power, 0.0, highest, xtol=1e-10))
    return shift * std / math.sqrt(n)


def pairs_needed(std: float, effect: float, level: float = LEVEL, power: float = POWER) -> int | None:
    """Fewest pairs with which a paired t test finds a true mean difference of `effect` with probability `power`.

    Args:
        std: standard deviation of the differences.
        effect: the difference to find, in the same unit; its sign does not matter.

    Returns:
        At least 2; None where more than 10,000 would be needed, or where an argument is nan or the effect 0.
    """
    if math.isnan(std) or math.isnan(effect) or effect == 0:
        return None

    def is_enough(n: int) -> bool:
        return std == 0 or _power(abs(effect) / std * math.sqrt(n), n, level) >= power

    if not is_enough(_MOST_PAIRS):
        return None
    too_few, enough = 1, 2
    while not is_enough(enough):
        too_few, enough = enough, min(2 * enough, _MOST_PAIRS)
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        too_few, enough = (too_few, middle) if is_enough(middle) else (middle, enough)
    return enough


def _power(shift: float, n: int, level: float) -> float:
    """Power of the two-sided paired t test over n pairs at a true effect of `shift` standard errors."""
    critical = float(stats.t.ppf(0.5 + level / 2, n - 1))
    upper = float(stats.nct.sf(critical, n - 1, shift))
    lower = float(stats.nct.cdf(-critical, n - 1, shift))
    # SciPy underflows to nan in a tail that is 0 to every digit that counts.
    return (1.0 if math.isnan(upper) else upper) + (0.0 if math.isnan(lower) else lower)


def _noncentrality(t: float, freedom: int, tail: float) -> float:
    """The noncentrality at which a t of `freedom` degrees of freedom is at or below `t` with probability `tail`."""
    if abs(t) > _LARGE_T:
        # There the noise of the mean is nothing beside that of the standard deviation, and SciPy gives nan.
        return t * math.sqrt(float(stats.chi2.ppf(1 - tail if t > 0 else tail, freedom)) / freedom)

    def missing(shift: float) -> float:
        below = float(stats.nct.cdf(t, freedom, shift))
        if math.isnan(below):
            # SciPy underflows to it far from `t`, where the probability is 0 or 1 to every digit that counts.
            below = float(shift < t)
        return below - tail

    return float(optimize.brentq(missing, *_bracket(missing, t), xtol=1e-10))


def _bracket(falling: Callable[[float], float], start: float) -> tuple[float, float]:
    """Two places around `start` between which a falling function changes its sign."""
    width = 1.0
    low = high = start
    while falling(low) < 0:
        low -= width
        width *= 1.5
    width = 1.0
    while falling(high) > 0:
        high += width
        width *= 1.5
    return low, high
