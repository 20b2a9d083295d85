"""Predictions of a model for many genes, their metrics, and the weights of their background states.

N genes, D channels, n background states.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from prism_ray.metrics import regression_metrics
from prism_ray.model import Prism
from prism_ray.store import GeneArrays
from prism_ray.training.batches import Batch, make_batch
from prism_ray.training.collectives import gather_rows
from prism_ray.training.order import genes_a_batch, share_of_rows
from prism_ray.training.reporter import Placement
from prism_ray.training.sources import GeneReader, as_source


def predict_rows(
    model: Prism,
    genes: GeneArrays | GeneReader,
    rows: NDArray[np.int64],
    placement: Placement,
    path: Literal["plain", "adjusted"],
) -> NDArray[np.float32]:
    """(N,) float32 predictions of `rows`, in their order, on every worker; each computes its share.

    The model is evaluated in float32 and in evaluation mode; its mode is restored.
    """

    def predicted(batch: Batch) -> Tensor:
        output = model(batch.sequence, batch.signals, batch.scalars, paths=path)
        chosen: Tensor | None = output.plain if path == "plain" else output.adjusted
        assert chosen is not None
        return chosen

    return _over_rows(model, genes, rows, placement, predicted, ())


def state_rows(
    model: Prism, genes: GeneArrays | GeneReader, rows: NDArray[np.int64], placement: Placement
) -> NDArray[np.float32]:
    """(N, D, n) float32 weights a_i of `rows`, in their order, on every worker; each computes its share.

    Only the encoder of states runs, in evaluation mode; the model's mode is restored.

    Raises:
        InputError: a model without background states.
    """
    shape = model.config.d_model, model.config.n_states
    return _over_rows(model, genes, rows, placement, lambda batch: model.states(batch.signals), shape)


def learned_state_rows(
    model: Prism, genes: GeneArrays | GeneReader, rows: NDArray[np.int64], placement: Placement
) -> NDArray[np.float32] | None:
    """`state_rows` of a model that learned its background states; None of one that did not."""
    is_learned = model.config.n_states > 0 and model.config.states == "learned"
    return state_rows(model, genes, rows, placement) if is_learned else None


@torch.inference_mode()
def _over_rows(
    model: Prism,
    genes: GeneArrays | GeneReader,
    rows: NDArray[np.int64],
    placement: Placement,
    compute: Callable[[Batch], Tensor],
    shape: tuple[int, ...],
) -> NDArray[np.float32]:
    """(N, *shape) of what a batch of B genes gives, (B, *shape)."""
    source = as_source(genes)
    was_training = model.training
    model.eval()
    mine = rows[share_of_rows(len(rows), placement.rank, placement.n_workers)]
    parts = [np.empty((0, *shape), dtype=np.float32)]
    with closing(source.chunks(mine, genes_a_batch(source.genes.window_bp))) as chunks:
        parts += [compute(make_batch(arrays, placement.device)).float().cpu().numpy() for arrays in chunks]
    model.train(was_training)
    return gather_rows(np.concatenate(parts), len(rows), placement)


def evaluate_rows(
    model: Prism,
    source: GeneReader,
    rows: NDArray[np.int64],
    placement: Placement,
    path: Literal["plain", "adjusted"],
    split: str,
) -> tuple[dict[str, float], NDArray[np.float32]]:
    """Metrics named `split/name` over all of `rows`, and the (N,) predictions they were computed from."""
    prediction = predict_rows(model, source, rows, placement, path)
    metrics = regression_metrics(prediction, source.genes.label[rows])
    return {f"{split}/{name}": value for name, value in metrics.items()}, prediction
