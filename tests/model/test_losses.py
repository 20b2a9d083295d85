"""The losses, worked out by hand, and the independence of alpha and beta."""

import math

import pytest
import torch

from prism_ray.config import ModelConfig
from prism_ray.errors import InputError
from prism_ray.model import InputShape, Output, Prism, prism_loss
from prism_ray.model.losses import state_diversity


def test_smooth_l1_by_hand():
    """0.5 e^2 below 1, |e| - 0.5 above, mean over genes."""
    output = Output(torch.tensor([0.5, 3.0]), torch.tensor([0.0, 1.0]), None)
    losses = prism_loss(output, torch.tensor([0.0, 1.0]), alpha=2.0, beta=5.0)
    assert losses.prediction.item() == pytest.approx((0.125 + 1.5) / 2)
    assert losses.adjustment.item() == 0
    assert losses.diversity.item() == 0
    assert losses.total.item() == pytest.approx((0.125 + 1.5) / 2)


def test_diversity_of_orthogonal_and_equal_states():
    orthogonal = 3.0 * torch.eye(4)[:, :2].expand(5, 4, 2)  # length does not matter
    equal = torch.ones(5, 4, 2)
    assert state_diversity(orthogonal).item() == pytest.approx(math.log(2 + 2 * math.exp(-4)), rel=1e-6)
    assert state_diversity(equal).item() == pytest.approx(math.log(4), rel=1e-6)


def test_diversity_written_out():
    states = torch.rand(3, 6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = 0.0
    for gene in states:
        total = 0.0
        for i in range(4):
            for j in range(4):
                cosine = gene[:, i] @ gene[:, j] / (gene[:, i].norm() * gene[:, j].norm())
                total += math.exp(4 * float(cosine) - 4)
        expected += math.log(total) / 3
    assert state_diversity(states).item() == pytest.approx(expected, rel=1e-7)


def test_states_of_zeros_have_a_finite_gradient_of_diversity():
    states = torch.zeros(1, 4, 2, requires_grad=True)
    torch.autograd.backward(state_diversity(states))
    assert torch.isfinite(states.grad).all()


def test_one_state_has_no_diversity():
    output = Output(torch.zeros(2), torch.zeros(2), torch.rand(2, 8, 1))
    assert prism_loss(output, torch.ones(2), 1.0, 1.0).diversity.item() == 0


def gradients(n_states, alpha, beta):
    """Losses, and gradients by parameter name, of one batch."""
    model = Prism(ModelConfig(d_model=8, n_layers=1, n_states=n_states), InputShape(2, 0), seed=1)
    generator = torch.Generator().manual_seed(2)
    sequence = torch.nn.functional.one_hot(torch.randint(0, 4, (3, 64), generator=generator), 4).float()
    signals = torch.rand(3, 64, 2, generator=generator)
    losses = prism_loss(model(sequence, signals), torch.tensor([1.0, 2.0, 3.0]), alpha, beta)
    losses.total.backward()
    return losses, {name: parameter.grad for name, parameter in model.named_parameters()}


def test_alpha_and_beta_weigh_one_loss_each():
    full, _ = gradients(2, 1.0, 1.0)
    for alpha, beta in ((0.0, 1.0), (1.0, 0.0), (0.5, 3.0)):
        losses, _ = gradients(2, alpha, beta)
        assert losses.prediction.item() == full.prediction.item()
        assert losses.adjustment.item() == full.adjustment.item()
        assert losses.diversity.item() == full.diversity.item()
        expected = full.prediction + alpha * full.adjustment + beta * full.diversity
        assert losses.total.item() == pytest.approx(expected.item(), rel=1e-6)


def test_gradients_are_the_weighted_sum_of_the_losses_own():
    _, plain = gradients(2, 0.0, 0.0)
    _, with_alpha = gradients(2, 1.0, 0.0)
    _, with_beta = gradients(2, 0.0, 1.0)
    _, mixed = gradients(2, 0.5, 3.0)
    for name, gradient in mixed.items():
        adjustment, diversity = with_alpha[name] - plain[name], with_beta[name] - plain[name]
        expected = plain[name] + 0.5 * adjustment + 3.0 * diversity
        torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-6)


def test_without_alpha_the_encoder_learns_from_diversity_alone():
    _, without_alpha = gradients(2, 0.0, 1.0)
    _, without_either = gradients(2, 0.0, 0.0)
    name = "state_encoder.projection.weight"
    assert without_alpha[name].norm() > 0
    assert without_either[name].norm() == 0
    assert all(
        torch.equal(without_alpha[key], without_either[key]) for key in without_either if "state_encoder" not in key
    )


def test_without_states_only_the_prediction_counts():
    losses, found = gradients(0, 1.0, 1.0)
    assert losses.total.item() == losses.prediction.item()
    assert not any("state_encoder" in name for name in found)


def test_wrong_outputs_and_targets_are_refused():
    with pytest.raises(InputError, match=r"target: has shape \(3, 1\); expected \(3,\), one label a gene"):
        prism_loss(Output(torch.zeros(3), None, None), torch.zeros(3, 1), 1.0, 1.0)
    with pytest.raises(InputError, match=r"output\.plain: was not computed; call the model with paths='both'"):
        prism_loss(Output(None, torch.zeros(3), torch.zeros(3, 8, 2)), torch.zeros(3), 1.0, 1.0)
    with pytest.raises(InputError, match=r"output\.adjusted: was not computed"):
        prism_loss(Output(torch.zeros(3), None, torch.zeros(3, 8, 2)), torch.zeros(3), 1.0, 1.0)
