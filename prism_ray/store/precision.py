"""What storing a signal as float16 costs, measured, and the bound above which it is refused."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from prism_ray.errors import FaultList
from prism_ray.store.schema import StoreModel

LARGEST_FLOAT16 = 65504.0
LARGEST_LOSS = 1e-2
"""Highest root mean square rounding error allowed, as a part of the signal's standard deviation."""


class Rounding(StoreModel):
    """Sums over the values of a signal before they were rounded, and over the errors of rounding.

    Sums of parts can be added, so that a whole cell type is judged and not one chromosome.
    """

    n: int = 0
    """Values."""
    total: float = 0.0
    """Sum of the values."""
    total_squares: float = 0.0
    """Sum of their squares."""
    error_squares: float = 0.0
    """Sum of the squared differences between a value and what is stored."""
    largest: float = 0.0
    """Largest absolute value."""
    largest_error: float = 0.0
    """Largest absolute difference."""

    def __add__(self, other: Rounding) -> Rounding:
        return Rounding(
            n=self.n + other.n,
            total=self.total + other.total,
            total_squares=self.total_squares + other.total_squares,
            error_squares=self.error_squares + other.error_squares,
            largest=max(self.largest, other.largest),
            largest_error=max(self.largest_error, other.largest_error),
        )

    @property
    def loss(self) -> float:
        """Root mean square error as a part of the standard deviation, or of the size where all values are equal."""
        if self.error_squares == 0.0:
            return 0.0
        variance = self.total_squares / self.n - (self.total / self.n) ** 2
        # The difference of two large sums can be all rounding: below this part of the size it says nothing.
        scale = variance if variance > 1e-12 * self.total_squares / self.n else self.total_squares / self.n
        return math.sqrt(self.error_squares / self.n / scale)


def measure_rounding(values: NDArray[np.float32]) -> Rounding:
    """What float16 would make of values; one beyond its range counts as its end."""
    exact = values.astype(np.float64)
    error = exact - np.clip(values, -LARGEST_FLOAT16, LARGEST_FLOAT16).astype(np.float16)
    return Rounding(
        n=values.size,
        total=float(exact.sum()),
        total_squares=float(np.square(exact).sum()),
        error_squares=float(np.square(error).sum()),
        largest=float(np.abs(exact).max(initial=0.0)),
        largest_error=float(np.abs(error).max(initial=0.0)),
    )


def check_range(values: NDArray[np.float32], where: str, faults: FaultList) -> bool:
    """Whether all values are in float16's range; a fault where not."""
    largest = float(np.abs(values).max(initial=0.0))
    if largest <= LARGEST_FLOAT16:
        return True
    problem = f"has a value of size {largest:g}, float16 ends at {LARGEST_FLOAT16:g}"
    faults.add(where, problem, "set dtype: float32, or a transform such as log10p1")
    return False


def fits_float16(rounding: Rounding) -> bool:
    """Whether float16 holds all values, and loses no more of them than is allowed."""
    return rounding.largest <= LARGEST_FLOAT16 and rounding.loss <= LARGEST_LOSS


def check_loss(rounding: Rounding, where: str, faults: FaultList) -> None:
    """Add a fault where float16 loses more of a signal than `LARGEST_LOSS` of its standard deviation."""
    if rounding.loss > LARGEST_LOSS:
        problem = f"loses {rounding.loss:.2g} of its standard deviation as float16, at most {LARGEST_LOSS:g} is allowed"
        faults.add(where, problem, "set dtype: float32, or a transform that spreads the values")
