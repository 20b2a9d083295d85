"""A launch of a study: where and how it runs, what its kinds have in common, and what it came to.

Folders of a workspace (`storage`), which every node must see:

    <storage>/trials/<trial id>/     the record of a trial; shared by all studies that contain it
    <storage>/studies/<study>/       scratch of the engine, and the searcher's database
    <storage>/mlflow.db, mlartifacts/   default tracking store
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from ray.tune.search import Searcher

from prism_ray.config import RunConfig
from prism_ray.distributed.backend import Backend, Work
from prism_ray.distributed.loading import Loading, LoadingAsked, LoadingRequest
from prism_ray.distributed.progress import Progress
from prism_ray.distributed.resources import TrialResources
from prism_ray.distributed.trial import TaskSource, TrialTask, read_failure, task_label
from prism_ray.distributed.trial_queue import TrialQueue
from prism_ray.distributed.tune import RayBackend
from prism_ray.store import Store
from prism_ray.study.spec import Study, Trial
from prism_ray.tracking import MlflowTracker, Status, StudyHeader
from prism_ray.training.record import read_record


@dataclass(frozen=True)
class StudySettings:
    """Where and how a study runs; none of it changes a number.

    Attributes:
        store: feature store.
        storage: folder of the workspace, absolute, on storage that every node sees.
        tracking_uri: MLflow store, absolute.
        resources: what each trial takes.
        max_concurrent: trials at once; None for as many as fit.
        address: of a running Ray cluster; None for `RAY_ADDRESS`, else a local one.
        loading: how trials get their genes; `auto` to choose by their size.
        source_folder: folder whose git commit the runs carry.
        command: how to repeat the study.
        backend: what runs the trials.
        search_database: searcher's database, see `open_storage`; None for a journal in the study's folder.
    """

    store: Path
    storage: Path
    tracking_uri: str
    resources: TrialResources = field(default_factory=TrialResources)
    max_concurrent: int | None = None
    address: str | None = None
    loading: LoadingAsked = "auto"
    source_folder: Path = field(default_factory=Path.cwd)
    command: str = ""
    backend: Backend = field(default_factory=RayBackend)
    search_database: str | None = None


@dataclass(frozen=True)
class StudyOutcome:
    """What a launch of a study came to.

    Attributes:
        study: its name.
        n_trials: trials that the study has.
        n_found: of them finished before this launch.
        n_finished: of them finished now, those found included.
        n_pruned: of them stopped by their search, which is an outcome as well.
        failures: reason by label of each trial that failed.
        left: labels of the trials that are neither finished nor failed: the launch ended before them.
        tracking_uri, parent_run_id: where to compare.
    """

    study: str
    n_trials: int
    n_found: int
    n_finished: int
    failures: dict[str, str]
    left: tuple[str, ...]
    tracking_uri: str
    parent_run_id: str
    n_pruned: int = 0

    @property
    def status(self) -> Status:
        """Status of the study's run."""
        if self.left:
            return "KILLED"
        return "FINISHED" if not self.failures else "FAILED"


@dataclass(frozen=True)
class TaskMaker:
    """Makes the tasks of a study; small enough to be sent to every trial process."""

    settings: StudySettings
    data_digest: str
    parent_run_id: str
    tags: Mapping[str, str]
    loading: Loading = field(default_factory=Loading)

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
            folder=self.settings.storage / "trials" / identity,
            tracking_uri=self.settings.tracking_uri,
            parent_run_id=self.parent_run_id,
            resources=self.settings.resources,
            tags=self.tags,
            loading=self.loading,
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
    """

    study: Study
    settings: StudySettings
    store: Store
    tracker: MlflowTracker
    progress: Progress
    maker: TaskMaker
    header: StudyHeader

    @property
    def folder(self) -> Path:
        """Folder of the study in the workspace."""
        return self.settings.storage / "studies" / self.study.name

    def run(
        self,
        proposals: Searcher,
        source: Callable[[TaskMaker], TaskSource],
        configs: Iterable[RunConfig],
        *,
        any_between: bool = False,
    ) -> None:
        """Run proposals until there are no more.

        Args:
            proposals: gives the proposals, as a searcher of Ray Tune.
            source: the source of their tasks, given what makes tasks once it is known how they load.
            configs: runs that between them read every projection that the trials read.
            any_between: see `LoadingRequest`.
        """
        settings, study = self.settings, self.study
        request = LoadingRequest(settings.loading, self.store, tuple(dict.fromkeys(configs)), any_between=any_between)
        with settings.backend.open(
            request, settings.resources, address=settings.address, max_concurrent=settings.max_concurrent
        ) as (n_concurrent, loading):
            tasks = source(replace(self.maker, loading=loading))
            settings.backend.run(
                Work(
                    source=tasks,
                    each=settings.resources,
                    queue=TrialQueue(proposals, tasks, self.progress),
                    n_concurrent=n_concurrent,
                    scratch=self.folder / f"tune-{self.maker.parent_run_id[:8]}",
                    objective=study.objective.metric,
                )
            )

    def outcome(self, tasks: Iterable[TrialTask], n_found: int) -> StudyOutcome:
        """What became of the study's trials, by their folders.

        Args:
            n_found: trials that were finished before this launch.
        """
        failures, left = {}, []
        n_finished = n_pruned = 0
        for task in tasks:
            if read_record(task.folder) is not None:
                n_finished += 1
                continue
            if task.pruning is not None and task.pruning.pruned(task.folder) is not None:
                n_pruned += 1
                continue
            reason = read_failure(task.folder)
            if reason is None:
                left.append(task_label(task))
            else:
                failures[task_label(task)] = reason
        return StudyOutcome(
            study=self.study.name,
            n_trials=self.study.n_trials,
            n_found=n_found,
            n_finished=n_finished,
            failures=failures,
            left=tuple(left),
            tracking_uri=self.settings.tracking_uri,
            parent_run_id=self.maker.parent_run_id,
            n_pruned=n_pruned,
        )
