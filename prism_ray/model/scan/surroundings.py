"""What surrounds the inner part of a block on the CPU: RMSNorm, and products whose results are borrowed memory.

PyTorch's own are right as well, but take several passes over fresh memory, which costs more than the arithmetic.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from prism_ray.model.scan import norm_kernels
from prism_ray.model.scan.buffers import borrow
from prism_ray.model.scan.simd import WIDTH
from prism_ray.model.scan.threads import flat, over_parts, padded, share


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """X / sqrt(mean of squares of its channels + eps) * weight, (..., D)."""
    y: Tensor = _RmsNorm.apply(x, weight, eps)  # type: ignore[no-untyped-call]
    return y


def products(hidden: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
    """Hidden @ weight.T for each weight (E, D), (..., E) each, from hidden (..., D)."""
    results: tuple[Tensor, ...] = _Products.apply(hidden, *weights)  # type: ignore[no-untyped-call]
    return results


class _RmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        x = x.contiguous()
        n_channels = x.shape[-1]
        n_rows = x.numel() // n_channels
        y = borrow(*x.shape)
        items = -(-n_rows // norm_kernels.ROWS)
        share(norm_kernels.norm_forward, items, x.numel(), n_rows, n_channels, eps, flat(x), padded(weight), flat(y))
        ctx.save_for_backward(x, weight)
        ctx.eps = eps
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight = ctx.saved_tensors
        n_channels = x.shape[-1]
        n_rows = x.numel() // n_channels
        dx = borrow(*x.shape)
        items = -(-n_rows // norm_kernels.ROWS)
        dweight = np.zeros((items, -(-n_channels // WIDTH) * WIDTH), dtype=np.float32)
        inputs = (flat(x), padded(weight), flat(dy.contiguous()))
        arguments = (n_rows, n_channels, ctx.eps, inputs, flat(dx), dweight.ravel())
        share(norm_kernels.norm_backward, items, x.numel(), *arguments)
        return dx, over_parts(dweight, n_channels), None


class _Products(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
        rows = hidden.reshape(-1, hidden.shape[-1])
        results = []
        for weight in weights:
            result = borrow(rows.shape[0], weight.shape[0])
            torch.mm(rows, weight.t(), out=result)
            results.append(result.view(*hidden.shape[:-1], -1))
        ctx.save_for_backward(rows, *weights)
        ctx.leading = hidden.shape[:-1]
        return tuple(results)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        rows, *weights = ctx.saved_tensors
        into = borrow(*rows.shape)
        of_weights = []
        for number, (weight, gradient) in enumerate(zip(weights, gradients, strict=True)):
            of_rows = gradient.reshape(rows.shape[0], -1)
            of_weights.append(of_rows.t() @ rows)
            if number == 0:
                torch.mm(of_rows, weight, out=into)
            else:
                into.addmm_(of_rows, weight)
        return into.view(*ctx.leading, -1), *of_weights
