"""Would the difference hold on other genes? Intervals from resampled genes, and from resampled runs and genes.

The paired t test over seeds answers what another training would give on the same test genes. Here the genes are the
sample: all runs of a fold predict the same genes, so a draw of genes is a draw for all of them.

R runs (seeds) of a fold, N test genes of it, K draws.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from prism_ray.errors import Fault, InputError
from prism_ray.metrics import METRICS
from prism_ray.statistics.runs import LEVEL, NAN, summarize

N_DRAWS = 4000
"""Draws of an interval; the ends of a 95 % interval then move by about 3 % of its width from seed to seed."""
_DRAWS_AT_ONCE = 500

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class FoldPredictions:
    """Predictions of two arms for the test genes of one fold, by runs of the same seeds.

    Attributes:
        arm, baseline: (R, N) predictions; row r of both has the same seed.
        label: (N,) observed values.
    """

    arm: Floats
    baseline: Floats
    label: Floats

    def __post_init__(self) -> None:
        shapes = self.arm.shape, self.baseline.shape, self.label.shape
        if self.arm.ndim != 2 or shapes[1] != shapes[0] or shapes[2] != shapes[0][1:]:
            fault = Fault("predictions", f"have shapes {shapes}", "give (R, N), (R, N) and (N,)")
            raise InputError(str(fault), [fault])
        if min(self.arm.shape) < 1 or self.arm.shape[1] < 2:
            fault = Fault("predictions", f"are of shape {self.arm.shape}", "give at least one run and two genes")
            raise InputError(str(fault), [fault])


@dataclass(frozen=True)
class GeneEffect:
    """Arm minus baseline of a metric, with an interval over genes.

    Attributes:
        difference: mean over folds of the mean over their runs.
        low, high: interval.
        n_runs, n_genes: that it rests on, over all folds.
    """

    difference: float
    low: float
    high: float
    n_runs: int
    n_genes: int


def gene_effect(
    folds: Sequence[FoldPredictions], metric: str, *, level: float = LEVEL, n_draws: int = N_DRAWS, seed: int = 0
) -> GeneEffect:
    """Difference of a metric with its BCa bootstrap interval over genes; the runs are taken as they are.

    Source: bias-corrected and accelerated intervals, Efron 1987.

    Args:
        folds: at least one.
        metric: a name of `METRICS`, for example `mse`.
        n_draws: resampled sets of genes.
        seed: of the draws; the same seed gives the same interval.

    Raises:
        InputError: no fold, or an unknown metric.
    """
    return gene_effects([folds], metric, level=level, n_draws=n_draws, seed=seed)[0]


def gene_effects(
    arms: Sequence[Sequence[FoldPredictions]],
    metric: str,
    *,
    level: float = LEVEL,
    n_draws: int = N_DRAWS,
    seed: int = 0,
) -> list[GeneEffect]:
    """`gene_effect` of several arms, each with its folds: in less time, since they share their draws of genes.

    An arm's interval does not depend on the others.

    Raises:
        InputError: an arm without a fold, or an unknown metric.
    """
    _check(arms, metric)
    drawn = _drawn_for_all(arms, metric, n_draws, seed)
    return [_over_genes(folds, by_genes, metric, level) for folds, by_genes in zip(arms, drawn, strict=True)]


def _over_genes(folds: Sequence[FoldPredictions], drawn: Sequence[Floats], metric: str, level: float) -> GeneEffect:
    """Of the (K, R) differences on resampled genes of each fold."""
    observed = float(np.mean([_differences(fold, metric, None).mean() for fold in folds]))
    replicates = np.mean([by_genes.mean(axis=1) for by_genes in drawn], axis=0)
    influence = np.concatenate([_influence(fold, metric) for fold in folds])
    return GeneEffect(observed, *bca_interval(replicates, observed, influence, level), *_counts(folds))


def run_and_gene_effect(
    folds: Sequence[FoldPredictions], metric: str, *, level: float = LEVEL, n_draws: int = N_DRAWS, seed: int = 0
) -> GeneEffect:
    """Difference of a metric with an interval over other trainings on other genes at once (hierarchical).

    Each draw takes genes and runs anew. Of R runs R - 1 are drawn, which makes the spread of their mean unbiased
    (McCarthy and Snowden 1985): five drawn of five would give four fifths of the variance. The half width is the
    standard deviation of the draws times the t quantile of as many degrees of freedom as its parts have
    (Satterthwaite): a percentile interval of five runs would be too short. Where genes vary little it becomes the
    paired t interval.

    Args, raises: as of `gene_effect`; the interval is nan where no fold has two runs.
    """
    return gene_and_run_effects([folds], metric, level=level, n_draws=n_draws, seed=seed)[0][1]


def gene_and_run_effects(
    arms: Sequence[Sequence[FoldPredictions]],
    metric: str,
    *,
    level: float = LEVEL,
    n_draws: int = N_DRAWS,
    seed: int = 0,
) -> list[tuple[GeneEffect, GeneEffect]]:
    """`gene_effect` and `run_and_gene_effect` of several arms, of the same draws of genes; see `gene_effects`."""
    _check(arms, metric)
    return [
        (
            _over_genes(folds, by_genes, metric, level),
            _over_runs_and_genes(folds, by_genes, metric, level, np.random.default_rng([seed, len(folds)])),
        )
        for folds, by_genes in zip(arms, _drawn_for_all(arms, metric, n_draws, seed), strict=True)
    ]


def _over_runs_and_genes(
    folds: Sequence[FoldPredictions], drawn: Sequence[Floats], metric: str, level: float, draws: np.random.Generator
) -> GeneEffect:
    """Of the (K, R) differences on resampled genes of each fold."""
    n_draws = len(drawn[0])
    observed, total = 0.0, np.zeros(n_draws)
    parts: list[tuple[float, int]] = []
    for fold, by_genes in zip(folds, drawn, strict=True):
        per_run = _differences(fold, metric, None)
        observed += float(per_run.mean()) / len(folds)
        n_runs, n_genes = fold.arm.shape
        n_drawn = max(1, n_runs - 1)
        chosen = draws.integers(0, n_runs, (n_draws, n_drawn))
        total += np.take_along_axis(by_genes, chosen, axis=1).mean(axis=1) / len(folds)
        weight = len(folds) ** -2
        parts.append((weight * float(by_genes.mean(axis=1).var()), n_genes - 1))
        if n_runs > 1:
            parts.append((weight * summarize(per_run).standard_error ** 2, n_runs - 1))
    if all(fold.arm.shape[0] < 2 for fold in folds):
        return GeneEffect(observed, NAN, NAN, *_counts(folds))
    half = float(stats.t.ppf(0.5 + level / 2, _freedom(parts))) * float(total.std(ddof=1))
    return GeneEffect(observed, observed - half, observed + half, *_counts(folds))


def _freedom(parts: Sequence[tuple[float, int]]) -> float:
    """Degrees of freedom of a sum of variances, by Satterthwaite; of (variance, degrees of freedom) each."""
    known = [(variance, freedom) for variance, freedom in parts if freedom > 0]
    denominator = sum(variance**2 / freedom for variance, freedom in known)
    return sum(variance for variance, _ in known) ** 2 / denominator if denominator > 0 else math.inf


def bca_interval(replicates: Floats, observed: float, influence: Floats, level: float) -> tuple[float, float]:
    """Bias-corrected and accelerated interval.

    Args:
        replicates: (K,) statistic of each draw.
        observed: statistic of the sample.
        influence: (n,) mean of the statistics that leave a member out, minus the one that leaves this member out.
        level: confidence level.

    Returns:
        Low and high end; both `observed` where the draws do not vary.
    """
    if replicates.min() == replicates.max():
        return observed, observed
    below = (np.count_nonzero(replicates < observed) + np.count_nonzero(replicates <= observed)) / 2 / len(replicates)
    # All draws on one side would make it infinite.
    bias = float(stats.norm.ppf(min(max(below, 0.5 / len(replicates)), 1 - 0.5 / len(replicates))))
    scale = float((influence**2).sum()) ** 1.5
    acceleration = float((influence**3).sum()) / (6 * scale) if scale > 0 else 0.0
    ends = []
    for tail in (0.5 - level / 2, 0.5 + level / 2):
        z = bias + float(stats.norm.ppf(tail))
        ends.append(float(stats.norm.cdf(bias + z / (1 - acceleration * z))))
    low, high = np.quantile(replicates, ends)
    return float(low), float(high)


def _check(arms: Sequence[Sequence[FoldPredictions]], metric: str) -> None:
    if not all(arms):
        fault = Fault("predictions", "are of no fold", "give at least one")
        raise InputError(str(fault), [fault])
    if metric not in METRICS:
        fault = Fault("metric", f"{metric!r} is not a metric", f"use one of {', '.join(METRICS)}")
        raise InputError(str(fault), [fault])


def _counts(folds: Sequence[FoldPredictions]) -> tuple[int, int]:
    return sum(fold.arm.shape[0] for fold in folds), sum(len(fold.label) for fold in folds)


def _gene_losses(fold: FoldPredictions, metric: str) -> Floats | None:
    """(R, N) difference of each gene's loss where the metric is a mean over genes; None where it is not."""
    if metric == "mse":
        return np.asarray((fold.arm - fold.label) ** 2 - (fold.baseline - fold.label) ** 2)
    if metric == "mae":
        return np.asarray(np.abs(fold.arm - fold.label) - np.abs(fold.baseline - fold.label))
    return None


