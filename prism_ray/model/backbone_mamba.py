"""Mamba in one direction: a position sees what is on its left. The rival that Caduceus is measured against.

Legend: B genes (times copies), L positions in bp, D channels, E inner channels.
Source: Gu and Dao 2023, arXiv 2312.00752.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prism_ray.config import ModelConfig
from prism_ray.model.backbone import RMS_NORM_EPS, BlockStack, Direction


class MambaBlock(nn.Module):
    """Pre-norm residual block: x + out_proj(left-to-right * silu(z)); half of a bidirectional block."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        n_channels = config.expand * config.d_model
        rank = math.ceil(config.d_model / 16)
        self.norm = nn.RMSNorm(config.d_model, eps=RMS_NORM_EPS)
        self.in_proj = nn.Linear(config.d_model, 2 * n_channels, bias=False)
        self.left_to_right = Direction(n_channels, config.d_state, config.d_conv, rank, reverse=False)
        self.out_proj = nn.Linear(n_channels, config.d_model, bias=False)
        # As in Caduceus: keeps the residual stream's variance independent of depth.
        nn.init.kaiming_uniform_(self.out_proj.weight, a=math.sqrt(5))
        with torch.no_grad():
            self.out_proj.weight.div_(math.sqrt(config.n_layers))

    def forward(self, residual: Tensor) -> Tensor:
        """Residual stream after this block, (B, L, D)."""
        normed = self.norm(residual)
        for_x, for_z = self.in_proj.weight.chunk(2)
        x, z = F.linear(normed, for_x), F.linear(normed, for_z)  # (B, L, E)
        gated = self.left_to_right(x) * F.silu(z)
        projected: Tensor = self.out_proj(gated)
        return residual + projected


class Mamba(BlockStack):
    """Stack of one-directional blocks: position t depends on positions up to t."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__((MambaBlock(config) for _ in range(config.n_layers)), config.d_model)
