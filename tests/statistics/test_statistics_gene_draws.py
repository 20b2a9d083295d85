"""Metrics on weighted genes against the metric functions on the genes written out, ties and rounding included."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prism_ray.metrics import METRICS
from prism_ray.statistics.gene_draws import on_draws, without_each

N_RUNS, N_DRAWS = 3, 70


def expected(metric: str, predictions: np.ndarray, label: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """By the function of the metric, run by run and draw by draw; nan where too few genes are left for it."""
    least = 1 if metric in ("mse", "mae") else 2
    found = np.full((len(counts), len(predictions)), math.nan)
    for draw, number in enumerate(counts.astype(int)):
        genes = np.repeat(np.arange(len(label)), number)
        for run, row in enumerate(predictions):
            if len(genes) >= least:
                found[draw, run] = METRICS[metric].function(row[genes], label[genes])
    return found


def made(kind: str, n_genes: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Predictions, labels and draws: `plain`, with `ties`, of a `large` offset, or with an `outlier` far away."""
    random = np.random.default_rng(seed)
    label = random.gamma(1.2, 1.0, n_genes)
    predictions = label + random.normal(0, 0.5, (N_RUNS, n_genes))
    if kind == "ties":
        label, predictions = np.round(label), np.round(2 * predictions) / 2
    if kind == "large":
        predictions = 1e9 + predictions
    if kind == "outlier":
        predictions[:, 0] += 1e9
    counts = random.multinomial(n_genes, np.full(n_genes, 1 / n_genes), N_DRAWS)
    return predictions, label, counts.astype(np.float64)


@pytest.mark.parametrize("metric", list(METRICS))
@pytest.mark.parametrize(("kind", "accuracy"), [("plain", 1e-12), ("ties", 1e-12), ("large", 1e-6), ("outlier", 1e-12)])
def test_draws_equal_the_metric_on_their_genes(metric: str, kind: str, accuracy: float) -> None:
    predictions, label, counts = made(kind, 80, seed=1)
    found = on_draws(metric, predictions, label, counts)
    np.testing.assert_allclose(found, expected(metric, predictions, label, counts), rtol=accuracy, atol=accuracy)


@pytest.mark.parametrize("metric", list(METRICS))
def test_leaving_a_gene_out_is_leaving_it_out(metric: str) -> None:
    predictions, label, _ = made("ties", 30, seed=2)
    every = 1.0 - np.eye(30)
    expect = expected(metric, predictions, label, every)
    np.testing.assert_allclose(without_each(metric, predictions, label), expect, rtol=1e-12)


@given(
    values=st.lists(st.tuples(st.integers(-2, 2), st.integers(-2, 2)), min_size=2, max_size=6),
    seed=st.integers(0, 99),
    metric=st.sampled_from(sorted(METRICS)),
)
@settings(max_examples=150)
def test_of_few_genes_draws_may_leave_nothing_that_varies(
    values: list[tuple[int, int]], seed: int, metric: str
) -> None:
    pairs = np.array(values, dtype=np.float64)
    counts = np.random.default_rng(seed).multinomial(len(pairs), np.full(len(pairs), 1 / len(pairs)), 20) * 1.0
    found = on_draws(metric, pairs[:, 0][None], pairs[:, 1], counts)
    np.testing.assert_allclose(found, expected(metric, pairs[:, 0][None], pairs[:, 1], counts), atol=1e-12)


@pytest.mark.parametrize("metric", list(METRICS))
def test_runs_whose_predictions_are_no_numbers_have_no_metric_and_spoil_no_other(metric: str) -> None:
    predictions, label, counts = made("plain", 20, seed=3)
    whole = on_draws(metric, predictions, label, counts)
    predictions[1, 4] = math.nan
    found = on_draws(metric, predictions, label, counts)
    assert np.isnan(found[:, 1]).all()
    np.testing.assert_allclose(found[:, [0, 2]], whole[:, [0, 2]], rtol=1e-12)
