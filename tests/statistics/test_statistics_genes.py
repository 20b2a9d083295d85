"""Intervals over genes, and over runs and genes: SciPy, closed forms, and coverage on simulated draws."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from prism_ray.errors import InputError
from prism_ray.metrics import METRICS
from prism_ray.statistics import (
    FoldPredictions,
    gene_and_run_effects,
    gene_effect,
    gene_effects,
    genes,
    paired_effect,
    run_and_gene_effect,
)


def simulated(n_runs: int, n_genes: int, seed: int, skew: float = 0.0) -> FoldPredictions:
    """Predictions whose arm is closer to the label than the baseline."""
    draws = np.random.default_rng(seed)
    label = draws.normal(2, 1, n_genes) + skew * draws.exponential(1, n_genes) ** 3
    baseline = label + draws.normal(0, 0.5, (n_runs, n_genes))
    return FoldPredictions(label + 0.8 * (baseline - label) + draws.normal(0, 0.05, (n_runs, n_genes)), baseline, label)


def losses_of(per_run_and_gene: np.ndarray) -> FoldPredictions:
    """Predictions whose squared errors differ by just these (R, N) numbers, all above -1."""
    ones = np.ones_like(per_run_and_gene)
    return FoldPredictions(np.sqrt(1 + per_run_and_gene), ones, np.zeros(per_run_and_gene.shape[1]))


def test_bca_equals_scipy_on_the_same_draws() -> None:
    sample = np.random.default_rng(3).exponential(1, 40)
    oracle = stats.bootstrap((sample,), np.mean, n_resamples=3000, method="BCa", random_state=5)
    without = (sample.sum() - sample) / 39
    low, high = genes.bca_interval(oracle.bootstrap_distribution, sample.mean(), without.mean() - without, 0.95)
    assert (low, high) == (
        pytest.approx(oracle.confidence_interval.low, rel=1e-9),
        pytest.approx(oracle.confidence_interval.high, rel=1e-9),
    )


def test_the_interval_over_genes_equals_scipys() -> None:
    fold = simulated(1, 200, seed=1, skew=0.5)
    gain = (fold.arm[0] - fold.label) ** 2 - (fold.baseline[0] - fold.label) ** 2
    oracle = stats.bootstrap((gain,), np.mean, n_resamples=20_000, method="BCa", random_state=1).confidence_interval
    effect = gene_effect([fold], "mse", n_draws=20_000)
    width = oracle.high - oracle.low
    assert effect.difference == pytest.approx(gain.mean())
    assert effect.low == pytest.approx(oracle.low, abs=0.03 * width)
    assert effect.high == pytest.approx(oracle.high, abs=0.03 * width)
    assert (effect.n_runs, effect.n_genes) == (1, 200)


def test_runs_of_a_fold_share_their_genes() -> None:
    """Five equal runs know no more of other genes than one does."""
    one = simulated(1, 300, seed=2)
    five = FoldPredictions(np.repeat(one.arm, 5, axis=0), np.repeat(one.baseline, 5, axis=0), one.label)
    alone, together = gene_effect([one], "mse"), gene_effect([five], "mse")
    assert (together.low, together.high) == (pytest.approx(alone.low), pytest.approx(alone.high))


@pytest.mark.parametrize("metric", list(METRICS))
def test_the_interval_is_that_of_the_metric_on_drawn_genes(metric: str) -> None:
    """The same draws, one after the other, and each gene left out in turn."""
    fold = simulated(3, 40, seed=4)
    function = METRICS[metric].function

    def difference(rows: np.ndarray) -> float:
        pairs = zip(fold.arm, fold.baseline, strict=True)
        label = fold.label[rows]
        return float(np.mean([function(arm[rows], label) - function(base[rows], label) for arm, base in pairs]))

    every = np.arange(40)
    draws = np.random.default_rng([3, 0, 40]).integers(0, 40, (200, 40))
    replicates = np.array([difference(rows) for rows in draws])
    without = np.array([difference(np.delete(every, gene)) for gene in every])
    low, high = genes.bca_interval(replicates, difference(every), without.mean() - without, 0.95)
    effect = gene_effect([fold], metric, n_draws=200, seed=3)
    assert (effect.difference, effect.low, effect.high) == pytest.approx((difference(every), low, high), rel=1e-10)


@pytest.mark.parametrize("metric", list(METRICS))
def test_a_difference_is_a_mean_over_folds_of_means_over_runs(metric: str) -> None:
    folds = [simulated(3, 40, seed=4), simulated(2, 25, seed=5)]
    function = METRICS[metric].function
    by_fold = [
        np.mean(
            [function(a, fold.label) - function(b, fold.label) for a, b in zip(fold.arm, fold.baseline, strict=True)]
        )
        for fold in folds
    ]
    effect = gene_effect(folds, metric, n_draws=100)
    assert effect.difference == pytest.approx(np.mean(by_fold))
    assert effect.low < effect.difference < effect.high
    swapped = gene_effect([FoldPredictions(f.baseline, f.arm, f.label) for f in folds], metric, n_draws=100)
    assert swapped.difference == pytest.approx(-effect.difference)


def test_the_same_seed_gives_the_same_interval() -> None:
    fold = simulated(2, 50, seed=6)
    assert gene_effect([fold], "mse", seed=3) == gene_effect([fold], "mse", seed=3)
    assert gene_effect([fold], "mse", seed=3) != gene_effect([fold], "mse", seed=4)


def test_where_genes_are_alike_the_joint_interval_is_the_paired_t_interval() -> None:
    per_run = np.array([0.010, 0.014, 0.006, 0.013, 0.009])
    effect = run_and_gene_effect([losses_of(np.repeat(per_run[:, None], 100, axis=1))], "mse", n_draws=20_000)
    oracle = paired_effect(per_run).difference
    assert effect.difference == pytest.approx(oracle.mean)
    assert effect.high - effect.low == pytest.approx(oracle.high - oracle.low, rel=0.03)


def test_where_runs_are_alike_the_joint_interval_is_one_over_genes() -> None:
    per_gene = np.random.default_rng(7).normal(0.1, 0.05, 400)
    effect = run_and_gene_effect([losses_of(np.repeat(per_gene[None], 4, axis=0))], "mse", n_draws=20_000)
    low, high = stats.t.interval(0.95, 399, loc=per_gene.mean(), scale=stats.sem(per_gene))
    assert (effect.low, effect.high) == (pytest.approx(low, rel=0.02), pytest.approx(high, rel=0.02))


def test_the_joint_interval_covers_the_truth_as_often_as_it_says() -> None:
    """Crossed runs and genes, each with a part of its own, five runs: 95 % of intervals hold the mean."""
    draws = np.random.default_rng(8)
    held = []
    for trial in range(400):
        parts = draws.normal(0, 0.02, (5, 1)) + draws.normal(0, 0.2, (1, 120)) + draws.normal(0, 0.1, (5, 120))
        effect = run_and_gene_effect([losses_of(0.1 + np.clip(parts, -0.9, None))], "mse", n_draws=300, seed=trial)
        held.append(effect.low <= 0.1 <= effect.high)
    assert 0.925 <= np.mean(held) <= 0.99


def test_one_run_says_nothing_of_other_runs() -> None:
    effect = run_and_gene_effect([simulated(1, 50, seed=9)], "mse")
    assert math.isnan(effect.low)
    assert math.isfinite(gene_effect([simulated(1, 50, seed=9)], "mse").low)


def test_arms_that_predict_the_same_differ_by_nothing() -> None:
    fold = simulated(2, 30, seed=10)
    same = gene_effect([FoldPredictions(fold.arm, fold.arm, fold.label)], "mse")
    assert (same.difference, same.low, same.high) == (0.0, 0.0, 0.0)


def test_what_cannot_be_compared_is_refused() -> None:
    fold = simulated(2, 30, seed=11)
    with pytest.raises(InputError, match="of no fold"):
        gene_effect([], "mse")
    with pytest.raises(InputError, match="'rmse' is not a metric"):
        run_and_gene_effect([fold], "rmse")
    with pytest.raises(InputError, match="have shapes"):
        FoldPredictions(fold.arm[:1], fold.baseline, fold.label)
    with pytest.raises(InputError, match="at least one run and two genes"):
        FoldPredictions(fold.arm[:, :1], fold.baseline[:, :1], fold.label[:1])


@pytest.mark.parametrize("metric", ["mse", "pearson_r"])
def test_arms_together_have_the_intervals_that_each_has_alone(metric: str) -> None:
    arms = [
        [simulated(3, 40, seed=12), simulated(2, 25, seed=13)],
        [simulated(2, 40, seed=14)],
        [simulated(1, 25, seed=15), simulated(4, 25, seed=16), simulated(2, 40, seed=17)],
    ]
    over_genes = gene_effects(arms, metric, n_draws=150, seed=2)
    both = gene_and_run_effects(arms, metric, n_draws=150, seed=2)
    for folds, genes_alone, pair in zip(arms, over_genes, both, strict=True):
        alone = [one(folds, metric, n_draws=150, seed=2) for one in (gene_effect, run_and_gene_effect)]
        assert vars(genes_alone) == pytest.approx(vars(alone[0]), rel=1e-9)
        for effect, expected in zip(pair, alone, strict=True):
            assert vars(effect) == pytest.approx(vars(expected), rel=1e-9, nan_ok=True)
    assert gene_effects([], metric) == []
    with pytest.raises(InputError, match="of no fold"):
        gene_and_run_effects([*arms, []], metric)


def test_folds_of_an_arm_have_draws_of_their_own() -> None:
    """The same fold twice, as if it were two: half of the variance, which shared draws would leave whole."""
    fold = simulated(1, 300, seed=18)
    once, twice = gene_effect([fold], "mse"), gene_effect([fold, fold], "mse")
    assert (twice.high - twice.low) / (once.high - once.low) == pytest.approx(0.5**0.5, rel=0.06)
