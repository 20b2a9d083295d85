"""Every kernel of the GPU against the float64 reference, in float32 and bfloat16; long windows; the same bits twice."""

import functools

import pytest
import torch

from prism_ray.model import available_kernels
from prism_ray.model.scan import DirectionWeights, bidirectional_inner, rms_norm, selective_scan

NAMES = ("mamba-ssm", "triton", "reference")
NAMES_LINEAR = ("mamba-ssm", "triton")

# One direction's sums are of float32; in bfloat16 inputs, products and outputs have three digits.
TOLERANCES = {torch.float32: (5e-6, 5e-5), torch.bfloat16: (2e-2, 5e-2)}


@pytest.fixture(params=NAMES)
def kernel(request):
    if request.param not in [kernel.name for kernel in available_kernels("cuda")]:
        pytest.skip(f"{request.param} does not run here: see prism-ray doctor")
    return request.param


def make_block(n_genes, n_positions, n_channels=64, n_state=16, rank=8, *, step_mean=-3.0, device="cpu"):
    """x, z and the weights of two directions, float32."""
    generator = torch.Generator(device).manual_seed(11)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, device=device)

    inputs = [normal(n_genes, n_positions, n_channels), normal(n_genes, n_positions, n_channels)]
    for _ in range(2):
        inputs += [0.5 * normal(n_channels, 4), normal(n_channels), 0.1 * normal(rank + 2 * n_state, n_channels)]
        inputs += [normal(n_channels, rank), normal(n_channels) + step_mean]
        inputs += [-torch.exp(normal(n_channels, n_state)), normal(n_channels)]
    return inputs


def run(inputs, kernel, device, dtype, half=None):
    """Output and all gradients, on the CPU."""
    leaves = [tensor.to(device, dtype, copy=True).requires_grad_() for tensor in inputs]
    x, z = (leaf.to(half) if half else leaf for leaf in leaves[:2])
    y = bidirectional_inner(x, z, DirectionWeights(*leaves[2:9]), DirectionWeights(*leaves[9:]), kernel=kernel)
    weights = torch.cos(torch.arange(y.numel(), device=device, dtype=torch.float64)).reshape(y.shape).to(dtype)
    return [tensor.cpu() for tensor in (y.detach(), *torch.autograd.grad((y.to(dtype) * weights).sum(), leaves))]


@functools.cache
def by_reference(shape, half=None, **options):
    """Inputs of a block, x and z of half precision's values where asked, and results of the float64 reference."""
    inputs = make_block(*shape, **options)
    if half:
        inputs[:2] = [tensor.to(half).float() for tensor in inputs[:2]]
    return inputs, run(inputs, "reference", "cpu", torch.float64)


def assert_close(got, expected, tolerances):
    for number, (a, b) in enumerate(zip(got, expected, strict=True)):
        error = (a.double() - b).abs().max() / b.abs().max().clamp(min=1e-30)
        assert error <= tolerances[min(number, 1)], number


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("n_genes", "n_positions", "n_channels", "n_state"),
    [(2, 300, 64, 16), (1, 2, 16, 16), (3, 129, 40, 5), (1, 127, 256, 16), (2, 513, 5, 1)],
)
def test_kernel_agrees_with_the_reference(kernel, dtype, n_genes, n_positions, n_channels, n_state):
    half = None if dtype is torch.float32 else dtype
    inputs, expected = by_reference((n_genes, n_positions, n_channels, n_state), half)
    assert_close(run(inputs, kernel, "cuda", torch.float32, half), expected, TOLERANCES[dtype])


@pytest.mark.parametrize("step_mean", [20.0, 80.0, -30.0])
def test_steps_of_any_size(kernel, step_mean):
    inputs, expected = by_reference((2, 200, 32, 16), step_mean=step_mean)
    assert_close(run(inputs, kernel, "cuda", torch.float32), expected, (1e-5, 1e-4))


@pytest.mark.parametrize("reverse", [False, True])
def test_scan_with_given_step_sizes(kernel, reverse):
    generator = torch.Generator().manual_seed(3)
    shapes = [(2, 150, 48), (2, 150, 48), (48, 16), (2, 150, 16), (2, 150, 16), (48,), (48,)]
    inputs = [torch.randn(*shape, generator=generator) for shape in shapes]
    inputs[2] = -torch.exp(inputs[2])
    results = []
    for name, device, dtype in (("reference", "cpu", torch.float64), (kernel, "cuda", torch.float32)):
        *leaves, bias = (tensor.to(device, dtype, copy=True).requires_grad_() for tensor in inputs)
        y = selective_scan(*leaves, delta_bias=bias, reverse=reverse, kernel=name)
        results.append([tensor.cpu() for tensor in (y.detach(), *torch.autograd.grad(y.sum(), [*leaves, bias]))])
    assert_close(results[1], results[0], TOLERANCES[torch.float32])


def test_triton_gives_the_same_bits_twice():
    inputs = make_block(4, 1000, 128)
    first, second = (run(inputs, "triton", "cuda", torch.float32, torch.bfloat16) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("name", NAMES_LINEAR)
def test_memory_is_linear_in_the_window_up_to_a_megabase(name):
    """Forward and backward of one gene; twice the window must not take more than twice the memory (and a tenth)."""
    if name not in [kernel.name for kernel in available_kernels("cuda")]:
        pytest.skip(f"{name} does not run here: see prism-ray doctor")
    peaks = []
    for n_positions in (62_500, 250_000, 1_000_000):
        inputs = [tensor.requires_grad_() for tensor in make_block(1, n_positions, 64, device="cuda")]
        x, z = (tensor.detach().bfloat16().requires_grad_() for tensor in inputs[:2])
        torch.cuda.reset_peak_memory_stats()
        y = bidirectional_inner(x, z, DirectionWeights(*inputs[2:9]), DirectionWeights(*inputs[9:]), kernel=name)
        y.float().square().mean().backward()
        assert torch.isfinite(x.grad).all()
        peaks.append(torch.cuda.max_memory_allocated())
        del inputs, x, z, y
    assert peaks[1] <= 4.4 * peaks[0]
    assert peaks[2] <= 4.4 * peaks[1]


def test_long_window_agrees_with_the_cpu():
    inputs = make_block(1, 200_000, 16)
    expected = [tensor.double() for tensor in run(inputs, "numba", "cpu", torch.float32)]
    assert_close(run(inputs, "triton", "cuda", torch.float32), expected, (2e-5, 2e-4))


@pytest.mark.parametrize("half", [False, True])
def test_norm_agrees_with_pytorch(half):
    generator = torch.Generator().manual_seed(3)
    x, weight, upstream = (torch.randn(*shape, generator=generator) for shape in ((3, 70, 128), (128,), (3, 70, 128)))
    results = []
    for device, dtype in (("cpu", torch.float64), ("cuda", torch.float32)):
        leaves = [tensor.to(device, dtype, copy=True).requires_grad_() for tensor in (x, weight)]
        with torch.autocast("cuda", torch.bfloat16, enabled=half and device == "cuda"):
            y = rms_norm(*leaves, 1e-5, kernel="auto" if device == "cpu" else "triton")
        assert y.dtype is (torch.bfloat16 if half and device == "cuda" else dtype)
        gradients = torch.autograd.grad((y.to(dtype) * upstream.to(device, dtype)).sum(), leaves)
        results.append([tensor.cpu() for tensor in (y.detach(), *gradients)])
    assert_close(results[1], results[0], TOLERANCES[torch.bfloat16 if half else torch.float32])
