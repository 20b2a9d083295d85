"""Published checkpoints of many shapes, made from models of ours, come back as the same models."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

from prism_ray.config import ModelConfig
from prism_ray.errors import CheckpointError
from prism_ray.model import InputShape, Prism
from prism_ray.model.import_official import import_official

SIGNALS = ("h3k27ac", "dnase", "hic", "ctcf")
RULES = (
    (r"sequence_layer\.(.*)", r"seq_input_layer.\1"),
    (r"signal_layer\.(.*)", r"signal_input_layer.\1"),
    (r"backbone\.norm\.weight", "caduceus.backbone.norm_f.weight"),
    (r"backbone\.blocks\.(\d+)\.norm\.weight", r"caduceus.backbone.layers.\1.norm.weight"),
    (r"state_encoder\.projection\.(.*)", r"weight_generator.weight_projector.0.\1"),
    (r"state_encoder\.convolutions\.(.*)", r"weight_generator.cnn_encoder.\1"),
    (r"head\.(.*)", r"pToExpr.\1"),
)
SIDES = {"left_to_right": "fwd", "right_to_left": "rev"}


def published(model: Prism) -> dict[str, Tensor]:
    """Weights of a model under their published names, written from the description and not from the importer."""
    named: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        block = re.fullmatch(r"backbone\.blocks\.(\d+)\.(.*)", name)
        if block is not None and not block[2].startswith("norm"):
            mixer = f"model.caduceus.backbone.layers.{block[1]}.mixer"
            side, _, part = block[2].partition(".")
            if side in SIDES:
                named[f"{mixer}.mamba_{SIDES[side]}.{part.replace('conv.', 'conv1d.')}"] = tensor
            else:
                named.update({f"{mixer}.mamba_{way}.{block[2]}": tensor.clone() for way in ("fwd", "rev")})
            continue
        (official,) = [re.sub(rule, new, name) for rule, new in RULES if re.fullmatch(rule, name)]
        named[f"model.{official}"] = tensor
    return named


def write(path: Path, weights: dict[str, Tensor]) -> Path:
    torch.save({"epoch": 1, "state_dict": weights, "hyper_parameters": {"lr": 5e-4}}, path)
    return path


@pytest.mark.parametrize("n_states", [0, 1, 2, 8])
@pytest.mark.parametrize(
    ("d_model", "n_layers", "encoder", "n_signals", "n_scalars"),
    [(8, 1, 8, 3, 9), (20, 3, 4, 1, 0), (32, 2, 1, 4, 2)],
)
def test_round_trip(
    n_states: int, d_model: int, n_layers: int, encoder: int, n_signals: int, n_scalars: int, tmp_path: Path
) -> None:
    config = ModelConfig(d_model=d_model, n_layers=n_layers, n_states=n_states, confounder_channels=encoder)
    if n_states == 0:
        config = config.model_copy(update={"confounder_channels": 8})  # of an encoder that is not there
    model = Prism(config, InputShape(n_signals, n_scalars), seed=8).eval()
    again = import_official(write(tmp_path / "a.ckpt", published(model)), signals=SIGNALS[:n_signals])
    assert (again.config, again.inputs) == (model.config, model.inputs)
    assert again.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in again.state_dict().items())


def test_unknown_missing_untied_and_misshapen_weights_are_listed_together(tmp_path: Path) -> None:
    weights = published(Prism(ModelConfig(d_model=8, n_layers=1), InputShape(3, 0), seed=8))
    mixer = "model.caduceus.backbone.layers.0.mixer"
    weights["model.extra.weight"] = torch.zeros(1)
    del weights["model.pToExpr.4.bias"]
    weights["model.pToExpr.2.weight"] = torch.zeros(3, 3)
    weights[f"{mixer}.mamba_rev.out_proj.weight"] = weights[f"{mixer}.mamba_rev.out_proj.weight"] + 1
    with pytest.raises(CheckpointError) as raised:
        import_official(write(tmp_path / "a.ckpt", weights), signals=SIGNALS[:2])
    text = str(raised.value)
    for part in (
        "model.extra.weight: is not a weight of the published model",
        "out_proj.weight: differs between mamba_fwd and mamba_rev; only tied directions are supported",
        "was trained on 3 signals, 2 names are given",
        "head.4.bias: is missing",
        "head.2.weight: has shape (3, 3); the settings expect (8, 8)",
    ):
        assert part in text, part
    assert "out_proj.weight: is missing" not in text
