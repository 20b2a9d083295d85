"""Stops a launch at the caps that its study sets: a look a second, and the same request to stop that a user makes."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

from prism_ray.distributed.attempts import gpu_hours
from prism_ray.distributed.stop_request import request_stop
from prism_ray.distributed.trial import TrialTask
from prism_ray.distributed.trial_queue import TrialQueue
from prism_ray.study.spec import Study

_LOOK_S = 0.5


class BudgetWatch:
    """Watches a launch from a thread while it runs; use it as a context.

    Args:
        study: with its budget.
        folder: of the study, where the request to stop is left.
        queue: of the launch.
        gpus: GPUs that one trial holds.
        spent_gpu_hours: of earlier launches.
        failed_before: ids of trials that failed in earlier launches in a way that would repeat itself.
        started: when the launch began, on the monotonic clock.
    """

    def __init__(
        self,
        study: Study,
        folder: Path,
        queue: TrialQueue,
        *,
        gpus: float,
        spent_gpu_hours: float,
        failed_before: frozenset[str],
        started: float,
    ) -> None:
        self._study = study
        self._folder = folder
        self._queue = queue
        self._gpus = gpus
        self._spent_gpu_hours = spent_gpu_hours
        self._failed_before = failed_before
        self._started = started
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="budget", daemon=True)

    def __enter__(self) -> BudgetWatch:
        self.is_used_up()
        self._thread.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._over.set()
        self._thread.join()

    def is_used_up(self) -> bool:
        """Whether a cap is reached; the launch is asked to stop then. The queue asks before it hands a trial out."""
        reason = self.reason()
        if reason is not None:
            request_stop(self._folder, reason, "budget")
        return reason is not None

    def reason(self) -> str | None:
        """Which cap is reached and how to go on; None where none is."""
        budget = self._study.budget
        n_failed = len(self._failed_before | set(self._queue.failures))
        hours = self._spent_gpu_hours + self._queue.held_s() * self._gpus / 3600
        wall_hours = (time.monotonic() - self._started) / 3600
        again = "run the study again"
        if budget.max_failures is not None and n_failed >= budget.max_failures:
            retry = f"mend them and use `prism-ray retry {self._study.name} --failed`"
            return self._text("max_failures", f"{n_failed} trials failed", str(budget.max_failures), retry)
        if budget.gpu_hours is not None and hours >= budget.gpu_hours:
            return self._text("gpu_hours", f"{hours:.3g} GPU-hours are used", f"{budget.gpu_hours:g}", again)
        if budget.wall_hours is not None and wall_hours >= budget.wall_hours:
            return self._text("wall_hours", f"{wall_hours:.3g} hours have passed", f"{budget.wall_hours:g}", again, "")
        return None

    def _text(self, name: str, spent: str, cap: str, how: str, raised: str = "raise it and ") -> str:
        where = f"{self._study.path}: budget.{name}"
        return f"{spent}, and {where} is {cap}; what is finished stays: to go on, {raised}{how}"

    def _watch(self) -> None:
        while not self._over.wait(_LOOK_S):
            self.is_used_up()


def used_gpu_hours(tasks: Iterable[TrialTask], study: str) -> float:
    """GPU-hours of a study's trials in its earlier launches, by their attempts; what failed or died counts as well."""
    return sum(gpu_hours(task.folder, study) for task in tasks)
