"""A few real steps of a run on some of its genes: what one step costs on this device, and that it works at all."""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import psutil
import torch

from prism_ray.config import RunConfig
from prism_ray.splits import Split
from prism_ray.store import GeneArrays
from prism_ray.training.loop import train
from prism_ray.training.reporter import History, Placement

N_STEPS = 3
"""The first step compiles kernels and fills caches; the others are measured."""
N_EVALUATED = 8
"""Genes of the probe's validation and of its test."""


@dataclass(frozen=True)
class MeasuredStep:
    """What steps took in this process.

    Attributes:
        step_s: seconds a step (forward, backward, optimiser), the first one left out.
        evaluate_s: seconds a gene in validation.
        peak_bytes: most memory that the process took (CPU), or its tensors (GPU).
        device_bytes: memory of the device.
        device: `cpu`, or name of the GPU.
    """

    step_s: float
    evaluate_s: float
    peak_bytes: int
    device_bytes: int
    device: str


class _Stopwatch:
    """Notes when each step's losses and the validation are reported."""

    def __init__(self) -> None:
        self.steps: list[float] = []
        self.validated_at = 0.0

    def report(self, metrics: Mapping[str, float], step: int) -> None:
        if "train/loss" in metrics:
            self.steps.append(time.perf_counter())

    def validated(self, metrics: Mapping[str, float], step: int, history: History) -> bool:
        self.validated_at = time.perf_counter()
        return False


def genes_needed(config: RunConfig) -> int:
    """Genes of a probe: one batch to train on, and some to validate and test."""
    return config.training.batch_size + 2 * N_EVALUATED


def measure_steps(config: RunConfig, genes: GeneArrays, placement: Placement) -> MeasuredStep:
    """Train `N_STEPS` steps on one batch of real genes, validate and test, through the same loop as any run.

    Args:
        genes: `genes_needed` of them, of the run's window and signals.

    Raises:
        TrainingError: the loss is no number, or a gene does not fit in memory.
    """
    rows = np.arange(len(genes), dtype=np.int64)
    n_batch = config.training.batch_size
    split = Split(rows[:n_batch], rows[n_batch : n_batch + N_EVALUATED], rows[n_batch + N_EVALUATED :])
    training = config.training.model_copy(
        update={"n_steps": N_STEPS, "validate_every_epochs": float(2 * N_STEPS), "shuffle_genes": 0}
    )
    device = placement.device
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    watch = _Stopwatch()
    train(config.model_copy(update={"training": training}), genes, split, reporter=watch, placement=placement)
    seconds = [after - before for before, after in zip(watch.steps, watch.steps[1:], strict=False)]
    return MeasuredStep(
        step_s=statistics.median(seconds),
        evaluate_s=(watch.validated_at - watch.steps[-1]) / N_EVALUATED,
        peak_bytes=_peak_bytes(device),
        device_bytes=_device_bytes(device),
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
    )


def _peak_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.max_memory_reserved(device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts KiB


def _device_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return int(psutil.virtual_memory().total)
