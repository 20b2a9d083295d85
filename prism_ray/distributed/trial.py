"""One trial, in whatever process it runs: read, train or evaluate, record, track."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import prism_ray.store
from prism_ray.config import RunConfig
from prism_ray.distributed.evaluation import evaluate_trial, trained_record
from prism_ray.distributed.loading import Loading, gene_source
from prism_ray.distributed.resources import TrialResources
from prism_ray.errors import PrismRayError
from prism_ray.splits import Split
from prism_ray.store import Store
from prism_ray.study.identity import RESULTS_VERSION, trial_id
from prism_ray.tracking import MlflowTracker, NullTracker, Status, Tracker, TrialHeader, TrialLog
from prism_ray.training.loop import memory_metrics, train
from prism_ray.training.preemption import RunInterruptedError
from prism_ray.training.record import TrialRecord, read_record
from prism_ray.training.recording import Identity, write_evaluation, write_record
from prism_ray.training.reporter import Placement
from prism_ray.training.sources import GeneSource

FAILURE_NAME = "failure.json"
JOURNAL_NAME = "undelivered.jsonl"
_LOADING_TAG = "prism.loading"
_TRAINED_TAG = "prism.trained_trial"


@dataclass(frozen=True)
class TrialTask:
    """One trial as plain data that any process can run.

    Attributes:
        study, arm: names it is tracked under.
        trial_id: its identity; names its folder.
        config: its scientific settings.
        store: folder of the feature store.
        data_digest: of that store.
        folder: where its checkpoints and its record are; on storage that every node sees.
        tracking_uri: MLflow store; None to track nowhere.
        parent_run_id: run of the study there.
        resources: what it takes.
        tags: more tags of its run.
        loading: how it gets its genes.
    """

    study: str
    arm: str
    trial_id: str
    config: RunConfig
    store: Path
    data_digest: str
    folder: Path
    tracking_uri: str | None = None
    parent_run_id: str = ""
    resources: TrialResources = field(default_factory=TrialResources)
    tags: Mapping[str, str] = field(default_factory=dict)
    loading: Loading = field(default_factory=Loading)

    def header(self) -> TrialHeader:
        """What a tracker is told of the trial."""
        data = self.config.data
        return TrialHeader(
            study=self.study,
            arm=self.arm,
            seed=self.config.seed,
            fold=data.fold,
            cell_type=data.cell_type,
            trial_id=self.trial_id,
            fingerprint=self.config.fingerprint(),
            data_digest=self.data_digest,
            parameters=self.config.flat(),
            tags=self.tags if self.trained_trial is None else {**self.tags, _TRAINED_TAG: self.trained_trial},
        )

    @property
    def trained_trial(self) -> str | None:
        """Id of the trial that trains the model of an evaluation; None for a trial that trains its own."""
        return trial_id(self.config.trained(), self.data_digest) if self.config.is_evaluation else None

    def identity(self) -> Identity:
        """What its record says that it is of."""
        return Identity(self.config, self.trial_id, self.data_digest, RESULTS_VERSION)

    def tracker(self) -> Tracker:
        """Tracker of the study, for use in any process."""
        return NullTracker() if self.tracking_uri is None else MlflowTracker(self.tracking_uri)


class TaskSource(Protocol):
    """Turns a proposal into a trial's task; pickled to every trial process."""

    def task(self, proposal: Mapping[str, Any]) -> TrialTask:
        """The trial to run."""


class _TrackedReporter:
    """Sends a run's metrics to its log, and its validations to whoever decides on stopping."""

    def __init__(self, log: TrialLog, on_validation: Callable[[Mapping[str, float], int], None] | None) -> None:
        self._log = log
        self._on_validation = on_validation

    def report(self, metrics: Mapping[str, float], step: int) -> None:
        self._log.log(metrics, step)

    def validated(self, metrics: Mapping[str, float], step: int) -> None:
        self._log.log(metrics, step)
        if self._on_validation is not None:
            self._on_validation(metrics, step)


def run_trial(
    task: TrialTask,
    placement: Placement,
    on_validation: Callable[[Mapping[str, float], int], None] | None = None,
    iterator: Any = None,
) -> TrialRecord | None:
    """Run one trial in this process, as one of its workers, and record it: train its model, or evaluate another's.

    A trial that has a record is not run again. Rank 0 returns the record, the other ranks None.

    Args:
        on_validation: called by rank 0 after each validation with its metrics and the finished steps.
        iterator: this worker's part of the pipeline, where several workers stream their genes.

    Raises:
        RunInterruptedError: the process was told to end, and saved a checkpoint.
        PrismRayError: what makes this trial impossible, its input or its loss; noted in its folder too.
    """
    record = read_record(task.folder)
    if record is not None:
        return record
    try:
        store = prism_ray.store.open(task.store)
        if task.config.is_evaluation:
            return _evaluate_and_record(task, store, placement)
        source = gene_source(task.loading, store, task.config, placement.n_workers, iterator)
        split = store.folds.split(task.config.data.fold, source.genes.chrom)
        if placement.rank > 0:
            train(task.config, source, split, folder=task.folder, placement=placement)
            return None
        return _train_and_record(task, source, split, placement, on_validation)
    except RunInterruptedError:
        raise  # nothing is wrong: it goes on when it is started again
    except PrismRayError as problem:
        if placement.rank == 0:
            note_failure(task, problem)
        raise


