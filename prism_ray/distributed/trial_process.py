"""What the process of a trial does, whichever backend started it."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch

from prism_ray.distributed.failures import forget_failure, note_failure, read_failure
from prism_ray.distributed.gpus import trial_device
from prism_ray.distributed.lease import LeaseLostError
from prism_ray.distributed.searcher import CURVE_KEY, FAILURE_KEY, PRUNED_KEY
from prism_ray.distributed.trial import TaskSource, TrialTask, failed_for_good, run_trial
from prism_ray.distributed.trial_queue import INTERRUPTED_KEY
from prism_ray.training.preemption import RunInterruptedError
from prism_ray.training.record import TrialRecord
from prism_ray.training.reporter import RunStoppedError

_log = logging.getLogger(__name__)


def run_proposal(
    proposal: Mapping[str, Any], source: TaskSource, objective: str, report: Callable[[dict[str, Any]], None]
) -> None:
    """Run the trial of a proposal and report how it ended: its metrics, how it was pruned, why it
    failed, or why it was interrupted.

    Args:
        objective: metric that must be in every result.
        report: takes the result; what a searcher and the queue are told.
    """
    task = source.task(proposal)
    if failed_for_good(task):
        failure = read_failure(task.folder)
        report({objective: math.nan, FAILURE_KEY: str(failure)})
        return
    try:
        record = _run(task)
    except RunInterruptedError as problem:
        report({objective: math.nan, INTERRUPTED_KEY: str(problem)})
        return
    except RunStoppedError:
        assert task.pruning is not None
        pruned = task.pruning.pruned(task.folder)
        assert pruned is not None
        report({objective: pruned.value, PRUNED_KEY: str(pruned), CURVE_KEY: pruned.curve, FAILURE_KEY: ""})
        return
    except Exception as problem:  # noqa: BLE001  # one trial's failure, noted and reported: it must not stop the others
        failure = read_failure(task.folder) or note_failure(task.folder, task.trial_id, problem)
        report({objective: math.nan, FAILURE_KEY: str(failure)})
        return
    assert record is not None
    report({**record.metrics, **record.costs(), FAILURE_KEY: ""})


def _run(task: TrialTask) -> TrialRecord | None:
    while True:
        try:
            if task.resources.n_workers == 1:
                return _train_here(task)
            from prism_ray.distributed.train import train_on_workers  # Ray Train, which one worker does without

            return train_on_workers(task)
        except LeaseLostError:
            _log.warning("%s: was taken over by another process, whose record this one waits for", task.folder)


def _train_here(task: TrialTask) -> TrialRecord | None:
    forget_failure(task.folder)  # of an earlier attempt, which is not that of this one
    torch.set_num_threads(task.resources.cpus_per_worker)
    device = trial_device(task.resources.gpus_per_worker)
    return run_trial(task, task.resources.placement(device))
