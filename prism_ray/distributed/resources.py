"""What a run needs of the cluster, compared with what the cluster has, before anything waits for it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import ray

from prism_ray.errors import FaultList, InputError


@dataclass(frozen=True)
class TrialResources:
    """What one trial takes; decides how fast it is and nothing else.

    Attributes:
        n_workers: processes that share each batch.
        cpus_per_worker, gpus_per_worker: what each of them takes.
        checkpoint_every_steps: steps between checkpoints besides those at validations; 0 for none.
    """

    n_workers: int = 1
    cpus_per_worker: int = 1
    gpus_per_worker: float = 0.0
    checkpoint_every_steps: int = 0

    def __post_init__(self) -> None:
        faults = FaultList()
        for name in ("n_workers", "cpus_per_worker"):
            if getattr(self, name) < 1:
                faults.add(name, f"{getattr(self, name)} is too few", "use 1 or more")
        for name in ("gpus_per_worker", "checkpoint_every_steps"):
            if not 0 <= getattr(self, name) < math.inf:
                faults.add(name, f"{getattr(self, name)} cannot be", "use 0 or more")
        faults.raise_if_any(InputError)


def check_resources(each: TrialResources) -> int:
    """Number of such trials that the cluster can hold at once, at least 1.

    A request is never made smaller: an impossible one would wait for ever inside Ray.

    Raises:
        InputError: not even one fits.
    """
    total = ray.cluster_resources()
    faults = FaultList()
    fits = []
    for name, per_worker in (("CPU", float(each.cpus_per_worker)), ("GPU", each.gpus_per_worker)):
        needed, there = each.n_workers * per_worker, total.get(name, 0.0)
        if needed == 0:
            continue
        # Sums of fractions of a GPU are not exact.
        fits.append(int(there / needed + 1e-9))
        if there < needed:
            faults.add(
                "cluster",
                f"a run needs {needed:g} {name}s ({each.n_workers} workers x {per_worker:g}), there are {there:g}",
                "ask for fewer, or join a larger cluster with --address",
            )
    faults.raise_if_any(InputError)
    return max(1, min(fits, default=1))
