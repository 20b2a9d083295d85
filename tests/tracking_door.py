"""One MLflow server for the tests of a process, which takes long to start, and doors to it that a test can close."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from prism_ray.tracking import mlflow_trial
from tests.mlflow_server import free_port, mlflow_server
from tests.tracking_support import fresh_store

_BLOCK_BYTES = 1 << 16


class Door:
    """A port of its own that leads to a server's while it is open, and refuses connections while it is closed.

    Args:
        port: of the server, on loopback.
    """

    def __init__(self, port: int) -> None:
        self._server = port
        self._passing: list[socket.socket] = []
        # Bound for as long as the door is there: nobody else is given the port while nothing listens at it.
        self._held = self._bound(0)
        self._listening: socket.socket | None = None
        self.open()

    @property
    def uri(self) -> str:
        """Address of the server through the door."""
        return f"http://127.0.0.1:{self._held.getsockname()[1]}"

    def open(self) -> None:
        """Let connections through."""
        assert self._listening is None
        self._listening = self._bound(self._held.getsockname()[1])
        self._listening.listen()
        threading.Thread(target=self._accept, args=(self._listening,), daemon=True).start()

    def close(self) -> None:
        """Cut the connections that there are, and refuse others."""
        assert self._listening is not None
        # Ends the wait for a connection, which closing alone does not.
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._listening = None
        for end in self._passing:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._passing.clear()

    def remove(self) -> None:
        """Close it for good."""
        if self._listening is not None:
            self.close()
        self._held.close()

    @staticmethod
    def _bound(port: int) -> socket.socket:
        bound = socket.socket()
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(("127.0.0.1", port))
        return bound

    def _accept(self, listening: socket.socket) -> None:
        while True:
            try:
                near, _ = listening.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self._server))
            self._passing += [near, far]
            for source, target in ((near, far), (far, near)):
                threading.Thread(target=_pass_on, args=(source, target), daemon=True).start()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while block := source.recv(_BLOCK_BYTES):
            target.sendall(block)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


@dataclass(frozen=True)
class TrackingServer:
    """A server that runs.

    Attributes:
        port: on loopback.
        served: folder of the artifacts that it serves.
        group: of its processes.
    """

    port: int
    served: Path
    group: int

    def pause(self, seconds: float) -> None:
        """Let it take connections and answer nothing for a time; returns at once."""
        os.killpg(self.group, signal.SIGSTOP)
        threading.Timer(seconds, os.killpg, (self.group, signal.SIGCONT)).start()


@pytest.fixture(scope="session")
def tracking_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrackingServer]:
    """An MLflow server on an SQLite database, for studies whose names differ."""
    folder, port = tmp_path_factory.mktemp("tracking"), free_port()
    fresh_store(folder)
    with mlflow_server(folder, port) as process:
        yield TrackingServer(port, folder / "served", process.pid)


@pytest.fixture
def door(tracking_server: TrackingServer) -> Iterator[Door]:
    """A door to the server, open."""
    made = Door(tracking_server.port)
    yield made
    made.remove()


@pytest.fixture
def given_up_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials of this process that end without their tracker leave it to later in a tenth of a second, not in 3.5."""
    monkeypatch.setattr(mlflow_trial, "_FINISH_WAITS_S", (0.1,))
