"""The Triton kernels in Triton's interpreter, against the float64 reference; and compiled, which needs no GPU.

The interpreter takes a millisecond an operation, so sizes are small and blocks smaller still: windows cross several
tiles, spans and segments all the same.
"""

import dataclasses
import importlib.util
import math
import os
import subprocess
import sys

import pytest
import torch

from prism_ray.model.scan import DirectionWeights, bidirectional_inner, reference

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed"),
    pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") != "1", reason="a GPU runs these kernels in tests/gpu"),
]

VALUE_TOLERANCE = 2e-6
GRADIENT_TOLERANCE = 1e-5
SPAN, TILE = 8, 4


@pytest.fixture
def operations(monkeypatch):
    from prism_ray.model.scan import triton_launch, triton_scan

    blocks = triton_launch.Blocks(
        span=SPAN, tile=TILE, channels=8, step_tile=4, conv_tile=4, segment=SPAN, programs=2**20
    )
    monkeypatch.setattr(triton_launch, "BLOCKS", blocks)
    return triton_scan


def make_block(n_genes, n_positions, n_channels, n_state, rank, *, step_mean=-2.0, n_taps=4):
    """x, z and the weights of two directions, float64."""
    generator = torch.Generator().manual_seed(n_positions)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    inputs = [normal(n_genes, n_positions, n_channels), normal(n_genes, n_positions, n_channels)]
    for _ in range(2):
        inputs += [0.5 * normal(n_channels, n_taps), normal(n_channels), 0.3 * normal(rank + 2 * n_state, n_channels)]
        inputs += [normal(n_channels, rank), normal(n_channels) + step_mean]
        inputs += [-torch.exp(normal(n_channels, n_state)), normal(n_channels)]
    return inputs


def by_reference(x, z, left, right):
    return bidirectional_inner(x, z, left, right, kernel="reference")


def run_block(operation, inputs, dtype, half=None):
    """Output and all gradients; x and z in half precision where asked."""
    leaves = [tensor.to(dtype, copy=True).requires_grad_() for tensor in inputs]
    x, z = (leaf.to(half) if half else leaf for leaf in leaves[:2])
    y = operation(x, z, DirectionWeights(*leaves[2:9]), DirectionWeights(*leaves[9:]))
    weights = torch.cos(torch.arange(y.numel(), dtype=torch.float64)).reshape(y.shape)
    return [y.detach(), *torch.autograd.grad((y.to(dtype) * weights.to(dtype)).sum(), leaves)]


def assert_close(got, expected, tolerance=GRADIENT_TOLERANCE, value_tolerance=VALUE_TOLERANCE):
    for number, (a, b) in enumerate(zip(got, expected, strict=True)):
        assert a.shape == b.shape
        scale = max(b.abs().max().item(), 1e-30)
        error = (a.double() - b).abs().max().item() / scale if b.abs().max() > 0 else a.abs().max().item()
        assert error <= (tolerance if number else value_tolerance), number


@pytest.mark.parametrize(
    ("n_genes", "n_positions", "n_channels", "n_state", "rank"),
    [
        (1, 1, 5, 3, 2),
        (1, TILE - 1, 5, 1, 1),
        (1, SPAN, 5, 2, 2),
        (2, SPAN + 1, 5, 2, 2),
        (1, 3 * SPAN - 1, 5, 2, 1),
        (1, TILE + 1, 16, 2, 1),
        (1, TILE + 1, 40, 2, 3),
    ],
)
def test_inner_part_and_all_gradients_agree_with_the_reference(
    operations, n_genes, n_positions, n_channels, n_state, rank
):
    inputs = make_block(n_genes, n_positions, n_channels, n_state, rank)
    expected = run_block(by_reference, inputs, torch.float64)
    assert_close(run_block(operations.bidirectional_inner, inputs, torch.float32), expected)


@pytest.mark.parametrize("step_mean", [20.0, 80.0, -30.0])
def test_steps_of_any_size(operations, step_mean):
    inputs = make_block(1, SPAN + 3, 5, 2, 1, step_mean=step_mean)
    expected = run_block(by_reference, inputs, torch.float64)
    assert_close(run_block(operations.bidirectional_inner, inputs, torch.float32), expected)


