"""Addresses of tracking stores: the default one, made absolute, probed, and shown without credentials."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path
from urllib.parse import urlsplit

from prism_ray.errors import Fault, TrackingError

DATABASE_NAME = "mlflow.db"
ARTIFACTS_NAME = "mlartifacts"
PROBE_TIMEOUT_S = 3.0

_DEFAULT_PORTS = {"http": 80, "https": 443, "postgresql": 5432, "mysql": 3306, "mssql": 1433}
_SQLITE = "sqlite:///"
_HIDDEN = "***"
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+@")


def default_tracking_uri(workspace: Path) -> str:
    """Address of the SQLite store of a workspace folder: always absolute, so every process finds the same file."""
    return f"{_SQLITE}{(workspace.expanduser().resolve() / DATABASE_NAME).as_posix()}"


def resolve_tracking_uri(given: str | None, workspace: Path) -> str:
    """The address to use: the one given, else MLFLOW_TRACKING_URI, else the workspace's SQLite file.

    Raises:
        TrackingError: the address is of a kind that cannot be used.
    """
    uri = given or os.environ.get("MLFLOW_TRACKING_URI") or default_tracking_uri(workspace)
    return absolute(uri)


def absolute(uri: str) -> str:
    """`uri`, a SQLite file's relative path made absolute, and PostgreSQL's driver named.

    Raises:
        TrackingError: a folder (MLflow refuses file stores), an SQLite database in memory, or text without a scheme.
    """
    scheme = urlsplit(uri).scheme
    if scheme in ("", "file"):
        fault = Fault(
            f"tracking URI {uri!r}",
            "is a path; a folder of files is no longer an MLflow store",
            "give sqlite:////absolute/path/mlflow.db or http://host:5000",
        )
        raise TrackingError(str(fault), [fault])
    if scheme != "sqlite":
        return with_driver(uri)
    path, _, query = uri.removeprefix(_SQLITE).partition("?")
    if not uri.startswith(_SQLITE) or path in ("", ":memory:"):
        fault = Fault(
            f"tracking URI {uri!r}",
            "names no file",
            "give sqlite:////absolute/path/mlflow.db, which processes can share",
        )
        raise TrackingError(str(fault), [fault])
    return _SQLITE + Path(path).expanduser().resolve().as_posix() + (f"?{query}" if query else "")


def with_driver(uri: str) -> str:
    """An address of PostgreSQL that names no driver with psycopg2, which is installed; any other as it is.

    SQLAlchemy takes psycopg2 by itself before its version 2.1, and looks for psycopg 3 since.
    """
    return re.sub("^postgres(ql)?://", "postgresql+psycopg2://", uri)


def database_file(uri: str) -> Path | None:
    """File of a SQLite store; None for any other kind."""
    return Path(uri.removeprefix(_SQLITE).partition("?")[0]) if uri.startswith(_SQLITE) else None


def default_artifact_root(uri: str, workspace: Path) -> Path | None:
    """Folder of a workspace for artifacts, where its runs go to a database that says nothing of files; else None.

    A server has a place of its own, and a SQLite file has one beside it. Of any other database MLflow would take the
    working folder of whoever makes an experiment.
    """
    return None if urlsplit(uri).scheme in ("http", "https", "sqlite") else workspace / ARTIFACTS_NAME


def redact(text: str) -> str:
    """`text` with the user and password of every address in it hidden."""
    return _CREDENTIALS.sub(f"{_HIDDEN}@", text)


def is_redacted(text: str) -> bool:
    """Whether `redact` has hidden a user or a password in `text`."""
    return f"{_HIDDEN}@" in text


def with_credentials(shown: str, given: str | None) -> str:
    """The address that a file names, with the user and password that files never hold.

    Args:
        shown: address as `redact` left it.
        given: address to use instead; None for the one named, completed from MLFLOW_TRACKING_URI.

    Raises:
        TrackingError: it had credentials, and the environment names another store.
    """
    if given is not None:
        return absolute(given)
    if not is_redacted(shown):
        return absolute(shown)
    found = os.environ.get("MLFLOW_TRACKING_URI", "")
    if redact(with_driver(found)) == with_driver(shown):
        return absolute(found)
    fault = Fault(
        f"tracking store {shown}",
        "needs a user and a password, which are kept in no file",
        "set MLFLOW_TRACKING_URI to its whole address, or give --tracking-uri",
    )
    raise TrackingError(str(fault), [fault])


def probe(uri: str, timeout_s: float = PROBE_TIMEOUT_S) -> None:
    """Connect to the host of a server once, so that an absent one is known in seconds and not after MLflow's retries.

    Raises:
        OSError: nobody answers there in time.
    """
    parts = urlsplit(uri)
    port = parts.port or _DEFAULT_PORTS.get(parts.scheme.partition("+")[0])
    if parts.hostname is None or port is None:
        return
    socket.create_connection((parts.hostname, port), timeout=timeout_s).close()
