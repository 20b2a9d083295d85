"""Predictions of a model for many genes, and their metrics."""

from __future__ import annotations

from contextlib import closing
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from prism_ray.metrics import regression_metrics
from prism_ray.model import Prism
from prism_ray.store import GeneArrays
from prism_ray.training.batches import make_batch
from prism_ray.training.collectives import gather_rows, share_of_rows
from prism_ray.training.reporter import Placement
from prism_ray.training.sources import GeneReader, as_source

_POSITIONS_A_BATCH = 64 * 2000
"""Positions (genes x bp) evaluated at once: bounds memory at long windows, keeps short ones efficient."""


def genes_a_batch(window_bp: int) -> int:
    """Genes of a window's length that are evaluated at once."""
    return max(1, _POSITIONS_A_BATCH // window_bp)


@torch.inference_mode()
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
    source = as_source(genes)
    was_training = model.training
    model.eval()
    mine = rows[share_of_rows(len(rows), placement.rank, placement.n_workers)]
    parts = [np.empty(0, dtype=np.float32)]
    with closing(source.chunks(mine, genes_a_batch(source.genes.window_bp))) as chunks:
        for arrays in chunks:
            batch = make_batch(arrays, placement.device)
            output = model(batch.sequence, batch.signals, batch.scalars, paths=path)
            chosen = output.plain if path == "plain" else output.adjusted
            assert chosen is not None
            parts.append(chosen.float().cpu().numpy())
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
