"""Predictions of a trained model for genes in memory, on all its paths: no cluster, no store, no labels.

N genes, L positions in bp, S signals, K scalars, D channels, n background states.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from prism_ray.model import Prism, check_names
from prism_ray.store import GeneArrays
from prism_ray.training.batches import make_batch

POSITIONS_A_BATCH = 64 * 2000
"""Positions (genes x copies of the input x bp) that pass the model at once: bounds memory, whatever the window."""

Inputs = Mapping[str, NDArray[Any]]
Values = NDArray[np.float32]


@torch.inference_mode()
def predict_genes(
    model: Prism, arrays: GeneArrays, device: torch.device | str = "cpu", *, positions_a_batch: int = POSITIONS_A_BATCH
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None, NDArray[np.float32] | None]:
    """Plain (N,), adjusted (N,) and state weights (N, D, n) of genes in memory; the last two None for n = 0.

    Float32, in evaluation mode, a batch at a time.

    Args:
        model: on `device`.
        arrays: with the signals and scalars that the model was trained on, in its order.
        device: of the model.
        positions_a_batch: genes x copies of the input x bp that pass the model at once.

    Raises:
        InputError: inputs of other names, in another order or of another shape, or values that are not numbers.
    """
    if model.trained_on is not None:
        check_names(model.trained_on, arrays.signal_names, arrays.scalar_names)
    n_copies = model.config.n_states + 1
    batch_genes = max(1, positions_a_batch // (arrays.window_bp * n_copies))
    outputs = []
    for start in range(0, len(arrays), batch_genes):
        batch = make_batch(arrays.take(np.arange(start, min(start + batch_genes, len(arrays)))), torch.device(device))
        outputs.append(model.eval()(batch.sequence, batch.signals, batch.scalars))

    def joined(name: str) -> NDArray[np.float32] | None:
        found = [getattr(output, name) for output in outputs]
        if found[0] is None:
            return None
        values: NDArray[np.float32] = torch.cat(found).float().cpu().numpy()
        return values

    plain = joined("plain")
    assert plain is not None
    return plain, joined("adjusted"), joined("state_weights")


def predict_inputs(model: Prism, inputs: Inputs) -> dict[str, Values]:
    """`prediction` (N,), what the model was trained to predict with; `plain`, and `adjusted` where it has states.

    Args:
        model: in evaluation mode.
        inputs: those of `sequence` (N, L) uint8, A C G T N = 0 1 2 3 4, `signals` (N, L, S) float32 with the catalog's
            transforms, and `scalars` (N, K) float32 that the model was trained on, S and K in its order.

    Raises:
        InputError: an input that is missing, of another shape, or not of numbers.
    """
    trained = model.trained_on
    assert trained is not None, "a packed model says what it was trained on"
    n_genes = len(next(iter(inputs.values())))
    sequence, signals, scalars = (inputs.get(name) for name in ("sequence", "signals", "scalars"))
    along = sequence if sequence is not None else signals
    window_bp = 1 if along is None else along.shape[1]
    genes = GeneArrays(
        gene_id=np.arange(n_genes).astype(str),
        chrom=np.full(n_genes, ""),
        sequence=None if sequence is None else np.ascontiguousarray(sequence, np.uint8),
        signals=np.ascontiguousarray(np.zeros((n_genes, window_bp, 0)) if signals is None else signals, np.float32),
        scalars=np.ascontiguousarray(np.zeros((n_genes, 0)) if scalars is None else scalars, np.float32),
        label=np.zeros(n_genes, np.float32),
        signal_names=trained.signals,
        scalar_names=trained.scalars,
        window_bp=window_bp,
    )
    plain, adjusted, _ = predict_genes(model, genes)
    by_path = {"plain": plain} if adjusted is None else {"plain": plain, "adjusted": adjusted}
    return {"prediction": by_path[model.config.predict_with], **by_path}
