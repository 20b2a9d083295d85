"""The operations of a Mamba block in plain PyTorch: any device, any floating dtype, slow.

They are the oracle of every other kernel, so each is the formula written down once.

Legend: B genes (times copies), L positions in bp, E inner channels, N state size, K convolution width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class DirectionWeights(NamedTuple):
    """Weights of one direction of a block, R the rank of the step size.

    Attributes:
        conv_weight: taps of the depthwise convolution, the last on the position itself, (E, K).
        conv_bias: (E,).
        x_proj: projection to R values of the step size, then B, then C, (R + 2 N, E).
        dt_weight: projection to the step size, (E, R), R >= 1.
        dt_bias: bias of the step size, (E,).
        A: decay rates, (E, N), not positive.
        D: skip weights, (E,).
    """

    conv_weight: Tensor
    conv_bias: Tensor
    x_proj: Tensor
    dt_weight: Tensor
    dt_bias: Tensor
    A: Tensor
    D: Tensor


def selective_scan(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, delta_bias: Tensor, reverse: bool
) -> Tensor:
    """State-space recurrence along L under autograd; see `prism_ray.model.scan.selective_scan`."""
    step = F.softplus(delta + delta_bias)  # (B, L, E)
    gain = step * u  # (B, L, E)
    # Unbound once: the gradient of x[:, t] is a window of zeros for every t, which would make the loop quadratic in L.
    steps, gains, into, out_of = (tensor.unbind(dim=1) for tensor in (step, gain, B, C))
    n_positions = u.shape[1]
    order = range(n_positions - 1, -1, -1) if reverse else range(n_positions)
    state = u.new_zeros(u.shape[0], u.shape[2], A.shape[1])  # (B, E, N)
    outputs = [state[..., 0]] * n_positions
    for t in order:
        decay = torch.exp(steps[t][..., None] * A)  # (B, E, N)
        state = decay * state + gains[t][..., None] * into[t][:, None]
        outputs[t] = (state * out_of[t][:, None]).sum(dim=-1)  # (B, E)
    return torch.stack(outputs, dim=1) + D * u


def projected_scan(
    u: Tensor,
    projected: Tensor,
    step_weight: Tensor,
    A: Tensor,
    D: Tensor,
    delta_bias: Tensor,
    reverse: bool,
    scan: Callable[..., Tensor] = selective_scan,
) -> Tensor:
    """Selective scan of parameters that come out of one projection; see `prism_ray.model.scan.projected_scan`.

    `scan` is what runs on the parts of the projection; another than the one here for comparison with it.
    """
    n_state = A.shape[1]
    low_rank, B, C = torch.split(projected, [step_weight.shape[1], n_state, n_state], dim=-1)
    return scan(u, F.linear(low_rank, step_weight), A, B, C, D, delta_bias, reverse)


def causal_conv_silu(x: Tensor, weight: Tensor, bias: Tensor, reverse: bool) -> Tensor:
    """Depthwise causal convolution, then SiLU; see `prism_ray.model.scan.causal_conv_silu`."""
    channels, width = weight.shape
    along = x.transpose(1, 2)  # (B, E, L)
    along = F.pad(along, (0, width - 1) if reverse else (width - 1, 0))
    taps = weight.flip(1) if reverse else weight
    return F.silu(F.conv1d(along, taps[:, None], bias, groups=channels)).transpose(1, 2)


def gated_sum(forward: Tensor, backward: Tensor, z: Tensor) -> Tensor:
    """(forward + backward) * silu(z); see `prism_ray.model.scan.gated_sum`."""
    return (forward + backward) * F.silu(z)
