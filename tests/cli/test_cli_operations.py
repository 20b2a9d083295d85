"""A real `prism-ray run` that is cancelled, resumed, killed, closed and gone on with, as its user sees it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray
import yaml

from prism_ray.cli import main
from prism_ray.distributed.study_status import StudyStatus, study_status
from prism_ray.tracking import fetch_study, fetch_trials
from tests.conftest import REPOSITORY
from tests.distributed.conftest import TINY
from tests.distributed.killing import running
from tests.distributed.local_cluster import is_live
from tests.tracking_support import fresh_store

pytestmark = [pytest.mark.ray, pytest.mark.slow]
PATIENCE_S = 120
RAYS_AGENTS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")
"""What Ray leaves of a cluster whose driver was killed; they are idle, and end by themselves after a minute."""
N_STEPS = 400


class Workspace:
    """A study of two trials that take some seconds each, and commands on it."""

    def __init__(self, folder: Path, store: Path) -> None:
        self.storage = folder / "results"
        self.file = folder / "tiny.yaml"
        self.store = store
        self.tracking_uri = fresh_store(folder)
        self.file.write_text(yaml.safe_dump(self._study()))

    @staticmethod
    def _study(n_steps: int = N_STEPS) -> dict[str, Any]:
        return {
            "question": "Does it go on?",
            "claim": "It does.",
            "source": "tests",
            "kind": "ablation",
            "baseline": {**TINY, "training.n_steps": n_steps},
            "baseline_arm": "n0",
            "changes": ["model.n_states"],
            "arms": {"n0": {"patch": {}, "reason": "plain"}, "n2": {"patch": {"model.n_states": 2}, "reason": "two"}},
            "seeds": [2],
            "folds": ["fold_1"],
            "cell_types": ["K562"],
            "objective": {"metric": "val/mse", "direction": "minimize"},
            "report_metric": "test/mse",
        }

    def start(self, *command: str) -> subprocess.Popen[str]:
        """A command in a process of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "prism_ray", *command, "--storage", str(self.storage), "--max-concurrent", "1"],
            cwd=REPOSITORY,
            env={**os.environ, "MLFLOW_TRACKING_URI": self.tracking_uri},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def status(self) -> StudyStatus:
        return study_status(self.storage, "tiny")

    def runs(self) -> dict[str, int]:
        """Number of runs in MLflow by status."""
        statuses: dict[str, int] = fetch_trials(self.tracking_uri, "tiny")["status"].value_counts().to_dict()
        return statuses

    def wait(self, holds: Callable[[StudyStatus], bool], process: subprocess.Popen[str]) -> None:
        """Wait until the study's status is as wanted."""
        end = time.monotonic() + PATIENCE_S
        while not ((self.storage / "studies" / "tiny" / "launch.json").exists() and holds(self.status())):
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < end
            time.sleep(0.1)


@pytest.fixture
def workspace(tmp_path: Path, simulated_store: Path) -> Workspace:
    return Workspace(tmp_path, simulated_store)


def trains(status: StudyStatus) -> bool:
    """Whether a trial is in the middle of its training."""
    return any(trial.state == "running" and 0 < trial.step < N_STEPS for trial in status.trials)


def test_cancelled_resumed_killed_and_finished(
    workspace: Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    at = ["--storage", str(workspace.storage)]
    # On the cluster of this process first, on one of its own after that.
    cluster = ["--address", ray.get_runtime_context().gcs_address]
    process = workspace.start("run", str(workspace.file), "--store", str(workspace.store), *cluster)
    workspace.wait(trains, process)
    assert main(["status", "tiny", *at, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["driver"]["pid"] == process.pid
    assert told["counts"]["running"] == 1
    trials = [psutil.Process(attempt.pid) for _, attempt in running(workspace.storage)]
    assert len(trials) == 1

    assert main(["cancel", "tiny", *at, "--wait", str(PATIENCE_S)]) == 0
    said = capsys.readouterr()
    assert "waiting for the driver and 1 running trials to save and end" in said.err
    assert "go on with: prism-ray resume tiny" in said.out
    out, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, out
    wait_until_gone(trials)
    assert workspace.status().driver is None
    assert "RUNNING" not in workspace.runs()
    assert fetch_study(workspace.tracking_uri, "tiny").status == "KILLED"
    step_before = max(trial.step for trial in workspace.status().trials if trial.state == "interrupted")

    # The file changes meanwhile; the launch does not.
    workspace.file.write_text(yaml.safe_dump(Workspace._study(n_steps=7)))
    process = workspace.start("resume", "tiny", "--address", "local")
    workspace.wait(lambda status: trains(status) and max(trial.step for trial in status.trials) > step_before, process)
    children = psutil.Process(process.pid).children(recursive=True)
    agents = [child for child in children if child.cmdline()[0] in RAYS_AGENTS]
    process.send_signal(signal.SIGKILL)
    out, _ = process.communicate(timeout=PATIENCE_S)
    assert f"{workspace.file} has changed since the launch" in out
    assert workspace.runs().get("RUNNING") == 1

    monkeypatch.setenv("MLFLOW_TRACKING_URI", workspace.tracking_uri)
    assert main(["cancel", "tiny", *at, "--wait", str(PATIENCE_S)]) == 0
    assert "tiny lost its driver; what that left is closed" in capsys.readouterr().out
    wait_until_gone([child for child in children if child not in agents])
    for agent in agents:
        agent.kill()
    assert "RUNNING" not in workspace.runs()
    assert not list((workspace.storage / "studies" / "tiny").glob("tune-*"))

    # To the end in this process, on the cluster that it has.
    assert main(["resume", "tiny", *at]) == 0
    assert "2 of 2 trials are finished" in capsys.readouterr().out
    assert workspace.runs() == {"FINISHED": 2}
    status = workspace.status()
    assert status.counts["done"] == 2
    assert {trial.n_steps for trial in status.trials} == {N_STEPS}
    assert status.driver is None
    # Nothing is left to do, and nothing is done.
    assert main(["cancel", "tiny", *at]) == 0
    assert "tiny is not running: 2 of 2 trials are done" in capsys.readouterr().out
    assert fetch_study(workspace.tracking_uri, "tiny").status == "FINISHED"


def wait_until_gone(processes: list[psutil.Process]) -> None:
    end = time.monotonic() + PATIENCE_S
    while left := [process for process in processes if is_live(process)]:
        assert time.monotonic() < end, left
        time.sleep(0.2)
