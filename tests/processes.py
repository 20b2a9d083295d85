"""Processes that compute with PyTorch: forked from one that has loaded it, and never from the tests' own.

Loading it takes each process seconds of a core; a fork of this process would inherit locks that its threads hold.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from typing import Any

import torch.multiprocessing

_METHOD = "forkserver"
# Read once, when the first of them is started. Importing starts no threads.
multiprocessing.set_forkserver_preload(["prism_ray.training.loop"])


def run_workers(worker: Callable[..., object], n_workers: int, *arguments: object) -> None:
    """Run `worker(rank, *arguments)` in so many processes, to their end; raises where one of them fails."""
    torch.multiprocessing.start_processes(worker, args=arguments, nprocs=n_workers, start_method=_METHOD)


def process_of(target: Callable[..., object], *arguments: object) -> Any:
    """A process that has not been started."""
    return torch.multiprocessing.get_context(_METHOD).Process(target=target, args=arguments)
