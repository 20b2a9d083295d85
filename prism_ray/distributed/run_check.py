"""A run against the genes of its store, before anything is started for it."""

from __future__ import annotations

import numpy as np

from prism_ray.config import RunConfig
from prism_ray.errors import ConfigError, Fault
from prism_ray.store import Store
from prism_ray.training.loop import split_faults


def run_faults(config: RunConfig, store: Store, n_workers: int, where: str) -> list[Fault]:
    """What keeps a run from making its batches of its fold's genes; no file of the store is read.

    Args:
        config: of a cell type and a fold that the store has.
        store: of the genes.
        n_workers: processes that share each batch.
        where: file of the settings, for messages.
    """
    files = store.description.files_of(config.data.cell_type)
    chroms = np.repeat([file.chrom for file in files], [file.rows for file in files])
    try:
        split = store.folds.split(config.data.fold, chroms)
    except ConfigError as problem:
        found = problem.faults
    else:
        found = tuple(split_faults(config, split, n_workers))
    return [Fault(f"{where}: {fault.where}", fault.problem, fault.fix) for fault in found]
