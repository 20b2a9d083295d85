"""What this machine offers a model: libraries, devices, and which kernel is active where, and why not the others."""

from __future__ import annotations

import importlib.metadata
import platform
import time
from dataclasses import asdict, dataclass
from typing import Any

import torch
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from prism_ray.machine import usable_cpus
from prism_ray.model.scan import (
    KERNELS,
    DirectionWeights,
    Kernel,
    available_kernels,
    bidirectional_inner,
    mamba_ssm,
    triton_probe,
)

DISTRIBUTION = "prism-ray"
VALUE_BOUND = 1.0e-5
GRADIENT_BOUND = 1.0e-4


@dataclass(frozen=True)
class Library:
    """A library and the versions that are needed.

    Attributes:
        name: of the distribution.
        needed: allowed versions; empty where any will do.
        found: installed version; None where it is missing.
        ok: whether what was found is allowed.
    """

    name: str
    needed: str
    found: str | None
    ok: bool


@dataclass(frozen=True)
class Device:
    """A CPU or GPU that a model can run on.

    Attributes:
        name: as PyTorch calls it, `cuda:0` for example.
        model: the maker's name.
        memory_bytes: its memory; None for the CPU.
        note: threads of a CPU; compute capability, CUDA version and bfloat16 of a GPU.
    """

    name: str
    model: str
    memory_bytes: int | None
    note: str


@dataclass(frozen=True)
class KernelState:
    """One kernel on one device.

    Attributes:
        device: name of the device.
        kernel: name of the kernel.
        available: whether it runs there with float32.
        active: whether `auto` takes it there.
        reason: why it is not available or not active; of an active one, where it comes from.
    """

    device: str
    kernel: str
    available: bool
    active: bool
    reason: str


@dataclass(frozen=True)
class SelfTest:
    """The active kernel of a device against the reference in float64, on a small block.

    Attributes:
        value_error: largest difference of the output over its largest value; None where the kernel failed.
        gradient_error: the same over all gradients.
        seconds: of a forward and backward pass, compilation included.
        ok: whether both are within bounds.
        problem: what the kernel failed with; empty where it ran.
    """

    device: str
    kernel: str
    value_error: float | None
    gradient_error: float | None
    seconds: float
    ok: bool
    problem: str


@dataclass(frozen=True)
class Diagnosis:
    """All of it; `ok` is false where something required is missing or the active kernel is wrong."""

    python: Library
    libraries: tuple[Library, ...]
    devices: tuple[Device, ...]
    kernels: tuple[KernelState, ...]
    self_tests: tuple[SelfTest, ...]

    @property
    def ok(self) -> bool:
        """Whether training can start here."""
        libraries = all(library.ok for library in (self.python, *self.libraries))
        return libraries and all(test.ok for test in self.self_tests)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "ok": self.ok}


def diagnose() -> Diagnosis:
    """Look at the machine, and run each device's active kernel once."""
    found = devices()
    return Diagnosis(
        python=_python(),
        libraries=libraries(),
        devices=found,
        kernels=tuple(state for device in found for state in kernel_states(torch.device(device.name))),
        self_tests=tuple(self_test(torch.device(device.name)) for device in found),
    )


def _python() -> Library:
    about = importlib.metadata.metadata(DISTRIBUTION)
    needed = about["Requires-Python"] if "Requires-Python" in about else ""
    version = platform.python_version()
    return Library("python", needed, version, SpecifierSet(needed).contains(version, prereleases=True))


def libraries() -> tuple[Library, ...]:
    """Every library that the package requires here, as its metadata say; extras are left out."""
    required = (Requirement(line) for line in importlib.metadata.requires(DISTRIBUTION) or ())
    return tuple(_library(one) for one in required if one.marker is None or one.marker.evaluate({"extra": ""}))


def _library(needed: Requirement) -> Library:
    try:
        version = importlib.metadata.version(needed.name)
    except importlib.metadata.PackageNotFoundError:
        return Library(needed.name, str(needed.specifier), None, False)
    return Library(needed.name, str(needed.specifier), version, needed.specifier.contains(version, prereleases=True))


