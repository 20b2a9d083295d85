"""One run over several workers by Ray Train."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import ray.train
import ray.train.torch
import torch
from ray.train.torch import TorchTrainer

import prism_ray.store
from prism_ray.distributed.loading import stream_plan
from prism_ray.distributed.resources import TrialResources
from prism_ray.distributed.streaming import StreamError, steps_dataset
from prism_ray.distributed.trial import TrialTask, forget_failure, read_failure, run_trial
from prism_ray.errors import TrainingError
from prism_ray.training.checkpoint import load_state
from prism_ray.training.record import TrialRecord, read_record
from prism_ray.training.reporter import Placement

_STEPS = "steps"
"""Name of the pipeline among Ray Train's data sets."""
_RESTARTS = 2
"""Times that a worker group is started again after a worker died; it goes on from the last checkpoint."""
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


def _worker(settings: dict[str, Any]) -> None:
    task: TrialTask = settings["task"]
    iterator = ray.train.get_dataset_shard(_STEPS) if has_pipeline(task) else None
    try:
        run_trial(task, worker_placement(task.resources), iterator=iterator)
    except (TrainingError, StreamError):
        # Every worker computes the same loss, or is told of the same damage, and ends here. Another attempt would end
        # here too: what raises is repeated by Ray Train, so this does not. The reason is noted in the trial's folder.
        return


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
        return steps_dataset(plan, _saved_step(task))


class _InTurn(ray.train.DataConfig):  # type: ignore[misc]  # Ray publishes no types
    """Deals the blocks of a pipeline out to the workers in turn; Ray Train's own way drops rows and moves blocks."""

    def configure(self, datasets: dict[str, Any], world_size: int, *_: Any, **__: Any) -> list[dict[str, Any]]:
        splits = {name: dataset.streaming_split(world_size, equal=False) for name, dataset in datasets.items()}
        return [{name: parts[rank] for name, parts in splits.items()} for rank in range(world_size)]


def _saved_step(task: TrialTask) -> int:
    """Finished steps of a task's checkpoint; 0 where there is none.

    Raises:
        CheckpointError: it is damaged or of another run.
    """
    state = load_state(task.folder, task.config.fingerprint())
    return 0 if state is None else state.step


def train_on_workers(task: TrialTask) -> TrialRecord:
    """Train a trial by Ray Train on its workers; needs a running cluster.

    A worker that dies is started again with the others, from the last checkpoint.

    Raises:
        TrainingError: the run failed; the message is the first worker's.
        CheckpointError: the checkpoint in its folder is damaged or of another run.
    """
    record = read_record(task.folder)
    if record is not None:
        return record
    forget_failure(task.folder)
    _saved_step(task)
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
            failure_config=ray.train.FailureConfig(max_failures=_RESTARTS),
        ),
        datasets={_STEPS: _Pipeline(task)} if has_pipeline(task) else None,
        dataset_config=_InTurn(),
    )
    try:
        trainer.fit()
    except ray.train.TrainingFailedError as problem:
        raise _failed(task, _reason(problem)) from problem
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    record = read_record(task.folder)
    if record is None:
        raise _failed(task, f"its workers ended without a record in {task.folder}")
    return record


def _failed(task: TrialTask, otherwise: str) -> TrainingError:
    """The error of a run that left no record: what its worker noted, else `otherwise`."""
    reason = read_failure(task.folder) or otherwise
    return TrainingError(f"trial {task.trial_id} ({task.arm}, seed {task.config.seed}): {reason}")


def _reason(problem: ray.train.TrainingFailedError) -> str:
    """What ended Ray Train, in a line: its text for people quotes whole tracebacks."""
    # Absent where Ray Train itself failed, and not its workers.
    failures: dict[int, Exception] = getattr(problem, "worker_failures", {})
    if not failures:
        return str(problem).strip().splitlines()[-1]
    rank = min(failures)
    lines = str(failures[rank]).strip().splitlines()
    return f"worker {rank}: {type(failures[rank]).__name__}" + (f": {lines[0]}" if lines else "")
