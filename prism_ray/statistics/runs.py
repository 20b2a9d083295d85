"""Arms compared: summaries with intervals, paired effects, and what can be concluded from how many runs.

A pair is a run of an arm and a run of the baseline with the same cell type, fold and seed. Pairs are treated as
independent draws: runs of different folds share most training genes, so over folds an interval is somewhat too short.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from prism_ray.errors import Fault, InputError

LEVEL = 0.95
"""Confidence level of every interval."""

Key = TypeVar("Key", bound=Hashable)
NAN = float("nan")


@dataclass(frozen=True)
class Summary:
    """Several runs of one arm.

    Attributes:
        n: number of runs.
        mean: nan without a run.
        std: sample standard deviation (n - 1); nan with fewer than two runs.
        low, high: t interval of the mean; nan with fewer than two runs.
    """

    n: int
    mean: float
    std: float
    low: float
    high: float

    @property
    def standard_error(self) -> float:
        """Standard error of the mean; nan with fewer than two runs."""
        return self.std / math.sqrt(self.n) if self.n else NAN


@dataclass(frozen=True)
class PairedEffect:
    """Arm minus baseline over pairs of runs.

    Attributes:
        difference: mean, std and t interval of the differences, and their number.
        t: mean difference in standard errors; infinite where all differences are the same and not 0, 0 where all are 0.
        p: two-sided p of the paired t test; nan with fewer than two pairs, 1 where all differences are 0.
    """

    difference: Summary
    t: float
    p: float


@dataclass(frozen=True)
class SignTest:
    """Exact two-sided sign test.

    Attributes:
        n: differences that are not 0.
        n_positive: those above 0.
        p: two-sided p; 1 where no difference is left.
        floor: smallest p that n differences can give, 2^(1 - n): with five pairs 0.0625.
    """

    n: int
    n_positive: int
    p: float
    floor: float


def summarize(values: ArrayLike, level: float = LEVEL) -> Summary:
    """Mean, sample standard deviation and t interval of (n,) finite values.

    Raises:
        InputError: a value is not finite; what has no value is to be counted, not averaged.
    """
    sample = finite_sample(values)
    n = len(sample)
    if n == 0:
        return Summary(0, NAN, NAN, NAN, NAN)
    if n == 1:
        return Summary(1, float(sample[0]), NAN, NAN, NAN)
    # Equal values are told apart from rounding: their mean may differ from them in the last bit.
    constant = sample.min() == sample.max()
    mean = float(sample[0] if constant else sample.mean())
    std = 0.0 if constant else float(sample.std(ddof=1))
    half = float(stats.t.ppf(0.5 + level / 2, n - 1)) * std / math.sqrt(n)
    return Summary(n, mean, std, mean - half, mean + half)


def paired_differences(arm: Mapping[Key, float], baseline: Mapping[Key, float]) -> NDArray[np.float64]:
    """(n,) arm minus baseline for each key that both have, in the arm's order."""
    return np.array([value - baseline[key] for key, value in arm.items() if key in baseline], dtype=np.float64)


def paired_effect(differences: ArrayLike, level: float = LEVEL) -> PairedEffect:
    """Paired t test of (n,) differences.

    Raises:
        InputError: a difference is not finite.
    """
    summary = summarize(differences, level)
    if summary.n < 2:
        return PairedEffect(summary, NAN, NAN)
    if summary.std == 0:
        # Nothing varies: SciPy gives nan for no difference at all, which a table could not tell from too few pairs.
        same = summary.mean == 0
        return PairedEffect(summary, 0.0 if same else math.copysign(math.inf, summary.mean), 1.0 if same else 0.0)
    t = summary.mean / summary.standard_error
    return PairedEffect(summary, t, float(2 * stats.t.sf(abs(t), summary.n - 1)))


def sign_test(differences: ArrayLike) -> SignTest:
    """Exact sign test of (n,) differences; zeros are left out.

    Raises:
        InputError: a difference is not finite.
    """
    sample = finite_sample(differences)
    n, n_positive = int(np.count_nonzero(sample)), int((sample > 0).sum())
    if n == 0:
        return SignTest(0, 0, 1.0, 1.0)
    tail = float(stats.binom.cdf(min(n_positive, n - n_positive), n, 0.5))
    return SignTest(n, n_positive, min(1.0, 2 * tail), 2.0 ** (1 - n))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p of several tests, in their order; a p of nan was not tested, stays nan and does not count."""
    tested = sorted((index for index, p in enumerate(p_values) if not math.isnan(p)), key=lambda index: p_values[index])
    adjusted = [NAN] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(tested):
        highest = max(highest, min(1.0, (len(tested) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def one_standard_error(
    positions: Sequence[float], summaries: Sequence[Summary], direction: Literal["minimize", "maximize"]
) -> float | None:
    """Simplest setting that does as well: smallest position whose mean is within one standard error of the best mean.

    Args:
        positions: place of each setting on an axis from simple to complex.
        summaries: its runs.
        direction: whether less or more is better.

    Returns:
        The position; None where the best setting has fewer than two runs.
    """
    sign = 1.0 if direction == "minimize" else -1.0
    settings = [(position, one) for position, one in zip(positions, summaries, strict=True) if one.n > 0]
    if not settings:
        return None
    best = min(settings, key=lambda item: sign * item[1].mean)[1]
    if best.n < 2:
        return None
    limit = sign * best.mean + best.standard_error
    return min(position for position, one in settings if sign * one.mean <= limit)


def probability_of_improvement(
    arm: ArrayLike, baseline: ArrayLike, direction: Literal["minimize", "maximize"]
) -> float:
    """Probability that a run of the arm is better than a run of the baseline; a tie counts half.

    Source: the U statistic of Mann and Whitney over n m; Agarwal et al. 2021 (arXiv 2108.13264).

    Args:
        arm: (n,) values of its runs.
        baseline: (m,) values of its runs; not paired with them.
        direction: whether less or more is better.

    Returns:
        From 0 to 1; nan where either has no run.

    Raises:
        InputError: a value is not finite.
    """
    ours, theirs = finite_sample(arm), finite_sample(baseline)
    if not (len(ours) and len(theirs)):
        return NAN
    gain = ours[:, None] - theirs[None, :]
    if direction == "minimize":
        gain = -gain
    return float((gain > 0).mean() + 0.5 * (gain == 0).mean())


def finite_sample(values: ArrayLike) -> NDArray[np.float64]:
    """(n,) float64 values.

    Raises:
        InputError: a value is not finite; what has no value is to be counted, not averaged.
    """
    sample = np.asarray(values, dtype=np.float64).reshape(-1)
    if not np.isfinite(sample).all():
        fault = Fault(
            "statistics", f"{int((~np.isfinite(sample)).sum())} of {len(sample)} values are not finite numbers"
        )
        raise InputError(str(fault), [fault])
    return sample
