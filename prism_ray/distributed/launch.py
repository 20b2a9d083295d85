"""A launch of a study: what its kinds have in common, and what it came to.

Folders of a workspace (`storage`), which every node must see:

    <storage>/trials/<trial id>/     the record of a trial; shared by all studies that contain it
    <storage>/studies/<study>/       driver.json while it runs, stop.json, scratch, the searcher's database
    <storage>/mlflow.db, mlartifacts/   default tracking store
"""

from __future__ import annotations

import json
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ray.tune.search import Searcher

from prism_ray.config import RunConfig
from prism_ray.distributed.backend import Work
from prism_ray.distributed.budget_watch import BudgetWatch, used_gpu_hours
from prism_ray.distributed.closing import tracker_may_be_away
from prism_ray.distributed.disk import copies_kept
from prism_ray.distributed.failures import read_failure
from prism_ray.distributed.launch_note import MoreTrials, note_slots
from prism_ray.distributed.launch_noting import NotedTasks, note_launch
from prism_ray.distributed.launch_settings import StudySettings
from prism_ray.distributed.loading_choice import Loading, LoadingName, LoadingRequest
from prism_ray.distributed.plan_costs import PlanCosts
from prism_ray.distributed.progress import Progress
from prism_ray.distributed.room import room_needed
from prism_ray.distributed.stop_request import StopRequest, StopWatch, read_stop
from prism_ray.distributed.trial import TaskSource, TrialTask, failed_for_good, publish_record, task_label
from prism_ray.distributed.trial_queue import TrialQueue
from prism_ray.distributed.workspace import trial_folder, trial_journals
from prism_ray.sizes import size_text
from prism_ray.store import Store
from prism_ray.study.spec import Study, Trial
from prism_ray.tracking import (
    MlflowTracker,
    Status,
    StudyHeader,
    deliver_journals,
    fetch_trials,
    journals_of,
    process_courier,
    wait_for_deliveries,
)
from prism_ray.training.record import TrialRecord, read_record

DELIVERY_S = 20.0
"""Longest that the end of a launch waits for what this process has to deliver to the tracker."""
_GRACE_S = 2.0
"""The same for trials' processes. Ray ends them with their last trial, in the middle of a delivery too: what is in
their journals then is delivered from here."""


@dataclass(frozen=True)
class StudyOutcome:
    """What a launch of a study came to.

    Attributes:
        study: its name.
        n_trials: trials that the study has; of a search that was stopped, those that it may have.
        n_found: of them finished before this launch, or stopped by their search.
        n_finished: of them finished now, those found included.
        n_pruned: of them stopped by their search, which is an outcome as well.
        failures: reason by label of each trial that failed.
        repeating: labels of those that failed in a way that would repeat itself: they are not run again unasked.
        stop: why the launch ended before all trials had; None where it did not.
        tracking_uri, parent_run_id: where to compare.
        untold: why the tracker lacks something, which waits in the workspace; empty where it has all.
    """

    study: str
    n_trials: int
    n_found: int
    n_finished: int
    failures: dict[str, str]
    repeating: tuple[str, ...]
    stop: StopRequest | None
    tracking_uri: str
    parent_run_id: str
    n_pruned: int = 0
    untold: str = ""

    @property
    def n_left(self) -> int:
        """Trials that are neither finished nor failed."""
        return self.n_trials - self.n_finished - self.n_pruned - len(self.failures)

    @property
    def is_stopped(self) -> bool:
        """Whether the launch was told to end before all its trials had."""
        return self.stop is not None and self.n_left > 0

    @property
    def status(self) -> Status:
        """Status of the study's run."""
        if self.is_stopped:
            return "KILLED"
        return "FINISHED" if not self.failures else "FAILED"

    @property
    def exit_code(self) -> int:
        """0 all trials are finished; 1 some failed, or a budget is used up; 130 stopped by somebody, and resumable."""
        if self.stop is not None and self.is_stopped and self.stop.kind == "user":
            return 130
        return 0 if self.status == "FINISHED" else 1


@dataclass(frozen=True)
class TaskMaker:
    """Makes the tasks of a study; small enough to be sent to every trial process."""

    settings: StudySettings
    data_digest: str
    parent_run_id: str
    tags: Mapping[str, str]
    loading: Loading = field(default_factory=Loading)
    launch: str = field(default_factory=lambda: uuid.uuid4().hex)

    def make(self, trial: Trial) -> TrialTask:
        """Task of a trial."""
        identity = trial.trial_id(self.data_digest)
        return TrialTask(
            study=trial.study,
            arm=trial.arm,
            trial_id=identity,
            config=trial.config,
            store=self.settings.store,
            data_digest=self.data_digest,
            folder=trial_folder(self.settings.storage, identity),
            tracking_uri=self.settings.tracking_uri,
            parent_run_id=self.parent_run_id,
            resources=self.settings.resources,
            tags=self.tags,
            loading=self.loading,
            launch=self.launch,
            study_folder=self.settings.study_folder(trial.study),
            retry=self.settings.retry,
        )


