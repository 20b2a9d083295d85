"""Published weight names become ours."""

import pytest
import torch

from prism_ray.config import ModelConfig
from prism_ray.errors import CheckpointError
from prism_ray.model import InputShape, Prism
from prism_ray.model.checkpoint_official import from_official_state_dict


def official_weights(d=16, n_layers=2, n_states=2, n_signals=3, n_scalars=9, c=8):
    """Random weights in the published layout, written from its description."""
    generator = torch.Generator().manual_seed(0)
    rank = -(-d // 16)

    def normal(*shape):
        return torch.randn(*shape, generator=generator)

    weights = {
        "seq_input_layer.weight": normal(d, 4),
        "seq_input_layer.bias": normal(d),
        "signal_input_layer.weight": normal(d, n_signals),
        "signal_input_layer.bias": normal(d),
        "caduceus.backbone.norm_f.weight": normal(d),
        "weight_generator.weight_projector.0.weight": normal(d * n_states, 4 * c),
        "weight_generator.weight_projector.0.bias": normal(d * n_states),
    }
    for place, before, after in ((0, d + n_scalars, d), (2, d, d), (4, d, 1)):
        weights[f"pToExpr.{place}.weight"], weights[f"pToExpr.{place}.bias"] = normal(after, before), normal(after)
    for place, before, after, width in ((0, n_signals, c, 7), (4, c, 2 * c, 5), (8, 2 * c, 4 * c, 3)):
        prefix = "weight_generator.cnn_encoder"
        weights[f"{prefix}.{place}.weight"] = normal(after, before, width)
        weights[f"{prefix}.{place}.bias"] = normal(after)
        for name in ("weight", "bias", "running_mean", "running_var"):
            weights[f"{prefix}.{place + 1}.{name}"] = normal(after)
        weights[f"{prefix}.{place + 1}.num_batches_tracked"] = torch.tensor(3)
    for layer in range(n_layers):
        prefix = f"caduceus.backbone.layers.{layer}"
        weights[f"{prefix}.norm.weight"] = normal(d)
        shared = {"in_proj.weight": normal(4 * d, d), "out_proj.weight": normal(d, 2 * d)}
        for direction in ("fwd", "rev"):
            own = {
                "A_log": normal(2 * d, 16),
                "D": normal(2 * d),
                "conv1d.weight": normal(2 * d, 1, 4),
                "conv1d.bias": normal(2 * d),
                "x_proj.weight": normal(rank + 32, 2 * d),
                "dt_proj.weight": normal(2 * d, rank),
                "dt_proj.bias": normal(2 * d),
            }
            for name, value in {**own, **shared}.items():
                weights[f"{prefix}.mixer.mamba_{direction}.{name}"] = value.clone()
    return weights


@pytest.mark.parametrize("prefix", ["", "model."])
def test_every_weight_finds_its_place(prefix):
    official = {f"{prefix}{name}": value for name, value in official_weights().items()}
    ours = from_official_state_dict(official)
    model = Prism(ModelConfig(d_model=16, n_layers=2), InputShape(3, 9))
    assert ours.keys() == model.state_dict().keys()
    model.load_state_dict(ours)
    mixer = f"{prefix}caduceus.backbone.layers.1.mixer"
    block = model.backbone.blocks[1]
    assert torch.equal(block.right_to_left.A_log, official[f"{mixer}.mamba_rev.A_log"])
    assert torch.equal(block.left_to_right.conv.weight, official[f"{mixer}.mamba_fwd.conv1d.weight"])
    assert torch.equal(block.in_proj.weight, official[f"{mixer}.mamba_rev.in_proj.weight"])


def test_faults_are_reported_together():
    official = official_weights()
    layer = "caduceus.backbone.layers.0.mixer"
    official[f"{layer}.mamba_rev.in_proj.weight"][0, 0] += 1
    del official[f"{layer}.mamba_fwd.out_proj.weight"]
    official["caduceus.backbone.embeddings.weight"] = torch.zeros(1)
    with pytest.raises(CheckpointError) as raised:
        from_official_state_dict(official, "prism.ckpt")
    text = str(raised.value)
    assert len(raised.value.faults) == 3
    assert "prism.ckpt: backbone.blocks.0.in_proj.weight: differs between mamba_fwd and mamba_rev" in text
    assert "prism.ckpt: backbone.blocks.0.out_proj.weight: is there only for mamba_rev" in text
    assert "prism.ckpt: caduceus.backbone.embeddings.weight: is not a weight of the published model" in text
