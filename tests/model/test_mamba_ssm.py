"""The hook to mamba-ssm, with packages of the same interface that are put together from the reference."""

import sys
import types

import pytest
import torch
import torch.nn.functional as F

from prism_ray.model.scan import KERNELS, DirectionWeights, bidirectional_inner, mamba_ssm, reference

SCAN_PLACE = "mamba_ssm.ops.selective_scan_interface"


def scan_by_reference(u, delta, A, B, C, D, z, delta_bias, delta_softplus):
    """selective_scan_fn on (B, E, L) by our reference; refuses what the CUDA function refuses."""
    assert u.is_contiguous()
    assert delta_softplus is True
    assert z is None
    assert u.dtype == delta.dtype == B.dtype == C.dtype
    assert A.dtype == D.dtype == delta_bias.dtype == torch.float32
    wide = [tensor.transpose(1, 2).float() for tensor in (u, delta, B, C)]
    y = reference.selective_scan(wide[0], wide[1], A, wide[2], wide[3], D, delta_bias, False)
    return y.transpose(1, 2).to(u.dtype)


def older_scan(u, delta, A, B, C, D=None, z=None, delta_bias=None, delta_softplus=False, return_last_state=False):
    return scan_by_reference(u, delta, A, B, C, D, z, delta_bias, delta_softplus)


def newer_scan(
    u,
    delta,
    A,
    B,
    C,
    D=None,
    z=None,
    delta_bias=None,
    delta_softplus=False,
    return_last_state=False,
    cu_seqlens=None,
):
    return scan_by_reference(u, delta, A, B, C, D, z, delta_bias, delta_softplus)


def conv_by_reference(x, weight, bias=None, seq_idx=None, initial_states=None, activation=None):
    """causal_conv1d_fn on (B, E, L)."""
    assert activation == "silu"
    return reference.causal_conv_silu(x.transpose(1, 2).float(), weight, bias, False).transpose(1, 2).to(x.dtype)


@pytest.fixture
def packages(monkeypatch):
    """Puts modules in place of the packages; their names are given by attributes."""
    mamba_ssm.probe_scan.cache_clear()
    mamba_ssm.probe_conv.cache_clear()

    def put(place, **attributes):
        parts = place.split(".")
        for end in range(1, len(parts) + 1):
            name = ".".join(parts[:end])
            module = types.ModuleType(name)
            module.__path__ = []
            monkeypatch.setitem(sys.modules, name, module)
        for name, value in attributes.items():
            setattr(sys.modules[place], name, value)

    yield put
    mamba_ssm.probe_scan.cache_clear()
    mamba_ssm.probe_conv.cache_clear()


def make_block(n_positions=9, n_channels=6, n_state=3, rank=2, n_taps=4):
    generator = torch.Generator().manual_seed(5)

    def normal(*shape):
        return torch.randn(*shape, generator=generator)

    inputs = [normal(2, n_positions, n_channels), normal(2, n_positions, n_channels)]
    for _ in range(2):
        inputs += [0.5 * normal(n_channels, n_taps), normal(n_channels), 0.3 * normal(rank + 2 * n_state, n_channels)]
        inputs += [normal(n_channels, rank), normal(n_channels), -torch.exp(normal(n_channels, n_state))]
        inputs += [normal(n_channels)]
    return inputs


def run(operation, inputs):
    leaves = [tensor.clone().requires_grad_() for tensor in inputs]
    y = operation(*leaves[:2], DirectionWeights(*leaves[2:9]), DirectionWeights(*leaves[9:]))
    return [y.detach(), *torch.autograd.grad((y * torch.cos(torch.arange(y.numel())).view_as(y)).sum(), leaves)]


def by_reference(x, z, left, right):
    return bidirectional_inner(x, z, left, right, kernel="reference")


