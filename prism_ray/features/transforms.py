"""The transforms that a catalog may ask for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

_FUNCTIONS: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
    "none": lambda values: values,
    "log1p": np.log1p,
    "log10p1": lambda values: np.log10(1.0 + values),
}


def transformed(values: NDArray[Any], transform: str) -> NDArray[Any]:
    """Values after `none`, `log1p` (natural logarithm) or `log10p1`; same shape and dtype.

    A caller makes sure that there is no value under 0 where a logarithm is asked for.
    """
    return _FUNCTIONS[transform](values)
