"""What a driver knows of its job, and which addresses of a cluster it refuses without asking Ray."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from prism_ray.cli import main
from prism_ray.distributed import runtime
from prism_ray.distributed.jobs import JOB_VARIABLE, in_job, job_env_vars
from prism_ray.errors import InputError


@pytest.fixture
def _outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process that has joined no cluster."""
    monkeypatch.setattr(runtime.ray, "is_initialized", lambda: False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


def test_a_job_is_known_by_what_its_manager_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.dashboard.modules.job import job_supervisor

    assert job_supervisor.RAY_JOB_CONFIG_JSON_ENV_VAR == JOB_VARIABLE
    monkeypatch.delenv(JOB_VARIABLE, raising=False)
    assert (in_job(), job_env_vars()) == (False, {})
    monkeypatch.setenv(JOB_VARIABLE, json.dumps({"runtime_env": {"env_vars": {"A": "1"}}, "metadata": {}}))
    assert (in_job(), job_env_vars()) == (True, {"A": "1"})
    monkeypatch.setenv(JOB_VARIABLE, json.dumps({"runtime_env": {}, "metadata": {}}))
    assert (in_job(), job_env_vars()) == (True, {})


@pytest.fixture
def asked(_outside: None, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What Ray is started or joined with."""
    options: dict[str, Any] = {}
    monkeypatch.setattr(runtime.ray, "init", lambda **given: options.update(given))
    monkeypatch.setattr(runtime.ray, "shutdown", lambda: None)
    monkeypatch.setattr(runtime, "check_address", lambda address: None)
    for name in runtime.WORKER_ENVIRONMENT:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    return options


@pytest.mark.parametrize("given", [{}, {"OMP_WAIT_POLICY": "ACTIVE"}])
def test_idle_threads_of_workers_leave_the_cores_to_the_kernels(
    given: dict[str, str], asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless the job's submitter says otherwise: Ray refuses a variable that is given twice."""
    monkeypatch.setattr(runtime, "job_env_vars", lambda: given)
    with runtime.ray_runtime("127.0.0.1:6379"):
        variables = asked["runtime_env"]["env_vars"]
    assert variables.get("OMP_WAIT_POLICY") == (None if given else "PASSIVE")


@pytest.mark.parametrize("own", [None, "ACTIVE"])
def test_workers_of_a_local_cluster_inherit_it_and_start_once(
    own: str | None, asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A runtime environment would have each of them started by a process that loads Ray, too."""
    if own:
        monkeypatch.setenv("OMP_WAIT_POLICY", own)
    with runtime.ray_runtime():
        assert os.environ["OMP_WAIT_POLICY"] == (own or "PASSIVE")
    assert asked["address"] == "local"
    assert "runtime_env" not in asked


@pytest.mark.parametrize(
    ("flags", "variable", "said"),
    [
        ([], None, ["--storage: not given: a submitted job runs in a copy of the folder that Ray deletes"]),
        (["--storage", "results"], None, ["--storage: results: a submitted job runs in a copy"]),
        (
            ["--storage", "/r", "--tracking-uri", "sqlite:///a.db"],
            None,
            ["--tracking-uri: sqlite:///a.db: a submitted"],
        ),
        (
            ["--storage", "results"],
            "sqlite:///a.db",
            ["2 faults", "--storage: results", "--tracking-uri: sqlite:///a.db"],
        ),
    ],
)
def test_a_job_does_not_write_into_its_copy(
    flags: list[str],
    variable: str | None,
    said: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(JOB_VARIABLE, json.dumps({"runtime_env": {}}))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    if variable is not None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", variable)
    assert main(["run", "smoke", "--store", "nowhere", *flags]) == 2
    heard = capsys.readouterr().err
    assert all(part in heard for part in said)


def test_an_absolute_storage_passes_in_a_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(JOB_VARIABLE, json.dumps({"runtime_env": {}}))
    storage = ["--storage", str(tmp_path), "--tracking-uri", f"sqlite:///{tmp_path}/mlflow.db"]
    assert main(["run", "smoke", "--store", str(tmp_path / "nowhere"), *storage]) == 2
    heard = capsys.readouterr().err
    assert "--storage" not in heard
    assert "nowhere" in heard


@pytest.mark.usefixtures("_outside")
@pytest.mark.parametrize("address", ["nonsense", "http://127.0.0.1:8265", "127.0.0.1", "127.0.0.1:port", "a b:1"])
def test_what_is_no_address_of_a_head_is_refused(address: str) -> None:
    with pytest.raises(InputError, match="is not the address of a Ray cluster; give HOST:PORT") as refused:
        runtime.check_address(address)
    assert str(refused.value).startswith(f"--address {address}:")


@pytest.mark.usefixtures("_outside")
@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "127.0.0.1:99999", "[::1]:1"])
def test_an_address_where_nobody_listens_is_refused(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="nobody listens there") as refused:
        runtime.check_address(address)
    assert str(refused.value).startswith(f"--address {address}:")
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(InputError, match="nobody listens there") as refused:
        runtime.check_address(None)
    assert str(refused.value).startswith(f"RAY_ADDRESS={address}:")


@pytest.mark.usefixtures("_outside")
def test_an_address_where_somebody_listens_passes() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        runtime.check_address(f"127.0.0.1:{server.getsockname()[1]}")
    for unchecked in (None, "local", "auto"):
        runtime.check_address(unchecked)
