"""Which implementation of the block's operations runs where.

A kernel is one entry of `KERNELS`: its name, the devices and dtypes it serves, and its functions. The
first entry that serves a tensor is what `kernel="auto"` takes: numba on the CPU; on an NVIDIA GPU Triton, measured
faster than mamba-ssm (docs/performance.md), and mamba-ssm where it can be imported and Triton does not run; and the
reference for float64 and for whatever else no kernel serves. `prism-ray doctor` says which one that is on a machine,
and why not the others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from prism_ray.errors import Fault, InputError, did_you_mean
from prism_ray.model.scan import mamba_ssm, reference, triton_probe
from prism_ray.model.scan.reference import DirectionWeights


class Operations(Protocol):
    """What a kernel implements; shapes as in `prism_ray.model.scan`."""

    def selective_scan(
        self, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, delta_bias: Tensor, reverse: bool
    ) -> Tensor: ...

    def projected_scan(
        self, u: Tensor, projected: Tensor, step_weight: Tensor, A: Tensor, D: Tensor, delta_bias: Tensor, reverse: bool
    ) -> Tensor: ...

    def causal_conv_silu(self, x: Tensor, weight: Tensor, bias: Tensor, reverse: bool) -> Tensor: ...

    def gated_sum(self, forward: Tensor, backward: Tensor, z: Tensor) -> Tensor: ...


@runtime_checkable
class FusedOperations(Operations, Protocol):
    """A kernel that has the inner part of a block as one operation too; for the others it is put together."""

    def bidirectional_inner(self, x: Tensor, z: Tensor, left: DirectionWeights, right: DirectionWeights) -> Tensor: ...


@runtime_checkable
class SurroundingOperations(Operations, Protocol):
    """A kernel that has its own norm and projections of a block; for the others they are PyTorch's."""

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor: ...

    def products(self, hidden: Tensor, *weights: Tensor) -> tuple[Tensor, ...]: ...


@runtime_checkable
class RoundingNorm(Operations, Protocol):
    """A kernel that has its own norm of float32 tensors, whose result it rounds to the precision that comes next."""

    def rms_norm_as(self, x: Tensor, weight: Tensor, eps: float, dtype: torch.dtype) -> Tensor: ...


@dataclass(frozen=True)
class Kernel:
    """One implementation of the block's operations.

    Attributes:
        name: what `kernel=` takes.
        serves: where it runs, in words.
        supports: whether it runs on a device with a dtype.
        operations: imports and returns its functions; called only when the kernel is used.
        takes_half: whether `bidirectional_inner` reads x and z in half precision as they are (weights are float32
            then); other kernels are given float32.
    """

    name: str
    serves: str
    supports: Callable[[torch.device, torch.dtype], bool]
    operations: Callable[[], Operations]
    takes_half: bool = False


def _numba_operations() -> Operations:
    # Numba takes a second to import, which a GPU worker need not pay.
    from prism_ray.model.scan import cpu

    return cpu


_SINGLE_OR_HALF = (torch.float32, torch.bfloat16, torch.float16)


def _mamba_serves(device: torch.device, dtype: torch.dtype) -> bool:
    return device.type == "cuda" and dtype in _SINGLE_OR_HALF and mamba_ssm.probe_scan().function is not None


def _triton_serves(device: torch.device, dtype: torch.dtype) -> bool:
    return dtype in _SINGLE_OR_HALF and triton_probe.device_problem(device) == ""


def _mamba_operations() -> Operations:
    return mamba_ssm


def _triton_operations() -> Operations:
    # Triton is installed with PyTorch's CUDA builds alone.
    from prism_ray.model.scan import triton_scan

    return triton_scan


def _reference_operations() -> Operations:
    return reference


KERNELS: tuple[Kernel, ...] = (
    Kernel(
        name="numba",
        serves="CPU, float32 (bfloat16 and float16 are computed in float32)",
        supports=lambda device, dtype: device.type == "cpu" and dtype is torch.float32,
        operations=_numba_operations,
    ),
    Kernel(
        name="triton",
        serves="NVIDIA GPUs, float32, bfloat16 and float16",
        supports=_triton_serves,
        operations=_triton_operations,
        takes_half=True,
    ),
    Kernel(
        name="mamba-ssm",
        serves="NVIDIA GPUs, float32, bfloat16 and float16, where the package mamba-ssm can be imported",
        supports=_mamba_serves,
        operations=_mamba_operations,
        takes_half=True,
    ),
    Kernel(
        name="reference",
        serves="any device, any floating dtype; slow",
        supports=lambda device, dtype: dtype.is_floating_point,
        operations=_reference_operations,
    ),
)


def available_kernels(device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> tuple[Kernel, ...]:
    """Kernels that run on a device with a dtype; the first is what `auto` takes there."""
    where = torch.device(device)
    return tuple(kernel for kernel in KERNELS if kernel.supports(where, dtype))


def choose(name: str, device: torch.device, dtype: torch.dtype) -> Operations:
    """Operations of the kernel that `pick` finds."""
    return pick(name, device, dtype).operations()


def pick(name: str, device: torch.device, dtype: torch.dtype) -> Kernel:
    """The kernel of that name, or for `auto` the fastest that serves device and dtype.

    Raises:
        InputError: no kernel of that name, or it does not serve this device and dtype.
    """
    for kernel in KERNELS:
        if name in ("auto", kernel.name) and kernel.supports(device, dtype):
            return kernel
    known = {kernel.name: kernel for kernel in KERNELS}
    if name not in known:
        fault = Fault("kernel", f"{name!r} is not a kernel", did_you_mean(name, ["auto", *known]))
    else:
        problem = f"{name!r} does not run on {device} with {dtype}"
        fault = Fault("kernel", problem, f"it serves {known[name].serves}; use 'auto'")
    raise InputError(str(fault), [fault])
