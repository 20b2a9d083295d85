"""The training loop: one run, from its settings and arrays to a tested model.

The same function runs in a test, in a plain process, in a Ray Tune trial and in each worker of a Ray Train
run. Where it runs is told by its `Placement`; the numbers depend on the config and the data alone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from prism_ray.config import RunConfig
from prism_ray.errors import ConfigError, FaultList, TrainingError
from prism_ray.model import Prism, count_parameters, parameter_groups
from prism_ray.splits import Split
from prism_ray.store import GeneArrays
from prism_ray.training.checkpoint import RunState, load_state, save_state
from prism_ray.training.collectives import any_worker, count_hosts, take_from_first
from prism_ray.training.evaluate import evaluate_rows, learned_state_rows
from prism_ray.training.gradients import N_LOSSES, GradientStep
from prism_ray.training.order import TrainingOrder, steps_between_validations
from prism_ray.training.preemption import RunInterruptedError, termination_noticed
from prism_ray.training.reporter import NullReporter, Placement, Reporter, RunStoppedError
from prism_ray.training.schedule import learning_rate
from prism_ray.training.sources import GeneSource, as_source
from prism_ray.training.split_check import split_faults

LOSS_NAMES = ("train/loss", "train/prediction_loss", "train/adjustment_loss", "train/diversity_loss")
_REPORTS_A_RUN = 200
"""Training losses are reported as means over this part of a run: a curve to look at, not a log of steps."""


@dataclass(frozen=True)
class TrainResult:
    """What a finished run leaves.

    Attributes:
        model: network with the weights of the best validation.
        metrics: `val/...` and `test/...` of that network, with `best_step`.
        history: every reported metric by step, as {"step": ..., name: value}.
        test_rows: (N,) row numbers of the test genes.
        test_prediction: (N,) float32 prediction of each of them.
        test_states: (N, D, n) float32 weights a_i of their background states; None where none are learned.
        n_parameters: trained numbers in the network.
        train_s: seconds in training steps, over all attempts.
        micro_batch: genes that a worker computed at a time in the end.
        checkpointing: whether activations were computed again in the backward pass in the end.
        n_hosts: machines that its workers were on.
    """

    model: Prism
    metrics: dict[str, float]
    history: list[dict[str, float]]
    test_rows: NDArray[np.int64]
    test_prediction: NDArray[np.float32]
    test_states: NDArray[np.float32] | None
    n_parameters: int
    train_s: float
    micro_batch: int
    checkpointing: bool
    n_hosts: int


@dataclass
class _Run:
    """One process's moving parts while it trains."""

    config: RunConfig
    source: GeneSource
    split: Split
    placement: Placement
    reporter: Reporter
    model: Prism
    gradients: GradientStep
    optimizer: torch.optim.Optimizer
    order: TrainingOrder
    step: int = 0
    best: dict[str, float] = field(default_factory=dict)
    best_model: dict[str, Tensor] | None = None
    loss_sums: Tensor = field(default_factory=lambda: torch.zeros(N_LOSSES + 1, dtype=torch.float64))
    history: list[dict[str, float]] = field(default_factory=list)
    train_s: float = 0.0