@pytest.mark.parametrize("scan", [older_scan, newer_scan])
@pytest.mark.parametrize("n_taps", [4, 5])
@pytest.mark.parametrize("with_conv", [False, True])
def test_both_generations_give_the_reference(packages, scan, n_taps, with_conv):
    packages(SCAN_PLACE, selective_scan_fn=scan)
    if with_conv:
        packages("causal_conv1d", causal_conv1d_fn=conv_by_reference)
    inputs = make_block(n_taps=n_taps)
    for got, expected in zip(run(mamba_ssm.bidirectional_inner, inputs), run(by_reference, inputs), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_half_precision_goes_through_as_it_is(packages):
    packages(SCAN_PLACE, selective_scan_fn=newer_scan)
    inputs = make_block()
    half = [tensor.bfloat16() if number < 2 else tensor for number, tensor in enumerate(inputs)]
    got = run(mamba_ssm.bidirectional_inner, half)[0]
    expected = run(by_reference, [tensor.float() for tensor in half])[0]
    assert got.dtype is torch.bfloat16
    assert (got - expected).abs().max() <= 0.03 * expected.abs().max()


@pytest.mark.parametrize("reverse", [False, True])
def test_single_operations_give_the_reference(packages, reverse):
    packages(SCAN_PLACE, selective_scan_fn=newer_scan)
    packages("causal_conv1d", causal_conv1d_fn=conv_by_reference)
    x, _, taps, bias, x_proj, weight, dt_bias, A, D, *_ = make_block()
    u = mamba_ssm.causal_conv_silu(x, taps, bias, reverse)
    torch.testing.assert_close(u, reference.causal_conv_silu(x, taps, bias, reverse))
    arguments = (u, F.linear(u, x_proj), weight, A, D, dt_bias, reverse)
    y = mamba_ssm.projected_scan(*arguments)
    torch.testing.assert_close(y, reference.projected_scan(*arguments), rtol=1e-4, atol=1e-5)
    assert y.is_contiguous()


@pytest.mark.parametrize(
    ("n_positions", "dtype", "by_package"),
    [
        (512, torch.float32, True),
        (513, torch.float32, False),
        (515, torch.float32, False),
        (516, torch.float32, True),
        (513, torch.bfloat16, True),
        (1025, torch.bfloat16, False),
        (2000, torch.bfloat16, True),
    ],
)
def test_causal_conv1d_is_passed_by_where_its_last_chunk_is_short(packages, n_positions, dtype, by_package):
    """Its gradient is wrong there: a bug's fix, seen on a GPU with causal-conv1d 1.7.0."""
    calls = []

    def causal_conv1d_fn(x, weight, bias, activation):
        calls.append(x.shape)
        return conv_by_reference(x, weight, bias, activation=activation)

    packages("causal_conv1d", causal_conv1d_fn=causal_conv1d_fn)
    x = torch.randn(1, n_positions, 3, generator=torch.Generator().manual_seed(1)).to(dtype)
    taps, bias = torch.randn(3, 4), torch.randn(3)
    u = mamba_ssm.causal_conv_silu(x, taps, bias, False)
    assert bool(calls) is by_package
    expected = reference.causal_conv_silu(x.float(), taps, bias, False)
    torch.testing.assert_close(u.float(), expected, atol=5e-2, rtol=5e-2)
    assert u.is_contiguous()


def test_what_is_not_installed_says_so(packages):
    assert mamba_ssm.probe_scan() == mamba_ssm.Probe(None, "not installed")
    assert mamba_ssm.probe_conv() == mamba_ssm.Probe(None, "not installed")


def test_a_newer_place_is_found(packages):
    packages("mamba_ssm", selective_scan_fn=newer_scan)
    assert mamba_ssm.probe_scan().reason == "mamba_ssm.selective_scan_fn"


@pytest.mark.parametrize(
    "problem",
    [
        ImportError("selective_scan_cuda.so: undefined symbol: _ZN3c104cuda"),
        OSError("libcudart.so.12: cannot open shared object file"),
    ],
)
def test_a_package_built_for_another_pytorch_is_not_used(packages, monkeypatch, problem):
    def fail(place):
        raise problem

    monkeypatch.setattr(mamba_ssm.importlib, "import_module", fail)
    found = mamba_ssm.probe_scan()
    assert found.function is None
    assert f"{SCAN_PLACE} does not load: {problem}" in found.reason


def test_a_missing_dependency_of_the_package_is_named(packages, monkeypatch):
    def fail(place):
        raise ModuleNotFoundError("No module named 'einops'", name="einops")

    monkeypatch.setattr(mamba_ssm.importlib, "import_module", fail)
    assert f"{SCAN_PLACE} needs einops" in mamba_ssm.probe_scan().reason


def test_a_function_of_another_signature_is_not_used(packages):
    def other(u, delta, A, B, C):
        return u

    packages(SCAN_PLACE, selective_scan_fn=other)
    found = mamba_ssm.probe_scan()
    assert found.function is None
    assert "selective_scan_fn has no argument D, delta_bias, delta_softplus" in found.reason


def test_a_package_without_its_cuda_part_is_not_used(packages):
    packages(SCAN_PLACE, selective_scan_fn=newer_scan, selective_scan_cuda=None)
    assert "was built without its CUDA part (selective_scan_cuda)" in mamba_ssm.probe_scan().reason


def test_order_on_a_gpu_is_triton_then_mamba_ssm_then_reference(packages, monkeypatch):
    from prism_ray.model.scan import registry, triton_probe

    packages(SCAN_PLACE, selective_scan_fn=newer_scan)
    monkeypatch.setattr(triton_probe, "device_problem", lambda device: "")
    for dtype in (torch.float32, torch.bfloat16):
        names = [kernel.name for kernel in KERNELS if kernel.supports(torch.device("cuda"), dtype)]
        assert names == ["triton", "mamba-ssm", "reference"]
        assert registry.pick("mamba-ssm", torch.device("cuda"), dtype).name == "mamba-ssm"
    assert registry.pick("auto", torch.device("cuda"), torch.float64).name == "reference"


def test_mamba_ssm_is_taken_where_triton_does_not_run(packages, monkeypatch):
    from prism_ray.model.scan import registry, triton_probe

    packages(SCAN_PLACE, selective_scan_fn=newer_scan)
    monkeypatch.setattr(triton_probe, "device_problem", lambda device: "triton is not installed")
    assert registry.pick("auto", torch.device("cuda"), torch.bfloat16).name == "mamba-ssm"
