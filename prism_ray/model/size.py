"""What a model of a config has and costs, told without building it: what a plan shows of every arm."""

from __future__ import annotations

from dataclasses import dataclass

from prism_ray.config import ModelConfig
from prism_ray.model.interface import InputShape
from prism_ray.workload import model_parameters, plain_multiply_adds, training_multiply_adds


@dataclass(frozen=True)
class ModelSize:
    """Size and cost of a model.

    Attributes:
        n_parameters: trained values.
        n_copies: copies of the input that pass the backbone in training, n + 1.
        plain_multiply_adds: of the backbone for a gene, forward, plain path: one copy.
        training_multiply_adds: of the backbone for a gene in a training step, all copies, forward and backward.
    """

    n_parameters: int
    n_copies: int
    plain_multiply_adds: int
    training_multiply_adds: int


def model_size(config: ModelConfig, inputs: InputShape, window_bp: int) -> ModelSize:
    """Size of the model of a config at a window."""
    return ModelSize(
        n_parameters=model_parameters(config, inputs.n_signals, inputs.n_scalars, inputs.sequence),
        n_copies=config.n_states + 1,
        plain_multiply_adds=plain_multiply_adds(config, window_bp),
        training_multiply_adds=training_multiply_adds(config, window_bp),
    )
