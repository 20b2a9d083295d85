"""Metrics on resampled genes, of many runs at once: a draw of genes is a weight a gene, and sums over it are products.

M runs, N genes, K draws; `counts` (K, N) float64: how often a draw has each gene. All is computed in float64 and equals
the functions of `metrics.py` on the drawn genes but for the order in which numbers are added.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from prism_ray.metrics import METRICS

Floats = NDArray[np.float64]
Whole = NDArray[np.int64]

_GENES_AT_ONCE = 500
_RANKED_AT_ONCE = 64
"""Draws that are ranked at once: their counts and those of a few thousand genes fit a core's cache."""
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
    by_label = _Order(label)
    orders = [(run, _Order(row)) for run, row in enumerate(predictions) if np.isfinite(row).all()]
    for start in range(0, len(counts), _RANKED_AT_ONCE):
        drawn = counts[start : start + _RANKED_AT_ONCE].astype(np.int64)
        alike = by_label.sums(drawn)
        spread_each, spread_y = _spread(drawn), _spread(alike)
        # Twice the rank, less its mean: with the label's around 0, the prediction's need not be.
        around = 2 * np.cumsum(alike, axis=1) - alike - drawn.sum(axis=1, keepdims=True)
        weighted = drawn * around[:, by_label.group]
        for run, order in orders:
            alike, weights = order.sums(drawn), order.sums(weighted)
            products = 2 * np.einsum("kg,kg->k", weights, np.cumsum(alike, axis=1))
            products -= np.einsum("kg,kg->k", weights, alike)
            spread_x = spread_each if order.has_no_ties else _spread(alike)
            with np.errstate(invalid="ignore", divide="ignore"):
                root = np.sqrt(spread_x) * np.sqrt(spread_y)
                found[start : start + _RANKED_AT_ONCE, run] = np.where(root > 0, products / root, np.nan)
    return np.asarray(np.clip(found, -1.0, 1.0))


class _Order:
    """Genes in the order of a value, those of an equal one as a group of G groups.

    Attributes:
        group: (N,) number of each gene's group, by ascending value.
        has_no_ties: whether each gene is a group of its own.
    """

    def __init__(self, values: Floats) -> None:
        self._genes = np.argsort(values, kind="stable")
        ordered = values[self._genes]
        is_new = np.concatenate([[True], ordered[1:] > ordered[:-1]])
        self._starts = np.flatnonzero(is_new)
        self.has_no_ties = len(self._starts) == len(values)
        self.group = np.empty(len(values), dtype=np.int64)
        self.group[self._genes] = np.cumsum(is_new) - 1

    def sums(self, table: Whole) -> Whole:
        """(K, G) sums over each group of the columns of a table (K, N)."""
        columns = np.take(table, self._genes, axis=1)
        return columns if self.has_no_ties else np.asarray(np.add.reduceat(columns, self._starts, axis=1))


def _spread(alike: Whole) -> Floats:
    """(K,) four times the sum of squares of a draw's ranks around their mean, of the numbers (K, G) of equal ones.

    That of n different ranks, less what each tie takes away.
    """
    return np.asarray((alike.sum(axis=1) ** 3 - (alike * alike * alike).sum(axis=1)) / 3)


_LOSSES: dict[str, Callable[[Floats], Floats]] = {"mse": np.square, "mae": np.abs}
"""Metrics that are means over genes of a loss of the error."""
_CORRELATIONS: dict[str, Callable[[Floats, Floats, Floats], Floats]] = {"pearson_r": _pearson, "spearman_r": _spearman}
