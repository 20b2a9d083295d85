"""What runs the trials of a launch: an interface that knows nothing of studies, and what passes through it.

`RayBackend` (ray_backend.py) runs many at once over a cluster; `InProcessBackend` (in_process.py) runs one after
another in this process, with no cluster at all. Both ask the same queue for trials, run them by the same function
(`run_proposal`) and tell the queue how they ended: the order of trials, retries and stopping do not depend on them.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from prism_ray.config import RunConfig
    from prism_ray.distributed.loading_choice import LoadingAsked, LoadingRequest, OpenCluster
    from prism_ray.distributed.resources import TrialResources
    from prism_ray.distributed.room import Room
    from prism_ray.distributed.trial import TaskSource
    from prism_ray.distributed.trial_queue import TrialQueue
    from prism_ray.store import StorePlace
    from prism_ray.training.step_probe import MeasuredStep


@dataclass(frozen=True)
class Work:
    """What a backend is to run.

    Attributes:
        source: what makes a proposal a trial's task.
        each: what a trial takes.
        queue: gives out proposals and is told how they ended.
        n_concurrent: trials at once.
        scratch: folder for the backend's own files, removed afterwards.
        objective: metric that a searcher is told of a trial, `val/...`.
    """

    source: TaskSource
    each: TrialResources
    queue: TrialQueue
    n_concurrent: int
    scratch: Path
    objective: str = "val/mse"


class Backend(Protocol):
    """Runs trials; picklable, since settings that hold it are sent to trial processes."""

    def check(self, each: TrialResources, loading: LoadingAsked, address: str | None) -> None:
        """Refuse what this backend cannot do, before anything is started or written.

        Raises:
            InputError: with all reasons.
        """

    def open(
        self, request: LoadingRequest, each: TrialResources, *, address: str | None, max_concurrent: int | None
    ) -> AbstractContextManager[OpenCluster]:
        """Where the trials run, for the time of the block.

        Raises:
            InputError: it cannot hold a trial or its genes; with what to do.
        """

    def check_nodes(self, storage: Path, store: StorePlace, room: Room) -> str:
        """Refuse folders that not every node sees, and nodes with too little room; what was found. For inside `open`.

        Raises:
            InputError: naming the nodes.
        """

    def watch_nodes(self) -> Callable[[str], bool | None]:
        """What says, for a node that ran a trial, by its id, whether it is gone; None as long as that is not known.

        What died with its node is no failure of the trial.
        """

    def measure(self, config: RunConfig, store: StorePlace, each: TrialResources) -> MeasuredStep:
        """Some real steps of a run, where and with what its trial would run.

        Raises:
            PrismRayError: a step cannot be done.
        """

    def run(self, work: Work) -> None:
        """Run proposals until the queue has no more. Trials that fail do not stop the others."""
