"""A whole training step on the GPU: against the CPU, bfloat16 against float32, and the same bits twice."""

import pytest
import torch

from prism_ray.config import ModelConfig
from prism_ray.model import InputShape, Prism, prism_loss
from prism_ray.model.graphs import graph_backbone, ungraph_backbone


def step(device, *, half=False, d_model=64, n_positions=1000):
    """Losses of one training batch, and the gradients, on the CPU."""
    config = ModelConfig(d_model=d_model, n_layers=2, n_states=2)
    model = Prism(config, InputShape(n_signals=3, n_scalars=9), seed=3).train().to(device)
    generator = torch.Generator().manual_seed(5)
    bases = torch.randint(0, 4, (4, n_positions), generator=generator)
    sequence = torch.nn.functional.one_hot(bases, 4).float().to(device)
    signals = torch.rand(4, n_positions, 3, generator=generator).to(device)
    scalars = torch.randn(4, 9, generator=generator).to(device)
    target = torch.rand(4, generator=generator).to(device)
    with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=half):
        output = model(sequence, signals, scalars)
    total = prism_loss(output, target, alpha=1.0, beta=1.0).total
    total.backward()
    gradients = {name: parameter.grad.cpu() for name, parameter in model.named_parameters()}
    return total.item(), gradients


def relative(got, expected):
    """Norm of the difference of all gradients over the norm of those expected."""
    different = sum((got[name] - expected[name]).square().sum() for name in expected)
    return (different / sum(gradient.square().sum() for gradient in expected.values())).sqrt().item()


def test_float32_equals_the_cpu_to_rounding():
    (loss, gradients), (expected, expected_gradients) = step("cuda"), step("cpu")
    assert loss == pytest.approx(expected, rel=1e-5)
    assert relative(gradients, expected_gradients) <= 1e-3


def test_bfloat16_stays_near_float32():
    (loss, gradients), (expected, expected_gradients) = step("cuda", half=True), step("cuda")
    assert loss == pytest.approx(expected, rel=2e-2)
    assert relative(gradients, expected_gradients) <= 0.1
    assert all(gradient.dtype is torch.float32 for gradient in gradients.values())


@pytest.mark.parametrize("half", [False, True])
def test_a_step_twice_gives_the_same_bits(half, monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    (loss, gradients), (again, gradients_again) = step("cuda", half=half), step("cuda", half=half)
    assert loss == again
    assert all(torch.equal(gradients[name], gradients_again[name]) for name in gradients)


@pytest.mark.parametrize("half", [False, True])
def test_graphs_give_the_bits_of_the_plain_pass(half):
    """Two passes with other inputs each: a graph must read its inputs and the weights anew."""
    backbone = Prism(ModelConfig(d_model=64, n_layers=2), InputShape(n_signals=3, n_scalars=9), seed=3).cuda().backbone
    generator = torch.Generator("cuda").manual_seed(5)
    batches = [torch.randn(4, 1000, 64, generator=generator, device="cuda") for _ in range(2)]

    def passes():
        results = []
        for batch in batches:
            backbone.zero_grad(set_to_none=True)
            leaf = batch.clone().requires_grad_()
            with torch.autocast("cuda", torch.bfloat16, enabled=half):
                hidden = backbone(leaf)
            (hidden.float() ** 2).mean().backward()
            results += [
                hidden.detach().clone(),
                leaf.grad.clone(),
                *(weight.grad.clone() for weight in backbone.parameters()),
            ]
            with torch.no_grad():
                backbone.norm.weight.mul_(1.5)
        with torch.no_grad():
            backbone.norm.weight.div_(2.25)
        return results

    expected = passes()
    graph_backbone(backbone, (4, 1000, 64), torch.bfloat16 if half else None)
    assert all(torch.equal(a, b) for a, b in zip(passes(), expected, strict=True))
    ungraph_backbone(backbone)
    assert all(torch.equal(a, b) for a, b in zip(passes(), expected, strict=True))
