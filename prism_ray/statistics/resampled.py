"""Two arms on resampled genes: their difference in a metric on each draw, and without each gene.

R runs (seeds) of a fold, N test genes of it, K draws, M different runs with the same labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prism_ray.errors import Fault, InputError
from prism_ray.statistics.gene_draws import on_draws, without_each

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
class Resampled:
    """Arm minus baseline of a metric in one fold.

    Attributes:
        drawn: (K, R) on each draw of genes.
        without: (N,) mean over runs, on all genes but one.
    """

    drawn: Floats
    without: Floats


def resampled_folds(
    arms: Sequence[Sequence[FoldPredictions]], metric: str, n_draws: int, seed: int
) -> list[list[Resampled]]:
    """Each fold of each arm, resampled.

    Draws are a function of the seed, the fold's place among its arm's and its number of genes: folds of one place and
    number, over all arms, share them.

    Args:
        metric: a name of `METRICS`.
        n_draws: K.
    """
    found: list[dict[int, Resampled]] = [{} for _ in arms]
    alike: dict[tuple[int, int], list[int]] = {}
    for number, folds in enumerate(arms):
        for place, fold in enumerate(folds):
            alike.setdefault((place, len(fold.label)), []).append(number)
    for (place, n_genes), numbers in alike.items():
        draws = _counted_draws(n_genes, n_draws, np.random.default_rng([seed, place, n_genes]))
        folds_here = _of_the_same_draws([arms[number][place] for number in numbers], metric, draws)
        for number, resampled in zip(numbers, folds_here, strict=True):
            found[number][place] = resampled
    return [[by_place[place] for place in sorted(by_place)] for by_place in found]


def _counted_draws(n_genes: int, n_draws: int, draws: np.random.Generator) -> Iterator[Floats]:
    """Some draws at a time, (K, N): how often each has each gene, as real numbers, which have a fast product."""
    for start in range(0, n_draws, _DRAWS_AT_ONCE):
        n_now = min(_DRAWS_AT_ONCE, n_draws - start)
        places = draws.integers(0, n_genes, (n_now, n_genes)) + n_genes * np.arange(n_now)[:, None]
        counts = np.bincount(places.ravel(), minlength=n_now * n_genes).reshape(n_now, n_genes)
        yield counts.astype(np.float64)


class _Runs:
    """Different runs with the same labels: those of a baseline stand in many pairs and are computed once.

    Attributes:
        label: (N,).
        predictions: (N,) of each.
        drawn: (K, M) of the metric, some draws at a time.
    """

    def __init__(self, label: Floats) -> None:
        self.label = label
        self.predictions: list[Floats] = []
        self.drawn: list[Floats] = []
        self._known: dict[bytes, int] = {}

    def numbers(self, predictions: Floats) -> list[int]:
        """The run of each row of (R, N) predictions, a new one where there is none like it."""
        numbers = []
        for row in predictions:
            number = self._known.setdefault(row.tobytes(), len(self.predictions))
            if number == len(self.predictions):
                self.predictions.append(row)
            numbers.append(number)
        return numbers


def _of_the_same_draws(folds: Sequence[FoldPredictions], metric: str, draws: Iterator[Floats]) -> list[Resampled]:
    """Folds with the same number of genes."""
    kinds: dict[bytes, _Runs] = {}
    pairs = []
    for fold in folds:
        runs = kinds.setdefault(fold.label.tobytes(), _Runs(fold.label))
        pairs.append((runs, runs.numbers(fold.arm), runs.numbers(fold.baseline)))
    for counts in draws:
        for runs in kinds.values():
            runs.drawn.append(on_draws(metric, np.array(runs.predictions), runs.label, counts))
    values = {
        id(runs): (np.concatenate(runs.drawn), without_each(metric, np.array(runs.predictions), runs.label))
        for runs in kinds.values()
    }
    return [
        Resampled(drawn[:, arm] - drawn[:, baseline], (without[:, arm] - without[:, baseline]).mean(axis=1))
        for runs, arm, baseline in pairs
        for drawn, without in [values[id(runs)]]
    ]
