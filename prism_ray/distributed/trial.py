"""One trial, in whatever process it runs: read, train or evaluate, record, track."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import ray

import prism_ray.store
import prism_ray.tracking
from prism_ray.config import RunConfig
from prism_ray.distributed.attempts import Attempt, Ending, begin_attempt, deaths, died_text, end_own_attempt
from prism_ray.distributed.claim import claim_trial
from prism_ray.distributed.evaluation import evaluate_trial, trained_record
from prism_ray.distributed.failures import ProcessDiedError, forget_failure, note_failure, read_failure
from prism_ray.distributed.lease import LeaseLostError
from prism_ray.distributed.loading import gene_source
from prism_ray.distributed.loading_choice import Loading
from prism_ray.distributed.progress_note import ProgressWriter
from prism_ray.distributed.projections import bytes_to_read
from prism_ray.distributed.pruning import Pruned, Pruning, write_pruned
from prism_ray.distributed.resources import TrialResources
from prism_ray.distributed.retries import RetryPolicy
from prism_ray.errors import WorkerLostError
from prism_ray.splits import Split
from prism_ray.store import Store, StorePlace
from prism_ray.study.identity import RESULTS_VERSION, trial_id
from prism_ray.tracking import (
    JOURNAL_NAME,
    OUTCOME_TAG,
    PRUNED,
    NullTracker,
    Status,
    Tracker,
    TrialHeader,
    TrialLog,
)
from prism_ray.training.checkpoint import CHECKPOINT_NAME, saved_step
from prism_ray.training.loop import train
from prism_ray.training.preemption import RunInterruptedError
from prism_ray.training.record import TrialRecord, read_record
from prism_ray.training.recording import Identity, write_evaluation, write_record
from prism_ray.training.reporter import History, Placement, RunStoppedError
from prism_ray.training.sources import GeneSource

_LOADING_TAG = "prism.loading"
_TRAINED_TAG = "prism.trained_trial"


@dataclass(frozen=True)
class TrialTask:
    """One trial as plain data that any process can run.

    Attributes:
        study, arm: names it is tracked under.
        trial_id: its identity; names its folder.
        config: its scientific settings.
        store: the feature store.
        data_digest: of that store.
        folder: where its checkpoints and its record are; on storage that every node sees.
        tracking_uri: MLflow store; None to track nowhere.
        parent_run_id: run of the study there.
        resources: what it takes.
        tags: more tags of its run.
        loading: how it gets its genes.
        launch: launch of the study that runs it; deaths are counted by it.
        study_folder: folder of the study, where a request to stop would be; None where nobody can ask.
        retry: how often it may be started again.
        pruning: how its search judges it before its end; None for not at all.
    """

    study: str
    arm: str
    trial_id: str
    config: RunConfig
    store: StorePlace
    data_digest: str
    folder: Path
    tracking_uri: str | None = None
    parent_run_id: str = ""
    resources: TrialResources = field(default_factory=TrialResources)
    tags: Mapping[str, str] = field(default_factory=dict)
    loading: Loading = field(default_factory=Loading)
    launch: str = ""
    study_folder: Path | None = None
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    pruning: Pruning | None = None

    @property
    def gpus(self) -> float:
        """GPUs that it holds, over all its workers."""
        return self.resources.n_workers * self.resources.gpus_per_worker

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
        """Tracker of the study, for use in any process; training does not wait for it."""
        if self.tracking_uri is None:
            return NullTracker()
        # MLflow comes in here: most processes of a run on several workers never track.
        return prism_ray.tracking.MlflowTracker(self.tracking_uri, background=True)


class TaskSource(Protocol):
    """Turns a proposal into a trial's task; pickled to every trial process."""

    def task(self, proposal: Mapping[str, Any]) -> TrialTask:
        """The trial to run."""


