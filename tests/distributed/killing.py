"""Kills at random moments, and what must be true of a study after it was run again."""

from __future__ import annotations

import dataclasses
import logging
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from prism_ray.distributed.attempts import Attempt, open_attempt, read_attempts
from prism_ray.distributed.in_process import InProcessBackend
from prism_ray.distributed.launch_settings import StudySettings
from prism_ray.distributed.resources import TrialResources
from prism_ray.distributed.retries import RetryPolicy
from prism_ray.distributed.study_run import run_study
from prism_ray.study.spec import Study
from prism_ray.tracking import fetch_study, fetch_trials
from prism_ray.training.checkpoint import saved_step
from tests.distributed.conftest import TINY, Told, study_records, study_settings, tiny_study

_log = logging.getLogger(__name__)

CHECKPOINT_EVERY = 10
LONG = {**TINY, "training.n_steps": 200}
"""Settings of trials that take a second or two."""
PATIENT = RetryPolicy(retries=20, first_wait_s=0.2, most_wait_s=1.0)


def long_study(folder: Path, **changes: Any) -> Study:
    """Two arms with two seeds, a second or two a trial."""
    return tiny_study(folder, **{"baseline": LONG, **changes})


def long_settings(store: Path, folder: Path, **changes: Any) -> StudySettings:
    """Settings of a study whose trials keep a checkpoint every few steps and are tried again soon."""
    resources = TrialResources(checkpoint_every_steps=CHECKPOINT_EVERY)
    named = {"resources": resources, "retry": PATIENT, **changes}
    return dataclasses.replace(study_settings(store, folder), **named)


def uninterrupted(store: Path, folder: Path, **changes: Any) -> dict[str, dict[str, float]]:
    """Metrics of all trials of the study where nothing is killed, by the trial's name."""
    study = long_study(folder, **changes)
    settings = long_settings(store, folder, backend=InProcessBackend())
    assert run_study(study, settings, Told()).exit_code == 0
    return {name: record.metrics for name, record in study_records(study, settings).items()}


def running(storage: Path) -> list[tuple[Path, Attempt]]:
    """Folders of the trials whose attempt has not ended, with that attempt."""
    found = [(path.parent, open_attempt(path.parent)) for path in storage.glob("trials/*/attempts.json")]
    return [(folder, attempt) for folder, attempt in found if attempt is not None]


def wait_until(holds: Callable[[], Any], what: str, timeout_s: float = 60) -> Any:
    """What `holds` gives once it gives something true."""
    end = time.monotonic() + timeout_s
    while not (found := holds()):
        assert time.monotonic() < end, f"not within {timeout_s} s: {what}"
        time.sleep(0.02)
    return found


class Killer(threading.Thread):
    """Kills something of a running trial at random moments, while the study runs in the test's own thread.

    Args:
        one_each: no trial is killed twice.

    Attributes:
        killed: of each kill the trial's folder and the step of its checkpoint just before.
    """

    def __init__(
        self,
        storage: Path,
        seed: int,
        n_kills: int,
        kill: Callable[[Attempt], object],
        longest_s: float = 0.4,
        *,
        one_each: bool = False,
    ) -> None:
        super().__init__(daemon=True)
        self.killed: list[tuple[Path, int]] = []
        self.error: BaseException | None = None
        self._storage = storage
        self._random = random.Random(seed)
        self._n_kills = n_kills
        self._kill = kill
        self._longest_s = longest_s
        self._one_each = one_each
        _log.warning("kills with seed %d", seed)

    def run(self) -> None:
        try:
            for _ in range(self._n_kills):
                self._kill_one()
        except Exception as problem:  # noqa: BLE001  # told in the test's own thread
            self.error = problem

    def checked(self) -> list[tuple[Path, int]]:
        """All kills, once they are done."""
        self.join(60)
        assert self.error is None, repr(self.error)
        assert len(self.killed) == self._n_kills
        return self.killed

    def _running(self) -> list[tuple[Path, Attempt]]:
        spared = {folder for folder, _ in self.killed} if self._one_each else set()
        return [(folder, attempt) for folder, attempt in running(self._storage) if folder not in spared]

    def _kill_one(self) -> None:
        wait_until(self._running, "a trial runs", 120)
        wait_s = self._random.uniform(0, self._longest_s)
        time.sleep(wait_s)
        folder, attempt = self._random.choice(wait_until(self._running, "a trial runs", 120))
        step = saved_step(folder)
        self._kill(attempt)
        _log.warning(
            "killed after %.3f s: %s, process %d, checkpoint of step %d", wait_s, folder.name, attempt.pid, step
        )
        self.killed.append((folder, step))
        if not self._one_each:  # else another trial runs while this one waits
            wait_until(lambda: open_attempt(folder) != attempt, "the death is noticed", 120)


def kill_process(attempt: Attempt) -> None:
    """kill -9 of the process that trains."""
    assert attempt.pid != os.getpid()
    os.kill(attempt.pid, signal.SIGKILL)


def assert_exactly_once(
    study: Study, settings: StudySettings, expected: dict[str, dict[str, float]], killed: list[tuple[Path, int]]
) -> None:
    """Every trial finished once, with the numbers of an uninterrupted study, and nothing of what was kept was lost."""
    records = study_records(study, settings)
    assert records.keys() == expected.keys()
    for name, record in records.items():
        assert record.metrics == pytest.approx(expected[name], rel=1e-5, nan_ok=True), name
    trials = fetch_trials(settings.tracking_uri, study.name)
    assert sorted(trials["trial_id"]) == sorted(record.trial_id for record in records.values())
    assert set(trials["status"]) == {"FINISHED"}
    assert fetch_study(settings.tracking_uri, study.name).status == "FINISHED"
    for record in records.values():
        attempts = read_attempts(record.folder)
        assert [attempt.how for attempt in attempts if attempt.how == "finished"] == ["finished"]
        assert attempts[-1].how == "finished"
        first_steps = [attempt.first_step for attempt in attempts]
        assert first_steps == sorted(first_steps), "work that was kept was done again"
        left = {file.name for file in record.folder.iterdir()}
        assert not left & {"lease.json", "failure.json", "checkpoint.pt"}, (left, attempts)
    for folder, step in killed:
        later = [attempt.first_step for attempt in read_attempts(folder) if attempt.first_step >= step]
        assert later, f"{folder.name} did not go on from step {step}"
    pids = {attempt.pid for record in records.values() for attempt in read_attempts(record.folder)} - {os.getpid()}
    wait_until(lambda: not any(map(is_live, pids)), "no process of a trial is left", 30)


def is_live(pid: int) -> bool:
    """Whether a process is there and not only its number."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
