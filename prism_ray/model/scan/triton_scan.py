"""The Triton kernels as differentiable PyTorch operations: NVIDIA GPUs, float32, bfloat16 and float16.

The state and all sums are float32 whatever the inputs are. Of a block's inner part the forward pass keeps x, z, the
sum of both directions, the packed projections, and states: of a short window one in `BLOCKS.tile` positions, of a long
one a state a span. The output of the convolutions and the step sizes are computed again on the way back.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from prism_ray.model.scan import reference, triton_block, triton_launch
from prism_ray.model.scan.reference import DirectionWeights
from prism_ray.model.scan.triton_launch import Kept, ScanInputs, scan_inputs
from prism_ray.model.scan.triton_norm import RmsNorm


def selective_scan(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, delta_bias: Tensor, reverse: bool
) -> Tensor:
    """State-space recurrence along L; see `prism_ray.model.scan.selective_scan`."""
    unprojected = u.new_empty(u.shape[2], 0)
    with _on(u.device):
        y: Tensor = _Scan.apply(u, delta, torch.cat([B, C], dim=-1), unprojected, A, D, delta_bias, reverse)  # type: ignore[no-untyped-call]
    return y


def projected_scan(
    u: Tensor, projected: Tensor, step_weight: Tensor, A: Tensor, D: Tensor, delta_bias: Tensor, reverse: bool
) -> Tensor:
    """Selective scan of parameters that come out of one projection; see `prism_ray.model.scan.projected_scan`."""
    no_delta = u.new_empty(0)
    with _on(u.device):
        y: Tensor = _Scan.apply(u, no_delta, projected, step_weight, A, D, delta_bias, reverse)  # type: ignore[no-untyped-call]
    return y


def causal_conv_silu(x: Tensor, weight: Tensor, bias: Tensor, reverse: bool) -> Tensor:
    """Depthwise causal convolution, then SiLU; see `prism_ray.model.scan.causal_conv_silu`."""
    with _on(x.device):
        y: Tensor = _ConvSilu.apply(x, weight, bias, reverse)  # type: ignore[no-untyped-call]
    return y


def rms_norm_as(x: Tensor, weight: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
    """RMSNorm of float32 tensors, rounded once to dtype; see `prism_ray.model.scan.rms_norm`."""
    with _on(x.device):
        y: Tensor = RmsNorm.apply(x, weight, eps, dtype)  # type: ignore[no-untyped-call]
    return y


gated_sum = reference.gated_sum  # elementwise: nothing to gain outside the fused operation


def bidirectional_inner(x: Tensor, z: Tensor, left: DirectionWeights, right: DirectionWeights) -> Tensor:
    """Both directions of a block and the gate; see `prism_ray.model.scan.bidirectional_inner`."""
    stacked = (torch.stack(pair) for pair in zip(left, right, strict=True))
    with _on(x.device):
        y: Tensor = _Inner.apply(x, z, *stacked)  # type: ignore[no-untyped-call]
    return y


def _on(device: torch.device) -> AbstractContextManager[None]:
    """Triton launches on the current device, whatever its arguments are on; autograd's threads see to it themselves."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        u: Tensor,
        delta: Tensor,
        packed: Tensor,
        weight: Tensor,
        A: Tensor,
        D: Tensor,
        bias: Tensor,
        reverse: bool,
    ) -> Tensor:
        tensors = (tensor[None] for tensor in (u, delta, packed, weight.t(), A.t(), D, bias))
        given = scan_inputs(tensors, int(reverse))
        y, kept = triton_launch.scan_forward(given, keep=any(ctx.needs_input_grad))
        ctx.save_for_backward(*given[:-1], *kept)
        ctx.first = given.first
        return y[0]

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        *tensors, starts, borders = ctx.saved_tensors
        given = scan_inputs(tensors, ctx.first)
        of = triton_launch.scan_backward(given, Kept(starts, borders), dy.contiguous())
        projected = tensors[3].shape[1] > 0
        ddelta = None if projected else of.delta[0]
        dweight = of.weight[0].t() if projected else None
        return of.u[0], ddelta, of.packed[0], dweight, of.A[0].t(), of.D[0], of.bias[0], None


class _ConvSilu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, reverse: bool) -> Tensor:
        x, taps, bias = x.contiguous(), weight.t()[None].contiguous(), bias[None].contiguous()
        ctx.save_for_backward(x, taps, bias)
        ctx.first = int(reverse)
        return triton_block.convolve(x, taps, bias, ctx.first)[0]

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, taps, bias = ctx.saved_tensors
        dx, dtaps, dbias = triton_block.convolve_backward(x, taps, bias, ctx.first, dy[None].contiguous())
        return dx, dtaps[0].t(), dbias[0], None


class _Inner(torch.autograd.Function):
    """Weights are those of `DirectionWeights`, stacked over directions, float32; x and z of one dtype."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        z: Tensor,
        conv_weight: Tensor,
        conv_bias: Tensor,
        x_proj: Tensor,
        dt_weight: Tensor,
        dt_bias: Tensor,
        A: Tensor,
        D: Tensor,
    ) -> Tensor:
        x, z = x.contiguous(), z.contiguous()
        taps, weight, rates = (tensor.transpose(1, 2).contiguous() for tensor in (conv_weight, dt_weight, A))
        u = triton_block.convolve(x, taps, conv_bias, 0)  # (2, B, L, E)
        with torch.autocast(x.device.type, enabled=False):
            packed = torch.bmm(u.flatten(1, 2), x_proj.to(u.dtype).transpose(1, 2))
        packed = packed.view(*u.shape[:3], -1)
        given = ScanInputs(u, u.new_empty(0), packed, weight, rates, D, dt_bias, 0)
        y, kept = triton_launch.scan_forward(given, keep=any(ctx.needs_input_grad))
        both, gated = triton_block.gate(y, z)
        ctx.save_for_backward(x, z, both, *kept, packed, taps, conv_bias, x_proj, weight, dt_bias, rates, D)
        return gated

    @staticmethod
    def backward(ctx: Any, dgated: Tensor) -> tuple[Tensor, ...]:
        x, z, both, starts, borders, packed, taps, conv_bias, x_proj, weight, dt_bias, rates, D = ctx.saved_tensors
        dy, dz = triton_block.gate_backward(dgated.contiguous(), both, z)
        u = triton_block.convolve(x, taps, conv_bias, 0)
        given = ScanInputs(u, u.new_empty(0), packed, weight, rates, D, dt_bias, 0)
        of = triton_launch.scan_backward(given, Kept(starts, borders), dy)
        of_packed = of.packed.flatten(1, 2)  # (2, B L, P)
        du = torch.baddbmm(of.u.flatten(1, 2), of_packed, x_proj.to(u.dtype)).view_as(u)
        dx_proj = triton_launch.sum_of_products(of.packed, u)
        dx, dtaps, dconv_bias = triton_block.convolve_backward(x, taps, conv_bias, 0, du)
        dweight, dA = (gradient.transpose(1, 2) for gradient in (of.weight, of.A))
        return dx, dz, dtaps.transpose(1, 2), dconv_bias, dx_proj, dweight, of.bias, dA, of.D
