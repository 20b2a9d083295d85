"""Windows in the direction of transcription.

A window is cut as [tss - L/2, tss + L/2) whatever the strand. Turned, the window of a gene on the reverse strand reads
from its last base to its first, so that what is upstream of a gene comes first for every gene. The TSS base is at
position L/2 of a gene on the forward strand, and at L/2 - 1 of a turned one: both halves keep their length.

N genes, L positions in bp.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from prism_ray.features.sequence import reverse_complement

Scalar = TypeVar("Scalar", bound=np.generic)


def turn_sequence(codes: NDArray[np.uint8], strand: Sequence[str] | NDArray[Any]) -> NDArray[np.uint8]:
    """DNA windows in the direction of transcription: genes on `-` as reverse complement.

    Args:
        codes: (N, L) uint8, A C G T N = 0 1 2 3 4; its rows are changed in place.
        strand: (N,) + or -.

    Returns:
        `codes`.
    """
    turned = _on_reverse(codes, strand)
    codes[turned] = reverse_complement(codes[turned])
    return codes


def turn_track(values: NDArray[Scalar], strand: Sequence[str] | NDArray[Any]) -> NDArray[Scalar]:
    """Windows of a track in the direction of transcription: genes on `-` flipped.

    Args:
        values: (N, L); its rows are changed in place.
        strand: (N,) + or -.

    Returns:
        `values`.
    """
    turned = _on_reverse(values, strand)
    values[turned] = values[turned, ::-1]
    return values


def _on_reverse(windows: NDArray[Any], strand: Sequence[str] | NDArray[Any]) -> NDArray[np.int64]:
    """Rows of genes on the reverse strand.

    Raises:
        ValueError: a gene without a strand, or not one strand a row.
    """
    strands = np.asarray(strand, dtype=object)
    if strands.shape != windows.shape[:1]:
        raise ValueError(f"{len(windows)} windows and {strands.size} strands")
    minus = strands == "-"
    if not (minus | (strands == "+")).all():
        raise ValueError("a gene has no strand, so its window cannot be turned")
    return np.flatnonzero(minus)
