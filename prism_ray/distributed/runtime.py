"""Joining a Ray cluster, or starting a small one on this machine."""

from __future__ import annotations

import logging
import os
import re
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import ray

from prism_ray.distributed.jobs import job_env_vars
from prism_ray.errors import Fault, InputError
from prism_ray.machine import usable_cpus
from prism_ray.sizes import size_text

_SPARE = 1.5
"""Object store asked for, to what it must hold."""
_PROBE_TIMEOUT_S = 5.0
_HOST_AND_PORT = re.compile(r"(?:ray://)?(?P<host>[^:/\s]+|\[[0-9a-fA-F:.]+\]):(?P<port>[0-9]{1,5})/?")

# Ray asks 20 times, 40 s each where something else listens at the address. One answer is enough.
_ATTEMPTS_VARIABLE = "RAY_gcs_server_port_wait_time_s"

# Set for drivers and workers alike. The first quiets a watcher that needs a cloud's metadata service. The last keeps
# PyTorch's idle threads from spinning for milliseconds on the cores that the compiled kernels' threads want next.
WORKER_ENVIRONMENT = {
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
}


def local_object_store_bytes(needed: int) -> int:
    """Size of a local cluster's object store: what is needed with room to spare, in bytes.

    Raises:
        InputError: it would take more than half of the memory that is free.
    """
    size = max(200 << 20, int(_SPARE * needed))
    free = psutil.virtual_memory().available
    if needed > local_object_store_room():
        fault = Fault(
            "memory",
            f"the genes to read take {size_text(needed)}, and {size_text(free)} are free here",
            "use a shorter window or fewer signals, or --loading stream, or run on a machine with more memory",
        )
        raise InputError(str(fault), [fault])
    return size


def local_object_store_room() -> int:
    """Bytes that the object store of a local cluster can be asked to hold: it may take half of what is free."""
    return int(psutil.virtual_memory().available / 2 / _SPARE)


def starts_local_cluster(address: str | None) -> bool:
    """Whether `ray_runtime` would start a cluster of its own."""
    return not ray.is_initialized() and _target(address) is None


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
    for name, value in WORKER_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    target = _target(address)
    quiet = {"log_to_driver": False, "logging_level": logging.WARNING}
    with _termination_kept():
        if target is not None:
            check_address(address)
            # Ray refuses a variable that the job's submitter set already.
            given = job_env_vars()
            environment = {"env_vars": {name: value for name, value in WORKER_ENVIRONMENT.items() if name not in given}}
            _join(target, runtime_env=environment, **quiet)
        else:
            # Its workers inherit this process's variables. With a runtime environment each would be started by a
            # process that loads Ray to read it, and those that a cluster begins with would be of no use.
            ray.init(
                address="local",
                num_cpus=n_cpus or usable_cpus(),
                object_store_memory=local_object_store_bytes(object_store_bytes),
                include_dashboard=dashboard,
                **quiet,
            )
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _termination_kept() -> Iterator[None]:
    """What this process does on SIGTERM stays: Ray would put a handler below Python's that ends the process at once."""
    handler = signal.getsignal(signal.SIGTERM)
    yield
    if callable(handler) and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)


def check_address(address: str | None) -> None:
    """Refuse an address where nobody listens, in seconds; a local cluster and `auto` are not looked at.

    Args:
        address: as for `ray_runtime`.

    Raises:
        InputError: it is no address of a Ray head, or nobody listens there.
    """
    target = _target(address)
    if ray.is_initialized() or target in (None, "auto"):
        return
    assert target is not None
    where = _place(address, target)
    parts = _HOST_AND_PORT.fullmatch(target)
    if parts is None:
        fix = "give HOST:PORT of the head, for example 127.0.0.1:6379; a dashboard's http:// address is for `ray job`"
        fault = Fault(where, "is not the address of a Ray cluster", fix)
        raise InputError(str(fault), [fault])
    try:
        socket.create_connection((parts["host"].strip("[]"), int(parts["port"])), _PROBE_TIMEOUT_S).close()
    except (OSError, OverflowError) as problem:
        fault = Fault(where, f"nobody listens there ({problem})", "start the cluster or correct the address")
        raise InputError(str(fault), [fault]) from None


def _target(address: str | None) -> str | None:
    """Address of the cluster to join; None for a local one of our own."""
    target = address or os.environ.get("RAY_ADDRESS")
    return None if not target or target == "local" else target


def _place(address: str | None, target: str) -> str:
    return f"--address {target}" if address else f"RAY_ADDRESS={target}"


def _join(target: str, **options: Any) -> None:
    """Connect to the cluster at an address where somebody listens.

    Raises:
        InputError: it is no Ray head, or does not let this process in.
    """
    before = os.environ.get(_ATTEMPTS_VARIABLE)
    os.environ.setdefault(_ATTEMPTS_VARIABLE, "1")
    try:
        ray.init(address=target, **options)
    except (ConnectionError, RuntimeError, ray.exceptions.RayError) as problem:
        # Ray keeps a refused token to its log and raises the same for it as for a stranger's port.
        lines = str(problem).strip().splitlines() or [type(problem).__name__]
        mode = os.environ.get("RAY_AUTH_MODE", "not set")
        fault = Fault(
            f"Ray cluster {target}",
            f"does not let this process in ({lines[0]})",
            f"check it with `ray status`: it must be the head of a Ray {ray.__version__} cluster, and this process "
            f"needs its token, from RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token (RAY_AUTH_MODE is {mode})",
        )
        raise InputError(str(fault), [fault]) from None
    finally:
        if before is None:
            os.environ.pop(_ATTEMPTS_VARIABLE, None)
