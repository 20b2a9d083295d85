"""Dilated residual convolutions: a backbone without a state, for comparison.

Legend: B genes (times copies), L positions in bp, D channels, E inner channels, K taps.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from prism_ray.config import ModelConfig
from prism_ray.model.backbone import RMS_NORM_EPS, BlockStack


class DilatedBlock(nn.Module):
    """Pre-norm residual block: x + out_proj(silu(dilated convolution)); beyond the window the norm's output is 0."""

    def __init__(self, config: ModelConfig, dilation: int) -> None:
        super().__init__()
        n_channels = config.expand * config.d_model
        self.norm = nn.RMSNorm(config.d_model, eps=RMS_NORM_EPS)
        self.conv = nn.Conv1d(
            config.d_model,
            n_channels,
            config.cnn_width,
            padding=dilation * (config.cnn_width // 2),
            dilation=dilation,
        )
        self.activation = nn.SiLU()
        self.out_proj = nn.Linear(n_channels, config.d_model)
        # As in the other backbones: keeps the residual stream's variance independent of depth.
        with torch.no_grad():
            self.out_proj.weight.div_(math.sqrt(config.n_layers))
            self.out_proj.bias.zero_()

    def forward(self, residual: Tensor) -> Tensor:
        """Residual stream after this block, (B, L, D)."""
        convolved = self.conv(self.norm(residual).transpose(1, 2)).transpose(1, 2)  # (B, L, E)
        projected: Tensor = self.out_proj(self.activation(convolved))
        return residual + projected


class DilatedCnn(BlockStack):
    """Stack of dilated blocks.

    Layer i = 0, 1, ... has dilation 2^i, so a position sees K // 2 * (2^n_layers - 1) positions to either side.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__((DilatedBlock(config, 2**layer) for layer in range(config.n_layers)), config.d_model)
