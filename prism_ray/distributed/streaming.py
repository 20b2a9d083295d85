"""Genes into training as a stream: one Ray Data pipeline for the steps of a run, for stores beyond a node's memory.

A task reads some windows of the training order from the store and gives them as pieces: a piece is a row of a block of
its own and holds what one worker needs for some consecutive steps. Ray Data keeps the order of blocks and deals them
out in turn, so worker r gets every n-th piece; each worker compares the genes of every piece with the training order
and stops where they differ. The order is thereby checked, not assumed.

n workers of a run, L positions in bp, S signals.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import ray.data
from numpy.typing import NDArray
from ray.data import ExecutionResources, TaskPoolStrategy

import prism_ray.store
from prism_ray.config import DataConfig
from prism_ray.distributed.ingest import tell_reads
from prism_ray.distributed.prefetch import read_ahead
from prism_ray.distributed.projections import gene_bytes
from prism_ray.distributed.stream_reads import parts_read
from prism_ray.errors import Fault, FaultList, StoreError
from prism_ray.store import GeneArrays, Store, StorePlace
from prism_ray.store.reading import bytes_read
from prism_ray.training.order import TrainingOrder
from prism_ray.training.sources import GeneTable

PIECE_BYTES = 16 << 20
"""Size that a piece should reach even where there is little object store: a block costs Ray Data milliseconds."""
_LARGE_PIECE_BYTES = 64 << 20
"""Size that it reaches where there is enough; beyond, a window of usual length would have one piece or none ahead."""
_TASK_BYTES = 8 << 30
"""A task reads so many windows as reach this size: the next is read while one is given away, into memory used before,
and few tasks start."""
_WINDOW_BYTES = 256 << 20
"""A longer window has a task of its own: three windows of a task are in memory at once."""
_N_MEMORIES = 3
"""One window is read, one is given away, and the last pieces of the one before may still be on their way."""
_ROWS, _SEQUENCE, _SIGNALS, _FAULTS = "rows", "sequence", "signals", "faults"


class StreamError(StoreError):
    """The store was found damaged while it was read ahead. All workers of a run get it at the same step."""


@dataclass(frozen=True)
class StreamPlan:
    """What a run reads, in which order and on how much; plain data for any process.

    Attributes:
        store: folder of the store.
        digest: of its data, as it was when the run was checked.
        data: what the run reads.
        order: of its training genes.
        n_workers: processes that share each batch.
        n_steps: of the run.
        reader_cpus: CPUs that Ray counts for the task that reads ahead.
        reader_threads: threads of that task that decode at once.
        buffer_bytes: object store that may be filled with pieces that nobody has taken yet.
        ledger: name of the actor that is told what a node reads; empty for none.
    """

    store: StorePlace
    digest: str
    data: DataConfig
    order: TrainingOrder
    n_workers: int
    n_steps: int
    reader_cpus: float = 1.0
    reader_threads: int = 1
    buffer_bytes: int = 256 << 20
    ledger: str = ""

    def pieces(self, window: range) -> Iterator[NDArray[np.int64]]:
        """Row numbers of each piece of one window's steps, in the order of the pipeline: worker after worker."""
        n_steps = steps_a_piece(self.data, self.order.batch_size, self.n_workers, self._piece_bytes())
        for start in range(window.start, window.stop, n_steps):
            part = range(start, min(start + n_steps, window.stop))
            for rank in range(self.n_workers):
                yield np.concatenate([self.order.share(step, rank, self.n_workers) for step in part])

    def _piece_bytes(self) -> int:
        """Size that a piece should reach: as large as is of use, and so many as are needed fit in the object store."""
        fitting = self.buffer_bytes // pieces_in_flight(self.n_workers)
        return max(PIECE_BYTES, min(_LARGE_PIECE_BYTES, fitting))

    def tasks(self, first_step: int) -> list[range]:
        """Steps of each task that reads, from `first_step` on: whole windows."""
        step_bytes = self.order.batch_size * gene_bytes(self.data)
        alone = _is_alone(self.order.window_genes() * gene_bytes(self.data))
        tasks: list[range] = []
        for window in self.order.windows(range(first_step, self.n_steps)):
            if tasks and not alone and (len(tasks[-1]) + len(window)) * step_bytes <= _TASK_BYTES:
                tasks[-1] = range(tasks[-1].start, window.stop)
            else:
                tasks.append(window)
        return tasks


