"""Which trial runs next: the one queue of a launch, which every backend asks and tells.

It speaks Ray Tune's language of a searcher (`suggest`, `on_trial_result`, `on_trial_complete`), so that Tune and the
in-process backend drive a study's searcher through it in the same way. It alone decides on trying a trial again and
on starting no more; the searcher inside hears of a trial once, when its outcome is final.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray.tune.search import Searcher

from prism_ray.distributed.progress import Progress
from prism_ray.distributed.searcher import FAILURE_KEY
from prism_ray.distributed.trial import TaskSource, note_failure, task_label
from prism_ray.errors import TrainingError

RETRIES = 2
"""Times that a trial whose process died is started again; it goes on from its last checkpoint."""

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


class TrialQueue(Searcher):  # type: ignore[misc]
    """Hands out the proposals of a searcher, and again those whose process died.

    Args:
        proposals: gives new proposals.
        source: what makes a proposal a trial's task.
        progress: is told of each trial.
    """

    def __init__(self, proposals: Searcher, source: TaskSource, progress: Progress) -> None:
        super().__init__(metric=proposals.metric, mode=proposals.mode)
        self._proposals = proposals
        self._source = source
        self._progress = progress
        # By the backend's name of a start: the name under which the searcher knows the trial, and what it proposed.
        self._running: dict[str, tuple[str, dict[str, Any]]] = {}
        self._again: deque[tuple[str, dict[str, Any]]] = deque()
        self._n_deaths: dict[str, int] = {}
        self._is_stopped = self._is_exhausted = False

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles its searcher for a restore that we do not use; a terminal cannot be pickled.
        return {}

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        """Whether the searcher takes Tune's metric and mode."""
        return metric is None or bool(self._proposals.set_search_properties(metric, mode, config, **spec))

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """A proposal to run now, None where there is none yet, or `FINISHED`."""
        if self._is_stopped:
            return str(Searcher.FINISHED)
        if self._again:
            known_as, proposal = self._again.popleft()
        else:
            known_as, found = trial_id, None if self._is_exhausted else self._proposals.suggest(trial_id)
            self._is_exhausted |= found == Searcher.FINISHED
            if found is None or self._is_exhausted:
                # One that runs may die and be handed out again.
                return str(Searcher.FINISHED) if self._is_exhausted and not self._running else None
            proposal = found
        self._running[trial_id] = known_as, proposal
        self._progress.started(self._label(proposal))
        return proposal

    def on_trial_result(self, trial_id: str, result: Mapping[str, Any]) -> None:
        """Hand an intermediate result to the searcher."""
        if INTERRUPTED_KEY not in result:
            self._proposals.on_trial_result(self._running[trial_id][0], result)

    def on_trial_complete(self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False) -> None:
        """Take note of how a start ended: a death is tried again, all else is final."""
        started = self._running.pop(trial_id, None)
        if started is None:
            return
        known_as, proposal = started
        label, last = self._label(proposal), dict(result or {})
        if error:
            self._n_deaths[known_as] = self._n_deaths.get(known_as, 0) + 1
            if self._n_deaths[known_as] <= RETRIES:
                self._again.append(started)
                return
            problem = TrainingError(f"its process died {self._n_deaths[known_as]} times; see the log of its node")
            note_failure(self._source.task(proposal), problem)
            self._progress.failed(label, str(problem))
        elif last.get(INTERRUPTED_KEY):
            # Whoever told it to end means the launch: the others are told as well, and no more are started.
            self._is_stopped = True
            self._progress.interrupted(label, last[INTERRUPTED_KEY])
            last = {}
        elif last.get(FAILURE_KEY):
            self._progress.failed(label, last[FAILURE_KEY])
        elif FAILURE_KEY in last:
            self._progress.finished(label, last)
        self._proposals.on_trial_complete(known_as, last or None, error)

    def save(self, checkpoint_path: str) -> None:
        """Write what Tune asks for; nothing is ever read back, since the trials' folders hold the truth."""
        Path(checkpoint_path).write_text("{}")

    def _label(self, proposal: Mapping[str, Any]) -> str:
        return task_label(self._source.task(proposal))
