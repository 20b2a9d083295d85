"""Trials on Ray Tune: one after another in warm processes, several at a time, over the nodes of the cluster.

A trial of one worker trains in the Tune trial's own process, which is kept for the next trial; a trial of
several workers is a Ray Train run that the trial's process waits for. The folder of a trial is the only truth
about it: Tune schedules, and nothing is read back from its files.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from ray import tune
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.search import Searcher

from prism_ray.distributed.gpus import trial_device
from prism_ray.distributed.resources import TrialResources
from prism_ray.distributed.train import train_on_workers
from prism_ray.distributed.trial import TrialTask, note_failure, run_trial, task_label
from prism_ray.errors import ConfigError, PrismRayError
from prism_ray.training.record import TrialRecord

RETRIES = 2
"""Times that a trial whose process died is started again; it goes on from its last checkpoint."""

_WAITING = {"memory": 1.0}
"""What a trial takes that only waits for its Ray Train workers: one byte. Any part of a CPU, however small, would
starve workers that need all CPUs there are, and Ray Train waits for them without a limit."""


class TaskSource(Protocol):
    """Turns what Tune hands to a trial into the trial's task; pickled to every trial process."""

    def task(self, proposal: Mapping[str, Any]) -> TrialTask:
        """The trial to run."""


@dataclass(frozen=True)
class FixedTasks:
    """The trials of an ablation: a proposal names one of them.

    Attributes:
        tasks: by trial id.
    """

    tasks: Mapping[str, TrialTask]

    def task(self, proposal: Mapping[str, Any]) -> TrialTask:
        """The trial that the proposal names."""
        return self.tasks[proposal["trial"]]


class Progress(Protocol):
    """Is told what happens to the trials; runs in the driver."""

    def announce(self, networks: Sequence[str]) -> None:
        """What the study's networks are and cost, a line each; before anything is started."""

    def begin(self, n_trials: int, n_found: int) -> None:
        """A launch begins: trials of the study, and how many of them were finished before."""

    def started(self, label: str) -> None:
        """A trial was started, or started again."""

    def finished(self, label: str, metrics: Mapping[str, Any]) -> None:
        """A trial has a record; `metrics` are of its best model."""

    def failed(self, label: str, reason: str) -> None:
        """A trial failed and is not tried again in this launch."""


def run_on_tune(
    source: TaskSource,
    each: TrialResources,
    *,
    scratch: Path,
    n_concurrent: int,
    progress: Progress,
    trial_ids: tuple[str, ...] = (),
    searcher: Searcher | None = None,
    n_proposals: int = 0,
    objective: str = "val/mse",
    direction: str = "minimize",
) -> None:
    """Run the trials `trial_ids`, or `n_proposals` of a searcher; needs a running cluster.

    Trials that fail do not stop the others; their folders say why.

    Args:
        each: what a trial takes.
        scratch: folder for Tune's own files, removed afterwards.
        n_concurrent: trials at once.
        objective, direction: what a searcher is told of a trial.
    """
    bundle = _WAITING
    if each.n_workers == 1:
        bundle = {"CPU": float(each.cpus_per_worker), **({"GPU": each.gpus_per_worker} if each.gpus_per_worker else {})}
    trainable = tune.with_resources(
        tune.with_parameters(_trial, source=source, objective=objective), tune.PlacementGroupFactory([bundle])
    )
    # Python's own interrupt handling: Tune's would swallow the first Ctrl-C and return as if all were done.
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
    # The newer console output draws a box of settings even at verbose=0; we say what happens ourselves.
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
    space: dict[str, Any] = {"trial": tune.grid_search(list(trial_ids))} if searcher is None else {}
    tuner = tune.Tuner(
        trainable,
        param_space=space,
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            metric=objective if searcher is not None else None,
            mode=("min" if direction == "minimize" else "max") if searcher is not None else None,
            num_samples=1 if searcher is None else n_proposals,
            max_concurrent_trials=n_concurrent,
            reuse_actors=each.n_workers == 1,
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(scratch),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=RETRIES),
            callbacks=[_ProgressCallback(progress, source)],
        ),
    )
    try:
        tuner.fit()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _trial(proposal: dict[str, Any], source: TaskSource, objective: str) -> None:
    """The process of one trial."""
    task = source.task(proposal)
    try:
        record = train_on_workers(task) if task.resources.n_workers > 1 else _train_here(task)
    except PrismRayError as problem:
        # Trying again would end the same way: say so as a result, since Tune repeats what raises.
        tune.report({objective: math.nan, "failure": str(problem)})
        return
    assert record is not None
    tune.report({**record.metrics, "failure": ""})


def _train_here(task: TrialTask) -> TrialRecord | None:
    torch.set_num_threads(task.resources.cpus_per_worker)
    try:
        device = trial_device(task.resources.gpus_per_worker)
    except ConfigError as problem:
        note_failure(task, problem)
        raise
    return run_trial(task, task.resources.placement(device))


class _ProgressCallback(tune.Callback):  # type: ignore[misc]  # Ray publishes no types
    def __init__(self, progress: Progress, source: TaskSource) -> None:
        self._progress = progress
        self._source = source

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles its callbacks for a restore that we do not use; a terminal cannot be pickled.
        return {}

    def _label(self, trial: TuneTrial) -> str:
        return task_label(self._source.task(trial.config))

    def on_trial_start(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        self._progress.started(self._label(trial))

    def on_trial_complete(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        result = trial.last_result or {}
        if result.get("failure"):
            self._progress.failed(self._label(trial), result["failure"])
        else:
            self._progress.finished(self._label(trial), result)

    def on_trial_error(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        if trial.num_failures > RETRIES:
            self._progress.failed(self._label(trial), "its process died; see the log of its node")
