"""Launches of the Triton kernels on whole tensors: forward and backward of the scan.

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

from prism_ray.model.scan import triton_kernels, triton_tile_kernels


@dataclass(frozen=True)
class Blocks:
    """How the work is cut; all but `segment` and `programs` are powers of two.

    Attributes:
        span: fewest positions walked by one program in a sweep; a multiple of `tile`.
        tile: positions in the registers of one program of the backward pass; at least 2.
        channels: channels of a program of the scan, of one warp each.
        step_tile: positions of a program that makes step sizes.
        conv_tile: positions of a program in the convolution.
        segment: genes times positions whose borders of tiles are in memory at a time in the backward pass.
        kept: genes times positions up to which the forward pass leaves it the borders of tiles.
        programs: spans are no shorter than gives a sweep this many programs.
    """

    span: int = 128
    tile: int = 16
    channels: int = 32
    step_tile: int = 32
    conv_tile: int = 64
    segment: int = 2**18
    kept: int = 2**16
    programs: int = 1000


BLOCKS = Blocks()

# Said outright, because Triton warns of a default that is about to change.
OPTIONS = {"enable_fp_fusion": True}


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

    @property
    def n_items(self) -> int:
        return self.n_directions * self.n_genes

    @property
    def n_blocks(self) -> int:
        return -(-self.n_channels // BLOCKS.channels)

    @property
    def n_tiles(self) -> int:
        return -(-self.n_positions // BLOCKS.tile)

    @property
    def span(self) -> int:
        """Positions of a span: as many as leave enough programs to fill a GPU."""
        span = BLOCKS.span
        while span < self.n_positions and self.n_items * self.n_blocks * self.n_positions >= 2 * span * BLOCKS.programs:
            span *= 2
        return span

    @property
    def n_spans(self) -> int:
        return -(-self.n_positions // self.span)


def _sizes(given: ScanInputs) -> _Sizes:
    n_directions, n_genes, n_positions, n_channels = given.u.shape
    return _Sizes(n_directions, n_genes, n_positions, n_channels, given.A.shape[1], given.weight.shape[1])


@dataclass(frozen=True)
class _Walk:
    """A scan that is about to be walked: its inputs, its sizes, and the step sizes after softplus, (G, B, L, E)."""

    given: ScanInputs
    sizes: _Sizes
    step: Tensor

    @classmethod
    def of(cls, given: ScanInputs) -> _Walk:
        sizes = _sizes(given)
        step = torch.empty_like(given.u, dtype=torch.float32)
        block = min(64, max(16, triton.next_power_of_2(sizes.n_channels)))
        grid = (-(-sizes.n_positions // BLOCKS.step_tile), sizes.n_items, -(-sizes.n_channels // block))
        triton_kernels.step_sizes[grid](
            given.delta,
            given.packed,
            given.weight,
            given.bias,
            step,
            *sizes[1:5],
            RANK=sizes.rank,
            TILE=BLOCKS.step_tile,
            BLOCK_E=block,
            **OPTIONS,
        )
        return cls(given, sizes, step)


def _sweep(
    walk: _Walk,
    task: str,
    out: dict[str, Tensor],
    *,
    dy: Tensor | None = None,
    starts: Tensor | None = None,
    spans: tuple[int, int] | None = None,
) -> None:
    given, sizes = walk.given, walk.sizes
    first_span, end_span = spans or (0, sizes.n_spans)
    unused = given.D
    arrays = {"dy": dy, "starts": starts, "ends": None, "sums": None, "y": None, "borders": None, **out}
    triton_kernels.sweep[(end_span - first_span, sizes.n_items, sizes.n_blocks)](
        given.u,
        walk.step,
        given.packed,
        given.A,
        given.D,
        *(unused if array is None else array for array in arrays.values()),
        *sizes[1:],
        sizes.span,
        sizes.n_spans,
        first_span,
        (end_span - first_span) * (sizes.span // BLOCKS.tile),
        FIRST=given.first,
        ADJOINT=dy is not None,
        TASK=task,
        BORDERS="borders" in out,
        TILE=BLOCKS.tile,
        BLOCK_E=BLOCKS.channels,
        BLOCK_N=triton.next_power_of_2(sizes.n_state),
        num_warps=1,
        maxnreg=128,  # more registers a program leave room for fewer programs, which is slower
        **OPTIONS,
    )


def _span_starts(walk: _Walk, dy: Tensor | None = None) -> Tensor:
    """State at the start of each span, (G, B, S, N, E); with dy, what flows into each span from after it."""
    sizes, A = walk.sizes, walk.given.A
    along = (sizes.n_directions, sizes.n_genes, sizes.n_spans)
    if sizes.n_spans == 1:
        return A.new_zeros(*along, sizes.n_state, sizes.n_channels)
    ends = A.new_empty(*along, sizes.n_state, sizes.n_channels)
    sums = A.new_empty(*along, sizes.n_channels)
    _sweep(walk, "ends", {"ends": ends, "sums": sums}, dy=dy)
    starts = torch.empty_like(ends)
    triton_kernels.join_spans[(sizes.n_items, sizes.n_blocks)](
        ends,
        sums,
        A,
        starts,
        sizes.n_genes,
        sizes.n_channels,
        sizes.n_state,
        sizes.n_spans,
        ADJOINT=dy is not None,
        BLOCK_E=BLOCKS.channels,
        BLOCK_N=triton.next_power_of_2(sizes.n_state),
        num_warps=1,
        **OPTIONS,
    )
    return starts


class Kept(NamedTuple):
    """States that the backward pass starts from: at spans, (G, B, S, N, E); at tiles, (G, B, T, N, E), or empty."""

    starts: Tensor
    borders: Tensor


def scan_forward(given: ScanInputs, *, keep: bool) -> tuple[Tensor, Kept]:
    """y, (G, B, L, E) in u's dtype, and the states that the backward pass needs.

    Args:
        given: the inputs.
        keep: whether a backward pass will follow: then short windows leave their states at tiles too.
    """
    walk = _Walk.of(given)
    sizes = walk.sizes
    starts = _span_starts(walk)
    out = {"y": torch.empty_like(given.u)}
    borders = given.A.new_empty(0)
    if keep and sizes.n_genes * sizes.n_positions <= BLOCKS.kept:
        borders = out["borders"] = _borders(walk, sizes.n_spans)
    _sweep(walk, "output", out, starts=starts)
    return out["y"], Kept(starts, borders)


def _borders(walk: _Walk, n_spans: int) -> Tensor:
    """Memory for the states at the tiles of some spans."""
    sizes = walk.sizes
    n_tiles = n_spans * (sizes.span // BLOCKS.tile)
    along = (sizes.n_directions, sizes.n_genes, n_tiles, sizes.n_state, sizes.n_channels)
    return walk.given.A.new_empty(along)


def scan_backward(given: ScanInputs, kept: Kept, dy: Tensor) -> ScanGradients:
    """Gradients of the inputs; dy, (B, L, E), reaches every direction.

    Tiles are taken a segment of spans at a time: what is kept of their borders does not grow with the window.
    """
    walk = _Walk.of(given)
    sizes = walk.sizes
    n_directions, n_genes, n_positions, rank = sizes.n_directions, sizes.n_genes, sizes.n_positions, sizes.rank
    adjoints = _span_starts(walk, dy)
    du, draw = torch.empty_like(given.u), torch.empty_like(given.u)
    BC = _by_walk(given, sizes)
    dBC = torch.empty_like(BC)
    dA, dD, dbias = torch.zeros_like(given.A), torch.zeros_like(given.D), torch.zeros_like(given.bias)
    step = max(1, BLOCKS.segment // (n_genes * sizes.span)) if kept.borders.numel() == 0 else sizes.n_spans
    for begin in range(0, sizes.n_spans, step):
        spans = (begin, min(begin + step, sizes.n_spans))
        of_A, of_D, of_bias = _tile_gradients(walk, (BC, dBC), kept, adjoints, dy, (du, draw), spans)
        dA += of_A
        dD += of_D
        dbias += of_bias
    dpacked = torch.empty_like(given.packed)
    for direction, rows in enumerate(dBC[..., :n_positions].unbind()):
        walked = rows.flip(2) if given.first + direction == 1 else rows
        dpacked[direction, ..., rank:] = walked.transpose(1, 2)
    dweight = torch.zeros_like(given.weight)
    if rank:
        dweight = sum_of_products(given.packed[..., :rank], draw)  # (G, R, E)
        of_low_rank = torch.bmm(draw.flatten(1, 2), given.weight.to(draw.dtype).transpose(1, 2))
        dpacked[..., :rank] = of_low_rank.view(n_directions, n_genes, n_positions, rank)
    return ScanGradients(du, draw, dpacked, dweight, dA, dD, dbias)


def sum_of_products(a: Tensor, b: Tensor) -> Tensor:
    """Sum over genes and positions of a's rows times b's: (G, B, L, I), (G, B, L, J) -> (G, I, J) in float32.

    A product a gene, then the sum over genes: the library takes a single thin product of all rows with few programs.
    """
    parts = torch.matmul(a.to(b.dtype).transpose(2, 3), b)  # (G, B, I, J)
    return parts.sum(dim=1, dtype=torch.float32)


def _by_walk(given: ScanInputs, sizes: _Sizes) -> Tensor:
    """B, then C, in walk order: (G, B, 2 N, W) in float32, zeros beyond the window."""
    width = sizes.n_tiles * BLOCKS.tile
    walked = given.A.new_zeros(sizes.n_directions, sizes.n_genes, 2 * sizes.n_state, width)
    for direction, rows in enumerate(given.packed[..., sizes.rank :].unbind()):
        ordered = rows.flip(1) if given.first + direction == 1 else rows
        walked[direction, ..., : sizes.n_positions] = ordered.transpose(1, 2)
    return walked


def _tile_gradients(
    walk: _Walk,
    by_walk: tuple[Tensor, Tensor],
    kept: Kept,
    adjoints: Tensor,
    dy: Tensor,
    into: tuple[Tensor, Tensor],
    spans: tuple[int, int],
) -> tuple[Tensor, Tensor, Tensor]:
    """Fill du, draw and dBC of some spans; the sums over them of the gradients of A, D and bias are returned."""
    given, sizes = walk.given, walk.sizes
    BC, dBC = by_walk
    tiles_a_span = sizes.span // BLOCKS.tile
    first_tile = spans[0] * tiles_a_span
    n_tiles = min(spans[1] * tiles_a_span, sizes.n_tiles) - first_tile
    at_tiles = kept.borders
    if at_tiles.numel() == 0:
        at_tiles = _borders(walk, spans[1] - spans[0])
        _sweep(walk, "borders", {"borders": at_tiles}, starts=kept.starts, spans=spans)
    after_tiles = _borders(walk, spans[1] - spans[0])
    _sweep(walk, "borders", {"borders": after_tiles}, dy=dy, starts=adjoints, spans=spans)
    A_parts = torch.empty_like(after_tiles)
    D_parts, bias_parts = (given.A.new_empty(*after_tiles.shape[:3], sizes.n_channels) for _ in range(2))
    triton_tile_kernels.tile_gradients[(n_tiles, sizes.n_items)](
        given.u,
        walk.step,
        BC,
        given.A,
        given.D,
        dy,
        at_tiles,
        after_tiles,
        *into,
        dBC,
        A_parts,
        D_parts,
        bias_parts,
        *sizes[1:5],
        first_tile,
        after_tiles.shape[2],
        BC.shape[3],
        FIRST=given.first,
        HALF=given.u.dtype is not torch.float32,
        TILE=BLOCKS.tile,
        BLOCK_E=BLOCKS.channels,
        BLOCK_N=max(16, triton.next_power_of_2(sizes.n_state)),
        num_warps=1,
        num_stages=1,  # copies ahead take registers that the tile needs
        **OPTIONS,
    )
    of_A, of_D, of_bias = (parts[:, :, :n_tiles].sum(dim=(1, 2)) for parts in (A_parts, D_parts, bias_parts))
    return of_A, of_D, of_bias
