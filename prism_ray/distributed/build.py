"""Raw genomics files to a feature store, through Ray Data.

A partition (a cell type on a chromosome) is one item. Workers write partitions into a staging folder that all of them
can reach; the driver counts, reports and renames. A build that was interrupted goes on from the finished partitions.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from prism_ray.distributed.build_plan import BuildPlan, plan_build
from prism_ray.distributed.build_worker import PartitionBuilder, PrecisionMeter
from prism_ray.distributed.partition_run import run_partitions
from prism_ray.distributed.runtime import ray_runtime
from prism_ray.errors import FaultList, StoreError
from prism_ray.store.precision import Rounding, check_loss, fits_float16
from prism_ray.store.quality import BuildReport, cell_type_report
from prism_ray.store.schema import Dtype
from prism_ray.store.staging import Staging, refuse_existing
from prism_ray.store.tally import PartitionRecord

__all__ = ["BuildProgress", "BuildReport", "build_store"]


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
    with ExitStack() as stack:
        counter = _Counter(plan, on_progress)
        if any(plan.undecided(cell_type) for cell_type in plan.cell_types):
            stack.enter_context(ray_runtime())
            plan = _with_measured_types(plan, n_workers, counter)
        staging = stack.enter_context(Staging(out, plan.key))
        if staging.discarded:
            counter.say("discarded what an earlier build of other data, window or version had left")
        sizes = {number: partition.n_genes for number, partition in enumerate(plan.partitions)}
        todo = {number: size for number, size in sizes.items() if _record(plan, staging, number) is None}
        counter.skip(sizes.keys() - todo.keys())
        if todo:
            stack.enter_context(ray_runtime())
            run_partitions(
                PartitionBuilder,
                (plan, str(staging.path)),
                todo,
                n_workers,
                lambda number, _: counter.done(number),
                counter.say,
                str(staging.path),
            )
        return _finish(plan, staging, _records(plan, staging))


def _with_measured_types(plan: BuildPlan, n_workers: int | None, counter: _Counter) -> BuildPlan:
    """The plan with a type for each signal whose catalog says auto: float16 where that loses little enough.

    All values are measured, in every cell type: one type a signal is what a store has.
    """
    sizes = {
        number: partition.n_genes
        for number, partition in enumerate(plan.partitions)
        if plan.undecided(partition.cell_type)
    }
    totals: dict[tuple[str, str], Rounding] = {}

    def add(number: int, result: str) -> None:
        cell_type = plan.partitions[number].cell_type
        for name, part in json.loads(result).items():
            key = (cell_type, name)
            totals[key] = totals.get(key, Rounding()) + Rounding.model_validate(part)

    counter.say(f"measuring what float16 would cost ({len(sizes)} partitions)")
    run_partitions(PrecisionMeter, (plan,), sizes, n_workers, add, counter.say, str(plan.catalog.path))
    chosen: dict[str, Dtype] = {}
    for name in dict.fromkeys(name for _, name in totals):
        small = all(fits_float16(total) for (_, other), total in totals.items() if other == name)
        chosen[name] = "float16" if small else "float32"
        worst = max(total.loss for (_, other), total in totals.items() if other == name)
        counter.say(f"{name} is stored as {chosen[name]}: float16 would lose {worst:.1e} of its standard deviation")
    return plan.with_types(chosen)


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
