"""Launches of the Triton kernels on whole tensors: forward and backward of the scan and of the convolution.

Tensors of G directions are stacked: G = 2, left to right first, or G = 1 with `first` saying which one it is. The
legend is that of `triton_kernels`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import torch
import triton
from torch import Tensor

from prism_ray.model.scan import triton_block_kernels, triton_kernels


@dataclass(frozen=True)
class Blocks:
    """How the work is cut; all but `segment` are powers of two.

    Attributes:
        span: positions walked by one program in a sweep.
        tile: positions in the registers of one program of the backward pass.
        sweep_channels: channels of a program in a sweep; 32 a warp.
        tile_channels: channels of a program in the backward pass; 32 a warp.
        conv_tile: positions of a program in the convolution.
        segment: genes times positions whose borders of tiles are in memory at a time.
    """

    span: int = 128
    tile: int = 16
    sweep_channels: int = 64
    tile_channels: int = 32
    conv_tile: int = 32
    segment: int = 2**18


BLOCKS = Blocks()

# Said outright, because Triton warns of a default that is about to change.
_OPTIONS = {"enable_fp_fusion": True}


class ScanInputs(NamedTuple):
    """Inputs of the scan: u, delta (G, B, L, E), packed (G, B, L, P), weight (G, R, E), A (G, N, E), D, bias (G, E).

    delta is empty where weight has rows. Weights are float32; u, delta and packed of any floating dtype.
    """

    u: Tensor
    delta: Tensor
    packed: Tensor
    weight: Tensor
    A: Tensor
    D: Tensor
    bias: Tensor
    first: int


def scan_inputs(tensors: Iterable[Tensor], first: int) -> ScanInputs:
    """Inputs from u, delta, packed, weight, A, D, bias in this order, without gaps in memory."""
    u, delta, packed, weight, A, D, bias = (tensor.contiguous() for tensor in tensors)
    return ScanInputs(u, delta, packed, weight, A, D, bias, first)


class ScanGradients(NamedTuple):
    """Gradients of `ScanInputs`; delta's, (G, B, L, E), is that of the raw step size, given or projected."""

    u: Tensor
    delta: Tensor
    packed: Tensor
    weight: Tensor
    A: Tensor
    D: Tensor
    bias: Tensor


class _Sizes(NamedTuple):
    n_directions: int
    n_genes: int
    n_positions: int
    n_channels: int
    n_state: int
    rank: int
    n_spans: int

    @property
    def n_items(self) -> int:
        return self.n_directions * self.n_genes


