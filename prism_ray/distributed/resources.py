"""What a run needs of the cluster, compared with what the cluster has, before anything waits for it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import ray
import torch

from prism_ray.distributed.gpus import node_faults
from prism_ray.errors import FaultList, InputError
from prism_ray.training.reporter import Placement


@dataclass(frozen=True)
class TrialResources:
    """What one trial takes; decides how fast it is and nothing else.

    Attributes:
        n_workers: processes that share each batch.
        cpus_per_worker, gpus_per_worker: what each of them takes.
        checkpoint_every_steps: steps between checkpoints besides those at validations; 0 for none.
        micro_batch: genes that a worker computes at a time, of its share of each batch; 0 for all of it.
        checkpoint_activations: compute hidden states again in the backward pass instead of keeping them.
    """

    n_workers: int = 1
    cpus_per_worker: int = 1
    gpus_per_worker: float = 0.0
    checkpoint_every_steps: int = 0
    micro_batch: int = 0
    checkpoint_activations: bool = False

    def __post_init__(self) -> None:
        faults = FaultList()
        for name in ("n_workers", "cpus_per_worker"):
            if getattr(self, name) < 1:
                faults.add(name, f"{getattr(self, name)} is too few", "use 1 or more")
        for name in ("gpus_per_worker", "checkpoint_every_steps", "micro_batch"):
            if not 0 <= getattr(self, name) < math.inf:
                faults.add(name, f"{getattr(self, name)} cannot be", "use 0 or more")
        if 1 < self.gpus_per_worker < math.inf and self.gpus_per_worker % 1:
            faults.add("gpus_per_worker", f"{self.gpus_per_worker:g} cannot be", "above 1 use whole numbers")
        faults.raise_if_any(InputError)

    def placement(
        self,
        device: torch.device,
        rank: int = 0,
        checkpoint_asked: Callable[[], bool] | None = None,
    ) -> Placement:
        """Placement of one of the workers."""
        return Placement(
            device=device,
            rank=rank,
            n_workers=self.n_workers,
            checkpoint_every_steps=self.checkpoint_every_steps,
            micro_batch=self.micro_batch,
            checkpoint_activations=self.checkpoint_activations,
            checkpoint_asked=checkpoint_asked,
        )


def check_resources(each: TrialResources, reserved_cpus: int = 0) -> int:
    """Number of such trials that the cluster can hold at once, at least 1.

    A request is never made smaller: an impossible one would wait for ever inside Ray.

    Args:
        reserved_cpus: CPUs that the trials leave to the tasks that read ahead for them.

    Raises:
        InputError: not even one fits, or a node counts GPUs that PyTorch cannot use.
    """
    total = ray.cluster_resources()
    faults = FaultList()
    fits = []
    for name, per_worker, reserved in (
        ("CPU", float(each.cpus_per_worker), reserved_cpus),
        ("GPU", each.gpus_per_worker, 0),
    ):
        needed, there = each.n_workers * per_worker, total.get(name, 0.0)
        if needed == 0:
            continue
        # Sums of fractions of a GPU are not exact.
        fits.append(int((there - reserved) / needed + 1e-9))
        if there < needed + reserved:
            streaming = f" and {reserved} more to read ahead for it" if reserved else ""
            faults.add(
                "cluster",
                f"a run needs {needed:g} {name}s ({each.n_workers} workers x {per_worker:g}){streaming}, "
                f"there are {there:g}",
                "ask for fewer, or join a larger cluster with --address"
                + (", or load with --loading cache" if reserved else ""),
            )
    if each.gpus_per_worker and not faults:
        faults.extend(node_faults())
    faults.raise_if_any(InputError)
    return max(1, min(fits, default=1))


def smallest_of_nodes(name: str) -> float:
    """Amount of a resource on the node that has least of it, of those that run anything; needs a running cluster."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return min((float(node.get(name, 0.0)) for node in nodes if node.get("CPU")), default=0.0)
