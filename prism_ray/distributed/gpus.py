"""GPUs that were asked for, and whether PyTorch can use them, asked before anything waits for them.

Ray counts the GPUs of a node by its driver; whether the PyTorch that is installed there can use them is another
question, and a run that asked for a GPU is never quietly given a CPU. PyTorch is loaded when it is asked: who submits a
study to a cluster, or joins one, has nothing to ask it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from prism_ray.distributed.runtime import starts_local_cluster
from prism_ray.errors import ConfigError, Fault, FaultList

if TYPE_CHECKING:
    import torch

_ANSWER_TIMEOUT_S = 60.0
"""Where all GPUs of a node are taken nobody answers: its trials wait as well, and are told then."""
_FLAG = "--gpus-per-worker"
_FIX = f"use {_FLAG} 0, or a machine with an NVIDIA GPU and a CUDA build of PyTorch"


def no_cuda() -> str | None:
    """Why PyTorch can use no NVIDIA GPU in this process; None where it can."""
    import torch

    if torch.cuda.is_available():
        return None
    return "PyTorch was built without CUDA" if torch.version.cuda is None else "PyTorch finds no NVIDIA GPU"


def check_local_gpus(gpus_per_worker: float, address: str | None) -> None:
    """Refuse GPUs where this machine would do the work and has none; another cluster is asked once it is joined.

    Args:
        gpus_per_worker: asked for.
        address: as for `ray_runtime`.

    Raises:
        ConfigError: with why PyTorch can use none.
    """
    reason = no_cuda() if gpus_per_worker > 0 and starts_local_cluster(address) else None
    _refuse(_FLAG, f"{gpus_per_worker:g} is asked for, and there is no CUDA here: {reason}" if reason else None)


def trial_device(gpus_per_worker: float) -> torch.device:
    """Device of a trial in this process.

    Raises:
        ConfigError: it was given a GPU that PyTorch cannot use.
    """
    import torch

    if gpus_per_worker == 0:
        return torch.device("cpu")
    reason = no_cuda()
    _refuse(_FLAG, f"{gpus_per_worker:g} is asked for, and there is no CUDA on this node: {reason}" if reason else None)
    return torch.device("cuda")


def node_faults() -> list[Fault]:
    """Nodes that count GPUs which their PyTorch cannot use; needs a running cluster."""
    nodes = {node["NodeID"]: node for node in ray.nodes() if node["Alive"] and node["Resources"].get("GPU")}
    # A hundredth: the answer comes from a node whose GPUs are in use, too, unless they are in use to the last part.
    ask = ray.remote(num_cpus=0, num_gpus=0.01)(no_cuda)
    asked = {
        ask.options(scheduling_strategy=NodeAffinitySchedulingStrategy(name, soft=False)).remote(): node
        for name, node in nodes.items()
    }
    answered, silent = ray.wait(list(asked), num_returns=len(asked), timeout=_ANSWER_TIMEOUT_S) if asked else ([], [])
    for question in silent:
        ray.cancel(question)
    faults = FaultList()
    for question in answered:
        try:
            reason = ray.get(question)
        except ray.exceptions.RayError:
            continue  # the node left meanwhile: its trials go elsewhere
        if reason is not None:
            node = asked[question]
            problem = f"counts {node['Resources']['GPU']:g} GPUs, and there is no CUDA on it: {reason}"
            faults.add(f"node {node['NodeManagerAddress']}", problem, _FIX)
    return list(faults.faults)


def _refuse(where: str, problem: str | None) -> None:
    faults = FaultList()
    if problem is not None:
        faults.add(where, problem, _FIX)
    faults.raise_if_any(ConfigError)
