"""What a trial whose genes are streamed reads of the store: windows of its training, parts of each evaluation.

Loads neither Ray nor PyTorch, for plans. N genes of the cell type, G row groups.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from prism_ray.config import DataConfig, RunConfig, TrainingConfig
from prism_ray.distributed.projections import gene_bytes, gene_chroms
from prism_ray.splits import Split
from prism_ray.store import RowGroups, Store
from prism_ray.training.order import (
    TrainingOrder,
    genes_a_batch,
    share_of_rows,
    shuffled_partners,
    steps_between_validations,
)
from prism_ray.training.record import example_genes

_PART_BYTES = 256 << 20
"""Genes that are evaluated are read this much at a time: of 200 kb and three signals 96, where a row group has 64."""

Rows = NDArray[np.int64]


def parts_read(rows: Rows, size: int, data: DataConfig) -> Iterator[Rows]:
    """Genes that are evaluated `size` at a time, in the parts in which they are read: some times `size` genes each."""
    n_part = size * max(1, _PART_BYTES // (size * gene_bytes(data)))
    for start in range(0, len(rows), n_part):
        yield rows[start : start + n_part]


class StreamReads:
    """What trials read of a store where their genes are streamed, by all workers of a trial together.

    Where workers' shares of an evaluation meet within a row group, both read it.

    Args:
        n_workers: of each trial.
    """

    def __init__(self, store: Store, n_workers: int) -> None:
        self._store, self._n_workers = store, n_workers
        # How often a training reads each row group: equal for arms with other inputs and windows.
        self._windows: dict[tuple[int, str, str, TrainingConfig], NDArray[np.int64]] = {}

    def trial_bytes(self, config: RunConfig) -> int:
        """Compressed bytes that a trial reads from its start to its end.

        Raises:
            ConfigError, StoreError: as `Store.load`.
        """
        data = config.evaluated_data()
        chrom = gene_chroms(self._store, data.cell_type)
        groups = self._store.row_groups(
            data.window_bp, data.signals, data.cell_type, sequence=data.sequence, scalars=()
        )
        split = self._store.folds.split(data.fold, chrom)
        if config.is_evaluation:
            loads = _evaluation_loads(config, data, split, len(chrom), self._n_workers)
            return sum(times * groups.bytes_of(rows) for times, rows in loads)
        key = (config.seed, data.cell_type, data.fold, config.training)
        if key not in self._windows:
            self._windows[key] = _training_reads(config, split, chrom, groups)
        trained = int((self._windows[key] * groups.n_bytes).sum())
        validated = _validation_loads(config, split, self._n_workers)
        return trained + sum(times * groups.bytes_of(rows) for times, rows in validated)


def _training_reads(config: RunConfig, split: Split, chrom: NDArray[np.str_], groups: RowGroups) -> NDArray[np.int64]:
    """(G,) how often a run reads each row group for its steps: once a window."""
    order, n_groups = TrainingOrder.of(config, split, chrom), len(groups.starts)
    n_genes = np.bincount(groups.numbers(split.train), minlength=n_groups)
    times, first = np.zeros(n_groups, np.int64), 0
    n_trained = order.steps_per_epoch * order.batch_size
    # Where a window is an epoch and no group is as small as what an epoch leaves out, each epoch reads all groups.
    if order.window_genes() == n_trained and n_genes[n_genes > 0].min() > len(split.train) - n_trained:
        n_epochs = config.training.n_steps // order.steps_per_epoch
        times[n_genes > 0] = n_epochs
        first = n_epochs * order.steps_per_epoch
    for window in order.windows(range(first, config.training.n_steps)):
        times[groups.of(order.rows_of(window))] += 1
    return times


def _validation_loads(config: RunConfig, split: Split, n_workers: int) -> Iterator[tuple[int, Rows]]:
    """How often which genes are loaded together by a run that trains, beside its steps."""
    data, training = config.data, config.training
    every = steps_between_validations(config, len(split.train) // training.batch_size)
    for times, rows in ((-(-training.n_steps // every), split.validation), (_n_tests(config), split.test)):
        yield from ((times, part) for part in _shared(rows, data, n_workers))
    yield 1, split.test[: example_genes(data.window_bp)]


def _evaluation_loads(
    config: RunConfig, data: DataConfig, split: Split, n_genes: int, n_workers: int
) -> Iterator[tuple[int, Rows]]:
    """The same of one that evaluates another run's model: genes whose values stand in for others' are read as well."""
    asked = config.evaluation
    removes = bool(asked.signals or asked.scalars)
    if removes and asked.remove_by == "mean":
        yield from ((1, rows) for rows in _shared(split.train, data, n_workers))
    partner = shuffled_partners(split, n_genes, config.seed) if removes and asked.remove_by == "shuffle" else None
    for times, rows in ((1, split.validation), (_n_tests(config), split.test)):
        for given in (rows,) if partner is None else (rows, partner[rows]):
            yield from ((times, part) for part in _shared(given, data, n_workers))


def _n_tests(config: RunConfig) -> int:
    """How often the test genes are read: for their predictions, and for the states that a model has learned."""
    return 2 if config.model.n_states and config.model.states == "learned" else 1


def _shared(rows: Rows, data: DataConfig, n_workers: int) -> Iterator[Rows]:
    """The parts of one evaluation, worker after worker."""
    for rank in range(n_workers):
        mine = rows[share_of_rows(len(rows), rank, n_workers)]
        yield from parts_read(mine, genes_a_batch(data.window_bp), data)
