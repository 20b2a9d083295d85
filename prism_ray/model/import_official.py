"""A checkpoint of the published implementation as a model of ours.

The shapes of its weights tell the network's sizes; what they do not tell is given, with the published defaults.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import ValidationError
from torch import Tensor

from prism_ray.config import ModelConfig
from prism_ray.documents import faults_of
from prism_ray.errors import CheckpointError, FaultList
from prism_ray.model.checkpoint import weight_faults
from prism_ray.model.checkpoint_official import renamed_weights
from prism_ray.model.interface import InputShape, TrainedOn
from prism_ray.model.prism import Prism

PUBLISHED_SCALARS = (
    "utr5_len",
    "cds_len",
    "intron_len",
    "utr3_len",
    "utr5_gc",
    "cds_gc",
    "utr3_gc",
    "orf_exon_density",
    "promoter_activity",
)
"""Names of the nine scalar features in the order of the published benchmark's description (arXiv 2602.21550)."""

_BLOCK = re.compile(r"backbone\.blocks\.(\d+)\.")
_NEEDED = {
    "backbone.norm.weight": 1,
    "head.0.weight": 2,
    "backbone.blocks.0.left_to_right.A_log": 2,
    "backbone.blocks.0.left_to_right.conv.weight": 3,
}
"""Weights whose shapes tell sizes, and how many dimensions they have."""
_SIZED = _NEEDED | {"signal_layer.weight": 2, "state_encoder.projection.weight": 2}
"""The same with those that not every network has."""


def import_official(
    path: Path,
    *,
    signals: tuple[str, ...],
    centre_bp: int = 2000,
    weight_activation: Literal["sigmoid", "softmax"] = "sigmoid",
    average: Literal["hidden", "prediction"] = "hidden",
) -> Prism:
    """The model of a published checkpoint, in evaluation mode, with `trained_on` set.

    Args:
        path: Lightning checkpoint, a mapping with the weights under `state_dict`. No code in it is run.
        signals: names of the signals in the order of the input channels.
        centre_bp: positions around the TSS that the head averages over.
        weight_activation: what turned the encoder's output into the weights of the states.
        average: what its adjusted path averaged.

    Raises:
        CheckpointError: the file cannot be read, holds unknown weights or lacks some, or has another number of signals.
    """
    faults = FaultList()
    weights = renamed_weights(_state_dict(path), str(path), faults)
    if not _tell_sizes(weights, path, faults):
        faults.raise_if_any(CheckpointError)
    inputs = _inputs(weights)
    if len(signals) != inputs.n_signals:
        faults.add(
            str(path),
            f"was trained on {inputs.n_signals} signals, {len(signals)} names are given ({', '.join(signals)})",
            "name them all in the order of its input channels with --signals",
        )
    sizes = _config(weights, path, faults)
    if sizes is None:
        faults.raise_if_any(CheckpointError)
    assert sizes is not None
    config = sizes.model_copy(
        update={"centre_bp": centre_bp, "weight_activation": weight_activation, "average": average}
    )
    model = Prism(config, inputs, seed=0)
    faults.extend(weight_faults(model, weights, str(path)))
    faults.raise_if_any(CheckpointError)
    model.load_state_dict(weights)
    model.trained_on = TrainedOn(signals=signals, scalars=_scalar_names(inputs.n_scalars))
    return model.eval()


def _state_dict(path: Path) -> dict[str, Tensor]:
    faults = FaultList()
    content: Any = None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        faults.add(str(path), "no such file", "give a checkpoint of the published implementation")
    except Exception as problem:  # noqa: BLE001  (a damaged pickle asks for what is not there, whatever that raises)
        reason = (str(problem).strip() or type(problem).__name__).splitlines()[0]
        faults.add(str(path), f"cannot be read as tensors and plain values ({reason})", "export its state_dict alone")
    faults.raise_if_any(CheckpointError)
    weights = content.get("state_dict") if isinstance(content, Mapping) else None
    if not isinstance(weights, Mapping) or not all(map(_is_weight, weights.items())):
        faults.add(str(path), "has no state_dict of tensors by name", "give a Lightning checkpoint")
    faults.raise_if_any(CheckpointError)
    return dict(weights or {})


def _is_weight(entry: tuple[object, object]) -> bool:
    name, value = entry
    return isinstance(name, str) and isinstance(value, Tensor)


def _tell_sizes(weights: Mapping[str, Tensor], path: Path, faults: FaultList) -> bool:
    """Whether the weights that tell sizes are there, of as many dimensions as they have in the published model."""
    n_before = len(faults.faults)
    for name in _NEEDED:
        if name not in weights:
            faults.add(f"{path}: {name}", "is missing", "this is not a checkpoint of the published model")
    for name in _SIZED.keys() & weights.keys():
        shape = tuple(weights[name].shape)
        if len(shape) != _SIZED[name] or 0 in shape:
            fix = f"the published model has {_SIZED[name]} sizes of at least 1 here"
            faults.add(f"{path}: {name}", f"has shape {shape}", fix)
    return len(faults.faults) == n_before


def _inputs(weights: Mapping[str, Tensor]) -> InputShape:
    signal = weights.get("signal_layer.weight")
    n_channels = weights["backbone.norm.weight"].shape[0]
    return InputShape(
        n_signals=signal.shape[1] if signal is not None else 0,
        n_scalars=weights["head.0.weight"].shape[1] - n_channels,
        sequence="sequence_layer.weight" in weights,
    )


def _config(weights: Mapping[str, Tensor], path: Path, faults: FaultList) -> ModelConfig | None:
    """The network's sizes; None, with the faults, where they are of no network: then weights have other shapes."""
    d_model = weights["backbone.norm.weight"].shape[0]
    a_log = weights["backbone.blocks.0.left_to_right.A_log"]
    blocks = {match[1] for name in weights if (match := _BLOCK.match(name)) is not None}
    projection = weights.get("state_encoder.projection.weight")
    try:
        config = ModelConfig(
            d_model=d_model,
            n_layers=len(blocks),
            d_state=a_log.shape[1],
            d_conv=weights["backbone.blocks.0.left_to_right.conv.weight"].shape[-1],
            expand=a_log.shape[0] // d_model,
            n_states=projection.shape[0] // d_model if projection is not None else 0,
        )
    except ValidationError as problem:
        faults.extend(faults_of(problem, ModelConfig, lambda place: f"{path}: {'.'.join(map(str, place))}"))
        return None
    if projection is None:
        return config
    return config.model_copy(update={"confounder_channels": projection.shape[1] // 4})


def _scalar_names(n_scalars: int) -> tuple[str, ...]:
    """Published names where there are nine; numbers otherwise, since a checkpoint does not name them."""
    if n_scalars == len(PUBLISHED_SCALARS):
        return PUBLISHED_SCALARS
    return tuple(f"scalar_{number}" for number in range(1, n_scalars + 1))
