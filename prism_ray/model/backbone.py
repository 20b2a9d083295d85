"""Caduceus without reverse-complement equivariance: a stack of bidirectional Mamba blocks.

Both directions of a block share the projections in and out. The projection in is therefore run once,
and because the projection out is linear, the directions are added and gated before it, once as well.

Legend: B genes (times copies), L positions in bp, D channels, E inner channels, N state size, R rank of the step size.
Sources: Gu and Dao 2023, arXiv 2312.00752; Schiff et al. 2024, arXiv 2403.03234.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prism_ray.config import ModelConfig
from prism_ray.model.scan import causal_conv_silu, gated_sum, projected_scan

RMS_NORM_EPS = 1.0e-5
_STEP_RANGE = (1.0e-3, 1.0e-1)
_STEP_FLOOR = 1.0e-4


class Direction(nn.Module):
    """What a direction of a block has for itself: convolution, step size, B, C, A and D."""

    def __init__(self, n_channels: int, n_state: int, width: int, rank: int, *, reverse: bool) -> None:
        super().__init__()
        self.reverse = reverse
        self.kernel = "auto"
        self.conv = nn.Conv1d(n_channels, n_channels, width, groups=n_channels)
        self.x_proj = nn.Linear(n_channels, rank + 2 * n_state, bias=False)
        self.dt_proj = nn.Linear(rank, n_channels)
        rates = torch.arange(1, n_state + 1, dtype=torch.float32)
        self.A_log = nn.Parameter(torch.log(rates).repeat(n_channels, 1))  # (E, N)
        self.D = nn.Parameter(torch.ones(n_channels))
        self._draw_step_size(rank)

    @torch.no_grad()
    def _draw_step_size(self, rank: int) -> None:
        """Initial step sizes log-uniform in `_STEP_RANGE`; the bias stands inside a softplus, so it is undone."""
        nn.init.uniform_(self.dt_proj.weight, -(rank**-0.5), rank**-0.5)
        low, high = (math.log(bound) for bound in _STEP_RANGE)
        step = torch.exp(low + (high - low) * torch.rand_like(self.dt_proj.bias)).clamp(min=_STEP_FLOOR)
        self.dt_proj.bias.copy_(step + torch.log(-torch.expm1(-step)))

    def forward(self, x: Tensor) -> Tensor:
        """Output of this direction before the gate, (B, L, E), from x (B, L, E)."""
        taps = self.conv.weight.squeeze(1)  # (E, K)
        bias = self.conv.bias
        assert bias is not None
        u = causal_conv_silu(x, taps, bias, reverse=self.reverse, kernel=self.kernel)
        return projected_scan(
            u,
            self.x_proj(u),
            self.dt_proj.weight,
            -torch.exp(self.A_log),
            self.D,
            delta_bias=self.dt_proj.bias,
            reverse=self.reverse,
            kernel=self.kernel,
        )


class BidirectionalBlock(nn.Module):
    """Pre-norm residual block: x + out_proj((left-to-right + right-to-left) * silu(z))."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        n_channels = config.expand * config.d_model
        rank = math.ceil(config.d_model / 16)
        self.kernel = "auto"
        self.norm = nn.RMSNorm(config.d_model, eps=RMS_NORM_EPS)
        self.in_proj = nn.Linear(config.d_model, 2 * n_channels, bias=False)
        self.left_to_right = Direction(n_channels, config.d_state, config.d_conv, rank, reverse=False)
        self.right_to_left = Direction(n_channels, config.d_state, config.d_conv, rank, reverse=True)
        self.out_proj = nn.Linear(n_channels, config.d_model, bias=False)
        # Keeps the residual stream's variance independent of depth.
        nn.init.kaiming_uniform_(self.out_proj.weight, a=math.sqrt(5))
        with torch.no_grad():
            self.out_proj.weight.div_(math.sqrt(config.n_layers))

    def forward(self, residual: Tensor) -> Tensor:
        """Residual stream after this block, (B, L, D)."""
        normed = self.norm(residual)
        # Two products instead of one that is cut in half: both results are contiguous, so nothing is copied.
        for_x, for_z = self.in_proj.weight.chunk(2)
        x, z = F.linear(normed, for_x), F.linear(normed, for_z)  # (B, L, E)
        gated = gated_sum(self.left_to_right(x), self.right_to_left(x), z, kernel=self.kernel)
        projected: Tensor = self.out_proj(gated)
        return residual + projected


class Caduceus(nn.Module):
    """Stack of bidirectional blocks and a final norm: (B, L, D) -> (B, L, D)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([BidirectionalBlock(config) for _ in range(config.n_layers)])
        self.norm = nn.RMSNorm(config.d_model, eps=RMS_NORM_EPS)

    def forward(self, hidden: Tensor) -> Tensor:
        """Last hidden states, (B, L, D)."""
        for block in self.blocks:
            hidden = block(hidden)
        normed: Tensor = self.norm(hidden)
        return normed


def set_kernel(model: nn.Module, name: str) -> None:
    """Make every block of a model run the kernel of that name; `auto` picks by device and dtype."""
    for part in model.modules():
        if isinstance(part, (Direction, BidirectionalBlock)):
            part.kernel = name
