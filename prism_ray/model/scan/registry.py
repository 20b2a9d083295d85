"""Which implementation of the block's operations runs where.

A kernel is one entry of `KERNELS`: its name, the devices and dtypes it serves, and its functions. The
first entry that serves a tensor is what `kernel="auto"` takes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from prism_ray.errors import Fault, InputError, did_you_mean
from prism_ray.model.scan import reference


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


@dataclass(frozen=True)
class Kernel:
    """One implementation of the block's operations.

    Attributes:
        name: what `kernel=` takes.
        serves: where it runs, in words.
        supports: whether it runs on a device with a dtype.
        operations: imports and returns its functions; called only when the kernel is used.
    """

    name: str
    serves: str
    supports: Callable[[torch.device, torch.dtype], bool]
    operations: Callable[[], Operations]


def _numba_operations() -> Operations:
    # Numba takes a second to import, which a GPU worker need not pay.
    from prism_ray.model.scan import cpu

    return cpu


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
    """Operations of the kernel of that name, or of the fastest that serves device and dtype for `auto`.

    Raises:
        InputError: no kernel of that name, or it does not serve this device and dtype.
    """
    for kernel in KERNELS:
        if name in ("auto", kernel.name) and kernel.supports(device, dtype):
            return kernel.operations()
    known = {kernel.name: kernel for kernel in KERNELS}
    if name not in known:
        fault = Fault("kernel", f"{name!r} is not a kernel", did_you_mean(name, ["auto", *known]))
    else:
        problem = f"{name!r} does not run on {device} with {dtype}"
        fault = Fault("kernel", problem, f"it serves {known[name].serves}; use 'auto'")
    raise InputError(str(fault), [fault])
