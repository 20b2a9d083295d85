"""What a build does inside a Ray worker: read the windows of a partition's genes and write its file."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from prism_ray.distributed.build_plan import BuildPlan, Partition
from prism_ray.errors import Fault, PrismRayError
from prism_ray.features.sequence import SequenceReader, open_sequence
from prism_ray.features.signals import SignalReader, open_signal
from prism_ray.store.staging import write_record
from prism_ray.store.tally import PartitionRecord, PartitionTally
from prism_ray.store.write import GeneRows, PartitionWriter

PARTITION = "partition"
FAULTS = "faults"


class PartitionBuilder:
    """Writes partitions into a staging folder; one object a Ray actor, which opens its own files.

    Args:
        plan: what is built.
        staging: folder, absolute, that every worker can write.
    """

    def __init__(self, plan: BuildPlan, staging: str) -> None:
        self._plan = plan
        self._staging = Path(staging)
        self._opened = ExitStack()
        self._signals: dict[str, dict[str, SignalReader]] = {}
        self._dna: SequenceReader | None = None

    def close(self) -> None:
        """Close all files."""
        self._opened.close()
        self._signals, self._dna = {}, None

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Write the partitions whose numbers are in `batch`.

        A fault is returned as JSON, not raised: through an exception of Ray its text would come with a traceback.
        """
        faults = [self._faults_of(self._plan.partitions[int(number)]) for number in batch[PARTITION]]
        texts = [json.dumps([asdict(fault) for fault in found]) for found in faults]
        return {PARTITION: batch[PARTITION], FAULTS: np.array(texts, dtype=object)}

    def _faults_of(self, partition: Partition) -> tuple[Fault, ...]:
        """Write one partition; what was wrong with its sources or its place."""
        try:
            self.build(partition)
        except PrismRayError as error:
            return error.faults or (Fault(f"{partition.cell_type} {partition.chrom}", str(error)),)
        except OSError as problem:
            where = f"{self._staging}: {partition.cell_type} {partition.chrom}"
            return (Fault(where, f"cannot be written ({problem})", "make room or rights, then run the same command"),)
        return ()

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

    def _signal_readers(self, cell_type: str) -> dict[str, SignalReader]:
        """Readers of a cell type, opened at the first use."""
        if cell_type not in self._signals:
            catalog = self._plan.catalog
            self._signals[cell_type] = {
                name: self._opened.enter_context(
                    open_signal(source, catalog.resolve(source.file), self._plan.chrom_sizes)
                )
                for name, source in self._plan.sources(cell_type).items()
            }
        return self._signals[cell_type]

    def _sequence_reader(self) -> SequenceReader | None:
        source = self._plan.catalog.sequence
        if self._dna is None and source is not None:
            self._dna = self._opened.enter_context(open_sequence(self._plan.catalog.resolve(source.fasta)))
        return self._dna

    def _read(self, partition: Partition, genes: slice) -> tuple[GeneRows, dict[str, int]]:
        """Genes of one row group, and bases without a value by signal."""
        cell = self._plan.cell_types[partition.cell_type]
        table = cell.genes.iloc[genes]
        tss = table["tss"].to_numpy(np.int64)
        window_bp = self._plan.window_bp
        readers = self._signal_readers(partition.cell_type)
        windows = {name: reader.windows(partition.chrom, tss, window_bp) for name, reader in readers.items()}
        dna = self._sequence_reader()
        rows = GeneRows(
            genes=table,
            scalars=cell.scalars[genes],
            sequence=None if dna is None else dna.windows(partition.chrom, tss, window_bp),
            signals={name: found.values for name, found in windows.items()},
        )
        return rows, {name: found.n_missing for name, found in windows.items()}
