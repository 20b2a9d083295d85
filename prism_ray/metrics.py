"""Metrics of predicted against observed expression, and the table that says what each one is.

B genes: every function takes two (B,) arrays and returns one number computed in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prism_ray.errors import Fault, InputError

Direction = Literal["minimize", "maximize"]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class MetricInfo:
    """What a metric is.

    Attributes:
        formula: how it is computed; p is the prediction, y the label.
        unit: unit of its value, where the label is log10(1 + CAGE) or another log expression.
        direction: whether less or more is better.
        function: computes it from prediction and label.
    """

    formula: str
    unit: str
    direction: Direction
    function: Callable[[ArrayLike, ArrayLike], float]


def mse(prediction: ArrayLike, label: ArrayLike) -> float:
    """Mean squared error, in squared units of the label.

    Raises:
        InputError: the arrays are not (B,) with the same B >= 1.
    """
    predicted, observed = _pair(prediction, label, least=1)
    return float(np.mean((predicted - observed) ** 2))


def mae(prediction: ArrayLike, label: ArrayLike) -> float:
    """Mean absolute error, in units of the label.

    Raises:
        InputError: the arrays are not (B,) with the same B >= 1.
    """
    predicted, observed = _pair(prediction, label, least=1)
    return float(np.mean(np.abs(predicted - observed)))


def pearson_r(prediction: ArrayLike, label: ArrayLike) -> float:
    """Pearson's correlation; nan where prediction or label is constant or not finite, since it is not defined there.

    Raises:
        InputError: the arrays are not (B,) with the same B >= 2.
    """
    predicted, observed = _pair(prediction, label, least=2)
    return _correlation(predicted, observed)


def spearman_r(prediction: ArrayLike, label: ArrayLike) -> float:
    """Spearman's rank correlation, ties given their mean rank; nan where prediction or label is constant or not finite.

    Raises:
        InputError: the arrays are not (B,) with the same B >= 2.
    """
    predicted, observed = _pair(prediction, label, least=2)
    if not (np.isfinite(predicted).all() and np.isfinite(observed).all()):
        # Ranks would hide what is not a number.
        return float("nan")
    return _correlation(_mean_ranks(predicted), _mean_ranks(observed))


METRICS: dict[str, MetricInfo] = {
    "mse": MetricInfo("mean((p - y)^2)", "label unit squared", "minimize", mse),
    "mae": MetricInfo("mean(|p - y|)", "label unit", "minimize", mae),
    "pearson_r": MetricInfo("cov(p, y) / (std(p) std(y))", "none", "maximize", pearson_r),
    "spearman_r": MetricInfo("pearson_r of the mean ranks of p and y", "none", "maximize", spearman_r),
}
"""Every metric by its name without the split: `test/mse` is `mse` on the test genes."""

COSTS: dict[str, str] = {
    "cost/train_s": "seconds in training steps, on the machine that trained; over all attempts",
    "cost/n_parameters": "trained numbers in the network",
}
"""What a run costs, by its whole name; of each, less is better."""


def regression_metrics(prediction: ArrayLike, label: ArrayLike) -> dict[str, float]:
    """Every metric of `METRICS` by name.

    Args:
        prediction: (B,) predicted values.
        label: (B,) observed values.

    Raises:
        InputError: the arrays are not (B,) with the same B >= 2.
    """
    return {name: info.function(prediction, label) for name, info in METRICS.items()}


def direction_of(metric: str) -> Direction | None:
    """Direction of a metric named `split/name` or of a cost, or None where neither table holds it."""
    if metric in COSTS:
        return "minimize"
    info = METRICS.get(metric.rsplit("/", 1)[-1])
    return info.direction if info else None


def _pair(prediction: ArrayLike, label: ArrayLike, least: int) -> tuple[Floats, Floats]:
    predicted = np.asarray(prediction, dtype=np.float64)
    observed = np.asarray(label, dtype=np.float64)
    if predicted.ndim != 1 or predicted.shape != observed.shape:
        _refuse(
            f"prediction has shape {predicted.shape} and label {observed.shape}",
            "give two arrays of one value a gene, of the same length",
        )
    if len(predicted) < least:
        _refuse(f"there are {len(predicted)} genes", f"this metric needs at least {least}")
    return predicted, observed


def _refuse(problem: str, fix: str) -> None:
    fault = Fault("metrics", problem, fix)
    raise InputError(str(fault), [fault])


def _correlation(first: Floats, second: Floats) -> float:
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        return float("nan")
    # A constant array is told by its values: its centred sum of squares may be a rounding error above 0.
    if first.min() == first.max() or second.min() == second.max():
        return float("nan")
    return float(np.clip(_unit(first) @ _unit(second), -1.0, 1.0))


def _unit(values: Floats) -> Floats:
    """(B,) centred values of norm 1."""
    # Scaled before anything is summed or squared, so that huge values do not overflow and tiny ones do not vanish.
    scaled = values / np.abs(values).max()
    centred = scaled - scaled.mean()
    centred /= np.abs(centred).max()
    return np.asarray(centred / np.linalg.norm(centred), dtype=np.float64)


def _mean_ranks(values: Floats) -> Floats:
    """(B,) ranks from 1, equal values sharing the mean of their ranks."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2.0)[inverse.reshape(-1)], dtype=np.float64)
