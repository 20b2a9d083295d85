"""Metrics on resampled genes, of many runs at once: a draw of genes is a weight a gene, and sums over it are products.

M runs, N genes, K draws; `counts` (K, N) float64: how often a draw has each gene. All is computed in float64 and equals
the functions of `metrics.py` on the drawn genes but for the order in which numbers are added.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from prism_ray.machine import usable_cpus
from prism_ray.metrics import METRICS

Floats = NDArray[np.float64]
Order = tuple[NDArray[np.int64], NDArray[np.int64]]

_GENES_AT_ONCE = 500
_RANKED_AT_ONCE = 64
"""Draws that are ranked at once: their counts and weights of a few thousand genes fit a core's cache."""
_LEAST_LEFT = 1e-3
"""Part of a sum of squares that must be left around its mean: below that its digits are lost, and the draw is computed
gene by gene."""


def on_draws(metric: str, predictions: Floats, label: Floats, counts: Floats) -> Floats:
    """(K, M) metric of each run on each draw of genes; nan where it is not defined.

    Args:
        metric: a name of `METRICS`.
        predictions: (M, N).
        label: (N,).
        counts: (K, N).
    """
    if metric in _LOSSES:
        return np.asarray(counts @ _LOSSES[metric](predictions - label).T / counts.sum(axis=1, keepdims=True))
    return _CORRELATIONS[metric](predictions, label, counts)


def without_each(metric: str, predictions: Floats, label: Floats) -> Floats:
    """(N, M) metric of each run on all genes but one; see `on_draws`."""
    n_genes = len(label)
    if metric in _LOSSES:
        losses = _LOSSES[metric](predictions - label)
        return np.asarray((losses.sum(axis=1, keepdims=True) - losses).T / (n_genes - 1))
    parts = []
    for start in range(0, n_genes, _GENES_AT_ONCE):
        genes = np.arange(start, min(start + _GENES_AT_ONCE, n_genes))
        counts = np.ones((len(genes), n_genes))
        counts[genes - start, genes] = 0.0
        parts.append(on_draws(metric, predictions, label, counts))
    return np.concatenate(parts)


def _pearson(predictions: Floats, label: Floats, counts: Floats) -> Floats:
    """By sums of values, squares and products around the means of all genes, which a draw's own means lie close to."""
    number = counts.sum(axis=1, keepdims=True)
    x, y = _centred(predictions), _centred(label[None])
    sum_x, sum_xx, sum_xy = np.split(counts @ np.concatenate([x, x**2, x * y]).T, 3, axis=1)  # (K, M) each
    sum_y, sum_yy = np.split(counts @ np.concatenate([y, y**2]).T, 2, axis=1)  # (K, 1) each
    around_x, around_y = sum_xx - sum_x**2 / number, sum_yy - sum_y**2 / number
    with np.errstate(invalid="ignore", divide="ignore"):
        found = (sum_xy - sum_x * sum_y / number) / np.sqrt(around_x * around_y)
    lost = (around_x <= _LEAST_LEFT * sum_xx) | (around_y <= _LEAST_LEFT * sum_yy)
    for draw, run in zip(*np.nonzero(lost), strict=True):
        genes = np.repeat(np.arange(len(label)), counts[draw].astype(np.int64))
        pair = predictions[run, genes], label[genes]
        found[draw, run] = METRICS["pearson_r"].function(*pair) if len(genes) > 1 else np.nan
    return np.asarray(np.clip(found, -1.0, 1.0))


def _centred(values: Floats) -> Floats:
    """(M, N) values around the mean of their row, the largest 1; nan in rows that do not vary or are not finite."""
    with np.errstate(invalid="ignore", divide="ignore"):
        # Scaled before anything is summed or squared, so that huge values do not overflow and tiny ones do not vanish.
        scaled = values / np.abs(values).max(axis=1, keepdims=True)
        centred = scaled - scaled.mean(axis=1, keepdims=True)
        centred /= np.abs(centred).max(axis=1, keepdims=True)
    centred[(values.min(axis=1) == values.max(axis=1)) | ~np.isfinite(values).all(axis=1)] = np.nan
    return np.asarray(centred)


def _spearman(predictions: Floats, label: Floats, counts: Floats) -> Floats:
    """By ranks within each draw, equal values sharing the mean of theirs; in whole numbers, so with no rounding."""
    found = np.full((len(counts), len(predictions)), np.nan)
    if not np.isfinite(label).all():
        return found
    runs = [run for run, row in enumerate(predictions) if np.isfinite(row).all()]
    # Threads: sorting, sums of NumPy and the compiled loop let each other run.
    with ThreadPoolExecutor(usable_cpus()) as pool:
        by_label, *by_run = pool.map(_order, [label, *predictions[runs]])
        parts = pool.map(
            lambda start: _ranked(by_label, by_run, counts[start : start + _RANKED_AT_ONCE]),
            range(0, len(counts), _RANKED_AT_ONCE),
        )
        found[:, runs] = np.concatenate(list(parts))
    return np.asarray(np.clip(found, -1.0, 1.0))


def _ranked(by_label: Order, by_run: Sequence[Order], counts: Floats) -> Floats:
    """(K, M) correlation of the ranks of each run with those of the label."""
    from prism_ray.statistics.rank_sums import rank_sums, rank_weights  # bring numba's compiler, for this metric alone

    found = np.empty((len(counts), len(by_run)))
    drawn = np.ascontiguousarray(counts.T)
    # With the label's ranks around 0, the prediction's need not be.
    weights, spread, spread_y = rank_weights(*by_label, drawn)
    for run, order in enumerate(by_run):
        products, ties = rank_sums(*order, drawn, weights)
        with np.errstate(invalid="ignore", divide="ignore"):
            root = np.sqrt(spread - ties / 3) * np.sqrt(spread_y)
            found[:, run] = np.where(root > 0, products / root, np.nan)
    return found


def _order(values: Floats) -> Order:
    """(N,) genes by ascending value, and (G + 1,) where each group of equal values starts among them, and N."""
    genes = np.argsort(values, kind="stable")
    ordered = values[genes]
    is_new = np.concatenate([[True], ordered[1:] > ordered[:-1], [True]])
    return genes, np.flatnonzero(is_new)


_LOSSES: dict[str, Callable[[Floats], Floats]] = {"mse": np.square, "mae": np.abs}
"""Metrics that are means over genes of a loss of the error."""
_CORRELATIONS: dict[str, Callable[[Floats, Floats, Floats], Floats]] = {"pearson_r": _pearson, "spearman_r": _spearman}