def devices() -> tuple[Device, ...]:
    """The CPU, then every GPU that PyTorch sees."""
    note = f"{torch.get_num_threads()} threads of {usable_cpus()} CPUs, {torch.backends.cpu.get_cpu_capability()}"
    found = [Device("cpu", platform.processor() or platform.machine(), None, note)]
    for index in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(index)
        half = "bfloat16" if torch.cuda.is_bf16_supported() else "no bfloat16"
        note = f"compute capability {about.major}.{about.minor}, CUDA {torch.version.cuda}, {half}"
        found.append(Device(f"cuda:{index}", about.name, about.total_memory, note))
    return tuple(found)


def kernel_states(device: torch.device) -> tuple[KernelState, ...]:
    """Every kernel on a device, with float32."""
    serving = available_kernels(device)
    states = []
    for kernel in KERNELS:
        available, active = kernel in serving, kernel is serving[0]
        reason = (
            _source(kernel) if active else f"{serving[0].name} is faster" if available else _why_not(kernel, device)
        )
        states.append(KernelState(str(device), kernel.name, available, active, reason))
    return tuple(states)


def _why_not(kernel: Kernel, device: torch.device) -> str:
    if kernel.name == "triton":
        return triton_probe.device_problem(device)
    if kernel.name == "mamba-ssm":
        problem = mamba_ssm.probe_scan()
        missing = problem.reason if problem.function is None else ""
        return "; ".join(part for part in ("" if device.type == "cuda" else "needs an NVIDIA GPU", missing) if part)
    return f"serves {kernel.serves}"


def _source(kernel: Kernel) -> str:
    if kernel.name != "mamba-ssm":
        return kernel.serves
    conv = mamba_ssm.probe_conv()
    note = conv.reason if conv.function is not None else f"PyTorch's convolution: causal-conv1d {conv.reason}"
    return f"{mamba_ssm.probe_scan().reason}, {note}"


def self_test(device: torch.device) -> SelfTest:
    """Run the active kernel of a device on a small block, forward and backward, against the reference."""
    name = available_kernels(device)[0].name
    inputs = _small_block()
    expected = _run([tensor.double() for tensor in inputs], "reference")
    begun = time.perf_counter()
    try:
        got = _run([tensor.to(device) for tensor in inputs], name)
    except (RuntimeError, ImportError, OSError, TypeError, ValueError, AttributeError) as problem:
        text = f"{type(problem).__name__}: {problem}"
        return SelfTest(str(device), name, None, None, time.perf_counter() - begun, False, text.splitlines()[0])
    seconds = time.perf_counter() - begun
    errors = [((a.cpu().double() - b).abs().max() / b.abs().max()).item() for a, b in zip(got, expected, strict=True)]
    value, gradient = errors[0], max(errors[1:])
    ok = value <= VALUE_BOUND and gradient <= GRADIENT_BOUND
    return SelfTest(str(device), name, value, gradient, seconds, ok, "")


def _small_block(n_positions: int = 40, n_channels: int = 20, n_state: int = 4, rank: int = 2) -> list[torch.Tensor]:
    """x, z and the weights of both directions, float32."""
    generator = torch.Generator().manual_seed(7)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    inputs = [normal(2, n_positions, n_channels), normal(2, n_positions, n_channels)]
    for _ in range(2):
        inputs += [0.5 * normal(n_channels, 4), normal(n_channels), 0.3 * normal(rank + 2 * n_state, n_channels)]
        inputs += [normal(n_channels, rank), normal(n_channels) - 2.0]
        inputs += [-torch.exp(normal(n_channels, n_state)), normal(n_channels)]
    return inputs


def _run(inputs: list[torch.Tensor], kernel: str) -> list[torch.Tensor]:
    """Output of a block's inner part, then its gradients."""
    leaves = [tensor.detach().clone().requires_grad_() for tensor in inputs]
    x, z, *weights = leaves
    n_weights = len(DirectionWeights._fields)
    left, right = DirectionWeights(*weights[:n_weights]), DirectionWeights(*weights[n_weights:])
    y = bidirectional_inner(x, z, left, right, kernel=kernel)
    return [y.detach(), *torch.autograd.grad(y.square().mean(), leaves)]
