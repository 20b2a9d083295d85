"""One run over several workers by Ray Train."""

from __future__ import annotations

import shutil
from typing import Any

import ray.train
import ray.train.torch
import torch
from ray.train.torch import TorchTrainer
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from prism_ray.distributed.resources import TrialResources
from prism_ray.distributed.trial import TrialTask, forget_failure, read_failure, run_trial
from prism_ray.errors import TrainingError
from prism_ray.training.record import TrialRecord, read_record
from prism_ray.training.reporter import Placement

_RESTARTS = 2
"""Times that a worker group is started again after a worker died; it goes on from the last checkpoint."""


def worker_placement(resources: TrialResources) -> Placement:
    """Placement of this Ray Train worker."""
    context = ray.train.get_context()
    n_workers = context.get_world_size()
    device = ray.train.torch.get_device()
    torch.set_num_threads(resources.cpus_per_worker)

    def average_gradients(model: nn.Module) -> nn.Module:
        devices = [device] if device.type == "cuda" else None
        # Buffers are the confounder encoder's running statistics, synchronised where they are computed.
        return DistributedDataParallel(model, device_ids=devices, broadcast_buffers=False)

    return Placement(
        device=device,
        rank=context.get_world_rank(),
        n_workers=n_workers,
        wrap=average_gradients if n_workers > 1 else None,
        checkpoint_every_steps=resources.checkpoint_every_steps,
    )


def _worker(settings: dict[str, Any]) -> None:
    task: TrialTask = settings["task"]
    try:
        run_trial(task, worker_placement(task.resources))
    except TrainingError:
        # Every worker computes the same loss and ends here, and another attempt would compute it again: what raises
        # is repeated by Ray Train, so this does not. The reason is noted in the trial's folder.
        return


def train_on_workers(task: TrialTask) -> TrialRecord:
    """Train a trial by Ray Train on its workers; needs a running cluster.

    A worker that dies is started again with the others, from the last checkpoint.

    Raises:
        TrainingError: the run failed; the message is the first worker's.
    """
    record = read_record(task.folder)
    if record is not None:
        return record
    forget_failure(task.folder)
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
