"""What a run costs by its settings alone: multiply-adds of its backbone, and how its parts grow with them.

Norms, activations, the encoder of states and the head are left out: they are small beside the backbone. Knows settings
and no network, so that a plan can say which trial is the largest without loading one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from prism_ray.config import ModelConfig, RunConfig


def _mamba(config: ModelConfig, n_directions: int) -> int:
    inner, rank = config.expand * config.d_model, math.ceil(config.d_model / 16)
    projections = 3 * config.d_model * inner
    # Convolution, projection to step size, B and C, step size, then of each state: decay, input, output; last D.
    direction = inner * (config.d_conv + (rank + 2 * config.d_state) + rank + 3 * config.d_state + 1)
    return config.n_layers * (projections + n_directions * direction)


def _cnn(config: ModelConfig) -> int:
    inner = config.expand * config.d_model
    return config.n_layers * config.d_model * inner * (config.cnn_width + 1)


POSITION_COST: Mapping[str, Callable[[ModelConfig], int]] = {
    "caduceus": lambda config: _mamba(config, n_directions=2),
    "mamba": lambda config: _mamba(config, n_directions=1),
    "cnn": _cnn,
}
"""Of each backbone: multiplications with an addition that one position of one copy of the input takes forward."""


def plain_multiply_adds(config: ModelConfig, window_bp: int) -> int:
    """Multiply-adds of the backbone for a gene, forward, plain path: one copy of its window."""
    return window_bp * POSITION_COST[config.backbone](config)


def training_multiply_adds(config: ModelConfig, window_bp: int) -> int:
    """Multiply-adds of the backbone for a gene in a training step: all n + 1 copies, forward and backward."""
    # The gradient of a product is two products.
    return 3 * (config.n_states + 1) * plain_multiply_adds(config, window_bp)


def step_multiply_adds(config: RunConfig) -> int:
    """Multiply-adds of the backbone in a training step of a run: what puts trials in the order of their size."""
    return config.training.batch_size * training_multiply_adds(config.model, config.data.window_bp)


def evaluation_multiply_adds(config: RunConfig) -> int:
    """Multiply-adds of the backbone for a gene that a run evaluates: one copy, or n where these predict."""
    n_copies = config.model.n_states if config.model.predict_with == "adjusted" else 1
    return n_copies * plain_multiply_adds(config.model, config.evaluated_data().window_bp)
