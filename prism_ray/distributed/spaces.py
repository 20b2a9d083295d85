"""Our domains in Optuna's terms. A study file knows nothing of Optuna; this is the only place that translates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from prism_ray.study.space import Choice, Dimension, Domain, IntRange, LogUniform, Scalar, Subset, Uniform


def distribution_of(domain: Domain) -> BaseDistribution:
    """Optuna's distribution of the same values; a subset is a choice among its encoded members."""
    if isinstance(domain, Uniform):
        return FloatDistribution(domain.low, domain.high)
    if isinstance(domain, LogUniform):
        return FloatDistribution(domain.low, domain.high, log=True)
    if isinstance(domain, IntRange):
        return IntDistribution(domain.low, domain.high)
    if isinstance(domain, Choice):
        return CategoricalDistribution(domain.options)
    if isinstance(domain, Subset):
        # Trackers and Ray Tune keep numbers and text, not lists.
        return CategoricalDistribution([domain.encode(members) for members in domain.members()])
    raise TypeError(f"no distribution for {type(domain).__name__}")


def ask_values(trial: optuna.Trial, space: Sequence[Dimension]) -> dict[str, Scalar]:
    """Encoded value of each setting that this trial varies, by dotted path.

    A setting whose condition does not hold is not asked for. What the trial was asked before, it answers again.
    """
    encoded: dict[str, Scalar] = {}
    decoded: dict[str, Any] = {}
    for dimension in space:
        if dimension.is_varied(decoded):
            value = _suggest(trial, dimension.path, distribution_of(dimension.domain))
            encoded[dimension.path] = value
            decoded[dimension.path] = dimension.domain.decode(value)
    return encoded


def _suggest(trial: optuna.Trial, name: str, distribution: BaseDistribution) -> Scalar:
    if isinstance(distribution, FloatDistribution):
        return trial.suggest_float(name, distribution.low, distribution.high, log=distribution.log)
    if isinstance(distribution, IntDistribution):
        return trial.suggest_int(name, distribution.low, distribution.high)
    assert isinstance(distribution, CategoricalDistribution)
    value = trial.suggest_categorical(name, distribution.choices)
    assert value is not None
    return value
