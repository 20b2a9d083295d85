"""What a build does inside a Ray worker: read the windows of a partition's genes and write its file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from prism_ray.distributed.build_plan import BuildPlan, Partition
from prism_ray.distributed.partition_run import PartitionWorker
from prism_ray.features.blacklist import Blacklisted, read_blacklist
from prism_ray.features.opened import OpenedSignals
from prism_ray.features.remote import ensure_fetched
from prism_ray.features.sequence import SequenceReader, open_sequence
from prism_ray.features.strand import turn_sequence
from prism_ray.store.layout import GeneRows, row_groups
from prism_ray.store.precision import Rounding, measure_rounding
from prism_ray.store.staging import write_record
from prism_ray.store.tally import PartitionRecord, PartitionTally
from prism_ray.store.write import PartitionWriter


class _PartitionReader(PartitionWorker):
    """Reads windows of a plan's genes; one object a Ray actor, which opens its own files.

    Args:
        plan: what is built.
    """

    def __init__(self, plan: BuildPlan) -> None:
        self._plan = plan
        ensure_fetched(plan.catalog)
        self._signals: dict[str, OpenedSignals] = {}
        self._dna: SequenceReader | None = None
        self._blacklist: Blacklisted | None = None

    def close(self) -> None:
        """Close all files."""
        for signals in self._signals.values():
            signals.close()
        if self._dna is not None:
            self._dna.close()
        self._signals, self._dna = {}, None

    def _opened(self, cell_type: str) -> OpenedSignals:
        """Tracks of a cell type, opened at the first use."""
        if cell_type not in self._signals:
            plan = self._plan
            if self._blacklist is None and plan.catalog.blacklist is not None:
                self._blacklist = read_blacklist(plan.catalog.resolve(plan.catalog.blacklist.bed))
            sources = {
                name: (source, plan.catalog.resolve(source.file)) for name, source in plan.sources(cell_type).items()
            }
            self._signals[cell_type] = OpenedSignals(sources, plan.chrom_sizes, self._blacklist)
        return self._signals[cell_type]

    def _sequence(self, partition: Partition, genes: slice) -> NDArray[np.uint8] | None:
        """DNA of some genes of a partition, (n, L); None where the catalog has none."""
        source = self._plan.catalog.sequence
        if source is None:
            return None
        if self._dna is None:
            self._dna = open_sequence(self._plan.catalog.resolve(source.fasta))
        tss, strand = self._places(partition, genes)
        codes = self._dna.windows(partition.chrom, tss, self._plan.window_bp)
        return codes if strand is None else turn_sequence(codes, strand)

    def _places(self, partition: Partition, genes: slice) -> tuple[NDArray[np.int64], NDArray[np.str_] | None]:
        """TSS of some genes, and their strand where windows are turned by it."""
        table = self._plan.cell_types[partition.cell_type].genes.iloc[genes]
        strand = table["strand"].to_numpy().astype(np.str_) if self._plan.catalog.strand_aware else None
        return table["tss"].to_numpy(np.int64), strand

    def place(self, number: int) -> str:
        """What a failure of the operating system is told with."""
        partition = self._plan.partitions[number]
        return f"{partition.cell_type} {partition.chrom}"


class PartitionBuilder(_PartitionReader):
    """Writes partitions into a staging folder.

    Args:
        plan: what is built.
        staging: folder, absolute, that every worker can write.
    """

    def __init__(self, plan: BuildPlan, staging: str) -> None:
        super().__init__(plan)
        self._staging = Path(staging)

    def place(self, number: int) -> str:
        """What a failure of the operating system is told with."""
        return f"{self._staging}: {super().place(number)}"

    def work(self, number: int) -> str:
        """Write one partition; the driver finds its record in the staging folder."""
        self.build(self._plan.partitions[number])
        return ""

    def build(self, partition: Partition) -> PartitionRecord:
        """Write one partition and its record.

        Raises:
            CatalogError: a source that cannot be read, or holds what it may not.
            StoreError: a signal that float16 cannot hold.
        """
        plan = self._plan
        layout = plan.layout(partition.cell_type)
        tally = PartitionTally(plan.chrom_sizes[partition.chrom], plan.window_bp)
        with PartitionWriter(self._staging, partition.cell_type, partition.chrom, layout) as writer:
            # One row group at a time bounds the memory, however many genes a chromosome has.
            for part in layout.row_groups(partition.n_genes):
                rows, n_missing = self._read(
                    partition, slice(partition.start + part.start, partition.start + part.stop)
                )
                tally.add(rows, n_missing, writer.write(rows))
            record = PartitionRecord(entry=writer.close(), statistics=tally.statistics())
        write_record(self._staging, plan.key, record)
        return record

    def _read(self, partition: Partition, genes: slice) -> tuple[GeneRows, dict[str, int]]:
        """Genes of one row group, and bases without a value by signal."""
        cell = self._plan.cell_types[partition.cell_type]
        tss, strand = self._places(partition, genes)
        opened = self._opened(partition.cell_type)
        windows = {
            name: opened.windows(name, partition.chrom, tss, self._plan.window_bp, strand)
            for name in self._plan.sources(partition.cell_type)
        }
        rows = GeneRows(
            genes=cell.genes.iloc[genes],
            scalars=cell.scalars[genes],
            sequence=self._sequence(partition, genes),
            signals={name: found.values for name, found in windows.items()},
        )
        return rows, {name: found.n_missing for name, found in windows.items()}


class PrecisionMeter(_PartitionReader):
    """Measures what float16 would cost the signals whose type is chosen by that; writes nothing."""

    def work(self, number: int) -> str:
        """Sums over the values of one partition, as JSON: signal -> `Rounding`."""
        partition = self._plan.partitions[number]
        opened = self._opened(partition.cell_type)
        totals: dict[str, Rounding] = {}
        # As many genes at a time as a row group has bounds the memory.
        for part in row_groups(partition.n_genes, self._plan.window_bp * np.dtype(np.float32).itemsize):
            tss, _ = self._places(partition, slice(partition.start + part.start, partition.start + part.stop))
            for name in self._plan.undecided(partition.cell_type):
                values = opened.windows(name, partition.chrom, tss, self._plan.window_bp).values
                totals[name] = totals.get(name, Rounding()) + measure_rounding(values)
        return json.dumps({name: total.model_dump(mode="json") for name, total in totals.items()})
