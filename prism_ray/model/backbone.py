"""Caduceus without reverse-complement equivariance: a stack of bidirectional Mamba blocks.

Both directions of a block share the projections in and out. The projection in is therefore run once,
and because the projection out is linear, the directions are added and gated before it, once as well.

Legend: B genes (times copies), L positions in bp, D channels, E inner channels, N state size, R rank of the step size.
Sources: Gu and Dao 2023, arXiv 2312.00752; Schiff et al. 2024, arXiv 2403.03234.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from prism_ray.config import ModelConfig
from prism_ray.model.scan import (
    DirectionWeights,
    bidirectional_inner,
    causal_conv_silu,
    products,
    projected_scan,
    rms_norm,
)

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
        own = self.weights()
        u = causal_conv_silu(x, own.conv_weight, own.conv_bias, reverse=self.reverse, kernel=self.kernel)
        return projected_scan(
            u,
            self.x_proj(u),
            own.dt_weight,
            own.A,
            own.D,
            delta_bias=own.dt_bias,
            reverse=self.reverse,
            kernel=self.kernel,
        )

    def weights(self) -> DirectionWeights:
        """Its weights as the operations take them."""
        bias = self.conv.bias
        assert bias is not None
        return DirectionWeights(
            conv_weight=self.conv.weight.squeeze(1),
            conv_bias=bias,
            x_proj=self.x_proj.weight,
            dt_weight=self.dt_proj.weight,
            dt_bias=self.dt_proj.bias,
            A=-torch.exp(self.A_log),
            D=self.D,
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
        normed = rms_norm(residual, self.norm.weight, RMS_NORM_EPS, kernel=self.kernel)
        # Two products instead of one that is cut in half: both results are contiguous, so nothing is copied.
        x, z = products(normed, *self.in_proj.weight.chunk(2), kernel=self.kernel)  # (B, L, E)
        left, right = self.left_to_right.weights(), self.right_to_left.weights()
        gated = bidirectional_inner(x, z, left, right, kernel=self.kernel)
        (projected,) = products(gated, self.out_proj.weight, kernel=self.kernel)
        return residual + projected


class BlockStack(nn.Module):
    """Residual blocks one after the other, and a final norm: (B, L, D) -> (B, L, D).

    Attributes:
        checkpoint_blocks: whether the backward pass recomputes each block from its input: slower by a forward pass, and
            of the blocks' insides one is held at a time. Results are the same.
    """

    def __init__(self, blocks: Iterable[nn.Module], d_model: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.RMSNorm(d_model, eps=RMS_NORM_EPS)
        self.checkpoint_blocks = False

    def forward(self, hidden: Tensor) -> Tensor:
        """Last hidden states, (B, L, D)."""
        for block in self.blocks:
            if self.checkpoint_blocks and torch.is_grad_enabled():
                # Blocks draw no random numbers, so there is no generator's state to keep.
                hidden = checkpoint(block, hidden, use_reentrant=False, preserve_rng_state=False)
            else:
                hidden = block(hidden)
        normed: Tensor = self.norm(hidden)
        return normed


class Caduceus(BlockStack):
    """Stack of bidirectional blocks."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__((BidirectionalBlock(config) for _ in range(config.n_layers)), config.d_model)


def set_kernel(model: nn.Module, name: str) -> None:
    """Make every block of a model run the kernel of that name; `auto` picks by device and dtype."""
    for part in model.modules():
        if isinstance(part, (Direction, BidirectionalBlock)):
            part.kernel = name


def set_checkpointing(model: nn.Module, on: bool) -> None:
    """Make the backward pass of a model's backbone recompute its blocks, or keep what they hold."""
    for part in model.modules():
        if isinstance(part, BlockStack):
            part.checkpoint_blocks = on
