"""The backbones that `model.backbone` chooses from, and what a model of a config costs before it is built.

A backbone is a module with one method: `forward` takes hidden states (B, L, D) and gives hidden states (B, L, D). To
add one, write that class and its cost a position, and give both a name in `BACKBONES` and in `ModelConfig.backbone`.

Legend: B genes (times copies), L positions in bp, D channels, E inner channels, N state size, R rank of the step size.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from prism_ray.config import ModelConfig
from prism_ray.model.backbone import Caduceus
from prism_ray.model.backbone_cnn import DilatedCnn
from prism_ray.model.backbone_mamba import Mamba


@dataclass(frozen=True)
class Backbone:
    """A kind of backbone.

    Attributes:
        build: module of a config; its `forward` maps (B, L, D) to (B, L, D).
        multiply_adds: of a config, multiplications with an addition that one position of one copy of the input takes
            forward; norms and activations are left out.
    """

    build: Callable[[ModelConfig], nn.Module]
    multiply_adds: Callable[[ModelConfig], int]

    def cost(self, config: ModelConfig, window_bp: int) -> int:
        """Multiply-adds of a window of one copy of the input, forward; training takes about three times as many."""
        return window_bp * self.multiply_adds(config)


def _mamba_multiply_adds(config: ModelConfig, n_directions: int) -> int:
    inner, rank = config.expand * config.d_model, math.ceil(config.d_model / 16)
    projections = 3 * config.d_model * inner
    # Convolution, projection to step size, B and C, step size, then of each state: decay, input, output; last D.
    direction = inner * (config.d_conv + (rank + 2 * config.d_state) + rank + 3 * config.d_state + 1)
    return config.n_layers * (projections + n_directions * direction)


def _cnn_multiply_adds(config: ModelConfig) -> int:
    inner = config.expand * config.d_model
    return config.n_layers * config.d_model * inner * (config.cnn_width + 1)


BACKBONES: dict[str, Backbone] = {
    "caduceus": Backbone(Caduceus, lambda config: _mamba_multiply_adds(config, n_directions=2)),
    "mamba": Backbone(Mamba, lambda config: _mamba_multiply_adds(config, n_directions=1)),
    "cnn": Backbone(DilatedCnn, _cnn_multiply_adds),
}
"""Every backbone by its name in a config."""


def build_backbone(config: ModelConfig) -> nn.Module:
    """The backbone that a config names, drawn from PyTorch's generator."""
    return BACKBONES[config.backbone].build(config)