@dataclass(frozen=True)
class Launch:
    """One launch of a study, checked and tracked: what the kinds of studies run with.

    Attributes:
        study: what is asked.
        settings: where and how it runs.
        store: its data, opened.
        tracker: where it is tracked.
        progress: who is told.
        maker: makes its tasks.
        header: what the run of the study says.
        costs: what its trials cost.
        started: when it began, on the monotonic clock.
        planned_bytes: compressed bytes of the store that the plan has, by how trials get their genes.
        untold: is told why the tracker could not be told something.
        reads: bytes of the store that each node has read so far, by node.
    """

    study: Study
    settings: StudySettings
    store: Store
    tracker: MlflowTracker
    progress: Progress
    maker: TaskMaker
    header: StudyHeader
    costs: PlanCosts
    planned_bytes: Callable[[LoadingName], int]
    started: float = field(default_factory=time.monotonic)
    untold: Callable[[str], None] = lambda reason: None
    reads: Counter[str] = field(default_factory=Counter)

    @property
    def folder(self) -> Path:
        """Folder of the study in the workspace."""
        return self.settings.study_folder(self.study.name)

    def begin(
        self,
        tasks: Iterable[TrialTask],
        n_trials: int,
        n_found: int,
        *,
        earlier: Sequence[TrialTask] = (),
        n_to_come: int = 0,
    ) -> None:
        """Note the launch in the study's folder, and tell how much there is to do.

        Args:
            tasks: trials that are known now, in the order in which they are handed out.
            n_trials: those that there are, or will be.
            n_found: of them finished before this launch.
            earlier: other trials of the study, which have ended: the proposals of a search before its finalists.
            n_to_come: other trials of the study, which follow on these: at most so many finalists of a search.
        """
        note_launch(
            self.study,
            self.settings,
            costs=self.costs,
            data_digest=self.store.digest,
            launch_id=self.maker.launch,
            parent_run_id=self.maker.parent_run_id,
            tasks=(*earlier, *tasks),
            n_trials=len(earlier) + n_trials + n_to_come,
            n_found=len(earlier) + n_found,
            n_finalists=n_trials if earlier else n_to_come,
            ends_by=self._ends_by(),
        )
        self.progress.begin(n_trials, n_found)

    def _ends_by(self) -> float | None:
        """When the budget of wall time ends the launch, seconds since 1970; None without one."""
        hours = self.study.budget.wall_hours
        return None if hours is None else time.time() - (time.monotonic() - self.started) + 3600 * hours

    def run(
        self,
        proposals: Searcher,
        source: Callable[[TaskMaker], TaskSource],
        configs: Iterable[RunConfig],
        *,
        known: Sequence[TrialTask],
        n_left: int,
        any_between: bool = False,
    ) -> dict[str, str]:
        """Run proposals until there are no more, or the launch is told to end; why trials failed, by trial id.

        Args:
            proposals: gives the proposals, as a searcher of Ray Tune.
            source: the source of their tasks, given what makes tasks once it is known how they load.
            configs: runs that between them read every projection that the trials read.
            known: trials of the study that are known by now, for what earlier launches spent of its budget.
            n_left: trials that are to be run.
            any_between: see `LoadingRequest`.

        Raises:
            PrismRayError: what kept the searcher from proposing; what ran then has ended.
        """
        settings, study = self.settings, self.study
        request = LoadingRequest(settings.loading, self.store, tuple(dict.fromkeys(configs)), any_between=any_between)
        with settings.backend.open(
            request, settings.resources, address=settings.address, max_concurrent=settings.max_concurrent
        ) as cluster:
            n_copies = copies_kept(settings.tracking_uri, settings.storage)
            room = room_needed(request, cluster.loading, n_left, cluster.n_concurrent, n_copies)
            settings.backend.check_nodes(settings.storage, settings.store, room)
            planned = self.planned_bytes(cluster.loading.name)
            note_slots(settings.storage, study.name, cluster.n_concurrent)
            tasks = source(replace(self.maker, loading=cluster.loading))
            watch = StopWatch(self.folder)
            queue = TrialQueue(
                proposals,
                NotedTasks(tasks, self.costs, MoreTrials(settings.storage, study.name).add),
                self.progress,
                retry=settings.retry,
                stopped=lambda: budget.is_used_up() or watch() is not None,
                node_is_lost=settings.backend.watch_nodes(),
            )
            work = Work(
                source=tasks,
                each=settings.resources,
                queue=queue,
                n_concurrent=cluster.n_concurrent,
                scratch=self.folder / f"tune-{self.maker.parent_run_id[:8]}",
                objective=study.objective.metric,
            )
            budget = self._budget(queue, known)
            with budget:
                settings.backend.run(work)
            how = "by each trial that streams" if cluster.loading.name == "stream" else "each projection once"
            self._say_reads(cluster.reads(), planned, how)
            self._deliver()
        queue.raise_if_broken()
        return queue.failures

    def _say_reads(self, reads: Mapping[str, int], planned: int, how: str) -> None:
        """Say what each node has read of the store against what was planned, and keep it with the study's run."""
        self.reads.update(reads)
        if not self.reads:
            return
        most, in_all = max(self.reads.values()), sum(self.reads.values())
        nodes = "1 node has" if len(self.reads) == 1 else f"{len(self.reads)} nodes have"
        self.progress.remark(
            f"store: {nodes} read {size_text(in_all)} of it, {size_text(most)} at most a node; "
            f"planned: {size_text(planned)}, {how}"
        )
        content = {"planned_bytes": planned, "read_bytes": dict(self.reads)}
        metrics = {
            "store/read_bytes": in_all,
            "store/node_read_bytes": most,
            "store/planned_bytes": planned,
        }
        with tracker_may_be_away(self.untold):
            files = {"store_reads.json": json.dumps(content, indent=1)}
            self.tracker.publish(self.maker.parent_run_id, files=files, metrics=metrics)

    def track_finished(self, tasks: Iterable[TrialTask]) -> None:
        """Put finished trials under this study's run that are not there, or not as finished.

        They were trained for another study or under another tracker, or their process died before it had told. Where
        the tracker is away, the next launch does it.
        """
        finished = [(task, record) for task in tasks if (record := read_record(task.folder)) is not None]
        if finished:
            with tracker_may_be_away(self.untold):
                self._track(finished)

    def _track(self, finished: Sequence[tuple[TrialTask, TrialRecord]]) -> None:
        trials = fetch_trials(self.settings.tracking_uri, self.study.name, parent_run_id=self.maker.parent_run_id)
        there = trials[trials["status"] == "FINISHED"]
        # A finalist may be the trial of a proposal as well: it has a run as each.
        tracked = set(zip(there["arm"], there["trial_id"], strict=True))
        for task, record in finished:
            if (task.arm, task.trial_id) not in tracked:
                publish_record(task, record, self.tracker)
        self._deliver()

    def _deliver(self) -> None:
        """Wait for the deliveries to the tracker that are on their way, then deliver what a process left behind."""
        process_courier().flush(DELIVERY_S)
        journals = journals_of(trial_journals(self.settings.storage), self.maker.parent_run_id)
        deliver_journals(wait_for_deliveries(journals, _GRACE_S), self.settings.tracking_uri)

    def _budget(self, queue: TrialQueue, known: Sequence[TrialTask]) -> BudgetWatch:
        study = self.study
        counts_gpus = study.budget.gpu_hours is not None
        return BudgetWatch(
            study,
            self.folder,
            queue,
            gpus=self.settings.resources.n_workers * self.settings.resources.gpus_per_worker,
            spent_gpu_hours=used_gpu_hours(known, study.name) if counts_gpus else 0.0,
            failed_before=frozenset(task.trial_id for task in known if failed_for_good(task)),
            started=self.started,
        )

    def outcome(
        self, tasks: Sequence[TrialTask], n_found: int, failed: Mapping[str, str], n_planned: int | None = None
    ) -> StudyOutcome:
        """What became of the study's trials, by their folders.

        Args:
            tasks: those that are known.
            n_found: trials that were finished before this launch.
            failed: why trials failed in this launch, by trial id; on a full disk their folders cannot say it.
            n_planned: trials that the study may have, where others follow on these: what a launch that was stopped
                before is short of.
        """
        failures: dict[str, str] = {}
        repeating = []
        n_finished = n_pruned = 0
        stop = read_stop(self.folder)
        for task in tasks:
            failure = read_failure(task.folder)
            if read_record(task.folder) is not None:
                n_finished += 1
            elif task.pruning is not None and task.pruning.pruned(task.folder) is not None:
                n_pruned += 1
            elif failure is not None or task.trial_id in failed:
                failures[task_label(task)] = failed.get(task.trial_id) or str(failure)
                if failure is not None and failure.repeats:
                    repeating.append(task_label(task))
            elif stop is None:
                failures[task_label(task)] = f"it ended without a record in {task.folder}; see the log of its node"
        return StudyOutcome(
            study=self.study.name,
            n_trials=len(tasks) if stop is None or n_planned is None else n_planned,
            n_found=n_found,
            n_finished=n_finished,
            failures=failures,
            repeating=tuple(repeating),
            stop=stop,
            tracking_uri=self.settings.tracking_uri,
            parent_run_id=self.maker.parent_run_id,
            n_pruned=n_pruned,
        )
