"""kill -9 of what trains a trial: its process, a Ray Train worker, and the raylet of its node."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import ray
from ray.util import placement_group_table

import prism_ray.store
from prism_ray.distributed.attempts import Attempt, read_attempts
from prism_ray.distributed.launch import TaskMaker
from prism_ray.distributed.launch_settings import StudySettings
from prism_ray.distributed.loading import loading_cluster
from prism_ray.distributed.loading_choice import LoadingRequest
from prism_ray.distributed.resources import TrialResources
from prism_ray.distributed.study_run import run_study
from prism_ray.distributed.train import train_on_workers
from prism_ray.distributed.trial import TrialTask
from prism_ray.study.designs import expand
from prism_ray.training.record import TrialRecord
from tests.conftest import REPOSITORY
from tests.distributed.conftest import Told, study_records
from tests.distributed.killing import (
    CHECKPOINT_EVERY,
    Killer,
    assert_exactly_once,
    kill_process,
    long_settings,
    long_study,
    uninterrupted,
    wait_until,
)

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def expected(simulated_store: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, float]]:
    return uninterrupted(simulated_store, tmp_path_factory.mktemp("uninterrupted"))


def no_placement_group_is_left() -> bool:
    return all(group["state"] == "REMOVED" for group in placement_group_table().values())


def test_a_trials_process(simulated_store: Path, expected: dict[str, dict[str, float]], tmp_path: Path) -> None:
    study, settings, told = long_study(tmp_path), long_settings(simulated_store, tmp_path), Told()
    killer = Killer(settings.storage, seed=20261127, n_kills=2, kill=kill_process)
    killer.start()
    outcome = run_study(study, settings, told)
    killed = killer.checked()
    assert (outcome.exit_code, outcome.failures) == (0, {})
    assert_exactly_once(study, settings, expected, killed)
    folders = [record.folder for record in study_records(study, settings).values()]
    attempts = [attempt for folder in folders for attempt in read_attempts(folder)]
    assert sum(attempt.how == "died" for attempt in attempts) == 2
    assert len(attempts) == 4 + 2
    assert told.labels("failed") == set()
    wait_until(no_placement_group_is_left, "no placement group is left", 30)


def test_a_ray_train_worker(simulated_store: Path, expected: dict[str, dict[str, float]], tmp_path: Path) -> None:
    study, settings = long_study(tmp_path, seeds=[2]), long_settings(simulated_store, tmp_path)
    resources = TrialResources(n_workers=2, checkpoint_every_steps=CHECKPOINT_EVERY)
    store = prism_ray.store.open(simulated_store)
    trial = expand(study)[1]
    with loading_cluster(LoadingRequest("cache", store, (trial.config,)), resources, address=None) as opened:
        maker = TaskMaker(settings, store.digest, "", {}, opened.loading)
        task = dataclasses.replace(maker.make(trial), resources=resources, tracking_uri=None)
        killer, record = train_while_killed(task, settings)
    ((_, step),) = killer.checked()
    # Workers share batches: the same numbers up to rounding, over 300 steps.
    assert record.metrics["val/mse"] == pytest.approx(expected[trial.name]["val/mse"], rel=0.05)
    attempts = read_attempts(task.folder)
    assert [attempt.how for attempt in attempts] == ["died", "finished"]
    assert attempts[1].first_step >= step, "work that was kept was done again"
    assert {file.name for file in task.folder.iterdir()}.isdisjoint({"lease.json", "checkpoint.pt", "ray_train"})
    wait_until(no_placement_group_is_left, "no placement group is left", 30)


def train_while_killed(task: TrialTask, settings: StudySettings) -> tuple[Killer, TrialRecord]:
    """Train on two workers, of which one is killed."""
    choice = random.Random(7)

    def kill_a_worker(attempt: Attempt) -> None:
        """One of the two: the first has written the attempt, and the other one waits for it after every step."""
        (raylet,) = [one for one in psutil.Process(attempt.pid).parents() if one.name() == "raylet"]
        name = " ".join(psutil.Process(attempt.pid).cmdline())
        workers = [one for one in raylet.children() if " ".join(one.cmdline()).split(".")[0] == name.split(".")[0]]
        assert len(workers) == 2, [one.cmdline() for one in raylet.children()]
        os.kill(choice.choice(workers).pid, signal.SIGKILL)

    killer = Killer(settings.storage, seed=3, n_kills=1, kill=kill_a_worker)
    killer.start()
    return killer, train_on_workers(task)


def test_the_nodes_of_trials(simulated_store: Path, expected: dict[str, dict[str, float]], tmp_path: Path) -> None:
    """In a process of its own: it has a cluster with a spare node."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.distributed.lost_node", str(simulated_store), str(tmp_path)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    # Ray prints among it what it makes of the nodes.
    (found,) = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert (found["exit_code"], found["failures"]) == (0, {})
    machine, raylet = found["trials"]
    hows = [attempt["how"] for attempt in machine["attempts"]]
    assert hows == ["node lost", "finished"], "a node that is lost is no failure of the trial"
    # Cut off from its cluster, a process trains for some ten seconds: what it ends in that time is done.
    hows = [attempt["how"] for attempt in raylet["attempts"]]
    assert hows in (["node lost", "finished"], ["finished"]), hows
    for trial in (machine, raylet):
        nodes = [attempt["node"] for attempt in trial["attempts"]]
        assert len(set(nodes)) == len(nodes), "it goes on elsewhere"
        assert trial["attempts"][-1]["first_step"] >= trial["checkpoint"] * (len(nodes) > 1)
        assert trial["metrics"] == pytest.approx(expected[trial["name"]], rel=1e-5, nan_ok=True)
    assert machine["name"] != raylet["name"]
    assert ray.is_initialized()
