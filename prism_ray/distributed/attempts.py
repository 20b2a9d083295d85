"""Starts of a trial and how each ended: `attempts.json` in its folder, the same whatever runs it.

An attempt that never ended is noted as died by the next one: a process that is killed cannot say so itself.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal

from prism_ray.distributed.workspace import write_whole

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
        ended: UTC in ISO format; empty while it runs. For one that died, when that was noticed.
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
    earlier = _ended(read_attempts(folder), "died", first_step)
    this = Attempt(study, launch, platform.node(), node, os.getpid(), gpus, _now(), first_step)
    _write(folder, (*earlier, this))
    return (*earlier, this)


def end_attempt(folder: Path, how: Ending, last_step: int) -> None:
    """Note how the attempt that runs, or ran, ended; nothing where all have ended."""
    attempts = read_attempts(folder)
    if attempts and not attempts[-1].how:
        _write(folder, _ended(attempts, how, last_step))


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


def gpu_hours(attempts: Sequence[Attempt], study: str) -> float:
    """GPU-hours that a study's ended attempts held, whether or not they came to anything."""
    return sum(
        attempt.gpus * attempt.seconds / 3600 for attempt in attempts if attempt.study == study and attempt.ended
    )


def _is(one: Attempt, other: Attempt) -> bool:
    return (one.host, one.pid, one.started) == (other.host, other.pid, other.started)


def _ended(attempts: tuple[Attempt, ...], how: Ending, last_step: int) -> tuple[Attempt, ...]:
    if not attempts or attempts[-1].how:
        return attempts
    return (*attempts[:-1], replace(attempts[-1], ended=_now(), how=how, last_step=last_step))


def _write(folder: Path, attempts: Sequence[Attempt]) -> None:
    content = json.dumps([asdict(attempt) for attempt in attempts], indent=1)
    write_whole(folder / ATTEMPTS_NAME, content, durable=False)


def _now() -> str:
    # Fine enough to tell two attempts of one process apart.
    return datetime.now(timezone.utc).isoformat(timespec="microseconds")