class _TrackedReporter:
    """Sends a run's metrics to its log, notes how far it is, and stops it where its search says so.

    Attributes:
        pruned: how its search stopped it; None where it did not.
    """

    def __init__(self, task: TrialTask, log: TrialLog, progress: ProgressWriter) -> None:
        self.pruned: Pruned | None = None
        self._task = task
        self._log = log
        self._progress = progress

    def report(self, metrics: Mapping[str, float], step: int) -> None:
        self._log.log(metrics, step)
        self._progress.reached(step)

    def validated(self, metrics: Mapping[str, float], step: int, history: History) -> bool:
        self._log.log(metrics, step)
        self._progress.validated(metrics, step)
        task = self._task
        if task.pruning is not None:
            self.pruned = task.pruning.judge(task.trial_id, history, task.config.training.n_steps)
        return self.pruned is not None


def run_trial(
    task: TrialTask,
    placement: Placement,
    iterator: Any = None,
) -> TrialRecord | None:
    """Run one trial in this process, as one of its workers, and record it: train its model, or evaluate another's.

    A trial that has a record is not run again but tracked for this study. Rank 0 returns the record, the other ranks
    None. Rank 0 alone works in the trial's folder: where another process does, it waits for that one's record.

    Args:
        iterator: this worker's part of the pipeline, where several workers stream their genes.

    Raises:
        RunInterruptedError: the process or the study was told to end, and a checkpoint was saved.
        RunStoppedError: its search stopped it, now or before; its folder says so, and keeps a checkpoint.
        PrismRayError: what makes this trial impossible, its input or its loss. Like anything else that is raised, it is
            noted in the trial's folder.
    """
    if placement.rank > 0:
        record = read_record(task.folder)
        return record if record is not None else _run(task, placement, iterator)
    claim = claim_trial(task.folder, f"study {task.study}, trial {task_label(task)}", task.study_folder)
    if isinstance(claim, TrialRecord):
        return taken_over(task, claim)
    with claim:
        raise_if_pruned(task)
        with _attempted(task):
            return _run(task, replace(placement, end_asked=claim.end_asked), iterator)


def raise_if_pruned(task: TrialTask) -> None:
    """Raise a `RunStoppedError` where the task's search has stopped the trial: it is not to go on."""
    pruned = task.pruning.pruned(task.folder) if task.pruning is not None else None
    if pruned is not None:
        raise RunStoppedError(str(pruned))


def _run(task: TrialTask, placement: Placement, iterator: Any) -> TrialRecord | None:
    store = prism_ray.store.open(task.store)
    if task.config.is_evaluation:
        return _evaluate_and_record(task, store, placement)
    source = gene_source(task.loading, store, task.config, placement.n_workers, iterator)
    split = store.folds.split(task.config.data.fold, source.genes.chrom)
    if placement.rank > 0:
        train(task.config, source, split, folder=task.folder, placement=placement)
        return None
    return _train_and_record(task, store, source, split, placement)


@contextmanager
def _attempted(task: TrialTask) -> Iterator[None]:
    """Inside, this process runs the trial: the attempt is noted, and how it ended.

    Raises:
        ProcessDiedError: it died too often in this launch.
        WorkerLostError: another worker of the trial died.
    """
    folder = task.folder
    how: Ending = "failed"
    own: Attempt | None = None
    try:
        node = ray.get_runtime_context().get_node_id() if ray.is_initialized() else ""
        step = saved_step(folder)
        attempts = begin_attempt(folder, task.study, task.launch, node=node, gpus=task.gpus, first_step=step)
        own = attempts[-1]
        n_deaths = deaths(attempts, task.launch)
        if n_deaths > task.retry.retries:
            raise ProcessDiedError(died_text(n_deaths, attempts))
        yield
        how = "finished"
    except LeaseLostError:
        how = ""  # the folder is another's now
        raise
    except RunStoppedError:
        how = "pruned"
        raise
    except (RunInterruptedError, KeyboardInterrupt, SystemExit):
        how = "interrupted"
        raise
    except WorkerLostError:
        how = "died"  # as a process that was killed: no failure of the trial
        raise
    except Exception as problem:
        note_failure(folder, task.trial_id, problem)
        raise
    finally:
        if how and own is not None:
            # On a full disk the note is lost; the next attempt finds this one open and closes it.
            with suppress(OSError):
                end_own_attempt(
                    folder, own, how, task.config.training.n_steps if how == "finished" else saved_step(folder)
                )


