"""The three losses of Prism, L = L1 + alpha L2 + beta L3 (arXiv 2602.21550).

Legend: B genes, D channels, n background states.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from prism_ray.errors import FaultList, InputError
from prism_ray.model.interface import Output

TEMPERATURE = 2.0
"""Temperature t of the diversity loss, as published."""

_NORM_FLOOR = 1.0e-8
"""Added to the norm of a state, so that an all-zero one has a direction of 0 instead of NaN."""


@dataclass
class Losses:
    """Losses of a batch: 0-dimensional, float32 at least, means over genes.

    Attributes:
        total: prediction + alpha * adjustment + beta * diversity.
        prediction: L1, smooth L1 of the plain path.
        adjustment: L2, smooth L1 of the adjusted path; 0 for n = 0.
        diversity: L3, similarity of the background states to each other; 0 for n under 2.
    """

    total: Tensor
    prediction: Tensor
    adjustment: Tensor
    diversity: Tensor


def prism_loss(output: Output, target: Tensor, alpha: float, beta: float) -> Losses:
    """Losses of a batch; alpha and beta weigh L2 and L3 and change nothing else.

    Args:
        output: what the model gave for `paths="both"`.
        target: labels, (B,).
        alpha: weight of the adjusted path's error.
        beta: weight of the diversity of the states.

    Raises:
        InputError: no plain prediction, states without an adjusted prediction, or a target of another shape.
    """
    faults = FaultList()
    if output.plain is None:
        faults.add("output.plain", "was not computed", "call the model with paths='both'")
    elif output.plain.shape != target.shape:
        problem = f"has shape {tuple(target.shape)}"
        faults.add("target", problem, f"expected {tuple(output.plain.shape)}, one label a gene")
    if output.state_weights is not None and output.adjusted is None:
        faults.add("output.adjusted", "was not computed", "call the model with paths='both'")
    faults.raise_if_any(InputError)
    assert output.plain is not None

    plain = _at_least_float32(output.plain)
    target = target.to(plain.dtype)
    prediction = F.smooth_l1_loss(plain, target, beta=1.0)
    adjustment = diversity = plain.new_zeros(())
    if output.adjusted is not None:
        adjustment = F.smooth_l1_loss(_at_least_float32(output.adjusted), target, beta=1.0)
    if output.state_weights is not None and output.state_weights.shape[2] > 1:
        diversity = state_diversity(_at_least_float32(output.state_weights))
    return Losses(prediction + alpha * adjustment + beta * diversity, prediction, adjustment, diversity)


def state_diversity(state_weights: Tensor) -> Tensor:
    """Mean over genes of log sum_ij exp(2t a~_i . a~_j - 2t), a~ = a / ||a||_2 over D; i = j included.

    Args:
        state_weights: (B, D, n).
    """
    norm = torch.linalg.vector_norm(state_weights, dim=1, keepdim=True)
    unit = state_weights / (norm + _NORM_FLOOR)
    similarity = torch.einsum("bdi,bdj->bij", unit, unit)  # (B, n, n)
    return torch.logsumexp(2 * TEMPERATURE * (similarity - 1), dim=(1, 2)).mean()


def _at_least_float32(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor
