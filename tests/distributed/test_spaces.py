"""Our domains in Optuna: the same values, asked for under the same conditions."""

from __future__ import annotations

from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from prism_ray.distributed.spaces import ask_values, distribution_of
from prism_ray.study.space import Choice, Condition, Dimension, Domain, IntRange, LogUniform, Subset, Uniform

SPACE = (
    Dimension("model.n_states", IntRange(0, 3)),
    Dimension("loss.alpha", Uniform(0, 2), Condition("model.n_states", at_least=1)),
    Dimension("loss.beta", Uniform(0, 2), Condition("loss.alpha", at_least=1.0)),
    Dimension("data.signals", Subset(("h3k27ac", "dnase"), 0)),
    Dimension("data.window_bp", Choice((500, 1000))),
    Dimension("optimizer.learning_rate", LogUniform(1e-4, 1e-2)),
)


@pytest.mark.parametrize(
    ("domain", "expected"),
    [
        (Uniform(0, 2), FloatDistribution(0.0, 2.0)),
        (LogUniform(1e-4, 1e-2), FloatDistribution(1e-4, 1e-2, log=True)),
        (IntRange(0, 8), IntDistribution(0, 8)),
        (Choice((500, 1000)), CategoricalDistribution((500, 1000))),
        (Subset(("a", "b"), 0), CategoricalDistribution(("-", "a", "b", "a+b"))),
        (Subset(("a", "b"), 1), CategoricalDistribution(("a", "b", "a+b"))),
    ],
)
def test_distribution_of(domain: Domain, expected: object) -> None:
    assert distribution_of(domain) == expected


def new_study(seed: int = 0) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))


@settings(max_examples=50)
@given(st.integers(0, 10_000))
def test_values_are_in_their_domains_and_asked_for_where_conditions_hold(seed: int) -> None:
    values = ask_values(new_study(seed).ask(), SPACE)
    decoded: dict[str, Any] = {}
    for dimension in SPACE:
        if dimension.path in values:
            decoded[dimension.path] = dimension.domain.decode(values[dimension.path])
            assert dimension.domain.contains(decoded[dimension.path])
    assert ("loss.alpha" in values) == (decoded["model.n_states"] >= 1)
    assert ("loss.beta" in values) == (decoded.get("loss.alpha", 0.0) >= 1.0)
    assert all(isinstance(value, (bool, int, float, str)) for value in values.values())


def test_every_value_is_reached() -> None:
    study = new_study()
    seen = [ask_values(study.ask(), SPACE) for _ in range(200)]
    assert {values["data.signals"] for values in seen} == {"-", "h3k27ac", "dnase", "h3k27ac+dnase"}
    assert {values["model.n_states"] for values in seen} == {0, 1, 2, 3}
    assert {values["data.window_bp"] for values in seen} == {500, 1000}


def test_a_trial_that_was_asked_answers_the_same_again() -> None:
    trial = new_study().ask()
    assert ask_values(trial, SPACE) == ask_values(trial, SPACE)
