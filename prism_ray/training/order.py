"""The order in which a run sees its genes: decided by the config and the data, never by where they are read.

N genes of the cell type, B genes of a batch.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from prism_ray.config import RunConfig
from prism_ray.splits import Split

BLOCK_GENES = 64
"""Neighbouring genes that come together where genes are shuffled in windows: few enough to mix, enough to read at
once. Fixed, and not the row groups of a file, so that the order of a run does not depend on how its store was
written."""
_POSITIONS_A_BATCH = 64 * 2000
"""Positions (genes x bp) evaluated at once: bounds memory at long windows, keeps short ones efficient."""


def steps_between_validations(config: RunConfig, steps_per_epoch: int) -> int:
    """Steps from one validation of a run to the next; its last step is validated too."""
    return max(1, round(config.training.validate_every_epochs * steps_per_epoch))


class TrainingOrder:
    """Genes of each step; every epoch is a new order, drawn from the seed and the epoch alone.

    Without windows an epoch is one permutation of all training genes. With windows of `shuffle_genes`, blocks of 64
    neighbours on a chromosome come in a random order, are cut into windows of whole batches, and are permuted within
    each window: the genes of a window can be read at once, from few places of a store.

    The genes of an epoch's end that do not fill a batch are left out of it; the next epoch brings them in elsewhere.
    Every batch is therefore full, and any step can be found without those before it.

    Args:
        index: (n,) row numbers of the training genes, ascending.
        chrom: (N,) chromosome of every gene of the cell type, in store order.
        batch_size: genes a step over all workers, B, at most n.
        seed: of the run.
        shuffle_genes: genes a window, rounded up to whole batches; 0 for one permutation of all.
    """

    def __init__(
        self, index: NDArray[np.int64], chrom: NDArray[np.str_], batch_size: int, seed: int, shuffle_genes: int = 0
    ) -> None:
        self.batch_size = batch_size
        self._index = index
        self._seed = seed
        self._blocks = _blocks(index, chrom) if shuffle_genes else []
        self._epoch = -1
        self._order = index
        self.steps_per_epoch = len(index) // batch_size
        self._steps_per_window = -(-shuffle_genes // batch_size) if shuffle_genes else self.steps_per_epoch

    @classmethod
    def of(cls, config: RunConfig, split: Split, chrom: NDArray[np.str_]) -> TrainingOrder:
        """Order of a run over the training genes of its split; `chrom` is of all genes, (N,)."""
        training = config.training
        return cls(split.train, chrom, training.batch_size, config.seed, training.shuffle_genes)

    def rows(self, step: int) -> NDArray[np.int64]:
        """(B,) row numbers of the genes of a step, counted from 0."""
        return self.rows_of(range(step, step + 1))

    def rows_of(self, steps: range) -> NDArray[np.int64]:
        """(len(steps) * B,) row numbers of the genes of some steps of one epoch, as those of a window are."""
        epoch, position = divmod(steps.start, self.steps_per_epoch)
        if epoch != self._epoch:
            self._order = self._order_of(epoch)
            self._epoch = epoch
        start = position * self.batch_size
        return self._order[start : start + len(steps) * self.batch_size]

    def share(self, step: int, rank: int, n_workers: int) -> NDArray[np.int64]:
        """(B / n_workers,) rows of a step that one of the workers computes."""
        n_each = self.batch_size // n_workers
        return self.rows(step)[rank * n_each : (rank + 1) * n_each]

    def windows(self, steps: range) -> Iterator[range]:
        """The steps in parts, of which each lies within one window: what is read together."""
        start = steps.start
        while start < steps.stop:
            epoch, position = divmod(start, self.steps_per_epoch)
            end = (position // self._steps_per_window + 1) * self._steps_per_window
            stop = min(epoch * self.steps_per_epoch + min(end, self.steps_per_epoch), steps.stop)
            yield range(start, stop)
            start = stop

    def window_genes(self) -> int:
        """Most genes that a window has: what is in memory together where windows are read at once."""
        return min(self._steps_per_window, self.steps_per_epoch) * self.batch_size

    def _order_of(self, epoch: int) -> NDArray[np.int64]:
        rng = np.random.default_rng((self._seed, epoch))
        if not self._blocks:
            return rng.permutation(self._index)
        stream = np.concatenate([self._blocks[number] for number in rng.permutation(len(self._blocks))])
        n_window = self._steps_per_window * self.batch_size
        return np.concatenate(
            [rng.permutation(stream[start : start + n_window]) for start in range(0, len(stream), n_window)]
        )


def _blocks(index: NDArray[np.int64], chrom: NDArray[np.str_]) -> list[NDArray[np.int64]]:
    """Training genes of each block: 64 neighbours of a chromosome, counted over all of its genes."""
    blocks = []
    for name in dict.fromkeys(chrom.tolist()):
        rows = np.flatnonzero(chrom == name)
        for start in range(0, len(rows), BLOCK_GENES):
            block = rows[start : start + BLOCK_GENES]
            blocks.append(block[np.isin(block, index)].astype(np.int64))
    return [block for block in blocks if len(block)]


def genes_a_batch(window_bp: int) -> int:
    """Genes of a window's length that are evaluated at once."""
    return max(1, _POSITIONS_A_BATCH // window_bp)


def share_of_rows(n_rows: int, rank: int, n_workers: int) -> slice:
    """Rows of one worker: neighbours, which lie near each other in a store; the first worker has the most."""
    n_each = -(-n_rows // n_workers)
    return slice(min(rank * n_each, n_rows), min((rank + 1) * n_each, n_rows))


def shuffled_partners(split: Split, n_genes: int, seed: int) -> NDArray[np.int64]:
    """(N,) row number of the gene that each gene of the validation and test split takes its values from.

    A permutation within each split, drawn from the seed: values stay those of real genes of the same chromosomes, and
    no validation gene is given a test gene's. Training genes are their own partners.
    """
    partner = np.arange(n_genes, dtype=np.int64)
    for number, rows in enumerate((split.validation, split.test)):
        # Three numbers: the order of training is drawn from pairs of the seed and an epoch.
        partner[rows] = np.random.default_rng((seed, 0, number)).permutation(rows)
    return partner
