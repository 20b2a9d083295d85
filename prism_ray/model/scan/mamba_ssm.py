"""The CUDA kernels of the package mamba-ssm behind our operations, and causal-conv1d's where it is installed.

Both are built against one version of PyTorch and CUDA, and fail at import after an upgrade of either: they are probed
by importing them, never by their version. Their layout is (B, E, L) and they run from left to right only, so tensors
are transposed, and flipped for the other direction.

Legend: B genes (times copies), L positions in bp, E inner channels, N state size.
"""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from prism_ray.model.scan import reference
from prism_ray.model.scan.reference import DirectionWeights

# Where generations of the packages keep their function; the first that can be used is taken.
_SCAN_PLACES = ("mamba_ssm.ops.selective_scan_interface", "mamba_ssm.ops.selective_scan", "mamba_ssm")
_CONV_PLACES = ("causal_conv1d", "causal_conv1d.causal_conv1d_interface")
_CONV_WIDTHS = (2, 3, 4)
_CONV_CHUNK_BYTES = 2048
"""What causal-conv1d takes of a row at a time: 128 threads of 16 bytes."""
_SCAN_ARGUMENTS = ("u", "delta", "A", "B", "C", "D", "delta_bias", "delta_softplus")
_CONV_ARGUMENTS = ("x", "weight", "bias", "activation")


@dataclass(frozen=True)
class Probe:
    """Whether a package's function can be used.

    Attributes:
        function: the function; None where it cannot be used.
        reason: why not, or where it was found.
    """

    function: Callable[..., Any] | None
    reason: str


@functools.cache
def probe_scan() -> Probe:
    """`selective_scan_fn` of mamba-ssm; imported once a process."""
    return _probe("selective_scan_fn", _SCAN_PLACES, _SCAN_ARGUMENTS, "selective_scan_cuda")


@functools.cache
def probe_conv() -> Probe:
    """`causal_conv1d_fn` of causal-conv1d; imported once a process."""
    return _probe("causal_conv1d_fn", _CONV_PLACES, _CONV_ARGUMENTS, "causal_conv1d_cuda")


def _probe(name: str, places: tuple[str, ...], arguments: tuple[str, ...], compiled: str) -> Probe:
    reasons = []
    for place in places:
        try:
            module = importlib.import_module(place)
        except ModuleNotFoundError as problem:
            package = place.split(".")[0]
            reasons.append("not installed" if problem.name == package else f"{place} needs {problem.name}")
            continue
        except (ImportError, OSError, RuntimeError, AttributeError) as problem:
            # A library built for another PyTorch or CUDA: an undefined symbol, or a file that is not there.
            said = str(problem).splitlines() or [type(problem).__name__]
            reasons.append(f"{place} does not load: {said[0]}")
            continue
        found = _usable(module, name, arguments, compiled)
        if found.function is not None:
            return found
        reasons.append(found.reason)
    return Probe(None, "; ".join(dict.fromkeys(reasons)))


def _usable(module: ModuleType, name: str, arguments: tuple[str, ...], compiled: str) -> Probe:
    function = getattr(module, name, None)
    if function is None:
        return Probe(None, f"{module.__name__} has no {name}")
    # Some releases import their compiled part with a fallback to None and fail only when called.
    if getattr(module, compiled, True) is None:
        return Probe(None, f"{module.__name__} was built without its CUDA part ({compiled})")
    taken = inspect.signature(function).parameters
    missing = [argument for argument in arguments if argument not in taken]
    if missing:
        return Probe(None, f"{module.__name__}.{name} has no argument {', '.join(missing)}")
    return Probe(function, f"{module.__name__}.{name}")


def selective_scan(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, delta_bias: Tensor, reverse: bool
) -> Tensor:
    """State-space recurrence along L; see `prism_ray.model.scan.selective_scan`."""
    u, delta, B, C = (_along(tensor, reverse) for tensor in (u, delta, B, C))
    return _back(_scan(u, delta, B, C, A, D, delta_bias), reverse)