def test_half_precision_inputs_keep_a_float32_state(operations):
    inputs = make_block(1, SPAN + 3, 5, 2, 1)
    inputs[:2] = [tensor.to(torch.bfloat16).double() for tensor in inputs[:2]]
    expected = run_block(by_reference, inputs, torch.float64)
    got = run_block(operations.bidirectional_inner, inputs, torch.float32, torch.bfloat16)
    assert_close(got, expected, tolerance=4e-2, value_tolerance=2e-2)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("n_taps", [1, 3])
def test_convolution_of_one_direction(operations, reverse, n_taps):
    x, _, weight, bias, *_ = make_block(2, 7, 5, 1, 1, n_taps=n_taps)
    results = []
    for operation, dtype in ((reference, torch.float64), (operations, torch.float32)):
        leaves = [tensor.to(dtype, copy=True).requires_grad_() for tensor in (x, weight, bias)]
        y = operation.causal_conv_silu(*leaves, reverse)
        results.append([y.detach(), *torch.autograd.grad((y * torch.cos(y.detach())).sum(), leaves)])
    assert_close(results[1], results[0])


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("projected", [False, True])
def test_scan_of_one_direction(operations, reverse, projected):
    generator = torch.Generator().manual_seed(3)
    shapes = [(2, SPAN + 2, 5), (2, SPAN + 2, 5), (5, 2), (2, SPAN + 2, 2), (2, SPAN + 2, 2), (5,), (5,)]
    u, delta, A, B, C, D, bias = (torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in shapes)
    inputs = [u, delta, -torch.exp(A), B, C, D, bias]
    if projected:
        inputs = [u, torch.cat([delta[..., :1], B, C], dim=-1), D[:, None], -torch.exp(A), D, bias]
    results = []
    for operation, dtype in ((reference, torch.float64), (operations, torch.float32)):
        leaves = [tensor.to(dtype, copy=True).requires_grad_() for tensor in inputs]
        y = (operation.projected_scan if projected else operation.selective_scan)(*leaves, reverse)
        results.append([y.detach(), *torch.autograd.grad((y * torch.cos(y.detach())).sum(), leaves)])
    assert_close(results[1], results[0])


def test_the_cut_into_segments_changes_no_bit_of_what_is_not_summed(operations, monkeypatch):
    from prism_ray.model.scan import triton_launch

    inputs = make_block(1, 2 * SPAN + 1, 5, 1, 1)
    several = run_block(operations.bidirectional_inner, inputs, torch.float32)
    monkeypatch.setattr(triton_launch, "BLOCKS", dataclasses.replace(triton_launch.BLOCKS, segment=2**18))
    one = run_block(operations.bidirectional_inner, inputs, torch.float32)
    assert all(torch.equal(a, b) for a, b in zip(several[:3], one[:3], strict=True))
    assert_close(several, [tensor.double() for tensor in one])


def test_not_a_number_is_passed_on(operations):
    inputs = [tensor.float() for tensor in make_block(1, 6, 5, 1, 1)]
    inputs[0][0, 3, 2] = math.nan
    y = operations.bidirectional_inner(*inputs[:2], DirectionWeights(*inputs[2:9]), DirectionWeights(*inputs[9:]))
    assert torch.isnan(y[0, 3, 2])


@pytest.mark.parametrize("shape", [(1, 1, 7), (3, 5, 24), (2, 40, 16)])
def test_norm_and_its_gradients(operations, shape):
    generator = torch.Generator().manual_seed(3)
    x, weight = (torch.randn(*size, generator=generator, dtype=torch.float64) for size in (shape, shape[-1:]))
    results = []
    for norm, dtype in ((torch_norm, torch.float64), (operations.rms_norm_as, torch.float32)):
        leaves = [tensor.to(dtype, copy=True).requires_grad_() for tensor in (x, weight)]
        y = norm(*leaves, 1e-5, dtype)
        results.append([y.detach(), *torch.autograd.grad((y * torch.cos(y.detach())).sum(), leaves)])
    assert_close(results[1], results[0])


def torch_norm(x, weight, eps, dtype):
    return torch.nn.functional.rms_norm(x, weight.shape, weight, eps)


def test_norm_gives_half_precision_where_it_comes_next(operations):
    """To a unit in the last place: the interpreter cuts digits off where a GPU rounds."""
    x = torch.randn(2, 9, 16, generator=torch.Generator().manual_seed(3))
    weight = torch.rand(16, generator=torch.Generator().manual_seed(4)) + 0.5
    half, single = (operations.rms_norm_as(x, weight, 1e-5, dtype) for dtype in (torch.bfloat16, torch.float32))
    assert half.dtype is torch.bfloat16
    assert ((half.float() - single).abs() <= 2**-7 * single.abs()).all()


