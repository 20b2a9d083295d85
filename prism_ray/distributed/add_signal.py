"""A track added to a finished store: its files lie beside those that are there, which are not touched.

Work is interrupted and resumed like a build. `store.json` is replaced last, so a reader sees the store without the
track or with all of it.
"""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import prism_ray.store
from prism_ray.distributed.add_signal_plan import AddPlan, fetch_tracks, plan_additions
from prism_ray.distributed.partition_run import PartitionWorker, run_partitions
from prism_ray.distributed.runtime import ray_runtime
from prism_ray.errors import FaultList, StoreError
from prism_ray.features.blacklist import read_blacklist
from prism_ray.features.opened import OpenedSignals
from prism_ray.store.files import PartitionFile
from prism_ray.store.layout import GeneRows
from prism_ray.store.precision import Rounding, check_loss, fits_float16, measure_rounding
from prism_ray.store.quality import SignalReport, cell_type_report
from prism_ray.store.quality_update import update_report
from prism_ray.store.schema import SUCCESS_FILE, added_folder, write_description
from prism_ray.store.staging import Staging, write_record
from prism_ray.store.tally import PartitionRecord, PartitionTally
from prism_ray.store.write import AddedWriter

_IDENTIFIERS = ("gene_id", "gene_name", "tss", "strand", "label")


def _silent(message: str) -> None:
    pass


def add_signal(
    store_path: str | Path,
    catalog_path: str | Path,
    signal: str,
    n_workers: int | None = None,
    say: Callable[[str], None] = _silent,
) -> dict[str, SignalReport]:
    """Add a track to every cell type that the catalog gives it for and the store has without it.

    The digest of the store changes with it: trials that finished before belong to the store without the track.

    Args:
        store_path: folder of the store.
        catalog_path: catalog that names the track; its other tracks need not be there.
        signal: name of the track.
        n_workers: partitions that are written at a time; as many as there are CPUs where not given.
        say: called with what has just happened.

    Returns:
        What was found in the track, by cell type.

    Raises:
        CatalogError, ConfigError, StoreError, InputError: what keeps the track from being added; the store is as it
            was.
    """
    plans = plan_additions(Path(store_path), Path(catalog_path), signal)
    with ray_runtime():
        plans = _with_types(plans, n_workers, say)
        return {plan.cell_type: _add(plan, n_workers, say) for plan in plans}


def _with_types(plans: list[AddPlan], n_workers: int | None, say: Callable[[str], None]) -> list[AddPlan]:
    """The plans with one stored type: float16 where that loses little enough in every cell type."""
    if all(plan.dtype is not None for plan in plans):
        return plans
    fits = []
    for plan in plans:
        parts: list[Rounding] = []
        run_partitions(
            TrackMeter,
            (plan,),
            _sizes(plan),
            n_workers,
            lambda _, result, parts=parts: parts.append(Rounding.model_validate_json(result)),  # type: ignore[misc]
            say,
            str(plan.store),
        )
        total = sum(parts, start=Rounding())
        fits.append(fits_float16(total))
        say(f"{plan.cell_type}: float16 would lose {total.loss:.1e} of the standard deviation of {plan.signal}")
    return [replace(plan, dtype="float16" if all(fits) else "float32") for plan in plans]


def _sizes(plan: AddPlan) -> dict[int, int]:
    return {number: entry.rows for number, entry in enumerate(plan.partitions)}


def _add(plan: AddPlan, n_workers: int | None, say: Callable[[str], None]) -> SignalReport:
    """Add the track to one cell type."""
    out = plan.store / added_folder(plan.signal, plan.cell_type)
    with _locked(plan.store):
        # What an interruption between the last two acts left: files that `store.json` knows nothing of.
        known = prism_ray.store.open(plan.store).signals_of(plan.cell_type)
        if plan.signal not in known and out.exists():
            shutil.rmtree(out)
    out.parent.mkdir(exist_ok=True)
    with Staging(out, plan.key) as staging:
        todo = {
            number: size
            for number, size in _sizes(plan).items()
            if staging.finished(plan.cell_type, plan.partitions[number].chrom) is None
        }
        say(f"{plan.cell_type}: {plan.signal} for {len(plan.partitions)} partitions, {len(todo)} of them to do")
        run_partitions(
            TrackBuilder,
            (plan, str(staging.path)),
            todo,
            n_workers,
            lambda number, _: say(f"{plan.cell_type} {plan.partitions[number].chrom}: {plan.partitions[number].rows}"),
            say,
            str(staging.path),
        )
        records = [staging.record(plan.cell_type, entry.chrom) for entry in plan.partitions]
        written = [record for record in records if record is not None]
        assert len(written) == len(records), "every partition has been written"
        _refuse_lossy(plan, written)
        with _locked(plan.store):
            staging.publish()
            return _describe(plan, written)