def _train_and_record(
    task: TrialTask,
    store: Store,
    source: GeneSource,
    split: Split,
    placement: Placement,
) -> TrialRecord:
    goes_on = (task.folder / CHECKPOINT_NAME).exists()
    with _tracked(task) as log:
        progress = ProgressWriter(task.folder, task.config.training.n_steps)
        reporter = _TrackedReporter(task, log, progress)
        try:
            result = train(task.config, source, split, folder=task.folder, reporter=reporter, placement=placement)
        except RunStoppedError:
            assert reporter.pruned is not None
            log.set_tags({OUTCOME_TAG: PRUNED, "prism.pruned": str(reporter.pruned)})
            write_pruned(task.folder, reporter.pruned)
            raise RunStoppedError(str(reporter.pruned)) from None
        record = write_record(
            task.folder,
            result,
            source,
            task.identity(),
            n_workers=placement.n_workers,
            device=placement.device,
            read_bytes=bytes_to_read(store, task.config.data),
        )
        forget_failure(task.folder)
        progress.end()
        if goes_on:
            # An earlier process may have died between a step and its delivery; what the run has is not sent again.
            log_history(log, record)
        log_record(log, record)
    return record


def _evaluate_and_record(task: TrialTask, store: Store, placement: Placement) -> TrialRecord | None:
    folder = task.folder.with_name(str(task.trained_trial))
    failure = read_failure(folder)
    reason = None if failure is None else str(failure)
    if placement.rank > 0:
        trained = trained_record(folder, reason)
        evaluate_trial(task.config, store, task.loading, trained, placement)
        return None
    with _tracked(task) as log:
        trained = trained_record(folder, reason)
        done = evaluate_trial(task.config, store, task.loading, trained, placement)
        record = write_evaluation(
            task.folder,
            done.result,
            done.reader.genes,
            task.identity(),
            done.trained,
            n_workers=placement.n_workers,
            device=placement.device,
            read_bytes=bytes_to_read(store, task.config.evaluated_data()),
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
        with prism_ray.tracking.system_metrics(log):
            yield log
        status = "FINISHED"
    except (RunInterruptedError, RunStoppedError):
        status = "KILLED"
        raise
    finally:
        log.finish(status)


def log_record(log: TrialLog, record: TrialRecord) -> None:
    """Give a tracker what a finished trial is compared by: metrics of its best model, cost and files."""
    metrics = {**record.final_metrics(), **record.costs(), **record.more_costs()}
    log.log(metrics, record.config.training.n_steps)
    log.set_tags(record.provenance())
    log.log_files(record.files())


def log_history(log: TrialLog, record: TrialRecord) -> None:
    """Give a tracker every metric that a finished trial reported while it trained."""
    for entry in record.history():
        log.log({name: value for name, value in entry.items() if name != "step"}, int(entry["step"]))


def taken_over(task: TrialTask, record: TrialRecord) -> TrialRecord:
    """The record of a trial that another process finished, tracked for this task's study too."""
    publish_record(task, record, task.tracker())
    if task.pruning is not None:
        # Trained for another study, or for a finalist: what it came to on the way is known to the search as well.
        task.pruning.enter(task.trial_id, record.history(), task.config.training.n_steps)
    return record


def publish_record(task: TrialTask, record: TrialRecord, tracker: Tracker) -> None:
    """Log a trial that was trained before, maybe for another study, as if it had been tracked from the start."""
    log = tracker.open_trial(task.parent_run_id, task.header(), journal_path=task.folder / JOURNAL_NAME)
    log_history(log, record)
    log_record(log, record)
    log.finish("FINISHED")


def failed_for_good(task: TrialTask) -> bool:
    """Whether a trial has failed in a way that would repeat itself, so that it is run again only when asked for."""
    failure = read_failure(task.folder)
    return failure is not None and failure.repeats and read_record(task.folder) is None


def task_label(task: TrialTask) -> str:
    """Name of a trial as people read it: arm, seed and fold."""
    return f"{task.arm} seed {task.config.seed} {task.config.data.fold}"
