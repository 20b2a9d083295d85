"""Partitions of a store through Ray Data: one is one item, and a worker that is lost is replaced.

What a worker finds wrong comes back as text in the item's result: through an exception of Ray it would come with a
traceback.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, ClassVar

import numpy as np
import ray
import ray.data
from ray.exceptions import RayError, RayTaskError

from prism_ray.errors import ConfigError, Fault, FaultList, InputError, PrismRayError, StoreError

PARTITION = "partition"
FAULTS = "faults"
RESULT = "result"
_MOST_ATTEMPTS = 3


class PartitionWorker:
    """A Ray actor that works on partitions by their number; what it does is in `work`.

    Attributes:
        job: what it is part of, for messages.
        n_gpus: GPUs that it takes.
    """

    job: ClassVar[str] = "the build"
    n_gpus: ClassVar[float] = 0.0

    def work(self, number: int) -> str:
        """Do one partition; returns what the driver is told of it."""
        raise NotImplementedError

    def place(self, number: int) -> str:
        """What a failure of the operating system is told with."""
        raise NotImplementedError

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Work on the partitions whose numbers are in `batch`."""
        results, faults = [], []
        for number in batch[PARTITION]:
            result, found = self._tried(int(number))
            results.append(result)
            faults.append(json.dumps([asdict(fault) for fault in found]))
        return {
            PARTITION: batch[PARTITION],
            RESULT: np.array(results, dtype=object),
            FAULTS: np.array(faults, dtype=object),
        }

    def _tried(self, number: int) -> tuple[str, tuple[Fault, ...]]:
        try:
            return self.work(number), ()
        except PrismRayError as error:
            return "", error.faults or (Fault(self.place(number), str(error)),)
        except OSError as problem:
            fix = "make room or rights, then run the same command"
            return "", (Fault(self.place(number), f"cannot be written ({problem})", fix),)


def run_partitions(
    worker: type[PartitionWorker],
    arguments: tuple[Any, ...],
    sizes: dict[int, int],
    n_workers: int | None,
    on_done: Callable[[int, str], None],
    say: Callable[[str], None],
    where: str,
) -> None:
    """Have workers do partitions, going on where a worker was lost, a bounded number of times.

    Args:
        worker: class of the actors.
        arguments: of its constructor.
        sizes: genes of each partition to do, by its number.
        n_workers: partitions done at a time; as many as the cluster has CPUs where None.
        on_done: called with each partition that is done and what its worker told.
        say: called with what a user should know meanwhile.
        where: place of the work, for messages.

    Raises:
        InputError: what a worker found wrong.
        StoreError: workers were lost again and again.
        ConfigError: more workers than the cluster has CPUs.
    """
    n_cpus = max(1, int(ray.cluster_resources().get("CPU", 0)))
    _refuse_too_many(n_workers, n_cpus)
    left = dict(sizes)
    with _quiet():
        for attempt in range(1, _MOST_ATTEMPTS + 1):
            try:
                for number, result in _run(worker, arguments, left, n_workers or n_cpus):
                    del left[number]
                    on_done(number, result)
                return
            except RayTaskError:
                # A worker's own code failed, which no input should cause: its traceback is what is needed.
                raise
            except RayError as problem:
                reason = f"a worker of {worker.job} was lost ({str(problem).strip().splitlines()[0]})"
                if attempt == _MOST_ATTEMPTS:
                    faults = FaultList()
                    faults.add(where, f"{reason}, {attempt} times", "run the same command to go on")
                    faults.raise_if_any(StoreError)
                say(f"{reason}; going on with the {len(left)} partitions that are left")


def _run(
    worker: type[PartitionWorker], arguments: tuple[Any, ...], sizes: dict[int, int], n_workers: int
) -> Iterator[tuple[int, str]]:
    """Number and result of each partition as it is done.

    Raises:
        InputError: what a worker found wrong.
        RayError: a worker was lost.
    """
    # Large ones first: at the end no worker is left alone with one.
    order = sorted(sizes, key=lambda number: -sizes[number])
    items = ray.data.from_items([{PARTITION: number} for number in order], override_num_blocks=len(order))
    with warnings.catch_warnings():
        # The only way to say max_restarts; the versions of Ray that are allowed have it.
        warnings.filterwarnings("ignore", "`ray_remote_args` is deprecated")
        done = items.map_batches(
            worker,
            fn_constructor_args=arguments,
            batch_size=1,
            batch_format="numpy",
            compute=ray.data.ActorPoolStrategy(size=min(n_workers, len(order))),
            num_cpus=1,
            num_gpus=worker.n_gpus or None,
            # Ray Data would restart a worker without end, for example one that needs more memory than there is.
            max_restarts=0,
        )
    for row in done.iter_rows():
        faults = FaultList()
        faults.extend(Fault(**fault) for fault in json.loads(row[FAULTS]))
        faults.raise_if_any(InputError)
        yield int(row[PARTITION]), str(row[RESULT])


def _refuse_too_many(n_workers: int | None, n_cpus: int) -> None:
    faults = FaultList()
    if n_workers is not None and n_workers < 1:
        faults.add("workers", f"{n_workers} is not a number of workers", "use 1 or more")
    elif n_workers is not None and n_workers > n_cpus:
        faults.add("workers", f"{n_workers} is more than the cluster's {n_cpus} CPUs", f"use at most {n_cpus}")
    faults.raise_if_any(ConfigError)


@contextmanager
def _quiet() -> Iterator[None]:
    """Ray Data without output of its own, for the time of the block: its errors are raised, not only logged."""
    with warnings.catch_warnings():
        # Ray's own defaults set fields that Ray deprecates.
        warnings.filterwarnings("ignore", r"`use_\w+` is deprecated", DeprecationWarning)
        context = ray.data.DataContext.get_current()
    logger = logging.getLogger("ray.data")
    bars, level = context.enable_progress_bars, logger.level
    context.enable_progress_bars = False
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        context.enable_progress_bars = bars
        logger.setLevel(level)
