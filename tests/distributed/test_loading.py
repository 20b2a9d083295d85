"""How a launch chooses between cache and stream, what it refuses first, and that both give one result."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow.tracking import MlflowClient

import prism_ray.store
from prism_ray.config import RunConfig
from prism_ray.distributed import ingest
from prism_ray.distributed import loading as loading_module
from prism_ray.distributed.capacity import check_resources
from prism_ray.distributed.in_process import InProcessBackend
from prism_ray.distributed.ingest import node_cache
from prism_ray.distributed.launch_settings import StudySettings
from prism_ray.distributed.loading import (
    LoadingRequest,
    check_loading_name,
    choose_loading,
    loading_cluster,
    stream_loading,
    window_faults,
)
from prism_ray.distributed.projections import projection_bytes
from prism_ray.distributed.resources import TrialResources
from prism_ray.distributed.single import RunSettings, train_config
from prism_ray.distributed.streaming import held_bytes, most_batches
from prism_ray.distributed.study_run import run_study
from prism_ray.errors import InputError, StoreError
from prism_ray.store import GeneArrays, Store
from prism_ray.study.designs import expand
from prism_ray.study.spec import Study
from prism_ray.tracking import fetch_trials
from prism_ray.training.record import TrialRecord, read_record
from tests.conftest import REPOSITORY
from tests.distributed.conftest import Told
from tests.distributed.streams import damage, run_config, write_store

MakeStudy = Callable[..., Study]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_store(tmp_path_factory.mktemp("loaded") / "store")


def request_of(store: Path, *configs: RunConfig, asked: Any = "auto", any_between: bool = False) -> LoadingRequest:
    return LoadingRequest(asked, prism_ray.store.open(store), configs or (run_config(),), any_between)


def with_data(config: RunConfig, **changes: Any) -> RunConfig:
    return config.model_copy(update={"data": config.data.model_copy(update=changes)})


@pytest.mark.parametrize(
    ("asked", "needed", "room", "chosen"),
    [
        ("auto", 10, 10, "cache"),
        ("auto", 11, 10, "stream"),
        ("cache", 11, 10, "cache"),
        ("stream", 1, 10, "stream"),
    ],
)
def test_the_cache_where_it_fits_or_what_is_asked(asked: Any, needed: int, room: int, chosen: str) -> None:
    assert choose_loading(asked, needed, room) == chosen


def test_no_other_way() -> None:
    with pytest.raises(InputError, match="--loading: 'memory' is no way of loading; use one of auto, cache, stream"):
        check_loading_name("memory")


def test_bytes_of_what_a_node_holds_at_once(store: Path) -> None:
    config = run_config()
    # 280 genes of 200 bp, two signals of 4 bytes and a byte of DNA.
    assert projection_bytes(prism_ray.store.open(store), config) == 280 * 200 * 9
    wider = [with_data(config, window_bp=window) for window in (200, 400, 600, 800, 1000)]
    other_fold = with_data(config, fold="fold_2")
    assert request_of(store, config, other_fold).cache_bytes() == 280 * 200 * 9
    # No more than four are kept: the largest.
    assert request_of(store, *wider).cache_bytes() == 280 * 9 * (400 + 600 + 800 + 1000)
    # A search may read any window between those two.
    assert request_of(store, wider[0], wider[4], any_between=True).cache_bytes() == 4 * 280 * 9 * 1000
    assert request_of(store, config, any_between=True).cache_bytes() == 280 * 200 * 9


def test_windows_that_do_not_fit_in_a_task_are_refused_with_what_would(store: Path) -> None:
    opened, each = prism_ray.store.open(store), 200 * 9
    assert not window_faults(opened, [run_config(), run_config(40)], 3 * 140 * each)
    faults = window_faults(opened, [run_config(), run_config(), run_config(40)], 3 * 101 * each).faults
    assert [fault.where for fault in faults] == ["training.shuffle_genes"]
    # Three windows of a task are in memory at once.
    # 140 genes train; 136 of them fill whole batches of 8, and 96 genes are as many as fit in whole batches.
    assert "0 has 136 genes of 1800 bytes read together" in faults[0].problem
    assert faults[0].fix.startswith("set training.shuffle_genes to at most 96, which is another order of genes, or use")
    (fault,) = window_faults(opened, [run_config(8)], 3 * 7 * each).faults
    assert fault.fix == "use a shorter window or fewer signals, or nodes with more memory"


def test_a_long_window_is_alone_in_its_task() -> None:
    mib = 2**20
    assert held_bytes(100 * mib) == 300 * mib
    assert held_bytes(257 * mib) == 257 * mib
    for memory in (50, 299, 300, 450, 1000):
        batches = most_batches(100 * mib, memory * mib)
        fits = [held_bytes(number * 100 * mib) <= memory * mib for number in range(12)]
        assert fits[batches]
        assert not any(fits[batches + 1 :])


def test_a_node_decodes_a_projection_by_all_its_cpus(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    load = Store.load

    def noted(self: Store, *args: Any, **options: Any) -> GeneArrays:
        asked.append(options["n_threads"])
        return load(self, *args, **options)

    monkeypatch.setattr(Store, "load", noted)
    monkeypatch.setattr(ingest, "usable_cpus", lambda: 3)
    assert len(ingest.read_projection(store, run_config().data)) == 280
    assert asked == [3]


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
class TestOnACluster:
    """The cluster of the tests has two CPUs and an object store of 300 MiB."""

    def test_streaming_leaves_a_cpu_to_the_reader(self, store: Path) -> None:
        with loading_cluster(request_of(store, asked="stream"), TrialResources(), address=None) as opened:
            loading = opened.loading
            assert (opened.n_concurrent, loading.name, loading.reader_cpus) == (1, "stream", 1.0)
            # Its own CPU, and the trial's while that waits.
            assert loading.reader_threads == 2
            # No more than the node has.
            assert stream_loading(request_of(store), TrialResources(cpus_per_worker=4), 1).reader_threads == 2
        with loading_cluster(request_of(store), TrialResources(), address=None) as opened:
            assert (opened.n_concurrent, opened.loading.name) == (2, "cache")
        assert check_resources(TrialResources()) == 2
        with pytest.raises(InputError) as refused:
            check_resources(TrialResources(n_workers=2), reserved_cpus=1)
        assert "a run needs 2 CPUs (2 workers x 1) and 1 more to read ahead for it, there are 2" in str(refused.value)
        assert "or load with --loading cache" in str(refused.value)

    def test_too_large_for_the_nodes_is_streamed(self, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(loading_module, "_STORE_PART", 1e-3)
        monkeypatch.setattr(loading_module, "_fewest_buffer_bytes", lambda *_: 1)
        with loading_cluster(request_of(store), TrialResources(), address=None) as opened:
            assert opened.loading.name == "stream"

    def test_pieces_that_do_not_fit_and_windows_are_refused_together(
        self, store: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(loading_module, "_task_memory", lambda: 3 * 50 * 200 * 9.0)
        monkeypatch.setattr(loading_module, "_fewest_buffer_bytes", lambda *_: 200 << 20)
        with pytest.raises(InputError) as refused:
            stream_loading(request_of(store), TrialResources(), 1)
        assert "2 faults" in str(refused.value)
        assert "set training.shuffle_genes to at most 48" in str(refused.value)
        assert "streaming keeps 200 MiB of genes a trial in flight" in str(refused.value)
        assert "fewer trials at once with --max-concurrent" in str(refused.value)

    def test_a_study_that_streams_has_the_numbers_of_one_that_does_not(
        self, make_study: MakeStudy, settings: StudySettings
    ) -> None:
        study = make_study(seeds=[2])
        # In this process trials have as many threads as on Ray, which decides the order of sums.
        cached = dataclasses.replace(settings, backend=InProcessBackend())
        assert run_study(study, cached, Told()).failures == {}
        streamed = dataclasses.replace(settings, storage=settings.storage / "streamed", loading="stream")
        assert run_study(study, streamed, Told()).failures == {}
        first, second = _records(study, settings), _records(study, streamed)
        assert [record.metrics for record in first] == [record.metrics for record in second]
        assert [record.history() for record in first] == [record.history() for record in second]
        # What happened to run is told by a tag, of the last launch.
        client = MlflowClient(settings.tracking_uri)
        runs = fetch_trials(settings.tracking_uri, "tiny")["run_id"]
        assert [client.get_run(run_id).data.tags["prism.loading"] for run_id in runs] == ["stream", "stream"]

    def test_a_page_damaged_under_a_running_study_is_what_its_user_reads(
        self, tmp_path: Path, make_study: MakeStudy, settings: StudySettings
    ) -> None:
        own = write_store(tmp_path / "damaged")
        path = damage(own)
        study = make_study(seeds=[2])
        told = Told()
        outcome = run_study(study, dataclasses.replace(settings, store=own, loading="stream"), told)
        assert outcome.status == "FAILED"
        assert len(outcome.failures) == 2
        for reason in outcome.failures.values():
            assert reason.startswith(f"StreamError: {path}: cannot be read (")
            assert "Traceback" not in reason
        assert len(told.labels("failed")) == 2

    def test_another_way_of_loading_is_refused_before_anything(
        self, store: Path, tmp_path: Path, make_study: MakeStudy, settings: StudySettings
    ) -> None:
        odd: Any = "memory"
        with pytest.raises(InputError, match="'memory' is no way of loading"):
            run_study(make_study(), dataclasses.replace(settings, loading=odd), Told())
        with pytest.raises(InputError, match="'memory' is no way of loading"):
            train_config(REPOSITORY / "no.yaml", RunSettings(store, tmp_path / "out", loading=odd))
        assert not settings.storage.exists()

    def test_a_damaged_copy_of_a_store_is_not_read_for_the_other(self, store: Path, tmp_path: Path) -> None:
        import ray

        from prism_ray.distributed.ingest import shared_projection

        opened, copy, node = prism_ray.store.open(store), tmp_path / "copy", ray.get_runtime_context().get_node_id()
        shutil.copytree(store, copy)
        path = damage(copy)
        _held = node_cache(copy, opened.digest, node)
        with pytest.raises(StoreError, match=re.escape(str(path))):
            shared_projection(copy, opened.digest, run_config().data)
        assert len(shared_projection(store, opened.digest, run_config().data).gene_id) == 280

    def test_trials_of_a_node_share_what_it_decoded(self, store: Path) -> None:
        import ray

        from prism_ray.distributed.ingest import shared_projection

        opened = prism_ray.store.open(store)
        cache = node_cache(store, opened.digest, ray.get_runtime_context().get_node_id())
        for fold in ("fold_1", "fold_2"):
            shared_projection(store, opened.digest, with_data(run_config(), fold=fold).data)
        assert ray.get(cache.n_decoded.remote()) == 1
        shared_projection(store, opened.digest, with_data(run_config(), window_bp=400).data)
        assert ray.get(cache.n_decoded.remote()) == 2


def _records(study: Study, settings: StudySettings) -> list[TrialRecord]:
    digest = prism_ray.store.open(settings.store).digest
    found = [read_record(settings.storage / "trials" / trial.trial_id(digest)) for trial in expand(study)]
    assert all(record is not None for record in found)
    return [record for record in found if record is not None]


@pytest.mark.ray
@pytest.mark.slow
def test_two_nodes_and_two_workers(tmp_path: Path) -> None:
    """In a process of its own: these nodes are not the cluster of the other tests."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.distributed.two_nodes", str(tmp_path)],
        cwd=REPOSITORY,
        # Where GPUs are hidden, Ray does not start a node that is told to have one.
        env={
            **{name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"},
            "RAY_AUTH_MODE": "disabled",
            "RAY_ADDRESS": "",
        },
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    said = json.loads(done.stdout.splitlines()[-1])
    # Both ways, on both nodes, the same genes in the same order; every node decoded what it shares once.
    assert len(said["nodes"]) == 2
    # Twelve partitions, store.json, build_report.json and the mark, the same bytes whoever wrote them.
    assert (said["builds_equal"], said["n_files"]) == (True, 15)
    assert said["cached"][0] == said["cached"][1]
    assert said["streamed"] == said["expected"]
    assert said["n_decoded"] == [1, 1]
    # Of the store each node has read its projection once, and both together what was streamed once.
    assert list(said["reads"].values()) == [said["planned"]["cache"]] * 2
    assert said["streamed_bytes"] == said["planned"]["stream"] > 0
    # A run of two workers that stream is the run of one.
    assert said["together"] == pytest.approx(said["alone"], rel=1e-3)
    assert said["resumed_from"] == 6
    # Both workers fail by the same damage, which the command says once and in a line.
    assert said["damaged_code"] == 1
    (line,) = [line for line in said["damage"].splitlines() if line.startswith("prism-ray train:")]
    assert f"(t, seed 2): StreamError: {said['damaged_file']}: cannot be read (" in line
    assert "Traceback" not in said["damage"]
    assert {"result.json", "ray_train"}.isdisjoint(said["damaged_left"])
    # Ray was told of a GPU on one of the nodes: PyTorch finds it only where there is one.
    expected = "counts 1 GPUs, and there is no CUDA on it: PyTorch "
    assert [expected in fault for fault in said["gpu_faults"]] == [True] * (not torch.cuda.is_available())
