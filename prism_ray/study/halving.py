"""Successive halving, asynchronous: which trials of a search are stopped before their end.

Source: Li et al., A System for Massively Parallel Hyperparameter Tuning (MLSys 2020), in the form that only stops
trials and never pauses one: whoever comes to a rung is judged by who was there before.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from prism_ray.metrics import Direction


@dataclass(frozen=True)
class SuccessiveHalving:
    """The rule. A trial is judged once at each rung, against all trials that were judged there.

    Attributes:
        reduction: of this many trials at a rung, the best one goes on; 2 or more.
        min_fraction: part of a trial's steps at the first rung, above 0 and below 1; each further rung is
            `reduction` times as far.
    """

    reduction: int = 3
    min_fraction: float = 0.1

    def rungs(self, n_steps: int) -> tuple[int, ...]:
        """Finished steps at which a trial of `n_steps` is judged, in order; all of them before its end."""
        found: list[int] = []
        part = self.min_fraction * n_steps
        # Less a little, since 0.1 * 30 is more than 3 in floating point.
        while (step := math.ceil(part - 1e-9)) < n_steps:
            found.append(step)
            part *= self.reduction
        return tuple(dict.fromkeys(found))

    def rung_at(self, step: int, n_steps: int) -> int | None:
        """The last rung that a trial has reached after `step` steps; None before the first, and at its end."""
        if step >= n_steps:
            return None
        return max((rung for rung in self.rungs(n_steps) if rung <= step), default=None)

    def stops(self, value: float, others: Iterable[float], direction: Direction) -> bool:
        """Whether a trial of that value is stopped at a rung.

        Goes on: the best n // reduction of the n trials at the rung, itself included, and at least one; of equal
        values each.

        Args:
            value: of the trial at the rung.
            others: of the other trials judged at the same rung so far.
            direction: which values are better.
        """
        seen = list(others)
        n_better = sum(other < value if direction == "minimize" else other > value for other in seen)
        return n_better >= max(1, (len(seen) + 1) // self.reduction)
