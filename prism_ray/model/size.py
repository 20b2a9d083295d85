"""What a model of a config has and costs, told without building it: what a plan shows of every arm."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from prism_ray.config import ModelConfig
from prism_ray.model.interface import InputShape
from prism_ray.model.parameters import count_parameters
from prism_ray.model.prism import Prism
from prism_ray.workload import plain_multiply_adds, training_multiply_adds


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
    """Size of the model of a config at a window; takes no memory for its weights.

    Raises:
        ConfigError: background states without signals to learn them from.
    """
    with torch.device("meta"):
        n_parameters = count_parameters(Prism(config, inputs))
    plain, training = plain_multiply_adds(config, window_bp), training_multiply_adds(config, window_bp)
    return ModelSize(n_parameters, config.n_states + 1, plain, training)
