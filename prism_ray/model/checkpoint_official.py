"""Names of the published implementation's weights, as ours.

The published model keeps a copy of `in_proj` and `out_proj` under each direction although both are one
parameter; ours has one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from prism_ray.errors import CheckpointError, FaultList

_FIXED = (
    (re.compile(r"seq_input_layer\.(weight|bias)"), r"sequence_layer.\1"),
    (re.compile(r"signal_input_layer\.(weight|bias)"), r"signal_layer.\1"),
    (re.compile(r"caduceus\.backbone\.norm_f\.weight"), r"backbone.norm.weight"),
    (re.compile(r"caduceus\.backbone\.layers\.(\d+)\.norm\.weight"), r"backbone.blocks.\1.norm.weight"),
    (re.compile(r"weight_generator\.weight_projector\.0\.(weight|bias)"), r"state_encoder.projection.\1"),
    (
        re.compile(r"weight_generator\.cnn_encoder\.(0|1|4|5|8|9)\.(\w+)"),
        r"state_encoder.convolutions.\1.\2",
    ),
    (re.compile(r"pToExpr\.(0|2|4)\.(weight|bias)"), r"head.\1.\2"),
)
_DIRECTION = re.compile(
    r"caduceus\.backbone\.layers\.(\d+)\.mixer\.mamba_(fwd|rev)\."
    r"(A_log|D|in_proj\.weight|conv1d\.weight|conv1d\.bias|x_proj\.weight|dt_proj\.weight|dt_proj\.bias|out_proj\.weight)"
)
_DIRECTION_NAMES = {"fwd": "left_to_right", "rev": "right_to_left"}
_SHARED = frozenset({"in_proj.weight", "out_proj.weight"})


def from_official_state_dict(weights: Mapping[str, Tensor], where: str = "state_dict") -> dict[str, Tensor]:
    """The same tensors under our names, each shared one once.

    Args:
        weights: published names, with or without Lightning's prefix `model.`.
        where: file of the weights, for messages.

    Raises:
        CheckpointError: a name that is not of the published model, or copies of a shared weight that differ or lack.
    """
    faults = FaultList()
    renamed = renamed_weights(weights, where, faults)
    faults.raise_if_any(CheckpointError)
    return renamed


def renamed_weights(weights: Mapping[str, Tensor], where: str, faults: FaultList) -> dict[str, Tensor]:
    """As `from_official_state_dict`, with what is wrong added to `faults`: only without any can the tensors be used."""
    renamed: dict[str, Tensor] = {}
    shared: dict[str, dict[str, Tensor]] = {}
    for official, tensor in weights.items():
        bare = official.removeprefix("model.")
        direction = _DIRECTION.fullmatch(bare)
        if direction is None:
            ours = _fixed_name(bare)
            if ours is None:
                faults.add(f"{where}: {official}", "is not a weight of the published model")
            else:
                renamed[ours] = tensor
        elif direction[3] in _SHARED:
            shared.setdefault(f"backbone.blocks.{direction[1]}.{direction[3]}", {})[direction[2]] = tensor
        else:
            part = direction[3].replace("conv1d", "conv")
            renamed[f"backbone.blocks.{direction[1]}.{_DIRECTION_NAMES[direction[2]]}.{part}"] = tensor
    for ours, copies in shared.items():
        renamed[ours] = next(iter(copies.values()))
        if len(copies) < 2:
            faults.add(
                f"{where}: {ours}", f"is there only for mamba_{next(iter(copies))}", "both directions keep a copy"
            )
        elif not torch.equal(copies["fwd"], copies["rev"]):
            faults.add(
                f"{where}: {ours}", "differs between mamba_fwd and mamba_rev", "only tied directions are supported"
            )
    return renamed


def _fixed_name(official: str) -> str | None:
    for pattern, ours in _FIXED:
        match = pattern.fullmatch(official)
        if match:
            return match.expand(ours)
    return None
