"""A run against the genes of its store, before anything is started for it."""

from __future__ import annotations

from prism_ray.config import RunConfig
from prism_ray.distributed.projections import gene_chroms
from prism_ray.errors import ConfigError, Fault
from prism_ray.store import Store
from prism_ray.training.split_check import split_faults


def run_faults(config: RunConfig, store: Store, n_workers: int, where: str) -> list[Fault]:
    """What keeps a run from making its batches of its fold's genes; no file of the store is read.

    Args:
        config: of a cell type and a fold that the store has.
        store: of the genes.
        n_workers: processes that share each batch.
        where: file of the settings, for messages.
    """
    try:
        split = store.folds.split(config.data.fold, gene_chroms(store, config.data.cell_type))
    except ConfigError as problem:
        found = problem.faults
    else:
        found = tuple(split_faults(config, split, n_workers))
    return [Fault(f"{where}: {fault.where}", fault.problem, fault.fix) for fault in found]