def _sizes(given: ScanInputs) -> _Sizes:
    n_spans = -(-given.u.shape[2] // BLOCKS.span)
    n_directions, n_genes, n_positions, n_channels = given.u.shape
    n_state, rank = given.A.shape[1], given.weight.shape[1]
    return _Sizes(n_directions, n_genes, n_positions, n_channels, n_state, rank, n_spans)


def _sweep(
    given: ScanInputs,
    task: str,
    out: dict[str, Tensor],
    *,
    dy: Tensor | None = None,
    starts: Tensor | None = None,
    spans: tuple[int, int] | None = None,
) -> None:
    sizes = _sizes(given)
    first_span, end_span = spans or (0, sizes.n_spans)
    unused = given.D
    arrays = {"dy": dy, "starts": starts, "ends": None, "sums": None, "y": None, "borders": None, **out}
    block = min(BLOCKS.sweep_channels, max(32, triton.next_power_of_2(sizes.n_channels)))
    grid = (end_span - first_span, sizes.n_items, -(-sizes.n_channels // block))
    triton_kernels.sweep[grid](
        *given[:-1],
        *(unused if array is None else array for array in arrays.values()),
        *sizes[1:],
        first_span,
        (end_span - first_span) * (BLOCKS.span // BLOCKS.tile),
        FIRST=given.first,
        ADJOINT=dy is not None,
        GIVEN=sizes.rank == 0,
        TASK=task,
        SPAN=BLOCKS.span,
        TILE=BLOCKS.tile,
        BLOCK_E=block,
        BLOCK_N=triton.next_power_of_2(sizes.n_state),
        BLOCK_R=triton.next_power_of_2(max(1, sizes.rank)),
        num_warps=block // 32,
        **_OPTIONS,
    )


def _span_starts(given: ScanInputs, dy: Tensor | None = None) -> Tensor:
    """State at the start of each span, (G, B, S, N, E); with dy, what flows into each span from after it."""
    sizes = _sizes(given)
    along = (sizes.n_directions, sizes.n_genes, sizes.n_spans)
    ends = given.A.new_empty(*along, sizes.n_state, sizes.n_channels)
    sums = given.A.new_empty(*along, sizes.n_channels)
    _sweep(given, "ends", {"ends": ends, "sums": sums}, dy=dy)
    starts = torch.empty_like(ends)
    grid = (sizes.n_items, -(-sizes.n_channels // 32))
    triton_kernels.join_spans[grid](
        ends,
        sums,
        given.A,
        starts,
        sizes.n_genes,
        sizes.n_channels,
        sizes.n_state,
        sizes.n_spans,
        ADJOINT=dy is not None,
        BLOCK_E=32,
        BLOCK_N=triton.next_power_of_2(sizes.n_state),
        num_warps=1,
        **_OPTIONS,
    )
    return starts


def scan_forward(given: ScanInputs) -> tuple[Tensor, Tensor]:
    """y, (G, B, L, E) in float32, and the states at the starts of spans that the backward pass needs."""
    starts = _span_starts(given)
    y = torch.empty_like(given.u, dtype=torch.float32)
    _sweep(given, "output", {"y": y}, starts=starts)
    return y, starts


def scan_backward(given: ScanInputs, starts: Tensor, dy: Tensor) -> ScanGradients:
    """Gradients of the inputs; dy, (B, L, E), reaches every direction.

    Tiles are taken a segment of spans at a time: what is kept of them does not grow with the window.
    """
    sizes = _sizes(given)
    n_directions, n_genes, n_positions, n_channels, n_state, rank, n_spans = sizes
    adjoints = _span_starts(given, dy)
    du, draw = torch.empty_like(given.u), torch.empty_like(given.u)
    dpacked = torch.empty_like(given.packed)
    dA, dD, dbias = torch.zeros_like(given.A), torch.zeros_like(given.D), torch.zeros_like(given.bias)
    step = max(1, BLOCKS.segment // (n_genes * BLOCKS.span))
    for begin in range(0, n_spans, step):
        spans = (begin, min(begin + step, n_spans))
        of_BC, of_A, of_D, of_bias = _tile_gradients(given, starts, adjoints, dy, (du, draw), spans)
        low, high = begin * BLOCKS.span, min(spans[1] * BLOCKS.span, n_positions)
        for direction in range(n_directions):
            walked = of_BC[direction, :, : high - low]
            if given.first + direction == 1:
                dpacked[direction, :, n_positions - high : n_positions - low, rank:] = walked.flip(1)
            else:
                dpacked[direction, :, low:high, rank:] = walked
        dA += of_A
        dD += of_D
        dbias += of_bias
    dweight = torch.zeros_like(given.weight)
    if rank:
        flat = draw.view(n_directions, -1, n_channels)
        low_rank = given.packed.view(n_directions, -1, rank + 2 * n_state)[..., :rank]
        dweight = torch.bmm(low_rank.to(flat.dtype).transpose(1, 2), flat).float()  # (G, R, E)
        of_low_rank = torch.bmm(flat, given.weight.to(flat.dtype).transpose(1, 2))
        dpacked[..., :rank] = of_low_rank.view(n_directions, n_genes, n_positions, rank)
    return ScanGradients(du, draw, dpacked, dweight, dA, dD, dbias)


def _tile_gradients(
    given: ScanInputs,
    starts: Tensor,
    adjoints: Tensor,
    dy: Tensor,
    into: tuple[Tensor, Tensor],
    spans: tuple[int, int],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Fill du and draw of some spans; of B and C in walk order, of A, of D and of bias are returned."""
    sizes = _sizes(given)
    n_directions, n_genes, _, n_channels, n_state, rank, _ = sizes
    n_tiles = (spans[1] - spans[0]) * (BLOCKS.span // BLOCKS.tile)
    along = (n_directions, n_genes, n_tiles)
    # Tiles beyond the window are not swept, so they must not hold what memory held before.
    at_tiles, after_tiles = (given.A.new_zeros(*along, n_state, n_channels) for _ in range(2))
    _sweep(given, "borders", {"borders": at_tiles}, starts=starts, spans=spans)
    _sweep(given, "borders", {"borders": after_tiles}, dy=dy, starts=adjoints, spans=spans)
    n_blocks = -(-n_channels // BLOCKS.tile_channels)
    BC_parts = given.A.new_empty(n_blocks, n_directions, n_genes, n_tiles * BLOCKS.tile, 2 * n_state)
    A_parts = torch.empty_like(at_tiles)
    D_parts, bias_parts = (given.A.new_empty(*along, n_channels) for _ in range(2))
    triton_kernels.tile_gradients[(n_tiles, sizes.n_items, n_blocks)](
        *given[:-1],
        dy,
        at_tiles,
        after_tiles,
        *into,
        BC_parts,
        A_parts,
        D_parts,
        bias_parts,
        *sizes[1:6],
        spans[0] * BLOCKS.span,
        n_tiles,
        FIRST=given.first,
        GIVEN=rank == 0,
        TILE=BLOCKS.tile,
        BLOCK_E=BLOCKS.tile_channels,
        num_warps=max(1, BLOCKS.tile_channels // 32),
        **_OPTIONS,
    )
    return BC_parts.sum(dim=0), A_parts.sum(dim=(1, 2)), D_parts.sum(dim=(1, 2)), bias_parts.sum(dim=(1, 2))


def convolve(x: Tensor, taps: Tensor, bias: Tensor, first: int) -> Tensor:
    """silu(bias + causal convolution of x) in every direction, (G, B, L, E), of x (B, L, E) and taps (G, K, E)."""
    u = x.new_empty(taps.shape[0], *x.shape)
    _convolve(x, taps, bias, first, u, None, None)
    return u


def convolve_backward(x: Tensor, taps: Tensor, bias: Tensor, first: int, du: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, taps and bias from that of the output, (G, B, L, E)."""
    n_genes, n_positions, n_channels = x.shape
    n_directions, n_taps = taps.shape[:2]
    n_tiles = -(-n_positions // BLOCKS.conv_tile)
    parts = taps.new_empty(n_directions, n_genes, n_tiles, n_taps + 1, n_channels)
    dpre = torch.empty_like(du)
    _convolve(x, taps, bias, first, dpre, du, parts)
    dx = torch.empty_like(x)
    triton_block_kernels.convolve_input[(n_tiles, n_genes, -(-n_channels // 64))](
        dpre,
        taps,
        dx,
        n_genes,
        n_positions,
        n_channels,
        n_taps,
        n_directions,
        FIRST=first,
        TILE=BLOCKS.conv_tile,
        BLOCK_E=64,
        **_OPTIONS,
    )
    of_weights = parts.sum(dim=(1, 2))  # (G, K + 1, E)
    return dx, of_weights[:, :-1], of_weights[:, -1]


def _convolve(
    x: Tensor, taps: Tensor, bias: Tensor, first: int, result: Tensor, du: Tensor | None, parts: Tensor | None
) -> None:
    n_genes, n_positions, n_channels = x.shape
    n_directions, n_taps = taps.shape[:2]
    grid = (-(-n_positions // BLOCKS.conv_tile), n_directions * n_genes, -(-n_channels // 64))
    triton_block_kernels.convolve[grid](
        x,
        taps,
        bias,
        x if du is None else du,
        result,
        bias if parts is None else parts,
        n_genes,
        n_positions,
        n_channels,
        n_taps,
        FIRST=first,
        BACKWARD=du is not None,
        TILE=BLOCKS.conv_tile,
        BLOCK_E=64,
        **_OPTIONS,
    )


def gate(y: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """y[0] + y[1] in z's dtype, and that times silu(z), both (B, L, E)."""
    both, gated = torch.empty_like(z), torch.empty_like(z)
    block = 1024
    triton_block_kernels.gate_forward[(-(-z.numel() // block),)](y, z, both, gated, z.numel(), BLOCK=block, **_OPTIONS)
    return both, gated


def gate_backward(dgated: Tensor, both: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of the sum of directions and of z."""
    dboth, dz = torch.empty_like(z), torch.empty_like(z)
    block = 1024
    triton_block_kernels.gate_backward[(-(-z.numel() // block),)](
        dgated, both, z, dboth, dz, z.numel(), BLOCK=block, **_OPTIONS
    )
    return dboth, dz
