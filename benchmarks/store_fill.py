"""Filling a node's cache, or reading the same with pyarrow alone, in a process of its own: at first, and again.

A process fills its first cache with memory that it has not had before, and so does pyarrow. Later on pyarrow has the
memory of what it read before, while a result of NumPy's is asked for anew: `load_over` writes over the arrays of the go
before, so that both have memory that was used.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

import prism_ray.store
from benchmarks.store_data import CELL_TYPE, SIGNALS
from prism_ray.store import GeneArrays, Store
from prism_ray.store.projection import Projection


def load(store: Store, window_bp: int, _: GeneArrays | None) -> GeneArrays:
    """The projection as a node keeps it."""
    return store.load(window_bp, SIGNALS, CELL_TYPE)


def load_over(store: Store, window_bp: int, before: GeneArrays | None) -> GeneArrays:
    """The same, into the memory of the go before."""
    return store.load(window_bp, SIGNALS, CELL_TYPE, spare=before)


def arrow_alone(store: Store, window_bp: int, _: object = None, *, keep: bool = True) -> list[Any]:
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
WAYS: dict[str, Callable[[Store, int, Any], Any]] = {"load": load, "load_over": load_over, "arrow_alone": arrow_alone}


def main(argv: Sequence[str]) -> None:
    """Print the seconds of the first go, and the median of those after it: folder of the store, window in bp, way."""
    store, window_bp, way = prism_ray.store.open(Path(argv[0])), int(argv[1]), WAYS[argv[2]]
    seconds = []
    kept = None
    for _ in range(N_GOES):
        spare, kept = (kept, None) if way is load_over else (None, None)
        started = time.perf_counter()
        kept = way(store, window_bp, spare)
        seconds.append(time.perf_counter() - started)
    print(json.dumps([seconds[0], statistics.median(seconds[1:])]))


if __name__ == "__main__":
    main(sys.argv[1:])
