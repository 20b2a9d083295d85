"""How far a study is, read from its folders alone: no cluster, no tracker, a second or two for 10,000 trials."""

from __future__ import annotations

import math
import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from prism_ray.distributed.attempts import ATTEMPTS_NAME, Attempt, gpu_hours, read_attempts
from prism_ray.distributed.driver import DRIVER_NAME
from prism_ray.distributed.failures import FAILURE_NAME, read_failure
from prism_ray.distributed.launch_note import LaunchNote, TrialNote, read_launch
from prism_ray.distributed.lease import STALE_S, Holder, read_holder
from prism_ray.distributed.progress_note import PROGRESS_NAME, read_progress
from prism_ray.distributed.pruning import PRUNED_NAME, read_pruned
from prism_ray.distributed.stop_request import StopRequest, read_stop
from prism_ray.distributed.time_left import Caps, TimeLeft, ToCome, time_left
from prism_ray.distributed.workspace import LEASE_NAME, read_object, study_folder, trial_folder
from prism_ray.study.finalists import BASELINE_ARM, FINALIST_ARM

# Said again, since the room that writes these files takes seconds to load; a test compares them.
RESULT_NAME = "result.json"
CHECKPOINT_NAME = "checkpoint.pt"

State = Literal["done", "running", "failed", "interrupted", "pruned", "missing"]
STATES: tuple[State, ...] = ("done", "running", "failed", "interrupted", "pruned", "missing")


@dataclass(frozen=True)
class TrialStatus:
    """One trial of a study as its folder tells it.

    Attributes:
        trial_id, label: who it is.
        state: `done` has a record; `running` has a process that lives; `failed` has a reason; `interrupted` was begun
            and has no process; `pruned` was stopped by the search; `missing` was never begun.
        step, n_steps: finished optimiser steps, as far as is known without its checkpoint, and all.
        metrics: of its best model where it is done, else of its last validation.
        for_s: seconds since its process began with it, where it runs.
        left_s: seconds that its training still takes, where it runs and that can be said.
        where: process and machine, where it runs.
        reason: why it failed.
        train_s: seconds in its optimiser steps, times its workers, where it is done.
        evaluates, multiply_adds, planned_s: what it costs, see `TrialNote`.
        spent_s: seconds of its attempts of this launch that have ended in an orderly way.
        spent_part: part of the trial that these did.
        from_part: part of it that was done when its last attempt began; of one that has no process, when that ended.
    """

    trial_id: str
    label: str
    state: State
    step: int
    n_steps: int
    metrics: Mapping[str, float] = field(default_factory=dict)
    for_s: float | None = None
    left_s: float | None = None
    where: str = ""
    reason: str = ""
    train_s: float = 0.0
    evaluates: bool = False
    multiply_adds: int = 0
    planned_s: float | None = None
    spent_s: float = 0.0
    spent_part: float = 0.0
    from_part: float = 0.0

    @property
    def is_finalist(self) -> bool:
        """Whether it is one of the trials that a search trains after its proposals."""
        return self.label.split("-")[0].split(" ")[0] in (FINALIST_ARM, BASELINE_ARM)

    @property
    def done_part(self) -> float:
        """Part of it that is done."""
        return 1.0 if self.state == "done" else self.step / self.n_steps


