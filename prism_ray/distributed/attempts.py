"""Starts of a trial and how each ended: `attempts.json` in its folder, the same whatever runs it.

An attempt that never ended is noted as died by the next one: a process that is killed cannot say so itself. It ended
when it last wrote into its folder, however much later that is noticed.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal

from prism_ray.distributed.workspace import LEASE_NAME, write_whole

ATTEMPTS_NAME = "attempts.json"
Ending = Literal["", "finished", "failed", "interrupted", "pruned", "died", "node lost"]


@dataclass(frozen=True)
class Attempt:
    """One start of a trial.

    Attributes:
        study, launch: who started it.
        host, node, pid: where; `node` is Ray's, empty without a cluster.
        gpus: GPUs that it holds, over all its workers.
        started: UTC in ISO format.
        first_step: finished steps that it went on from.
        ended: UTC in ISO format; empty while it runs. For one that died, when it last wrote into the trial's folder.
        how: how it ended; empty while it runs, or where it died and nobody has noticed.
        last_step: finished steps of the trial when it ended; those of the checkpoint where it died.
    """

    study: str
    launch: str
    host: str
    node: str
    pid: int
    gpus: float
    started: str
    first_step: int
    ended: str = ""
    how: Ending = ""
    last_step: int = 0

    @property
    def started_at(self) -> float:
        """When it began, seconds since 1970."""
        return datetime.fromisoformat(self.started).timestamp()

    @property
    def seconds(self) -> float:
        """Seconds that it took; of one that has ended."""
        return datetime.fromisoformat(self.ended).timestamp() - self.started_at


def read_attempts(folder: Path) -> tuple[Attempt, ...]:
    """All attempts of the trial in `folder`, the first one first; empty where there are none."""
    try:
        return tuple(Attempt(**entry) for entry in json.loads((folder / ATTEMPTS_NAME).read_text()))
    except FileNotFoundError:
        return ()


def begin_attempt(
    folder: Path, study: str, launch: str, node: str, gpus: float, first_step: int
) -> tuple[Attempt, ...]:
    """Note that this process starts the trial; all attempts come back, this one last."""
    earlier = _ended(folder, "died", first_step)
    this = Attempt(study, launch, platform.node(), node, os.getpid(), gpus, _now(), first_step)
    _write(folder, (*earlier, this))
    return (*earlier, this)


def end_attempt(folder: Path, how: Ending, last_step: int) -> None:
    """Note how another process's attempt ended; nothing where all have ended."""
    if open_attempt(folder) is not None:
        _write(folder, _ended(folder, how, last_step))


def end_own_attempt(folder: Path, own: Attempt, how: Ending, last_step: int) -> None:
    """Note how this process's attempt ended, over what others made of its silence: it may have outlived its node.

    Args:
        own: the attempt, as `begin_attempt` gave it.
    """
    others = ("", "died", "node lost")
    attempts = [
        replace(one, ended=_now(), how=how, last_step=last_step) if _is(one, own) and one.how in others else one
        for one in read_attempts(folder)
    ]
    _write(folder, attempts)


def open_attempt(folder: Path) -> Attempt | None:
    """The attempt that runs, or died without notice; None where the last one has ended."""
    attempts = read_attempts(folder)
    return attempts[-1] if attempts and not attempts[-1].how else None


def deaths(attempts: Sequence[Attempt], launch: str) -> int:
    """Attempts of a launch whose process died; a node that was lost is no fault of the trial."""
    return sum(attempt.how == "died" and attempt.launch == launch for attempt in attempts)


def died_text(n_deaths: int, attempts: Sequence[Attempt]) -> str:
    """What to say of a trial that died too often."""
    places = sorted({attempt.host for attempt in attempts if attempt.how == "died"})
    where = f" on {', '.join(places)}" if places else ""
    return (
        f"its process died {n_deaths} times in this launch{where} without an error of its own, as when memory ran out; "
        "see the log of its node"
    )


def gpu_hours(folder: Path, study: str) -> float:
    """GPU-hours that a study's attempts at a trial held, whether or not they came to anything.

    Those of one that has not ended count until it last wrote into the folder.
    """
    attempts = _ended(folder, "died", 0)
    return sum(attempt.gpus * attempt.seconds / 3600 for attempt in attempts if attempt.study == study)


def _is(one: Attempt, other: Attempt) -> bool:
    return (one.host, one.pid, one.started) == (other.host, other.pid, other.started)


def _ended(folder: Path, how: Ending, last_step: int) -> tuple[Attempt, ...]:
    """All attempts of the trial, an open one as ended when its process last wrote into the folder."""
    attempts = read_attempts(folder)
    if not attempts or attempts[-1].how:
        return attempts
    ended = _text(max(attempts[-1].started_at, min(_last_written(folder), time.time())))
    return (*attempts[:-1], replace(attempts[-1], ended=ended, how=how, last_step=last_step))


def _last_written(folder: Path) -> float:
    """When a process that runs the trial last wrote into its folder, seconds since 1970; 0 for never."""
    times = [0.0]
    for entry in os.scandir(folder):
        # Whoever takes the trial over writes its lease first, and others close attempts.
        if LEASE_NAME not in entry.name and ATTEMPTS_NAME not in entry.name:
            with suppress(FileNotFoundError):
                times.append(entry.stat().st_mtime)
    return max(times)


def _write(folder: Path, attempts: Sequence[Attempt]) -> None:
    content = json.dumps([asdict(attempt) for attempt in attempts], indent=1)
    write_whole(folder / ATTEMPTS_NAME, content, durable=False)


def _now() -> str:
    return _text(time.time())


def _text(seconds: float) -> str:
    # Fine enough to tell two attempts of one process apart.
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="microseconds")