def _differences(fold: FoldPredictions, metric: str, genes: NDArray[np.int64] | None) -> Floats:
    """(R,) difference of the metric on some genes (repeats allowed), or on all."""
    function = METRICS[metric].function
    rows = slice(None) if genes is None else genes
    label = fold.label[rows]
    pairs = zip(fold.arm, fold.baseline, strict=True)
    return np.array([function(arm[rows], label) - function(baseline[rows], label) for arm, baseline in pairs])


def _drawn_for_all(
    arms: Sequence[Sequence[FoldPredictions]], metric: str, n_draws: int, seed: int
) -> list[list[Floats]]:
    """By arm and fold, (K, R) difference of the metric on resampled genes.

    Draws are a function of the seed, the fold's place among its arm's and its number of genes: folds of one place and
    number, over all arms, are multiplied with the same draws in one product.
    """
    found: list[list[Floats]] = [[np.empty(0)] * len(folds) for folds in arms]
    alike: dict[tuple[int, int], list[int]] = {}
    for number, folds in enumerate(arms):
        for place, fold in enumerate(folds):
            alike.setdefault((place, len(fold.label)), []).append(number)
    for (place, n_genes), numbers in alike.items():
        folds_here = [arms[number][place] for number in numbers]
        drawn = _drawn(folds_here, metric, n_draws, np.random.default_rng([seed, place, n_genes]))
        for number, by_genes in zip(numbers, drawn, strict=True):
            found[number][place] = by_genes
    return found


