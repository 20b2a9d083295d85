"""RMSNorm on NVIDIA GPUs as a differentiable PyTorch operation that gives its result in the precision asked for."""

from __future__ import annotations

from typing import Any

import torch
import triton
from torch import Tensor

from prism_ray.model.scan.triton_norm_kernels import norm_backward, norm_forward

_ROWS = 16
_TURNS = 4


class RmsNorm(torch.autograd.Function):
    """Of x (..., D) and weight (D,), both float32; the result has `dtype`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
        x, weight = x.contiguous(), weight.contiguous()
        n_channels = x.shape[-1]
        n_rows = x.numel() // n_channels
        y = torch.empty_like(x, dtype=dtype)
        scale = x.new_empty(n_rows)
        norm_forward[(-(-n_rows // _ROWS),)](
            x, weight, y, scale, n_rows, n_channels, eps, ROWS=_ROWS, BLOCK_D=triton.next_power_of_2(n_channels)
        )
        ctx.save_for_backward(x, weight, scale)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, scale = ctx.saved_tensors
        n_channels = x.shape[-1]
        n_blocks = -(-scale.numel() // (_ROWS * _TURNS))
        dx, parts = torch.empty_like(x), x.new_empty(n_blocks, n_channels)
        norm_backward[(n_blocks,)](
            dy.contiguous(),
            x,
            weight,
            scale,
            dx,
            parts,
            scale.numel(),
            n_channels,
            ROWS=_ROWS,
            TURNS=_TURNS,
            BLOCK_D=triton.next_power_of_2(n_channels),
        )
        return dx, parts.sum(dim=0), None, None
