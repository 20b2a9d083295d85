"""What a run costs by its settings alone: trained values, multiply-adds of its backbone, how they grow.

Of multiply-adds, norms, activations, the encoder of states and the head are left out: they are small beside the
backbone. Knows settings and no network, so that who plans or submits a study says which trial is the largest, and how
large its model, without PyTorch, which takes seconds to load.

Legend: S signals, K scalars, D channels, E inner channels, n background states.
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


def _direction_values(config: ModelConfig) -> int:
    inner, rank = config.expand * config.d_model, math.ceil(config.d_model / 16)
    # Convolution with its bias, projection to step size, B and C, step size with its bias, A, D.
    return inner * (config.d_conv + 1 + (rank + 2 * config.d_state) + rank + 1 + config.d_state + 1)


def _mamba_values(config: ModelConfig, n_directions: int) -> int:
    norm, projections = config.d_model, 3 * config.d_model * config.expand * config.d_model
    return config.n_layers * (norm + projections + n_directions * _direction_values(config))


def _cnn_values(config: ModelConfig) -> int:
    width, inner = config.d_model, config.expand * config.d_model
    return config.n_layers * (width + inner * (width * config.cnn_width + 1) + width * (inner + 1))


BLOCK_VALUES: Mapping[str, Callable[[ModelConfig], int]] = {
    "caduceus": lambda config: _mamba_values(config, n_directions=2),
    "mamba": lambda config: _mamba_values(config, n_directions=1),
    "cnn": _cnn_values,
}
"""Of each backbone: trained values of its blocks, without the norm after the last of them."""

ENCODER_KERNEL_WIDTHS = (7, 5, 3)
"""Of the convolutions of the encoder of background states, each with twice the channels of the one before."""


def n_parameters(config: ModelConfig, n_signals: int, n_scalars: int, *, sequence: bool) -> int:
    """Trained values of a model.

    Args:
        n_signals: S, at least 1 where there are background states.
        n_scalars: K.
        sequence: whether it sees DNA.
    """
    width = config.d_model
    embeddings = (5 * width if sequence else 0) + ((n_signals + 1) * width if n_signals else 0)
    head = (width + n_scalars + 1) * width + (width + 1) * width + width + 1
    return embeddings + BLOCK_VALUES[config.backbone](config) + width + head + _encoder_values(config, n_signals)


def _encoder_values(config: ModelConfig, n_signals: int) -> int:
    """Trained values of what the weights of background states come from; only a learned source has any."""
    if config.n_states == 0 or config.states != "learned":
        return 0
    values, channels = 0, n_signals
    for block, kernel in enumerate(ENCODER_KERNEL_WIDTHS):
        wider = config.confounder_channels * 2**block
        values += wider * (channels * kernel + 1) + 2 * wider  # the latter of its batch norm
        channels = wider
    return values + (channels + 1) * config.d_model * config.n_states


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
