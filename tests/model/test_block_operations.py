"""Convolution with SiLU, and the gate: reference against the formula, compiled kernel against the reference."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prism_ray.errors import InputError
from prism_ray.model.scan import causal_conv_silu, gated_sum


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gradients_of(operation, tensors, kernel, dtype):
    """Output and gradients for a fixed gradient of the output."""
    leaves = [tensor.detach().to(dtype, copy=True).requires_grad_() for tensor in tensors]
    y = operation(*leaves, kernel=kernel)
    weights = torch.cos(torch.arange(y.numel(), dtype=torch.float64)).reshape(y.shape).to(dtype)
    (y * weights).sum().backward()
    return [y.detach(), *(leaf.grad for leaf in leaves)]


def assert_kernels_agree(operation, tensors):
    exact = gradients_of(operation, tensors, "reference", torch.float64)
    fast = gradients_of(operation, tensors, "numba", torch.float32)
    for got, expected in zip(fast, exact, strict=True):
        assert got.shape == expected.shape
        assert (got.double() - expected).abs().max() <= 3e-6 * max(1.0, expected.abs().max().item())


def silu(value):
    return value / (1.0 + math.exp(-value))


@pytest.mark.parametrize("kernel", ["reference", "numba"])
@pytest.mark.parametrize("reverse", [False, True])
def test_convolution_written_out(reverse, kernel):
    x, weight, bias = draw(2, 9, 3), draw(3, 4, seed=1), draw(3, seed=2)
    expected = np.zeros((2, 9, 3))
    for gene in range(2):
        for t in range(9):
            for e in range(3):
                total = float(bias[e])
                for k in range(4):
                    distance = 3 - k  # the last tap sits on the position itself
                    seen = t + distance if reverse else t - distance
                    if 0 <= seen < 9:
                        total += float(weight[e, k] * x[gene, seen, e])
                expected[gene, t, e] = silu(total)
    dtype = torch.float64 if kernel == "reference" else torch.float32
    got = causal_conv_silu(x.to(dtype), weight.to(dtype), bias.to(dtype), reverse=reverse, kernel=kernel)
    np.testing.assert_allclose(got.numpy(), expected, atol=1e-6)


@settings(max_examples=30, derandomize=True)
@given(
    n_genes=st.integers(1, 3),
    n_positions=st.integers(1, 70),
    n_channels=st.integers(1, 40),
    width=st.integers(1, 5),
    reverse=st.booleans(),
)
def test_compiled_convolution_agrees(n_genes, n_positions, n_channels, width, reverse):
    tensors = [draw(n_genes, n_positions, n_channels), draw(n_channels, width, seed=1), draw(n_channels, seed=2)]

    def operation(*given, kernel):
        return causal_conv_silu(*given, reverse=reverse, kernel=kernel)

    assert_kernels_agree(operation, tensors)


def test_gate_is_the_formula():
    forward, backward, z = draw(1, 2, 3), draw(1, 2, 3, seed=1), draw(1, 2, 3, seed=2)
    expected = [(f + b) * silu(g) for f, b, g in zip(forward.flatten(), backward.flatten(), z.flatten(), strict=True)]
    got = gated_sum(forward.float(), backward.float(), z.float(), kernel="numba")
    np.testing.assert_allclose(got.flatten().numpy(), np.array(expected), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 5, 16), (3, 7, 19)])
def test_compiled_gate_agrees(shape):
    assert_kernels_agree(gated_sum, [draw(*shape), draw(*shape, seed=1), 5 * draw(*shape, seed=2)])


def test_far_from_zero_nothing_overflows():
    z = torch.tensor([[[-1000.0, -88.0, 0.0, 88.0, 1000.0]]])
    one = torch.ones_like(z)
    got = gated_sum(one, torch.zeros_like(z), z, kernel="numba")
    torch.testing.assert_close(got, torch.nn.functional.silu(z), rtol=1e-6, atol=1e-30)


def test_convolution_does_not_depend_on_the_number_of_threads():
    tensors = [draw(3, 300, 100), draw(100, 4, seed=1), draw(100, seed=2)]
    before = torch.get_num_threads()
    results = []
    try:
        for n_threads in (1, 3):
            torch.set_num_threads(n_threads)
            results.append(gradients_of(causal_conv_silu, tensors, "numba", torch.float32))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_wrong_shapes_are_refused():
    with pytest.raises(InputError, match=r"weight: has shape \(3, 4\); expected \(5, 4\)"):
        causal_conv_silu(draw(2, 9, 5), draw(3, 4), draw(5))
    with pytest.raises(InputError, match=r"z: has shape \(1, 2, 4\); expected \(1, 2, 3\)"):
        gated_sum(draw(1, 2, 3), draw(1, 2, 3), draw(1, 2, 4))
