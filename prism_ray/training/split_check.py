"""A run's batches against the genes of its split. Loads no PyTorch, for those who check a run and do not train it."""

from __future__ import annotations

from prism_ray.config import RunConfig
from prism_ray.errors import Fault
from prism_ray.splits import Split


def split_faults(config: RunConfig, split: Split, n_workers: int) -> list[Fault]:
    """What keeps a run's batches from being made of a split's genes by a number of workers."""
    batch_size = config.training.batch_size
    faults = []
    if len(split.train) < batch_size:
        faults.append(
            Fault(
                "training.batch_size", f"{batch_size}, but fold {config.data.fold} trains on {len(split.train)} genes"
            )
        )
    faults += [
        Fault(f"data.fold: {config.data.fold}", f"has {len(rows)} {name} genes", "metrics need at least 2")
        for name, rows in (("validation", split.validation), ("test", split.test))
        if len(rows) < 2
    ]
    if batch_size % n_workers:
        faults.append(
            Fault(
                "training.batch_size",
                f"{batch_size} genes a step do not divide among {n_workers} workers",
                "use a number of workers that divides it: the global batch decides the numbers and is not changed",
            )
        )
    return faults
