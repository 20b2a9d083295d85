"""The selective scan: reference against the recurrence written out, compiled kernel against the reference."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prism_ray.errors import InputError
from prism_ray.model import available_kernels, selective_scan
from prism_ray.model.scan import projected_scan
from prism_ray.model.scan.scan_kernels import CHUNK

VALUE_TOLERANCE = 2e-6
GRADIENT_TOLERANCE = 1e-5


def make_inputs(n_genes=2, n_positions=50, n_channels=20, n_state=5, seed=0, delta_mean=-2.0):
    """u, delta, A, B, C, D, delta_bias in float64."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    along = (n_genes, n_positions)
    return [
        normal(*along, n_channels),
        normal(*along, n_channels) + delta_mean,
        -torch.exp(normal(n_channels, n_state)),
        normal(*along, n_state),
        normal(*along, n_state),
        normal(n_channels),
        0.3 * normal(n_channels),
    ]


def run(inputs, kernel, dtype, *, reverse=False):
    """y and the gradients of every input for a fixed gradient of y."""
    *tensors, bias = (tensor.detach().to(dtype, copy=True).requires_grad_() for tensor in inputs)
    y = selective_scan(*tensors, delta_bias=bias, reverse=reverse, kernel=kernel)
    weights = torch.cos(torch.arange(y.numel(), dtype=torch.float64)).reshape(y.shape)
    (y * weights.to(y.dtype)).sum().backward()
    return y.detach(), [tensor.grad for tensor in (*tensors, bias)]


def assert_kernels_agree(inputs, *, reverse=False, kernel="numba"):
    exact, exact_gradients = run(inputs, "reference", torch.float64, reverse=reverse)
    fast, gradients = run(inputs, kernel, torch.float32, reverse=reverse)
    assert difference(fast, exact) <= VALUE_TOLERANCE
    names = ("u", "delta", "A", "B", "C", "D", "delta_bias")
    for name, got, expected in zip(names, gradients, exact_gradients, strict=True):
        assert difference(got, expected) <= GRADIENT_TOLERANCE, name


def difference(got, expected):
    """Largest difference over the largest expected value."""
    assert got.shape == expected.shape
    scale = expected.abs().max().item()
    return (got.double() - expected).abs().max().item() / (scale if scale > 1e-30 else 1.0)


@pytest.mark.parametrize("reverse", [False, True])
def test_reference_is_the_recurrence_written_out(reverse):
    u, delta, A, B, C, D, bias = (tensor.numpy() for tensor in make_inputs(2, 7, 3, 4))
    expected = np.zeros_like(u)
    for gene in range(2):
        for e in range(3):
            h = np.zeros(4)
            for t in reversed(range(7)) if reverse else range(7):
                step = math.log1p(math.exp(delta[gene, t, e] + bias[e]))
                for n in range(4):
                    h[n] = math.exp(step * A[e, n]) * h[n] + step * u[gene, t, e] * B[gene, t, n]
                expected[gene, t, e] = float(C[gene, t] @ h) + D[e] * u[gene, t, e]
    *tensors, bias_tensor = make_inputs(2, 7, 3, 4)
    got = selective_scan(*tensors, delta_bias=bias_tensor, reverse=reverse, kernel="reference")
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-12, atol=1e-12)


def test_reference_gradients_pass_a_numerical_check():
    inputs = [tensor.requires_grad_() for tensor in make_inputs(1, 4, 2, 2)]

    def scan(*tensors):
        return selective_scan(*tensors[:-1], delta_bias=tensors[-1], reverse=True)

    assert torch.autograd.gradcheck(scan, inputs)


