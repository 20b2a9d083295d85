"""Launches of the Triton kernels around the scan on whole tensors: convolution with SiLU, and the gate.

Tensors of G directions are stacked as in `triton_launch`; the legend is that of `triton_block_kernels`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from prism_ray.model.scan import triton_block_kernels, triton_launch
from prism_ray.model.scan.triton_launch import OPTIONS


def convolve(x: Tensor, taps: Tensor, bias: Tensor, first: int) -> Tensor:
    """silu(bias + causal convolution of x) in every direction, (G, B, L, E), of x (B, L, E) and taps (G, K, E)."""
    u = x.new_empty(taps.shape[0], *x.shape)
    _convolve(x, taps, bias, first, u, None, None)
    return u


def convolve_backward(x: Tensor, taps: Tensor, bias: Tensor, first: int, du: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, taps and bias from that of the output, (G, B, L, E)."""
    n_genes, n_positions, n_channels = x.shape
    n_directions, n_taps = taps.shape[:2]
    n_tiles = -(-n_positions // triton_launch.BLOCKS.conv_tile)
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
        N_TAPS=n_taps,
        N_DIRECTIONS=n_directions,
        FIRST=first,
        TILE=triton_launch.BLOCKS.conv_tile,
        BLOCK_E=64,
        **OPTIONS,
    )
    of_weights = parts.sum(dim=(1, 2))  # (G, K + 1, E)
    return dx, of_weights[:, :-1], of_weights[:, -1]


def _convolve(
    x: Tensor, taps: Tensor, bias: Tensor, first: int, result: Tensor, du: Tensor | None, parts: Tensor | None
) -> None:
    n_genes, n_positions, n_channels = x.shape
    n_directions, n_taps = taps.shape[:2]
    grid = (-(-n_positions // triton_launch.BLOCKS.conv_tile), n_directions * n_genes, -(-n_channels // 64))
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
        N_TAPS=n_taps,
        FIRST=first,
        BACKWARD=du is not None,
        TILE=triton_launch.BLOCKS.conv_tile,
        BLOCK_E=64,
        **OPTIONS,
    )


def gate(y: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """y[0] + y[1] in z's dtype, and that times silu(z), both (B, L, E)."""
    both, gated = torch.empty_like(z), torch.empty_like(z)
    block = 1024
    triton_block_kernels.gate_forward[(-(-z.numel() // block),)](y, z, both, gated, z.numel(), BLOCK=block, **OPTIONS)
    return both, gated


def gate_backward(dgated: Tensor, both: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of the sum of directions and of z."""
    dboth, dz = torch.empty_like(z), torch.empty_like(z)
    block = 1024
    triton_block_kernels.gate_backward[(-(-z.numel() // block),)](
        dgated, both, z, dboth, dz, z.numel(), BLOCK=block, **OPTIONS
    )
    return dboth, dz
