"""MLflow's UI on a store, as a process of its own that ends with the one that asked for it."""

from __future__ import annotations

import ipaddress
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from prism_ray.errors import Fault, FaultList, InputError, TrackingError
from prism_ray.tracking.addresses import ARTIFACTS_NAME, database_file, redact

START_TIMEOUT_S = 120.0
_END_S = 10.0
_POLL_S = 0.1
_SHOWN_LINES = 5


@dataclass(frozen=True)
class Place:
    """Where a server listens.

    Attributes:
        host: name or address of the interface.
        port: 0 for any that is free.
    """

    host: str = "127.0.0.1"
    port: int = 5000

    @property
    def is_loopback(self) -> bool:
        """Whether this machine alone can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def check_place(place: Place, *, expose: bool) -> Place:
    """The place, its port settled, after a look whether it may and can be listened at.

    Args:
        expose: whether other machines may reach it.

    Raises:
        InputError: others could reach it and nobody said so, or the port is taken or not ours to take.
    """
    faults = FaultList()
    if not place.is_loopback and not expose:
        faults.add(
            f"--host {place.host}",
            "can be reached from other machines, and the UI asks nobody for a password",
            "leave it out and tunnel by ssh, run a server with passwords (cluster/mlflow), or give --expose",
        )
    faults.raise_if_any(InputError)
    try:
        family = socket.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((place.host, place.port))
            port = int(probe.getsockname()[1])
    except (OSError, OverflowError) as problem:
        faults.add(f"--host {place.host} --port {place.port}", f"cannot be listened at ({problem})", "give another")
    faults.raise_if_any(InputError)
    return Place(place.host, port)


@contextmanager
def ui_server(uri: str, place: Place) -> Iterator[subprocess.Popen[bytes]]:
    """The UI of a database's store, answering; ended with all its processes at the end of the block.

    Args:
        uri: of the database, absolute.
        place: to listen at, as `check_place` gave it.

    Raises:
        TrackingError: an SQLite file that is not there, or a server that ends or does not answer.
    """
    file = database_file(uri)
    if file is not None and not file.is_file():
        _refuse(uri, "does not exist", "run a study first, or give --storage or --tracking-uri of one that was run")
    with tempfile.TemporaryDirectory(prefix="prism-ray-ui-") as scratch:
        log = Path(scratch) / "server.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                _command(uri, place, file, Path(scratch)),
                stdout=output,
                stderr=output,
                # Ctrl-C reaches this process alone, which then ends the whole group.
                start_new_session=True,
                env=_environment(uri),
            )
        try:
            _wait(process, uri, place, log)
            yield process
        finally:
            _end(process)


def server_address(place: Place) -> str:
    """Address of the server, for a browser on this machine."""
    host = f"[{place.host}]" if ":" in place.host else place.host
    return f"http://{host}:{place.port}"


def _command(uri: str, place: Place, file: Path | None, scratch: Path) -> list[str]:
    served = (file.parent if file is not None else scratch) / ARTIFACTS_NAME
    command = [sys.executable, "-m", "mlflow", "server", "--host", place.host, "--port", str(place.port)]
    return [*command, "--workers", "1", "--artifacts-destination", str(served)]


def _environment(uri: str) -> dict[str, str]:
    return {
        **os.environ,
        # Not on the command line, which everybody on the machine can read: it may hold a password.
        "MLFLOW_BACKEND_STORE_URI": uri,
        # Jobs for language models: more processes that nothing here uses.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }


def _wait(process: subprocess.Popen[bytes], uri: str, place: Place, log: Path) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    end = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < end and process.poll() is None:
        try:
            opener.open(f"{server_address(place)}/health", timeout=2).close()
        except OSError:
            time.sleep(_POLL_S)
        else:
            return
    said = redact("; ".join(log.read_text(errors="replace").splitlines()[-_SHOWN_LINES:]))
    ended = process.poll() is not None
    _refuse(uri, f"its server {'ended' if ended else f'does not answer in {START_TIMEOUT_S:.0f} s'} ({said})", "")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a server with all that it started: the group is its own."""
    for signal_number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, signal_number)
        except ProcessLookupError:
            break
        # Its first process may be gone before the others are: the second signal is for the whole group, too.
        with suppress(subprocess.TimeoutExpired):
            process.wait(_END_S)
    process.wait()


def _refuse(uri: str, problem: str, fix: str) -> None:
    fault = Fault(f"tracking store {redact(uri)}", problem, fix)
    raise TrackingError(str(fault), [fault])
