"""A real PostgreSQL server for the tests that need one: Debian's binaries, a temporary folder, a socket and no port."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROLE = "prism"
START_TIMEOUT_S = 120
_DEBIAN = Path("/usr/lib/postgresql")


@dataclass(frozen=True)
class PostgresServer:
    """A server that answers on a Unix socket alone; whoever may enter its folder is its superuser.

    Attributes:
        folder: of its socket.
        binaries: folder of its programs and of clients of the same version.
    """

    folder: Path
    binaries: Path

    def uri(self, database: str) -> str:
        """Address of a database, as SQLAlchemy, MLflow and Optuna take it."""
        return f"postgresql+psycopg2://{ROLE}@/{database}?host={self.folder}"

    def new_database(self, name: str) -> str:
        """Address of a new, empty database."""
        connection = self._connect("postgres")
        try:
            # CREATE DATABASE runs in no transaction.
            connection.autocommit = True
            connection.cursor().execute(f'CREATE DATABASE "{name}"')
        finally:
            connection.close()
        return self.uri(name)

    def answers(self) -> bool:
        """Whether somebody can log in now."""
        from psycopg2 import OperationalError

        try:
            self._connect("postgres").close()
        except OperationalError:
            return False
        return True

    def _connect(self, database: str) -> Any:
        import psycopg2

        return psycopg2.connect(host=str(self.folder), user=ROLE, dbname=database)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server for the whole test run; a test that uses it is skipped where none is installed."""
    binaries = _binaries()
    if binaries is None:
        pytest.skip(f"no PostgreSQL server in {_DEBIAN} (Debian package: postgresql)")
    # pytest's own folders make paths that are too long for a socket.
    folder = Path(tempfile.mkdtemp(prefix="prism-ray-postgres-"))
    try:
        with _running(binaries, folder) as server:
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _running(binaries: Path, folder: Path) -> Iterator[PostgresServer]:
    account = _unprivileged(folder)
    made = [binaries / "initdb", "--pgdata", folder / "data", "--username", ROLE]
    made += ["--auth", "trust", "--encoding", "UTF8", "--locale", "C", "--no-sync"]
    subprocess.run(made, check=True, capture_output=True, cwd=folder, **account)
    settings = {
        "listen_addresses": "",
        "unix_socket_directories": str(folder),
        # What a test wrote need not survive a power failure.
        "fsync": "off",
    }
    command = [binaries / "postgres", "-D", folder / "data"]
    command += [f"--{name}={value}" for name, value in settings.items()]
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, start_new_session=True, **account)
    server = PostgresServer(folder, binaries)
    try:
        end = time.monotonic() + START_TIMEOUT_S
        while not server.answers():
            assert process.poll() is None, (folder / "server.log").read_text()
            assert time.monotonic() < end, f"no answer in {START_TIMEOUT_S} s:\n{(folder / 'server.log').read_text()}"
            time.sleep(0.05)
        yield server
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a server: SIGINT closes its connections, and SIGQUIT is for one that does not come to an end."""
    for signal_number in (signal.SIGINT, signal.SIGQUIT):
        process.send_signal(signal_number)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            continue
        return
    process.kill()
    process.wait()


def _unprivileged(folder: Path) -> dict[str, Any]:
    """What starts a process that owns `folder` and is not root's, as which PostgreSQL refuses to run."""
    if os.geteuid() != 0:
        return {}
    account = pwd.getpwnam("postgres")
    shutil.chown(folder, account.pw_uid, account.pw_gid)
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def _binaries() -> Path | None:
    """Folder of the newest installed server's programs."""
    found = [path.parent for path in _DEBIAN.glob("*/bin/initdb") if (path.parent / "postgres").is_file()]
    return max(found, key=lambda folder: float(folder.parent.name), default=None)
