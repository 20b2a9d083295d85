"""The benchmark's baseline, the published arrangement: the same outputs and gradients on a longer way."""

import copy

import torch

from benchmarks.published_arrangement import published_arrangement
from prism_ray.config import ModelConfig
from prism_ray.model import InputShape, Prism, prism_loss


def test_published_arrangement_gives_the_same_outputs_and_gradients():
    ours = Prism(ModelConfig(d_model=24, n_layers=2, n_states=2), InputShape(n_signals=2, n_scalars=0), seed=1)
    theirs = published_arrangement(copy.deepcopy(ours))
    generator = torch.Generator().manual_seed(3)
    sequence = torch.nn.functional.one_hot(torch.randint(0, 4, (2, 71), generator=generator), 4).float()
    signals = torch.rand(2, 71, 2, generator=generator)
    outputs = []
    for model in (ours, theirs):
        output = model(sequence, signals)
        torch.autograd.backward(prism_loss(output, torch.ones(2), alpha=1.0, beta=1.0).total)
        outputs.append(output)
    torch.testing.assert_close(outputs[0].plain, outputs[1].plain, rtol=0, atol=1e-5)
    torch.testing.assert_close(outputs[0].adjusted, outputs[1].adjusted, rtol=0, atol=1e-5)
    expected = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        other = expected[name].grad
        assert (parameter.grad - other).norm() <= 1e-4 * other.norm() + 1e-6, name
