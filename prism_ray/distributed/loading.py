"""How the runs of a launch get their genes (`loading_choice.py`): the way is chosen by size before the first of them
starts, and each finds its source by it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import ray

from prism_ray.config import RunConfig
from prism_ray.distributed.capacity import check_resources, smallest_of_nodes
from prism_ray.distributed.ingest import (
    node_reads,
    process_projection,
    shared_projection,
    start_node_caches,
)
from prism_ray.distributed.loading_choice import (
    MOST_BUFFER_BYTES,
    READER_CPUS,
    Loading,
    LoadingName,
    LoadingRequest,
    OpenCluster,
    check_loading_name,
    choose_loading,
)
from prism_ray.distributed.projections import gene_bytes, gene_chroms, projection_key
from prism_ray.distributed.resources import TrialResources
from prism_ray.distributed.runtime import local_object_store_room, ray_runtime, starts_local_cluster
from prism_ray.distributed.streaming import (
    StreamPlan,
    StreamSource,
    fewest_piece_bytes,
    held_bytes,
    most_batches,
    pieces_in_flight,
)
from prism_ray.errors import FaultList, InputError
from prism_ray.machine import usable_cpus
from prism_ray.sizes import size_text
from prism_ray.store import Store
from prism_ray.training.order import TrainingOrder
from prism_ray.training.sources import GeneSource, MemorySource

_STORE_PART = 0.5
"""Part of a node's object store that genes may take: Ray Data and results need the rest."""


