"""Which trial runs next: the one queue of a launch, which every backend asks and tells.

It speaks Ray Tune's language of a searcher (`suggest`, `on_trial_result`, `on_trial_complete`), so that Tune and the
in-process backend drive a study's searcher through it in the same way. It alone decides on trying a trial again and
on starting no more; the searcher inside hears of a trial once, when its outcome is final.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray.tune.search import Searcher

from prism_ray.distributed.attempts import died_text, end_attempt, open_attempt, read_attempts
from prism_ray.distributed.failures import ProcessDiedError, note_failure
from prism_ray.distributed.progress import Progress
from prism_ray.distributed.retries import RetryPolicy
from prism_ray.distributed.searcher import FAILURE_KEY, PRUNED_KEY
from prism_ray.distributed.trial import TaskSource, TrialTask, task_label
from prism_ray.errors import PrismRayError
from prism_ray.training.checkpoint import saved_step
from prism_ray.training.record import read_record

INTERRUPTED_KEY = "interrupted"
"""Key of a trial's last result: why it ended before its end with nothing wrong. Other results lack it."""


class GivenTrials(Searcher):  # type: ignore[misc]  # Ray publishes no types
    """Proposes the trials of a list, as `{"trial": trial id}`: in turn, but none before the one that it needs.

    Args:
        trial_ids: the trials.
        needs: trial -> the trial that must have ended before it starts, however it ended; both of the list.
    """

    def __init__(self, trial_ids: tuple[str, ...], needs: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self._needs = dict(needs or {})
        self._ready = deque(name for name in trial_ids if name not in self._needs)
        self._waiting = [name for name in trial_ids if name in self._needs]
        self._running: dict[str, str] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next that may start, None as long as all that are left wait for others, or `FINISHED`."""
        if not self._ready:
            return None if self._waiting else str(Searcher.FINISHED)
        self._running[trial_id] = self._ready.popleft()
        return {"trial": self._running[trial_id]}

    def on_trial_complete(self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False) -> None:
        """Let those start that waited for this trial, before any other: what they share with it is still at hand."""
        ended = self._running.pop(trial_id)
        freed = [name for name in self._waiting if self._needs[name] == ended]
        self._waiting = [name for name in self._waiting if self._needs[name] != ended]
        self._ready.extendleft(reversed(freed))


@dataclass
class _Handed:
    """A proposal that was handed out, over all its starts.

    Attributes:
        known_as: name under which the searcher knows it.
        proposal: what it proposed.
        task: the trial of it.
        started: when it was handed out last, on the monotonic clock.
        ready: when it may be handed out again.
        n_deaths, n_lost: starts that ended by the death of the process, and by the loss of its node.
    """

    known_as: str
    proposal: dict[str, Any]
    task: TrialTask
    started: float
    ready: float = 0.0
    n_deaths: int = 0
    n_lost: int = 0


class TrialQueue(Searcher):  # type: ignore[misc]
    """Hands out the proposals of a searcher, and again, after a pause, those whose process died.

    Attributes:
        failures: reason by trial id of each trial that failed.

    Args:
        proposals: gives new proposals.
        source: what makes a proposal a trial's task.
        progress: is told of each trial.
        retry: how often a trial is started again.
        stopped: whether no more are to be started.
        node_is_lost: whether a node of the cluster, by its id, is gone; None as long as that is not known.
    """

    def __init__(
        self,
        proposals: Searcher,
        source: TaskSource,
        progress: Progress,
        *,
        retry: RetryPolicy | None = None,
        stopped: Callable[[], bool] = lambda: False,
        node_is_lost: Callable[[str], bool | None] = lambda node: False,
    ) -> None:
        super().__init__(metric=proposals.metric, mode=proposals.mode)
        self.failures: dict[str, str] = {}
        self._proposals = proposals
        self._source = source
        self._progress = progress
        self._retry = retry or RetryPolicy()
        self._stopped = stopped
        self._node_is_lost = node_is_lost
        self._running: dict[str, _Handed] = {}
        self._died: list[_Handed] = []
        self._is_exhausted = self._is_told_to_end = False
        self._broken: PrismRayError | None = None
        self._held_s = 0.0
        # The budget looks at what is held from another thread.
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles its searcher for a restore that we do not use; a terminal cannot be pickled.
        return {}

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        """Whether the searcher takes Tune's metric and mode."""
        return metric is None or bool(self._proposals.set_search_properties(metric, mode, config, **spec))

    def held_s(self) -> float:
        """Seconds that trials have held their resources in this launch, summed over trials."""
        now = time.monotonic()
        with self._lock:
            return self._held_s + sum(now - handed.started for handed in self._running.values())

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """A proposal to run now, None where there is none yet, or `FINISHED`."""
        if self._is_over():
            return str(Searcher.FINISHED)
        handed = self._again()
        if handed is None and self._is_over():
            return str(Searcher.FINISHED)  # one that died too often was a failure too many
        handed = handed or self._new(trial_id)
        if handed is None:
            # One that runs may die and be handed out again.
            busy = self._running or self._died
            return str(Searcher.FINISHED) if self._is_exhausted and not busy else None
        handed.started = time.monotonic()
        with self._lock:
            self._running[trial_id] = handed
        self._progress.started(task_label(handed.task))
        return handed.proposal

    def on_trial_result(self, trial_id: str, result: Mapping[str, Any]) -> None:
        """Hand an intermediate result to the searcher."""
        if INTERRUPTED_KEY not in result:
            self._proposals.on_trial_result(self._running[trial_id].known_as, result)

    def on_trial_complete(self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False) -> None:
        """Take note of how a start ended: a death may be tried again, all else is final."""
        with self._lock:
            handed = self._running.pop(trial_id, None)
            if handed is None:
                return
            self._held_s += time.monotonic() - handed.started
        label, last = task_label(handed.task), dict(result or {})
        if error:
            # Judged later: the cluster may still be finding out that a node is gone.
            handed.ready = time.monotonic() + self._retry.wait_s(handed.n_deaths + handed.n_lost + 1)
            self._died.append(handed)
            return
        if last.get(INTERRUPTED_KEY):
            self._is_told_to_end = True  # what a trial is told, the launch is
            self._progress.interrupted(label, last[INTERRUPTED_KEY])
            last = {}
        elif last.get(FAILURE_KEY):
            self._failed(handed, last[FAILURE_KEY])
        elif PRUNED_KEY in last:
            self._progress.pruned(label, last[PRUNED_KEY])
        elif FAILURE_KEY in last:
            self._progress.finished(label, last)
        self._tell(handed.known_as, last or None, False)

    def save(self, checkpoint_path: str) -> None:
        """Write what Tune asks for; nothing is ever read back, since the trials' folders hold the truth."""
        Path(checkpoint_path).write_text("{}")

    def raise_if_broken(self) -> None:
        """Raise what kept the searcher from proposing or from being told; to be called when all that ran has ended.

        Raises:
            PrismRayError: as it was met: no trial was started since.
        """
        if self._broken is not None:
            raise self._broken

    def _is_over(self) -> bool:
        return self._is_told_to_end or self._broken is not None or self._stopped()

    def _tell(self, known_as: str, result: Mapping[str, Any] | None, error: bool) -> None:
        """Tell the searcher of an end; where that fails its trial's folder says it, to the next launch."""
        if self._broken is None:
            try:
                self._proposals.on_trial_complete(known_as, result, error)
            except PrismRayError as problem:
                self._broken = problem

    def _new(self, trial_id: str) -> _Handed | None:
        if self._is_exhausted:
            return None
        try:
            found = self._proposals.suggest(trial_id)
        except PrismRayError as problem:
            self._broken, found = problem, str(Searcher.FINISHED)
        self._is_exhausted = found == Searcher.FINISHED
        if found is None or self._is_exhausted:
            return None
        return _Handed(trial_id, found, self._source.task(found), time.monotonic())

    def _again(self) -> _Handed | None:
        """One that died, may be tried again and has waited long enough; those that may not are told as failed."""
        for handed in [handed for handed in self._died if handed.ready <= time.monotonic()]:
            if not self._judged(handed):
                continue
            self._died.remove(handed)
            folder = handed.task.folder
            # What was cut off with its node may have gone on to the end: whoever runs it next finds its record.
            if handed.n_deaths <= self._retry.retries or read_record(folder) is not None:
                return handed
            problem = ProcessDiedError(died_text(handed.n_deaths, read_attempts(folder)))
            failure = note_failure(folder, handed.task.trial_id, problem)
            self._failed(handed, str(failure))
            self._tell(handed.known_as, None, True)
        return None

    def _judged(self, handed: _Handed) -> bool:
        """Note how an attempt died that could not say so itself; False as long as nobody knows."""
        folder = handed.task.folder
        attempt = open_attempt(folder)
        lost = self._node_is_lost(attempt.node) if attempt is not None and attempt.node else False
        if lost is None:
            return False
        if lost and handed.n_lost < self._retry.lost_nodes:
            handed.n_lost += 1
        else:
            handed.n_deaths += 1
        if attempt is not None and read_record(folder) is None:
            end_attempt(folder, "node lost" if lost else "died", saved_step(folder))
        return True

    def _failed(self, handed: _Handed, reason: str) -> None:
        self.failures[handed.task.trial_id] = reason
        self._progress.failed(task_label(handed.task), reason)
