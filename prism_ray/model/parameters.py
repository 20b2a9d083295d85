"""A model's parameters, counted and grouped."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

_NEVER_DECAYED = frozenset({"bias", "A_log", "D"})


def count_parameters(model: nn.Module) -> int:
    """Number of trained values; buffers such as batch-norm statistics are not among them."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """AdamW's groups: decayed parameters first, then those that the published training never decays.

    Not decayed: biases, norm layers other than RMSNorm, A_log and D.
    """
    decayed: list[nn.Parameter] = []
    kept: list[nn.Parameter] = []
    for part in model.modules():
        for name, parameter in part.named_parameters(recurse=False):
            undecayed = name in _NEVER_DECAYED or isinstance(part, (_BatchNorm, nn.LayerNorm, nn.GroupNorm))
            (kept if undecayed else decayed).append(parameter)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": kept, "weight_decay": 0.0}]
