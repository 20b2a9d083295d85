"""`prism-ray train`: one run from a config file, on Ray Train workers."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import prism_ray.store
from prism_ray.config import RunConfig
from prism_ray.distributed.resources import TrialResources, check_resources
from prism_ray.distributed.runtime import ray_runtime
from prism_ray.distributed.train import train_on_workers
from prism_ray.distributed.trial import TrialTask
from prism_ray.documents import read_document, validate_document
from prism_ray.errors import ConfigError, FaultList, did_you_mean
from prism_ray.store import Store
from prism_ray.study.identity import trial_id
from prism_ray.training.record import TrialRecord


@dataclass(frozen=True)
class RunSettings:
    """Where and how one run trains.

    Attributes:
        store: feature store.
        out: folder of the run.
        resources: what it takes.
        address: of a running Ray cluster; None for `RAY_ADDRESS`, else a local one.
    """

    store: Path
    out: Path
    resources: TrialResources = field(default_factory=TrialResources)
    address: str | None = None


def train_config(path: Path, settings: RunSettings) -> TrialRecord:
    """Train the run of a config file; a run that is finished is only read.

    Raises:
        ConfigError, StoreError: everything that makes the run impossible, before it starts.
        TrainingError: it failed on the way.
    """
    config = validate_document(read_document(path, ConfigError), RunConfig, ConfigError)
    store = prism_ray.store.open(settings.store)
    check_run(config, store, settings.resources.n_workers, str(path))
    task = TrialTask(
        study="",
        arm=path.stem,
        trial_id=trial_id(config, store.digest),
        config=config,
        store=settings.store.absolute(),
        data_digest=store.digest,
        folder=settings.out.absolute(),
        resources=settings.resources,
        shared=False,
    )
    # Ray Train's controller needs a little of a CPU besides its workers.
    n_cpus = settings.resources.n_workers * settings.resources.cpus_per_worker + 1
    with ray_runtime(settings.address, n_cpus=n_cpus):
        check_resources(settings.resources)
        return train_on_workers(task)


def check_run(config: RunConfig, store: Store, n_workers: int, where: str) -> None:
    """Refuse a run that the store or the number of workers cannot serve, with all reasons together."""
    data = config.data
    faults = FaultList()
    faults.extend(
        store.faults(
            data.window_bp, data.signals, data.cell_type, sequence=data.sequence, scalars=data.scalars, where=where
        )
    )
    if data.fold not in store.folds.names:
        faults.add(
            f"{where}: data.fold",
            f"{data.fold!r} is not a fold of the store",
            did_you_mean(data.fold, store.folds.names),
        )
    if config.training.batch_size % n_workers:
        faults.add(
            f"{where}: training.batch_size",
            f"{config.training.batch_size} genes a step do not divide among {n_workers} workers",
            "use a number of workers that divides it: the global batch decides the numbers and is not changed",
        )
    faults.raise_if_any(ConfigError)