@contextmanager
def loading_cluster(
    request: LoadingRequest,
    each: TrialResources,
    *,
    address: str | None,
    max_concurrent: int | None = None,
    n_cpus: int | None = None,
) -> Iterator[OpenCluster]:
    """A Ray cluster on which trials can get their genes.

    Args:
        each: what a trial takes.
        address: as for `ray_runtime`.
        max_concurrent: trials at once; None for as many as fit.
        n_cpus: CPUs of a local cluster for the trials; all of the machine's by default.

    Raises:
        InputError: the cluster cannot hold a trial, its genes or its pieces; with what to do.
    """
    check_loading_name(request.asked)
    local = starts_local_cluster(address)
    needed = request.cache_bytes()
    name: LoadingName | None = None
    n_local_cpus = n_cpus or usable_cpus()
    if local:
        name = choose_loading(request.asked, needed, local_object_store_room())
        if name == "stream":
            n_trials = max(1, n_local_cpus // (each.n_workers * each.cpus_per_worker))
            n_trials = min(n_trials, max_concurrent or n_trials)
            needed = int(n_trials * _fewest_buffer_bytes(request, each.n_workers) / _STORE_PART)
            n_local_cpus += READER_CPUS
    with ray_runtime(address, n_cpus=n_local_cpus, object_store_bytes=needed):
        name = name or choose_loading(
            request.asked, needed, int(_STORE_PART * smallest_of_nodes("object_store_memory"))
        )
        n_fitting = check_resources(each, reserved_cpus=READER_CPUS if name == "stream" else 0)
        n_trials = n_fitting if max_concurrent is None else min(n_fitting, max_concurrent)
        loading = stream_loading(request, each, n_trials) if name == "stream" else Loading("cache")
        caches = start_node_caches(request.store.path.absolute(), request.store.digest)
        yield OpenCluster(n_trials, replace(loading, ledger=caches.ledger), partial(node_reads, caches))


def stream_loading(request: LoadingRequest, each: TrialResources, n_trials: int) -> Loading:
    """What a trial's stream may take of the cluster while `n_trials` run; needs a running cluster.

    Raises:
        InputError: a window of genes does not fit in a task's memory, or the pieces not in the object store.
    """
    faults = FaultList()
    faults.extend(fault for fault in window_faults(request.store, request.configs, _task_memory()).faults)
    fewest = _fewest_buffer_bytes(request, each.n_workers)
    there = smallest_of_nodes("object_store_memory")
    room = int(_STORE_PART * there / n_trials)
    if room < fewest:
        faults.add(
            "cluster",
            f"streaming keeps {size_text(fewest)} of genes a trial in flight, and the object store of the smallest "
            f"node holds {size_text(there)} for {n_trials} trials at once",
            "start nodes with more object store memory, or run fewer trials at once with --max-concurrent",
        )
    faults.raise_if_any(InputError)
    free = ray.cluster_resources().get("CPU", 0.0) - n_trials * each.n_workers * each.cpus_per_worker
    # Every trial's reader can always run: one that waits for another's CPU could wait for ever.
    cpus = min(float(READER_CPUS), math.floor(100 * free / n_trials) / 100)
    return Loading("stream", max(0.01, cpus), _reader_threads(each), min(MOST_BUFFER_BYTES, room))


def _reader_threads(each: TrialResources) -> int:
    """Threads of a trial's reader: one, and one for each CPU of the trial, which has nothing to do while it waits.

    A trial that has its genes takes its CPUs back: the reader stops where the object store is full.
    """
    n_cpus = int(smallest_of_nodes("CPU"))
    return max(1, min(READER_CPUS + each.n_workers * each.cpus_per_worker, n_cpus))


def window_faults(store: Store, configs: Iterable[RunConfig], memory_bytes: float) -> FaultList:
    """Runs whose windows of genes do not fit in the memory of the task that reads them, each with what would fit."""
    found: dict[tuple[str, str], None] = {}
    for config in configs:
        order, each_bytes = training_order(store, config), gene_bytes(config.data)
        needed = held_bytes(order.window_genes() * each_bytes)
        if needed > memory_bytes:
            fitting = most_batches(each_bytes * order.batch_size, memory_bytes) * order.batch_size
            fix = "use a shorter window or fewer signals, or nodes with more memory"
            if fitting:
                fix = f"set training.shuffle_genes to at most {fitting}, which is another order of genes, or {fix}"
            problem = (
                f"{config.training.shuffle_genes} has {order.window_genes()} genes of {each_bytes} bytes read together "
                f"({size_text(needed)} with what is read ahead), and a task may take {size_text(memory_bytes)}"
            )
            found[(problem, fix)] = None
    faults = FaultList()
    for problem, fix in found:
        faults.add("training.shuffle_genes", problem, fix)
    return faults


def training_order(store: Store, config: RunConfig) -> TrainingOrder:
    """Order of a run's training genes; no file of the store is read."""
    chrom = gene_chroms(store, config.data.cell_type)
    return TrainingOrder.of(config, store.folds.split(config.data.fold, chrom), chrom)


def gene_source(loading: Loading, store: Store, config: RunConfig, n_workers: int, iterator: Any = None) -> GeneSource:
    """Where a trial takes its genes from, in one of its processes.

    Args:
        iterator: this worker's part of a pipeline that several workers share; see `StreamSource`.
    """
    if loading.name == "process":
        return MemorySource(process_projection(store.path, store.digest, projection_key(config.data)))
    if loading.name == "cache":
        return MemorySource(shared_projection(store.path, store.digest, config.data, loading.ledger))
    return StreamSource(stream_plan(loading, store, config, n_workers), iterator)


def stream_plan(loading: Loading, store: Store, config: RunConfig, n_workers: int) -> StreamPlan:
    """What a trial's pipeline reads."""
    return StreamPlan(
        store=store.path,
        digest=store.digest,
        data=config.data,
        order=training_order(store, config),
        n_workers=n_workers,
        n_steps=config.training.n_steps,
        reader_cpus=loading.reader_cpus,
        reader_threads=loading.reader_threads,
        buffer_bytes=loading.buffer_bytes,
        ledger=loading.ledger,
    )


def _fewest_buffer_bytes(request: LoadingRequest, n_workers: int) -> int:
    """Object store that a trial's pieces take where every worker holds one and waits for the next."""
    largest = max(fewest_piece_bytes(config.data, config.training.batch_size, n_workers) for config in request.configs)
    return largest * pieces_in_flight(n_workers)


def _task_memory() -> float:
    """Bytes that one task may take on the smallest node that runs tasks: its share of the memory that Ray counts."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return min(float(node["memory"]) / max(1.0, float(node["CPU"])) for node in nodes if node.get("CPU"))
