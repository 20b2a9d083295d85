"""The encoder that reads n background states of a gene out of its signals.

Legend: B genes, L positions in bp, S signals, D channels, n background states, c first channels.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from prism_ray.config import ModelConfig
from prism_ray.errors import ConfigError, FaultList
from prism_ray.model.batch_norm import SyncBatchNorm1d
from prism_ray.workload import ENCODER_KERNEL_WIDTHS

_POOLING = 4
LEAST_WINDOW_BP = _POOLING ** len(ENCODER_KERNEL_WIDTHS)
"""Shortest window of which three poolings leave a position."""


class ConfounderEncoder(nn.Module):
    """Weights a_i of the background states, learned from the raw signals.

    Three blocks of convolution, batch normalisation, ReLU and pooling, an average over what is left
    of the window, and a linear layer. Source: arXiv 2602.21550.
    """

    def __init__(self, config: ModelConfig, n_signals: int) -> None:
        super().__init__()
        self.n_states = config.n_states
        self.activation = config.weight_activation
        layers: list[nn.Module] = []
        channels = n_signals
        for block, width in enumerate(ENCODER_KERNEL_WIDTHS):
            wider = config.confounder_channels * 2**block
            layers += [
                nn.Conv1d(channels, wider, width, padding=width // 2),
                SyncBatchNorm1d(wider),
                nn.ReLU(),
                nn.MaxPool1d(_POOLING),
            ]
            channels = wider
        self.convolutions = nn.Sequential(*layers)
        self.projection = nn.Linear(channels, config.d_model * config.n_states)

    def forward(self, signals: Tensor) -> Tensor:
        """State weights, (B, D, n), from signals (B, L, S): in (0, 1), or summing to 1 over D for softmax.

        Raises:
            ConfigError: the window is too short to be pooled three times.
        """
        if signals.shape[1] < LEAST_WINDOW_BP:
            faults = FaultList()
            problem = f"{signals.shape[1]} is too short for the encoder of background states"
            faults.add("data.window_bp", problem, f"use at least {LEAST_WINDOW_BP}, or model.n_states: 0")
            faults.raise_if_any(ConfigError)
        pooled = self.convolutions(signals.transpose(1, 2)).mean(dim=2)  # (B, 4c)
        logits = self.projection(pooled).unflatten(1, (-1, self.n_states))  # (B, D, n), n fastest
        return state_weights(logits, self.activation)


def state_weights(logits: Tensor, activation: Literal["sigmoid", "softmax"]) -> Tensor:
    """Weights of states, (B, D, n), from what a layer gave for them, (B, D, n); softmax runs over D."""
    return torch.softmax(logits, dim=1) if activation == "softmax" else torch.sigmoid(logits)
