"""What every node is asked before the first trial, and what a launch is refused for: all of it with exit code 2."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import prism_ray.store
from prism_ray.cli import main
from prism_ray.distributed import node_checks
from prism_ray.distributed.disk import checkpoint_bytes, kept_bytes
from prism_ray.distributed.loading import loading_cluster
from prism_ray.distributed.loading_choice import Loading, LoadingRequest
from prism_ray.distributed.node_checks import check_nodes, node_faults
from prism_ray.distributed.node_sight import NodeSight
from prism_ray.distributed.resources import TrialResources
from prism_ray.distributed.room import Room, room_needed
from prism_ray.distributed.study_run import run_study
from prism_ray.errors import InputError, StoreError
from prism_ray.store import Store
from prism_ray.study.spec import Study
from prism_ray.tracking import fetch_study
from tests.distributed.conftest import Told, study_settings
from tests.distributed.disks import small_disk_at
from tests.distributed.streams import run_config, write_store

GIB = 2**30
STORAGE, STORE = Path("/shared/results"), Path("/shared/store")
ROOM = Room(storage_bytes=10 * GIB, cache_bytes=4 * GIB, decode_bytes=2 * GIB)
FINE = NodeSight(
    "10.0.0.1", object_store_bytes=8.0 * GIB, storage_free=11 * GIB, memory_free=7 * GIB, shared_free=5 * GIB
)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"sees_storage": False},
            "--storage /shared/results: is not seen by 1 of 2 nodes: 10.0.0.2; give a folder on storage that all nodes",
        ),
        (
            {"store_problem": "access is denied; give {keys}"},
            "--store /shared/store: is not seen by 1 of 2 nodes: 10.0.0.2 (access is denied; give {keys}); give",
        ),
        (
            {"storage_free": 9 * GIB},
            "--storage /shared/results: its disk has 9 GiB free, and the trials that are left write up to 10 GiB, "
            "by 1 of 2 nodes: 10.0.0.2; free space, give a larger disk, or run fewer trials",
        ),
        (
            {"object_store_bytes": 3.5 * GIB},
            "memory: the object store holds 3.5 GiB, and the genes that a node keeps decoded take 4 GiB, "
            "on 1 of 2 nodes: 10.0.0.2; use --loading stream",
        ),
        (
            {"memory_free": 5 * GIB},
            "memory: 5 GiB are free, and the genes take 6 GiB while they are decoded, on 1 of 2 nodes: 10.0.0.2; use",
        ),
        (
            {"shared_free": 3 * GIB},
            "memory: /dev/shm has 3 GiB free, and the genes take 4 GiB, on 1 of 2 nodes: 10.0.0.2; free space there",
        ),
    ],
)
def test_a_node_that_cannot_is_named_with_its_reason(change: dict[str, Any], said: str) -> None:
    other = dataclasses.replace(FINE, address="10.0.0.2", **change)
    (fault,) = node_faults(STORAGE, STORE, ROOM, [FINE, other])
    assert str(fault).startswith(said)


def test_nodes_with_room_and_nodes_that_run_nothing_pass() -> None:
    head = NodeSight("10.0.0.3", runs_trials=False, object_store_bytes=0.0, storage_free=10 * GIB)
    assert node_faults(STORAGE, STORE, ROOM, [FINE, head]) == []
    # Without shared memory of its own, as in a container, the object store is elsewhere.
    assert node_faults(STORAGE, STORE, ROOM, [dataclasses.replace(FINE, shared_free=None)]) == []


def test_nodes_with_one_problem_are_named_together_and_silent_ones_see_nothing() -> None:
    blind = [dataclasses.replace(FINE, address=f"10.0.0.{number}", sees_storage=False) for number in (9, 8)]
    silent = NodeSight("10.0.0.7", has_answered=False)
    faults = node_faults(STORAGE, STORE, ROOM, [FINE, *blind, silent])
    assert [fault.problem for fault in faults] == [
        "is not seen by 3 of 4 nodes: 10.0.0.7, 10.0.0.8, 10.0.0.9",
        "is not seen by 1 of 4 nodes: 10.0.0.7",
    ]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return prism_ray.store.open(write_store(tmp_path_factory.mktemp("room") / "store"))


def test_room_grows_with_trials_and_projections(store: Store) -> None:
    config = run_config()
    request = LoadingRequest("auto", store, (config,))
    cached = room_needed(request, Loading("cache"), n_left=10, n_concurrent=4)
    assert cached.cache_bytes == cached.decode_bytes == 280 * 200 * 9
    assert cached.storage_bytes == 10 * kept_bytes(config, store) + 2 * 4 * checkpoint_bytes(config, store)
    streamed = room_needed(request, Loading("stream"), n_left=10, n_concurrent=4)
    assert streamed == Room(cached.storage_bytes)
    twice = room_needed(request, Loading("stream"), n_left=10, n_concurrent=4, n_copies=2)
    assert twice.storage_bytes - streamed.storage_bytes == 10 * kept_bytes(config, store)
    # The last trial alone has one checkpoint, and the one that it writes over.
    assert room_needed(request, Loading("stream"), 1, 4).storage_bytes == kept_bytes(config, store) + 2 * (
        checkpoint_bytes(config, store)
    )


def too_many_genes(store: Store, n_bytes: int) -> Store:
    """The same store as if it had genes of so many bytes."""
    entries = store.description.files
    n_rows = n_bytes // (200 * 9) + 1
    huge = store.description.model_copy(
        update={"files": tuple(entry.model_copy(update={"rows": n_rows}) for entry in entries)}
    )
    return Store(store.path, huge)


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
class TestOnACluster:
    """The cluster of the tests has an object store of 300 MiB."""

    @pytest.mark.parametrize("is_here", [True, False])
    def test_every_node_is_asked(
        self, is_here: bool, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if not is_here:
            monkeypatch.setattr(node_checks, "_this_node", lambda: "another")
        storage = tmp_path / "results"
        assert check_nodes(storage, store.path, Room(1, 1, 1)) == 1
        assert os.listdir(storage) == []
        with pytest.raises(StoreError, match=r"--store \S+absent: is not seen by 1 of 1 nodes: .*nothing is there"):
            check_nodes(storage, tmp_path / "absent", Room())
        with pytest.raises(StoreError, match=r"the object store holds 300 MiB, and the genes .* take 400 MiB"):
            check_nodes(storage, store.path, Room(cache_bytes=400 << 20))

    def test_genes_that_no_node_can_keep_are_refused_where_the_cache_is_asked_for(
        self, store: Store, tmp_path: Path
    ) -> None:
        request = LoadingRequest("cache", too_many_genes(store, 100 << 20), (run_config(),))
        with loading_cluster(request, TrialResources(), address=None) as cluster:
            room = room_needed(request, cluster.loading, 1, 1)
            with pytest.raises(InputError, match=r"memory: the object store holds 300 MiB"):
                check_nodes(tmp_path / "results", store.path, room)

    def test_a_disk_that_the_trials_would_fill_is_refused_before_the_first(
        self, make_study: Callable[..., Study], store: Store, tmp_path: Path
    ) -> None:
        told = Told()
        with small_disk_at(tmp_path / "small", "1m") as disk:
            small = dataclasses.replace(study_settings(Path(str(store.path)), tmp_path), storage=disk / "results")
            with pytest.raises(StoreError, match=r"--storage \S+: its disk has .* free, and the trials that are left"):
                run_study(make_study(seeds=list(range(20))), small, told)
            assert not (disk / "results" / "trials").exists()
            assert not list((disk / "results" / "studies" / "tiny").glob("driver.json"))
            assert fetch_study(small.tracking_uri, "tiny").status == "KILLED"
        assert told.labels("started") == set()


@pytest.mark.parametrize("asked", ["s3://bucket/results", "gs://key:c4n4ry@bucket/results"])
@pytest.mark.parametrize(
    "command",
    [
        ["run", "smoke", "--store", "store"],
        ["check", "smoke", "--store", "store"],
        ["submit", "smoke", "--store", "store", "--address", "http://127.0.0.1:1"],
        ["resume", "smoke"],
        ["status", "smoke"],
    ],
)
def test_a_workspace_in_a_bucket_is_refused(command: list[str], asked: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*command, "--storage", asked])
    assert ended.value.code == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "bucket/results is in no file system, and a workspace needs locks, renames in one act" in said
    assert "give a folder on storage that every node mounts (NFS, EFS, Filestore, Lustre" in said
    assert "c4n4ry" not in said


@pytest.mark.parametrize(
    "command",
    [["build", "catalog.yaml", "--out"], ["store", "add-signal"], ["train", "run.yaml", "--store", "s", "--out"]],
)
def test_nothing_is_written_to_an_address(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    more = ["catalog.yaml", "dnase"] if command[0] == "store" else []
    with pytest.raises(SystemExit) as ended:
        main([*command, "s3://bucket/out", *more])
    assert ended.value.code == 2
    assert "s3://bucket/out is an address, and only folders are written" in capsys.readouterr().err


def test_from_python_the_same(tmp_path: Path) -> None:
    from prism_ray import api

    with pytest.raises(InputError, match="--storage s3://bucket/results: is in no file system"):
        api.settings(tmp_path, "s3://bucket/results")
    assert str(api.settings("s3://bucket/store", tmp_path).store) == "s3://bucket/store"