@dataclass(frozen=True)
class StudyStatus:
    """How far a study is.

    Attributes:
        launch: its last launch.
        trials: in the order of the launch.
        n_trials: that it will have; more than are known while a search runs, whose finalists are counted before they
            are chosen.
        driver: the process that drives it; None where none lives.
        stop: a request to stop it, where there is one.
        gpu_hours: held by its attempts, those that run included.
        now: time of the look, seconds since 1970.
    """

    launch: LaunchNote
    trials: tuple[TrialStatus, ...]
    n_trials: int
    driver: Holder | None
    stop: StopRequest | None
    gpu_hours: float
    now: float

    @property
    def counts(self) -> dict[State, int]:
        """Number of trials by state; proposals that a search has not made yet are missing."""
        found = Counter(trial.state for trial in self.trials)
        found["missing"] += max(0, self.n_trials - len(self.trials))
        return {state: found[state] for state in STATES}

    @property
    def parts(self) -> dict[str, dict[State, int]]:
        """Of a search with finalists, numbers by state of `proposals` and of `finalists`, the baseline among these."""
        n_finalists = self.launch.n_finalists
        if not n_finalists:
            return {}
        numbers = {"proposals": self.n_trials - n_finalists, "finalists": n_finalists}
        found = {part: Counter[State]() for part in numbers}
        for trial in self.trials:
            found["finalists" if trial.is_finalist else "proposals"][trial.state] += 1
        for part, states in found.items():
            states["missing"] += max(0, numbers[part] - states.total())
        return {part: {state: states[state] for state in STATES} for part, states in found.items()}

    @property
    def best(self) -> TrialStatus | None:
        """The finished trial that the study's own metric, on validation genes, prefers; None before the first."""
        sign = 1.0 if self.launch.direction == "minimize" else -1.0
        done = [trial for trial in self.trials if trial.state == "done"]
        known = [trial for trial in done if math.isfinite(trial.metrics.get(self.launch.metric, math.nan))]
        return min(known, key=lambda trial: sign * trial.metrics[self.launch.metric], default=None)

    @property
    def worker_hours(self) -> float:
        """Hours of workers in the optimiser steps of finished trials."""
        return sum({trial.trial_id: trial.train_s for trial in self.trials}.values()) / 3600

    @property
    def left(self) -> TimeLeft | None:
        """Time until the launch ends, see `time_left`; None where nothing runs or nothing can be said."""
        n_slots = 0 if self.driver is None else self.launch.n_concurrent
        return time_left(self.trials, n_slots, self._to_come(), self._caps())

    def _caps(self) -> Caps:
        """What the budget leaves."""
        launch = self.launch
        wall_s = None if launch.ends_by is None else launch.ends_by - self.now
        gpus = n_workers(launch) * float(launch.resources.get("gpus_per_worker", 0.0))
        if launch.gpu_hours is None or not gpus:
            return Caps(wall_s)
        return Caps(wall_s, (launch.gpu_hours - self.gpu_hours) * 3600 / gpus)

    def _to_come(self) -> ToCome:
        """Trials that are not known yet; a search has finalists only where they were foreseen."""
        n_finalists = max(0, self.launch.n_finalists - sum(trial.is_finalist for trial in self.trials))
        n_unknown = max(0, self.n_trials - len(self.trials))
        return ToCome(max(0, n_unknown - n_finalists), n_finalists, self.launch.finalist_steps)


def n_workers(launch: LaunchNote) -> int:
    """Workers of each trial of a launch."""
    return int(launch.resources.get("n_workers", 1))


def study_status(storage: Path, study: str, now: float | None = None) -> StudyStatus:
    """Status of the last launch of a study.

    Args:
        storage: folder of the workspace.
        now: time of the look, seconds since 1970; the present where not given.

    Raises:
        InputError: the workspace is not there, or the study was never run in it.
    """
    launch = read_launch(storage, study)
    at = time.time() if now is None else now
    folder = study_folder(storage, study)
    trials = tuple(trial_status(storage, trial, launch, at) for trial in launch.trials)
    return StudyStatus(
        launch=launch,
        trials=trials,
        n_trials=max(launch.n_trials, len(trials)),
        driver=living_holder(folder / DRIVER_NAME),
        stop=read_stop(folder),
        gpu_hours=_gpu_hours(storage, launch),
        now=at,
    )


def living_holder(lease: Path) -> Holder | None:
    """Who holds a lease and lives, as far as one look can tell; None where nobody does.

    On this machine its process is looked for; on another one its lease must be fresh by this machine's clock.
    """
    holder = read_holder(lease)
    if holder is None or holder.place == Holder.this_process("").place:
        return None if holder is None or holder.is_seen_dead() else holder
    try:
        silent_s = time.time() - lease.stat().st_mtime
    except FileNotFoundError:
        return None
    return holder if silent_s < STALE_S else None


