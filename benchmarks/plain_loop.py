"""The selective scan as one writes it first in PyTorch: a loop that indexes every position, under autograd.

The gradient of `x[:, t]` is a tensor of zeros as long as x for every t, so its backward pass is quadratic in L. The
package's reference kernel unbinds its inputs once and is several times faster; both are baselines of scan.py.
"""

from __future__ import annotations

import sys
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from prism_ray.model.scan import reference, registry
from prism_ray.model.scan.reference import causal_conv_silu, gated_sum

__all__ = ["NAME", "causal_conv_silu", "gated_sum", "projected_scan", "register", "selective_scan"]

NAME = "plain loop"


def selective_scan(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, delta_bias: Tensor, reverse: bool
) -> Tensor:
    """As `prism_ray.model.scan.selective_scan`."""
    step = F.softplus(delta + delta_bias)
    n_positions = u.shape[1]
    state = u.new_zeros(u.shape[0], u.shape[2], A.shape[1])
    outputs = [state[..., 0]] * n_positions
    for t in range(n_positions - 1, -1, -1) if reverse else range(n_positions):
        decay = torch.exp(step[:, t, :, None] * A)
        state = decay * state + (step[:, t] * u[:, t])[..., None] * B[:, t, None]
        outputs[t] = (state * C[:, t, None]).sum(dim=-1)
    return torch.stack(outputs, dim=1) + D * u


projected_scan = partial(reference.projected_scan, scan=selective_scan)


def register() -> None:
    """Make the loop a kernel of this process, by its name."""
    kernel = registry.Kernel(
        name=NAME,
        serves="any device, any floating dtype; slower still",
        supports=lambda device, dtype: dtype.is_floating_point,
        operations=lambda: sys.modules[__name__],
    )
    registry.KERNELS = (*registry.KERNELS, kernel)
