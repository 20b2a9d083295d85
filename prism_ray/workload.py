"""What a run costs by its settings alone: trained values of its network, and multiply-adds of its backbone.

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


ENCODER_WIDTHS = (7, 5, 3)
"""Taps of the convolutions of the encoder of states, each of which has twice the channels of the one before."""


def _mamba_parameters(config: ModelConfig, n_directions: int) -> int:
    width, inner, rank = config.d_model, config.expand * config.d_model, math.ceil(config.d_model / 16)
    projected = rank + 2 * config.d_state
    # Convolution and its bias, projection to R, B and C, that of the step size and its bias, A (E, N), D.
    direction = inner * (config.d_conv + 1 + projected + rank + 1 + config.d_state + 1)
    block = width + 2 * width * inner + n_directions * direction + inner * width
    return config.n_layers * block + width


def _cnn_parameters(config: ModelConfig) -> int:
    width, inner = config.d_model, config.expand * config.d_model
    block = width + inner * (width * config.cnn_width + 1) + width * (inner + 1)
    return config.n_layers * block + width


BACKBONE_PARAMETERS: Mapping[str, Callable[[ModelConfig], int]] = {
    "caduceus": lambda config: _mamba_parameters(config, n_directions=2),
    "mamba": lambda config: _mamba_parameters(config, n_directions=1),
    "cnn": _cnn_parameters,
}
"""Of each backbone: trained values, its last norm included."""


def _encoder_parameters(config: ModelConfig, n_signals: int) -> int:
    found, channels = 0, n_signals
    for block, taps in enumerate(ENCODER_WIDTHS):
        wider = config.confounder_channels * 2**block
        found += wider * (channels * taps + 1) + 2 * wider
        channels = wider
    return found + config.d_model * config.n_states * (channels + 1)


def model_parameters(config: ModelConfig, n_signals: int, n_scalars: int, sequence: bool) -> int:
    """Trained values of a network.

    Args:
        n_signals: signals along the window, S.
        n_scalars: scalar features a gene, K.
        sequence: whether it sees DNA.
    """
    width = config.d_model
    embedding = 5 * width * sequence + (n_signals + 1) * width * (n_signals > 0)
    head = (width + n_scalars + 1) * width + (width + 1) * width + width + 1
    learns_states = config.n_states > 0 and config.states == "learned"
    states = _encoder_parameters(config, n_signals) if learns_states else 0
    return embedding + BACKBONE_PARAMETERS[config.backbone](config) + head + states


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
