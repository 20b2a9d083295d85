"""Published parameter counts, initialisation, and the optimiser's groups."""

import math

import pytest
import torch

from prism_ray.config import ModelConfig
from prism_ray.model import InputShape, Prism, count_parameters, parameter_groups

PUBLISHED_INPUTS = InputShape(n_signals=3, n_scalars=9)


@pytest.fixture(scope="module")
def published() -> Prism:
    return Prism(ModelConfig(), PUBLISHED_INPUTS, seed=2)


@pytest.mark.parametrize(("n_states", "expected"), [(1, 6_736), (2, 10_960), (4, 19_408), (8, 36_304)])
def test_encoder_of_states(n_states, expected):
    model = Prism(ModelConfig(n_states=n_states), PUBLISHED_INPUTS)
    assert count_parameters(model.state_encoder) == expected
    assert count_parameters(model) == 574_721 + expected


def test_parts_of_the_published_model(published):
    assert [count_parameters(block) for block in published.backbone.blocks] == [134_784] * 4
    assert count_parameters(published.backbone) == 539_264
    assert count_parameters(published.head) == 34_305
    assert count_parameters(published.sequence_layer) == 640
    assert count_parameters(published.signal_layer) == 512
    assert count_parameters(published) == 585_681


def test_model_without_states():
    model = Prism(ModelConfig(n_states=0), PUBLISHED_INPUTS)
    assert model.state_encoder is None
    assert count_parameters(model) == 574_721


def directions(model):
    for block in model.backbone.blocks:
        yield block.left_to_right
        yield block.right_to_left


def test_state_rates_and_skips_at_the_start(published):
    for direction in directions(published):
        expected = torch.log(torch.arange(1.0, 17.0)).expand(256, 16)
        assert torch.equal(direction.A_log, expected)
        assert torch.equal(direction.D, torch.ones(256))


def test_step_sizes_are_log_uniform_between_their_bounds(published):
    steps = torch.cat([torch.nn.functional.softplus(d.dt_proj.bias.double()) for d in directions(published)])
    assert steps.min() >= 1e-3 * (1 - 1e-4)
    assert steps.max() <= 1e-1 * (1 + 1e-4)
    # log10 of the step is uniform on [-3, -1]: mean -2, standard deviation 2 / sqrt(12).
    assert torch.log10(steps).mean().item() == pytest.approx(-2, abs=0.05)
    assert torch.log10(steps).std().item() == pytest.approx(2 / math.sqrt(12), abs=0.03)


def test_step_weights_are_uniform_within_the_ranks_root(published):
    bound = 8**-0.5
    weights = torch.cat([d.dt_proj.weight.flatten() for d in directions(published)])
    assert 0.99 * bound < weights.abs().max() <= bound
    assert weights.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.03)


@pytest.mark.parametrize("n_layers", [1, 4, 9])
def test_output_projections_shrink_with_depth(n_layers):
    model = Prism(ModelConfig(n_layers=n_layers, d_model=64), PUBLISHED_INPUTS, seed=2)
    bound = 1 / math.sqrt(128) / math.sqrt(n_layers)  # kaiming uniform with a = sqrt 5 is 1 / sqrt(fan in)
    for block in model.backbone.blocks:
        assert 0.98 * bound < block.out_proj.weight.abs().max() <= bound
        assert block.in_proj.bias is None
        assert block.out_proj.bias is None
        assert torch.equal(block.norm.weight, torch.ones(64))


def test_groups_cover_every_parameter_once(published):
    decayed, kept = parameter_groups(published, 1e-6)
    assert decayed["weight_decay"] == 1e-6
    assert kept["weight_decay"] == 0.0
    names = {id(parameter): name for name, parameter in published.named_parameters()}
    grouped = [names[id(parameter)] for group in (decayed, kept) for parameter in group["params"]]
    assert sorted(grouped) == sorted(names.values())


def test_groups_leave_out_biases_batch_norms_rates_and_skips(published):
    decayed, kept = parameter_groups(published, 1e-6)
    names = {id(parameter): name for name, parameter in published.named_parameters()}
    undecayed = {names[id(parameter)] for parameter in kept["params"]}
    block = "backbone.blocks.0"
    assert {f"{block}.left_to_right.{part}" for part in ("A_log", "D", "conv.bias", "dt_proj.bias")} <= undecayed
    assert {"head.0.bias", "signal_layer.bias", "state_encoder.convolutions.1.weight"} <= undecayed
    expected = {f"{block}.norm.weight", "backbone.norm.weight", "head.0.weight", f"{block}.left_to_right.conv.weight"}
    assert expected <= {names[id(parameter)] for parameter in decayed["params"]}
