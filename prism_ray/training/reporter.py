"""How a run speaks while it trains, and where it runs: the two things its caller decides."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch

from prism_ray.errors import PrismRayError

History = Sequence[Mapping[str, float]]
"""Metrics by step, as {"step": ..., name: value}."""


class RunStoppedError(PrismRayError, RuntimeError):
    """A run that its reporter stopped after a validation, and that has saved where it was; nothing is wrong with it."""


class Reporter(Protocol):
    """Receives a run's metrics. Only rank 0 of a run calls it."""

    def report(self, metrics: Mapping[str, float], step: int) -> None:
        """Metrics of a step, named `split/name`; `step` counts finished optimiser steps."""

    def validated(self, metrics: Mapping[str, float], step: int, history: History) -> bool:
        """Metrics over the whole validation set; whatever was buffered may now be sent.

        Args:
            history: every metric reported by the run so far, this validation's included.

        Returns:
            Whether the run is to be stopped here, with a checkpoint.
        """


class NullReporter:
    """Reports to nobody."""

    def report(self, metrics: Mapping[str, float], step: int) -> None:
        """Drop the metrics."""

    def validated(self, metrics: Mapping[str, float], step: int, history: History) -> bool:
        """Drop the metrics, and go on."""
        return False


@dataclass(frozen=True)
class Placement:
    """Where one process of a run works: never changes a result beyond rounding.

    Attributes:
        device: device of model and batches.
        rank: number of this process in its run, from 0.
        n_workers: processes of the run.
        checkpoint_every_steps: steps between checkpoints besides those at validations; 0 for none.
        micro_batch: genes that a worker computes at a time, of its share of each global batch; 0 for all of it.
        checkpoint_activations: compute hidden states again in the backward pass instead of keeping them: less memory
            for about a third more time.
        cuda_graphs: run the backbone as CUDA graphs where it can be done: one worker, on a GPU, its share of a batch at
            once, activations kept. The same values, in less of the CPU's time.
        checkpoint_asked: whether a checkpoint is wanted after this step, as before a node is taken away. Called once
            a step by every worker; None where nobody asks.
        end_asked: whether the run is to end after this step, with a checkpoint. Called once a step; None where nobody
            asks. What it raises ends the run without a checkpoint.
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    rank: int = 0
    n_workers: int = 1
    checkpoint_every_steps: int = 0
    micro_batch: int = 0
    checkpoint_activations: bool = False
    cuda_graphs: bool = True
    checkpoint_asked: Callable[[], bool] | None = None
    end_asked: Callable[[], bool] | None = None
