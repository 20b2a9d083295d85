"""Optional faster readers, used where they give what the plain readers give, bit for bit.

The extra `fast` installs them; `PRISM_RAY_READERS=plain` turns them off.

bigWig: pybigtools reads spans of up to 500 kb 2 to 10 times as fast as pyBigWig. Longer spans of sparse tracks are
slower there, so pyBigWig reads those. Contact maps have no faster reader: hictkpy reads the square of a span no faster
than `contact_pixels` does.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prism_ray.features.windows import refuse

READERS_VARIABLE = "PRISM_RAY_READERS"
MAX_SPAN_BP = 500_000
_CHOICES = ("auto", "plain")


def fast_bigwig(path: Path) -> FastBigWig | None:
    """Faster reader of a bigWig that was checked before; None where none is installed, wanted, or can open it.

    Raises:
        CatalogError: `PRISM_RAY_READERS` is set to something unknown.
    """
    choice = os.environ.get(READERS_VARIABLE, _CHOICES[0])
    if choice not in _CHOICES:
        refuse(READERS_VARIABLE, f"{choice!r} is no choice of readers", f"set it to one of {', '.join(_CHOICES)}")
    if choice == "plain":
        return None
    try:
        import pybigtools
    except ImportError:
        return None
    try:
        return FastBigWig(pybigtools.open(str(path)))
    except BaseException as error:
        if not _is_damage(error):
            raise
        return None


def _is_damage(error: BaseException) -> bool:
    """Whether pybigtools means that the file is damaged: the plain reader then says so in its own words.

    By name, because a panic of Rust is no Exception and cannot be imported.
    """
    return isinstance(error, (OSError, ValueError)) or type(error).__name__ in ("PanicException", "BBIReadError")


class FastBigWig:
    """Values of a bigWig file by pybigtools.

    Attributes:
        backend: package that reads the file.
    """

    backend = "pybigtools"

    def __init__(self, opened: Any) -> None:
        self._file = opened
        # pybigtools gives float64: one buffer for all calls spares the system from clearing pages for each.
        self._buffer = np.empty(0, dtype=np.float64)

    def values(self, chrom: str, start: int, end: int) -> NDArray[np.float32] | None:
        """Values of [start, end) inside a chromosome of the file, (end - start,); NaN where there is none.

        None where the plain reader has to read: a long span, or a damaged file, of which it says what is wrong.
        """
        length = end - start
        if length > MAX_SPAN_BP:
            return None
        if length > len(self._buffer):
            self._buffer = np.empty(length, dtype=np.float64)
        values = self._buffer[:length]
        try:
            self._file.values(chrom, start, end, fillna=None, arr=values)
        except BaseException as error:
            if not _is_damage(error):
                raise
            return None
        # The file holds float32: nothing is lost.
        return values.astype(np.float32)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