def train(
    config: RunConfig,
    genes: GeneArrays | GeneSource,
    split: Split,
    *,
    folder: Path | None = None,
    reporter: Reporter | None = None,
    placement: Placement | None = None,
) -> TrainResult:
    """Train, validate and test one run; go on from the checkpoint in `folder` where there is one.

    The model of the lowest validation MSE is kept and is tested once, at the end. A SIGTERM to a process whose main
    thread trains with a `folder` ends the run after the step, with a checkpoint.

    Args:
        genes: of the run's cell type, with just its window, signals and scalars: their arrays, or where they come from.
        split: row numbers of the training, validation and test genes.
        folder: where checkpoints are written by rank 0 and read by all; None to keep none.

    Raises:
        ConfigError: the training genes do not fill a batch, or the batch does not divide among the workers.
        TrainingError: the loss is no longer a number, or a single gene does not fit in memory.
        RunInterruptedError: SIGTERM came, or the placement says so; the checkpoint in `folder` is of the step before.
        RunStoppedError: the reporter asked for it after a validation; the checkpoint in `folder` is of that step.
        CheckpointError: the checkpoint in `folder` is damaged or of another run.
        StoreError: a source that reads while the run trains found a damaged file.
    """
    placement = placement or Placement()
    _refuse_split(config, split, placement.n_workers)
    if placement.device.type == "cuda":
        # A process trains one trial after the other: the peak is to be this one's.
        torch.cuda.reset_peak_memory_stats(placement.device)
    run = _start(config, as_source(genes), split, placement, reporter or NullReporter())
    if folder is not None:
        _resume(run, folder)
    take_from_first(run.model, run.placement)
    left = range(run.step, config.training.n_steps)
    with closing(run.source.training_shares(run.order, left, placement.rank, placement.n_workers)) as shares:
        if folder is None:
            _train_steps(run, shares, None, lambda: False)
        else:
            with termination_noticed() as told_to_end:
                _train_steps(run, shares, folder, told_to_end)
    run.gradients.release()
    return _finish(run)


