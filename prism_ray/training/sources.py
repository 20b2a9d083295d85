"""Where the loop takes genes from: arrays in memory, or anything that gives the same ones as they are needed.

N genes of the cell type, L positions in bp, S signals, K scalars.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from prism_ray.store import GeneArrays
from prism_ray.training.order import TrainingOrder

if TYPE_CHECKING:
    from prism_ray.model import InputShape


class NamedGenes(Protocol):
    """What a run's record says of its genes; `GeneArrays` and `GeneTable` both do."""

    @property
    def gene_id(self) -> NDArray[np.str_]:
        """(N,) text."""

    @property
    def chrom(self) -> NDArray[np.str_]:
        """(N,) text."""

    @property
    def label(self) -> NDArray[np.float32]:
        """(N,) float32."""

    @property
    def signal_names(self) -> tuple[str, ...]:
        """S names."""

    @property
    def scalar_names(self) -> tuple[str, ...]:
        """K names."""


@dataclass(frozen=True)
class GeneTable:
    """All genes of a run's cell type without what lies along their windows: little, whatever the window.

    Attributes:
        gene_id: (N,) text, in store order.
        chrom: (N,) text.
        label: (N,) float32.
        signal_names: S names of the inputs.
        scalar_names: K names of the inputs.
        sequence: whether the inputs have DNA.
        window_bp: L.
    """

    gene_id: NDArray[np.str_]
    chrom: NDArray[np.str_]
    label: NDArray[np.float32]
    signal_names: tuple[str, ...]
    scalar_names: tuple[str, ...]
    sequence: bool
    window_bp: int

    @property
    def inputs(self) -> InputShape:
        """Shape of the model's inputs."""
        # With PyTorch, which processes that only read genes do not load.
        from prism_ray.model import InputShape

        return InputShape(n_signals=len(self.signal_names), n_scalars=len(self.scalar_names), sequence=self.sequence)


class GeneReader(Protocol):
    """Gives the genes that a model is evaluated on."""

    @property
    def genes(self) -> GeneTable:
        """All genes, in store order: rows are numbers of genes in it."""

    def chunks(self, rows: NDArray[np.int64], size: int) -> Generator[GeneArrays, None, None]:
        """Genes `rows` in their order, `size` at a time; the last may be fewer. Writable arrays of their own."""


class GeneSource(GeneReader, Protocol):
    """Gives a run its genes. Equal sources give equal arrays in the same order, wherever they read."""

    def training_shares(
        self, order: TrainingOrder, steps: range, rank: int, n_workers: int
    ) -> Generator[GeneArrays, None, None]:
        """Genes of one worker for each of `steps`, in order; writable arrays of their own."""


Source = TypeVar("Source", bound=GeneReader)


@dataclass(frozen=True)
class MemorySource:
    """Genes whose arrays are in this process's memory, or in memory that it shares.

    Attributes:
        arrays: of all genes; never written to.
    """

    arrays: GeneArrays

    @property
    def genes(self) -> GeneTable:
        """The arrays without what lies along the windows."""
        arrays = self.arrays
        return GeneTable(
            gene_id=arrays.gene_id,
            chrom=arrays.chrom,
            label=arrays.label,
            signal_names=arrays.signal_names,
            scalar_names=arrays.scalar_names,
            sequence=arrays.sequence is not None,
            window_bp=arrays.window_bp,
        )

    def training_shares(
        self, order: TrainingOrder, steps: range, rank: int, n_workers: int
    ) -> Generator[GeneArrays, None, None]:
        """Copies of the rows of each step."""
        for step in steps:
            yield self.arrays.take(order.share(step, rank, n_workers))

    def chunks(self, rows: NDArray[np.int64], size: int) -> Generator[GeneArrays, None, None]:
        """Copies of the rows."""
        for start in range(0, len(rows), size):
            yield self.arrays.take(rows[start : start + size])


def as_source(genes: GeneArrays | Source) -> MemorySource | Source:
    """The source itself, or a source of the arrays."""
    return MemorySource(genes) if isinstance(genes, GeneArrays) else genes