def _train_and_record(
    task: TrialTask,
    source: GeneSource,
    split: Split,
    placement: Placement,
    on_validation: Callable[[Mapping[str, float], int], None] | None,
) -> TrialRecord:
    with _tracked(task) as log:
        reporter = _TrackedReporter(log, on_validation)
        result = train(task.config, source, split, folder=task.folder, reporter=reporter, placement=placement)
        record = write_record(
            task.folder,
            result,
            source.genes,
            task.identity(),
            n_workers=placement.n_workers,
            device=placement.device,
        )
        forget_failure(task.folder)
        log_record(log, record)
    return record


def _evaluate_and_record(task: TrialTask, store: Store, placement: Placement) -> TrialRecord | None:
    folder = task.folder.with_name(str(task.trained_trial))
    if placement.rank > 0:
        trained = trained_record(folder, read_failure(folder))
        evaluate_trial(task.config, store, task.loading, trained, placement)
        return None
    with _tracked(task) as log:
        trained = trained_record(folder, read_failure(folder))
        done = evaluate_trial(task.config, store, task.loading, trained, placement)
        record = write_evaluation(
            task.folder,
            done.result,
            done.reader.genes,
            task.identity(),
            done.trained,
            n_workers=placement.n_workers,
            device=placement.device,
        )
        forget_failure(task.folder)
        log_record(log, record)
    return record


@contextmanager
def _tracked(task: TrialTask) -> Iterator[TrialLog]:
    """The trial's run in its tracker, for the time of a block, whose end is the run's."""
    task.folder.mkdir(parents=True, exist_ok=True)
    log = task.tracker().open_trial(task.parent_run_id, task.header(), journal_path=task.folder / JOURNAL_NAME)
    status: Status = "FAILED"
    try:
        log.set_tags({_LOADING_TAG: task.loading.name})
        yield log
        status = "FINISHED"
    except RunInterruptedError:
        status = "KILLED"
        raise
    finally:
        log.finish(status)


def log_record(log: TrialLog, record: TrialRecord) -> None:
    """Give a tracker what a finished trial is compared by: metrics of its best model, cost and files."""
    cost = {"cost/train_s": float(record.cost["train_s"]), "cost/n_parameters": float(record.n_parameters)}
    if "evaluate_s" in record.cost:
        cost["cost/evaluate_s"] = float(record.cost["evaluate_s"])
    if "micro_batch" in record.cost:  # records of earlier versions do not say, and evaluations have none
        cost |= memory_metrics(record.cost["micro_batch"], record.cost["checkpoint_activations"])
    log.log({**record.final_metrics(), **cost}, record.config.training.n_steps)
    log.log_files(record.files())


def publish_record(task: TrialTask, record: TrialRecord, tracker: Tracker) -> None:
    """Log a trial that was trained before, maybe for another study, as if it had been tracked from the start."""
    log = tracker.open_trial(task.parent_run_id, task.header(), journal_path=task.folder / JOURNAL_NAME)
    for entry in record.history():
        log.log({name: value for name, value in entry.items() if name != "step"}, int(entry["step"]))
    log_record(log, record)
    log.finish("FINISHED")


def note_failure(task: TrialTask, problem: Exception) -> None:
    """Leave the reason of a failure in the trial's folder, for the study's summary."""
    task.folder.mkdir(parents=True, exist_ok=True)
    content = {"trial_id": task.trial_id, "kind": type(problem).__name__, "reason": str(problem)}
    (task.folder / FAILURE_NAME).write_text(json.dumps(content, indent=1))


def forget_failure(folder: Path) -> None:
    """Remove the reason of an earlier attempt's failure, which is not that of this one."""
    (folder / FAILURE_NAME).unlink(missing_ok=True)


def read_failure(folder: Path) -> str | None:
    """Reason of the trial's last failure; None where it has not failed."""
    try:
        content = json.loads((folder / FAILURE_NAME).read_text())
    except FileNotFoundError:
        return None
    return f"{content['kind']}: {content['reason']}"


def task_label(task: TrialTask) -> str:
    """Name of a trial as people read it: arm, seed and fold."""
    return f"{task.arm} seed {task.config.seed} {task.config.data.fold}"
