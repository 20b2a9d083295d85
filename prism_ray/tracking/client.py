"""MLflow's client, made quiet, bounded in time, and with errors that name the store.

Only `MlflowClient` is used: the fluent interface keeps one active run a process, which trials would share.
"""

from __future__ import annotations

import fcntl
import logging
import os
import random
import time
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

# Read by MLflow when it is imported or first used; what a user has set stays.
for _name, _value in {
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "1",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # Seven retries with growing waits would hold a trial up for minutes: what fails is buffered and sent later.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}.items():
    os.environ.setdefault(_name, _value)

from mlflow.exceptions import MlflowException  # noqa: E402  (after its settings)
from mlflow.tracking import MlflowClient  # noqa: E402
from sqlalchemy.exc import SQLAlchemyError  # noqa: E402  (MLflow lets those of a new engine through)

from prism_ray.errors import Fault, TrackingError  # noqa: E402
from prism_ray.tracking.addresses import absolute, database_file, probe, redact  # noqa: E402

T = TypeVar("T")

TRACKER_FAULTS: tuple[type[Exception], ...] = (MlflowException, SQLAlchemyError, OSError)
"""What a call of the client raises when the store is away, locked or refuses."""

_LOCK_ATTEMPTS = 4
_log = logging.getLogger(__name__)


def connect(uri: str) -> MlflowClient:
    """Client of the store at `uri`, which answers or can be made.

    Raises:
        Exception: one of `TRACKER_FAULTS`, within seconds, where the store cannot be reached.
    """
    _hush()
    probe(uri)
    file = database_file(uri)
    if file is not None and not file.exists():
        _make_database(file)
    return _client(uri)


def _make_database(file: Path) -> None:
    """Make an MLflow database where there is none, for one of several processes that want it at once.

    It is there whole or not at all: MLflow takes seconds to make its tables, and neither mends a database whose making
    was cut off nor keeps another process from making the same.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    # A name that was never used: MLflow keeps connections by it, to a file that is gone too.
    new = file.with_name(f".{file.name}.{uuid.uuid4().hex}.new")
    with file.with_name(f".{file.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if file.exists():
            return
        for left in file.parent.glob(f".{file.name}.*.new*"):
            left.unlink()
        _client(f"sqlite:///{new}").search_experiments(max_results=1)
        new.replace(file)


def _client(uri: str) -> MlflowClient:
    with warnings.catch_warnings():
        # MLflow's own table mappings use a loader that SQLAlchemy 2.1 deprecates; nothing here can change that.
        warnings.filterwarnings("ignore", message=".*noload.*loader strategy is deprecated")
        return MlflowClient(tracking_uri=uri, registry_uri=uri)


def prepare(uri: str) -> None:
    """Make the store at `uri` ready for many writers: the first connection creates a database's tables.

    To be called once, by the driver, before any trial starts.

    Raises:
        TrackingError: the store cannot be reached or made.
    """
    uri = absolute(uri)
    with naming_the_store(uri):
        retry_locked(lambda: connect(uri).search_experiments(max_results=1))


def retry_locked(call: Callable[[], T]) -> T:
    """Result of `call`, repeated a bounded number of times while another process holds the SQLite file's lock."""
    for attempt in range(1, _LOCK_ATTEMPTS):
        try:
            return call()
        except TRACKER_FAULTS as problem:
            if "is locked" not in str(problem):
                raise
            wait_s = 0.1 * 2**attempt * (1 + random.random())
            _log.info("the tracking database is locked; attempt %d again in %.1f s", attempt + 1, wait_s)
            time.sleep(wait_s)
    return call()


@contextmanager
def naming_the_store(uri: str) -> Iterator[None]:
    """Turns what MLflow raises inside into a `TrackingError` that names the store, without its credentials."""
    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError, ModuleNotFoundError) as problem:
        said, fix = _told(problem)
        fault = Fault(f"tracking store {redact(uri)}", said, fix)
        raise TrackingError(str(fault), [fault]) from problem


def _told(problem: Exception) -> tuple[str, str]:
    """What is wrong with a store, and what to do, by what a call of its client raised."""
    if isinstance(problem, ModuleNotFoundError):  # of a database's driver, at the first connection
        fix = "pip install prism-ray[postgresql], or track to a server over http"
        return f"its driver is not installed ({problem.name})", fix
    if isinstance(problem, OSError):
        return f"cannot be reached ({describe(problem)})", "start the server or correct --tracking-uri"
    refused = f"refused ({describe(problem)})"
    # MLflow keeps the status of an answer that is no JSON in its text alone.
    if "error code 401" in str(problem):
        return refused, "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or write ~/.mlflow/credentials"
    return refused, ""


def describe(problem: Exception) -> str:
    """First line of an error's text, without credentials."""
    lines = [line for line in str(problem).splitlines() if line.strip()]
    return redact(lines[0]) if lines else type(problem).__name__


def _hush() -> None:
    # Announcing tables and printing a traceback for each locked write is noise: every error comes back as an exception.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    logging.getLogger("alembic").setLevel(logging.WARNING)
