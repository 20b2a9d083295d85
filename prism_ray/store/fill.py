"""Filling arrays from a store's files: which row groups are read, how many at once, and where their genes go.

N genes, L positions in bp.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import groupby
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prism_ray.store.arrays import GeneArrays
from prism_ray.store.files import PartitionFile, tensor_to_numpy
from prism_ray.store.place import StorePlace
from prism_ray.store.projection import SCALARS, Projection
from prism_ray.store.rings import SEQUENCE, place_ring, rings_touched
from prism_ray.store.schema import FileEntry, StoreDescription

_READ_BYTES = 8 << 20

OpenFiles = list[tuple[PartitionFile, list[str]]]
"""Files with a projection of a partition's genes, each with the columns wanted of it."""


@contextmanager
def opened(
    store: StorePlace, description: StoreDescription, entry: FileEntry, projection: Projection
) -> Iterator[OpenFiles]:
    """Files with a projection of a partition's genes, open; the partition's own first, then signals added later.

    Raises:
        StoreError: one of them is missing or damaged.
    """
    added = description.added_to(entry)
    own = tuple(name for name in projection.signals if name not in added)
    wanted: list[tuple[FileEntry, list[str]]] = [(entry, replace(projection, signals=own).columns(description))]
    rings = rings_touched(description.ring_bounds, projection.window_bp)
    wanted += [(added[name], [ring.column(name) for ring in rings]) for name in projection.signals if name in added]
    with ExitStack() as stack:
        yield [(stack.enter_context(PartitionFile(store, one)), names) for one, names in wanted]


@dataclass(frozen=True)
class Filling:
    """Arrays that are filled from a store.

    Attributes:
        store: its folder, or its place in a bucket.
        description: what its `store.json` says.
        projection: what the arrays hold of each gene.
        arrays: every row of their inputs is written.
    """

    store: StorePlace
    description: StoreDescription
    projection: Projection
    arrays: GeneArrays

    def run(self, rows: NDArray[np.int64], n_threads: int) -> None:
        """Read every row group with wanted genes into its place, `n_threads` at a time.

        Args:
            rows: (N,) store rows of the genes, in the arrays' order.

        Raises:
            StoreError: a file that was read is damaged.
        """
        waiting = deque(self._pieces(rows))
        n_threads = min(n_threads, len(waiting))
        if n_threads < 2:
            self._fill_pieces(waiting)
            return
        # A thread decodes and copies whole row groups: that shares the work better than Arrow's threads, a column each.
        with ThreadPoolExecutor(n_threads) as pool:
            try:
                done = [pool.submit(self._fill_pieces, waiting) for _ in range(n_threads)]
                wait(done, return_when=FIRST_EXCEPTION)
            finally:
                waiting.clear()  # once a thread fails, or this one is interrupted, the others end with what they read
        for future in done:
            future.result()

    def _pieces(self, rows: NDArray[np.int64]) -> Iterator[_Piece]:
        """Row groups with wanted genes, some at a time, with these genes' places in the answer and in the groups."""
        projection = self.projection
        most_rows = _READ_BYTES // (projection.window_bp * (4 * len(projection.signals) + projection.sequence) or 1)
        for entry, first, order in _rows_by_file(self.description.files_of(projection.cell_type), rows):
            with PartitionFile(self.store, entry) as file:
                row_groups = list(file.row_groups())
            for groups in _some_at_a_time(row_groups, rows[order] - first, most_rows):
                start = 0
                places, inside = [], []
                for _, low, high in groups:
                    here = order[(rows[order] >= first + low) & (rows[order] < first + high)]
                    places.append(here)
                    inside.append(rows[here] - first - low + start)
                    start += high - low
                numbers = tuple(number for number, _, _ in groups)
                yield _Piece(entry, numbers, np.concatenate(places), np.concatenate(inside))

    def _fill_pieces(self, waiting: deque[_Piece]) -> None:
        """Fill one piece after the other until none waits; a file stays open from one to the next."""
        for entry, pieces in groupby(_taken(waiting), key=attrgetter("entry")):
            with opened(self.store, self.description, entry, self.projection) as files:
                for piece in pieces:
                    self._fill_piece(piece, files)

    def _fill_piece(self, piece: _Piece, files: OpenFiles) -> None:
        """Read the row groups of a piece and copy their wanted rows to their places."""
        arrays = self.arrays
        columns: dict[str, Any] = {}
        for file, names in files:
            table = file.read(piece.row_groups, names, threads=False)
            columns |= zip(table.column_names, table.columns, strict=True)
        taken, put = _as_slice(piece.inside), _as_slice(piece.places)
        for ring in rings_touched(self.description.ring_bounds, self.projection.window_bp):
            if arrays.sequence is not None:
                place_ring(tensor_to_numpy(columns[ring.column(SEQUENCE)])[taken], ring, arrays.sequence, put)
            for index, name in enumerate(self.projection.signals):
                column = tensor_to_numpy(columns[ring.column(name)])[taken].astype(np.float32, copy=False)
                place_ring(column, ring, arrays.signals[:, :, index], put)
        if arrays.scalar_names:
            chosen = [self.description.scalar_names.index(name) for name in arrays.scalar_names]
            arrays.scalars[put] = tensor_to_numpy(columns[SCALARS])[taken][:, chosen]


@dataclass(frozen=True)
class _Piece:
    """Row groups of a file that are read at once.

    Attributes:
        entry: the file.
        row_groups: their numbers.
        places: rows of the answer to fill.
        inside: the same genes' rows in these row groups, one after the other.
    """

    entry: FileEntry
    row_groups: tuple[int, ...]
    places: NDArray[np.int64]
    inside: NDArray[np.int64]


def _rows_by_file(
    files: Iterable[FileEntry], rows: NDArray[np.int64]
) -> list[tuple[FileEntry, int, NDArray[np.int64]]]:
    """Files of a cell type with wanted genes: entry, store row of its first gene, places among `rows` of its genes."""
    found = []
    first = 0
    for entry in files:
        places = np.flatnonzero((rows >= first) & (rows < first + entry.rows))
        if len(places):
            found.append((entry, first, places))
        first += entry.rows
    return found


def _taken(waiting: deque[_Piece]) -> Iterator[_Piece]:
    """Pieces from the front, until none is left; several threads may take from the same."""
    with suppress(IndexError):
        while True:
            yield waiting.popleft()


def _some_at_a_time(
    row_groups: Iterable[tuple[int, int, int]], wanted: NDArray[np.int64], most_rows: int
) -> Iterator[list[tuple[int, int, int]]]:
    """Row groups that hold wanted rows of a file: one at a time, or several that have up to `most_rows` together.

    One call of the Parquet reader costs as much as decoding some genes of a short window.
    """
    taken: list[tuple[int, int, int]] = []
    for number, start, end in row_groups:
        if not ((wanted >= start) & (wanted < end)).any():
            continue
        if taken and sum(high - low for _, low, high in taken) + end - start > most_rows:
            yield taken
            taken = []
        taken.append((number, start, end))
    if taken:
        yield taken


def _as_slice(rows: NDArray[np.int64]) -> NDArray[np.int64] | slice:
    """A slice where row numbers are consecutive, which saves a copy; else the numbers themselves."""
    start, n = int(rows[0]), len(rows)
    return slice(start, start + n) if np.array_equal(rows, np.arange(start, start + n)) else rows
