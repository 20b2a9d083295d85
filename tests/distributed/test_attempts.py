"""Starts of a trial and how they ended."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from prism_ray.distributed.attempts import (
    ATTEMPTS_NAME,
    begin_attempt,
    deaths,
    died_text,
    end_attempt,
    end_own_attempt,
    gpu_hours,
    open_attempt,
    read_attempts,
)


def begin(folder: Path, launch: str = "a", first_step: int = 0, gpus: float = 0.0) -> None:
    begin_attempt(folder, "study", launch, node="node", gpus=gpus, first_step=first_step)


def test_an_attempt_says_who_where_and_how_it_ended(tmp_path: Path) -> None:
    assert read_attempts(tmp_path) == ()
    begin(tmp_path, first_step=3)
    (running,) = read_attempts(tmp_path)
    assert open_attempt(tmp_path) == running
    assert (running.pid, running.node, running.first_step, running.how) == (os.getpid(), "node", 3, "")
    end_attempt(tmp_path, "finished", 12)
    (ended,) = read_attempts(tmp_path)
    assert open_attempt(tmp_path) is None
    assert (ended.how, ended.last_step) == ("finished", 12)
    assert ended.started <= ended.ended
    end_attempt(tmp_path, "died", 0)
    assert read_attempts(tmp_path) == (ended,), "what has ended stays"


def test_one_that_never_ended_is_found_dead_by_the_next(tmp_path: Path) -> None:
    begin(tmp_path)
    begin(tmp_path, first_step=5)
    first, second = read_attempts(tmp_path)
    assert (first.how, first.last_step) == ("died", 5)
    assert (second.how, second.first_step) == ("", 5)


def test_deaths_are_counted_by_launch_and_without_lost_nodes(tmp_path: Path) -> None:
    for launch, how in (("a", "died"), ("b", "died"), ("b", "node lost"), ("b", "interrupted"), ("b", "died")):
        begin(tmp_path, launch)
        end_attempt(tmp_path, how, 0)  # type: ignore[arg-type]
    attempts = read_attempts(tmp_path)
    assert (deaths(attempts, "a"), deaths(attempts, "b"), deaths(attempts, "c")) == (1, 2, 0)
    assert "died 2 times in this launch on " in died_text(2, attempts)


def test_gpu_hours_are_those_that_a_study_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begin(tmp_path, gpus=0.5)
    end_attempt(tmp_path, "died", 0)
    begin(tmp_path, gpus=0.5)
    entries = json.loads((tmp_path / ATTEMPTS_NAME).read_text())
    entries[0] |= {"started": "2026-01-01T00:00:00+00:00", "ended": "2026-01-01T03:00:00+00:00"}
    (tmp_path / ATTEMPTS_NAME).write_text(json.dumps(entries))
    assert gpu_hours(tmp_path, "study") == pytest.approx(1.5)
    assert gpu_hours(tmp_path, "another") == 0
    # A process that was killed after an hour, noticed two days later.
    killed = read_attempts(tmp_path)[1].started_at + 3600
    (tmp_path / "progress.json").write_text("{}")
    os.utime(tmp_path / "progress.json", (killed, killed))
    long_after = killed + 2 * 86_400
    monkeypatch.setattr(time, "time", lambda: long_after)
    assert gpu_hours(tmp_path, "study") == pytest.approx(2.0), "before anybody has closed it"
    begin(tmp_path, gpus=0.5)
    (tmp_path / "lease.json").write_text("{}")
    assert gpu_hours(tmp_path, "study") == pytest.approx(2.0), "and after"
    assert read_attempts(tmp_path)[1].seconds == pytest.approx(3600, abs=1e-3)


def test_a_process_that_was_given_up_says_itself_how_it_ended(tmp_path: Path) -> None:
    """A worker outlives its node by some seconds: the queue has judged it then, and another process may have begun."""
    (orphan,) = begin_attempt(tmp_path, "study", "a", node="gone", gpus=0.0, first_step=0)
    end_attempt(tmp_path, "node lost", 3)
    begin(tmp_path, first_step=3)
    end_own_attempt(tmp_path, orphan, "finished", 9)
    first, second = read_attempts(tmp_path)
    assert (first.how, first.last_step) == ("finished", 9)
    assert second.how == "", "another's attempt is left alone"
    end_own_attempt(tmp_path, first, "interrupted", 5)
    assert read_attempts(tmp_path)[0].how == "finished", "what it said itself stays"
