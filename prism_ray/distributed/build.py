"""Raw genomics files to a feature store, through Ray Data.

A partition (a cell type on a chromosome) is one item. Workers write partitions into a staging folder that all of them
can reach; the driver counts, reports and renames. A build that was interrupted goes on from the finished partitions.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import ray
import ray.data
from ray.exceptions import RayError, RayTaskError

from prism_ray.distributed.build_plan import BuildPlan, plan_build
from prism_ray.distributed.build_worker import FAULTS, PARTITION, PartitionBuilder
from prism_ray.distributed.runtime import ray_runtime
from prism_ray.errors import ConfigError, Fault, FaultList, InputError, StoreError
from prism_ray.store.precision import Rounding, check_loss
from prism_ray.store.quality import BuildReport, cell_type_report
from prism_ray.store.staging import Staging, refuse_existing
from prism_ray.store.tally import PartitionRecord

__all__ = ["BuildProgress", "BuildReport", "build_store"]


_MOST_ATTEMPTS = 3


@dataclass(frozen=True)
class BuildProgress:
    """How far a build is.

    Attributes:
        n_done: partitions that are written.
        n_partitions: partitions of the store.
        n_genes_done: genes, which are rows, that are written.
        n_genes: genes of the store.
        message: what has just happened.
    """

    n_done: int
    n_partitions: int
    n_genes_done: int
    n_genes: int
    message: str


def _silent(progress: BuildProgress) -> None:
    pass


def build_store(
    catalog_path: str | Path,
    out: str | Path,
    window_bp: int | None = None,
    n_workers: int | None = None,
    on_progress: Callable[[BuildProgress], None] = _silent,
) -> BuildReport:
    """Build the store of a catalog.

    Uses the Ray cluster that the process is connected to, or the one that RAY_ADDRESS names, else a local one that is
    started and ended here.

    Args:
        catalog_path: the catalog file.
        out: folder to write; must not exist.
        window_bp: length of the stored window in bp; the catalog's own where not given.
        n_workers: partitions that are written at a time; as many as there are CPUs where not given.
        on_progress: called after each partition.

    Raises:
        CatalogError: everything that is wrong with the catalog and its files.
        StoreError: `out` exists or cannot be written, a worker was lost, or float16 loses too much of a signal.
        InputError: what a worker found wrong with the values of a file, or with its place for the store.
        ConfigError: more workers than the cluster has CPUs.
    """
    out = Path(out)
    refuse_existing(out)
    plan = plan_build(Path(catalog_path), window_bp)
    with Staging(out, plan.key) as staging:
        counter = _Counter(plan, on_progress)
        if staging.discarded:
            counter.say("discarded what an earlier build of other data, window or version had left")
        todo = [number for number in range(len(plan.partitions)) if _record(plan, staging, number) is None]
        counter.skip(set(range(len(plan.partitions))) - set(todo))
        if todo:
            with _quiet(), ray_runtime():
                _run_all(plan, staging, todo, n_workers, counter)
        return _finish(plan, staging, _records(plan, staging))


def _record(plan: BuildPlan, staging: Staging, number: int) -> PartitionRecord | None:
    partition = plan.partitions[number]
    return staging.finished(partition.cell_type, partition.chrom)


def _records(plan: BuildPlan, staging: Staging) -> list[PartitionRecord]:
    """Records of all partitions, their bytes checked once more before they become a store.

    Raises:
        StoreError: naming every partition whose file was changed since it was written.
    """
    faults = FaultList()
    records = []
    for number, partition in enumerate(plan.partitions):
        record = _record(plan, staging, number)
        if record is None:
            where = f"{staging.path}: {partition.cell_type} {partition.chrom}"
            faults.add(
                where, "was changed by something else while the store was built", "run the same command to go on"
            )
        else:
            records.append(record)
    faults.raise_if_any(StoreError)
    return records


class _Counter:
    """Adds up finished partitions for `on_progress`."""

    def __init__(self, plan: BuildPlan, on_progress: Callable[[BuildProgress], None]) -> None:
        self._plan = plan
        self._on_progress = on_progress
        self._n_done = self._n_genes_done = 0

    def say(self, message: str) -> None:
        n_genes = sum(partition.n_genes for partition in self._plan.partitions)
        total = len(self._plan.partitions)
        self._on_progress(BuildProgress(self._n_done, total, self._n_genes_done, n_genes, message))

    def skip(self, numbers: set[int]) -> None:
        self._n_done += len(numbers)
        self._n_genes_done += sum(self._plan.partitions[number].n_genes for number in numbers)
        if numbers:
            self.say(f"kept {len(numbers)} partitions of an earlier build that was interrupted")

    def done(self, number: int) -> None:
        partition = self._plan.partitions[number]
        self._n_done += 1
        self._n_genes_done += partition.n_genes
        self.say(f"{partition.cell_type} {partition.chrom}: {partition.n_genes} genes")


def _run_all(plan: BuildPlan, staging: Staging, todo: Sequence[int], n_workers: int | None, counter: _Counter) -> None:
    """Write the partitions `todo`, going on where a worker was lost, a bounded number of times."""
    n_cpus = max(1, int(ray.cluster_resources().get("CPU", 0)))
    _refuse_too_many(n_workers, n_cpus)
    left = list(todo)
    for attempt in range(1, _MOST_ATTEMPTS + 1):
        try:
            for number in _run(plan, staging, left, n_workers or n_cpus):
                left.remove(number)
                counter.done(number)
            return
        except RayTaskError:
            # A worker's own code failed, which no input should cause: its traceback is what is needed.
            raise
        except RayError as problem:
            reason = f"a worker of the build was lost ({str(problem).strip().splitlines()[0]})"
            if attempt == _MOST_ATTEMPTS:
                faults = FaultList()
                faults.add(str(staging.path), f"{reason}, {attempt} times", "run the same command to go on")
                faults.raise_if_any(StoreError)
            counter.say(f"{reason}; going on with the {len(left)} partitions that are left")


def _run(plan: BuildPlan, staging: Staging, todo: Sequence[int], n_workers: int) -> Iterator[int]:
    """Numbers of partitions as they are written.

    Raises:
        InputError: what a worker found wrong.
        RayError: a worker was lost.
    """
    # Large ones first: at the end of the build no worker is left alone with one.
    order = sorted(todo, key=lambda number: -plan.partitions[number].n_genes)
    items = ray.data.from_items([{PARTITION: number} for number in order], override_num_blocks=len(order))
    with warnings.catch_warnings():
        # The only way to say max_restarts; the versions of Ray that are allowed have it.
        warnings.filterwarnings("ignore", "`ray_remote_args` is deprecated")
        done = items.map_batches(
            PartitionBuilder,
            fn_constructor_args=(plan, str(staging.path)),
            batch_size=1,
            batch_format="numpy",
            compute=ray.data.ActorPoolStrategy(size=min(n_workers, len(order))),
            num_cpus=1,
            # Ray Data would restart a worker without end, for example one that needs more memory than there is.
            max_restarts=0,
        )
    for row in done.iter_rows():
        faults = FaultList()
        faults.extend(Fault(**fault) for fault in json.loads(row[FAULTS]))
        faults.raise_if_any(InputError)
        yield int(row[PARTITION])


def _refuse_too_many(n_workers: int | None, n_cpus: int) -> None:
    faults = FaultList()
    if n_workers is not None and n_workers < 1:
        faults.add("workers", f"{n_workers} is not a number of workers", "use 1 or more")
    elif n_workers is not None and n_workers > n_cpus:
        faults.add("workers", f"{n_workers} is more than the cluster's {n_cpus} CPUs", f"use at most {n_cpus}")
    faults.raise_if_any(ConfigError)


@contextmanager
def _quiet() -> Iterator[None]:
    """Ray Data without output of its own, for the time of the block: its errors are raised, not only logged."""
    with warnings.catch_warnings():
        # Ray's own defaults set fields that Ray deprecates.
        warnings.filterwarnings("ignore", r"`use_\w+` is deprecated", DeprecationWarning)
        context = ray.data.DataContext.get_current()
    logger = logging.getLogger("ray.data")
    bars, level = context.enable_progress_bars, logger.level
    context.enable_progress_bars = False
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        context.enable_progress_bars = bars
        logger.setLevel(level)


def _finish(plan: BuildPlan, staging: Staging, records: Sequence[PartitionRecord]) -> BuildReport:
    """Check what float16 cost, then make the staging folder a store."""
    _refuse_lossy(plan, records)
    description = plan.describe(tuple(record.entry for record in records))
    report = BuildReport(
        name=plan.catalog.name,
        digest=description.digest(),
        window_bp=plan.window_bp,
        bytes=sum(record.entry.bytes for record in records),
        cell_types={
            name: cell_type_report(
                [record for record in records if record.entry.cell_type == name],
                {signal: source.transform for signal, source in plan.sources(name).items()},
                cell.n_dropped,
            )
            for name, cell in plan.cell_types.items()
        },
    )
    staging.finish(description, report)
    return report


def _refuse_lossy(plan: BuildPlan, records: Sequence[PartitionRecord]) -> None:
    faults = FaultList()
    for cell_type in plan.cell_types:
        for name in plan.sources(cell_type):
            parts = [
                record.statistics.signals[name].rounding for record in records if record.entry.cell_type == cell_type
            ]
            total = sum((part for part in parts if part is not None), start=Rounding())
            check_loss(total, f"{plan.catalog.path}: cell_types.{cell_type}.signals.{name}.dtype", faults)
    faults.raise_if_any(StoreError)
