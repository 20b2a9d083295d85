"""Filling a node's cache, or reading the same with pyarrow alone, in a process of its own: at first, and again.

A process fills its cache once, with memory that it has not had before. pyarrow keeps the memory of what it has read and
uses it again, so that later goes in one process are another question.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow.parquet as pq

import prism_ray.store
from benchmarks.store_data import CELL_TYPE, SIGNALS
from prism_ray.store import Store
from prism_ray.store.projection import Projection


def load(store: Store, window_bp: int) -> object:
    """The projection as a node keeps it."""
    return store.load(window_bp, SIGNALS, CELL_TYPE)


def arrow_alone(store: Store, window_bp: int, *, keep: bool = True) -> object:
    """The columns of a projection, read by pyarrow file by file; kept in memory to the end, as a cache has to."""
    columns = Projection(CELL_TYPE, window_bp, SIGNALS).columns(store.description)
    kept = []
    for entry in store.description.files_of(CELL_TYPE):
        with pq.ParquetFile(store.path / entry.path) as file:
            for group in range(file.metadata.num_row_groups):
                table = file.read_row_groups([group], columns=["gene_id", "label", *columns])
                if keep:
                    kept.append(table)
    return kept


N_GOES = 5
WAYS: dict[str, Callable[[Store, int], object]] = {"load": load, "arrow_alone": arrow_alone}


def main(argv: Sequence[str]) -> None:
    """Print the seconds of the first go, and the median of those after it: folder of the store, window in bp, way."""
    store, window_bp, way = prism_ray.store.open(Path(argv[0])), int(argv[1]), WAYS[argv[2]]
    seconds = []
    for _ in range(N_GOES):
        started = time.perf_counter()
        kept = way(store, window_bp)
        seconds.append(time.perf_counter() - started)
        del kept
    print(json.dumps([seconds[0], statistics.median(seconds[1:])]))


if __name__ == "__main__":
    main(sys.argv[1:])