def _drawn(folds: Sequence[FoldPredictions], metric: str, n_draws: int, draws: np.random.Generator) -> list[Floats]:
    """By fold, (K, R) difference of the metric on resampled genes; all folds have the same number of them, N."""
    n_genes = len(folds[0].label)
    losses = [_gene_losses(fold, metric) for fold in folds]
    summed = np.concatenate([part for part in losses if part is not None]).T if losses[0] is not None else None
    parts = []
    for start in range(0, n_draws, _DRAWS_AT_ONCE):
        n_now = min(_DRAWS_AT_ONCE, n_draws - start)
        genes = draws.integers(0, n_genes, (n_now, n_genes))
        if summed is None:
            by_fold = [[_differences(fold, metric, chosen) for chosen in genes] for fold in folds]
            parts.append(np.concatenate([np.array(rows) for rows in by_fold], axis=1))
            continue
        places = genes + n_genes * np.arange(n_now)[:, None]
        counts = np.bincount(places.ravel(), minlength=n_now * n_genes).reshape(n_now, n_genes)
        # As real numbers, which have a fast product.
        parts.append(counts.astype(np.float64) @ summed / n_genes)
    ends = np.cumsum([fold.arm.shape[0] for fold in folds])[:-1]
    return np.split(np.concatenate(parts), ends, axis=1)


def _influence(fold: FoldPredictions, metric: str) -> Floats:
    """(N,) how much more the difference would be with a gene than without it, around their mean in the fold."""
    n_genes = len(fold.label)
    losses = _gene_losses(fold, metric)
    if losses is not None:
        by_gene = losses.mean(axis=0)
        without = (by_gene.sum() - by_gene) / (n_genes - 1)
    else:
        others = np.arange(n_genes)
        without = np.array([_differences(fold, metric, np.delete(others, gene)).mean() for gene in range(n_genes)])
    return np.asarray(without.mean() - without)
