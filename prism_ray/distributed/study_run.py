"""A study from its file to its finished trials: check, find what is missing, run that, track all.

Folders of a workspace (`storage`), which every node must see:

    <storage>/trials/<trial id>/     the record of a trial; shared by all studies that contain it
    <storage>/studies/<study>/       scratch of the engine, and the searcher's database
    <storage>/mlflow.db, mlartifacts/   default tracking store
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

import prism_ray.store
from prism_ray.distributed.gpus import check_local_gpus
from prism_ray.distributed.loading import (
    Loading,
    LoadingAsked,
    LoadingRequest,
    check_loading_name,
    loading_cluster,
)
from prism_ray.distributed.networks import network_lines
from prism_ray.distributed.resources import TrialResources
from prism_ray.distributed.run_check import run_faults
from prism_ray.distributed.runtime import check_address
from prism_ray.distributed.searcher import StudySearcher
from prism_ray.distributed.trial import TrialTask, publish_record, read_failure, task_label
from prism_ray.distributed.tune import FixedTasks, Progress, run_on_tune
from prism_ray.errors import ConfigError, FaultList
from prism_ray.metrics import direction_of
from prism_ray.store import Store
from prism_ray.study.designs import expand, proposed_trial
from prism_ray.study.identity import RESULTS_VERSION
from prism_ray.study.spec import Study, Trial
from prism_ray.study.store_check import check_against_store
from prism_ray.tracking import MlflowTracker, Status, StudyHeader, fetch_trials, source_tags
from prism_ray.training.record import read_record

_CONTROLLER_CPUS = 1
"""CPUs of a local cluster beyond those of the workers, for what waits for several workers."""


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


@dataclass(frozen=True)
class StudyOutcome:
    """What a launch of a study came to.

    Attributes:
        study: its name.
        n_trials: trials that the study has.
        n_found: of them finished before this launch.
        n_finished: of them finished now, those found included.
        failures: reason by label of each trial that has no record.
        tracking_uri, parent_run_id: where to compare.
    """

    study: str
    n_trials: int
    n_found: int
    n_finished: int
    failures: dict[str, str]
    tracking_uri: str
    parent_run_id: str

    @property
    def status(self) -> Status:
        """Status of the study's run."""
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
class ProposedTasks:
    """The trials of a search: a proposal holds the values of the searched settings."""

    study: Study
    maker: TaskMaker

    def task(self, proposal: Mapping[str, Any]) -> TrialTask:
        """The trial of the proposed values."""
        return self.maker.make(proposed_trial(self.study, proposal["values"]))


def run_study(study: Study, settings: StudySettings, progress: Progress) -> StudyOutcome:
    """Run what is missing of a study; trials that have a record are not run again.

    Raises:
        PrismRayError: anything that makes the study impossible, before a trial starts.
    """
    check_loading_name(settings.loading)
    store = prism_ray.store.open(settings.store)
    check_against_store(study, store)
    _check_batches(study, store, settings)
    check_address(settings.address)
    check_local_gpus(settings.resources.gpus_per_worker, settings.address)
    progress.announce(network_lines(study, store))
    tracker = MlflowTracker(settings.tracking_uri)
    tags = source_tags(settings.source_folder)
    parent = tracker.open_study(study_header(study, store.digest, settings.command, tags), {"study.yaml": study.path})
    maker = TaskMaker(settings, store.digest, parent, tags)
    status: Status = "KILLED"
    try:
        outcome = (
            _run_ablation(study, store, maker, progress, tracker)
            if study.search is None
            else _run_search(study, store, maker, progress)
        )
        status = outcome.status
    finally:
        tracker.close_study(parent, status, {})
    return outcome


def _cluster(study: Study, store: Store, settings: StudySettings) -> AbstractContextManager[tuple[int, Loading]]:
    """A Ray cluster for the study's trials: the number of them at once, and how they load."""
    each = settings.resources
    configs = study.search_extremes() if study.search is not None else tuple(arm.config for arm in study.arms)
    placed = [
        study.with_place(config, study.seeds[0], fold, cell_type)
        for config, cell_type, fold in product(configs, study.cell_types, study.folds)
    ]
    return loading_cluster(
        LoadingRequest(settings.loading, store, tuple(dict.fromkeys(placed)), any_between=study.search is not None),
        each,
        address=settings.address,
        max_concurrent=settings.max_concurrent,
        n_cpus=each.n_workers * each.cpus_per_worker + _CONTROLLER_CPUS if each.n_workers > 1 else None,
    )


