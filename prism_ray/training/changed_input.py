"""Genes with some of their inputs taken away: what a trained model does without a track.

N genes of the cell type, L positions in bp, S signals and K scalars that are taken away.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from prism_ray.config import RunConfig
from prism_ray.errors import ConfigError, FaultList, did_you_mean
from prism_ray.splits import Split
from prism_ray.store import GeneArrays
from prism_ray.training.collectives import sum_over_workers
from prism_ray.training.order import genes_a_batch, share_of_rows, shuffled_partners
from prism_ray.training.reporter import Placement
from prism_ray.training.sources import GeneReader, GeneTable


@dataclass(frozen=True)
class RemovedInputs:
    """Genes of a reader without some signals and scalars.

    Attributes:
        reader: where the genes come from.
        signals: (S,) columns that are taken away.
        scalars: (K,) columns.
        partner: (N,) row number of the gene whose values each gene gets; None where all get the same ones.
        profile: (L, S) float32 values of the signals instead; without effect where there are partners.
        level: (K,) float32 values of the scalars instead; likewise.
    """

    reader: GeneReader
    signals: NDArray[np.int64]
    scalars: NDArray[np.int64]
    partner: NDArray[np.int64] | None
    profile: NDArray[np.float32]
    level: NDArray[np.float32]

    @property
    def genes(self) -> GeneTable:
        """All genes: names and labels are as they were."""
        return self.reader.genes

    def chunks(self, rows: NDArray[np.int64], size: int) -> Generator[GeneArrays, None, None]:
        """Genes `rows` in their order, `size` at a time, with the other values in place."""
        with closing(self.reader.chunks(rows, size)) as own:
            if self.partner is None:
                for arrays in own:
                    arrays.signals[:, :, self.signals] = self.profile
                    arrays.scalars[:, self.scalars] = self.level
                    yield arrays
                return
            with closing(self.reader.chunks(self.partner[rows], size)) as others:
                for arrays, other in zip(own, others, strict=True):
                    arrays.signals[:, :, self.signals] = other.signals[:, :, self.signals]
                    arrays.scalars[:, self.scalars] = other.scalars[:, self.scalars]
                    yield arrays


def without_inputs(reader: GeneReader, config: RunConfig, split: Split, placement: Placement) -> GeneReader:
    """The genes as a run's `evaluation` section asks for them; the reader itself where nothing is taken away.

    Args:
        reader: of the genes that are evaluated, with the window that they are evaluated with.
        config: of the evaluation.
        split: of the reader's genes.
        placement: of this worker; the workers share the work of a mean.

    Raises:
        ConfigError: a signal or scalar that the genes do not have.
    """
    asked, genes = config.evaluation, reader.genes
    if not asked.signals and not asked.scalars:
        return reader
    faults = FaultList()
    signals = _columns(asked.signals, genes.signal_names, "evaluation.signals", faults)
    scalars = _columns(asked.scalars, genes.scalar_names, "evaluation.scalars", faults)
    faults.raise_if_any(ConfigError)
    profile = np.zeros((genes.window_bp, len(signals)), np.float32)
    level = np.zeros(len(scalars), np.float32)
    if asked.remove_by == "mean":
        profile, level = mean_inputs(reader, split.train, signals, scalars, placement)
    partner = shuffled_partners(split, len(genes.gene_id), config.seed) if asked.remove_by == "shuffle" else None
    return RemovedInputs(reader, signals, scalars, partner, profile, level)


def _columns(wanted: Sequence[str], names: Sequence[str], where: str, faults: FaultList) -> NDArray[np.int64]:
    for name in wanted:
        if name not in names:
            faults.add(where, f"the genes have no {name!r}", did_you_mean(name, names))
    return np.array([names.index(name) for name in wanted if name in names], dtype=np.int64)


def mean_inputs(
    reader: GeneReader,
    rows: NDArray[np.int64],
    signals: NDArray[np.int64],
    scalars: NDArray[np.int64],
    placement: Placement,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(L, S) mean profile of some signals and (K,) mean of some scalars over genes `rows`; equal on all workers."""
    window_bp = reader.genes.window_bp
    profile = np.zeros((window_bp, len(signals)), np.float64)
    level = np.zeros(len(scalars), np.float64)
    mine = rows[share_of_rows(len(rows), placement.rank, placement.n_workers)]
    with closing(reader.chunks(mine, genes_a_batch(window_bp))) as chunks:
        for arrays in chunks:
            profile += arrays.signals[:, :, signals].sum(axis=0, dtype=np.float64)
            level += arrays.scalars[:, scalars].sum(axis=0, dtype=np.float64)
    sums = torch.from_numpy(np.concatenate([profile.reshape(-1), level])).to(placement.device)
    means = (sum_over_workers(sums, placement) / len(rows)).cpu().numpy().astype(np.float32)
    return means[: profile.size].reshape(profile.shape), means[profile.size :]
