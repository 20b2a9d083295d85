"""Trials on Ray Tune: one after another in warm processes, several at a time, over the nodes of the cluster.

A trial of one worker trains in the Tune trial's own process, which is kept for the next trial; a trial of
several workers is a Ray Train run that the trial's process waits for. The folder of a trial is the only truth
about it: Tune schedules, and nothing is read back from its files.
"""

from __future__ import annotations

import os
import shutil
from typing import Any

from ray import tune

from prism_ray.distributed.backend import Work
from prism_ray.distributed.trial import TaskSource
from prism_ray.distributed.trial_process import run_proposal

_WAITING = {"memory": 1.0}
"""What a trial takes that only waits for its Ray Train workers: one byte. Any part of a CPU, however small, would
starve workers that need all CPUs there are, and Ray Train waits for them without a limit."""


def run_trials(work: Work) -> None:
    """Run proposals as Tune's trials; needs a running cluster."""
    # Python's own interrupt handling: Tune's would swallow the first Ctrl-C and return as if all were done.
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
    # The newer console output draws a box of settings even at verbose=0; we say what happens ourselves.
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
    try:
        _tuner(work).fit()
    finally:
        shutil.rmtree(work.scratch, ignore_errors=True)


def _tuner(work: Work) -> tune.Tuner:
    each = work.each
    bundle = _WAITING
    if each.n_workers == 1:
        bundle = {"CPU": float(each.cpus_per_worker), **({"GPU": each.gpus_per_worker} if each.gpus_per_worker else {})}
    trainable = tune.with_resources(
        tune.with_parameters(_trial, source=work.source, objective=work.objective), tune.PlacementGroupFactory([bundle])
    )
    queue = work.queue
    return tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=queue,
            metric=queue.metric,
            mode=queue.mode,
            num_samples=-1,  # as many as the queue gives
            max_concurrent_trials=work.n_concurrent,
            reuse_actors=each.n_workers == 1,
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(work.scratch),
            verbose=0,
            # The queue hands out again what died: it knows why, and how long to wait.
            failure_config=tune.FailureConfig(max_failures=0),
        ),
    )


def _trial(proposal: dict[str, Any], source: TaskSource, objective: str) -> None:
    """The process of one trial."""
    run_proposal(proposal, source, objective, tune.report)
