"""What a run needs of the cluster, compared with what the cluster has, before anything waits for it."""

from __future__ import annotations

import ray

from prism_ray.distributed.gpus import node_faults
from prism_ray.distributed.resources import TrialResources
from prism_ray.errors import FaultList, InputError


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
