"""The driver of a study, a real `prism-ray run` on a cluster: killed with -9, interrupted, and run again each time."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import ray

from prism_ray.distributed.attempts import read_attempts
from prism_ray.tracking import fetch_study, fetch_trials
from prism_ray.training.checkpoint import saved_step
from tests.conftest import REPOSITORY
from tests.distributed.conftest import study_records
from tests.distributed.killing import (
    CHECKPOINT_EVERY,
    LONG,
    assert_exactly_once,
    is_live,
    long_settings,
    long_study,
    running,
    uninterrupted,
    wait_until,
)

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(300)]
ONE_SEED = {"seeds": [2], "baseline": {**LONG, "training.n_steps": 900}}
"""Two trials of some seconds each, so that a signal finds one in the middle of its training."""


class Driver:
    """`prism-ray run` on the cluster of the test run, which stays when its driver goes: a start takes seconds."""

    def __init__(self, command: list[str], output: Path) -> None:
        self._output = output
        with output.open("a") as file:
            # In a process group of its own, as a terminal would start it.
            self.process = subprocess.Popen(command, cwd=REPOSITORY, stdout=file, stderr=file, start_new_session=True)

    def end(self, number: signal.Signals | None = None, timeout_s: float = 120) -> int:
        """Exit code, after a signal where one is given."""
        if number is not None:
            self.process.send_signal(number)
        return self.process.wait(timeout_s)


def test_it_is_killed_then_interrupted_then_ends(simulated_store: Path, tmp_path: Path) -> None:
    (tmp_path / "alone").mkdir()
    expected = uninterrupted(simulated_store, tmp_path / "alone", **ONE_SEED)
    study, settings = long_study(tmp_path, **ONE_SEED), long_settings(simulated_store, tmp_path)
    command = [str(Path(sys.executable).parent / "prism-ray"), "run", str(study.path), "--store", str(simulated_store)]
    command += ["--storage", str(settings.storage), "--tracking-uri", settings.tracking_uri]
    command += ["--address", ray.get_runtime_context().gcs_address]
    command += ["--checkpoint-every", str(CHECKPOINT_EVERY), "--max-concurrent", "1"]
    output, choice = tmp_path / "output.txt", random.Random(11)

    driver = Driver(command, output)
    try:
        trained = wait_until(lambda: running(settings.storage), "a trial runs", 120)
        time.sleep(choice.uniform(0, 1.0))
        killed = [(folder, saved_step(folder)) for folder, _ in running(settings.storage)]
        driver.end(signal.SIGKILL)
        pids = {attempt.pid for _, attempt in trained}
        wait_until(lambda: not any(map(is_live, pids)), "what it owned has ended", 60)

        driver = Driver(command, output)
        wait_until(lambda: is_again(settings.storage) and running(settings.storage), "trials run again", 120)
        code = driver.end(signal.SIGINT)
        if code == 130:  # else it was done before the signal came
            assert "the launch was told to end by SIGINT" in output.read_text()
            assert running(settings.storage) == []
            assert "RUNNING" not in set(fetch_trials(settings.tracking_uri, "tiny")["status"])
            assert fetch_study(settings.tracking_uri, "tiny").status == "KILLED"
        assert code in (0, 130), output.read_text()
        assert not (settings.storage / "studies" / "tiny" / "driver.json").exists()

        driver = Driver(command, output)
        assert driver.end(timeout_s=240) == 0, output.read_text()
    finally:
        if driver.process.poll() is None:
            driver.end(signal.SIGKILL)
    assert "Traceback" not in output.read_text()
    assert "2 of 2 trials are finished" in output.read_text()
    assert_exactly_once(study, settings, expected, killed)
    hows = {a.how for record in study_records(study, settings).values() for a in read_attempts(record.folder)}
    assert {"died", "finished"} <= hows <= {"died", "interrupted", "finished"}


def is_again(storage: Path) -> bool:
    """Whether a trial that was killed has been started again."""
    return any(len(read_attempts(path.parent)) > 1 for path in storage.glob("trials/*/attempts.json"))