def held_bytes(window_bytes: int) -> int:
    """Memory of a task that reads windows of that size: short ones are read ahead, a long one is alone in its task."""
    return window_bytes if _is_alone(window_bytes) else _N_MEMORIES * window_bytes


def most_batches(batch_bytes: int, memory_bytes: float) -> int:
    """Batches of the longest window that a task with so much memory can read; 0 where none fits."""
    alone = int(memory_bytes // batch_bytes)
    return alone if _is_alone(alone * batch_bytes) else int(memory_bytes // (_N_MEMORIES * batch_bytes))


def _is_alone(window_bytes: int) -> bool:
    """Whether a window has a task of its own."""
    return window_bytes > _WINDOW_BYTES


def steps_a_piece(data: DataConfig, batch_size: int, n_workers: int, n_bytes: int) -> int:
    """Consecutive steps whose genes make one piece of about `n_bytes`."""
    return max(1, n_bytes * n_workers // (batch_size * gene_bytes(data)))


def fewest_piece_bytes(data: DataConfig, batch_size: int, n_workers: int) -> int:
    """Bytes of one piece where there is little object store: one worker's genes of its steps."""
    n_steps = steps_a_piece(data, batch_size, n_workers, PIECE_BYTES)
    return n_steps * (batch_size // n_workers) * gene_bytes(data)


def pieces_in_flight(n_workers: int) -> int:
    """Pieces of a run that the object store must hold: every worker has one and waits for the next, others come."""
    return 2 * n_workers + 4


def steps_dataset(plan: StreamPlan, first_step: int) -> Any:
    """Ray Data pipeline of the pieces of all steps from `first_step` on; nothing is read before it is iterated."""
    tasks = plan.tasks(first_step)
    with _private_context(plan):
        items = ray.data.from_items(
            [{"start": task.start, "stop": task.stop} for task in tasks], override_num_blocks=max(1, len(tasks))
        )
        # One task at a time: it is faster than any training, and never holds a CPU that an earlier window waits for.
        return items.map_batches(
            _read_windows,
            fn_kwargs={"plan": plan},
            batch_size=None,
            batch_format="pyarrow",
            compute=TaskPoolStrategy(size=1),
            num_cpus=plan.reader_cpus,
        )


@contextmanager
def _private_context(plan: StreamPlan) -> Iterator[None]:
    """Settings of Ray Data for the pipelines made in the block, and for no other of this process."""
    with warnings.catch_warnings():
        # Ray's own defaults set fields that Ray deprecates.
        warnings.filterwarnings("ignore", r"`use_\w+` is deprecated", DeprecationWarning)
        context = ray.data.DataContext.get_current().copy()
    context.execution_options.preserve_order = True
    context.execution_options.resource_limits = ExecutionResources.for_limits(
        object_store_memory=float(plan.buffer_bytes)
    )
    # Every piece becomes a block of its own: blocks are what is dealt out to workers.
    context.target_max_block_size = 1
    context.enable_progress_bars = False
    with ray.data.DataContext.current(context):
        yield


def _read_windows(tasks: Any, plan: StreamPlan) -> Iterator[Any]:
    """Pieces of the steps in `tasks`; where the store is damaged, its faults for each worker instead."""
    for task in tasks.to_pylist():
        try:
            with closing(read_ahead(_windows_read(plan, range(task["start"], task["stop"])))) as windows:
                for pieces, arrays in windows:
                    yield from _cut(pieces, arrays)
        except StoreError as problem:
            # Through an exception of Ray its text would come with a traceback, and to one of the workers only.
            text = json.dumps([asdict(fault) for fault in problem.faults])
            yield from [_piece(np.empty(0, np.int64), None, None, text)] * plan.n_workers
            return


def _windows_read(plan: StreamPlan, steps: range) -> Generator[tuple[list[NDArray[np.int64]], GeneArrays], None, None]:
    """Row numbers of the pieces of each window, and the arrays of all of them together.

    A window's arrays are written over when the third after it is read: Ray has copied its pieces by then.
    """
    reader = _reader(plan.store, plan.digest, plan.data, plan.ledger)
    spares: deque[GeneArrays | None] = deque([None] * _N_MEMORIES)
    for window in plan.order.windows(steps):
        pieces = list(plan.pieces(window))
        spare = spares.popleft()
        arrays = reader.load(np.concatenate(pieces), spare, plan.reader_threads)
        spares.append(spare if spare is not None and len(spare) >= len(arrays) else arrays)
        yield pieces, arrays


def _cut(pieces: list[NDArray[np.int64]], arrays: GeneArrays) -> Iterator[Any]:
    start = 0
    for rows in pieces:
        part = slice(start, start + len(rows))
        yield _piece(rows, None if arrays.sequence is None else arrays.sequence[part], arrays.signals[part], "")
        start = part.stop


def _piece(
    rows: NDArray[np.int64],
    sequence: NDArray[np.uint8] | None,
    signals: NDArray[np.float32] | None,
    faults: str,
) -> Any:
    """Table of one row. Arrays are bytes in it: one schema for pieces of any number of steps, and no copy."""
    return pa.table(
        {_ROWS: _bytes(rows), _SEQUENCE: _bytes(sequence), _SIGNALS: _bytes(signals), _FAULTS: pa.array([faults])}
    )


def _bytes(array: NDArray[Any] | None) -> Any:
    flat = np.empty(0, np.uint8) if array is None else np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    offsets = pa.py_buffer(np.array([0, flat.nbytes], dtype=np.int64))
    return pa.Array.from_buffers(pa.large_binary(), 1, [None, offsets, pa.py_buffer(flat)])


class StreamReader:
    """Reads genes of one projection by their row numbers; made once a process.

    Raises:
        StoreError: the store is damaged, or is another one than when the run was checked.
    """

    def __init__(self, store: StorePlace, digest: str, data: DataConfig, ledger: str = "") -> None:
        self._store: Store = prism_ray.store.open(store)
        if self._store.digest != digest:
            faults = FaultList()
            faults.add(str(store), "was replaced by another store since this run was checked", "start the run again")
            faults.raise_if_any(StoreError)
        self._data = data
        self._ledger = ledger
        # Without windows: identifiers, labels and scalars only.
        light = self._store.load(2, (), data.cell_type, sequence=False, scalars=data.scalars)
        self.scalars = light.scalars
        self.genes = GeneTable(
            gene_id=light.gene_id,
            chrom=light.chrom,
            label=light.label,
            signal_names=data.signals,
            scalar_names=light.scalar_names,
            sequence=data.sequence,
            window_bp=data.window_bp,
        )

    def load(
        self, rows: NDArray[np.int64], spare: GeneArrays | None = None, n_threads: int | None = None
    ) -> GeneArrays:
        """Arrays of genes by their row numbers, without scalars; `spare` and `n_threads` as for `Store.load`."""
        data = self._data
        ids = self.genes.gene_id[rows].tolist()
        before = bytes_read()
        arrays = self._store.load(
            data.window_bp,
            data.signals,
            data.cell_type,
            ids,
            sequence=data.sequence,
            scalars=(),
            spare=spare,
            n_threads=n_threads,
        )
        told = tell_reads(self._ledger, bytes_read() - before)
        if told:
            ray.wait(told)
        return arrays

    def complete(
        self, rows: NDArray[np.int64], sequence: NDArray[np.uint8] | None, signals: NDArray[np.float32]
    ) -> GeneArrays:
        """Arrays of genes `rows` from what lies along their windows."""
        return GeneArrays(
            gene_id=self.genes.gene_id[rows],
            chrom=self.genes.chrom[rows],
            sequence=sequence,
            signals=signals,
            scalars=self.scalars[rows],
            label=self.genes.label[rows],
            signal_names=self.genes.signal_names,
            scalar_names=self.genes.scalar_names,
            window_bp=self.genes.window_bp,
        )


@lru_cache(maxsize=4)
def _reader(store: StorePlace, digest: str, data: DataConfig, ledger: str) -> StreamReader:
    return StreamReader(store, digest, data, ledger)


@dataclass(frozen=True)
class StreamSource:
    """Genes of a run from its pipeline while it trains, and straight from the store where it is evaluated.

    Attributes:
        plan: what is read.
        iterator: this worker's part of the pipeline (a Ray Data iterator over `steps_dataset`); None to run the
            whole pipeline from this process, for one worker.
    """

    plan: StreamPlan
    iterator: Any = None

    @property
    def genes(self) -> GeneTable:
        """All genes of the cell type."""
        return _reader(self.plan.store, self.plan.digest, self.plan.data, self.plan.ledger).genes

    def training_shares(
        self, order: TrainingOrder, steps: range, rank: int, n_workers: int
    ) -> Generator[GeneArrays, None, None]:
        """Genes of one worker for each step, as the pipeline brings them.

        Raises:
            StreamError: a file of the store is damaged.
        """
        if not steps:
            return
        reader = _reader(self.plan.store, self.plan.digest, self.plan.data, self.plan.ledger)
        iterator = self.iterator
        if iterator is None:
            iterator = steps_dataset(self.plan, steps.start).iterator()
        with _quiet(), closing(_tables(iterator)) as tables:
            step = steps.start
            for table in tables:
                rows = _checked_rows(table, order, step, rank, n_workers)
                n_share = len(order.share(step, rank, n_workers))
                sequence, signals = _windows(table, self.plan.data, len(rows))
                for start in range(0, len(rows), n_share):
                    part = slice(start, start + n_share)
                    # Copies: the pieces lie in the node's shared memory, which is given back as soon as may be.
                    yield reader.complete(
                        rows[part], None if sequence is None else sequence[part].copy(), signals[part].copy()
                    )
                    step += 1
        assert step == steps.stop, f"the pipeline ended after step {step} of {steps.stop}"

    def chunks(self, rows: NDArray[np.int64], size: int) -> Generator[GeneArrays, None, None]:
        """Genes read straight from the store, one part ahead of what is used.

        Raises:
            StoreError: a file of the store is damaged.
        """
        reader = _reader(self.plan.store, self.plan.digest, self.plan.data, self.plan.ledger)
        parts = parts_read(rows, size, self.plan.data)
        with closing(read_ahead((part, reader.load(part)) for part in parts)) as ahead:
            for part, arrays in ahead:
                for start in range(0, len(part), size):
                    inside = slice(start, start + size)
                    sequence = None if arrays.sequence is None else arrays.sequence[inside]
                    yield reader.complete(part[inside], sequence, arrays.signals[inside])


def _tables(iterator: Any) -> Generator[Any, None, None]:
    yield from iterator.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1)


def _checked_rows(table: Any, order: TrainingOrder, step: int, rank: int, n_workers: int) -> NDArray[np.int64]:
    """Row numbers of a piece's genes.

    Raises:
        StreamError: there is no piece, since a file of the store is damaged.
        AssertionError: it is not the piece that is due: the order of the pipeline was broken.
    """
    assert table.num_rows == 1, f"a block of {table.num_rows} pieces"
    text = table[_FAULTS][0].as_py()
    if text:
        faults = FaultList()
        faults.extend(Fault(**fault) for fault in json.loads(text))
        faults.raise_if_any(StreamError)
    rows = _array(table, _ROWS, np.dtype(np.int64))
    n_share = len(order.share(step, rank, n_workers))
    due = [order.share(step + index, rank, n_workers) for index in range(max(1, len(rows) // n_share))]
    assert np.array_equal(rows, np.concatenate(due)), f"worker {rank} was given the genes of another step than {step}"
    return rows


def _windows(table: Any, data: DataConfig, n_genes: int) -> tuple[NDArray[np.uint8] | None, NDArray[np.float32]]:
    """Views of a piece's sequences, (n_genes, L) or None, and of its signals, (n_genes, L, S)."""
    length, n_signals = data.window_bp, len(data.signals)
    sequence = None
    if data.sequence:
        sequence = _array(table, _SEQUENCE, np.dtype(np.uint8)).reshape(n_genes, length)
    signals = _array(table, _SIGNALS, np.dtype(np.float32)).reshape(n_genes, length, n_signals)
    return sequence, signals


def _array(table: Any, name: str, dtype: np.dtype[Any]) -> NDArray[Any]:
    """View of the bytes of the one row; a scalar of the column would be a copy."""
    (cell,) = table[name].chunks
    _, offsets, values = cell.buffers()
    start, end = np.frombuffer(offsets, dtype=np.int64)[cell.offset : cell.offset + 2].tolist()
    return np.frombuffer(values[start:end], dtype=dtype)


@contextmanager
def _quiet() -> Iterator[None]:
    """Ray Data without lines of its own, for the time of the block: its errors are raised, not only logged."""
    logger = logging.getLogger("ray.data")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
