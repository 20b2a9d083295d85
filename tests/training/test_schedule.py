"""The published schedule, in closed form."""

import itertools
import math

import pytest

from prism_ray.config import OptimizerConfig
from prism_ray.training.schedule import learning_rate

PUBLISHED = OptimizerConfig()


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (0, 1.0e-5),
        (2_500, (1.0e-5 + 5.0e-4) / 2),
        (5_000, 5.0e-4),
        (27_500, (5.0e-4 + 1.0e-4) / 2),
        (50_000, 1.0e-4),
    ],
)
def test_published_protocol(step: int, expected: float) -> None:
    assert learning_rate(PUBLISHED, step, 50_000) == pytest.approx(expected, rel=1e-12)


def test_rises_then_falls_without_a_jump() -> None:
    rates = [learning_rate(PUBLISHED, step, 1000) for step in range(1000)]
    top = rates.index(max(rates))
    assert top == 100
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert max(abs(b - a) for a, b in itertools.pairwise(rates)) < 6e-6


def test_without_warm_up_starts_at_the_top() -> None:
    optimizer = OptimizerConfig(warmup_fraction=0.0)
    assert learning_rate(optimizer, 0, 10) == optimizer.learning_rate


def test_a_single_step_has_a_rate() -> None:
    assert math.isfinite(learning_rate(PUBLISHED, 0, 1))