def _train_steps(run: _Run, shares: Iterator[GeneArrays], folder: Path | None, told_to_end: Callable[[], bool]) -> None:
    """All steps that are left, with their reports, validations and checkpoints."""
    config, placement = run.config, run.placement
    n_steps = config.training.n_steps
    validate_every = steps_between_validations(config, run.order.steps_per_epoch)
    report_every = max(1, n_steps // _REPORTS_A_RUN)
    while run.step < n_steps:
        started = time.perf_counter()
        _train_step(run, next(shares))
        run.train_s += time.perf_counter() - started
        if run.step % report_every == 0:
            _report_losses(run)
        validated = run.step % validate_every == 0 or run.step == n_steps
        stopped = validated and _validate(run)
        due = placement.checkpoint_every_steps and run.step % placement.checkpoint_every_steps == 0
        asked = placement.checkpoint_asked is not None and placement.checkpoint_asked()
        ended = told_to_end() or (placement.end_asked is not None and placement.end_asked())
        # Any of the workers may be told, and all must end at the same step.
        end, asked, stopped = any_worker([ended, asked, stopped], placement)
        if folder is not None and placement.rank == 0 and (validated or due or asked or end):
            _save(run, folder)
        if end:
            raise RunInterruptedError(
                f"told to end after step {run.step} of {n_steps}; started again, it goes on from {folder}"
            )
        if stopped:
            raise RunStoppedError(f"stopped after step {run.step} of {n_steps}")


def _refuse_split(config: RunConfig, split: Split, n_workers: int) -> None:
    faults = FaultList()
    faults.extend(split_faults(config, split, n_workers))
    faults.raise_if_any(ConfigError)


def _start(config: RunConfig, source: GeneSource, split: Split, placement: Placement, reporter: Reporter) -> _Run:
    torch.manual_seed(config.seed)
    model = Prism(config.model, source.genes.inputs, seed=config.seed).to(placement.device)
    optimizer = torch.optim.AdamW(
        parameter_groups(model, config.optimizer.weight_decay),
        lr=config.optimizer.learning_rate,
        betas=(config.optimizer.beta1, config.optimizer.beta2),
    )
    gradients = GradientStep(model, config, placement)
    order = TrainingOrder.of(config, split, source.genes.chrom)
    return _Run(config, source, split, placement, reporter, model, gradients, optimizer, order)


def _resume(run: _Run, folder: Path) -> None:
    state = load_state(folder, run.config.fingerprint())
    if state is None:
        return
    run.model.load_state_dict(state.model)
    run.optimizer.load_state_dict(state.optimizer)
    run.best_model, run.best = state.best_model, state.best
    run.step, run.train_s, run.history = state.step, state.train_s, state.history
    run.loss_sums = torch.tensor(state.loss_sums, dtype=torch.float64)
    torch.set_rng_state(state.generator)


def _save(run: _Run, folder: Path) -> None:
    state = RunState(
        fingerprint=run.config.fingerprint(),
        step=run.step,
        model=run.model.state_dict(),
        optimizer=run.optimizer.state_dict(),
        best_model=run.best_model,
        best=run.best,
        loss_sums=run.loss_sums.tolist(),
        history=run.history,
        train_s=run.train_s,
        generator=torch.get_rng_state(),
    )
    save_state(folder, state)


def _train_step(run: _Run, share: GeneArrays) -> None:
    """One optimiser step on the next global batch, of which this worker computes its share."""
    config = run.config
    rate = learning_rate(config.optimizer, run.step, config.training.n_steps)
    for group in run.optimizer.param_groups:
        group["lr"] = rate
    run.optimizer.zero_grad(set_to_none=True)
    before = run.gradients.micro_batch, run.gradients.checkpointing
    losses = run.gradients.compute(share, run.step)
    if not math.isfinite(float(losses[0])):
        raise TrainingError(
            f"the loss is {float(losses[0])} at step {run.step + 1} (learning rate {rate:.3g}); "
            "lower optimizer.learning_rate, or give badly scaled signals a transform in the catalog"
        )
    nn.utils.clip_grad_norm_(run.model.parameters(), config.optimizer.gradient_clip)
    run.optimizer.step()
    run.loss_sums[:N_LOSSES] += losses
    run.loss_sums[-1] += 1
    run.step += 1
    if run.placement.rank == 0 and before != (run.gradients.micro_batch, run.gradients.checkpointing):
        # Not in the history: that is of the numbers, and equal wherever the run trains.
        run.reporter.report(memory_metrics(run.gradients.micro_batch, run.gradients.checkpointing), run.step)


def memory_metrics(micro_batch: int, checkpointing: bool) -> dict[str, float]:
    """How a batch was fitted into memory, as a tracker is told of it."""
    return {"cost/micro_batch": float(micro_batch), "cost/checkpoint_activations": float(checkpointing)}


def _report_losses(run: _Run) -> None:
    """Report the mean losses since the last report."""
    count = float(run.loss_sums[-1])
    metrics = {name: float(total) / count for name, total in zip(LOSS_NAMES, run.loss_sums[:-1], strict=True)}
    metrics["train/learning_rate"] = float(run.optimizer.param_groups[0]["lr"])
    run.loss_sums.zero_()
    run.history.append({"step": float(run.step), **metrics})
    if run.placement.rank == 0:
        run.reporter.report(metrics, run.step)


def _validate(run: _Run) -> bool:
    """Validate, and keep the best model; whether the run is to be stopped, as rank 0 is told."""
    metrics, _ = evaluate_rows(
        run.model, run.source, run.split.validation, run.placement, run.config.model.predict_with, "val"
    )
    if not math.isfinite(metrics["val/mse"]):
        raise TrainingError(f"the validation MSE is {metrics['val/mse']} at step {run.step}")
    run.history.append({"step": float(run.step), **metrics})
    if not run.best or metrics["val/mse"] < run.best["val/mse"]:
        run.best = {**metrics, "best_step": float(run.step)}
        run.best_model = {name: value.detach().clone() for name, value in run.model.state_dict().items()}
    return run.placement.rank == 0 and run.reporter.validated(metrics, run.step, run.history)


def _finish(run: _Run) -> TrainResult:
    """Test the best model, once."""
    assert run.best_model is not None
    run.model.load_state_dict(run.best_model)
    metrics, prediction = evaluate_rows(
        run.model, run.source, run.split.test, run.placement, run.config.model.predict_with, "test"
    )
    return TrainResult(
        model=run.model,
        metrics={**run.best, **metrics},
        history=run.history,
        test_rows=run.split.test,
        test_prediction=prediction,
        test_states=learned_state_rows(run.model, run.source, run.split.test, run.placement),
        n_parameters=count_parameters(run.model),
        train_s=run.train_s,
        micro_batch=run.gradients.micro_batch,
        checkpointing=run.gradients.checkpointing,
        n_hosts=count_hosts(run.placement),
    )
