"""Steps of a study's largest and smallest trial, measured where trials run, with what a trial takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timezone

import ray
import torch
from ray.exceptions import RayError, RayTaskError

import prism_ray.store
from prism_ray.config import RunConfig
from prism_ray.distributed.gpus import trial_device
from prism_ray.distributed.resources import TrialResources
from prism_ray.distributed.step_costs import CPU, StepCost, StepKind
from prism_ray.errors import PrismRayError, TrainingError
from prism_ray.store import StorePlace
from prism_ray.study.extremes import extreme_configs
from prism_ray.study.spec import Study
from prism_ray.training.reporter import Placement
from prism_ray.training.step_probe import MeasuredStep, genes_needed, measure_steps
from prism_ray.workload import step_multiply_adds

Measure = Callable[[RunConfig, StorePlace, TrialResources], MeasuredStep]
"""Measures a run's steps on a store with some resources: on a cluster, or recorded numbers in a test."""


def probed_configs(study: Study) -> tuple[tuple[str, RunConfig], ...]:
    """Runs whose steps are measured, with what they are: the largest first, for it is the one that may not fit."""
    smallest, largest = (config.trained() for config in extreme_configs(study))
    if step_multiply_adds(smallest) == step_multiply_adds(largest):
        return (("largest", largest),)
    return (("largest", largest), ("smallest", smallest))


def probe(config: RunConfig, store: StorePlace, each: TrialResources, measure: Measure) -> StepCost:
    """Measured cost of a run's step.

    Raises:
        PrismRayError: the step cannot be done, with its reason.
    """
    measured = measure(config, store, each)
    return StepCost(
        kind=StepKind.of(config, each),
        device=measured.device,
        cpus=each.cpus_per_worker if measured.device == CPU else 0,
        multiply_adds=step_multiply_adds(config),
        step_s=measured.step_s,
        evaluate_s=measured.evaluate_s,
        peak_bytes=measured.peak_bytes,
        device_bytes=measured.device_bytes,
        measured=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )


def measure_on_cluster(config: RunConfig, store: StorePlace, each: TrialResources) -> MeasuredStep:
    """Steps of a run in a process of its own on the cluster, with the resources of one worker; needs a cluster.

    Of several workers one's share of the batch is measured; what they take to average gradients is not.

    Raises:
        PrismRayError: the step cannot be done, or its process died.
    """
    # A process of its own, ended afterwards: its peak memory is this run's, and a GPU is free again.
    asked = {"num_cpus": each.cpus_per_worker, "num_gpus": each.gpus_per_worker}
    task = ray.remote(max_calls=1, max_retries=0, **asked)(_measure)
    try:
        measured: MeasuredStep = ray.get(task.remote(config, store, each))
    except RayTaskError as problem:
        if isinstance(problem.cause, PrismRayError):
            raise problem.cause from None
        raise TrainingError(f"{type(problem.cause).__name__}: {problem.cause}") from None
    except RayError as problem:
        raise TrainingError(f"its process died, most likely for want of memory ({type(problem).__name__})") from None
    return measured


def _measure(config: RunConfig, store: StorePlace, each: TrialResources) -> MeasuredStep:
    torch.set_num_threads(each.cpus_per_worker)
    return measure_here(config, store, each, trial_device(each.gpus_per_worker))


def measure_here(config: RunConfig, store: StorePlace, each: TrialResources, device: torch.device) -> MeasuredStep:
    """Steps of one worker's share of a run, in this process, on the first genes of the store."""
    share = config.training.batch_size // each.n_workers
    alone = config.model_copy(update={"training": config.training.model_copy(update={"batch_size": share})})
    opened = prism_ray.store.open(store)
    data = config.data
    names: Sequence[str] = opened.genes(data.cell_type)["gene_id"].tolist()[: genes_needed(alone)]
    genes = opened.load(
        data.window_bp, data.signals, data.cell_type, names, sequence=data.sequence, scalars=data.scalars
    )
    placement: Placement = replace(each, n_workers=1).placement(device)
    return measure_steps(alone, genes, placement)
