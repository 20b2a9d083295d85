"""The operations of a Mamba block, each one op with several kernels behind it.

Layout is channel-last everywhere: neighbouring channels are neighbours in memory, so kernels run
over channels in vectors and no operation needs a transpose or, for the reverse direction, a flip.

Legend: B genes (times copies), L positions in bp, E inner channels, N state size, K convolution width.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from prism_ray.errors import FaultList, InputError
from prism_ray.model.scan.registry import KERNELS, Kernel, available_kernels, choose

__all__ = [
    "KERNELS",
    "Kernel",
    "available_kernels",
    "causal_conv_silu",
    "gated_sum",
    "projected_scan",
    "selective_scan",
]


def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    *,
    delta_bias: Tensor,
    reverse: bool = False,
    kernel: str = "auto",
) -> Tensor:
    """Output of the selective state-space recurrence, differentiable in every tensor.

    With d = softplus(delta + delta_bias), for t = 0, 1, ... (L-1, L-2, ... where `reverse`):
    h = exp(d[t] A) h + d[t] u[t] B[t];  y[t] = C[t] . h + D u[t], h = 0 before the first position.

    Args:
        u: input, (B, L, E), floating.
        delta: step size before bias and softplus, (B, L, E).
        A: decay rates, (E, N), not positive.
        B: input weights, (B, L, N).
        C: output weights, (B, L, N).
        D: skip weights, (E,).
        delta_bias: bias of the step size, (E,).
        reverse: whether the recurrence runs from the last position to the first.
        kernel: `auto` or the name of a kernel.

    Returns:
        y, (B, L, E). Half precision is computed and returned in float32: the state needs it.

    Raises:
        InputError: shapes that do not fit each other, or a kernel that does not serve these tensors.

    Source: Gu and Dao 2023, arXiv 2312.00752, algorithm 2.
    """
    tensors = {"u": u, "delta": delta, "A": A, "B": B, "C": C, "D": D, "delta_bias": delta_bias}
    n_genes, n_positions, n_channels = _shape_of(u, "u")
    n_state = A.shape[-1]
    expected = {
        "delta": (n_genes, n_positions, n_channels),
        "A": (n_channels, n_state),
        "B": (n_genes, n_positions, n_state),
        "C": (n_genes, n_positions, n_state),
        "D": (n_channels,),
        "delta_bias": (n_channels,),
    }
    _check_shapes(tensors, expected)
    u, delta, A, B, C, D, delta_bias = _in_one_precision(*tensors.values())
    operations = choose(kernel, u.device, u.dtype)
    return operations.selective_scan(u, delta, A, B, C, D, delta_bias, reverse)


def projected_scan(
    u: Tensor,
    projected: Tensor,
    step_weight: Tensor,
    A: Tensor,
    D: Tensor,
    *,
    delta_bias: Tensor,
    reverse: bool = False,
    kernel: str = "auto",
) -> Tensor:
    """Selective scan whose step size, B and C are cut from one projection of u: (B, L, E), as `selective_scan`.

    Equal to `selective_scan(u, projected[..., :R] @ step_weight.T, A, B, C, D, ...)`; kernels need not write
    the step sizes down.

    Args:
        u: input, (B, L, E), floating.
        projected: of each position R values of the step size, then B, then C: (B, L, R + 2 N).
        step_weight: projection to the step size, (E, R), R >= 1.
        A: decay rates, (E, N), not positive.
        D: skip weights, (E,).
        delta_bias: bias of the step size, (E,).
        reverse: whether the recurrence runs from the last position to the first.
        kernel: `auto` or the name of a kernel.

    Raises:
        InputError: shapes that do not fit each other, or a kernel that does not serve these tensors.
    """
    tensors = {"projected": projected, "step_weight": step_weight, "A": A, "D": D, "delta_bias": delta_bias}
    n_genes, n_positions, n_channels = _shape_of(u, "u")
    rank, n_state = max(1, step_weight.shape[-1]), A.shape[-1]
    expected = {
        "projected": (n_genes, n_positions, rank + 2 * n_state),
        "step_weight": (n_channels, rank),
        "A": (n_channels, n_state),
        "D": (n_channels,),
        "delta_bias": (n_channels,),
    }
    _check_shapes(tensors, expected)
    u, projected, step_weight, A, D, delta_bias = _in_one_precision(u, *tensors.values())
    operations = choose(kernel, u.device, u.dtype)
    return operations.projected_scan(u, projected, step_weight, A, D, delta_bias, reverse)


def causal_conv_silu(x: Tensor, weight: Tensor, bias: Tensor, *, reverse: bool = False, kernel: str = "auto") -> Tensor:
    """silu(bias + depthwise causal convolution of x), (B, L, E), differentiable in every tensor.

    Position t sees x[t-K+1 .. t] with weight[:, K-1] on x[t]; where `reverse`, it sees x[t .. t+K-1]
    with the same weight on x[t]. Beyond the window x is 0.

    Args:
        x: (B, L, E), floating.
        weight: (E, K).
        bias: (E,).
        reverse: whether the past of a position is on its right.
        kernel: `auto` or the name of a kernel.

    Raises:
        InputError: shapes that do not fit each other, or a kernel that does not serve these tensors.
    """
    n_channels = _shape_of(x, "x")[2]
    expected = {"weight": (n_channels, weight.shape[-1]), "bias": (n_channels,)}
    _check_shapes({"weight": weight, "bias": bias}, expected)
    x, weight, bias = _in_one_precision(x, weight, bias)
    operations = choose(kernel, x.device, x.dtype)
    return operations.causal_conv_silu(x, weight, bias, reverse)


def gated_sum(forward: Tensor, backward: Tensor, z: Tensor, *, kernel: str = "auto") -> Tensor:
    """(forward + backward) * silu(z), elementwise over three tensors of one shape (B, L, E).

    Raises:
        InputError: shapes that differ, or a kernel that does not serve these tensors.
    """
    shape = _shape_of(forward, "forward")
    _check_shapes({"backward": backward, "z": z}, {"backward": shape, "z": shape})
    forward, backward, z = _in_one_precision(forward, backward, z)
    operations = choose(kernel, forward.device, forward.dtype)
    return operations.gated_sum(forward, backward, z)


def _shape_of(tensor: Tensor, name: str) -> tuple[int, int, int]:
    if tensor.ndim == 3 and tensor.numel() > 0:
        return (tensor.shape[0], tensor.shape[1], tensor.shape[2])
    faults = FaultList()
    faults.add(name, f"has shape {tuple(tensor.shape)}", "expected (B, L, E), none of them 0")
    faults.raise_if_any(InputError)
    raise AssertionError("a fault that was not raised")


def _check_shapes(tensors: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]]) -> None:
    faults = FaultList()
    for name, shape in expected.items():
        given = tuple(tensors[name].shape)
        if given != shape:
            faults.add(name, f"has shape {given}", f"expected {shape}")
    faults.raise_if_any(InputError)


def _in_one_precision(*tensors: Tensor) -> list[Tensor]:
    """All in float64 where one of them is, in float32 otherwise."""
    double = any(tensor.dtype is torch.float64 for tensor in tensors)
    dtype = torch.float64 if double else torch.float32
    return [tensor.to(dtype) for tensor in tensors]
