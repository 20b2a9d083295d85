"""One run over several workers by Ray Train."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ray.train
import ray.train.torch
import torch
from ray.train.torch import TorchTrainer

import prism_ray.store
from prism_ray.distributed.attempts import read_attempts
from prism_ray.distributed.claim import claim_trial
from prism_ray.distributed.failures import ProcessDiedError, forget_failure, note_failure, read_failure, would_repeat
from prism_ray.distributed.loading import stream_plan
from prism_ray.distributed.resources import TrialResources
from prism_ray.distributed.retries import RetryPolicy
from prism_ray.distributed.stop_request import StopWatch
from prism_ray.distributed.streaming import StreamError, steps_dataset
from prism_ray.distributed.trial import TrialTask, raise_if_pruned, run_trial, taken_over, task_label
from prism_ray.errors import TrainingError
from prism_ray.tracking import process_courier
from prism_ray.training.checkpoint import load_state, saved_step
from prism_ray.training.preemption import RunInterruptedError
from prism_ray.training.record import TrialRecord, read_record
from prism_ray.training.reporter import Placement, RunStoppedError

_STEPS = "steps"
"""Name of the pipeline among Ray Train's data sets."""
_DELIVERY_S = 20.0
"""Longest that a worker waits at its end for the tracker; what is not delivered by then is in the trial's journal."""
_STEPS_A_QUESTION = 10
"""Steps between two questions to Ray whether a node is about to be taken away."""


def worker_placement(resources: TrialResources) -> Placement:
    """Placement of this Ray Train worker."""
    context = ray.train.get_context()
    torch.set_num_threads(resources.cpus_per_worker)
    assert context.get_world_size() == resources.n_workers
    return resources.placement(ray.train.torch.get_device(), context.get_world_rank(), PreemptionNotice())


class PreemptionNotice:
    """Asks for one checkpoint when Ray says that a node of the run is about to be taken away.

    Ray Train starts the run again elsewhere when the node is gone, and does not count that among its restarts.
    """

    def __init__(self) -> None:
        # Not every version of Ray Train that may be installed has the question.
        self._ask: Callable[[], object | None] | None = getattr(ray.train, "get_preemption_info", None)
        self._n_asked = 0
        self._told = False

    def __call__(self) -> bool:
        """Whether a checkpoint is wanted after this step; called by all workers alike, as Ray's question must be."""
        if self._ask is None or self._told:
            return False
        self._n_asked += 1
        # Ray answers when all workers have asked: too slow to ask after every step.
        self._told = self._n_asked % _STEPS_A_QUESTION == 0 and self._ask() is not None
        return self._told


class Pauses(ray.train.UserCallback):  # type: ignore[misc]  # Ray publishes no types
    """Keeps Ray Train from starting workers again at once: it calls this, and waits, where workers ended by an error.

    Args:
        retry: how long to wait, by the number of such ends.
        study_folder: where a request to stop would be, which ends the pause; None where nobody can ask.
    """

    def __init__(self, retry: RetryPolicy, study_folder: Path | None) -> None:
        self._retry = retry
        self._stop = None if study_folder is None else StopWatch(study_folder)
        self._n_ended = 0

    def after_exception(self, run_context: Any, worker_exceptions: Mapping[int, Exception]) -> None:
        """Wait; less where the study is told to stop."""
        self._n_ended += 1
        left_s = self._retry.wait_s(self._n_ended)
        while left_s > 0 and (self._stop is None or self._stop() is None):
            time.sleep(min(1.0, left_s))
            left_s -= 1.0


def _worker(settings: dict[str, Any]) -> None:
    task: TrialTask = settings["task"]
    failure = read_failure(task.folder)
    if failure is not None and failure.repeats:
        return  # of the workers before these: Ray Train starts all anew where one of them raised
    iterator = ray.train.get_dataset_shard(_STEPS) if has_pipeline(task) else None
    placement = worker_placement(task.resources)
    try:
        run_trial(task, placement, iterator=iterator)
    except (TrainingError, StreamError, RunInterruptedError, RunStoppedError):
        # Every worker computes the same loss, or is told of the same damage or end, and ends here. Another attempt
        # would end here too: what raises is repeated by Ray Train, so this does not. The trial's folder says why.
        return
    except Exception as problem:
        if placement.rank > 0 and would_repeat(problem):
            note_failure(task.folder, task.trial_id, problem)
        raise
    finally:
        # Ray Train may end this process as soon as its function has returned.
        process_courier().flush(_DELIVERY_S)


