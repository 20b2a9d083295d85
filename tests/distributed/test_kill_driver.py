"""The driver of a study, a real `prism-ray run` on a cluster that stays: killed with -9, and run again."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import ray

from prism_ray.cli import main
from prism_ray.distributed.attempts import read_attempts
from prism_ray.training.checkpoint import saved_step
from tests.conftest import REPOSITORY
from tests.distributed.conftest import study_records
from tests.distributed.killing import (
    CHECKPOINT_EVERY,
    assert_exactly_once,
    is_live,
    long_settings,
    long_study,
    running,
    uninterrupted,
    wait_until,
)

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(300)]
TWO_TRIALS = {"seeds": [2]}


def test_it_is_killed_and_the_same_command_does_the_rest(
    simulated_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "alone").mkdir()
    expected = uninterrupted(simulated_store, tmp_path / "alone", **TWO_TRIALS)
    study, settings = long_study(tmp_path, **TWO_TRIALS), long_settings(simulated_store, tmp_path)
    command = ["run", str(study.path), "--store", str(simulated_store), "--storage", str(settings.storage)]
    command += ["--tracking-uri", settings.tracking_uri, "--checkpoint-every", str(CHECKPOINT_EVERY)]
    command += ["--max-concurrent", "1"]
    program = [str(Path(sys.executable).parent / "prism-ray"), *command]
    output, choice = tmp_path / "output.txt", random.Random(11)
    with output.open("w") as file:
        driver = subprocess.Popen(
            [*program, "--address", ray.get_runtime_context().gcs_address],
            cwd=REPOSITORY,
            stdout=file,
            stderr=file,
            start_new_session=True,  # as a terminal would start it
        )
    try:
        wait_until(lambda: running(settings.storage) or driver.poll() is not None, "a trial runs", 200)
        time.sleep(choice.uniform(0, 1.0))
        trained = running(settings.storage)
        killed = [(folder, saved_step(folder)) for folder, _ in trained]
    finally:
        os.kill(driver.pid, signal.SIGKILL)
        driver.wait()
    assert killed, output.read_text()
    pids = {attempt.pid for _, attempt in trained}
    wait_until(lambda: not any(map(is_live, pids)), "what it owned has ended", 60)

    assert main(command) == 0
    assert "2 of 2 trials are finished" in capsys.readouterr().out
    assert_exactly_once(study, settings, expected, killed)
    hows = [a.how for record in study_records(study, settings).values() for a in read_attempts(record.folder)]
    assert sorted(hows) == ["died", "finished", "finished"]
