"""Joining a Ray cluster, or starting a small one on this machine."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import ray

from prism_ray.errors import Fault, InputError

_GIB = 2**30

# Set for drivers and workers alike. The first quiets a watcher that needs a cloud's metadata service.
_WORKER_ENVIRONMENT = {
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "1",
}


def local_object_store_bytes(needed: int) -> int:
    """Size of a local cluster's object store: what is needed with room to spare, in bytes.

    Raises:
        InputError: it would take more than half of the memory that is free.
    """
    size = max(200 * 2**20, int(1.5 * needed))
    free = psutil.virtual_memory().available
    if size > free // 2:
        fault = Fault(
            "memory",
            f"the genes to read take {needed / _GIB:.1f} GiB, and {free / _GIB:.1f} GiB are free here",
            "use a shorter window or fewer signals, or run on a machine with more memory",
        )
        raise InputError(str(fault), [fault])
    return size


@contextmanager
def ray_runtime(
    address: str | None = None, *, n_cpus: int | None = None, object_store_bytes: int = 0, dashboard: bool = False
) -> Iterator[None]:
    """A Ray cluster for the time of the block: one that is joined already, the one at `address`, or a local one.

    A local cluster is stopped at the end of the block; a cluster that was there before stays.

    Args:
        address: of a running cluster; `RAY_ADDRESS` of the environment counts too (a submitted job has it).
        n_cpus: CPUs of a local cluster; all of the machine's by default.
        object_store_bytes: bytes that a local cluster's object store must hold.
        dashboard: start the dashboard of a local cluster, which Ray Train inside Tune needs to clean up.

    Raises:
        InputError: no cluster answers at the address, or a local one would not fit in memory.
    """
    if ray.is_initialized():
        yield
        return
    for name, value in _WORKER_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    target = address or os.environ.get("RAY_ADDRESS")
    quiet = {"log_to_driver": False, "logging_level": logging.WARNING}
    environment = {"env_vars": dict(_WORKER_ENVIRONMENT)}
    if target and target != "local":
        try:
            ray.init(address=target, runtime_env=environment, **quiet)
        except (ConnectionError, ray.exceptions.RaySystemError, ray.exceptions.AuthenticationError) as problem:
            reason = str(problem).strip().splitlines()[0]
            fault = Fault(
                f"--address {target}", f"no Ray cluster answers there ({reason})", "check it with `ray status`"
            )
            raise InputError(str(fault), [fault]) from None
    else:
        ray.init(
            address="local",
            num_cpus=n_cpus or len(os.sched_getaffinity(0)),
            object_store_memory=local_object_store_bytes(object_store_bytes),
            include_dashboard=dashboard,
            runtime_env=environment,
            **quiet,
        )
    try:
        yield
    finally:
        ray.shutdown()