def has_pipeline(task: TrialTask) -> bool:
    """Whether its workers are given their genes step by step; an evaluation has no steps."""
    return task.loading.name == "stream" and not task.config.is_evaluation


class _Pipeline:
    """Makes the pipeline of a task each time that its workers start: from the step of the checkpoint on."""

    def __init__(self, task: TrialTask) -> None:
        self._task = task

    def __call__(self) -> Any:
        task = self._task
        plan = stream_plan(task.loading, prism_ray.store.open(task.store), task.config, task.resources.n_workers)
        return steps_dataset(plan, saved_step(task.folder))


class _InTurn(ray.train.DataConfig):  # type: ignore[misc]  # Ray publishes no types
    """Deals the blocks of a pipeline out to the workers in turn; Ray Train's own way drops rows and moves blocks."""

    def configure(self, datasets: dict[str, Any], world_size: int, *_: Any, **__: Any) -> list[dict[str, Any]]:
        splits = {name: dataset.streaming_split(world_size, equal=False) for name, dataset in datasets.items()}
        return [{name: parts[rank] for name, parts in splits.items()} for rank in range(world_size)]


def train_on_workers(task: TrialTask) -> TrialRecord:
    """Train a trial by Ray Train on its workers; needs a running cluster.

    A worker that dies is started again with the others, from the last checkpoint, as often and after such pauses as
    the task's retry policy says.

    Raises:
        RunStoppedError: its search stopped it, now or before.
        TrainingError: the run failed; the message is the first worker's.
        RunInterruptedError: its study was told to stop; a checkpoint was saved.
        CheckpointError: the checkpoint in its folder is damaged or of another run.
    """
    raise_if_pruned(task)
    # The first of the workers claims the trial, and must not keep the others waiting for long.
    claim = claim_trial(task.folder, f"study {task.study}, trial {task_label(task)}", task.study_folder)
    if isinstance(claim, TrialRecord):
        return taken_over(task, claim)
    with claim:
        forget_failure(task.folder)
        load_state(task.folder, task.config.fingerprint())
    scratch = task.folder / "ray_train"
    resources = task.resources
    per_worker = {"CPU": float(resources.cpus_per_worker)}
    if resources.gpus_per_worker:
        per_worker["GPU"] = resources.gpus_per_worker
    trainer = TorchTrainer(
        _worker,
        train_loop_config={"task": task},
        scaling_config=ray.train.ScalingConfig(
            num_workers=resources.n_workers,
            use_gpu=resources.gpus_per_worker > 0,
            resources_per_worker=per_worker,
        ),
        run_config=ray.train.RunConfig(
            name=task.trial_id,
            storage_path=str(scratch),
            callbacks=[Pauses(task.retry, task.study_folder)],
            failure_config=ray.train.FailureConfig(max_failures=task.retry.retries),
        ),
        **({"datasets": {_STEPS: _Pipeline(task)}, "dataset_config": _InTurn()} if has_pipeline(task) else {}),
    )
    try:
        trainer.fit()
    except ray.train.TrainingFailedError as problem:
        raise _failed(task, _reason(problem)) from problem
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    record = read_record(task.folder)
    if record is None:
        raise_if_pruned(task)
        attempts = read_attempts(task.folder)
        if attempts and attempts[-1].how == "interrupted":
            step, n_steps = attempts[-1].last_step, task.config.training.n_steps
            raise RunInterruptedError(f"told to end after step {step} of {n_steps}")
        raise _failed(task, f"its workers ended without a record in {task.folder}")
    return record


def _failed(task: TrialTask, otherwise: str) -> TrainingError:
    """The error of a run that left no record: what its worker noted, else `otherwise`."""
    failure = read_failure(task.folder)
    kind = TrainingError if failure is not None and failure.repeats else ProcessDiedError
    return kind(f"trial {task.trial_id} ({task.arm}, seed {task.config.seed}): {failure or otherwise}")


def _reason(problem: ray.train.TrainingFailedError) -> str:
    """What ended Ray Train, in a line: its text for people quotes whole tracebacks."""
    # Absent where Ray Train itself failed, and not its workers.
    failures: dict[int, Exception] = getattr(problem, "worker_failures", {})
    if not failures:
        return str(problem).strip().splitlines()[-1]
    rank = min(failures)
    lines = str(failures[rank]).strip().splitlines()
    return f"worker {rank}: {type(failures[rank]).__name__}" + (f": {lines[0]}" if lines else "")
