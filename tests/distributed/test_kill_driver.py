"""The driver of a study, a real `prism-ray run`: killed, interrupted, and run again each time."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

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

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(400)]


AGENTS = ("ray::DashboardA", "ray::RuntimeEnv")


def start(command: list[str], output: Path) -> subprocess.Popen[bytes]:
    """A driver in a process group of its own, as a terminal would start it."""
    with output.open("a") as file:
        return subprocess.Popen(command, cwd=REPOSITORY, stdout=file, stderr=file, start_new_session=True)


@pytest.mark.skip(reason="did not end within 400 s on a busy machine, and has not been seen to pass yet: docs/log.md")
def test_it_is_killed_then_interrupted_then_ends(simulated_store: Path, tmp_path: Path) -> None:
    baseline = {**LONG, "training.n_steps": 900}
    (tmp_path / "alone").mkdir()
    expected = uninterrupted(simulated_store, tmp_path / "alone", baseline=baseline)
    study, settings = long_study(tmp_path, baseline=baseline), long_settings(simulated_store, tmp_path)
    command = [str(Path(sys.executable).parent / "prism-ray"), "run", str(study.path), "--store", str(simulated_store)]
    command += ["--storage", str(settings.storage), "--tracking-uri", settings.tracking_uri]
    command += ["--checkpoint-every", str(CHECKPOINT_EVERY), "--max-concurrent", "2"]
    output, choice = tmp_path / "output.txt", random.Random(11)

    killed = []
    driver = start(command, output)
    try:
        wait_until(lambda: running(settings.storage), "a trial runs", 120)
        time.sleep(choice.uniform(0, 1.5))
        others = psutil.Process(driver.pid).children(recursive=True)
        killed += [(folder, saved_step(folder)) for folder, _ in running(settings.storage)]
        # Ray 2.60 leaves these two behind, idle, where the driver of a local cluster is killed (docs/log.md).
        agents = [one for one in others if one.name().startswith(AGENTS)]
        driver.send_signal(signal.SIGKILL)
        driver.wait()
        working = [one for one in others if one not in agents]
        wait_until(lambda: not any(is_live(one.pid) for one in working), "its cluster is gone", 60)
        for one in agents:
            one.kill()

        driver = start(command, output)
        wait_until(lambda: len(running(settings.storage)) == 2 and is_again(settings.storage), "trials run again", 120)
        others = psutil.Process(driver.pid).children(recursive=True)
        second = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=120)
        assert second.returncode == 2, second.stderr
        assert f"study tiny: is being run already (study tiny, process {driver.pid} on " in second.stderr
        driver.send_signal(signal.SIGINT)
        assert driver.wait(60) == 130, output.read_text()
        assert "STOPPED with " in output.read_text()
        assert "the launch was told to end by SIGINT" in output.read_text()
        wait_until(lambda: not any(is_live(one.pid) for one in others), "nothing is left running", 60)
        assert running(settings.storage) == []
        assert "RUNNING" not in set(fetch_trials(settings.tracking_uri, "tiny")["status"])
        assert fetch_study(settings.tracking_uri, "tiny").status == "KILLED"
        assert not (settings.storage / "studies" / "tiny" / "driver.json").exists()

        driver = start(command, output)
        assert driver.wait(240) == 0, output.read_text()
    finally:
        if driver.poll() is None:
            driver.kill()
            driver.wait()
    assert "Traceback" not in output.read_text()
    assert "4 of 4 trials are finished" in output.read_text()
    assert_exactly_once(study, settings, expected, killed)
    hows = [a.how for record in study_records(study, settings).values() for a in read_attempts(record.folder)]
    assert {"died", "interrupted", "finished"} == set(hows)


def is_again(storage: Path) -> bool:
    """Whether a trial that was killed has been started again."""
    return any(len(read_attempts(path.parent)) > 1 for path in storage.glob("trials/*/attempts.json"))
