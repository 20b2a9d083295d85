"""Trials one after another in this process: for tests, notebooks and debugging. No Ray cluster is started or joined."""

from __future__ import annotations

import platform
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray.tune.search import Searcher

from prism_ray.config import RunConfig
from prism_ray.distributed.backend import Work
from prism_ray.distributed.gpus import trial_device
from prism_ray.distributed.loading_choice import Loading, LoadingAsked, LoadingRequest, OpenCluster, check_loading_name
from prism_ray.distributed.node_checks import node_faults
from prism_ray.distributed.node_sight import sight_of
from prism_ray.distributed.probe import measure_here
from prism_ray.distributed.resources import TrialResources
from prism_ray.distributed.room import Room
from prism_ray.distributed.trial_process import run_proposal
from prism_ray.errors import FaultList, InputError, StoreError
from prism_ray.store import StorePlace
from prism_ray.store.reading import bytes_read
from prism_ray.training.step_probe import MeasuredStep

_PAUSE_S = 0.05
"""Pause before the queue is asked again, where it had nothing to run yet."""


@dataclass(frozen=True)
class InProcessBackend:
    """Runs trials of one worker in this process; each decodes its genes here, once a kind."""

    def check(self, each: TrialResources, loading: LoadingAsked, address: str | None) -> None:
        """Refuse what needs a cluster.

        Raises:
            InputError: several workers, streamed genes, an address, or a GPU that is not here.
        """
        check_loading_name(loading)
        faults = FaultList()
        fix = "leave it out, or use the Ray backend"
        if each.n_workers > 1:
            faults.add("n_workers", f"{each.n_workers} workers, but trials run in this process", fix)
        if loading == "stream":
            faults.add("loading", "'stream' needs Ray Data, and trials run in this process", fix)
        if address is not None:
            faults.add("address", f"{address}: trials run in this process and join no cluster", fix)
        faults.raise_if_any(InputError)
        trial_device(each.gpus_per_worker)

    @contextmanager
    def open(
        self, request: LoadingRequest, each: TrialResources, *, address: str | None, max_concurrent: int | None
    ) -> Iterator[OpenCluster]:
        """One trial at a time, in this process."""
        before = bytes_read()
        yield OpenCluster(1, Loading("process"), lambda: {platform.node(): bytes_read() - before})

    def check_nodes(self, storage: Path, store: StorePlace, room: Room) -> str:
        """Look for room on this machine, the only node.

        Raises:
            StoreError: there is too little.
        """
        faults = FaultList()
        faults.extend(node_faults(storage, store, room, [sight_of(platform.node(), storage, str(store))]))
        faults.raise_if_any(StoreError)
        return f"this process alone, with room: {room}"

    def watch_nodes(self) -> Callable[[str], bool | None]:
        """None is ever lost: there are no nodes."""
        return lambda node: False

    def measure(self, config: RunConfig, store: StorePlace, each: TrialResources) -> MeasuredStep:
        """Some steps of a run in this process, whose memory before is in what they take."""
        return measure_here(config, store, each, trial_device(each.gpus_per_worker))

    def run(self, work: Work) -> None:
        """Run proposals in turn; the queue hears of them as it does from Tune."""
        n_started = 0
        try:
            while (proposal := work.queue.suggest(f"{n_started:08d}")) != Searcher.FINISHED:
                if isinstance(proposal, dict):
                    _run(work, f"{n_started:08d}", proposal)
                    n_started += 1
                else:
                    time.sleep(_PAUSE_S)
        finally:
            shutil.rmtree(work.scratch, ignore_errors=True)


def _run(work: Work, name: str, proposal: dict[str, Any]) -> None:
    results: list[dict[str, Any]] = []

    def report(result: dict[str, Any]) -> None:
        results.append({**result, "training_iteration": len(results) + 1})
        work.queue.on_trial_result(name, results[-1])

    run_proposal(proposal, work.source, work.objective, report)
    work.queue.on_trial_complete(name, results[-1])
