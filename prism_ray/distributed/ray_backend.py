"""Trials on a Ray cluster. What does the work is loaded with its first use, since settings that name this backend are
made by processes that run no trial: who submits a study, or looks at one.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from prism_ray.distributed.loading_choice import LoadingAsked, LoadingRequest, OpenCluster, check_loading_name

if TYPE_CHECKING:
    from prism_ray.config import RunConfig
    from prism_ray.distributed.backend import Work
    from prism_ray.distributed.nodes import NodeWatch
    from prism_ray.distributed.resources import TrialResources
    from prism_ray.distributed.room import Room
    from prism_ray.store import StorePlace
    from prism_ray.training.step_probe import MeasuredStep

_CONTROLLER_CPUS = 1
"""CPUs of a local cluster beyond those of the workers, for what waits for several workers."""


@dataclass(frozen=True)
class RayBackend:
    """Runs trials on a Ray cluster: one that is joined already, the one at an address, or a local one."""

    def check(self, each: TrialResources, loading: LoadingAsked, address: str | None) -> None:
        """Refuse an unknown way of loading, an address where nobody listens and GPUs that are not there.

        Raises:
            InputError: with the reason.
        """
        from prism_ray.distributed.gpus import check_local_gpus
        from prism_ray.distributed.runtime import check_address

        check_loading_name(loading)
        check_address(address)
        check_local_gpus(each.gpus_per_worker, address)

    def open(
        self, request: LoadingRequest, each: TrialResources, *, address: str | None, max_concurrent: int | None
    ) -> AbstractContextManager[OpenCluster]:
        """The cluster, see `loading_cluster`."""
        from prism_ray.distributed.loading import loading_cluster

        return loading_cluster(
            request,
            each,
            address=address,
            max_concurrent=max_concurrent,
            n_cpus=each.n_workers * each.cpus_per_worker + _CONTROLLER_CPUS if each.n_workers > 1 else None,
        )

    def check_nodes(self, storage: Path, store: StorePlace, room: Room) -> str:
        """Ask every node, see `node_checks.check_nodes`."""
        from prism_ray.distributed.node_checks import check_nodes

        n_nodes = check_nodes(storage, store, room)
        return f"{n_nodes} of {n_nodes} nodes see the folders and have room: {room}"

    def watch_nodes(self) -> NodeWatch:
        """What the cluster and its nodes say themselves."""
        from prism_ray.distributed.nodes import NodeWatch

        return NodeWatch()

    def measure(self, config: RunConfig, store: StorePlace, each: TrialResources) -> MeasuredStep:
        """Some steps of a run in a process of its own on the cluster; needs a running cluster."""
        from prism_ray.distributed.probe import measure_on_cluster

        return measure_on_cluster(config, store, each)

    def run(self, work: Work) -> None:
        """Run proposals on Ray Tune; needs a running cluster."""
        from prism_ray.distributed.tune import run_trials

        run_trials(work)
