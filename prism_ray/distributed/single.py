"""`prism-ray train`: one run from a config file, on Ray Train workers."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import prism_ray.store
from prism_ray.config import RunConfig
from prism_ray.distributed.gpus import check_local_gpus
from prism_ray.distributed.loading import loading_cluster
from prism_ray.distributed.loading_choice import LoadingAsked, LoadingRequest, check_loading_name
from prism_ray.distributed.node_checks import check_nodes
from prism_ray.distributed.resources import TrialResources
from prism_ray.distributed.room import room_needed
from prism_ray.distributed.run_check import run_faults
from prism_ray.distributed.train import train_on_workers
from prism_ray.distributed.trial import TrialTask
from prism_ray.documents import read_document, validate_document
from prism_ray.errors import CheckpointError, ConfigError, FaultList, StoreError, did_you_mean
from prism_ray.store import Store, StorePlace
from prism_ray.study.identity import trial_id
from prism_ray.study.patches import without_effect
from prism_ray.training.record import TrialRecord, read_record

OWNER_NAME = "run_id"


@dataclass(frozen=True)
class RunSettings:
    """Where and how one run trains.

    Attributes:
        store: feature store.
        out: folder of the run.
        resources: what it takes.
        address: of a running Ray cluster; None for `RAY_ADDRESS`, else a local one.
        loading: how it gets its genes; `auto` to choose by their size.
    """

    store: StorePlace
    out: Path
    resources: TrialResources = field(default_factory=TrialResources)
    address: str | None = None
    loading: LoadingAsked = "auto"


def train_config(path: Path, settings: RunSettings) -> TrialRecord:
    """Train the run of a config file; a run that is finished is only read.

    Raises:
        ConfigError, StoreError, CheckpointError: everything that makes the run impossible, before it starts.
        TrainingError: it failed on the way.
    """
    check_loading_name(settings.loading)
    config = validate_document(read_document(path, ConfigError), RunConfig, ConfigError)
    store = prism_ray.store.open(settings.store)
    check_run(config, store, settings.resources.n_workers, str(path))
    identity = trial_id(config, store.digest)
    _refuse_other(settings.out, identity)
    record = read_record(settings.out)
    if record is not None:
        return record
    task = TrialTask(
        study="",
        arm=path.stem,
        trial_id=identity,
        config=config,
        store=settings.store.absolute(),
        data_digest=store.digest,
        folder=settings.out.absolute(),
        resources=settings.resources,
    )
    check_local_gpus(settings.resources.gpus_per_worker, settings.address)
    # Ray Train's controller needs a little of a CPU besides its workers.
    n_cpus = settings.resources.n_workers * settings.resources.cpus_per_worker + 1
    request = LoadingRequest(settings.loading, store, (config,))
    with loading_cluster(
        request, settings.resources, address=settings.address, max_concurrent=1, n_cpus=n_cpus
    ) as cluster:
        try:
            check_nodes(task.folder, settings.store, room_needed(request, cluster.loading, 1, 1))
        except StoreError:
            with suppress(OSError):
                task.folder.rmdir()  # which the check made
            raise
        _claim(task.folder, identity)
        return train_on_workers(replace(task, loading=cluster.loading))


def check_run(config: RunConfig, store: Store, n_workers: int, where: str) -> None:
    """Refuse a run that the store or the number of workers cannot serve, with all reasons together."""
    data = config.data
    faults = FaultList()
    if config.is_evaluation:
        fix = "remove it; a study of kind evaluation gives trained models other input"
        faults.add(f"{where}: evaluation", "has no effect on a run that trains its model", fix)
    contradiction = without_effect(config)
    if contradiction is not None:
        faults.add(where, contradiction, "name a signal in data.signals, or use model.n_states: 0")
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
    elif data.cell_type in store.cell_types:
        faults.extend(run_faults(config, store, n_workers, where))
    faults.raise_if_any(ConfigError)


def _refuse_other(folder: Path, identity: str) -> None:
    """Refuse a folder that is a file, or that holds something else than this run.

    Raises:
        CheckpointError: with what it holds.
    """
    faults = FaultList()
    fix = "give another --out, or move it away"
    if folder.is_dir():
        owner = _owner(folder)
        if owner is None:
            if any(not file.name.startswith(".") for file in folder.iterdir()):
                faults.add(str(folder), "holds other files than a run's", fix)
        elif owner != identity:
            problem = f"holds the run {owner}, and these settings on these data are the run {identity}"
            faults.add(str(folder), problem, fix)
    elif os.path.lexists(folder):
        faults.add(str(folder), "is no folder", fix)
    faults.raise_if_any(CheckpointError)


def _owner(folder: Path) -> str | None:
    """Identity of the run that a folder is of; None where it is of none."""
    try:
        return (folder / OWNER_NAME).read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        record = read_record(folder)  # a study's trial is told by its record
        return None if record is None else record.trial_id


def _claim(folder: Path, identity: str) -> None:
    """Note whose run a folder is, before anything else is in it."""
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{OWNER_NAME}.{os.getpid()}"
    temporary.write_text(f"{identity}\n", encoding="utf-8")
    temporary.replace(folder / OWNER_NAME)