@pytest.mark.parametrize("kept", [0, 2**16])
def test_states_that_are_kept_or_made_again_give_the_same_gradients(operations, monkeypatch, kept):
    from prism_ray.model.scan import triton_launch

    inputs = make_block(2, 2 * SPAN + 1, 5, 2, 1)
    expected = run_block(by_reference, inputs, torch.float64)
    monkeypatch.setattr(triton_launch, "BLOCKS", dataclasses.replace(triton_launch.BLOCKS, kept=kept, segment=2**18))
    assert_close(run_block(operations.bidirectional_inner, inputs, torch.float32), expected)


def test_one_span_of_the_whole_window_equals_many(operations, monkeypatch):
    from prism_ray.model.scan import triton_launch

    inputs = make_block(1, 3 * SPAN - 1, 5, 2, 1)
    many = run_block(operations.bidirectional_inner, inputs, torch.float32)
    monkeypatch.setattr(triton_launch, "BLOCKS", dataclasses.replace(triton_launch.BLOCKS, programs=1))
    one = run_block(operations.bidirectional_inner, inputs, torch.float32)
    assert_close(one, [tensor.double() for tensor in many])


COMPILE = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from prism_ray.model.scan import triton_block_kernels as block, triton_kernels as scan
from prism_ray.model.scan import triton_norm_kernels as norm, triton_tile_kernels as tiles

HALF = set("u delta packed dy du draw x result dpre dx z both gated dgated dboth dz".split())
COUNTS = set("n_genes n_positions n_channels n_state rank span_length n_spans first_span first_tile".split())
COUNTS |= {"n_tiles", "n_walked", "n_values", "n_rows"}

def compile(kernel, warps, capability, **constants):
    kinds = {name: "*bf16" if name in HALF else "*fp32" for name in kernel.arg_names}
    kinds |= {name: "i32" for name in kinds if name in COUNTS} | {name: "fp32" for name in kinds if name == "eps"}
    kinds |= {name: "constexpr" for name in constants}
    places = {(kernel.arg_names.index(name),): value for name, value in constants.items()}
    source = ASTSource(fn=kernel, signature=kinds, constexprs=places)
    target = GPUTarget("cuda", capability, 32)
    return triton.compile(source, target=target, options={"num_warps": warps, "enable_fp_fusion": True})

sizes = dict(TILE=16, BLOCK_E=32, BLOCK_N=16)
for task, adjoint in (("ends", False), ("output", False), ("borders", True)):
    compile(scan.sweep, 1, 80, FIRST=0, ADJOINT=adjoint, TASK=task, BORDERS=task != "ends", **sizes)
compile(scan.join_spans, 1, 80, ADJOINT=True, BLOCK_E=32, BLOCK_N=16)
for rank in (0, 8):
    compile(scan.step_sizes, 4, 80, RANK=rank, TILE=32, BLOCK_E=64)
for half, capability in ((True, 80), (False, 90)):
    made = compile(tiles.tile_gradients, 1, capability, FIRST=1, HALF=half, **sizes)
    assert "shfl" not in made.asm["ptx"], "positions of a channel left their thread"
for backward in (False, True):
    compile(block.convolve, 4, 80, N_TAPS=4, FIRST=0, BACKWARD=backward, TILE=64, BLOCK_E=64)
compile(block.convolve_input, 4, 80, N_TAPS=4, N_DIRECTIONS=2, FIRST=0, TILE=64, BLOCK_E=64)
compile(norm.norm_forward, 4, 80, ROWS=16, BLOCK_D=128)
compile(norm.norm_backward, 4, 80, ROWS=16, TURNS=4, BLOCK_D=128)
compile(block.gate_forward, 4, 80, BLOCK=1024)
compile(block.gate_backward, 4, 80, BLOCK=1024)
"""


def test_every_kernel_compiles_for_gpus(tmp_path):
    """To machine code, with the published sizes: the interpreter accepts what the compiler refuses."""
    script = tmp_path / "compile_kernels.py"
    script.write_text(COMPILE)
    environment = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": os.getcwd()}
    environment.pop("TRITON_INTERPRET", None)
    done = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-2000:]
