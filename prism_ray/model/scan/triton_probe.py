"""Whether the Triton kernels can run here, without importing Triton before anybody asks."""

from __future__ import annotations

import functools
import importlib

import torch

LEAST_CAPABILITY = (7, 0)


@functools.cache
def import_problem() -> str:
    """Why Triton cannot be imported; empty where it can."""
    try:
        importlib.import_module("triton")
    except ModuleNotFoundError as problem:
        return "triton is not installed" if problem.name == "triton" else f"triton needs {problem.name}"
    except (ImportError, OSError, RuntimeError, AttributeError) as problem:
        return f"triton does not load: {problem}"
    return ""


def device_problem(device: torch.device) -> str:
    """Why the kernels cannot run on a device; empty where they can."""
    if device.type != "cuda":
        return "needs an NVIDIA GPU"
    if torch.version.cuda is None:
        return "this PyTorch is built for another maker's GPUs"
    capability = torch.cuda.get_device_capability(device)
    if capability < LEAST_CAPABILITY:
        return f"compute capability {capability[0]}.{capability[1]} is below 7.0"
    return import_problem()
