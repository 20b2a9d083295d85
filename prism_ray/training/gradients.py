"""Gradients of a global batch: shared by the workers, computed in micro-batches that fit in memory.

How a batch is cut never changes a result beyond rounding. Losses are means over genes, so those of micro-batches
are weighted by their genes and added. Batch normalisation is the one place where genes meet: the encoder of
background states therefore sees a worker's whole share at once (its statistics cover the shares of all workers),
and only the backbone and the head, which hold nearly all of the memory, run a micro-batch at a time. What they say
of the states is collected, and the encoder goes backward once.

A worker that runs out of memory in the middle tells the others when all have tried; they drop what they have,
halve their micro-batches together, and go on with the same batch. Gradients are averaged after that, and not
inside the backward pass as `DistributedDataParallel` does: there a worker that is out of memory would leave the
others waiting for its part.

B genes of the share, D channels, n background states.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from prism_ray.config import RunConfig
from prism_ray.errors import TrainingError
from prism_ray.model import Prism, prism_loss
from prism_ray.model.backbone import set_checkpointing
from prism_ray.model.graphs import graph_backbone, ungraph_backbone
from prism_ray.model.state_controls import DropoutStates
from prism_ray.store import GeneArrays
from prism_ray.training.batches import Batch, make_batch
from prism_ray.training.collectives import average_gradients, sum_over_workers
from prism_ray.training.reporter import Placement

N_LOSSES = 4
"""Total, prediction, adjustment and diversity."""

_log = logging.getLogger(__name__)


class GradientStep:
    """Computes gradients of one run's batches in one process, in smaller parts once memory was short.

    Attributes:
        micro_batch: genes that pass the backbone at once.
        checkpointing: whether hidden states are computed again in the backward pass instead of being kept.
    """

    def __init__(self, model: Prism, config: RunConfig, placement: Placement) -> None:
        n_share = config.training.batch_size // placement.n_workers
        self.micro_batch = min(placement.micro_batch or n_share, n_share)
        self.checkpointing = placement.checkpoint_activations
        self._model = model
        self._config = config
        self._placement = placement
        self._graphs_untried = graphs_allowed(placement)
        set_checkpointing(model, self.checkpointing)

    def compute(self, share: GeneArrays, step: int) -> Tensor:
        """Leave the gradients of the global batch in the model, whose gradients are empty; its losses come back.

        Args:
            share: this worker's genes of the batch.
            step: number of the batch, from 0: what is drawn by chance depends on it.

        Returns:
            (4,) float64 losses of the global batch on the CPU: total, prediction, adjustment, diversity.

        Raises:
            TrainingError: a single gene does not fit in memory.
        """
        placement = self._placement
        self._model.train()
        try:
            batch = make_batch(share, placement.device)
            states = self._states(batch, step)
        except torch.OutOfMemoryError as problem:
            if placement.n_workers > 1:
                raise  # the others wait inside the encoder and cannot be told: only the end of a process frees them
            raise TrainingError(self._too_large(share.window_bp)) from problem
        while True:
            leaf = None if states is None else states.detach().requires_grad_(states.requires_grad)
            losses = self._run_micro_batches(batch, leaf)
            short = losses is None
            told = torch.zeros(N_LOSSES + 1, dtype=torch.float64, device=placement.device)
            told[-1] = float(short)
            if losses is not None:
                told[:-1] = losses
            told = sum_over_workers(told, placement).cpu()
            if not told[-1]:
                break
            self._take_less(share.window_bp)
        if states is not None and leaf is not None and leaf.requires_grad:
            torch.autograd.backward(states, leaf.grad)
        average_gradients(self._model.parameters(), placement)
        return told[:-1] / placement.n_workers

    def release(self) -> None:
        """Give back what steps kept beside the model, which may then be called on any batch again."""
        ungraph_backbone(self._model.backbone)

    def _states(self, batch: Batch, step: int) -> Tensor | None:
        """Weights of the background states of the whole share, (B, D, n); None for a model without them."""
        encoder = self._model.state_encoder
        if encoder is None:
            return None
        if isinstance(encoder, DropoutStates):
            config, placement = self._config, self._placement
            n_share = len(batch.label)
            rows = slice(placement.rank * n_share, (placement.rank + 1) * n_share)
            return encoder.drawn(config.seed, step, config.training.batch_size, rows).to(placement.device)
        # Outside of mixed precision, as in the model.
        states: Tensor = encoder(batch.signals)
        return states

    def _run_micro_batches(self, batch: Batch, states: Tensor | None) -> Tensor | None:
        """(4,) float64 losses of the share, its gradients added to the model's; None where memory was short."""
        try:
            losses = torch.zeros(N_LOSSES, dtype=torch.float64, device=self._placement.device)
            n_genes = len(batch.label)
            for start in range(0, n_genes, self.micro_batch):
                losses += self._run_genes(batch, states, slice(start, start + self.micro_batch))
        except torch.OutOfMemoryError:
            # Left at once: as long as it is handled, it keeps the frames below it, and their tensors, alive.
            return None
        return losses

    def _run_genes(self, batch: Batch, states: Tensor | None, genes: slice) -> Tensor:
        """(4,) losses of some genes of the share, weighted by their part of it; adds their gradients to the model's."""
        config = self._config
        label = batch.label[genes]
        if self._graphs_untried:
            self._graphs_untried = False
            # A backward pass after another would overwrite the gradients of the first.
            if len(label) == len(batch.label) and not self.checkpointing:
                self._make_graphs(len(label))
        mixed = config.training.precision == "bf16"
        with (
            torch.autocast(self._placement.device.type, dtype=torch.bfloat16, enabled=mixed),
            _given(self._model, None if states is None else states[genes]),
        ):
            output = self._model(_part(batch.sequence, genes), _part(batch.signals, genes), _part(batch.scalars, genes))
            beta = config.loss.beta if config.states_are_driven_apart else 0.0
            losses = prism_loss(output, label, config.loss.alpha, beta)
        weight = len(label) / len(batch.label)
        torch.autograd.backward(losses.total * weight)
        parts = torch.stack([losses.total, losses.prediction, losses.adjustment, losses.diversity])
        return parts.detach().double() * weight

    def _make_graphs(self, n_genes: int) -> None:
        """Let the backbone run as CUDA graphs, if it can be captured, for so many genes at a time."""
        config = self._config
        shape = (n_genes * (1 + config.model.n_states), config.data.window_bp, config.model.d_model)
        dtype = torch.bfloat16 if config.training.precision == "bf16" else None
        try:
            graph_backbone(self._model.backbone, shape, dtype)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as problem:
            _log.warning("no CUDA graphs of the backbone, its kernels are launched one by one: %s", problem)

    def _take_less(self, window_bp: int) -> None:
        """Drop what an attempt left and need less memory from now on; all workers do, and all do the same.

        Raises:
            TrainingError: there is nothing left to save.
        """
        self._model.zero_grad(set_to_none=True)
        self.release()
        device = self._placement.device
        if device.type == "cuda":
            torch.cuda.empty_cache()
        if self.micro_batch > 1:
            self.micro_batch //= 2
        elif not self.checkpointing:
            self.checkpointing = True
            set_checkpointing(self._model, True)
        else:
            raise TrainingError(self._too_large(window_bp))
        if self._placement.rank == 0:
            _log.warning(
                "out of memory on %s: the same batch goes on with %d genes at a time%s",
                device,
                self.micro_batch,
                " and activation checkpointing" if self.checkpointing else "",
            )

    def _too_large(self, window_bp: int) -> str:
        device = self._placement.device
        return (
            f"{self.micro_batch} genes of {window_bp} bp do not fit in the memory of {device} together, "
            "and there is nothing left to save; use a GPU with more memory or a larger part of one "
            "(--gpus-per-worker), more workers (--workers), a shorter data.window_bp, fewer model.n_states or a "
            "smaller model.d_model"
        )


def graphs_allowed(placement: Placement) -> bool:
    """Whether a process may run its backbone as CUDA graphs: with other workers, their threads use the GPU too."""
    return placement.cuda_graphs and placement.device.type == "cuda" and placement.n_workers == 1


class _GivenStates(nn.Module):
    """Stands in for the encoder of states in a micro-batch: its part of what the encoder gave for the whole share."""

    def __init__(self, states: Tensor) -> None:
        super().__init__()
        self._states = states

    def forward(self, signals: Tensor) -> Tensor:
        """State weights of the micro-batch, (genes, D, n)."""
        return self._states


@contextmanager
def _given(model: Prism, states: Tensor | None) -> Iterator[None]:
    """Inside, the model takes these state weights and runs no encoder of its own."""
    encoder = model.state_encoder
    if states is None or encoder is None:
        yield
        return
    model.register_module("state_encoder", _GivenStates(states))
    try:
        yield
    finally:
        model.register_module("state_encoder", encoder)


def _part(values: Tensor | None, genes: slice) -> Tensor | None:
    return None if values is None else values[genes]
