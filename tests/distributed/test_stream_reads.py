"""What a plan says that a trial streams is what its process reads of the store, byte for byte."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import prism_ray.store
from prism_ray.config import DataConfig, RunConfig
from prism_ray.distributed.loading import gene_source, training_order
from prism_ray.distributed.stream_reads import StreamReads, parts_read
from prism_ray.distributed.trial import TrialTask, run_trial
from prism_ray.store import RowGroups
from prism_ray.store.reading import bytes_read
from prism_ray.training.record import read_record
from prism_ray.training.reporter import Placement
from tests.distributed.streams import LOADING, dealt, plan_of, run_config, write_store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two row groups a chromosome."""
    return write_store(tmp_path_factory.mktemp("stream-reads") / "store")


# Of 140 training genes an epoch has 17 steps: two epochs, and part of one. In windows of 24, whose blocks meet.
@pytest.mark.parametrize(("shuffle_genes", "n_steps"), [(0, 40), (24, 40), (0, 3)])
def test_a_run_reads_what_is_planned(shuffle_genes: int, n_steps: int, store: Path, tmp_path: Path) -> None:
    config = run_config(shuffle_genes, n_steps)
    opened = prism_ray.store.open(store)
    task = TrialTask("s", "a", "t", config, store, opened.digest, tmp_path / "t", loading=LOADING)
    # Names, labels and scalars, which a process reads once.
    gene_source(LOADING, opened, config, 1)
    assert len(gene_source(LOADING, opened, config, 1).genes.gene_id) == 280
    before = bytes_read()
    (part,) = dealt(plan_of(store, config), 0)
    assert run_trial(task, Placement(), iterator=part) is not None
    assert read_record(task.folder) is not None
    assert bytes_read() - before == StreamReads(opened, 1).trial_bytes(config)


@pytest.mark.parametrize("shuffle_genes", [0, 24, 200])
# Of 140 training genes an epoch leaves out 0 to 12; the smallest row group has 6.
@pytest.mark.parametrize("batch_size", [7, 8, 9, 16, 70])
def test_reads_of_many_epochs_are_those_of_their_windows(shuffle_genes: int, batch_size: int, store: Path) -> None:
    opened, once = prism_ray.store.open(store), {"validate_every_epochs": 1e6}
    config = run_config(shuffle_genes, 1, batch_size)
    data, training = config.data, config.training.model_copy(update=once)
    groups = opened.row_groups(data.window_bp, data.signals, data.cell_type, scalars=())
    order = training_order(opened, config)

    def planned(n_steps: int) -> int:
        asked = training.model_copy(update={"n_steps": n_steps})
        return StreamReads(opened, 1).trial_bytes(config.model_copy(update={"training": asked}))

    def windows(n_steps: int) -> int:
        return sum(groups.bytes_of(order.rows_of(window)) for window in order.windows(range(n_steps)))

    assert planned(103) - planned(1) == windows(103) - windows(1)


def test_two_workers_read_the_row_group_in_which_their_shares_meet_twice(store: Path) -> None:
    config, opened = run_config(n_steps=1), prism_ray.store.open(store)
    data = config.data
    groups = opened.row_groups(data.window_bp, data.signals, data.cell_type, sequence=True, scalars=())
    split = opened.folds.split("fold_1", opened.genes(data.cell_type)["chrom"].to_numpy(str))
    # 70 genes a chromosome: the share of the first worker ends within its row group of 64.
    shared = [
        int(groups.n_bytes[np.searchsorted(groups.starts, rows[0], "right") - 1])
        for rows in (split.validation, split.test, split.test)
    ]
    assert StreamReads(opened, 2).trial_bytes(config) - StreamReads(opened, 1).trial_bytes(config) == sum(shared)


def test_bytes_of_rows_are_those_of_their_row_groups() -> None:
    groups = RowGroups(np.array([0, 64, 70]), np.array([100, 10, 1]))
    for rows, expected in (([0], 100), ([63, 5], 100), ([64], 10), ([69, 70], 11), ([71, 3], 101), ([], 0)):
        assert groups.bytes_of(np.array(rows, dtype=np.int64)) == expected


@given(
    n_rows=st.integers(0, 300),
    size=st.integers(1, 40),
    window_bp=st.sampled_from([2, 1000, 200_000, 2_000_000]),
)
def test_parts_are_whole_batches_of_a_size_and_all_rows_in_their_order(n_rows: int, size: int, window_bp: int) -> None:
    data = RunConfig().data.model_copy(update={"window_bp": window_bp})
    assert isinstance(data, DataConfig)
    parts = list(parts_read(np.arange(n_rows), size, data))
    assert np.concatenate([np.empty(0, np.int64), *parts]).tolist() == list(range(n_rows))
    assert all(len(part) % size == 0 for part in parts[:-1])
    gene_bytes = window_bp * (4 * len(data.signals) + 1)
    assert all(len(part) * gene_bytes <= max(256 << 20, size * gene_bytes) for part in parts)
