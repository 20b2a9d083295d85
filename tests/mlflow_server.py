"""A real MLflow server on loopback, and its REST API as anybody reads it."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

START_TIMEOUT_S = 120
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def mlflow_server(folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """The server on a port; its database, the artifacts that it serves and its log are in a folder."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--serve-artifacts"]
    command += ["--artifacts-destination", f"{folder}/served"]
    with served(command, folder, port, MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false") as process:
        yield process


@contextmanager
def served(command: list[str], folder: Path, port: int, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """What a command serves on a port, in a process group of its own that is killed at the end.

    Args:
        folder: for its log.
        environment: variables that this process does not have.
    """
    variables = {**os.environ, **environment}
    with (folder / "server.log").open("a") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True, env=variables)
    try:
        _wait_until_healthy(process, port, folder / "server.log")
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def runs_of(server: str, study: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The parent run of a study, the only one, and its child runs; `%` in its name stands for any text."""
    (experiment,) = _ask(server, "experiments/search", max_results=10, filter=f"name LIKE '{study}'")["experiments"]
    runs = _ask(server, "runs/search", experiment_ids=[experiment["experiment_id"]], max_results=100)["runs"]
    children = [run for run in runs if "mlflow.parentRunId" in tags_of(run)]
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in tags_of(run)]
    return parent, children


def new_user(server: str, name: str, password: str) -> None:
    """A user of a server with passwords, who is no administrator; to be asked for by one."""
    _ask(server, "users/create", username=name, password=password)


def artifacts_of(server: str, run: dict[str, Any], folder: str = "") -> set[str]:
    """Paths of a run's artifacts in a folder."""
    query = f"run_id={run['info']['run_id']}&path={folder}"
    answer = json.loads(_read(f"{server}/api/2.0/mlflow/artifacts/list?{query}"))
    return {item["path"] for item in answer.get("files", [])}


def artifact(server: str, run: dict[str, Any], path: str) -> bytes:
    """A file of a run, through the server."""
    return _read(f"{server}/get-artifact?run_id={run['info']['run_id']}&path={path}")


def history_of(server: str, run: dict[str, Any], metric: str) -> list[tuple[int, float]]:
    """Steps and values of a metric of a run."""
    query = f"run_id={run['info']['run_id']}&metric_key={metric}"
    answer = json.loads(_read(f"{server}/api/2.0/mlflow/metrics/get-history?{query}"))
    return [(int(point.get("step", 0)), float(point["value"])) for point in answer["metrics"]]


def tags_of(run: dict[str, Any]) -> dict[str, str]:
    return {item["key"]: item["value"] for item in run["data"].get("tags", [])}


def params_of(run: dict[str, Any]) -> dict[str, str]:
    return {item["key"]: item["value"] for item in run["data"].get("params", [])}


def metrics_of(run: dict[str, Any]) -> dict[str, float]:
    return {item["key"]: float(item["value"]) for item in run["data"].get("metrics", [])}


def _ask(server: str, endpoint: str, **body: Any) -> dict[str, Any]:
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{server}/api/2.0/mlflow/{endpoint}", json.dumps(body).encode(), headers)
    return dict(json.loads(_read(request)))


def _read(request: urllib.request.Request | str) -> bytes:
    """An answer, for whom MLflow's own clients would ask."""
    if isinstance(request, str):
        request = urllib.request.Request(request)
    if name := os.environ.get("MLFLOW_TRACKING_USERNAME"):
        pair = f"{name}:{os.environ['MLFLOW_TRACKING_PASSWORD']}"
        request.add_header("Authorization", f"Basic {base64.b64encode(pair.encode()).decode()}")
    with _OPENER.open(request, timeout=60) as answer:
        return bytes(answer.read())


def _wait_until_healthy(process: subprocess.Popen[bytes], port: int, output: Path) -> None:
    end = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < end:
        assert process.poll() is None, output.read_text()
        try:
            with _OPENER.open(f"http://127.0.0.1:{port}/health", timeout=2) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)
    raise AssertionError(f"no answer in {START_TIMEOUT_S} s:\n{output.read_text()}")