def projected_scan(
    u: Tensor, projected: Tensor, step_weight: Tensor, A: Tensor, D: Tensor, delta_bias: Tensor, reverse: bool
) -> Tensor:
    """Selective scan of parameters that come out of one projection; see `prism_ray.model.scan.projected_scan`."""
    n_state = A.shape[1]
    low_rank, B, C = torch.split(projected, [step_weight.shape[1], n_state, n_state], dim=-1)
    delta = F.linear(low_rank, step_weight.to(low_rank.dtype))
    return selective_scan(u, delta, A, B, C, D, delta_bias, reverse)


def causal_conv_silu(x: Tensor, weight: Tensor, bias: Tensor, reverse: bool) -> Tensor:
    """Depthwise causal convolution, then SiLU; see `prism_ray.model.scan.causal_conv_silu`."""
    return _back(_conv(_along(x, reverse), weight, bias), reverse)


gated_sum = reference.gated_sum


def bidirectional_inner(x: Tensor, z: Tensor, left: DirectionWeights, right: DirectionWeights) -> Tensor:
    """Both directions of a block and the gate; see `prism_ray.model.scan.bidirectional_inner`.

    Transposed once each way; the reverse direction flips its input and its output, the gate stands behind the sum.
    """
    along = _along(x, False)
    forward = _direction(along, left)
    backward = _direction(along.flip(2), right).flip(2)
    return (forward + backward).transpose(1, 2) * F.silu(z)


def _direction(x: Tensor, own: DirectionWeights) -> Tensor:
    """One direction before the gate from left to right, (B, E, L) to (B, E, L)."""
    u = _conv(x, own.conv_weight, own.conv_bias)
    packed = F.linear(u.transpose(1, 2), own.x_proj.to(u.dtype))
    n_state = own.A.shape[1]
    low_rank, B, C = torch.split(packed, [own.dt_weight.shape[1], n_state, n_state], dim=-1)
    delta = F.linear(low_rank, own.dt_weight.to(low_rank.dtype))
    delta, B, C = (_along(tensor, False) for tensor in (delta, B, C))
    return _scan(u, delta, B, C, own.A, own.D, own.dt_bias)


def _scan(u: Tensor, delta: Tensor, B: Tensor, C: Tensor, A: Tensor, D: Tensor, delta_bias: Tensor) -> Tensor:
    """The package's scan: u, delta (B, E, L), B, C (B, N, L) of one dtype, the weights float32."""
    function = probe_scan().function
    assert function is not None, "the registry offers this kernel only where the probe found it"
    y: Tensor = function(
        u,
        delta.to(u.dtype),
        A.float().contiguous(),
        B.to(u.dtype),
        C.to(u.dtype),
        D=D.float(),
        delta_bias=delta_bias.float(),
        delta_softplus=True,
    )
    return y


def _conv(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """silu(bias + causal convolution), (B, E, L), by causal-conv1d where it is installed and knows the width."""
    function = probe_conv().function
    channels, width = weight.shape
    if function is not None and width in _CONV_WIDTHS and not _ends_short(x, width):
        y: Tensor = function(x=x, weight=weight.contiguous(), bias=bias, activation="silu")
        return y
    padded = F.pad(x, (width - 1, 0))
    return F.silu(F.conv1d(padded, weight[:, None].to(x.dtype), bias.to(x.dtype), groups=channels))


def _ends_short(x: Tensor, width: int) -> bool:
    """Whether causal-conv1d's last chunk of a row has fewer positions than the convolution looks back.

    Its gradient of x is wrong there: with causal-conv1d 1.7.0 by 4 % of its largest value at the end of 513 positions
    in float32, against the float64 reference.
    """
    return 0 < x.shape[2] % (_CONV_CHUNK_BYTES // x.element_size()) < width


def _along(tensor: Tensor, reverse: bool) -> Tensor:
    """(B, L, E) -> (B, E, L) in the direction of the walk, contiguous."""
    return (tensor.flip(1) if reverse else tensor).transpose(1, 2).contiguous()


def _back(tensor: Tensor, reverse: bool) -> Tensor:
    """(B, E, L) in the direction of the walk -> (B, L, E)."""
    result = tensor.transpose(1, 2)
    return (result.flip(1) if reverse else result).contiguous()
