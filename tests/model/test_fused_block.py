"""The inner part of a block as one operation: against the float64 reference, in every shape it may meet."""

import importlib
import mmap

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prism_ray.errors import InputError
from prism_ray.model.scan import DirectionWeights, bidirectional_inner, inner, products, registry, rms_norm
from prism_ray.model.scan.buffers import Shelf
from prism_ray.model.scan.scan_kernels import CHUNK

TOLERANCE = 1e-5
N_WEIGHTS = len(DirectionWeights._fields)


def make_inputs(n_genes=2, n_positions=50, n_channels=20, n_state=5, rank=3, width=4, seed=0, delta_mean=-2.0):
    """x, z, then the weights of both directions, in float64."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    def direction():
        return [
            0.5 * normal(n_channels, width),
            0.3 * normal(n_channels),
            normal(rank + 2 * n_state, n_channels) / n_channels**0.5,
            normal(n_channels, rank) / rank**0.5,
            normal(n_channels) + delta_mean,
            -torch.exp(normal(n_channels, n_state)),
            normal(n_channels),
        ]

    along = (n_genes, n_positions, n_channels)
    return [normal(*along), normal(*along), *direction(), *direction()]


def run(inputs, kernel, dtype):
    """Output, then the gradients of every input, for a fixed gradient of the output."""
    leaves = [tensor.detach().to(dtype, copy=True).requires_grad_() for tensor in inputs]
    x, z, *weights = leaves
    left, right = DirectionWeights(*weights[:N_WEIGHTS]), DirectionWeights(*weights[N_WEIGHTS:])
    y = bidirectional_inner(x, z, left, right, kernel=kernel)
    of_y = torch.cos(torch.arange(y.numel(), dtype=torch.float64)).reshape(y.shape).to(y.dtype)
    return [y.detach(), *torch.autograd.grad((y * of_y).sum(), leaves)]


def assert_close(got, expected):
    for number, (a, b) in enumerate(zip(got, expected, strict=True)):
        assert a.shape == b.shape, number
        assert (a.double() - b.double()).abs().max() <= TOLERANCE * max(1.0, b.abs().max().item()), number


def assert_agrees(inputs):
    assert_close(run(inputs, "numba", torch.float32), run(inputs, "reference", torch.float64))


@settings(max_examples=20, derandomize=True)
@given(
    n_genes=st.integers(1, 3),
    n_positions=st.integers(1, 2 * CHUNK + 3),
    n_channels=st.integers(1, 40),
    n_state=st.integers(1, 5),
    rank=st.integers(1, 3),
    width=st.integers(1, 5),
)
def test_any_shape(n_genes, n_positions, n_channels, n_state, rank, width):
    assert_agrees(make_inputs(n_genes, n_positions, n_channels, n_state, rank, width))


@pytest.mark.parametrize("n_positions", [1, 2, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 131])
def test_lengths_around_a_chunk_at_batch_one(n_positions):
    assert_agrees(make_inputs(1, n_positions, 17, 3))


@pytest.mark.parametrize("n_positions", [CHUNK, 5 * CHUNK + 7])
def test_a_gene_in_several_stretches(monkeypatch, n_positions):
    monkeypatch.setattr(inner, "_STRETCH_VALUES", 2 * CHUNK * 20)
    assert_agrees(make_inputs(3, n_positions, 20, 3))


def test_stretches_cover_every_position_once():
    x = torch.zeros(3, 131, 20)
    for values in (1, 50 * 20, 140 * 20, 270 * 20, 10**6):
        inner_values, inner._STRETCH_VALUES = inner._STRETCH_VALUES, values
        try:
            stretches = list(inner._stretches(x, reverse=False))
        finally:
            inner._STRETCH_VALUES = inner_values
        covered = [
            (gene, p)
            for first_gene, n_genes, first, last, _, _ in stretches
            for gene in range(first_gene, first_gene + n_genes)
            for p in range(first, last)
        ]
        assert sorted(covered) == [(gene, p) for gene in range(3) for p in range(131)]
        assert all(first % CHUNK == 0 for _, _, first, _, _, _ in stretches)


def test_large_steps_and_long_memory():
    assert_agrees(make_inputs(delta_mean=15.0))
    assert_agrees(make_inputs(n_positions=200, delta_mean=-9.0))


def test_half_precision_is_computed_in_float32():
    inputs = [tensor.to(torch.bfloat16) for tensor in make_inputs()]
    got = run(inputs, "auto", torch.bfloat16)
    expected = run([tensor.double() for tensor in inputs], "reference", torch.float64)
    assert got[0].dtype is torch.float32
    assert (got[0] - expected[0]).abs().max() <= TOLERANCE * expected[0].abs().max()
    assert {gradient.dtype for gradient in got[1:]} == {torch.bfloat16}


def test_autocast_does_not_reach_inside():
    inputs = make_inputs()
    plain = run(inputs, "numba", torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = run(inputs, "numba", torch.float32)
    assert all(torch.equal(a, b) for a, b in zip(plain, cast, strict=True))


def test_bits_do_not_depend_on_the_number_of_threads():
    inputs = make_inputs(3, 300, 70, 8)
    before = torch.get_num_threads()
    results = []
    try:
        for n_threads in (1, 2, 3):
            torch.set_num_threads(n_threads)
            results.append(run(inputs, "numba", torch.float32))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_inputs_that_are_not_contiguous():
    inputs = make_inputs(2, 40, 16, 4)
    expected = run(inputs, "reference", torch.float64)
    turned = [tensor.transpose(1, 2).contiguous().transpose(1, 2) for tensor in inputs[:2]]
    assert_close(run([*turned, *inputs[2:]], "numba", torch.float32), expected)


def test_a_kernel_without_it_is_put_together_from_its_parts(monkeypatch):
    cpu = importlib.import_module("prism_ray.model.scan.cpu")
    inputs = make_inputs()
    fused = run(inputs, "numba", torch.float32)
    monkeypatch.delattr(cpu, "bidirectional_inner")
    assert not isinstance(cpu, registry.FusedOperations)
    assert_close(run(inputs, "numba", torch.float32), fused)


def test_wrong_shapes_are_reported_together():
    x, z, *weights = make_inputs()
    left, right = DirectionWeights(*weights[:N_WEIGHTS]), DirectionWeights(*weights[N_WEIGHTS:])
    with pytest.raises(InputError) as raised:
        bidirectional_inner(x, z[:, 1:], left, right._replace(D=right.D[1:]))
    assert "z: has shape (2, 49, 20); expected (2, 50, 20)" in str(raised.value)
    assert "right.D: has shape (19,); expected (20,)" in str(raised.value)


@pytest.mark.parametrize("shape", [(1, 1, 16), (2, 300, 20), (3, 7, 5)])
def test_norm_agrees(shape):
    generator = torch.Generator().manual_seed(1)
    x, weight = (torch.randn(*size, generator=generator, dtype=torch.float64) for size in (shape, shape[-1:]))
    results = []
    for kernel, dtype in (("numba", torch.float32), ("reference", torch.float64)):
        leaves = [tensor.to(dtype, copy=True).requires_grad_() for tensor in (x, weight)]
        y = rms_norm(*leaves, 1e-5, kernel=kernel)
        of_y = torch.cos(torch.arange(y.numel(), dtype=torch.float64)).reshape(y.shape).to(dtype)
        results.append([y.detach(), *torch.autograd.grad((y * of_y).sum(), leaves)])
    assert_close(*results)
    by_hand = x / torch.sqrt(x.square().mean(-1, keepdim=True) + 1e-5) * weight
    assert_close([results[0][0]], [by_hand])


def test_products_agree_and_take_part_in_autocast():
    generator = torch.Generator().manual_seed(1)
    tensors = [torch.randn(*size, generator=generator) for size in ((2, 9, 6), (5, 6), (3, 6))]
    results = []
    for kernel in ("numba", "reference"):
        leaves = [tensor.clone().requires_grad_() for tensor in tensors]
        one, two = products(*leaves, kernel=kernel)
        assert one.shape == (2, 9, 5)
        total = one.square().sum() + two.sum()
        results.append([one.detach(), two.detach(), *torch.autograd.grad(total, leaves)])
    assert_close(*results)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert products(*tensors)[0].dtype is torch.bfloat16


def test_memory_is_used_again_when_nobody_sees_it_any_more():
    shelf = Shelf()
    first = shelf.borrow(1024, 512)
    where, part = first.data_ptr(), first[1:3]
    del first
    assert shelf.borrow(1024, 512).data_ptr() != where
    shelf.clear()
    del part
    assert shelf.n_bytes() == 4 * 1024 * 512
    again = shelf.borrow(1000, 512)
    assert again.data_ptr() == where
    assert again.is_contiguous()
    assert shelf.n_bytes() == 0


def test_held_memory_has_a_bound():
    shelf = Shelf()
    small = [shelf.borrow(1024, 256) for _ in range(4)]
    del small
    assert shelf.n_bytes() == 4 * 4 * 1024 * 256
    large = shelf.borrow(1024, 1024)
    assert large.shape == (1024, 1024)
    assert shelf.n_bytes() + large.numel() * 4 <= 1.25 * 4 * 4 * 1024 * 256


def test_large_buffers_begin_at_a_large_page_and_hold_what_was_asked():
    tensor = Shelf().borrow(3, 2**19 + 5)
    assert tensor.shape == (3, 2**19 + 5)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        assert tensor.data_ptr() % 2**21 == 0
    assert (tensor.fill_(1.0) == 1.0).all()
