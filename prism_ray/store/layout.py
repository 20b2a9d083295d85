"""Columns and row groups of a store's files, and the genes that a row group is made of.

n genes of a row group, L positions in bp, K scalars.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from prism_ray.store.projection import SCALARS
from prism_ray.store.rings import SEQUENCE, Ring, ring_bounds, rings_of
from prism_ray.store.schema import Dtype

ROW_GROUP_ROWS = 64
"""Genes of a row group: the least that is read at a time, and a block of genes when the order of training is mixed."""
_ROW_GROUP_BYTES = 640 << 20
_FEWEST_ROWS = 16
_ARROW_TYPES = {"float32": pa.float32(), "float16": pa.float16(), "uint8": pa.uint8()}


def row_groups(n_genes: int, row_bytes: int) -> Iterator[slice]:
    """Rows of each row group: 64 genes, or a half or a quarter of that where so many do not fit in 640 MiB.

    A row group is held in memory as a whole while it is written, and twice while it is compressed.

    Args:
        n_genes: rows of the file.
        row_bytes: bytes of a row before compression.
    """
    n_rows = ROW_GROUP_ROWS
    while n_rows > _FEWEST_ROWS and n_rows * row_bytes > _ROW_GROUP_BYTES:
        n_rows //= 2
    for start in range(0, n_genes, n_rows):
        yield slice(start, min(start + n_rows, n_genes))


@dataclass(frozen=True)
class Layout:
    """Columns of every file of a store.

    Attributes:
        window_bp: length of the stored window, L.
        signals: name and stored type of each signal, in order.
        has_sequence: whether there is DNA.
        n_scalars: K; there is no column for them where 0.
    """

    window_bp: int
    signals: tuple[tuple[str, Dtype], ...]
    has_sequence: bool
    n_scalars: int

    @property
    def rings(self) -> tuple[Ring, ...]:
        """Rings of the window, inner first."""
        return rings_of(ring_bounds(self.window_bp))

    @property
    def row_bytes(self) -> int:
        """Bytes of one gene's windows before compression."""
        widths = [np.dtype(dtype).itemsize for _, dtype in self.signals] + [1] * self.has_sequence
        return self.window_bp * sum(widths)

    def row_groups(self, n_genes: int) -> Iterator[slice]:
        """Rows of each row group of a file of `n_genes`."""
        return row_groups(n_genes, self.row_bytes)

    def schema(self) -> Any:
        """Arrow schema of a file."""
        fields = [
            pa.field("gene_id", pa.string()),
            pa.field("gene_name", pa.string()),
            pa.field("tss", pa.int64()),
            pa.field("strand", pa.string()),
            pa.field("label", pa.float32()),
        ]
        if self.n_scalars:
            fields.append(pa.field(SCALARS, pa.fixed_shape_tensor(pa.float32(), (self.n_scalars,))))
        return pa.schema([*fields, *self._track_fields()])

    def track_schema(self) -> Any:
        """Arrow schema of a file of added signals: the genes they belong to, and their rings."""
        return pa.schema([pa.field("gene_id", pa.string()), *self._track_fields()])

    def _track_fields(self) -> list[Any]:
        return [
            pa.field(ring.column(name), pa.fixed_shape_tensor(_ARROW_TYPES[dtype], (ring.width,)))
            for name, dtype in self._tracks()
            for ring in self.rings
        ]

    def _tracks(self) -> list[tuple[str, str]]:
        return [(SEQUENCE, "uint8")] * self.has_sequence + [(name, dtype) for name, dtype in self.signals]


@dataclass(frozen=True)
class GeneRows:
    """Genes of one row group, sorted by TSS and gene id.

    Attributes:
        genes: columns gene_id, gene_name, tss (0-based), strand, label (transformed).
        scalars: (n, K) float32.
        sequence: (n, L) uint8, A C G T N = 0 1 2 3 4; None where the store has no DNA.
        signals: (n, L) float32 by name, transformed.
    """

    genes: pd.DataFrame
    scalars: NDArray[np.float32]
    sequence: NDArray[np.uint8] | None
    signals: Mapping[str, NDArray[np.float32]]
