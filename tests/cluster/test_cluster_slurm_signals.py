"""cluster/slurm/study.sbatch when Slurm signals it: the study saves, the job goes back into the queue and goes on.

Stubs stand for Slurm's and Ray's commands and for the study; what signals do to a study is tested on real ones.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

pytestmark = pytest.mark.timeout(120)
JOB = "8"
PATIENCE_S = 60

# Keeps a checkpoint when it is interrupted and ends as told then; with a checkpoint it comes to its end.
STUDY = """\
import os, pathlib, signal, sys, time

here = pathlib.Path(os.environ["STORAGE_OF_TEST"])
if (here / "checkpoint").exists():
    print("goes on from the checkpoint", flush=True)
    sys.exit(0)

def save(*_):
    with (here / "interrupted").open("a") as file:
        file.write("x")
    if os.environ["ENDS_WITH"] != "never":
        (here / "checkpoint").touch()
        sys.exit(int(os.environ["ENDS_WITH"]))

signal.signal(signal.SIGINT, save)
(here / "runs").touch()
while True:
    time.sleep(0.05)
"""
RAY = """\
#!/usr/bin/env bash
[ "$1" = symmetric-run ] || exit 99
while [ "$1" != -- ]; do shift; done
shift
exec "$@"
"""
SRUN = """\
#!/usr/bin/env bash
while [ "${1#--}" != "$1" ]; do shift; done
exec "$@"
"""
SCONTROL = """\
#!/usr/bin/env bash
echo "$*" >>"$STORAGE_OF_TEST/scontrol.log"
"""


@dataclass
class Job:
    """The batch script in a job of its own."""

    folder: Path

    @property
    def storage(self) -> Path:
        return self.folder / "results"

    def start(self, ends_with: str = "130", restarts: int = 0) -> subprocess.Popen[str]:
        """Run the script to the point where its study runs, or ends by itself."""
        given = {
            "SLURM_JOB_ID": JOB,
            "SLURM_JOB_NUM_NODES": "1",
            "SLURM_RESTART_COUNT": str(restarts),
            "HEAD_ADDRESS": "127.0.0.1",
            "BIN": str(self.folder / "bin"),
            "STORE": "/shared/store",
            "STORAGE": str(self.storage),
            "STORAGE_OF_TEST": str(self.storage),
            "GRACE_S": "1" if ends_with == "never" else "60",
            "ENDS_WITH": ends_with,
            "HOME": str(self.folder),
        }
        return subprocess.Popen(
            ["bash", str(REPOSITORY / "cluster" / "slurm" / "study.sbatch"), "smoke"],
            cwd=self.folder,
            env={**os.environ, **given},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def requeued(self) -> str:
        """What Slurm was told."""
        log = self.storage / "scontrol.log"
        return log.read_text() if log.exists() else ""


@pytest.fixture
def job(tmp_path: Path) -> Job:
    folder = tmp_path / "bin"
    folder.mkdir()
    (tmp_path / "results").mkdir()
    study = f"#!{sys.executable}\n{STUDY}"
    for name, text in {"ray": RAY, "srun": SRUN, "scontrol": SCONTROL, "prism-ray": study}.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return Job(tmp_path)


def wait_until(holds: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end, what
        time.sleep(0.05)


def ended(script: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit code and output of the script, which must end by itself."""
    try:
        output, _ = script.communicate(timeout=PATIENCE_S)
    except subprocess.TimeoutExpired:
        os.killpg(script.pid, signal.SIGKILL)
        raise
    return script.returncode, output


@pytest.mark.parametrize(
    ("signals", "ends_with", "code", "requeued"),
    [
        ([signal.SIGUSR1], "130", 130, f"requeue {JOB}\n"),
        ([signal.SIGUSR1, signal.SIGUSR1, signal.SIGTERM], "130", 130, f"requeue {JOB}\n"),
        # Slurm itself puts a preempted job back, and a cancelled one is not to come back.
        ([signal.SIGTERM], "130", 130, ""),
        # Failed trials, or wrong input: there is nothing to go on with.
        ([signal.SIGUSR1], "1", 1, ""),
        ([signal.SIGUSR1], "2", 2, ""),
        # A study that does not end by itself is ended with its step; its checkpoints are what it goes on from.
        ([signal.SIGUSR1], "never", 143, f"requeue {JOB}\n"),
    ],
)
def test_a_signal_reaches_the_study_and_the_job_comes_back(
    job: Job, signals: list[int], ends_with: str, code: int, requeued: str
) -> None:
    script = job.start(ends_with)
    wait_until((job.storage / "runs").exists, "the study runs")
    for number in signals:
        os.kill(script.pid, number)  # as sbatch's B: does, the script alone
        wait_until((job.storage / "interrupted").exists, "the study was told")
    assert ended(script)[0] == code
    assert job.requeued() == requeued
    assert (job.storage / "interrupted").read_text() == "x"
    assert os.listdir(job.storage / "slurm" / JOB) == []


def test_a_job_that_comes_back_goes_on_and_is_done(job: Job) -> None:
    script = job.start()
    wait_until((job.storage / "runs").exists, "the study runs")
    os.kill(script.pid, signal.SIGUSR1)
    assert ended(script)[0] == 130
    code, output = ended(job.start(restarts=1))
    assert code == 0, output
    assert f"job {JOB}, start 2, head" in output
    assert "goes on from the checkpoint" in output
    assert job.requeued() == f"requeue {JOB}\n"