def _refuse_lossy(plan: AddPlan, records: list[PartitionRecord]) -> None:
    parts = [record.statistics.signals[plan.signal].rounding for record in records]
    faults = FaultList()
    total = sum((part for part in parts if part is not None), start=Rounding())
    check_loss(total, f"{plan.catalog.path}: cell_types.{plan.cell_type}.signals.{plan.signal}.dtype", faults)
    faults.raise_if_any(StoreError)


def _describe(plan: AddPlan, records: list[PartitionRecord]) -> SignalReport:
    """Make the track part of the store; called with the lock held."""
    description = prism_ray.store.open(plan.store).description
    signal, source = plan.describe()
    entries = tuple(record.entry for record in records)
    changed = description.with_signal(plan.cell_type, signal, source, entries)
    found = cell_type_report(records, {plan.signal: signal.transform}, 0)
    write_description(plan.store, changed)
    update_report(plan.store, changed, plan.cell_type, found)
    return found.signals[plan.signal]


@contextmanager
def _locked(store: Path) -> Iterator[None]:
    """Hold the store for a change of `store.json`: two that add at the same time would lose one's track."""
    with (store / SUCCESS_FILE).open("r", encoding="utf-8") as mark:
        fcntl.flock(mark, fcntl.LOCK_EX)
        yield


class _TrackWorker(PartitionWorker):
    """Reads the track around the genes of the store's partitions."""

    def __init__(self, plan: AddPlan) -> None:
        self._plan = plan
        catalog = plan.catalog
        source = catalog.cell_types[plan.cell_type].signals[plan.signal]
        fetch_tracks(catalog)
        blacklist = None if catalog.blacklist is None else read_blacklist(catalog.resolve(catalog.blacklist.bed))
        tracks = {plan.signal: (source, catalog.resolve(source.file))}
        self._opened = OpenedSignals(tracks, plan.chrom_sizes, blacklist)

    def place(self, number: int) -> str:
        """What a failure of the operating system is told with."""
        return (
            f"{self._plan.store}: {self._plan.signal} of {self._plan.cell_type} {self._plan.partitions[number].chrom}"
        )

    def _row_groups(self, number: int) -> Iterator[tuple[GeneRows, int]]:
        """Genes of each row group of a partition with their windows, and bases without a value."""
        plan = self._plan
        entry = plan.partitions[number]
        with PartitionFile(plan.store, entry) as file:
            for group, _, _ in file.row_groups():
                genes = file.read([group], _IDENTIFIERS).to_pandas()
                strand: NDArray[np.str_] | None = None
                if plan.catalog.strand_aware:
                    strand = genes["strand"].to_numpy().astype(np.str_)
                tss = genes["tss"].to_numpy(np.int64)
                found = self._opened.windows(plan.signal, entry.chrom, tss, plan.window_bp, strand)
                scalars = np.zeros((len(genes), 0), dtype=np.float32)
                yield GeneRows(genes, scalars, None, {plan.signal: found.values}), found.n_missing


class TrackMeter(_TrackWorker):
    """Measures what float16 would cost the track; writes nothing."""

    def work(self, number: int) -> str:
        """Sums over the values of one partition, as JSON of `Rounding`."""
        total = Rounding()
        for rows, _ in self._row_groups(number):
            total += measure_rounding(rows.signals[self._plan.signal])
        return json.dumps(total.model_dump(mode="json"))


class TrackBuilder(_TrackWorker):
    """Writes the track's files into a staging folder.

    Args:
        plan: what is added.
        staging: folder, absolute, that every worker can write.
    """

    def __init__(self, plan: AddPlan, staging: str) -> None:
        super().__init__(plan)
        self._staging = Path(staging)

    def work(self, number: int) -> str:
        """Write one partition; the driver finds its record in the staging folder."""
        plan = self._plan
        entry = plan.partitions[number]
        assert plan.dtype is not None
        tally = PartitionTally(plan.chrom_sizes[entry.chrom], plan.window_bp)
        signal = (plan.signal, plan.dtype)
        with AddedWriter(self._staging, plan.cell_type, entry.chrom, signal, plan.window_bp) as writer:
            for rows, n_missing in self._row_groups(number):
                rounding = writer.write(rows.genes["gene_id"].tolist(), rows.signals[plan.signal])
                tally.add(rows, {plan.signal: n_missing}, rounding)
            record = PartitionRecord(entry=writer.close(), statistics=tally.statistics())
        write_record(self._staging, plan.key, record)
        return ""
