"""The operations of a Mamba block, each one op with several kernels behind it.

Layout is channel-last everywhere: neighbouring channels are neighbours in memory, so kernels run
over channels in vectors and no operation needs a transpose or, for the reverse direction, a flip.

Legend: B genes (times copies), L positions in bp, E inner channels, N state size, K convolution width.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from prism_ray.errors import FaultList, InputError
from prism_ray.model.scan.reference import DirectionWeights
from prism_ray.model.scan.registry import (
    KERNELS,
    FusedOperations,
    Kernel,
    Operations,
    RoundingNorm,
    SurroundingOperations,
    available_kernels,
    choose,
    pick,
)

__all__ = [
    "KERNELS",
    "DirectionWeights",
    "Kernel",
    "available_kernels",
    "bidirectional_inner",
    "causal_conv_silu",
    "gated_sum",
    "products",
    "projected_scan",
    "rms_norm",
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


def bidirectional_inner(
    x: Tensor, z: Tensor, left: DirectionWeights, right: DirectionWeights, *, kernel: str = "auto"
) -> Tensor:
    """What a bidirectional block does between its projections in and out, differentiable in every tensor.

    (left_to_right(x) + right_to_left(x)) * silu(z), (B, L, E), each direction being `causal_conv_silu`, the
    projection to step size, B and C, and `projected_scan`. Kernels that have it as one operation keep much less
    for the backward pass than its parts would.

    Args:
        x: input of both directions, (B, L, E), floating.
        z: gate before its SiLU, (B, L, E).
        left: weights of the direction that takes positions from left to right.
        right: weights of the other direction.
        kernel: `auto` or the name of a kernel.

    Raises:
        InputError: shapes that do not fit each other, or a kernel that does not serve these tensors.
    """
    shape = _shape_of(x, "x")
    tensors: dict[str, Tensor] = {"z": z}
    expected: dict[str, tuple[int, ...]] = {"z": shape}
    for side, weights in (("left", left), ("right", right)):
        tensors |= {f"{side}.{name}": tensor for name, tensor in weights._asdict().items()}
        expected |= _direction_shapes(side, weights, shape[2])
    _check_shapes(tensors, expected)
    given_x, given_z = x, z
    x, *others = _in_one_precision(x, *tensors.values())
    n_weights = len(DirectionWeights._fields)
    z, left, right = others[0], DirectionWeights(*others[1 : 1 + n_weights]), DirectionWeights(*others[1 + n_weights :])
    chosen = pick(kernel, x.device, x.dtype)
    if chosen.takes_half and x.dtype is torch.float32 and given_x.dtype is given_z.dtype:
        x, z = given_x, given_z
    operations = chosen.operations()
    if isinstance(operations, FusedOperations):
        return operations.bidirectional_inner(x, z, left, right)
    forward, backward = (_direction(operations, x, weights, weights is right) for weights in (left, right))
    return operations.gated_sum(forward, backward, z)


def rms_norm(x: Tensor, weight: Tensor, eps: float, *, kernel: str = "auto") -> Tensor:
    """X / sqrt(mean over channels of x^2 + eps) * weight, (..., D), differentiable in both tensors.

    Under autocast some kernels return it in autocast's precision: what follows a norm is a product, which would round
    it all the same.

    Args:
        x: (..., D), floating.
        weight: (D,).
        eps: added to the mean of squares.
        kernel: `auto` or the name of a kernel.
    """
    own = _surroundings(x, kernel)
    if own is not None and weight.dtype is x.dtype:
        return own.rms_norm(x, weight, eps)
    operations = choose(kernel, x.device, x.dtype)
    if isinstance(operations, RoundingNorm) and x.dtype is weight.dtype is torch.float32:
        mixed = torch.is_autocast_enabled(x.device.type)
        return operations.rms_norm_as(
            x, weight, eps, torch.get_autocast_dtype(x.device.type) if mixed else torch.float32
        )
    return F.rms_norm(x, weight.shape, weight, eps)


def products(hidden: Tensor, *weights: Tensor, kernel: str = "auto") -> tuple[Tensor, ...]:
    """Hidden @ weight.T for each weight (E, D), (..., E) each; autocast holds as for PyTorch's linear layer.

    Args:
        hidden: (..., D), floating.
        weights: (E, D) each.
        kernel: `auto` or the name of a kernel.
    """
    own = _surroundings(hidden, kernel)
    if own is not None and all(weight.dtype is hidden.dtype for weight in weights):
        return own.products(hidden, *weights)
    return tuple(F.linear(hidden, weight) for weight in weights)


def _surroundings(tensor: Tensor, kernel: str) -> SurroundingOperations | None:
    """A kernel's own norm and products where it has them for this tensor and precision."""
    if torch.is_autocast_enabled(tensor.device.type) or tensor.dtype not in (torch.float32, torch.float64):
        return None
    operations = choose(kernel, tensor.device, tensor.dtype)
    return operations if isinstance(operations, SurroundingOperations) else None


def _direction(operations: Operations, x: Tensor, weights: DirectionWeights, reverse: bool) -> Tensor:
    """One direction before the gate, (B, L, E), from a kernel's single operations."""
    u = operations.causal_conv_silu(x, weights.conv_weight, weights.conv_bias, reverse)
    packed = F.linear(u, weights.x_proj).to(u.dtype)  # under autocast the product is of lower precision
    return operations.projected_scan(u, packed, weights.dt_weight, weights.A, weights.D, weights.dt_bias, reverse)


def _direction_shapes(side: str, weights: DirectionWeights, n_channels: int) -> dict[str, tuple[int, ...]]:
    rank, n_state = max(1, weights.dt_weight.shape[-1]), weights.A.shape[-1]
    shapes: dict[str, tuple[int, ...]] = {
        "conv_weight": (n_channels, weights.conv_weight.shape[-1]),
        "conv_bias": (n_channels,),
        "x_proj": (rank + 2 * n_state, n_channels),
        "dt_weight": (n_channels, rank),
        "dt_bias": (n_channels,),
        "A": (n_channels, n_state),
        "D": (n_channels,),
    }
    return {f"{side}.{name}": shape for name, shape in shapes.items()}


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