def study_header(study: Study, data_digest: str, command: str, tags: Mapping[str, str]) -> StudyHeader:
    """What the run of a study says about it."""
    direction = direction_of(study.report_metric)
    assert direction is not None, "a study's metrics are checked when it is read"
    return StudyHeader(
        name=study.name,
        question=study.question,
        claim=study.claim,
        source=study.source,
        kind=study.kind,
        baseline=study.baseline_arm,
        arms=tuple(arm.name for arm in study.arms),
        # A tracker's last `val/...` is the last step's; the chosen model's validation metrics have names of their own.
        metric=study.report_metric.replace("val/", "best/"),
        direction=direction,
        curve=study.curve,
        seeds=study.seeds,
        folds=study.folds,
        n_trials=study.n_trials,
        cell_types=study.cell_types,
        study_digest=study.digest(),
        data_digest=data_digest,
        results_version=RESULTS_VERSION,
        command=command,
        tags=dict(tags),
    )


def _check_batches(study: Study, store: Store, settings: StudySettings) -> None:
    """Refuse batches that a fold's genes do not fill or the workers cannot share, with all reasons together."""
    faults = FaultList()
    if settings.max_concurrent is not None and settings.max_concurrent < 1:
        faults.add("--max-concurrent", f"{settings.max_concurrent} trials at once", "use 1 or more, or leave it out")
    configs = {arm.config.training.batch_size: arm.config for arm in study.arms} or {0: study.baseline}
    found = [
        fault
        for config, cell_type, fold in product(configs.values(), study.cell_types, study.folds)
        for fault in run_faults(
            study.with_place(config, study.seeds[0], fold, cell_type),
            store,
            settings.resources.n_workers,
            str(study.path),
        )
    ]
    faults.extend(dict.fromkeys(found))
    faults.raise_if_any(ConfigError)


def _run_ablation(
    study: Study, store: Store, maker: TaskMaker, progress: Progress, tracker: MlflowTracker
) -> StudyOutcome:
    tasks = {task.trial_id: task for task in map(maker.make, expand(study))}
    found = {trial_id for trial_id, task in tasks.items() if read_record(task.folder) is not None}
    _track_found(study, [tasks[trial_id] for trial_id in tasks if trial_id in found], maker, tracker)
    missing = tuple(trial_id for trial_id in tasks if trial_id not in found)
    progress.begin(len(tasks), len(found))
    if missing:
        with _cluster(study, store, maker.settings) as (n_concurrent, loading):
            run_on_tune(
                FixedTasks({trial_id: replace(tasks[trial_id], loading=loading) for trial_id in missing}),
                maker.settings.resources,
                scratch=_scratch(study, maker),
                n_concurrent=n_concurrent,
                progress=progress,
                trial_ids=missing,
            )
    return _outcome(study, maker, tasks.values(), len(found))


def _track_found(study: Study, tasks: list[TrialTask], maker: TaskMaker, tracker: MlflowTracker) -> None:
    """Put trials that were finished for another study, or under another tracker, under this study's run."""
    if not tasks:
        return
    trials = fetch_trials(maker.settings.tracking_uri, study.name, parent_run_id=maker.parent_run_id)
    tracked = set(trials.loc[trials["status"] == "FINISHED", "trial_id"])
    for task in tasks:
        record = read_record(task.folder)
        if record is not None and task.trial_id not in tracked:
            publish_record(task, record, tracker)


def _run_search(study: Study, store: Store, maker: TaskMaker, progress: Progress) -> StudyOutcome:
    assert study.search is not None
    source = ProposedTasks(study, maker)
    folder = maker.settings.storage / "studies" / study.name
    folder.mkdir(parents=True, exist_ok=True)
    searcher = StudySearcher(study, folder / "optuna.journal", maker.data_digest)
    n_found = searcher.n_complete
    progress.begin(study.search.n_trials, n_found)
    if n_found < study.search.n_trials:
        with _cluster(study, store, maker.settings) as (n_concurrent, loading):
            run_on_tune(
                ProposedTasks(study, replace(maker, loading=loading)),
                maker.settings.resources,
                scratch=_scratch(study, maker),
                n_concurrent=n_concurrent,
                progress=progress,
                searcher=searcher,
                n_proposals=study.search.n_trials - n_found,
                objective=study.objective.metric,
                direction=study.objective.direction,
            )
    tasks = [source.task({"values": values}) for values in searcher.proposals()]
    return _outcome(study, maker, tasks, n_found)


def _scratch(study: Study, maker: TaskMaker) -> Path:
    return maker.settings.storage / "studies" / study.name / f"tune-{maker.parent_run_id[:8]}"


def _outcome(study: Study, maker: TaskMaker, tasks: Iterable[TrialTask], n_found: int) -> StudyOutcome:
    failures = {}
    n_finished = 0
    for task in tasks:
        if read_record(task.folder) is not None:
            n_finished += 1
        else:
            failures[task_label(task)] = read_failure(task.folder) or "its process died; see the log of its node"
    return StudyOutcome(
        study=study.name,
        n_trials=study.n_trials,
        n_found=n_found,
        n_finished=n_finished,
        failures=failures,
        tracking_uri=maker.settings.tracking_uri,
        parent_run_id=maker.parent_run_id,
    )