def trial_status(storage: Path, trial: TrialNote, launch: LaunchNote, now: float) -> TrialStatus:
    """Status of one trial, by one look at its folder."""
    folder = trial_folder(storage, trial.trial_id)
    try:
        names = {entry.name for entry in os.scandir(folder)}
    except FileNotFoundError:
        names = set()
    attempts = _attempts(folder) if ATTEMPTS_NAME in names else ()
    known: dict[str, Any] = {**asdict(trial), **_spent(attempts, launch, trial.n_steps)}
    if RESULT_NAME in names:
        return _done(folder, known, n_workers(launch))
    progress = read_progress(folder) if PROGRESS_NAME in names else None
    known["step"] = 0 if progress is None else progress.step
    known["metrics"] = {} if progress is None else progress.validation
    holder = living_holder(folder / LEASE_NAME) if LEASE_NAME in names else None
    if holder is not None:
        began = progress.started if progress is not None else _running_since(attempts)
        return TrialStatus(
            **known,
            state="running",
            for_s=None if began is None else now - began,
            left_s=None if progress is None else progress.left_s,
            where=f"{holder.host}, process {holder.pid}",
        )
    pruned = read_pruned(folder) if PRUNED_NAME in names and launch.kind == "search" else None
    if pruned is not None and pruned.search.rsplit("-", 2)[0] == launch.study:
        return TrialStatus(**{**known, "step": pruned.step}, state="pruned", reason=str(pruned))
    failure = read_failure(folder) if FAILURE_NAME in names else None
    if failure is not None:
        return TrialStatus(**known, state="failed", reason=str(failure))
    begun = names & {ATTEMPTS_NAME, CHECKPOINT_NAME, PROGRESS_NAME}
    return TrialStatus(**known, state="interrupted" if begun else "missing")


def _done(folder: Path, known: Mapping[str, Any], workers: int) -> TrialStatus:
    record = read_object(folder / RESULT_NAME)
    if record is None or not isinstance(record.get("metrics"), dict):
        return TrialStatus(**known, step=0, state="failed", reason=f"{folder / RESULT_NAME} is damaged")
    cost = record.get("cost", {})
    return TrialStatus(
        **known,
        step=known["n_steps"],
        state="done",
        metrics=record["metrics"],
        train_s=float(cost.get("train_s", 0.0)) * int(cost.get("n_workers", workers)),
    )


def _attempts(folder: Path) -> tuple[Attempt, ...]:
    """Attempts of a trial; what cannot be read tells nothing of the time, and is no reason to say nothing else."""
    try:
        return read_attempts(folder)
    except (OSError, ValueError, TypeError):
        return ()


def _spent(attempts: Sequence[Attempt], launch: LaunchNote, n_steps: int) -> dict[str, float]:
    """`spent_s`, `spent_part` and `from_part` of a trial."""
    # When a process died is not known: it tells nothing of the time.
    orderly = [
        attempt
        for attempt in attempts
        if attempt.launch == launch.launch_id and attempt.how in ("finished", "interrupted", "pruned")
    ]
    last = attempts[-1] if attempts else None
    done = 0 if last is None else last.last_step if last.how else last.first_step
    return {
        "spent_s": sum(attempt.seconds for attempt in orderly),
        "spent_part": sum(attempt.last_step - attempt.first_step for attempt in orderly) / n_steps,
        "from_part": done / n_steps,
    }


def _running_since(attempts: Sequence[Attempt]) -> float | None:
    """When the attempt that runs began, seconds since 1970."""
    return attempts[-1].started_at if attempts and not attempts[-1].how else None


def _gpu_hours(storage: Path, launch: LaunchNote) -> float:
    """GPU-hours of the attempts of the study's trials; nobody held one where the launch asks for none."""
    if not launch.resources.get("gpus_per_worker"):
        return 0.0
    folders = (trial_folder(storage, name) for name in {trial.trial_id for trial in launch.trials})
    return sum(gpu_hours(folder, launch.study) for folder in folders)
