"""The stream of genes: the same batches in the same order as from memory, and damage told as it is."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import ray
import ray.data
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prism_ray.distributed import stream_reads, streaming
from prism_ray.distributed.ingest import shared_projection
from prism_ray.distributed.projections import gene_bytes
from prism_ray.distributed.streaming import StreamError, StreamSource, fewest_piece_bytes, pieces_in_flight
from prism_ray.errors import StoreError
from prism_ray.store import GeneArrays, Store
from prism_ray.training.loop import train
from prism_ray.training.reporter import Placement
from prism_ray.training.sources import MemorySource
from tests.distributed.streams import Dealt, arrays_of, assert_same, damage, dealt, plan_of, run_config, write_store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_store(tmp_path_factory.mktemp("streamed") / "store")


@pytest.fixture(scope="module")
def arrays(store: Path) -> GeneArrays:
    return arrays_of(store, run_config())


@pytest.fixture
def _small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of two steps and tasks of few windows: the store is small."""
    each = gene_bytes(run_config().data)
    monkeypatch.setattr(streaming, "PIECE_BYTES", 16 * each)
    monkeypatch.setattr(streaming, "_TASK_BYTES", 100 * each)


@pytest.mark.usefixtures("_small_pieces")
class TestWithoutRay:
    """What the tasks read and the workers make of it; how Ray deals it out is below."""

    @given(
        shuffle_genes=st.sampled_from([0, 1, 20, 64, 500]),
        n_workers=st.sampled_from([1, 2, 4]),
        first_step=st.integers(0, 39),
        batch_size=st.sampled_from([4, 8, 12]),
    )
    @settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_the_batches_of_memory_in_their_order(
        self,
        store: Path,
        arrays: GeneArrays,
        shuffle_genes: int,
        n_workers: int,
        first_step: int,
        batch_size: int,
    ) -> None:
        plan = plan_of(store, run_config(shuffle_genes, batch_size=batch_size), n_workers)
        steps = range(first_step, plan.n_steps)
        parts = dealt(plan, first_step)
        for rank in range(n_workers):
            streamed = StreamSource(plan, parts[rank]).training_shares(plan.order, steps, rank, n_workers)
            expected = MemorySource(arrays).training_shares(plan.order, steps, rank, n_workers)
            for one, other in zip(streamed, expected, strict=True):
                assert_same(one, other)

    def test_what_is_evaluated_comes_in_the_chunks_asked(
        self, store: Path, arrays: GeneArrays, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rows = np.array([5, 270, 6, 7, 100, 101, 102, 3, 2])
        source = StreamSource(plan_of(store, run_config()))
        for n_read in (1, 5, 100):
            monkeypatch.setattr(stream_reads, "_PART_BYTES", n_read * gene_bytes(run_config().data))
            chunks = zip(source.chunks(rows, 2), MemorySource(arrays).chunks(rows, 2), strict=True)
            for one, other in chunks:
                assert_same(one, other)
        assert list(source.chunks(rows[:0], 2)) == []

    @pytest.mark.parametrize(("shuffle_genes", "most"), [(0, 1), (8, 12), (500, 1)])
    def test_a_task_reads_windows_up_to_a_size(self, store: Path, shuffle_genes: int, most: int) -> None:
        plan = plan_of(store, run_config(shuffle_genes))
        tasks = plan.tasks(3)
        assert [step for task in tasks for step in task] == list(range(3, 40))
        assert max(len(list(plan.order.windows(task))) for task in tasks) == most

    def test_a_long_window_has_a_task_of_its_own(self, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        plan = plan_of(store, run_config(8))
        for n_genes, most in ((7, 1), (8, 12)):
            monkeypatch.setattr(streaming, "_WINDOW_BYTES", n_genes * gene_bytes(run_config().data))
            assert max(len(list(plan.order.windows(task))) for task in plan.tasks(0)) == most

    def test_a_task_uses_the_memory_of_three_windows(self, store: Path) -> None:
        plan = plan_of(store, run_config(24))
        task = range(12)  # four windows of an epoch of 17 steps
        arrays = [arrays for _, arrays in streaming._windows_read(plan, task)]
        assert len(arrays) == 4
        for late in range(4):
            shared = [np.shares_memory(arrays[late].signals, arrays[early].signals) for early in range(late)]
            assert shared == [early == late - 3 for early in range(late)]
            assert np.shares_memory(arrays[0].sequence, arrays[late].sequence) == (late in (0, 3))

    def test_a_broken_order_is_seen(self, store: Path) -> None:
        plan = plan_of(store, run_config(20), n_workers=2)
        first, second = dealt(plan, 0)
        swapped = Dealt([first.tables[1], first.tables[0], *first.tables[2:]])
        for part in (swapped, second, Dealt(first.tables[1:])):
            shares = StreamSource(plan, part).training_shares(plan.order, range(40), 0, 2)
            with pytest.raises(AssertionError, match="worker 0 was given the genes of another step than 0"):
                next(shares)
        short = StreamSource(plan, Dealt(first.tables[:-1])).training_shares(plan.order, range(40), 0, 2)
        with pytest.raises(AssertionError, match=r"the pipeline ended after step 3[0-9] of 40"):
            list(short)

    def test_nothing_left_reads_nothing(self, store: Path) -> None:
        plan = plan_of(store, run_config())
        assert list(StreamSource(plan).training_shares(plan.order, range(40, 40), 0, 1)) == []

    def test_damage_is_told_to_every_worker_at_the_same_step(self, tmp_path: Path) -> None:
        own = write_store(tmp_path / "store")
        path = damage(own)
        plan = plan_of(own, run_config(20), n_workers=2)
        reached = []
        for rank, part in enumerate(dealt(plan, 0)):
            shares = StreamSource(plan, part).training_shares(plan.order, range(40), rank, 2)
            got: list[GeneArrays] = []
            with pytest.raises(StreamError) as told:
                got.extend(shares)
            assert str(told.value).startswith(f"{path}: cannot be read (")
            assert "the file is damaged: restore it from a copy, or build the store again" in str(told.value)
            reached.append(len(got))
        assert reached[0] == reached[1]

    def test_another_store_in_its_place_is_refused(self, store: Path) -> None:
        plan = dataclasses.replace(plan_of(store, run_config()), digest="0" * 64)
        with pytest.raises(StoreError, match="was replaced by another store since this run was checked"):
            _ = StreamSource(plan).genes

    def test_a_piece_has_whole_steps(self, store: Path) -> None:
        data = run_config().data
        assert fewest_piece_bytes(data, 8, 1) == 16 * gene_bytes(data)
        assert fewest_piece_bytes(data, 8, 4) == 16 * gene_bytes(data)
        assert fewest_piece_bytes(data, 64, 2) == 32 * gene_bytes(data)

    @pytest.mark.parametrize("n_workers", [1, 2])
    @pytest.mark.parametrize(("fitting", "n_genes"), [(0, 16), (16, 16), (24, 24), (40, 40), (60, 40)])
    def test_pieces_are_as_large_as_fits_in_the_object_store(
        self, store: Path, monkeypatch: pytest.MonkeyPatch, n_workers: int, fitting: int, n_genes: int
    ) -> None:
        each = gene_bytes(run_config().data)
        monkeypatch.setattr(streaming, "_LARGE_PIECE_BYTES", 40 * each)
        plan = plan_of(store, run_config(), n_workers)
        plan = dataclasses.replace(plan, buffer_bytes=fitting * each * pieces_in_flight(n_workers))
        assert len(next(plan.pieces(range(16)))) == n_genes

    def test_a_piece_is_read_where_it_lies(self, store: Path) -> None:
        plan = plan_of(store, run_config(20))
        first, second = dealt(plan, 0)[0].tables[:2]
        both = pa.concat_tables([first, second]).combine_chunks()
        for number, table in enumerate((first, second)):
            for name in ("rows", "sequence", "signals"):
                column = both[name].slice(number, 1)
                found = streaming._array(both.slice(number, 1), name, np.dtype(np.uint8))
                assert found.tobytes() == table[name][0].as_py()
                data = column.chunk(0).buffers()[2]
                assert data.address <= found.ctypes.data < data.address + data.size

    def test_a_window_is_read_by_the_threads_of_the_plan(self, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        asked = []
        load = Store.load

        def noted(self: Store, *args: Any, **options: Any) -> GeneArrays:
            asked.append(options["n_threads"])
            return load(self, *args, **options)

        plan = dataclasses.replace(plan_of(store, run_config(24)), reader_threads=3)
        next(streaming._windows_read(plan, range(3)))  # the table of genes is there now
        monkeypatch.setattr(Store, "load", noted)
        assert len(list(streaming._windows_read(plan, range(9)))) == len(asked)
        assert set(asked) == {3}


class Killed(BaseException):
    """Ends a run from inside, as a kill would."""


class DiesAt:
    """A reporter that ends the run at a step."""

    def __init__(self, step: int) -> None:
        self._step = step

    def report(self, metrics: Mapping[str, float], step: int) -> None:
        if step == self._step:
            raise Killed

    def validated(self, metrics: Mapping[str, float], step: int, history: Any) -> bool:
        return False


@ray.remote(num_cpus=0)
def _consume(plan: Any, iterator: Any, rank: int, first_step: int) -> list[list[str]]:
    steps = range(first_step, plan.n_steps)
    shares = StreamSource(plan, iterator).training_shares(plan.order, steps, rank, plan.n_workers)
    return [share.gene_id.tolist() for share in shares]


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster", "_small_pieces")
class TestWithRay:
    """Through Ray Data itself."""

    @pytest.mark.parametrize(("shuffle_genes", "first_step"), [(0, 0), (20, 7)])
    def test_one_worker_gets_the_batches_of_memory(
        self, store: Path, arrays: GeneArrays, shuffle_genes: int, first_step: int
    ) -> None:
        plan = plan_of(store, run_config(shuffle_genes))
        before = ray.data.DataContext.get_current().target_max_block_size
        steps = range(first_step, 40)
        streamed = StreamSource(plan).training_shares(plan.order, steps, 0, 1)
        for one, other in zip(streamed, MemorySource(arrays).training_shares(plan.order, steps, 0, 1), strict=True):
            assert_same(one, other)
        # Trial processes are used again: their settings of Ray Data are as they were.
        context = ray.data.DataContext.get_current()
        assert (context.target_max_block_size, context.execution_options.preserve_order) == (before, False)

    def test_two_workers_get_their_shares(self, store: Path) -> None:
        plan = plan_of(store, run_config(20), n_workers=2)
        parts = streaming.steps_dataset(plan, 5).streaming_split(2, equal=False)
        got = ray.get([_consume.remote(plan, part, rank, 5) for rank, part in enumerate(parts)], timeout=120)
        ids = arrays_of(store, run_config()).gene_id
        for rank in range(2):
            assert got[rank] == [ids[plan.order.share(step, rank, 2)].tolist() for step in range(5, 40)]

    def test_a_run_gives_the_numbers_of_the_cache_also_where_it_goes_on(
        self, store: Path, arrays: GeneArrays, tmp_path: Path
    ) -> None:
        config = run_config(20, n_steps=14)
        split = _split(store, arrays)
        expected = train(config, arrays, split)
        source = StreamSource(plan_of(store, config))
        placement = Placement(checkpoint_every_steps=3)
        with pytest.raises(Killed):
            train(config, source, split, folder=tmp_path, reporter=DiesAt(10), placement=placement)
        result = train(config, source, split, folder=tmp_path, placement=placement)
        assert result.metrics == expected.metrics
        assert result.history == expected.history
        np.testing.assert_array_equal(result.test_prediction, expected.test_prediction)

    def test_damage_on_the_way_is_told_as_it_is(self, tmp_path: Path) -> None:
        own = write_store(tmp_path / "store")
        path = damage(own)
        config = run_config(20)
        source = StreamSource(plan_of(own, config))
        with pytest.raises(StreamError) as told:
            train(config, source, _split(own, source.genes))
        assert str(told.value).startswith(f"{path}: cannot be read (")
        digest = source.plan.digest
        with pytest.raises(StoreError) as cached:
            ray.get(_cached_here.remote(own, digest, config.data))
        assert str(path) in str(cached.value)
        with pytest.raises(StoreError) as plain:
            shared_projection(own, digest, config.data)
        assert str(plain.value).startswith(f"{path}: cannot be read (")
        assert "Traceback" not in str(plain.value)


@ray.remote(num_cpus=0)
def _cached_here(store: Path, digest: str, data: Any) -> None:
    shared_projection(store, digest, data)


def _split(store: Path, genes: Any) -> Any:
    import prism_ray.store

    return prism_ray.store.open(store).folds.split("fold_1", genes.chrom)
