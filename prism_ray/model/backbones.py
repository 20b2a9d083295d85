"""The backbones that `model.backbone` chooses from.

A backbone is a module with one method: `forward` takes hidden states (B, L, D) and gives hidden states (B, L, D). To
add one, write that class, and give it a name here, in `ModelConfig.backbone` and, with its trained values and its
cost a position, in `prism_ray.workload`.

Legend: B genes (times copies), L positions in bp, D channels.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from prism_ray.config import ModelConfig
from prism_ray.model.backbone import Caduceus
from prism_ray.model.backbone_cnn import DilatedCnn
from prism_ray.model.backbone_mamba import Mamba

BACKBONES: dict[str, Callable[[ModelConfig], nn.Module]] = {
    "caduceus": Caduceus,
    "mamba": Mamba,
    "cnn": DilatedCnn,
}
"""Every backbone by its name in a config: makes the module of a config, whose `forward` maps (B, L, D) to (B, L, D)."""


def build_backbone(config: ModelConfig) -> nn.Module:
    """The backbone that a config names, drawn from PyTorch's generator."""
    return BACKBONES[config.backbone](config)
