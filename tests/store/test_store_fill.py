"""How a store's files are read into arrays: each opened once a thread, nothing read for an answer that is lost."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import prism_ray.store
from prism_ray.errors import StoreError
from prism_ray.store import Store, fill
from tests.store.factory import Recipe, make_store


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of two files of many row groups each."""
    path = tmp_path_factory.mktemp("fill") / "store"
    make_store(path, Recipe(window_bp=20, n_genes=600, chroms=("chr1", "chr2"), cell_types=("K562",)))
    return path


@pytest.fixture
def store(path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """That store, read one row group after the other."""
    monkeypatch.setattr(fill, "_READ_BYTES", 1)
    store = prism_ray.store.open(path)
    store.genes("K562")  # kept, so that what is read later is the inputs alone
    return store


@pytest.mark.parametrize("n_threads", [1, 3])
def test_a_thread_opens_a_file_once_for_all_its_row_groups(
    store: Store, monkeypatch: pytest.MonkeyPatch, n_threads: int
) -> None:
    opened: Counter[str] = Counter()
    n_reads = 0
    whole_init, whole_read = fill.PartitionFile.__init__, fill.PartitionFile.read

    def init(self: Any, place: Any, entry: Any) -> None:
        opened[entry.path] += 1
        whole_init(self, place, entry)

    def read(self: Any, *args: Any, **options: Any) -> Any:
        nonlocal n_reads
        n_reads += 1
        return whole_read(self, *args, **options)

    monkeypatch.setattr(fill.PartitionFile, "__init__", init)
    monkeypatch.setattr(fill.PartitionFile, "read", read)
    store.load(20, ["hic"], "K562", n_threads=n_threads)
    assert n_reads >= 8
    assert len(opened) == 2
    assert max(opened.values()) <= 1 + n_threads  # once more to see what row groups there are


@pytest.mark.parametrize("n_threads", [1, 2, 7])
def test_genes_in_any_order_by_any_number_of_threads(store: Store, n_threads: int) -> None:
    whole = store.load(20, ["h3k27ac", "dnase"], "K562", n_threads=1)
    order = np.random.default_rng(n_threads).permutation(len(whole))
    asked = [str(gene) for gene in whole.gene_id[order]]
    found = store.load(20, ["h3k27ac", "dnase"], "K562", genes=asked, n_threads=n_threads)
    np.testing.assert_array_equal(found.signals, whole.signals[order])
    np.testing.assert_array_equal(found.scalars, whole.scalars[order])


class _SlowReads:
    """Reads of row groups that take a while, the first of which is damaged, or interrupts the test's thread."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, damaged: bool) -> None:
        caller, numbers = threading.get_ident(), count(1)
        self.n_reads = 0
        whole = fill.PartitionFile.read

        def read(file: Any, *args: Any, **options: Any) -> Any:
            self.n_reads = number = next(numbers)
            if damaged and number == 1:
                raise file._damaged(OSError("page checksum"))
            if number == 1:
                signal.pthread_kill(caller, signal.SIGINT)
            time.sleep(0.05)
            return whole(file, *args, **options)

        monkeypatch.setattr(fill.PartitionFile, "read", read)


@pytest.mark.parametrize("n_threads", [1, 2])
def test_once_a_row_group_is_damaged_no_others_are_begun(
    store: Store, monkeypatch: pytest.MonkeyPatch, n_threads: int
) -> None:
    n_groups = len(store.row_groups(20, ["hic"], "K562").starts)
    reads = _SlowReads(monkeypatch, damaged=True)
    with pytest.raises(StoreError, match="cannot be read"):
        store.load(20, ["hic"], "K562", n_threads=n_threads)
    assert reads.n_reads < n_groups


def test_an_interrupt_ends_with_the_row_groups_that_are_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    n_groups = len(store.row_groups(20, ["hic"], "K562").starts)
    reads = _SlowReads(monkeypatch, damaged=False)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background command ignores it
    try:
        with pytest.raises(KeyboardInterrupt):
            store.load(20, ["hic"], "K562", n_threads=2)
    finally:
        signal.signal(signal.SIGINT, before)
    assert 0 < reads.n_reads < n_groups