@settings(max_examples=30, derandomize=True)
@given(
    n_genes=st.integers(1, 3),
    n_positions=st.integers(1, 2 * CHUNK + 3),
    n_channels=st.integers(1, 40),
    n_state=st.integers(1, 17),
    reverse=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_compiled_kernel_agrees_with_the_reference(n_genes, n_positions, n_channels, n_state, reverse, seed):
    assert_kernels_agree(make_inputs(n_genes, n_positions, n_channels, n_state, seed), reverse=reverse)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(
    ("n_genes", "n_positions", "n_channels", "n_state"),
    [
        (1, 1, 16, 16),
        (1, CHUNK, 16, 1),
        (1, CHUNK + 1, 256, 16),
        (3, 501, 32, 16),
        (40, 33, 17, 3),
    ],
)
def test_compiled_kernel_agrees_at_the_edges(n_genes, n_positions, n_channels, n_state, reverse):
    assert_kernels_agree(make_inputs(n_genes, n_positions, n_channels, n_state), reverse=reverse)


def test_a_long_memory_adds_up_no_error():
    """Decays of nearly 1 over 2,000 positions: a relative error of the exponential would add up."""
    inputs = make_inputs(1, 2000, 16, 2, delta_mean=-9.0)
    inputs[2] = -0.01 * torch.ones_like(inputs[2])
    assert_kernels_agree(inputs)


@pytest.mark.parametrize("delta_mean", [20.0, 80.0, -60.0])
def test_steps_of_any_size(delta_mean):
    """Decays that underflow, and steps that vanish."""
    inputs = make_inputs(2, 70, 16, 16, delta_mean=delta_mean)
    assert_kernels_agree(inputs)


def test_reverse_is_the_scan_of_the_flipped_window():
    u, delta, A, B, C, D, bias = (tensor.float() for tensor in make_inputs(2, 77, 24, 8))
    there = selective_scan(u, delta, A, B, C, D, delta_bias=bias, reverse=True)
    u, delta, B, C = (tensor.flip(1) for tensor in (u, delta, B, C))
    back = selective_scan(u, delta, A, B, C, D, delta_bias=bias).flip(1)
    assert torch.equal(there, back)


@pytest.mark.parametrize("n_genes", [1, 5])
def test_no_result_depends_on_the_number_of_threads(n_genes):
    inputs = make_inputs(n_genes, 200, 100, 16)
    before = torch.get_num_threads()
    results = []
    try:
        for n_threads in (1, 2, 3):
            torch.set_num_threads(n_threads)
            y, gradients = run(inputs, "numba", torch.float32)
            results.append([y, *gradients])
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_half_precision_is_computed_in_float32():
    inputs = [tensor.to(torch.bfloat16) for tensor in make_inputs(2, 60, 16, 4)]
    y, gradients = run(inputs, "auto", torch.bfloat16)
    exact, _ = run([tensor.double() for tensor in inputs], "reference", torch.float64)
    assert y.dtype is torch.float32
    assert difference(y, exact) <= VALUE_TOLERANCE
    assert {gradient.dtype for gradient in gradients} == {torch.bfloat16}


def test_inputs_that_are_not_contiguous():
    inputs = make_inputs(2, 40, 16, 4)
    inputs[0] = inputs[0].transpose(1, 2).contiguous().transpose(1, 2)
    inputs[3], inputs[4] = torch.cat([inputs[3], inputs[4]], dim=-1).split([4, 4], dim=-1)
    assert_kernels_agree(inputs)


def test_not_a_number_is_passed_on():
    *tensors, bias = (tensor.float() for tensor in make_inputs(1, 40, 16, 4))
    tensors[0][0, 10, 3] = math.nan
    y = selective_scan(*tensors, delta_bias=bias)
    assert torch.isnan(y[0, 10:, 3]).all()
    assert not torch.isnan(y[0, :10]).any()


def test_without_gradients_nothing_is_kept():
    *tensors, bias = (tensor.float() for tensor in make_inputs())
    with torch.no_grad():
        quiet = selective_scan(*tensors, delta_bias=bias.requires_grad_())
    assert quiet.grad_fn is None
    assert torch.equal(quiet, selective_scan(*tensors, delta_bias=bias).detach())


def test_auto_takes_the_compiled_kernel_for_float32_and_the_reference_for_float64():
    assert [kernel.name for kernel in available_kernels()] == ["numba", "reference"]
    assert [kernel.name for kernel in available_kernels(dtype=torch.float64)] == ["reference"]
    assert [kernel.name for kernel in available_kernels("meta")] == ["reference"]


def test_wrong_shapes_are_reported_together():
    u, delta, A, B, C, D, bias = make_inputs(2, 50, 20, 5)
    with pytest.raises(InputError) as raised:
        selective_scan(u, delta[:, :-1], A, B, C[..., :-1], D, delta_bias=bias)
    assert len(raised.value.faults) == 2
    assert "delta: has shape (2, 49, 20); expected (2, 50, 20)" in str(raised.value)
    assert "C: has shape (2, 50, 4); expected (2, 50, 5)" in str(raised.value)
    with pytest.raises(InputError, match=r"u: has shape \(0, 50, 20\); expected \(B, L, E\), none of them 0"):
        selective_scan(u[:0], delta, A, B, C, D, delta_bias=bias)


def test_unknown_or_unfit_kernels_are_refused():
    *tensors, bias = make_inputs()
    with pytest.raises(
        InputError, match=r"'nunba' is not a kernel; use one of .*reference, triton\. Did you mean 'numba'"
    ):
        selective_scan(*tensors, delta_bias=bias, kernel="nunba")
    with pytest.raises(InputError, match=r"'numba' does not run on cpu with torch\.float64; it serves CPU, float32"):
        selective_scan(*tensors, delta_bias=bias, kernel="numba")


@settings(max_examples=20, derandomize=True)
@given(
    n_genes=st.integers(1, 3),
    n_positions=st.integers(1, CHUNK + 5),
    n_channels=st.integers(1, 40),
    n_state=st.integers(1, 6),
    rank=st.integers(1, 5),
    reverse=st.booleans(),
)
def test_projected_scan_is_the_scan_of_its_parts(n_genes, n_positions, n_channels, n_state, rank, reverse):
    u, _, A, B, C, D, bias = make_inputs(n_genes, n_positions, n_channels, n_state)
    generator = torch.Generator().manual_seed(9)
    low_rank = torch.randn(n_genes, n_positions, rank, generator=generator, dtype=torch.float64)
    weight = torch.randn(n_channels, rank, generator=generator, dtype=torch.float64)

    def by_parts(u, low_rank, B, C, weight, A, D, bias):
        return selective_scan(u, low_rank @ weight.T, A, B, C, D, delta_bias=bias, reverse=reverse, kernel="reference")

    def projected(u, low_rank, B, C, weight, A, D, bias):
        together = torch.cat([low_rank, B, C], dim=-1)
        return projected_scan(u, together, weight, A, D, delta_bias=bias, reverse=reverse)

    given = [u, low_rank, B, C, weight, A, D, bias]
    results = []
    for operation, dtype in ((by_parts, torch.float64), (projected, torch.float32)):
        leaves = [tensor.to(dtype, copy=True).requires_grad_() for tensor in given]
        y = operation(*leaves)
        weights = torch.cos(torch.arange(y.numel(), dtype=torch.float64)).reshape(y.shape).to(dtype)
        results.append([y.detach(), *torch.autograd.grad((y * weights).sum(), leaves)])
    for expected, got in zip(*results, strict=True):
        assert difference(got, expected) <= GRADIENT_TOLERANCE


def test_projected_scan_checks_its_shapes():
    u, _, A, _, _, D, bias = make_inputs(2, 50, 20, 5)
    with pytest.raises(InputError, match=r"projected: has shape \(2, 50, 12\); expected \(2, 50, 13\)"):
        projected_scan(u, torch.zeros(2, 50, 12), torch.zeros(20, 3), A, D, delta_bias=bias)
    with pytest.raises(InputError, match=r"step_weight: has shape \(20, 0\); expected \(20, 1\)"):
        projected_scan(u, torch.zeros(2, 50, 11), torch.zeros(20, 0), A, D, delta_bias=bias)
